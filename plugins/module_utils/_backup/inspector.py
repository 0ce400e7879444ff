# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What is looked at while a snapshot is received: how many keys it holds, and whether it is whole."""

from __future__ import annotations

from collections import Counter
from typing import FrozenSet, Optional

from .._codec.crc64 import crc64
from .._codec.errors import ChecksumError, TruncatedError, UnsupportedError
from .._codec.events import Batch, BigStart, Header
from .._codec.rdb import RdbScanner
from .._codec.slots import key_slot

_TAIL = 9  # the end mark and the checksum
_EOF = 0xFF


class Inspector:
    """Feed it a snapshot in pieces, then ``close``.

    ``databases`` counts the keys by database. ``foreign`` counts those outside ``slots`` (None: not asked). A type that is known by name
    only ends the counting (``uncounted`` says why) but not the check of the checksum: the file is still what the server sent.

    :raises CodecError: the snapshot is damaged, or in a format of its own; TruncatedError and ChecksumError as well
    """

    def __init__(self, total: Optional[int] = None, slots: Optional[FrozenSet[int]] = None) -> None:
        self.version = 0
        self.databases: Counter = Counter()
        self.foreign = 0
        self.uncounted = ""
        self._slots = slots
        self._scanner: Optional[RdbScanner] = RdbScanner(total, unpack=False)
        self._crc = 0
        self._tail = b""
        self._size = 0

    @property
    def keys(self) -> Optional[int]:
        """How many keys, None where they could not be counted."""
        return None if self.uncounted else sum(self.databases.values())

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        self._size += len(piece)
        joined = self._tail + piece
        cut = max(len(joined) - _TAIL, 0)
        self._crc = crc64(memoryview(joined)[:cut], self._crc)
        self._tail = joined[cut:]
        if self._scanner is not None:
            self._count(self._scanner.feed(piece))

    def close(self) -> None:
        """No more bytes come."""
        if self._scanner is not None:
            self._count(self._scanner.close())
        if self._scanner is not None:
            if self._scanner.rest:
                raise TruncatedError("%d bytes follow the end of the snapshot" % len(self._scanner.rest), self._scanner.offset)
            return
        if len(self._tail) < _TAIL or self._tail[0] != _EOF:
            raise TruncatedError("the snapshot ends without its end mark", self._size)
        stored = int.from_bytes(self._tail[1:], "little")
        computed = crc64(self._tail[:1], self._crc)
        if stored and stored != computed:
            raise ChecksumError("the snapshot's checksum is %016x, its bytes have %016x" % (stored, computed), self._size)

    def _count(self, events: object) -> None:
        try:
            for event in events:  # type: ignore[attr-defined]
                kind = type(event)
                if kind is Batch:
                    self.databases[event.db] += len(event.entries)
                    if self._slots is not None:
                        slots = self._slots
                        self.foreign += sum(1 for entry in event.entries if key_slot(entry[1]) not in slots)
                elif kind is BigStart:
                    self.databases[event.db] += 1
                    if self._slots is not None and key_slot(event.key) not in self._slots:
                        self.foreign += 1
                elif kind is Header:
                    self.version = event.version
        except UnsupportedError as exc:
            self.uncounted = exc.reason
            self._scanner = None
