# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Intsets: small sets of integers.

Source: ``src/intset.c`` in redis/redis. The width of a member (2, 4 or 8) and the count, 4 bytes each, then the
members in ascending order; all little endian.
"""

from __future__ import annotations

import struct
from typing import List

from .errors import CodecError

_HEADER = struct.Struct("<II")
_LETTERS = {2: "h", 4: "i", 8: "q"}


def decode(blob: bytes) -> List[bytes]:
    """The members as digits, in ascending order; CodecError for anything a server would not write."""
    if len(blob) < _HEADER.size:
        raise CodecError("an intset is shorter than its header", 0)
    width, count = _HEADER.unpack_from(blob)
    if width not in _LETTERS:
        raise CodecError("an intset has no members of %d bytes" % width, 0)
    if len(blob) != _HEADER.size + width * count:
        raise CodecError("an intset of %d bytes cannot hold %d members of %d" % (len(blob), count, width), 4)
    numbers = struct.unpack_from("<%d%s" % (count, _LETTERS[width]), blob, _HEADER.size)
    if any(left >= right for left, right in zip(numbers, numbers[1:])):
        raise CodecError("the members of an intset are not in order", _HEADER.size)
    return [b"%d" % number for number in numbers]
