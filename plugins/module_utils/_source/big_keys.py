# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Keys that are large for their server: found by the heads of their values, decoded only where a head does not tell.

A string's size is the length of its text (a compressed one is not unpacked for it), anything else's the bytes of its
serialized value.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from .._codec import intset, listpack, skip, types as t, wire, ziplist, zipmap
from .._codec.errors import CodecError
from .._codec.events import Batch, BigStart, Entry

# What DCS calls big.
STRING_BYTES = 10 << 10
OTHER_BYTES = 50 << 20
ELEMENTS = 5000
# So many are named; all are counted.
LIMIT = 100
# LZF makes at most 264 bytes of 3 (see _codec/lzf.py); an element of a collection has at least 2.
_LZF_RATIO = 88
_ELEMENT_BYTES = 2


class BigKey(NamedTuple):
    """``size`` in bytes, ``elements`` None where they are not counted (strings, modules)."""

    db: int
    key: bytes
    kind: str
    size: int
    elements: Optional[int]
    expire_ms: Optional[int]


class BigKeys:
    """Collects the largest ``limit`` keys above the thresholds; ``total`` counts all of them.

    ``size`` (bytes) is for every type; None means ``STRING_BYTES`` for strings and ``OTHER_BYTES`` for the rest.
    """

    def __init__(self, size: Optional[int] = None, elements: int = ELEMENTS, limit: int = LIMIT) -> None:
        self.total = 0
        self._string = STRING_BYTES if size is None else size
        self._other = OTHER_BYTES if size is None else size
        self._elements = elements
        self._limit = limit
        self._heap: List[Tuple[int, int, BigKey]] = []
        self._order = count()
        # No value that takes fewer bytes than this can be big in any way, compressed or not.
        self._floor = min(self._string, self._other, elements * _ELEMENT_BYTES, OTHER_BYTES) // _LZF_RATIO
        self.dialect = t.REDIS

    def scan(self, batch: Batch, sizes: List[int]) -> None:
        """Look at a batch; ``sizes`` are the serialized sizes of its entries."""
        floor, string = self._floor, self._string
        if max(sizes) <= floor:
            return
        for entry, size in zip(batch.entries, sizes):
            # entry[4]: a plain string, whose serialized size is its length and up to nine bytes.
            if size > floor and (size > string or not entry[4]):
                self._examine(batch, entry, size)

    def add(self, start: BigStart, size: int, elements: Optional[int]) -> None:
        """A value that came in parts."""
        kind = t.kind_of(start.type, self.dialect) or "unknown"
        self._judge(BigKey(start.db, start.key, kind, size, elements, start.expire_ms))

    def largest(self) -> List[BigKey]:
        """The largest first."""
        return [key for _size, _order, key in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]

    def _examine(self, batch: Batch, entry: Entry, size: int) -> None:
        kind_byte, key, start, _end, data, expire, _hint = entry
        buf = batch.buf
        elements = None
        if kind_byte == t.STRING:
            size = size - (data - start) if data else string_length(buf, start, size)
            if size <= self._string:
                return
        elif size <= self._other and size <= self._elements * _ELEMENT_BYTES and not _may_be_packed(kind_byte, buf, start):
            return
        else:
            elements = count_elements(kind_byte, buf, start, self.dialect)
        kind = t.kind_of(kind_byte, self.dialect) or "unknown"
        self._judge(BigKey(batch.db, key, kind, size, elements, expire))

    def _judge(self, found: BigKey) -> None:
        limit = self._string if found.kind == "string" else self._other
        if found.size <= limit and (found.elements or 0) <= self._elements:
            return
        self.total += 1
        # Of two equal ones the first in the file stays.
        item = (found.size, -next(self._order), found)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, item)
        elif self._limit:
            heapq.heappushpop(self._heap, item)


def string_length(buf: bytes, pos: int, size: int) -> int:
    """The length in bytes of the encoded string at ``pos``, which takes ``size``; a compressed one is not unpacked."""
    if buf[pos] != 0xC3:
        return size
    try:
        return skip.number(buf, skip.length_end(buf, pos + 1))
    except CodecError:
        return size


def _may_be_packed(type_byte: int, buf: bytes, pos: int) -> bool:
    """Whether the value can hold more than its serialized size says."""
    if type_byte in _BLOBS:
        return buf[pos] == 0xC3
    # Field expiries stand before the blob; nodes of a list are compressed one by one.
    return type_byte not in _SERIES


def count_elements(type_byte: int, buf: bytes, pos: int, dialect: str) -> Optional[int]:
    """Elements, fields or entries of the value at ``pos``, complete in ``buf``; None for strings, modules and what is damaged."""
    try:
        if type_byte in _SERIES:
            return skip.number(buf, pos)
        if type_byte in _BLOBS:
            return _count_blob(*_BLOBS[type_byte], buf, pos)
        if type_byte in (t.LIST_QUICKLIST, t.LIST_QUICKLIST_2):
            return _count_quicklist(type_byte, buf, pos)
        if type_byte in _STREAMS:
            nodes = skip.number(buf, pos)
            return skip.number(buf, skip.strings_end(buf, skip.length_end(buf, pos), 2 * nodes))
        if dialect == t.VALKEY:
            return skip.number(buf, pos) if type_byte == t.VALKEY_HASH_2 else None
        if type_byte in (t.HASH_METADATA, t.HASH_METADATA_PRE_GA):
            return skip.number(buf, pos + 8 if type_byte == t.HASH_METADATA else pos)
        if type_byte in (t.HASH_LISTPACK_EX, t.HASH_LISTPACK_EX_PRE_GA):
            return _count_blob(_LISTPACK, 3, buf, pos + 8 if type_byte == t.HASH_LISTPACK_EX else pos)
    except (CodecError, IndexError):
        # Only a forged length gets here: the scanner has seen the value's end.
        return None
    return None


def _count_blob(form: _Blob, each: int, buf: bytes, pos: int) -> int:
    """The number in the head of a compact encoding, divided by ``each``; only where it is not stated everything is decoded."""
    head = _head(buf, pos)
    number = int.from_bytes(head[form.at : form.at + form.width], "little")
    if number >= form.unknown:
        number = form.elements(wire.read_string(buf, pos)[0])
    return number // each


def _count_quicklist(type_byte: int, buf: bytes, pos: int) -> int:
    nodes = skip.number(buf, pos)
    pos = skip.length_end(buf, pos)
    total = 0
    form = _ZIPLIST
    for _unused in range(nodes):
        if type_byte == t.LIST_QUICKLIST_2:
            form = _LISTPACK
            pos += 1
        total += 1 if form is _LISTPACK and buf[pos - 1] == _PLAIN_NODE else _count_blob(form, 1, buf, pos)
        pos = skip.string_end(buf, pos)
    return total


def _head(buf: bytes, pos: int) -> bytes:
    """The first ``_HEAD`` bytes, if there are so many, of the string at ``pos``; a compressed one is unpacked no further."""
    if buf[pos] != 0xC3:
        start = skip.length_end(buf, pos)
        return buf[start : start + min(_HEAD, skip.number(buf, pos))]
    pos = skip.length_end(buf, skip.length_end(buf, pos + 1))
    out = b""
    while len(out) < _HEAD and pos < len(buf):
        control = buf[pos]
        if control < 32:
            out += buf[pos + 1 : pos + 2 + control]
            pos += 2 + control
            continue
        run, after = (control >> 5, pos + 1) if control < 0xE0 else (7 + buf[pos + 1], pos + 2)
        back = ((control & 31) << 8 | buf[after]) + 1
        piece = out[-back:]
        if not piece:
            break
        out += (piece * (run + 2))[: run + 2]
        pos = after + 1
    return out[:_HEAD]


class _Blob(NamedTuple):
    """Where a compact encoding keeps its count: ``width`` bytes at ``at``, from ``unknown`` on it is not told."""

    at: int
    width: int
    unknown: int
    elements: Callable[[bytes], int]


_HEAD = 10
_PLAIN_NODE = 1
_LISTPACK = _Blob(4, 2, 0xFFFF, lambda blob: len(listpack.decode(blob)))
_ZIPLIST = _Blob(8, 2, 0xFFFF, lambda blob: len(ziplist.decode(blob)))
_INTSET = _Blob(4, 4, 1 << 32, lambda blob: len(intset.decode(blob)))
_ZIPMAP = _Blob(0, 1, 254, lambda blob: len(zipmap.decode(blob)))
_BLOBS: Dict[int, Tuple[_Blob, int]] = {
    t.HASH_ZIPMAP: (_ZIPMAP, 1),
    t.LIST_ZIPLIST: (_ZIPLIST, 1),
    t.SET_INTSET: (_INTSET, 1),
    t.ZSET_ZIPLIST: (_ZIPLIST, 2),
    t.HASH_ZIPLIST: (_ZIPLIST, 2),
    t.HASH_LISTPACK: (_LISTPACK, 2),
    t.ZSET_LISTPACK: (_LISTPACK, 2),
    t.SET_LISTPACK: (_LISTPACK, 1),
}
_SERIES = frozenset((t.LIST, t.SET, t.ZSET, t.HASH, t.ZSET_2))
_STREAMS = frozenset((t.STREAM_LISTPACKS, t.STREAM_LISTPACKS_2, t.STREAM_LISTPACKS_3))
