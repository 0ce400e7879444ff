# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Listpacks: the flat list inside compact hashes, lists, sets, sorted sets and stream nodes since Redis 5.

Source: ``src/listpack.c`` in redis/redis. A header (total bytes, 4; element count, 2, 65535 for "count
them yourself"; both little endian), the elements, and a byte 255. Each element is followed by its own length in groups
of seven bits, most significant first, all but the first group marked with 128, so that one can walk backwards.
"""

from __future__ import annotations

import struct
from typing import Iterable, List

from .errors import CodecError

_HEADER = struct.Struct("<IH")
_LEN32 = struct.Struct("<I")
_MANY = 0xFFFF
_SIZE_MAX = 0xFFFFFFFF

# First byte of a wide integer -> its size in bytes.
_WIDE = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}


def _back_length(size: int) -> bytes:
    """The trailer of an element whose encoding and data take ``size`` bytes."""
    if size <= 127:
        return b"%c" % size
    groups = 2
    # The bounds are exclusive in the format: a size of exactly 2**14 - 1 takes three groups.
    while groups < 5 and size >= (1 << 7 * groups) - 1:
        groups += 1
    return bytes((size >> 7 * shift & 127) | (128 if shift < groups - 1 else 0) for shift in range(groups - 1, -1, -1))


def decode(blob: bytes) -> List[bytes]:
    """Every element in order, integers as their digits; CodecError for anything a server would not write."""
    end = len(blob) - 1
    if end < _HEADER.size:
        raise CodecError("a listpack is shorter than its header", 0)
    total, count = _HEADER.unpack_from(blob)
    if total != len(blob):
        raise CodecError("a listpack of %d bytes claims %d" % (len(blob), total), 0)
    if blob[end] != 0xFF:
        raise CodecError("a listpack has no end mark", end)
    items: List[bytes] = []
    pos = _HEADER.size
    try:
        while pos < end:
            start = pos
            first = blob[pos]
            if first < 0x80:
                items.append(b"%d" % first)
                pos += 1
            elif first < 0xC0:
                pos += 1 + (first & 0x3F)
                items.append(blob[start + 1 : pos])
            elif first < 0xE0:
                number = (first & 0x1F) << 8 | blob[pos + 1]
                items.append(b"%d" % (number - 8192 if number & 4096 else number))
                pos += 2
            elif first < 0xF0:
                pos += 2 + ((first & 0x0F) << 8 | blob[pos + 1])
                items.append(blob[start + 2 : pos])
            elif first == 0xF0:
                pos += 5 + _LEN32.unpack_from(blob, pos + 1)[0]
                items.append(blob[start + 5 : pos])
            elif first in _WIDE:
                pos += 1 + _WIDE[first]
                items.append(b"%d" % int.from_bytes(blob[start + 1 : pos], "little", signed=True))
            else:
                raise CodecError("no listpack element begins with byte 0x%02x" % first, start)
            size = pos - start
            if size <= 127:
                # The most common trailer by far: one byte.
                if blob[pos] != size:
                    raise CodecError("a listpack element's two lengths differ", pos)
                pos += 1
            else:
                if pos >= end:
                    raise CodecError("a listpack element runs over the end", start)
                trailer = _back_length(size)
                if blob[pos : pos + len(trailer)] != trailer:
                    raise CodecError("a listpack element's two lengths differ", pos)
                pos += len(trailer)
    except (IndexError, struct.error):
        raise CodecError("a listpack element runs over the end", start) from None
    if pos != end:
        raise CodecError("a listpack element runs over the end", pos)
    if count != _MANY and count != len(items):
        raise CodecError("a listpack of %d elements claims %d" % (len(items), count), 4)
    return items


def _integer(item: bytes) -> bytes:
    """The integer form of an element, or nothing when it is not the shortest decimal form of a 64-bit integer."""
    if not 0 < len(item) <= 20 or not (item.isdigit() or (item[:1] == b"-" and item[1:].isdigit())):
        return b""
    number = int(item)
    if b"%d" % number != item:
        return b""
    if 0 <= number < 128:
        return b"%c" % number
    if -4096 <= number < 4096:
        number &= 8191
        return b"%c%c" % (0xC0 | number >> 8, number & 0xFF)
    for first, size in _WIDE.items():
        half = 1 << 8 * size - 1
        if -half <= number < half:
            return b"%c" % first + number.to_bytes(size, "little", signed=True)
    return b""


def encode(items: Iterable[bytes]) -> bytes:
    """The listpack of ``items`` with integers in their short form, as a server builds it."""
    parts: List[bytes] = []
    count = 0
    for item in items:
        count += 1
        size = len(item)
        piece = _integer(item)
        if not piece:
            if size < 64:
                piece = b"%c" % (0x80 | size) + item
            elif size < 4096:
                piece = b"%c%c" % (0xE0 | size >> 8, size & 0xFF) + item
            else:
                piece = b"\xf0" + _LEN32.pack(size) + item
        parts.append(piece)
        parts.append(_back_length(len(piece)))
    body = b"".join(parts)
    total = _HEADER.size + len(body) + 1
    if total > _SIZE_MAX:
        raise CodecError("a listpack cannot hold %d bytes" % len(body))
    return _HEADER.pack(total, min(count, _MANY)) + body + b"\xff"
