# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The snapshot of one stream into the target, read from its spool while it still arrives."""

from __future__ import annotations

import time
from typing import Any, Callable, Collection, Iterator, NamedTuple, Optional

from .._errors import LostError, UsageError
from .._import.big_key import Journal
from .._import.receipts import Sample
from .._import.snapshot import SnapshotImport
from .._import.survey import Survey
from .._sink.target import Target
from .._source.rdb_file import CHUNK, events_of, header_of
from .config import Config
from .existing import refuse_any, without
from .fences import Place
from .folder import TaskFolder
from .sources import Sources, StreamState
from .spool import SpoolReader, trim

_HEAD = 512
_PAUSE = 0.02


class _Spooled(NamedTuple):
    """What stands for the snapshot where a backup file is expected."""

    name: str
    size: Optional[int]


class SnapshotLoad:
    """Loads stream ``stream``. ``tick(read, total)`` is called for every piece; it may raise to stop the load."""

    def __init__(
        self, folder: TaskFolder, config: Config, sources: Sources, stream: StreamState, target: Target, tick: Callable[[int, int], None]
    ) -> None:
        self._folder = folder
        self._config = config
        self._sources = sources
        self._stream = stream
        self._target = target
        self._tick = tick
        self._path = sources.folder_of(stream.id, stream.generation, "snapshot")
        self.name = "the snapshot of %s" % stream.address

    def look(self, conflicts: Collection[Place]) -> None:
        """Read it to its end where it may hold what the target cannot, or one of the ``conflicts``: MigrationError. Nothing is written."""
        selection = self._config.selection()
        survey = Survey(self._target, selection)
        if survey.is_needed(header_of(self._head())):
            survey.refuse(self.name, self._looked_at())
        if conflicts:
            refuse_any(self._looked_at(), conflicts, selection.db_of, self._config.target.label)

    def _looked_at(self) -> Iterator[Any]:
        return events_of(self._spooled(), self._chunks(count=False), unpack=False)  # type: ignore[arg-type]

    def run(self, warn: Callable[[str], None], alone: Collection[Place]) -> None:
        """Write everything but the keys in ``alone``. MigrationError."""
        selection = self._config.selection()
        journal = Journal(self._folder.file("unfinished-%d.json" % self._stream.id))
        snapshot = SnapshotImport(self._target, selection, journal, Sample(), warn)
        self._target.for_file(self.name)
        flat = None if alone else self._target.flat_format
        events = events_of(self._spooled(), self._chunks(), flat=flat)  # type: ignore[arg-type]
        if alone:
            events = without(events, alone, selection.db_of, self._skip)
        snapshot.run(events)
        # A failover of the target may have taken some of it away again.
        self._target.confirm()

    def _skip(self, count: int) -> None:
        self._target.skipped += count

    def _spooled(self) -> _Spooled:
        return _Spooled(self.name, self._stream.snapshot_length)

    def _head(self) -> bytes:
        reader = SpoolReader(self._path, 0)
        try:
            while True:
                head = reader.read(_HEAD)
                if head:
                    return head
                self._await()
        finally:
            reader.close()

    def _chunks(self, count: bool = True) -> Iterator[bytes]:
        reader = SpoolReader(self._path, 0)
        try:
            while True:
                chunk = reader.read(CHUNK)
                if chunk:
                    if count:
                        self._tick(reader.position, self._length())
                    yield chunk
                    self._make_room(reader.position if count else 0)
                elif self._is_whole(reader.position):
                    return
                else:
                    self._make_room(reader.position if count else 0)
                    self._await()
        finally:
            reader.close()

    def _length(self) -> int:
        """Bytes of the whole snapshot, 0 while nobody knows."""
        state = self._sources.streams[self._stream.id]
        return state.snapshot_length or (state.snapshot_received if state.snapshot_complete else 0)

    def _make_room(self, read: int) -> None:
        """Where the spool is full, give back what was loaded; should this load be cut off, it takes another snapshot."""
        self._sources.refresh()
        if not self._sources.spool.get("spool_full"):
            return
        if not read:
            raise UsageError(
                self.name,
                "does not fit into the spool, and it has to be looked through before anything is written",
                "Set spool_limit to more than the size of the snapshot",
            )
        trim(self._path, read)

    def _is_whole(self, position: int) -> bool:
        self._sources.refresh()
        state = self._sources.streams[self._stream.id]
        return state.snapshot_complete and position >= state.snapshot_received

    def _await(self) -> None:
        """More is to come, unless the receiver has begun anew."""
        time.sleep(_PAUSE)
        self._tick(0, 0)
        self._sources.refresh()
        state = self._sources.streams.get(self._stream.id)
        if state is None or state.generation != self._stream.generation:
            raise LostError(self.name, "broke off; the source is asked for another one")
