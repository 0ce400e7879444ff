# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The task's report: ``status.json``."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from .._errors import FileError, MigrationError
from .folder import TaskFolder, error_dict
from .sources import Sources

STATUS = "status.json"
PENDING, FULL, INCREMENTAL, STOPPED, SUCCEEDED, FAILED = (
    "pending", "full_migrating", "incr_migrating", "stopped", "succeeded", "failed",
)  # fmt: skip
# Seconds over which rates are taken.
_RATE = 5.0
# Seconds between two writes.
_PAUSE = 0.4
_WARNINGS_MAX = 50


class Status:
    """Counts over the whole life of the task; written at most twice a second, and whenever ``status`` changes.

    A disk that does not take it must not end the work, which may be what makes room there: ``unwritten`` says why it was not written last,
    and ``log`` is told of that once.
    """

    def __init__(self, folder: TaskFolder, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._log = log
        self.unwritten = ""
        stored = folder.peek(STATUS)
        self.status: str = stored.get("status", PENDING)
        self.since: float = stored.get("since", time.time())
        self.progress: int = stored.get("full_migration_progress", 0)
        self.keys: int = stored.get("keys", 0)
        self.skipped: int = stored.get("skipped", 0)
        self.expired: int = stored.get("expired", 0)
        self.commands: int = stored.get("commands", 0)
        self.bytes: int = stored.get("bytes", 0)
        self.copied: int = stored.get("copied", 0)
        self.errors: int = stored.get("errors", 0)
        self.warnings: List[str] = stored.get("warnings", [])
        # What there is to say of the clocks now.
        self.clocks: Optional[str] = None
        self.error: Optional[Dict[str, str]] = None
        # Whether a session follows the streams now.
        self.following = False
        self.shards: List[Dict[str, Any]] = stored.get("shards", [])
        self.rates = stored.get("bytes_per_second", 0), stored.get("ops_per_second", 0)
        self._written = 0.0
        self._samples: Deque[Tuple[float, int, int]] = deque()

    def change(self, status: str) -> None:
        """Enter another status."""
        self.following = self.following and status == INCREMENTAL
        if status != self.status:
            self.status = status
            self.since = time.time()

    def fail(self, exc: MigrationError, final: bool) -> None:
        """Note an error; ``final``: the task does not go on by itself."""
        self.error = error_dict(exc)
        self.errors += 1
        self.following = False
        if final:
            self.change(FAILED)

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings = [*self.warnings, text][-_WARNINGS_MAX:]

    def shard_rows(self, sources: Sources, applied: Dict[int, int]) -> None:
        """Take over where each stream is; ``applied`` offsets by stream."""
        rows = []
        for number, stream in sorted(sources.streams.items()):
            at = applied.get(number, 0)
            known = max(stream.source_offset or 0, stream.received_offset or 0)
            rows.append(
                {
                    "id": number,
                    "generation": stream.generation,
                    "source": stream.address,
                    "state": stream.state,
                    "replication_id": stream.replication_id,
                    "received_offset": stream.received_offset or 0,
                    "applied_offset": at,
                    "source_offset": stream.source_offset or 0,
                    # What an ended stream had was copied from others. What is before a snapshot comes with it.
                    "lag_bytes": 0 if stream.state == "ended" and not at else max(0, known - (at or stream.snapshot_offset or 0)),
                    "lag_seconds": sources.lag_seconds(number, at) if at else 0.0,
                    "reconnects": stream.reconnects or 0,
                    "full_syncs": stream.full_syncs or 0,
                    "error": stream.error,
                }
            )
        self.shards = rows

    def write_soon(self, spool: Optional[Dict[str, Any]] = None) -> None:
        """Write unless that was done a moment ago."""
        if time.monotonic() - self._written >= _PAUSE:
            self.write(spool)

    def write(self, spool: Optional[Dict[str, Any]] = None) -> None:
        """Write now."""
        now = self._written = time.monotonic()
        self._samples.append((now, self.bytes, self.commands + self.keys))
        while len(self._samples) > 2 and now - self._samples[0][0] > _RATE:
            self._samples.popleft()
        before, size, count = self._samples[0]
        if now > before:
            self.rates = round((self.bytes - size) / (now - before)), round((self.commands + self.keys - count) / (now - before))
        content = {
            "name": self._folder.name,
            "status": self.status,
            "since": self.since,
            "full_migration_progress": self.progress,
            "shards": self.shards,
            "keys": self.keys,
            "skipped": self.skipped,
            "expired": self.expired,
            "commands": self.commands,
            "copied": self.copied,
            "bytes": self.bytes,
            "bytes_per_second": self.rates[0],
            "ops_per_second": self.rates[1],
            "errors": self.errors,
            "error": self.error,
            "following": self.following,
            "warnings": self.warnings,
            "clocks": self.clocks,
            "at": time.time(),
            **(spool or {}),
        }
        try:
            self._folder.write(STATUS, content)
            self.unwritten = ""
        except FileError as exc:
            if str(exc) != self.unwritten:
                self.unwritten = str(exc)
                self._log(self.unwritten)
