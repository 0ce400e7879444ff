# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What the receiver has: streams by number, read again from ``sources.json`` a few times a second."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple

from .folder import TaskFolder

SOURCES = "sources.json"
# Seconds: the receiver tells no more often where it is.
_FRESH = 0.5
# Seconds between two looks after which nobody knows when something came between them. The receiver writes once a second at least.
_BLIND = 1.2


class StreamState(NamedTuple):
    """One stream as the receiver tells it; see :mod:`.receiver` for the fields."""

    id: int
    address: str
    state: str
    generation: int
    replication_id: str
    command: str
    snapshot_offset: int
    stream_db: Optional[int]
    snapshot_length: Optional[int]
    snapshot_received: int
    snapshot_complete: bool
    received_offset: int
    source_offset: int
    reconnects: int
    full_syncs: int
    error: Optional[Dict[str, str]]


class Sources:
    """``streams`` by number; ``slots`` the owner of each slot range of a Redis Cluster, ``open_slots`` those on the move."""

    def __init__(self, folder: TaskFolder) -> None:
        self._folder = folder
        self._stamp: Tuple[int, int] = (0, 0)
        self.kind = ""
        self.error: Optional[Dict[str, str]] = None
        # The boot of the host in which this was written: after another one the spools have still to be cut back.
        self.boot = ""
        self.streams: Dict[int, StreamState] = {}
        self.slots: List[Tuple[int, int, int]] = []
        self.open_slots: List[int] = []
        self.map_at = 0
        self.spool: Dict[str, Any] = {}
        self.at = 0.0
        self._looked_at = time.time()
        # Where each stream was when it was first looked at.
        self._first: Dict[Tuple[int, int], int] = {}
        # When which offset had arrived, of each stream: for the lag in seconds.
        self._arrivals: Dict[int, Deque[Tuple[float, int, float]]] = {}

    def refresh(self) -> bool:
        """Read again; whether there was news. FileError."""
        try:
            stat = os.stat(self._folder.file(SOURCES))
        except OSError:
            return False
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        content: Dict[str, Any] = self._folder.read(SOURCES) or {}
        self.at = content.get("at", 0.0)
        self.kind = content.get("kind") or ""
        self.error = content.get("error")
        self.boot = content.get("boot_id") or ""
        self.slots = list(map(tuple, content.get("slots") or ()))
        self.open_slots = content.get("open_slots") or []
        self.map_at = content.get("map_at", 0)
        self.spool = {name: content.get(name) for name in ("spool_bytes", "spool_limit", "spool_full")}
        self.streams = {
            item["id"]: StreamState(**{name: item.get(name) for name in StreamState._fields})
            for item in content.get("streams") or ()
        }
        now = time.time()
        for number, stream in self.streams.items():
            arrivals = self._arrivals.setdefault(number, deque())
            offset = max(stream.received_offset or 0, stream.source_offset or 0)
            if not arrivals or arrivals[-1][1] != offset:
                arrivals.append((now, offset, self._looked_at))
            self._first.setdefault((number, stream.generation), stream.received_offset or 0)
        self._looked_at = now
        return True

    def arrived(self, number: int, end: int) -> Optional[int]:
        """When the bytes before ``end`` came, in ms since 1970: 0 for a moment ago, None where that was before this process began to look."""
        stream = self.streams[number]
        if end <= self._first.get((number, stream.generation), 0):
            return None
        now = time.time()
        for at, offset, before in self._arrivals.get(number, ()):
            if offset >= end:
                if now - before <= _FRESH:
                    return 0
                return int(at * 1000) if at - before <= _BLIND else None
        # Newer than the last look.
        return 0 if now - self._looked_at <= _BLIND else None

    def lag_seconds(self, number: int, applied: int) -> float:
        """How old the first byte is that was not applied yet; 0.0 when all that is known of is applied."""
        arrivals = self._arrivals.get(number, deque())
        while arrivals and arrivals[0][1] <= applied:
            arrivals.popleft()
        return round(max(0.0, time.time() - arrivals[0][0]), 3) if arrivals else 0.0

    @property
    def live(self) -> List[StreamState]:
        """Streams that have not ended."""
        return [stream for stream in self.streams.values() if stream.state != "ended"]

    def owner(self, slot: int) -> Optional[int]:
        """The stream that owns a slot now."""
        return next((stream for first, last, stream in self.slots if first <= slot <= last), None)

    def folder_of(self, number: int, generation: int, part: str) -> str:
        """The spool of a stream: ``part`` is snapshot or stream."""
        return self._folder.file("streams", str(number), str(generation), part)
