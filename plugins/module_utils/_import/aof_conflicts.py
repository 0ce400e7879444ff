# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Keys that an AOF's commands touch and the target has already, and what that means under each policy."""

from __future__ import annotations

import base64
import json
import os
from typing import Dict, Iterable, List, Optional, Set

from .._codec.aof import Command
from .._codec.commands import EVERY_MASTER, Spec
from .._codec.events import Batch, BigStart
from .._codec.resp import command
from .._errors import ConflictError, FileError, UsageError
from .._sink.commands import existing
from .._sink.frames import show
from .._sink.target import Target
from .._source.aof_file import AofStream
from .aof_plan import Plan
from .aof_statements import Statement, Statements
from .receipts import unreadable_journal, unwritable

# Keys per question for EXISTS: one round trip for so many.
_ASKED = 10_000

Keys = Dict[int, Set[bytes]]


class Conflicts:
    """Keys that the target had before: ``clear`` are deleted before they are first written, ``leave`` are not touched."""

    def __init__(self) -> None:
        self.clear: Keys = {}
        self.leave: Keys = {}

    def __bool__(self) -> bool:
        return any(self.clear.values()) or any(self.leave.values())


def find_conflicts(stream: AofStream, target: Target, plan: Plan, journal: Optional[str] = None) -> Conflicts:
    """Which keys that the unit's commands touch the target has already. ConflictError under ``fail``."""
    conflicts = Conflicts()
    dbs = plan.target_dbs()
    if target.policy == "fail":
        dbs.update(db for db in map(plan.db_of_entry, plan.snapshot) if db is not None)
    full = {db for db in dbs if not _is_empty(target, db)}
    earlier = _recall(journal, stream.unit.name) if target.policy != "replace" else None
    if not full and not plan.merged:
        if target.policy != "replace":
            _remember(journal, stream.unit.name, {})
        return conflicts
    asker = _Asker(target, full)
    owners: Dict[int, Dict[bytes, int]] = {}
    for event in stream.events(unpack=False):
        if target.policy == "fail" and isinstance(event, (Batch, BigStart)):
            db = plan.db_of_entry(event.db)
            keys = [entry[1] for entry in event.entries] if isinstance(event, Batch) else [event.key]
            if db is not None:
                asker.add(db, keys if plan.keep is None else filter(plan.keep, keys))
    for db, source_db, args, _frame, offset, spec, _unit in Statements(stream.commands(), plan, target.dialect):
        if spec.scope == EVERY_MASTER:
            continue
        keys = [args[pos] for pos in spec.find(args)]
        if plan.merged:
            _refuse_merged(owners.setdefault(db, {}), keys, source_db, plan.where(offset))
        asker.add(db, keys)
        if spec.name in (b"MOVE", b"COPY") and other_db(args, spec) is not None:
            asker.add(other_db(args, spec) or 0, keys[-1:])
    asker.ask()
    if target.policy == "replace":
        conflicts.clear = asker.found
    elif earlier is not None:
        conflicts.leave = {db: keys & earlier.get(db, set()) for db, keys in asker.found.items()}
        conflicts.clear = {db: keys - earlier.get(db, set()) for db, keys in asker.found.items()}
    elif target.policy == "skip":
        conflicts.leave = asker.found
        _remember(journal, stream.unit.name, conflicts.leave)
    else:
        _refuse_conflicts(target, asker.found)
        _remember(journal, stream.unit.name, {})
    return conflicts


class _Asker:
    """Asks for keys in large groups, and keeps those that exist."""

    def __init__(self, target: Target, dbs: Set[int]) -> None:
        self.found: Keys = {db: set() for db in dbs}
        self._target = target
        self._open: Keys = {db: set() for db in dbs}

    def add(self, db: int, keys: Iterable[bytes]) -> None:
        waiting = self._open.get(db)
        if waiting is None:
            return
        waiting.update(keys)
        if len(waiting) >= _ASKED:
            self._ask(db)

    def ask(self) -> None:
        """Ask for the rest."""
        for db in self._open:
            self._ask(db)

    def _ask(self, db: int) -> None:
        keys = list(self._open[db] - self.found[db])
        self._open[db].clear()
        if keys:
            self.found[db].update(existing(self._target, db, keys))


def _is_empty(target: Target, db: int) -> bool:
    """Whether a database has no key; False where that cannot be known (a proxy)."""
    if target.instance.topology.kind == "redis_cluster":
        replies = [reply for _address, reply in target.call_all(command("DBSIZE"))]
    elif target.instance.topology.kind == "proxy_cluster":
        return False
    else:
        replies = target.call(b"", db, [command("DBSIZE")])
    return all(isinstance(reply, int) and reply == 0 for reply in replies)


def _refuse_merged(owners: Dict[bytes, int], keys: List[bytes], source_db: int, where: str) -> None:
    for key in keys:
        if owners.setdefault(key, source_db) != source_db:
            raise UsageError(
                "%s, key %s" % (where, show(key)),
                "it is written in database %d and in database %d, which db_map makes one" % (owners[key], source_db),
                "Map the databases to different ones, or import them one after the other with databases",
            )


def _refuse_conflicts(target: Target, found: Keys) -> None:
    count = sum(map(len, found.values()))
    if not count:
        return
    db, key = next((db, min(keys)) for db, keys in sorted(found.items()) if keys)
    raise ConflictError(
        "%s, key %s in db %d" % (target.endpoint.label, show(key), db),
        "exists already (%d keys of %s do), and on_conflict is fail; nothing was written" % (count, target.name),
        "Set on_conflict to replace or skip, or empty the target",
    )


def refuse_half_skipped(commands: Iterable[Command], target: Target, plan: Plan, conflicts: Conflicts) -> None:
    """UsageError for a command that combines keys to leave alone with others: its result would be wrong."""
    skipper = Skipper(plan, conflicts.leave)
    for statement in Statements(commands, plan, target.dialect):
        if statement[5].scope != EVERY_MASTER:
            skipper.rest(statement)


class Skipper:
    """What is left of a command when some keys are to be left alone."""

    def __init__(self, plan: Plan, leave: Keys) -> None:
        self.skipped: Keys = {}
        self._plan = plan
        self._leave = leave

    def rest(self, statement: Statement) -> Optional[List[bytes]]:
        """The arguments to send, None for nothing."""
        db, _source, args, _frame, offset, spec, _unit = statement
        leave = self._leave.get(db)
        other = other_db(args, spec)
        if not leave and other is None:
            return args
        held = [args[pos] for pos in spec.find(args) if leave and args[pos] in leave]
        if other is not None and args[2 if spec.name == b"COPY" else 1] in self._leave.get(other, ()):
            raise self._mixed(args, args[1], offset)
        if not held:
            return args
        keys = [args[pos] for pos in spec.find(args)]
        self.skipped.setdefault(db, set()).update(held)
        if len(held) == len(keys):
            return None
        if spec.per_key and leave is not None:
            return self._plan.commands.split(args, leave.__contains__).get(False)
        if all(args[pos] in held for pos in self._plan.commands.written(args)):
            return None
        raise self._mixed(args, held[0], offset)

    def _mixed(self, args: List[bytes], key: bytes, offset: int) -> UsageError:
        return UsageError(
            "%s, %s" % (self._plan.where(offset), args[0].decode("ascii", "replace").upper()),
            "it combines several keys, and %s, which the target had before, is to be left alone (on_conflict is skip)" % show(key),
            "Set on_conflict to replace, leave the keys out with exclude_keys, or import an RDB file",
        )


def other_db(args: List[bytes], spec: Spec) -> Optional[int]:
    """The target's second database of MOVE or COPY ... DB."""
    if spec.name == b"MOVE":
        return int(args[2])
    if spec.name == b"COPY" and len(args) > 4 and args[3].upper() == b"DB":
        return int(args[4])
    return None


# -- the journal ---------------------------------------------------------------------------------------------------------------


def _remember(path: Optional[str], name: str, keys: Keys) -> None:
    """Note, before the first byte of ``name`` is written, which keys were the target's own. FileError."""
    if path is None:
        return
    partial = path + ".partial"
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as handle:
            handle.write(json.dumps(name) + "\n")
            for db, found in sorted(keys.items()):
                for key in found:
                    handle.write(json.dumps([db, base64.b64encode(key).decode("ascii")]) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as exc:
        raise FileError(path, "cannot be written: %s" % exc.strerror, "Set state_dir to a folder that can be written to") from exc


def _recall(path: Optional[str], name: str) -> Optional[Keys]:
    """What an earlier run of ``name`` noted, None when there was none or it came to its end. FileError."""
    if path is None or not os.path.exists(path):
        return None
    keys: Keys = {}
    try:
        with open(path, encoding="ascii") as handle:
            if json.loads(handle.readline()) != name:
                return None
            for line in handle:
                db, key = json.loads(line)
                keys.setdefault(db, set()).add(base64.b64decode(key))
    except (OSError, ValueError, TypeError) as exc:
        raise unreadable_journal(path, exc) from exc
    return keys


def forget(path: Optional[str]) -> None:
    """The run is complete. FileError."""
    if path is None:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise unwritable(path, exc) from exc
