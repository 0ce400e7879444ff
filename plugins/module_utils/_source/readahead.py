# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Bytes ahead of the reader: a small bounded queue filled by a thread.

While the consumer works on one block, the thread waits for the disk or the network and hashes the next ones (sockets,
zlib and hashlib all let other threads run). Memory: at most ``depth + 2`` blocks exist at once: the queue, the one in the
thread's hands and the one in the consumer's.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Blocks waiting in the queue. Two ride out a hiccup on either side; more only costs memory.
DEPTH = 2
# How long closing waits for the thread. It ends after the read it is in; a read that hangs ends at its own time limit, and
# the thread is a daemon, so it can never hold up the exit of the process.
CLOSE_WAIT_S = 5.0


class _Channel:
    """One producer, one consumer, at most ``depth`` blocks in between."""

    def __init__(self, depth: int) -> None:
        self._blocks: deque[bytes] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
        self._closed = False

    def put(self, block: bytes) -> bool:
        """Wait for room and add the block; False when the consumer has gone away."""
        with self._changed:
            while len(self._blocks) >= self._depth and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._blocks.append(block)
            self._changed.notify_all()
            return True

    def end(self, failure: BaseException | None = None) -> None:
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._blocks.clear()
            self._changed.notify_all()

    def get(self) -> bytes | None:
        """The next block, None at the end; raises what the producer raised, after the blocks it made before."""
        with self._changed:
            while not self._blocks and not self._ended:
                self._changed.wait()
            if self._blocks:
                block = self._blocks.popleft()
                self._changed.notify_all()
                return block
            if self._failure is not None:
                raise self._failure
            return None


def _fill(channel: _Channel, produce: Callable[[], Iterator[bytes]]) -> None:
    try:
        blocks = produce()
        try:
            for block in blocks:
                if not channel.put(block):
                    break
        finally:
            close = getattr(blocks, "close", None)
            if close is not None:
                close()
    except BaseException as exc:  # whatever it is, the consumer's thread is where it must appear
        channel.end(exc)
    else:
        channel.end()


def read_ahead(produce: Callable[[], Iterator[bytes]], depth: int = DEPTH, name: str = "read-ahead") -> Iterator[bytes]:
    """The blocks of ``produce()``, made in a thread that runs ahead.

    The thread starts at the first ``next()``. Closing the generator (or dropping it) closes the producer's generator in the
    thread and waits for the thread's end. An exception of the producer is raised here, in order.
    """
    channel = _Channel(depth)
    thread = threading.Thread(target=_fill, args=(channel, produce), name=name, daemon=True)
    thread.start()
    try:
        while True:
            block = channel.get()
            if block is None:
                return
            yield block
            del block
    finally:
        channel.close()
        thread.join(CLOSE_WAIT_S)
