# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Where a value ends, without looking at what it holds: the hot path of reading a snapshot.

A skipper takes ``(buf, pos)`` and returns the position after the value. To stay fast it does not compare with
the buffer's end at each step: positions only grow, so a value that runs over the end shows either as an
IndexError or as a result beyond ``len(buf)``, and the caller takes both for "more bytes are needed".
Bytes that no amount of further data could mend raise :class:`CodecError`.

Source: ``src/rdb.c`` (rdbLoadObject, rdbLoadCheckModuleValue) in redis/redis and valkey-io/valkey.
"""

from __future__ import annotations

from itertools import repeat
from operator import length_hint
from typing import Callable, Dict

from . import types as t
from .errors import CodecError

Skipper = Callable[[bytes, int], int]

# No string or count comes near it: a longer one is a broken file, and waiting for its bytes would be endless.
LENGTH_MAX = 1 << 40

_from_bytes = int.from_bytes

# How many bytes a length takes, by its first; 0 for a byte that begins none.
_LENGTH_SIZE = (1,) * 0x40 + (2,) * 0x40 + (5, 9) + (0,) * 0x7E


def length_end(buf: bytes, pos: int) -> int:
    """The position after a length."""
    first = buf[pos]
    if first < 0x40:
        return pos + 1
    if first < 0x80:
        return pos + 2
    if first == 0x80:
        return pos + 5
    if first == 0x81:
        return pos + 9
    raise CodecError("no length begins with byte 0x%02x" % first, pos)


def number(buf: bytes, pos: int) -> int:
    """The length at ``pos`` (its end is :func:`length_end`), below ``LENGTH_MAX``."""
    first = buf[pos]
    if first < 0x40:
        return first
    if first < 0x80:
        return (first & 0x3F) << 8 | buf[pos + 1]
    if first == 0x80:
        return _from_bytes(buf[pos + 1 : pos + 5], "big")
    if first == 0x81:
        value = _from_bytes(buf[pos + 1 : pos + 9], "big")
        if value >= LENGTH_MAX:
            raise CodecError("a length of %d is more than any value has" % value, pos)
        return value
    raise CodecError("no length begins with byte 0x%02x" % first, pos)


def long_string_end(buf: bytes, pos: int) -> int:
    """The position after a string whose length takes more than two bytes, or which is encoded."""
    first = buf[pos]
    if first < 0xC0:
        return length_end(buf, pos) + number(buf, pos)
    if first == 0xC3:
        middle = length_end(buf, pos + 1)
        return length_end(buf, middle) + number(buf, pos + 1)
    if first < 0xC3:
        return pos + 1 + (1 << (first & 0x3F))
    raise CodecError("unknown string encoding 0x%02x" % first, pos)


def string_end(buf: bytes, pos: int) -> int:
    """The position after a string."""
    first = buf[pos]
    if first < 0x40:
        return pos + 1 + first
    if first < 0x80:
        return pos + 2 + ((first & 0x3F) << 8 | buf[pos + 1])
    return long_string_end(buf, pos)


# Bytes of a short string by its first; any other leads so far away that the next step ends in an IndexError.
_FAR = 1 << 60
_SHORT = (*range(1, 0x41), *((_FAR,) * 0xC0))
# Fewer elements are not worth the preparations.
_FEW = 16


def strings_end(buf: bytes, pos: int, count: int) -> int:
    """The position after ``count`` strings."""
    step = _SHORT
    careful = _FEW
    while count >= _FEW:
        # Unrolled and without a comparison, half of the time per element.
        before = count
        rounds = repeat(None, count >> 3)
        count &= 7
        start = pos
        try:
            for _unused in rounds:
                start = pos
                pos += step[buf[pos]]
                pos += step[buf[pos]]
                pos += step[buf[pos]]
                pos += step[buf[pos]]
                pos += step[buf[pos]]
                pos += step[buf[pos]]
                pos += step[buf[pos]]
                pos += step[buf[pos]]
            if pos < _FAR:
                break
            start = pos
        except IndexError:
            count += 8 * (length_hint(rounds) + 1)
        pos = start
        if pos >= _FAR:
            # The last one before this was the long one.
            pos -= _FAR
            count += 1
        # Where long ones are common, trying is not worth while.
        careful = min(count, 2 * careful if before - count < careful else _FEW)
        pos = _careful_end(buf, pos, careful)
        count -= careful
    return _careful_end(buf, pos, count)


def _careful_end(buf: bytes, pos: int, count: int) -> int:
    # The body of string_end again: a call for each element would double the time.
    for _unused in repeat(None, count):
        first = buf[pos]
        if first < 0x40:
            pos += 1 + first
        elif first < 0x80:
            pos += 2 + ((first & 0x3F) << 8 | buf[pos + 1])
        else:
            pos = long_string_end(buf, pos)
    return pos


def _series(buf: bytes, pos: int) -> int:
    first = buf[pos]
    if first < _FEW:
        return _careful_end(buf, pos + 1, first)
    return strings_end(buf, length_end(buf, pos), number(buf, pos))


def _pairs(buf: bytes, pos: int) -> int:
    first = buf[pos]
    if 2 * first < _FEW:
        return _careful_end(buf, pos + 1, 2 * first)
    return strings_end(buf, length_end(buf, pos), 2 * number(buf, pos))


def _zset(buf: bytes, pos: int) -> int:
    count = number(buf, pos)
    pos = length_end(buf, pos)
    for _unused in range(count):
        pos = string_end(buf, pos)
        size = buf[pos]
        pos += 1 if size >= 253 else 1 + size
    return pos


def _zset_2(buf: bytes, pos: int) -> int:
    count = number(buf, pos)
    pos = length_end(buf, pos)
    for _unused in range(count):
        first = buf[pos]
        if first < 0x40:
            pos += 9 + first
        else:
            pos = string_end(buf, pos) + 8
    return pos


def _quicklist(buf: bytes, pos: int) -> int:
    # Most lists are one node.
    return string_end(buf, pos + 1) if buf[pos] == 1 else _series(buf, pos)


def _quicklist_2(buf: bytes, pos: int) -> int:
    if buf[pos] == 1 and 1 <= buf[pos + 1] <= 2:
        return string_end(buf, pos + 2)
    count = number(buf, pos)
    pos = length_end(buf, pos)
    for _unused in range(count):
        container = buf[pos]
        if not 1 <= container <= 2:
            raise CodecError("a list node is of unknown kind %d" % container, pos)
        pos = string_end(buf, pos + 1)
    return pos


def _hash_metadata_pre_ga(buf: bytes, pos: int) -> int:
    count = number(buf, pos)
    pos = length_end(buf, pos)
    for _unused in range(count):
        pos = strings_end(buf, length_end(buf, pos), 2)
    return pos


def _hash_metadata(buf: bytes, pos: int) -> int:
    return _hash_metadata_pre_ga(buf, pos + 8)


def _hash_listpack_ex(buf: bytes, pos: int) -> int:
    return string_end(buf, pos + 8)


def _valkey_hash_2(buf: bytes, pos: int) -> int:
    count = number(buf, pos)
    pos = length_end(buf, pos)
    for _unused in range(count):
        pos = strings_end(buf, pos, 2) + 8
    return pos


def _stream(numbers: int, group_numbers: int, consumer_times: int) -> Skipper:
    lengths = (None,) * numbers

    def skip(buf: bytes, pos: int) -> int:
        if buf[pos] == 1 and buf[pos + 1] == 16:
            # Most streams are one node under one ID.
            pos = string_end(buf, pos + 18)
        else:
            pos = _pairs(buf, pos)
        for _unused in lengths:
            size = _LENGTH_SIZE[buf[pos]]
            pos = pos + size if size else length_end(buf, pos)
        groups = buf[pos]
        if not groups:
            return pos + 1
        groups = number(buf, pos)
        pos = length_end(buf, pos)
        for _unused in range(groups):
            pos = string_end(buf, pos)
            for _again in range(group_numbers):
                pos = length_end(buf, pos)
            pending = number(buf, pos)
            pos = length_end(buf, pos)
            for _again in range(pending):
                pos = length_end(buf, pos + 24)
            consumers = number(buf, pos)
            pos = length_end(buf, pos)
            for _again in range(consumers):
                pos = string_end(buf, pos) + 8 * consumer_times
                pos = length_end(buf, pos) + 16 * number(buf, pos)
        return pos

    return skip


def module_values_end(buf: bytes, pos: int) -> int:
    """The position after a module's tagged values and their end mark."""
    while number(buf, pos) != t.MODULE_EOF:
        pos = module_value_end(buf, pos)
    return length_end(buf, pos)


def module_value_end(buf: bytes, pos: int) -> int:
    """The position after one tagged value, which is not the end mark."""
    tag = number(buf, pos)
    end = length_end(buf, pos)
    if end > len(buf):
        # Half of the tag could look like another one.
        raise IndexError
    if tag in (t.MODULE_SINT, t.MODULE_UINT):
        return length_end(buf, end)
    if tag == t.MODULE_FLOAT:
        return end + 4
    if tag == t.MODULE_DOUBLE:
        return end + 8
    if tag == t.MODULE_STRING:
        return string_end(buf, end)
    raise CodecError("a module value has the unknown tag %d" % tag, pos)


def _module_2(buf: bytes, pos: int) -> int:
    return module_values_end(buf, length_end(buf, pos))


_COMMON: Dict[int, Skipper] = {
    t.STRING: string_end,
    t.LIST: _series,
    t.SET: _series,
    t.ZSET: _zset,
    t.HASH: _pairs,
    t.ZSET_2: _zset_2,
    t.MODULE_2: _module_2,
    t.HASH_ZIPMAP: string_end,
    t.LIST_ZIPLIST: string_end,
    t.SET_INTSET: string_end,
    t.ZSET_ZIPLIST: string_end,
    t.HASH_ZIPLIST: string_end,
    t.LIST_QUICKLIST: _quicklist,
    t.STREAM_LISTPACKS: _stream(3, 2, 1),
    t.HASH_LISTPACK: string_end,
    t.ZSET_LISTPACK: string_end,
    t.LIST_QUICKLIST_2: _quicklist_2,
    t.STREAM_LISTPACKS_2: _stream(8, 3, 1),
    t.SET_LISTPACK: string_end,
    t.STREAM_LISTPACKS_3: _stream(8, 3, 2),
}

SKIPPERS: Dict[str, Dict[int, Skipper]] = {
    t.REDIS: {
        **_COMMON,
        t.HASH_METADATA_PRE_GA: _hash_metadata_pre_ga,
        t.HASH_LISTPACK_EX_PRE_GA: string_end,
        t.HASH_METADATA: _hash_metadata,
        t.HASH_LISTPACK_EX: _hash_listpack_ex,
    },
    t.VALKEY: {**_COMMON, t.VALKEY_HASH_2: _valkey_hash_2},
}
