# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Ziplists: what listpacks replaced in Redis 7.

Source: ``src/ziplist.c`` in redis/redis. A header (total bytes, 4; offset of the last entry, 4; entry count, 2, 65535 for
"count them yourself"; little endian), the entries, and a byte 255. An entry begins with the size of the one before it
(1 byte, or 254 and 4 bytes), then its encoding; string lengths are big endian, integers little endian.
"""

from __future__ import annotations

import struct
from typing import List

from .errors import CodecError

_HEADER = struct.Struct("<IIH")
_LEN32 = struct.Struct(">I")
_PREV32 = struct.Struct("<I")
_MANY = 0xFFFF

# Encoding byte -> size of the integer after it.
_INTEGERS = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}


def decode(blob: bytes) -> List[bytes]:
    """Every entry in order, integers as their digits; CodecError for anything a server would not write."""
    end = len(blob) - 1
    if end < _HEADER.size:
        raise CodecError("a ziplist is shorter than its header", 0)
    total, tail, count = _HEADER.unpack_from(blob)
    if total != len(blob):
        raise CodecError("a ziplist of %d bytes claims %d" % (len(blob), total), 0)
    if blob[end] != 0xFF:
        raise CodecError("a ziplist has no end mark", end)
    items: List[bytes] = []
    pos = start = _HEADER.size
    last = 0
    try:
        while pos < end:
            start = pos
            before = blob[pos]
            pos += 1
            if before == 254:
                before = _PREV32.unpack_from(blob, pos)[0]
                pos += 4
            if before != last:
                raise CodecError("a ziplist entry is %d bytes and the next one says %d" % (last, before), start)
            first = blob[pos]
            pos += 1
            if first < 0xC0:
                size = first & 0x3F
                if first >= 0x80:
                    size = _LEN32.unpack_from(blob, pos)[0]
                    pos += 4
                elif first >= 0x40:
                    size = size << 8 | blob[pos]
                    pos += 1
                items.append(blob[pos : pos + size])
                pos += size
            elif first in _INTEGERS:
                size = _INTEGERS[first]
                items.append(b"%d" % int.from_bytes(blob[pos : pos + size], "little", signed=True))
                pos += size
            elif 0xF1 <= first <= 0xFD:
                items.append(b"%d" % (first - 0xF1))
            else:
                raise CodecError("no ziplist entry has the encoding 0x%02x" % first, start)
            last = pos - start
    except (IndexError, struct.error):
        raise CodecError("a ziplist entry runs over the end", start) from None
    if pos != end:
        raise CodecError("a ziplist entry runs over the end", start)
    if tail != start:
        raise CodecError("a ziplist's last entry is at %d, not at %d" % (start, tail), 4)
    if count != _MANY and count != len(items):
        raise CodecError("a ziplist of %d entries claims %d" % (len(items), count), 8)
    return items
