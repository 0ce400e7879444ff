# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What the receiver knows of each stream, as ``sources.json`` holds it, and what its threads share."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from .._errors import FileError
from . import spool
from .config import Config
from .folder import TaskFolder
from .log import Log

CONNECTING, WAITING, SNAPSHOT, STREAMING, LOST, ENDED = "connecting", "waiting", "snapshot", "streaming", "lost", "ended"

# Spools are trimmed by whole segments and never to nothing. With this many to a stream the last ones are a small part of the limit.
_SEGMENTS = 8
_SMALLEST_SEGMENT = 64 << 10


@dataclasses.dataclass
class StreamState:
    """One of the ``streams``. Offsets are positions in the stream's spool; see :mod:`.receiver` for each field."""

    id: int
    address: str
    state: str = CONNECTING
    generation: int = 0
    replication_id: str = ""
    command: str = "PSYNC"
    snapshot_offset: int = 0
    stream_db: Optional[int] = None
    snapshot_length: Optional[int] = None
    snapshot_received: int = 0
    snapshot_complete: bool = False
    snapshot_durable: bool = False
    received_offset: int = 0
    durable_offset: int = 0
    source_offset: int = 0
    source_offset_at: float = 0.0
    reconnects: int = 0
    full_syncs: int = 0
    error: Optional[Dict[str, str]] = None
    since: float = dataclasses.field(default_factory=time.time)

    def enter(self, state: str) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()

    def as_dict(self) -> Dict[str, Any]:
        return dataclasses.asdict(self)


def restore(saved: Mapping[str, Any], streams: str, rebooted: bool) -> StreamState:
    """A stream as an earlier run left it, as far as its spools (below ``streams``) hold what it says. FileError.

    ``rebooted``: the host itself may have crashed, and then only what was synced is sure to be there.
    """
    names = {field.name for field in dataclasses.fields(StreamState)}
    state = StreamState(**{name: value for name, value in saved.items() if name in names})
    end = None
    if state.snapshot_complete and (state.snapshot_durable or not rebooted):
        path = os.path.join(streams, str(state.id), str(state.generation), "stream")
        if rebooted:
            spool.cut(path, state.durable_offset)
        end = spool.bounds(path)
    if end is None:
        state.snapshot_complete = False  # this generation is of no use
        state.received_offset = state.durable_offset = 0
    else:
        state.received_offset = end[1]
        state.durable_offset = min(state.durable_offset, end[1])
    if state.state != ENDED or end is None:
        state.enter(CONNECTING)
        state.error = None
    return state


def generations(folder: str) -> List[int]:
    """Those of which there is something below a stream's ``folder``."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise FileError(folder, "cannot be read: %s" % exc.strerror) from exc


def remove_older(folder: str, generation: int) -> None:
    """Remove all generations before that one."""
    for number in generations(folder):
        if number < generation:
            shutil.rmtree(os.path.join(folder, str(number)), ignore_errors=True)


class Wake:
    """Tells the applier, if it listens, that there is something to read. For one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = -1

    def __call__(self) -> None:
        try:
            if self._handle < 0:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(self._handle, b"\0")
        except BlockingIOError:
            pass  # it has enough to read there
        except OSError:  # nobody has it open for reading (ENXIO), or no longer (EPIPE)
            self.close()

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Shared:
    """What all threads of the receiver have in common.

    ``stop`` is for everybody to look at, and ``room``: bytes that the spools may still take, measured now and then and counted down by
    whoever writes meanwhile. ``publish`` writes ``sources.json`` now and durably (FileError), ``changed`` lets it be written soon,
    ``fail`` ends the receiver. ``look`` asks for a look at who the masters are; it has been taken when ``looked`` says its number.
    """

    def __init__(self, folder: TaskFolder, config: Config, log: Log) -> None:
        self.folder = folder
        self.config = config
        self.log = log
        self.stop = threading.Event()
        self.room = 1
        self.changed = threading.Event().set
        self.look: Callable[[], int] = _zero
        self.looked: Callable[[], int] = _zero
        self.publish: Callable[[], None] = _nothing
        self.fail: Callable[[BaseException], None] = _ignore
        self.stream_count = 1

    @property
    def limit(self) -> int:
        """Bytes that all spools together may have; never so few that a reader could not free any of them."""
        return max(self.config.spool_limit, _SMALLEST_SEGMENT * _SEGMENTS * self.stream_count)

    @property
    def share(self) -> int:
        """Bytes of it that each stream may have whatever the others have."""
        return self.limit // self.stream_count

    def segment(self) -> int:
        """Bytes of a segment, so that all last ones together are far below the limit."""
        return min(spool.SEGMENT, self.limit // (_SEGMENTS * self.stream_count))


def _nothing() -> None:
    """Until the receiver puts its own there."""


def _zero() -> int:
    """Likewise."""
    return 0


def _ignore(_exc: BaseException) -> None:
    """Likewise."""
