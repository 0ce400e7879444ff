# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A data set with every type in every encoding that a server can hold, the same for the same seed.

Not in it: zipmaps and other encodings that no server of ours writes any more. Those are vectors for unit tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from .access import Client, Identity, Writer
from .dataset_streams import write_streams
from .realistic import populate_realistic

__all__ = ["FAR_FUTURE_MS", "ODD_KEYS", "populate_every_type", "populate_realistic"]

# Absolute, so that two runs make the same bytes: 2100-01-01.
FAR_FUTURE_MS = 4102444800000

ODD_KEYS: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"\x00\xff\xfe binary \x80",
    b"new\nline",
    b"carriage\r\nreturn",
    b"quote\"s and 'quotes'",
    b"back\\slash",
    b"tab\tand space ",
    b"{tag}first",
    b"{tag}second",
    b"open{brace",
    b"empty{}tag",
    b"{}{nested}",
    "unicode-\u043a\u043b\u044e\u0447-\u9375-\U0001f511".encode(),
    b"*glob?[x]",
    b"$-1\r\n",
    b"k" * 1000,
)

_INT64_MAX, _INT64_MIN = 2**63 - 1, -(2**63)
# Each width an integer may take in a ziplist or listpack, and the first past it.
_EDGE_INTEGERS = sorted(
    {0, 1, 12, 13, -1}
    | {sign * 2**bits + step for bits in (6, 7, 12, 15, 23, 31, 62) for sign in (1, -1) for step in (-1, 0, 1)}
    | {_INT64_MAX, _INT64_MIN}
)
# Each width of a string's length.
_EDGE_LENGTHS = (0, 1, 11, 12, 63, 64, 252, 253, 254, 255, 4095, 4096)
# Look like integers, and must not become any.
_ALMOST_INTEGERS = (
    b"007",
    b"+1",
    b" 1",
    b"1 ",
    b"-0",
    b"1.0",
    b"0x10",
    b"9223372036854775808",
    b"-9223372036854775809",
)
_EDGE_SCORES = ("inf", "-inf", 0, -1, 1.5, -2.25, 1e300, -1e300, 1e-300, 3.0000000000000004, 2**53, 0.1, 1234567890123)

LIBRARIES = (
    (b"first", b"redis.register_function('first_answer', function(keys, args) return 42 end)"),
    (b"second", b"redis.register_function('second_echo', function(keys, args) return args[1] end)"),
    (
        b"third",
        b"redis.register_function{function_name='third_read', callback=function(keys) return "
        b"redis.call('GET', keys[1]) end, flags={'no-writes'}}",
    ),
)


class _Set:
    """Writes into one database and remembers the keys."""

    def __init__(self, writer: Writer, database: int, identity: Identity, random: Random) -> None:
        self.writer = writer
        self.database = database
        self.identity = identity
        self.random = random
        self.keys: dict[bytes, None] = {}

    def write(self, command: str, key: bytes, *words: Any) -> None:
        self.keys[key] = None
        self.writer.write(self.database, key, *command.split(), key, *words)

    def many(self, command: str, key: bytes, words: Sequence[Any], each: int = 500) -> None:
        """The same command with its arguments in several parts."""
        for first in range(0, len(words), each):
            self.write(command, key, *words[first : first + each])

    def noise(self, length: int) -> bytes:
        return bytes(self.random.getrandbits(8) for _byte in range(length))


def populate_every_type(
    client: Client,
    server_version: tuple[int, int],
    product: str,
    *,
    databases: Sequence[int] = (0, 1, 9),
    streams: bool = True,
    functions: bool = True,
    odd_keys: bool = True,
    seed: int = 1,
) -> list[tuple[int, bytes]]:
    """Write every type in every encoding into each database; return (database, key) of all of it.

    For a cluster pass its cluster client and ``databases=(0,)``; for twemproxy also ``streams=False`` and
    ``functions=False``.
    """
    identity = Identity(product, server_version)
    written: list[tuple[int, bytes]] = []
    with Writer(client) as writer:
        for database in databases:
            one = _Set(writer, database, identity, Random(seed * 1000003 + database))
            for write in (_strings, _lists, _sets, _sorted_sets, _hashes, _sketches, _expiries):
                write(one)
            if streams and identity.streams:
                write_streams(one.write, identity)
            if odd_keys:
                _odd_keys(one)
            written += [(database, key) for key in one.keys]
        if functions and identity.functions:
            _functions(writer)
    return written


def _strings(one: _Set) -> None:
    for number in _EDGE_INTEGERS:
        one.write("SET", b"string:int:%d" % number, number)
    for number, text in enumerate(_ALMOST_INTEGERS):
        one.write("SET", b"string:almost:%d" % number, text)
    # 20, 21: longest integer, LZF's least; 39, 44: last embstr by version; 64, 16384: width of the length.
    for length in (0, 1, 19, 20, 21, 39, 40, 44, 45, 63, 64, 16383, 16384, 100_000):
        one.write("SET", b"string:noise:%d" % length, one.noise(length))
    for length in (21, 1000, 300_000):
        one.write("SET", b"string:lzf:%d" % length, (b"abcdefgh" * length)[:length])
    one.write("SET", b"counter:max", _INT64_MAX - 1)
    one.write("INCR", b"counter:max")
    one.write("SET", b"counter:min", _INT64_MIN + 1)
    one.write("DECR", b"counter:min")
    one.write("INCRBYFLOAT", b"counter:float", "10.25")
    one.write("APPEND", b"string:appended", b"12")
    one.write("APPEND", b"string:appended", b"34")
    one.write("SETRANGE", b"string:hole", 5000, b"end")


def _lists(one: _Set) -> None:
    one.many("RPUSH", b"list:integers", _EDGE_INTEGERS)
    one.many("RPUSH", b"list:lengths", [one.noise(length) for length in _EDGE_LENGTHS])
    one.many("RPUSH", b"list:almost", _ALMOST_INTEGERS)
    one.write("RPUSH", b"list:one", b"x")
    one.write("RPUSH", b"list:empty-element", b"")
    one.many("RPUSH", b"list:many-nodes", [b"element %d %s" % (n, b"." * (n % 90)) for n in range(3000)])
    one.many("LPUSH", b"list:many-integers", [one.random.randrange(-(10**6), 10**6) for _element in range(2000)])
    one.write("RPUSH", b"list:plain", b"before", one.noise(70_000), b"p" * 70_000, b"after")
    one.many("RPUSH", b"list:same", [b"same"] * 700)


def _sets(one: _Set) -> None:
    for bits in (16, 32, 64):
        top = 2 ** (bits - 1)
        some = [top - 1, -top, 0, 1, -1] + [one.random.randrange(-top, top) for _member in range(60)]
        one.many("SADD", b"set:intset:%d" % bits, some)
    one.many("SADD", b"set:integers-many", list(range(-500, 1500)))
    one.many("SADD", b"set:small", [b"a", b"b", b"", b"12", b"007", one.noise(30)])
    one.write("SADD", b"set:one", b"only")
    one.many("SADD", b"set:long-member", [b"short", one.noise(300)])
    one.many("SADD", b"set:many", [b"member:%d" % number for number in range(1500)])
    one.many("SADD", b"set:mixed", [*range(400), *_ALMOST_INTEGERS])


def _sorted_sets(one: _Set) -> None:
    edges = [word for number, score in enumerate(_EDGE_SCORES) for word in (score, b"edge:%d" % number)]
    one.many("ZADD", b"zset:small:edges", edges)
    one.many("ZADD", b"zset:small:integers", [word for n in range(50) for word in (n, n * 1000 - 5)])
    one.write("ZADD", b"zset:small:same", *[word for n in range(20) for word in (1, b"m%d" % n)])
    one.write("ZADD", b"zset:one", "0.1", b"")
    many = [word for n in range(1000) for word in (repr(one.random.uniform(-1e6, 1e6)), b"member:%d" % n)]
    one.many("ZADD", b"zset:many", many + edges)
    one.many("ZADD", b"zset:long-member", [1, b"short", "2.5", one.noise(300)])


def _hashes(one: _Set) -> None:
    one.write("HSET", b"hash:one", b"field", b"value")
    one.many("HMSET", b"hash:integers", [word for n in _EDGE_INTEGERS for word in (b"f%d" % n, n)])
    one.many("HMSET", b"hash:small", [b"", b"empty field", b"empty", b"", b"12", b"34", one.noise(20), one.noise(40)])
    one.many("HMSET", b"hash:many", [word for n in range(1500) for word in (b"field:%d" % n, b"value:%d" % (n * n))])
    one.many("HMSET", b"hash:long-value", [b"short", b"1", b"long", one.noise(5000), b"lzf", b"z" * 5000])
    one.write("HINCRBY", b"hash:counter", b"max", _INT64_MAX)
    one.write("HINCRBY", b"hash:counter", b"min", _INT64_MIN)
    if one.identity.field_expiry:
        _field_expiries(one)


def _field_expiries(one: _Set) -> None:
    for name, size in ((b"small", 10), (b"many", 800)):
        key = b"hash:field-expiry:" + name
        one.many("HSET", key, [word for n in range(size) for word in (b"field:%d" % n, b"v%d" % n)])
        for number in range(0, size, 3):
            when = FAR_FUTURE_MS + number * 1001
            one.write("HPEXPIREAT", key, when, "FIELDS", 1, b"field:%d" % number)
    one.write("HSET", b"hash:field-expiry:all", b"a", b"1", b"b", b"2")
    one.write("HPEXPIREAT", b"hash:field-expiry:all", FAR_FUTURE_MS, "FIELDS", 2, b"a", b"b")
    one.write("HSET", b"hash:field-expiry:and-key", b"a", b"1", b"b", b"2")
    one.write("HPEXPIREAT", b"hash:field-expiry:and-key", FAR_FUTURE_MS + 5, "FIELDS", 1, b"b")
    one.write("PEXPIREAT", b"hash:field-expiry:and-key", FAR_FUTURE_MS + 9)


def _sketches(one: _Set) -> None:
    """HyperLogLogs, bitmaps and places: other views of strings and sorted sets."""
    one.many("PFADD", b"hll:sparse", [b"visitor:%d" % number for number in range(50)])
    one.many("PFADD", b"hll:dense", [b"visitor:%d" % number for number in range(20_000)])
    one.write("SETBIT", b"bitmap:far", 100_000, 1)
    for number in range(0, 256, 3):
        one.write("SETBIT", b"bitmap:near", number, 1)
    if one.identity.version >= (3, 2):
        places = [(13.361389, 38.115556, b"Palermo"), (15.087269, 37.502669, b"Catania"), (-179.9, -85.05, b"edge")]
        one.many("GEOADD", b"geo:places", [word for place in places for word in place])


def _expiries(one: _Set) -> None:
    one.write("SET", b"expiry:string", b"v")
    one.write("RPUSH", b"expiry:list", b"a", b"b")
    one.write("SADD", b"expiry:set", b"a", 1)
    one.write("ZADD", b"expiry:zset", 1, b"a")
    one.write("HSET", b"expiry:hash", b"f", b"v")
    for number, kind in enumerate((b"string", b"list", b"set", b"zset", b"hash")):
        one.write("PEXPIREAT", b"expiry:" + kind, FAR_FUTURE_MS + 12345 * number + 1)
    one.write("SET", b"expiry:removed", b"v")
    one.write("PEXPIREAT", b"expiry:removed", FAR_FUTURE_MS)
    one.write("PERSIST", b"expiry:removed")


def _odd_keys(one: _Set) -> None:
    for number, key in enumerate(ODD_KEYS):
        if number % 3 == 0:
            one.write("SET", key, one.noise(10))
        elif number % 3 == 1:
            one.write("RPUSH", key, b"a", key)
        else:
            one.write("HSET", key, key, b"v")


def _functions(writer: Writer) -> None:
    for name, body in LIBRARIES:
        writer.everywhere("FUNCTION", "LOAD", "REPLACE", b"#!lua name=%s\n%s\n" % (name, body))
