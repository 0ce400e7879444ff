# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Backup files into a target: the whole of what ``backup_import`` does.

For each file: has it been imported already (see :mod:`.receipts`)? Could it hold something that the target cannot? Then it is looked
through first. Only then the first byte is written.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from .._codec.events import Batch, BigStart, Function
from .._codec.resp import ErrorReply, command
from .._errors import MigrationError
from .._server.connect import reply_error
from .._server.endpoint import Endpoint
from .._server.probe import probe
from .._sink.target import Target
from .._source.aof_file import RDB, AofStream, Unit, group
from .._source.files import BackupFile
from .._source.rdb_file import events, header
from .aof_expiry import true_moment
from .big_key import Journal
from .options import Options
from .receipts import Receipts, Sample, still_due
from .replay import AofImport
from .snapshot import SnapshotImport
from .survey import Survey

# So many sampled keys of a database may be gone before the target counts as emptied: applications delete keys too.
_GONE_MAX = 0.5


class Importer:
    """Imports files one after the other into one target and knows at any time how far it came (:meth:`result`)."""

    def __init__(self, endpoint: Endpoint, options: Options, warn: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._options = options
        self._selection = options.selection()
        self._warn = warn
        addresses = ",".join(sorted(map(str, endpoint.addresses)))
        name = "%s of %s" % (endpoint.sentinel_service, addresses) if endpoint.sentinel_service else addresses
        self._receipts = Receipts(options.state_dir, name, options.choice())
        self._files: List[Dict[str, Any]] = []
        self._types: Dict[str, int] = {}
        self._functions = 0
        self._bytes = 0
        self._started = time.monotonic()
        self._target: Optional[Target] = None
        self._changed = False
        self._commands = 0
        self._lock: Optional[Any] = None

    def run(self, files: Sequence[BackupFile], check_mode: bool = False) -> Dict[str, Any]:
        """Import what has not been imported yet; the module's result. MigrationError with the partial one as ``result``."""
        try:
            self._run(files, check_mode)
        except MigrationError as exc:
            if self._target is not None:
                self._target.drain()
                if self._target.written:
                    exc.why = "%s; %d keys were written before that" % (exc.why.rstrip("."), self._target.written)
            exc.result = self.result()  # type: ignore[attr-defined]
            raise
        finally:
            if self._target is not None:
                self._target.close()
            if self._lock is not None:
                self._lock.close()
        return self.result()

    def result(self) -> Dict[str, Any]:
        """``changed``, ``stats`` and ``files`` as they are now."""
        target = self._target
        return {
            "changed": self._changed or self._functions > 0 or bool(target and target.written),
            "stats": {
                "keys": target.written if target else 0,
                "skipped": target.skipped if target else 0,
                "expired": target.expired if target else 0,
                "functions": self._functions,
                "commands": self._commands,
                "bytes": self._bytes,
                "seconds": round(time.monotonic() - self._started, 3),
                "types": self._types,
                "reconnects": target.reconnects if target else 0,
                "redirects": target.redirects if target else 0,
            },
            "files": self._files,
        }

    def _run(self, files: Sequence[BackupFile], check_mode: bool) -> None:
        units = group(files)
        if not check_mode:
            self._lock = self._receipts.prepare()
        self._target = target = Target(self._endpoint, probe(self._endpoint), self._options.on_conflict)
        pending = [unit for unit in units if not self._is_there(unit)]
        if self._options.clear_target and pending:
            # Emptying the target takes the other files' keys with it.
            pending = units
        self._files += [{"path": unit.name, "status": "present"} for unit in units if unit not in pending]
        # What is found to be damaged later cannot bring back what was deleted.
        wholly = check_mode or self._options.clear_target
        work = [self._look_through(unit, target, wholly) for unit in pending]
        if check_mode:
            self._files += [{"path": unit.name, "status": "would be imported"} for unit in pending]
            clearing = self._options.clear_target and bool(pending)
            self._changed = clearing or any(self._has_data(unit, log) for unit, log in zip(pending, work))
            return
        if self._options.clear_target and pending:
            self._clear(target)
        for unit, log in zip(pending, work):
            self._import(unit, log, target)

    # -- before the first byte -------------------------------------------------------------------------------------

    def _look_through(self, unit: Unit, target: Target, wholly: bool) -> Optional[AofImport]:
        """Refuse what the target cannot hold; of an AOF, what is needed to write it later.

        ``wholly`` reads also what most likely is no obstacle.
        """
        survey = Survey(target, self._selection)
        if unit.kind == RDB:
            if wholly or survey.is_needed(header(unit.parts[0])):
                survey.refuse(unit.name, events(unit.parts[0], unpack=False))
            else:
                survey.refuse_functions(unit.name, events(unit.parts[0], unpack=False))
            return None
        keep = None if self._selection.all_keys else self._selection.keep
        log = AofImport(unit, target, self._selection.db_of, keep, self._receipts.journal + ".log")
        log.check()
        stream = AofStream(unit)
        try:
            survey.refuse(unit.name, stream.events(unpack=False))
        finally:
            stream.close()
        return log

    def _has_data(self, unit: Unit, log: Optional[AofImport]) -> bool:
        """Whether there is anything to write; the file is read up to the first of it."""
        if log is not None and log.plan.target_dbs():
            return True
        stream = AofStream(unit)
        try:
            return any(map(self._is_data, stream.events(unpack=False)))
        finally:
            stream.close()

    def _is_data(self, event: Any) -> bool:
        if isinstance(event, Function):
            return True
        if not isinstance(event, (Batch, BigStart)) or self._selection.db_of(event.db) is None:
            return False
        now = self._target.now_ms()
        keys = [(event.key, event.expire_ms)] if isinstance(event, BigStart) else [(entry[1], entry[5]) for entry in event.entries]
        return any(self._selection.keep(key) and (expire is None or expire > now) for key, expire in keys)

    def _is_there(self, unit: Unit) -> bool:
        """Whether a receipt says so and the target does not contradict."""
        if self._options.force:
            return False
        receipt = self._receipts.find(unit)
        if receipt is None:
            return False
        due = still_due(receipt["sample"])
        gone: Dict[int, int] = {}
        total: Dict[int, int] = {}
        for db, key, _expire in due:
            total[db] = total.get(db, 0) + 1
            if not self._exists(db, key):
                gone[db] = gone.get(db, 0) + 1
        if any(count > total[db] * _GONE_MAX for db, count in gone.items()):
            return False
        if gone:
            self._warn(
                "%s was imported on %s; %d of %d sampled keys are gone since. Set force to import it again"
                % (unit.name, receipt.get("finished", "an earlier day"), sum(gone.values()), len(due))
            )
        return True

    # -- writing ---------------------------------------------------------------------------------------------------

    def _clear(self, target: Target) -> None:
        """Delete all keys and functions. ServerError."""
        # Nodes that nobody named are reached through a proxy, which need not know what they know.
        direct = target.instance.topology.kind != "proxy_cluster" or bool(target.instance.topology.masters)
        caps = target.dialect.capabilities
        # Without ASYNC a large target would answer nothing for minutes.
        words = [["FLUSHALL", "ASYNC"] if direct and caps.unlink else ["FLUSHALL"]]
        if direct and caps.functions:
            words.append(["FUNCTION", "FLUSH"])
        for command_words in words:
            for address, reply in target.call_all(command(*command_words)):
                if isinstance(reply, ErrorReply):
                    raise reply_error(reply.decode("utf-8", "replace"), address, " ".join(command_words).replace(" ASYNC", ""))
        self._changed = True

    def _import(self, unit: Unit, log: Optional[AofImport], target: Target) -> None:
        target.for_file(unit.name)
        self._receipts.remove(unit)
        sample = Sample()
        snapshot = SnapshotImport(target, self._selection, Journal(self._receipts.journal), sample, self._warn)
        row: Dict[str, Any] = {"path": unit.name, "status": "incomplete", "commands": 0}
        self._files.append(row)
        before = (target.written, target.skipped, target.expired)
        try:
            if log is None:
                snapshot.run(events(unit.parts[0], flat=target.flat_format))
            else:
                log.prepare()
                try:
                    snapshot.run(log.events())
                    done = log.run()
                except MigrationError:
                    log.give_up()
                    raise
                self._changed = self._changed or done.commands > 0
                self._commands += done.commands
                row["commands"] = done.commands
                target.skipped += done.skipped_keys
                sample.keys[:] = [(db, key, expire and true_moment(expire)) for db, key, expire in sample.keys] + done.sample
            target.confirm()
            row["status"] = "imported"
        finally:
            self._bytes += unit.size
            self._functions += snapshot.functions
            for kind, count in snapshot.types.items():
                self._types[kind] = self._types.get(kind, 0) + count
            row["keys"] = target.written - before[0]
            row["skipped"] = target.skipped - before[1]
            row["expired"] = target.expired - before[2]
        self._receipts.write(
            unit,
            {
                "file": unit.name,
                "target": self._endpoint.label,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **{name: row[name] for name in ("keys", "skipped", "expired")},
            },
            sample.keys,
        )

    def _exists(self, db: int, key: bytes) -> bool:
        return bool(self._target.call(key, db, [command("EXISTS", key)])[0])
