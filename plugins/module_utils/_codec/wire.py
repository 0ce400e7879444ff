# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The letters RDB is written in: lengths, strings, doubles, times.

Source: ``src/rdb.c`` (rdbLoadLenByRef, rdbGenericLoadStringObject, rdbLoadDoubleValue, rdbLoadMillisecondTime)
in redis/redis. Every reader takes ``(buf, pos)`` with ``buf`` bytes-like, and returns what it read and the
position after it. An item that runs over the end of ``buf`` raises :class:`TruncatedError`, whatever
length it claims: nothing is allocated before its bytes are there. Bytes that no writer produces raise
:class:`CodecError`.
"""

from __future__ import annotations

import math
import struct
from typing import Tuple

from . import lzf
from .errors import CodecError, TruncatedError

ENC_INT8 = 0
ENC_INT16 = 1
ENC_INT32 = 2
ENC_LZF = 3

_INT16 = struct.Struct("<h")
_INT32 = struct.Struct("<i")
_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_LEN32 = struct.Struct(">I")
_LEN64 = struct.Struct(">Q")

_INF = float("inf")
_OLD_DOUBLES = {253: float("nan"), 254: _INF, 255: -_INF}


def read_length_or_encoding(buf: bytes, pos: int) -> Tuple[int, bool, int]:
    """``(number, encoded, end)``: a length, or with ``encoded`` the number of a string encoding (``ENC_*``)."""
    try:
        first = buf[pos]
        if first < 0x40:
            return first, False, pos + 1
        if first < 0x80:
            return (first & 0x3F) << 8 | buf[pos + 1], False, pos + 2
        if first >= 0xC0:
            return first & 0x3F, True, pos + 1
        if first == 0x80:
            return _LEN32.unpack_from(buf, pos + 1)[0], False, pos + 5
        if first == 0x81:
            return _LEN64.unpack_from(buf, pos + 1)[0], False, pos + 9
    except (IndexError, struct.error):
        raise TruncatedError("the data ends inside a length", pos) from None
    raise CodecError("no length begins with byte 0x%02x" % first, pos)


def read_length(buf: bytes, pos: int) -> Tuple[int, int]:
    """``(length, end)``; an unsigned number below 2**64."""
    number, encoded, end = read_length_or_encoding(buf, pos)
    if encoded:
        raise CodecError("a string encoding stands where a length belongs", pos)
    return number, end


def read_string(buf: bytes, pos: int) -> Tuple[bytes, int]:
    """``(string, end)`` with integers turned into their digits and LZF undone."""
    # Nearly every string is short and plain: one that is takes half the time of the others.
    end = pos + 1
    if end <= len(buf):
        first = buf[pos]
        if first < 0x40:
            stop = end + first
            if stop <= len(buf):
                return bytes(buf[end:stop]), stop
    number, encoded, end = read_length_or_encoding(buf, pos)
    if not encoded:
        stop = end + number
        if stop > len(buf):
            raise TruncatedError("the data ends inside a string of %d bytes" % number, pos)
        return bytes(buf[end:stop]), stop
    try:
        if number == ENC_INT8:
            value = buf[end]
            return b"%d" % (value - 256 if value > 127 else value), end + 1
        if number == ENC_INT16:
            return b"%d" % _INT16.unpack_from(buf, end), end + 2
        if number == ENC_INT32:
            return b"%d" % _INT32.unpack_from(buf, end), end + 4
    except (IndexError, struct.error):
        raise TruncatedError("the data ends inside an integer", pos) from None
    if number != ENC_LZF:
        raise CodecError("unknown string encoding %d" % number, pos)
    packed, end = read_length(buf, end)
    plain, end = read_length(buf, end)
    lzf.check_ratio(packed, plain, pos)
    stop = end + packed
    if stop > len(buf):
        raise TruncatedError("the data ends inside a compressed string of %d bytes" % packed, pos)
    try:
        return lzf.decompress(bytes(buf[end:stop]), plain), stop
    except CodecError as exc:
        raise exc.shift(end) from None


def skip_string(buf: bytes, pos: int) -> int:
    """The position after a string, without decoding it (a compressed one is not unpacked)."""
    number, encoded, end = read_length_or_encoding(buf, pos)
    if not encoded:
        end += number
    elif number == ENC_LZF:
        packed, end = read_length(buf, end)
        plain, end = read_length(buf, end)
        lzf.check_ratio(packed, plain, pos)
        end += packed
    elif number <= ENC_INT32:
        end += 1 << number
    else:
        raise CodecError("unknown string encoding %d" % number, pos)
    if end > len(buf):
        raise TruncatedError("the data ends inside a string", pos)
    return end


def write_length(number: int) -> bytes:
    """The shortest form; ``number`` is at least 0 and below 2**64."""
    if number < 0x40:
        return b"%c" % number
    if number < 0x4000:
        return b"%c%c" % (0x40 | number >> 8, number & 0xFF)
    if number < 1 << 32:
        return b"\x80" + _LEN32.pack(number)
    return b"\x81" + _LEN64.pack(number)


def write_string(value: bytes) -> bytes:
    """Length and bytes as they are: every version reads that."""
    return write_length(len(value)) + value


def read_double(buf: bytes, pos: int) -> Tuple[float, int]:
    """A binary double, 8 bytes little endian (RDB 8 and later)."""
    try:
        return _DOUBLE.unpack_from(buf, pos)[0], pos + 8
    except struct.error:
        raise TruncatedError("the data ends inside a double", pos) from None


def write_double(value: float) -> bytes:
    """The counterpart of :func:`read_double`."""
    return _DOUBLE.pack(value)


def read_float(buf: bytes, pos: int) -> Tuple[float, int]:
    """A binary float, 4 bytes little endian (module values only)."""
    try:
        return _FLOAT.unpack_from(buf, pos)[0], pos + 4
    except struct.error:
        raise TruncatedError("the data ends inside a float", pos) from None


def read_old_double(buf: bytes, pos: int) -> Tuple[float, int]:
    """A score of type 3: one length byte and ASCII, where lengths 253, 254, 255 mean nan, +inf, -inf."""
    if pos >= len(buf):
        raise TruncatedError("the data ends before a score", pos)
    size = buf[pos]
    pos += 1
    if size >= 253:
        return _OLD_DOUBLES[size], pos
    stop = pos + size
    if stop > len(buf):
        raise TruncatedError("the data ends inside a score", pos - 1)
    return parse_double(bytes(buf[pos:stop]), pos), stop


def write_old_double(value: float) -> bytes:
    """The counterpart of :func:`read_old_double`: as many digits as are needed to read the same double again."""
    if math.isnan(value):
        return b"\xfd"
    if value == _INF:
        return b"\xfe"
    if value == -_INF:
        return b"\xff"
    text = b"%.17g" % value
    return b"%c" % len(text) + text


def parse_double(text: bytes, offset: int = 0) -> float:
    """A double in ASCII as Redis prints it (``inf``, ``-inf`` and ``nan`` included); CodecError for anything else."""
    # float() also reads blanks and underscores around digits, which no server writes.
    if not text or text.strip(b"0123456789+-.eEinfatyINFATY"):
        raise CodecError("a score is not a number", offset)
    try:
        return float(text)
    except ValueError:
        raise CodecError("a score is not a number", offset) from None


def read_ms(buf: bytes, pos: int) -> Tuple[int, int]:
    """A time in milliseconds since 1970, 8 bytes little endian, signed."""
    try:
        return _INT64.unpack_from(buf, pos)[0], pos + 8
    except struct.error:
        raise TruncatedError("the data ends inside a time", pos) from None


def write_ms(value: int) -> bytes:
    """The counterpart of :func:`read_ms`."""
    return _INT64.pack(value)
