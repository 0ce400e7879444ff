# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One shard into one file: by its replication stream, or else key by key."""

from __future__ import annotations

from threading import Event
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from .._codec.errors import CodecError, UnsupportedError
from .._errors import LostError, MigrationError, ReplyError
from .._server.endpoint import Endpoint
from .._sink.rdb_file import PartialFile, RdbFileSink
from .._source.replica import FullSync, ReplicaLink, SyncRefusedError, open_full_sync
from .._source.scan import ScanSource
from .aof import AofConverter
from .inspector import Inspector
from .plan import Job

# A lost snapshot is asked for again this often: each costs the master a fork.
ATTEMPTS = 3
# The version of an empty file from a server that does not say its own: every server loads it.
_PLAIN_RDB = 6
NO_STREAM = "a proxy gives no replication stream, and the nodes behind it are not named in shards"
# Less than this share of what DBSIZE counts is not explained by keys that come, go and expire.
_ENOUGH = 0.75


class StoppedError(Exception):
    """Another shard failed, so this one need not go on."""


class Outcome(NamedTuple):
    """What became of one shard. ``method`` is psync, sync or scan, ``reason`` why not a better one; ``keys`` is None where they could not
    be counted, ``databases`` counts them; ``replication_id`` and ``offset`` are the snapshot's, where PSYNC told them."""

    method: str
    reason: str
    keys: Optional[int]
    databases: Dict[int, int]
    rdb_version: int
    attempts: int
    replication_id: str = ""
    offset: Optional[int] = None


class _OwnFormatError(Exception):
    """The snapshot cannot be understood: a format of its own, or damaged; the text says what."""


class ShardReader:
    """Reads one shard. ``note`` hears what is worth a warning, ``stop`` ends the work early (StoppedError)."""

    def __init__(
        self, endpoint: Endpoint, job: Job, method: str, as_aof: bool, note: Callable[[str], None], stop: Event
    ) -> None:
        self._as_aof = as_aof
        self._endpoint = endpoint
        self._job = job
        self._method = method
        self._note = note
        self._stop = stop
        self._attempts = 0
        self._history: List[str] = []

    def into(self, file: PartialFile) -> Outcome:
        """Fill the file. Errors: MigrationError; what the methods before the last one met is told in it too."""
        if self._method == "scan":
            return self._by_scan(file, "asked for")
        if self._job.proxied:
            return self._by_scan(file, NO_STREAM)
        try:
            return self._by_stream(file)
        except (SyncRefusedError, LostError, _OwnFormatError) as exc:
            why = exc.why if isinstance(exc, MigrationError) else str(exc)
            if self._method == "psync":
                if isinstance(exc, MigrationError):
                    raise
                raise ReplyError(str(self._job.address), why, "Run again; if it stays so set method to scan") from exc
        file.restart()
        try:
            return self._by_scan(file, why)
        except MigrationError as exc:
            exc.why += " (and no snapshot either: %s)" % why
            raise

    # -- replication stream -----------------------------------------------------------------------------------

    def _by_stream(self, file: PartialFile) -> Outcome:
        """By PSYNC or SYNC, again when the snapshot is lost on the way."""
        while True:
            self._attempts += 1
            try:
                link, full = open_full_sync(self._endpoint, self._job.address, snapshot_only=True, report=self._history.append)
                with link:
                    return self._receive(file, link, full)
            except LostError as exc:
                if self._attempts >= ATTEMPTS:
                    raise LostError(exc.what, "%s (%d attempts)" % (exc.why, self._attempts), exc.remedy) from exc
                self._note("%s: the snapshot was lost (%s), asking again" % (exc.what, exc.why))
                file.restart()

    def _receive(self, file: PartialFile, link: ReplicaLink, full: FullSync) -> Outcome:
        job = self._job
        owned = frozenset(slot for first, last in job.slots for slot in range(first, last + 1)) if job.importing else None
        inspector: Optional[Inspector] = None
        output: Union[PartialFile, AofConverter] = file
        try:
            for piece in link.payload():
                self._check_stop()
                if inspector is None:
                    inspector = Inspector(link.length, owned)
                    output = self._output(file, link.length)
                output.write(piece)
                inspector.feed(piece)
            if inspector is None:
                raise LostError(str(job.address), "sent an empty snapshot", "Look at its log and run again")
            inspector.close()
            if isinstance(output, AofConverter):
                output.close()
        except UnsupportedError as exc:
            # The inspector swallows these: it was the conversion that met a type it does not know.
            raise ReplyError(str(job.address), "its data cannot be written as commands: %s" % exc, "Set format to rdb") from exc
        except CodecError as exc:
            raise _OwnFormatError("its snapshot is damaged or in a format of its own: %s" % exc) from exc
        if inspector.uncounted:
            self._note("%s: keys were not counted: %s; the file is as the server sent it" % (job.path, inspector.uncounted))
        if inspector.foreign:
            self._note(_moving(job, inspector.foreign))
        return Outcome(
            full.command.lower(),
            "" if full.command == "PSYNC" else "; ".join(self._history),
            inspector.keys,
            dict(inspector.databases),
            inspector.version,
            self._attempts,
            full.replication_id,
            full.offset if full.offset >= 0 else None,
        )

    # -- key by key -------------------------------------------------------------------------------------------

    def _by_scan(self, file: PartialFile, reason: str) -> Outcome:
        job = self._job
        databases: Dict[int, int] = {}
        with ScanSource(
            self._endpoint, job.address, job.product, job.slots, job.is_replica, self._note, job.proxied
        ) as source:
            expected = source.count() if job.proxied else None
            output = self._output(file)
            sink = RdbFileSink(output, job.product, tuple(source.functions()))
            for entry in source.entries():
                self._check_stop()
                databases[entry.db] = databases.get(entry.db, 0) + 1
                version = source.rdb_version or 0
                if entry.body is not None:
                    sink.add(entry.db, entry.key, entry.type_byte, entry.body, entry.expire_ms, version)
                else:
                    sink.add_parts(entry.db, entry.key, entry.type_byte, entry.parts, entry.expire_ms, version)
            sink.close(job.product.rdb_version or _PLAIN_RDB)
            if isinstance(output, AofConverter):
                output.close()
            if job.proxied:
                self._check_count(source.keys + source.vanished, expected, source.count())
            if source.moved:
                self._note(
                    "%s: %d keys moved to another node while they were read; they are in the file of either or of neither"
                    % (job.address, source.moved)
                )
            return Outcome("scan", reason, source.keys, databases, sink.version or 0, self._attempts + 1)

    def _check_count(self, found: int, before: Optional[int], after: Optional[int]) -> None:
        """Some proxies ask one of their nodes only, for SCAN. ReplyError."""
        address = self._job.address
        if before is None or after is None:
            self._note("%s: was read through the proxy, and it does not tell (DBSIZE) whether %d are all keys" % (address, found))
            return
        expected = min(before, after)
        if found < expected * _ENOUGH:
            raise ReplyError(
                str(address),
                "is a proxy through which SCAN finds %d of %d keys" % (found, expected),
                "Name the nodes behind it in source.shards",
            )
        if found < expected:
            self._note("%s: was read through the proxy, and %d of %d keys were found" % (address, found, expected))

    def _output(self, file: PartialFile, total: Optional[int] = None) -> Union[PartialFile, AofConverter]:
        """What takes the snapshot's bytes."""
        return AofConverter(file, self._job.product, total) if self._as_aof else file

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError


def _moving(job: Job, count: int) -> str:
    return "%s: %d keys belong to slots that are being moved to %s; an older state of them may be in the file of their old owner" % (
        job.path,
        count,
        job.master,
    )


def as_result(job: Job, file: PartialFile, outcome: Outcome) -> Dict[str, Any]:
    """One of the ``files`` that the module returns."""
    return {
        "path": job.path,
        "size": file.size,
        "sha256": file.sha256,
        "shard": str(job.master),
        "source": str(job.address),
        "slots": [list(pair) for pair in job.slots],
        "keys": outcome.keys,
        "databases": {str(db): count for db, count in sorted(outcome.databases.items())},
        "rdb_version": outcome.rdb_version,
        "method": outcome.method,
        "reason": outcome.reason,
        "attempts": outcome.attempts,
        "replication_id": outcome.replication_id or None,
        "offset": outcome.offset,
    }
