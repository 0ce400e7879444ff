# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values written by hand in every type, files of them, and ways to run a decoder over them."""

from __future__ import annotations

import itertools
import struct
from typing import Any, NamedTuple

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec import values, wire
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter

INF = float("inf")
FAR = 4102444800000
HINTS = (None, (b"FREQ", 200), (b"IDLETIME", 77), (b"IDLETIME", 100_000))
EXPIRIES = (None, FAR, 1, -5)


class Vector(NamedTuple):
    """``elements``: what the element reader must give, all together."""

    name: str
    type_byte: int
    dialect: str
    body: bytes
    elements: list[Any]


def blob(data: bytes) -> bytes:
    return wire.write_string(data)


# 1, -3, 4095, 300000, "ab" as a listpack: 7 bits, 13 bits twice, 24 bits, a short string.
LISTPACK = bytes.fromhex("18000000 0500 0101 dffd02 cfff02 f2e0930404 82616203 ff")
LISTPACK_ITEMS = [b"1", b"-3", b"4095", b"300000", b"ab"]
# The same words as a ziplist: immediate 1, an 8-bit -3, a 16-bit 4095, a 24-bit 300000, a short string.
ZIPLIST = bytes.fromhex("1d000000 18000000 0500 00f2 02fefd 03c0ff0f 04f0e09304 05026162 ff")
INTSET = struct.pack("<IIhhh", 2, 3, -5, 0, 7)
ZIPMAP = b"\x02\x01a\x01\x00b\x02cc\x03\x02dddzz\xff"
PAIR_LISTPACK = bytes.fromhex("0d000000 0200 816602 817602 ff")
SCORE_LISTPACK = bytes.fromhex("0f000000 0200 816d02 83312e3504 ff")
PAIR_ZIPLIST = bytes.fromhex("11000000 0d000000 0200 000166 030176 ff")
SCORE_ZIPLIST = bytes.fromhex("13000000 0d000000 0200 00016d 0303312e35 ff")
# f -> v, never; g -> w, at FAR.
_FAR_ELEMENT = b"\xf4" + struct.pack("<q", FAR) + b"\x09"
EXPIRING_LISTPACK = b"".join(
    (struct.pack("<IH", 31, 6), b"\x81f\x02\x81v\x02", b"\x00\x01", b"\x81g\x02\x81w\x02", _FAR_ELEMENT, b"\xff")
)
SCORES = [(b"a", 1.5), (b"b", INF), (b"c", -INF), (b"d", -2.0)]
_EXPIRING = [(b"f", b"v", 0), (b"g", b"w", FAR)]


def vectors() -> list[Vector]:
    """Every type that can be decoded, other than modules and streams."""
    common = [
        ("string", t.STRING, blob(b"hello"), [b"hello"]),
        ("string int8", t.STRING, b"\xc0\xff", [b"-1"]),
        ("string int16", t.STRING, b"\xc1\xff\x7f", [b"32767"]),
        ("string int32", t.STRING, b"\xc2\x00\x00\x00\x80", [b"-2147483648"]),
        ("string lzf", t.STRING, b"\xc3\x04\x09\x00a\xc0\x00", [b"a" * 9]),
        ("string 32-bit length", t.STRING, b"\x80\x00\x00\x00\x02ab", [b"ab"]),
        ("string 64-bit length", t.STRING, b"\x81\x00\x00\x00\x00\x00\x00\x00\x02ab", [b"ab"]),
        ("list", t.LIST, b"\x03\x01a\xc0\x05\x00", [b"a", b"5", b""]),
        ("set", t.SET, b"\x02\x01a\x01b", [b"a", b"b"]),
        ("zset", t.ZSET, b"\x04\x01a\x031.5\x01b\xfe\x01c\xff\x01d\x02-2", SCORES),
        ("zset_2", t.ZSET_2, b"\x02\x01a" + struct.pack("<d", 1.5) + b"\x01b" + struct.pack("<d", -INF), [(b"a", 1.5), (b"b", -INF)]),
        ("hash", t.HASH, b"\x02\x01f\x01v\x01g\xc0\x07", [(b"f", b"v", 0), (b"g", b"7", 0)]),
        ("zipmap", t.HASH_ZIPMAP, blob(ZIPMAP), [(b"a", b"b", 0), (b"cc", b"ddd", 0)]),
        ("list_ziplist", t.LIST_ZIPLIST, blob(ZIPLIST), LISTPACK_ITEMS),
        ("set_intset", t.SET_INTSET, blob(INTSET), [b"-5", b"0", b"7"]),
        ("zset_ziplist", t.ZSET_ZIPLIST, blob(SCORE_ZIPLIST), [(b"m", 1.5)]),
        ("hash_ziplist", t.HASH_ZIPLIST, blob(PAIR_ZIPLIST), [(b"f", b"v", 0)]),
        ("quicklist", t.LIST_QUICKLIST, b"\x02" + blob(ZIPLIST) * 2, LISTPACK_ITEMS * 2),
        ("hash_listpack", t.HASH_LISTPACK, blob(PAIR_LISTPACK), [(b"f", b"v", 0)]),
        ("zset_listpack", t.ZSET_LISTPACK, blob(SCORE_LISTPACK), [(b"m", 1.5)]),
        ("quicklist_2", t.LIST_QUICKLIST_2, b"\x02\x02" + blob(LISTPACK) + b"\x01\x03big", [*LISTPACK_ITEMS, b"big"]),
        ("set_listpack", t.SET_LISTPACK, blob(LISTPACK), LISTPACK_ITEMS),
    ]
    found = [
        Vector(name + " " + dialect, type_byte, dialect, body, elements)
        for name, type_byte, body, elements in common
        for dialect in (t.REDIS, t.VALKEY)
    ]
    far = wire.write_length(FAR)
    tail = b"\x01f\x01v"
    found += [
        Vector("pre_ga", t.HASH_METADATA_PRE_GA, t.REDIS, b"\x02\x00" + tail + far + b"\x01g\x01w", _EXPIRING),
        Vector("pre_ga lp", t.HASH_LISTPACK_EX_PRE_GA, t.REDIS, blob(EXPIRING_LISTPACK), _EXPIRING),
        Vector("metadata", t.HASH_METADATA, t.REDIS, wire.write_ms(FAR - 9) + b"\x02\x00" + tail + b"\x0a\x01g\x01w", _EXPIRING),
        Vector("lp_ex", t.HASH_LISTPACK_EX, t.REDIS, wire.write_ms(FAR) + blob(EXPIRING_LISTPACK), _EXPIRING),
        Vector(
            "hash_2",
            t.VALKEY_HASH_2,
            t.VALKEY,
            b"\x02" + tail + wire.write_ms(-1) + b"\x01g\x01w" + wire.write_ms(FAR),
            _EXPIRING,
        ),
    ]
    return found


def elements_of(value: values.Value) -> list[Any]:
    """The elements of a decoded value, as a reader would have given them."""
    if isinstance(value, values.String):
        return [value.value]
    if isinstance(value, values.Set):
        return value.members
    if isinstance(value, values.Stream):
        return value.nodes
    if isinstance(value, (values.List, values.ZSet, values.Hash)):
        return value.items
    raise TypeError("a module has no elements")


def read_in_pieces(type_byte: int, dialect: str, body: bytes, size: int) -> tuple[list[Any], int, Any]:
    """Feed ``size`` bytes at a time, dropping what was consumed: the elements, the bytes used, the reader."""
    reader = values.element_reader(type_byte, dialect)
    buf = b""
    elements: list[Any] = []
    used = 0
    for first in range(0, len(body) + 1, size):
        buf += body[first : first + size]
        more, pos, done = reader.feed(buf, 0)
        elements += more
        used += pos
        buf = buf[pos:]
        if done:
            return elements, used, reader
    raise EOFError("not done after all the bytes")


def small_file(version: int, dialect: str = t.REDIS, plain: bool = False) -> bytes:
    """Every type of the version once, with expiries and hints in turn unless ``plain``, over several databases."""
    writer = RdbWriter(version, dialect)
    parts = [writer.header(((b"redis-ver", b"7.2.0"), (b"redis-bits", b"64"), (b"lua", b"return 1")))]
    if version >= 10:
        parts.append(writer.function(b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"))
    extra = itertools.cycle(itertools.product(EXPIRIES, HINTS))
    for number, vector in enumerate(vectors()):
        if vector.dialect == dialect and t.TYPES[dialect][vector.type_byte].since <= version:
            expire, hint = (None, None) if plain else next(extra)
            key = b"%d:%s" % (number, vector.name.encode()) if number % 5 else b"\xff" * 70 + b"%d" % number
            parts.append(writer.entry(number // 8, vector.type_byte, key, vector.body, expire, hint))
    parts.append(writer.trailer())
    return b"".join(parts)


SMALL = {
    "redis-6": small_file(6),
    "redis-9": small_file(9),
    "redis-12": small_file(12),
    "valkey-80": small_file(80, t.VALKEY),
}
