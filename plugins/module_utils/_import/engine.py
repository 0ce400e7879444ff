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

from .._codec.resp import ErrorReply, command
from .._errors import MigrationError
from .._server.connect import reply_error
from .._server.endpoint import Endpoint
from .._server.probe import probe
from .._sink.target import Target
from .._source.files import BackupFile
from .._source.rdb_file import events, header
from .big_key import Journal
from .options import Options
from .receipts import Receipts, Sample, still_due
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
        return self.result()

    def result(self) -> Dict[str, Any]:
        """``changed``, ``stats`` and ``files`` as they are now."""
        target = self._target
        return {
            "changed": self._changed or bool(target and target.written),
            "stats": {
                "keys": target.written if target else 0,
                "skipped": target.skipped if target else 0,
                "expired": target.expired if target else 0,
                "functions": self._functions,
                "bytes": self._bytes,
                "seconds": round(time.monotonic() - self._started, 3),
                "types": self._types,
                "reconnects": target.reconnects if target else 0,
                "redirects": target.redirects if target else 0,
            },
            "files": self._files,
        }

    def _run(self, files: Sequence[BackupFile], check_mode: bool) -> None:
        options = self._options
        self._target = target = Target(self._endpoint, probe(self._endpoint), options.on_conflict)
        lock = None if check_mode else self._receipts.prepare()
        pending = [file for file in files if not self._is_there(file)]
        if options.clear_target and pending:
            # Emptying the target takes the other files' keys with it.
            pending = list(files)
        for file in files:
            if file not in pending:
                self._files.append({"path": file.name, "status": "present"})
        survey = Survey(target, self._selection)
        for file in pending:
            if survey.is_needed(header(file)):
                survey.refuse(file)
        if lock is None:
            self._files += [{"path": file.name, "status": "would be imported"} for file in pending]
            self._changed = bool(pending)
            return
        if options.clear_target and pending:
            self._clear(target)
        for file in pending:
            self._import(file, target)
        lock.close()

    # -- before the first byte -------------------------------------------------------------------------------------

    def _is_there(self, file: BackupFile) -> bool:
        """Whether a receipt says so and the target does not contradict."""
        if self._options.force:
            return False
        receipt = self._receipts.find(file)
        if receipt is None:
            return False
        due = still_due(receipt["sample"])
        gone: Dict[int, int] = {}
        total: Dict[int, int] = {}
        for db, key, _expire in due:
            total[db] = total.get(db, 0) + 1
            if not self._target.call(key, db, [command("EXISTS", key)])[0]:
                gone[db] = gone.get(db, 0) + 1
        if any(count > total[db] * _GONE_MAX for db, count in gone.items()):
            return False
        if gone:
            self._warn(
                "%s was imported on %s; %d of %d sampled keys are gone since. Set force to import it again"
                % (file.name, receipt.get("finished", "an earlier day"), sum(gone.values()), len(due))
            )
        return True

    # -- writing ---------------------------------------------------------------------------------------------------

    def _clear(self, target: Target) -> None:
        for address, reply in target.call_all(command("FLUSHALL")):
            if isinstance(reply, ErrorReply):
                raise reply_error(reply.decode("utf-8", "replace"), address, "FLUSHALL")
        self._changed = True

    def _import(self, file: BackupFile, target: Target) -> None:
        target.for_file(file.name)
        self._receipts.remove(file)
        sample = Sample()
        snapshot = SnapshotImport(target, self._selection, Journal(self._receipts.journal), sample, self._warn)
        row: Dict[str, Any] = {"path": file.name, "status": "incomplete"}
        self._files.append(row)
        before = (target.written, target.skipped, target.expired)
        try:
            snapshot.run(events(file))
            row["status"] = "imported"
        finally:
            self._bytes += file.size
            self._functions += snapshot.functions
            for kind, count in snapshot.types.items():
                self._types[kind] = self._types.get(kind, 0) + count
            row["keys"] = target.written - before[0]
            row["skipped"] = target.skipped - before[1]
            row["expired"] = target.expired - before[2]
        self._receipts.write(
            file,
            {
                "file": file.name,
                "target": self._endpoint.label,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **{name: row[name] for name in ("keys", "skipped", "expired")},
            },
            sample.keys,
        )
