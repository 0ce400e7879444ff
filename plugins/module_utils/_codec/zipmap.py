# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Zipmaps: the small hashes of Redis 2.4 and before.

Source: ``src/zipmap.c`` in redis/redis. A count byte (254 and above: count them yourself), then for each pair: field length,
field, value length, one byte of slack, value, slack bytes; at last a byte 255. A length is one byte, or 254 and
four bytes little endian.
"""

from __future__ import annotations

import struct
from typing import List, Tuple

from .errors import CodecError

_LEN32 = struct.Struct("<I")
_MANY = 254


def _length(blob: bytes, pos: int) -> Tuple[int, int]:
    size = blob[pos]
    if size < 254:
        return size, pos + 1
    if size == 255:
        raise CodecError("a zipmap ends inside a pair", pos)
    return _LEN32.unpack_from(blob, pos + 1)[0], pos + 5


def decode(blob: bytes) -> List[Tuple[bytes, bytes]]:
    """``(field, value)`` pairs in order; CodecError for anything a server would not write."""
    end = len(blob) - 1
    if end < 1 or blob[end] != 0xFF:
        raise CodecError("a zipmap has no end mark", max(end, 0))
    pairs: List[Tuple[bytes, bytes]] = []
    pos = 1
    try:
        while pos < end:
            size, pos = _length(blob, pos)
            field = blob[pos : pos + size]
            pos += size
            size, pos = _length(blob, pos)
            slack = blob[pos]
            pos += 1
            pairs.append((field, blob[pos : pos + size]))
            pos += size + slack
    except (IndexError, struct.error):
        raise CodecError("a zipmap pair runs over the end", pos) from None
    if pos != end:
        raise CodecError("a zipmap pair runs over the end", pos)
    if blob[0] < _MANY and blob[0] != len(pairs):
        raise CodecError("a zipmap of %d pairs claims %d" % (len(pairs), blob[0]), 0)
    return pairs
