# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a file's content, complete or not."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import listpack, lzf, types as t, wire
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._source.big_keys import BigKeys, count_elements
from ansible_collections.dcs.migration.plugins.module_utils._source.file_info import describe_files
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.plugins.module_utils._source.inventory import Inventory, take
from ansible_collections.dcs.migration.tests.support.datasets import LIBRARIES, populate_every_type
from ansible_collections.dcs.migration.tests.support.params import server_params
from ansible_collections.dcs.migration.tests.support.servers import RedisServer
from ansible_collections.dcs.migration.tests.unit.codec.vectors import vectors

FAR = 4102444800000
KIB = 1024


class Maker:
    """Writes a snapshot entry by entry."""

    def __init__(self, version: int = 11, dialect: str = t.REDIS, aux: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.writer = RdbWriter(version, dialect)
        self.parts = [self.writer.header(aux)]

    def add(self, type_byte: int, key: bytes, body: bytes, db: int = 0, expire: int | None = None) -> Maker:
        self.parts.append(self.writer.entry(db, type_byte, key, body, expire))
        return self

    def string(self, key: bytes, value: bytes, db: int = 0, expire: int | None = None) -> Maker:
        return self.add(t.STRING, key, wire.write_string(value), db, expire)

    def data(self) -> bytes:
        return b"".join([*self.parts, self.writer.trailer()])


def packed(length: int) -> bytes:
    """A compressed string of that many times the same byte."""
    out = b"\x00a"
    left = length - 1
    while left > 2:
        run = min(left, 264)
        if left - run in (1, 2):
            run -= 3
        out += (b"%c" % (0xE0) + b"%c" % (run - 9) if run > 8 else b"%c" % (run - 2 << 5)) + b"\x00"
        left -= run
    out += b"" if not left else b"%c" % (left - 1) + b"a" * left
    assert lzf.decompress(out, length) == b"a" * length
    return b"\xc3" + wire.write_length(len(out)) + wire.write_length(length) + out


def look(tmp_path: Path, data: bytes, name: str = "dump.rdb", **options: Any) -> Inventory:
    (tmp_path / name).write_bytes(data)
    (file,) = open_files([str(tmp_path / name)])
    return take(file, **options)


# --- snapshots ---------------------------------------------------------------------------------------------------------


def test_the_facts_of_a_snapshot(tmp_path: Path) -> None:
    aux = ((b"redis-ver", b"7.2.4"), (b"ctime", b"1700000000"), (b"used-mem", b"1048576"), (b"lua", b"return 1"), (b"aof-base", b"0"))
    maker = Maker(aux=aux)
    maker.parts.append(maker.writer.function(b"#!lua name=my_lib\nredis.register_function('f', 1)"))
    maker.parts.append(maker.writer.function(b"no shebang"))
    maker.string(b"a", b"x" * 10).string(b"b", b"y", expire=FAR).string(b"c", b"z", expire=1000)
    maker.add(t.SET, b"s", b"\x02\x01a\x01b", db=3, expire=FAR).add(t.STRING, b"p", packed(1000), db=3)
    found = look(tmp_path, maker.data())
    assert (found.format, found.preamble, found.rdb_version, found.dialect) == ("rdb", False, 11, "redis")
    assert (found.product, found.version, found.created, found.used_memory) == ("redis", "7.2.4", 1700000000, 1048576)
    assert (found.keys, found.snapshot_keys, found.expires, found.expired) == (5, 5, 3, 1)
    assert found.databases == [{"db": 0, "keys": 3, "expires": 2}, {"db": 3, "keys": 2, "expires": 1}]
    assert (found.types, found.type_bytes) == ({"string": 4, "set": 1}, {0: 4, 2: 1})
    assert found.value_bytes == {"string": 11 + 2 + 2 + len(packed(1000)), "set": 5}
    assert (found.compressed, found.functions, found.scripts, found.modules) == (1, ["my_lib", "?"], 1, [])
    assert (found.big_keys, found.big_keys_total, found.commands) == ([], 0, {})
    assert (found.complete, found.error, found.size) == (True, None, len(maker.data()))


def test_an_empty_snapshot(tmp_path: Path) -> None:
    found = look(tmp_path, Maker().data())
    assert (found.complete, found.keys, found.databases, found.types) == (True, 0, [], {})
    assert (found.product, found.version, found.created) == (None, None, None)


@pytest.mark.parametrize(
    ("aux", "expected"),
    [
        (((b"redis-ver", b"7.2.4"), (b"valkey-ver", b"9.1.0")), ("valkey", "9.1.0")),
        (((b"valkey-ver", b"9.1.0"), (b"redis-ver", b"7.2.4")), ("valkey", "9.1.0")),
        (((b"redis-ver", b"6.3.4"), (b"mvcc-tstamp", b"123")), ("keydb", "6.3.4")),
        (((b"redis-bits", b"64"),), (None, None)),
    ],
)
def test_who_wrote_it(tmp_path: Path, aux: tuple[tuple[bytes, bytes], ...], expected: Any) -> None:
    found = look(tmp_path, Maker(aux=aux).data())
    assert (found.product, found.version) == expected


def test_modules(tmp_path: Path) -> None:
    json_id = 0x4FBA3C3E2E4C8C01
    value = wire.write_length(json_id) + b"\x05\x01x\x00"
    found = look(tmp_path, Maker(9).add(t.MODULE_2, b"k", value).add(t.MODULE_2, b"l", value).data())
    assert found.types == {"module": 2} and len(found.modules) == 1 and len(found.modules[0]) == 9


def test_every_kind_of_value(tmp_path: Path) -> None:
    for version, dialect in ((12, t.REDIS), (80, t.VALKEY)):
        maker = Maker(version, dialect)
        wanted = [vector for vector in vectors() if vector.dialect == dialect]
        for number, vector in enumerate(wanted):
            maker.add(vector.type_byte, b"%d" % number, vector.body)
        found = look(tmp_path, maker.data())
        assert found.complete and found.keys == len(wanted) and sum(found.value_bytes.values()) == sum(len(v.body) for v in wanted)


def test_elements_are_counted_as_they_are_read() -> None:
    for vector in vectors():
        expected = None if vector.type_byte == t.STRING else len(vector.elements)
        assert count_elements(vector.type_byte, vector.body + b"x", 0, vector.dialect) == expected, vector.name


# --- big keys ----------------------------------------------------------------------------------------------------------


def names(found: Inventory) -> list[bytes]:
    return [big.key for big in found.big_keys]


def series(count: int, size: int = 4) -> bytes:
    return wire.write_length(count) + wire.write_string(b"e" * size) * count


def fields(count: int, size: int) -> bytes:
    return wire.write_length(count) + wire.write_string(b"e" * size) * (2 * count)


def test_big_keys_by_default(tmp_path: Path) -> None:
    maker = Maker().string(b"small", b"x" * 10 * KIB).string(b"big", b"x" * (10 * KIB + 1), db=2, expire=FAR)
    maker.add(t.STRING, b"packed-small", packed(10 * KIB)).add(t.STRING, b"packed-big", packed(200_000))
    maker.add(t.SET, b"set-small", series(5000)).add(t.SET, b"set-big", series(5001)).add(t.LIST, b"list-long", series(20, 50_000))
    found = look(tmp_path, maker.data())
    assert names(found) == [b"packed-big", b"set-big", b"big"] and found.big_keys_total == 3
    big = found.big_keys[-1]
    assert (big.db, big.kind, big.size, big.elements, big.expire_ms) == (2, "string", 10 * KIB + 1, None, FAR)
    assert (found.big_keys[0].size, found.big_keys[1].elements) == (200_000, 5001)


def test_one_threshold_for_every_type(tmp_path: Path) -> None:
    maker = Maker().string(b"s1", b"x" * 1000).string(b"s2", b"x" * 1001)
    maker.add(t.HASH, b"h1", fields(5, 50)).add(t.HASH, b"h2", fields(50, 50))
    found = look(tmp_path, maker.data(), big_key_bytes=1000)
    assert names(found) == [b"h2", b"s2"]
    assert names(look(tmp_path, maker.data(), big_key_bytes=100_000, big_key_elements=40)) == [b"h2"]
    assert len(names(look(tmp_path, maker.data(), big_key_bytes=0))) == 4


def test_compressed_collections(tmp_path: Path) -> None:
    """What is small in the file can be many elements."""
    blob = listpack.encode([b"7"] * 6000)
    assert int.from_bytes(blob[4:6], "little") == 6000
    # By hand: the head as it is, then runs that repeat the element.
    body = blob[6:-1]
    head = b"\x07" + blob[:6] + body[:2]
    out, left = head, len(body) - 2
    while left:
        run = min(left, 264)
        run = run if left - run not in (1, 2) else run - 3
        out += b"\xe0%c\x01" % (run - 9) if run > 8 else b"%c\x01" % (run - 2 << 5)
        left -= run
    out += b"\x00\xff"
    assert lzf.decompress(out, len(blob)) == blob
    lzf_blob = b"\xc3" + wire.write_length(len(out)) + wire.write_length(len(blob)) + out
    assert len(lzf_blob) < 300
    maker = Maker().add(t.SET_LISTPACK, b"set", lzf_blob).add(t.HASH_LISTPACK, b"hash", lzf_blob)
    maker.add(t.LIST_QUICKLIST_2, b"list", b"\x03\x02" + lzf_blob + b"\x01\x03big\x02" + lzf_blob)
    found = look(tmp_path, maker.data())
    assert {big.key: big.elements for big in found.big_keys} == {b"set": 6000, b"list": 12001}
    assert look(tmp_path, maker.data(), big_key_elements=2999).big_keys_total == 3


def test_more_elements_than_a_head_can_tell() -> None:
    blob = listpack.encode([b"1"] * 70_000)
    assert blob[4:6] == b"\xff\xff"
    assert count_elements(t.SET_LISTPACK, wire.write_string(blob), 0, t.REDIS) == 70_000


def test_only_the_largest_are_named(tmp_path: Path) -> None:
    maker = Maker()
    sizes = random.Random(4).sample(range(11_000, 12_000), 300)
    for size in sizes:
        maker.string(b"%d" % size, b"x" * size)
    found = look(tmp_path, maker.data(), limit=10)
    assert names(found) == [b"%d" % size for size in sorted(sizes, reverse=True)[:10]] and found.big_keys_total == 300
    assert look(tmp_path, maker.data(), limit=0).big_keys_total == 300


def test_values_that_come_in_parts(tmp_path: Path) -> None:
    """Those of more than eight megabytes."""
    maker = Maker().string(b"string", b"x" * (9 << 20)).add(t.SET, b"set", series(100_000, 100), expire=1)
    maker.add(t.HASH, b"hash", fields(50_000, 200))
    found = look(tmp_path, maker.data())
    assert {big.key: (big.size, big.elements) for big in found.big_keys} == {
        b"string": (9 << 20, None),
        b"set": (len(series(100_000, 100)), 100_000),
        b"hash": (len(fields(50_000, 200)), 50_000),
    }
    assert (found.keys, found.expires, found.expired, found.types) == (3, 1, 1, {"string": 1, "set": 1, "hash": 1})
    assert found.value_bytes["string"] == (9 << 20) + 5


# --- damage ------------------------------------------------------------------------------------------------------------


def test_what_was_understood_before_the_damage(tmp_path: Path) -> None:
    maker = Maker(aux=((b"redis-ver", b"7.2.4"),))
    for number in range(1000):
        maker.string(b"%d" % number, b"v" * 100)
    data = maker.data()
    torn = look(tmp_path, data[: len(data) // 2])
    assert not torn.complete and torn.error and "truncated" in torn.error and "at byte %d" % (len(data) // 2) in torn.error
    assert torn.format == "rdb" and torn.version == "7.2.4" and 480 < (torn.keys or 0) <= 500
    flipped = look(tmp_path, data[:-200] + b"!" + data[-199:])
    assert not flipped.complete and "checksum" in (flipped.error or "") and flipped.keys == 1000


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = Maker(aux=((b"redis-ver", b"7"),)).string(b"a", b"x" * 30).add(t.SET, b"s", b"\x01\x01a", db=1).data()
    for size in range(1, len(data)):
        found = look(tmp_path, data[:size])
        assert not found.complete and found.error, size


@pytest.mark.parametrize(
    ("data", "form", "words"),
    [
        (b"hello\n", "unknown", "text"),
        (b"\x1f\x8b\x08" + bytes(30), "unknown", "gzip"),
        (b"REDIS0099" + bytes(30), "rdb", "version 99"),
        (b"VALKEY199" + bytes(30), "rdb", "version 199"),
        (b"*1\r\n$4\r\nPI", "aof", "truncated"),
        (b"*x\r\n", "aof", "damaged"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, data: bytes, form: str, words: str) -> None:
    found = look(tmp_path, data)
    assert (found.format, found.complete) == (form, False) and words in (found.error or "")


# --- AOF ---------------------------------------------------------------------------------------------------------------

AOF = b"".join(
    (
        command("SELECT", "0"),
        command("SET", "a", "1"),
        command("set", "b", "2"),
        command("SELECT", "5"),
        command("MULTI"),
        command("SADD", "s", "1", "2"),
        command("EXEC"),
    )
)


def test_an_aof(tmp_path: Path) -> None:
    found = look(tmp_path, AOF, "appendonly.aof")
    assert (found.format, found.preamble, found.complete, found.rdb_version) == ("aof", False, True, None)
    assert found.commands == {"SELECT": 2, "SET": 2, "MULTI": 1, "SADD": 1, "EXEC": 1}
    assert (found.keys, found.expires, found.snapshot_keys, found.types) == (None, None, None, {})
    assert found.databases == [
        {"db": 0, "keys": None, "expires": None, "commands": 2},
        {"db": 5, "keys": None, "expires": None, "commands": 1},
    ]


def test_an_aof_with_a_snapshot(tmp_path: Path) -> None:
    preamble = Maker(9, aux=((b"redis-ver", b"6.2.1"), (b"aof-preamble", b"1"))).string(b"a", b"1", db=2).data()
    found = look(tmp_path, preamble + AOF, "appendonly.aof")
    assert (found.format, found.preamble, found.complete, found.rdb_version) == ("aof", True, True, 9)
    assert (found.keys, found.snapshot_keys, found.types) == (None, 1, {"string": 1})
    assert [(row["db"], row["commands"]) for row in found.databases] == [(0, 2), (2, 0), (5, 1)]
    fresh = look(tmp_path, preamble, "appendonly.aof")
    assert (fresh.format, fresh.preamble, fresh.keys, fresh.databases[0]["keys"]) == ("aof", True, 1, 1)


def test_a_torn_aof(tmp_path: Path) -> None:
    found = look(tmp_path, AOF[:-5], "appendonly.aof")
    assert not found.complete and found.error and "at byte" in found.error and found.commands["SET"] == 2


def test_an_aof_in_parts(tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "a.aof.1.base.rdb").write_bytes(Maker(aux=((b"aof-base", b"1"),)).string(b"k", b"v").data())
    (folder / "a.aof.1.incr.aof").write_bytes(AOF)
    (folder / "a.aof.2.incr.aof").write_bytes(b"")
    manifest = "file a.aof.1.base.rdb seq 1 type b\nfile a.aof.1.incr.aof seq 1 type i\nfile a.aof.2.incr.aof seq 2 type i\n"
    (folder / "a.aof.manifest").write_text(manifest)
    (tmp_path / "other.rdb").write_bytes(Maker().data())
    paths = [str(path) for path in (tmp_path / "other.rdb", *sorted(folder.iterdir()))]
    other, found = describe_files(paths, BigKeys)
    assert (other.path, other.format) == (paths[0], "rdb")
    assert (found.path, found.format, found.complete) == (str(folder / "a.aof.manifest"), "aof", True)
    assert found.parts == [paths[4], *paths[1:4]] and found.snapshot_keys == 1 and found.commands["SET"] == 2
    # Without the manifest, or without a part, everything is still described.
    alone = describe_files(paths[1:4], BigKeys)
    assert [(row.format, row.complete) for row in alone] == [("rdb", True), ("aof", True), ("aof", True)]
    lacking = describe_files([paths[4], *paths[1:3]], BigKeys)
    assert [row.complete for row in lacking] == [False, True, True] and "a.aof.2.incr.aof" in (lacking[0].error or "")


# --- real servers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", server_params())
def test_a_real_snapshot(server: Callable[..., RedisServer], name: str) -> None:
    running = server(name)
    written = populate_every_type(running.client(), running.version, running.product)
    (file,) = open_files([str(running.save())])
    found = take(file, big_key_elements=1000)
    assert found.complete and found.error is None
    keyspace = running.info("keyspace")
    expected = [
        {"db": int(db[2:]), "keys": row["keys"], "expires": row["expires"]} for db, row in sorted(keyspace.items(), key=lambda i: i[0])
    ]
    assert found.databases == expected
    assert found.keys == len(set(written)) and found.expired == 0
    assert found.rdb_version == running.rdb_version
    if running.version >= (3, 2):
        # Redict does not name itself in its files, but gives its own version.
        assert found.product == ("redis" if running.product == "redict" else running.product)
        assert found.version == running.info("server")[running.product + "_version"]
        assert abs(time.time() - (found.created or 0)) < 600 and found.used_memory
    if running.version >= (7, 0):
        assert sorted(found.functions) == [name.decode() for name, _body in LIBRARIES]
    many = {(big.db, big.key): big.elements for big in found.big_keys if big.elements}
    client = running.client()
    for key, command_name in ((b"hash:many", "HLEN"), (b"set:many", "SCARD"), (b"list:many-nodes", "LLEN"), (b"zset:many", "ZCARD")):
        assert many[(0, key)] == client.execute_command(command_name, key)


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_a_real_aof(server: Callable[..., RedisServer], name: str) -> None:
    running = server(name, config={"appendonly": "yes", "aof-use-rdb-preamble": "yes"})
    client = running.client()
    for number in range(100):
        client.set("key:%d" % number, number)
    running.stop()
    paths = [str(path) for path in sorted(running.folder.rglob("appendonly*")) if path.is_file()]
    (found,) = describe_files(paths, BigKeys)
    assert (found.format, found.complete, found.keys) == ("aof", True, None) and found.commands["SET"] == 100


# --- memory ------------------------------------------------------------------------------------------------------------

_TAKE = """
import resource, sys
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.plugins.module_utils._source.inventory import take
(small,) = open_files([sys.argv[1]])
take(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(large,) = open_files([sys.argv[2]])
found = take(large)
print(found.keys, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    for name, keys in (("small", 100_000), ("large", 1_000_000)):
        writer = RdbWriter(9)
        with open(tmp_path / name, "wb") as out:
            out.write(writer.header())
            for number in range(keys):
                out.write(writer.entry(0, 0, b"key:%d" % number, b"\x40\x64" + b"x" * 100))
            out.write(writer.entry(0, t.SET, b"s", wire.write_length(300_000) + wire.write_string(b"e" * 100) * 300_000))
            out.write(writer.trailer())
    done = subprocess.run(
        [sys.executable, "-c", _TAKE, str(tmp_path / "small"), str(tmp_path / "large")], stdout=subprocess.PIPE, check=True, text=True
    )
    found, grown = map(int, done.stdout.split())
    assert found == 1_000_001 and grown < 8 << 10
