# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""An AOF into a target, as a server does when it loads one, in as many passes as it takes to write nothing that would be wrong.

1. ``check``: every command is looked at, nothing is written (:mod:`.aof_plan`).
2. Where the target is not empty, ``prepare`` asks which of the keys that the commands touch exist there. That set is all that stays in memory:
   about 100 bytes and the key itself for each key that exists in both; nothing for keys of one side only, nothing at all for an empty target.
3. ``run``: the commands go out. Under ``replace`` a key of that set is deleted right before the first command on it, so that INCR, APPEND and
   the like start from nothing, and a second run gives what the first one gave. Under ``skip`` such a key is left alone with all its
   commands. Under ``fail`` step 2 has raised. Nothing of the unit expires before the last command is done (:mod:`.aof_expiry`).

A target reads commands one by one, so a run that ends early leaves keys half built. With ``journal`` (a path) the set of step 2 is kept in a file
until the run is complete, and a next run under ``skip`` or ``fail`` knows by it which keys are the earlier run's, to be built again.
"""

from __future__ import annotations

import os
from typing import Iterable, Iterator, Dict, List, NamedTuple, Optional, Set, Tuple

from .._codec import types as t
from .._codec.aof import Command
from .._codec.commands import EVERY_MASTER, Spec
from .._codec.events import Batch, BigEnd, BigPart, BigStart, Event, Header
from .._codec.resp import ErrorReply, command
from .._codec.slots import key_slot
from .._errors import FileError, MigrationError, UsageError
from .._server.connect import reply_error
from .._sink.commands import NOWHERE, CommandStream, ask_each
from .._sink.target import Target
from .._source.aof_file import AofStream, Unit
from .aof_conflicts import Conflicts, Keys, Skipper, find_conflicts, forget, other_db, refuse_half_skipped
from .aof_expiry import TOUCHED, Expiries
from .aof_plan import DbOf, Keep, Plan, check, refuse_db
from .aof_statements import Statement, Statements
from .transplant import Transplant

_SAMPLED = 256


class Replayed(NamedTuple):
    """``commands`` sent (of ``total`` in the file), ``dropped`` for having no effect on what is taken, ``transplanted`` one by one,
    ``skipped_keys`` left alone. ``sample``: database in the target, key and expiry (ms since 1970 or None) of some keys that are there now.
    """

    total: int
    commands: int
    dropped: int
    transplanted: int
    skipped_keys: int
    sample: List[Tuple[int, bytes, Optional[int]]]


class AofImport:
    """One unit into one target: :meth:`check` and :meth:`prepare`, then write what :meth:`events` gives, then :meth:`run`.

    ``db_of`` gives the target's database for one of the source (None: left out), ``keep`` whether a key is taken (None: all are).
    """

    def __init__(
        self, unit: Unit, target: Target, db_of: DbOf, keep: Optional[Keep] = None, journal: Optional[str] = None
    ) -> None:
        self.unit = unit
        self._target = target
        self._db_of = db_of
        self._keep = keep
        self._journal = journal
        self._plan: Optional[Plan] = None
        self._conflicts = Conflicts()
        self._stream: Optional[AofStream] = None
        self._expiries = Expiries(target, os.path.dirname(journal) if journal else None)

    @property
    def plan(self) -> Plan:
        """What :meth:`check` found; it is made now if it was not yet."""
        return self._plan or self.check()

    def check(self) -> Plan:
        """Look through the unit; nothing is written. FileError, UsageError, UnsupportedTypeError, ServerError."""
        stream = AofStream(self.unit)
        try:
            dbs = {event.db for event in stream.events(unpack=False) if isinstance(event, (Batch, BigStart))}
            plan = check(stream.commands(), self._target, self._db_of, self._keep, stream.where)
        finally:
            stream.close()
        plan.snapshot = dbs
        for number in dbs:
            db = plan.db_of_entry(number)
            if db is not None:
                refuse_db(self._target, number, db, self.unit.name)
        self._target.enter(plan.target_dbs())
        self._plan = plan
        return plan

    def prepare(self) -> None:
        """Ask the target which keys it has already; right before writing. ConflictError, UsageError, ServerError."""
        plan = self.plan
        stream = AofStream(self.unit)
        try:
            self._conflicts = find_conflicts(stream, self._target, plan, self._journal)
        finally:
            stream.close()
        if any(self._conflicts.leave.values()):
            stream = AofStream(self.unit)
            try:
                refuse_half_skipped(stream.commands(), self._target, plan, self._conflicts)
            finally:
                stream.close()

    def events(self) -> Iterator[Event]:
        """The snapshot before the commands, for whoever writes snapshots; databases are those at the end of the log."""
        plan = self.plan
        self._stream = AofStream(self.unit)
        return watch(self._stream.events(), self._target, plan, self._conflicts, self._expiries)

    def run(self) -> Replayed:
        """Send the commands; :meth:`events` must have been exhausted. MigrationError."""
        plan = self.plan
        if self._stream is None:
            for _event in self.events():
                raise FileError(self.unit.name, "begins with a snapshot that was not written", "Report this defect")
        stream = self._stream
        if stream is None:
            raise FileError(self.unit.name, "was not opened", "Report this defect")
        try:
            done = replay(stream.commands(), self._target, plan, self._conflicts, self._expiries)
        finally:
            stream.close()
        forget(self._journal)
        return done

    def give_up(self) -> None:
        """After an error: what was written by then gets its expiries, if the target still takes them. Never raises."""
        try:
            self._expiries.settle()
        except MigrationError:
            pass


# -- the snapshot before the commands ------------------------------------------------------------------------------------------


def watch(
    events: Iterable[Event], target: Target, plan: Plan, conflicts: Conflicts, expiries: Expiries
) -> Iterator[Event]:
    """Pass on the events with the databases they belong to at the end; what a later FLUSHDB emptied, and keys to leave alone, are left out.

    Keys that it writes are not deleted again before their first command.
    """
    if target.policy != "replace":
        _clear_all(target, conflicts.clear)
    big: Optional[BigStart] = None
    dialect = t.REDIS
    for event in events:
        if isinstance(event, Batch):
            db = plan.db_of_entry(event.db)
            if db is None:
                continue
            entries = event.entries
            if plan.keep is not None:
                entries = [entry for entry in entries if plan.keep(entry[1])]
            leave, clear = conflicts.leave.get(db), conflicts.clear.get(db)
            if leave:
                # They are counted where their commands are left out.
                entries = [entry for entry in entries if entry[1] not in leave]
            if clear:
                clear.difference_update(entry[1] for entry in entries)
            batch = event._replace(db=plan.final(event.db, 0), entries=expiries.entries(db, entries))
            yield from expiries.with_fields(db, batch, dialect)
        elif isinstance(event, BigStart):
            db = plan.db_of_entry(event.db)
            big = None
            if db is not None and event.key not in conflicts.leave.get(db, ()) and (plan.keep is None or plan.keep(event.key)):
                conflicts.clear.get(db, set()).discard(event.key)
                big = expiries.start(db, event)._replace(db=plan.final(event.db, 0))
                yield big
        elif isinstance(event, (BigPart, BigEnd)):
            if big is not None:
                yield expiries.part(plan.db_of(big.db) or 0, big, event, dialect) if isinstance(event, BigPart) else event
        else:
            if isinstance(event, Header):
                dialect = event.dialect
            yield event


def _clear_all(target: Target, clear: Keys) -> None:
    for db, keys in clear.items():
        for key in keys:
            target.call(key, db, [command("DEL", key)])
        keys.clear()


# -- the commands --------------------------------------------------------------------------------------------------------------


def replay(
    commands: Iterable[Command],
    target: Target,
    plan: Plan,
    conflicts: Optional[Conflicts] = None,
    expiries: Optional[Expiries] = None,
) -> Replayed:
    """Send the commands of a checked file to the target, in order. MigrationError; after one the target's keys are incomplete."""
    expiries = expiries or Expiries(target)
    transplant = Transplant(target, plan.commands, plan.where)
    stream = CommandStream(target, plan.where, plan.commands, transplant.run)
    try:
        writer = _Writer(target, plan, conflicts or Conflicts(), stream, transplant, expiries)
        statements = Statements(commands, plan, target.dialect)
        writer.run(statements)
        stream.drain()
    finally:
        stream.close()
    expiries.settle()
    return Replayed(
        plan.count, writer.sent, statements.dropped, transplant.count, writer.skipped, writer.sample.look(target)
    )


class _Sample:
    """Some of the keys that commands were about, spread over all of them."""

    def __init__(self) -> None:
        self.stride = 1
        self._keys: Dict[Tuple[int, bytes], None] = {}

    def add(self, db: int, key: bytes) -> None:
        """Note the key of every ``stride``-th command."""
        self._keys[db, key] = None
        if len(self._keys) > 2 * _SAMPLED:
            self._keys = dict.fromkeys(list(self._keys)[::2])
            self.stride *= 2

    def look(self, target: Target) -> List[Tuple[int, bytes, Optional[int]]]:
        """Those that exist at the end, with their expiry."""
        found: List[Tuple[int, bytes, Optional[int]]] = []
        for db in sorted({db for db, _key in self._keys}):
            keys = [key for other, key in self._keys if other == db]
            now = target.now_ms()
            for key, left in zip(keys, ask_each(target, db, keys, b"PTTL")):
                if left != -2:
                    found.append((db, key, None if left < 0 else now + left))
        return found


class _Writer:
    """Sends statements: as they are where the target takes them, else cut by slot or transplanted."""

    def __init__(
        self,
        target: Target,
        plan: Plan,
        conflicts: Conflicts,
        stream: CommandStream,
        transplant: Transplant,
        expiries: Expiries,
    ) -> None:
        self.sent = 0
        self.sample = _Sample()
        self._target = target
        self._plan = plan
        self._conflicts = conflicts
        self._stream = stream
        self._skipper = Skipper(plan, conflicts.leave)
        self._leaving = any(conflicts.leave.values())
        self._transplant = transplant
        self._expiries = expiries
        if target.one_db:
            self._transplant.sweep()

    @property
    def skipped(self) -> int:
        """Keys left alone."""
        return sum(map(len, self._skipper.skipped.values()))

    def run(self, statements: Statements) -> None:
        add = self._stream.add
        whole = not self._target.one_db
        careful = bool(self._conflicts)
        hold = self._expiries.hold
        open_unit = 0
        last_db = 0
        for statement in statements:
            db, _source, args, frame, offset, spec, unit = statement
            if unit != open_unit:
                # A transaction stays one where the target has but one master.
                if whole and open_unit:
                    add(b"", last_db, command("EXEC"), offset)
                if whole and unit:
                    add(b"", db, command("MULTI"), offset)
                open_unit = unit
            last_db = db
            if spec.scope == EVERY_MASTER:
                self._everywhere(args, spec, offset)
                continue
            self.sent += 1
            if not self.sent % self.sample.stride and len(args) > 1:
                self._note(db, args, spec)
            if careful:
                rest = self._careful(statement)
                if rest is None:
                    self.sent -= 1
                    continue
                if rest is not args:
                    args, frame = rest, command(*rest)
            if spec.name in TOUCHED and (len(args) > 3 or spec.name != b"SET"):
                held = hold(db, args, spec)
                if held is not args:
                    args, frame = held, command(*held)
            if whole:
                add(b"", db, frame, offset)
            elif spec.one_key:
                add(args[1], db, frame, offset)
            else:
                self._route(db, args, frame, offset, spec)
        if whole and open_unit:
            add(b"", last_db, command("EXEC"), offset)

    def _note(self, db: int, args: List[bytes], spec: Spec) -> None:
        positions = [1] if spec.one_key else spec.find(args)
        if positions:
            self.sample.add(db, args[positions[0]])

    def _careful(self, statement: Statement) -> Optional[List[bytes]]:
        """Clear the keys of a statement that have to be, and take out those that are to be left alone."""
        db, _source, args, _frame, _offset, spec, _unit = statement
        rest: Optional[List[bytes]] = args
        if self._leaving:
            rest = self._skipper.rest(statement)
            if rest is None:
                return None
        clear = self._conflicts.clear.get(db)
        if clear:
            for pos in spec.find(rest or args):
                self._clear((rest or args)[pos], db, clear, db)
        other = other_db(args, spec)
        if other is not None:
            self._clear(args[2 if spec.name == b"COPY" else 1], other, self._conflicts.clear.get(other) or set(), db)
        return rest

    def _clear(self, key: bytes, db: int, clear: Set[bytes], back: int) -> None:
        if key in clear:
            clear.discard(key)
            self._stream.add(key, db, command("DEL", key), NOWHERE)

    def _route(self, db: int, args: List[bytes], frame: bytes, offset: int, spec: Spec) -> None:
        """A command that may have several keys, on a target with several masters."""
        positions = spec.find(args)
        slots = {key_slot(args[pos]) for pos in positions}
        if spec.per_key and len(positions) > 1:
            for part in self._plan.commands.split(args, key_slot).values():
                self._stream.add_group(part[1], db, command(*part), offset)
        elif len(slots) == 1:
            send = self._stream.add if len(positions) == 1 else self._stream.add_group
            send(args[positions[0]], db, frame, offset)
        else:
            self._stream.drain()
            self._transplant.run(args, offset, db)

    def _everywhere(self, args: List[bytes], spec: Spec, offset: int) -> None:
        """SCRIPT LOAD and changes of functions; what else SCRIPT does is of the one server only."""
        word = args[1].upper() if len(args) > 1 else b""
        if spec.name == b"SCRIPT":
            if word != b"LOAD" or self._target.instance.topology.kind == "proxy_cluster":
                return
        elif word not in (b"LOAD", b"DELETE", b"FLUSH", b"RESTORE"):
            return
        elif word in (b"FLUSH", b"RESTORE") and self._target.instance.functions:
            raise UsageError(
                "%s, FUNCTION %s" % (self._plan.where(offset), word.decode("ascii")),
                "the target had functions before, and would lose them",
                "Delete them (FUNCTION FLUSH) if they are not needed, or let the source rewrite its AOF (BGREWRITEAOF)",
            )
        elif word == b"LOAD" and self._target.policy == "replace" and args[2].upper() != b"REPLACE":
            args = [*args[:2], b"REPLACE", *args[2:]]
        self._stream.drain()
        for address, reply in self._target.call_all(command(*args)):
            if isinstance(reply, ErrorReply) and not (self._target.policy == "skip" and b"already exists" in reply):
                error = reply_error(reply.decode("utf-8", "replace"), address, "%s %s" % (spec.name.decode(), word.decode()))
                raise type(error)("%s, %s" % (self._plan.where(offset), error.what), error.why, error.remedy)
        self.sent += 1


__all__ = ["AofImport", "Conflicts", "Replayed", "check", "find_conflicts", "replay", "watch"]
