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

from .._codec import types as t
from .._codec.resp import ErrorReply, command
from .._errors import FileError, MigrationError, UnsupportedTypeError, UsageError
from .._server.connect import reply_error
from .._server.endpoint import Endpoint
from .._server.probe import Instance, probe
from .._sink.target import Target
from .._source.files import BackupFile
from .._source.inventory import Inventory, take
from .._source.rdb_file import events
from .big_key import Journal
from .options import Options
from .receipts import Receipts, Sample, still_due
from .snapshot import SnapshotImport

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
        instance = probe(self._endpoint)
        self._target = target = Target(self._endpoint, instance, options.on_conflict)
        lock = None if check_mode else self._receipts.prepare()
        pending = [file for file in files if not self._is_there(file)]
        if options.clear_target and pending:
            # Emptying the target takes the other files' keys with it.
            pending = list(files)
        for file in files:
            if file not in pending:
                self._files.append({"path": file.name, "status": "present"})
        for file in pending:
            self._look_through(file, instance)
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

    def _look_through(self, file: BackupFile, instance: Instance) -> None:
        """Read the whole file first where it could hold what the target cannot; refuse it before anything is written."""
        version, dialect = rdb_header(file)
        if version == 0 or not self._is_risky(version, dialect):
            return
        inventory = take(file)
        if not inventory.complete:
            raise FileError(file.name, inventory.error or "is incomplete", "Make a new backup; nothing was written")
        self._refuse_types(file, inventory, dialect)
        self._refuse_databases(file, inventory)

    def _is_risky(self, version: int, dialect: str) -> bool:
        if self._target.one_db and not self._selection.only_db_0():
            return True
        known = t.TYPES[dialect]
        return any(
            info.since <= version and self._obstacle(number, dialect)
            for number, info in known.items()
            if info.kind != "module"
        )

    def _obstacle(self, type_byte: int, dialect: str) -> str:
        """Why the target cannot hold this type in any form; empty when it can."""
        target = self._target.dialect
        if t.loadable(type_byte, target.rdb_version, target.name, dialect):
            return ""
        kind = t.kind_of(type_byte, dialect)
        if kind == "stream" and not target.capabilities.streams:
            return "streams came with Redis 5.0"
        if type_byte in _FIELD_EXPIRY[dialect] and not target.capabilities.hash_field_ttl:
            return "expiring hash fields came with Redis 7.4 and Valkey 9.0"
        if kind in ("module", "array", None):
            return "it has no such type"
        return ""

    def _refuse_types(self, file: BackupFile, inventory: Inventory, dialect: str) -> None:
        refused = []
        for type_byte, count in sorted(inventory.type_bytes.items()):
            why = self._obstacle(type_byte, dialect)
            if why:
                refused.append("%d keys of type %s (%s)" % (count, t.type_name(type_byte, dialect), why))
        if refused:
            product = self._target.instance.product
            raise UnsupportedTypeError(
                file.name,
                "the target (%s %s) cannot hold %s; nothing was written" % (product.name, product.version, ", ".join(refused)),
                "Migrate to a newer target, or leave these keys out with exclude_keys",
            )

    def _refuse_databases(self, file: BackupFile, inventory: Inventory) -> None:
        if not self._target.one_db:
            return
        for row in inventory.databases:
            db = self._selection.db_of(row["db"])
            if db and row["keys"]:
                raise UsageError(
                    file.name,
                    "%d keys are in database %d, and the target has database 0 only; nothing was written"
                    % (row["keys"], row["db"]),
                    "Set db_map to {%d: 0}, or databases to those you want" % row["db"],
                )

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


_FIELD_EXPIRY = {
    t.REDIS: (t.HASH_METADATA_PRE_GA, t.HASH_LISTPACK_EX_PRE_GA, t.HASH_METADATA, t.HASH_LISTPACK_EX),
    t.VALKEY: (t.VALKEY_HASH_2,),
}
