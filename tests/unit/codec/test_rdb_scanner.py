# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots in any chunking, in parts, torn, flipped and forged."""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec import wire
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import (
    CodecError,
    TruncatedError,
    UnsupportedError,
)
from ansible_collections.dcs.migration.plugins.module_utils._codec.events import (
    Aux,
    Batch,
    BigEnd,
    BigPart,
    BigStart,
    Function,
    Header,
    ModuleAux,
)
from ansible_collections.dcs.migration.plugins.module_utils._codec.flat import FlatLists, FlatFormat
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb import RdbScanner
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.values import element_reader
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.params import server_params
from ansible_collections.dcs.migration.tests.support.servers import RedisServer
from ansible_collections.dcs.migration.tests.unit.codec.vectors import EXPIRIES, HINTS, SMALL, small_file, vectors

NEVER = 1 << 60


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[pos : pos + 1] for pos in range(len(data)))


def randomly(data: bytes, seed: int = 1, most: int = 5000) -> Iterator[bytes]:
    choose = random.Random(seed)
    pos = 0
    while pos < len(data):
        size = choose.choice((1, 2, 7, choose.randrange(1, most)))
        yield data[pos : pos + size]
        pos += size


def scan(chunks: Iterable[bytes], total: int | None = None, big: int = NEVER) -> tuple[list[Any], RdbScanner]:
    """Every event, to the end or to the error."""
    scanner = RdbScanner(total, big)
    found: list[Any] = []
    for chunk in chunks:
        found += scanner.feed(chunk)
    found += scanner.close()
    return found, scanner


def facts(events: Iterable[Any]) -> list[Any]:
    """Events as what they say, without how they were batched."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, Batch):
            for kind, key, start, end, data, expire, hint in event.entries:
                if data:
                    assert kind == t.STRING and wire.read_string(event.buf, start)[0] == event.buf[data:end]
                found.append((event.db, kind, key, event.buf[start:end], bool(data), expire, hint))
        else:
            found.append(event)
    return found


def data_of(events: Iterable[Any]) -> list[Any]:
    """Keys with their decoded elements, whether they came whole or in parts."""
    dialect = ""
    found: list[Any] = []
    start: BigStart | None = None
    parts: list[Any] = []
    for event in events:
        if isinstance(event, Header):
            dialect = event.dialect
        elif isinstance(event, Batch):
            for kind, key, first, end, _data, expire, hint in event.entries:
                elements, stop, done = element_reader(kind, dialect).feed(event.buf, first)
                assert (stop, done) == (end, True)
                found.append((event.db, kind, key, elements, end - first, expire, hint))
        elif isinstance(event, BigStart):
            assert start is None
            start, parts = event, []
        elif isinstance(event, BigPart):
            parts += event.elements
        elif isinstance(event, BigEnd):
            assert start is not None
            if start.type == t.STRING:
                parts = [b"".join(parts)]
                assert start.length in (0, len(parts[0]))
            found.append((start.db, start.type, start.key, parts, event.size, start.expire_ms, start.hint))
            start = None
    assert start is None
    return found


by_file = pytest.mark.parametrize("data", list(SMALL.values()), ids=list(SMALL))


@pytest.fixture(scope="module")
def real_files() -> Callable[[str], bytes]:
    """``real_files(server name)``: what that server makes of every type; made once."""
    made: dict[str, bytes] = {}

    def get(name: str) -> bytes:
        if name not in made:
            with RedisServer(name) as server:
                populate_every_type(server.client(), server.version, server.product)
                server.client().eval("return redis.call('GET', KEYS[1])", 1, "string:int:1")
                made[name] = server.save().read_bytes()
        return made[name]

    return get


by_server = pytest.mark.parametrize("name", server_params())


# --- any chunking ------------------------------------------------------------------------------------------------------


@by_file
def test_any_chunking_gives_the_same(data: bytes) -> None:
    events, scanner = scan(whole(data), len(data))
    expected = facts(events)
    assert scanner.done and scanner.offset == len(data) and scanner.rest == b""
    assert sum(1 for event in expected if isinstance(event, tuple) and len(event) == 7) >= 12
    for total in (None, len(data)):
        assert facts(scan(bytewise(data), total)[0]) == expected
        for seed in range(20):
            assert facts(scan(randomly(data, seed, 60), total)[0]) == expected


@pytest.mark.parametrize("data", [*SMALL.values(), small_file(12, plain=True), small_file(80, t.VALKEY, plain=True)])
@pytest.mark.parametrize("expiring", [False, True])
def test_flat_lists_hold_the_rest(data: bytes, expiring: bool) -> None:
    """What has no hint and is wanted comes in them, and nothing else."""
    expected = {row[:3]: row for row in facts(scan(whole(data))[0]) if isinstance(row, tuple) and len(row) == 7}
    unwanted = t.ZSET_2
    form = FlatFormat(lambda dialect: [kind != unwanted for kind in range(256)], expiring, b"--")
    for chunks in (whole(data), bytewise(data), randomly(data, 3, 60)):
        scanner = RdbScanner(len(data), NEVER, flat=form)
        events = [event for chunk in chunks for event in scanner.feed(chunk)] + list(scanner.close())
        found = []
        for event in events:
            if isinstance(event, Batch) and event.flat:
                found += in_flat_lists(event.db, event.flat)
        left = [row for row in facts(events) if isinstance(row, tuple) and len(row) == 7]
        # Long strings stay entries, too.
        assert all(row[6] or (row[5] and not expiring) or row[1] == unwanted or (row[4] and row[3][0] >= 0x80) for row in left)
        assert sorted([row[:3] for row in left] + [row[:3] for row in found]) == sorted(expected)
        assert {row[4] for row in found} == ({row[5] for row in expected.values()} if expiring else {None})
        for row in found:
            raw, expire, hint = (expected[row[:3]][column] for column in (3, 5, 6))
            assert row[3] == raw or (row[1] == t.STRING and row[3] == wire.read_string(raw, 0)[0])
            assert row[4] == expire and hint is None


def in_flat_lists(db: int, flat: FlatLists) -> list[Any]:
    """Rows of database, type, key, value, expiry."""
    rows: list[Any] = []
    for items, width in ((flat.pairs, 2), (flat.expiring_pairs, 3)):
        rows += [(db, t.STRING, *items[at : at + width]) for at in range(0, len(items), width)]
    for items, width in ((flat.values, 2), (flat.expiring_values, 3)):
        for at in range(0, len(items), width):
            key, body, *expire = items[at : at + width]
            assert body.endswith(b"--")
            rows.append((db, body[0], key, body[1:-2], *expire))
    return [row if len(row) == 5 else (*row, None) for row in rows]


@by_file
def test_what_was_written_is_read(data: bytes) -> None:
    found = data_of(scan(whole(data))[0])
    expected = {(vector.type_byte, vector.dialect): vector.elements for vector in vectors() if vector.name.count(" ") == 1}
    dialect = scan(whole(data))[1].dialect
    seen = {row[1]: row[3] for row in found if (row[1], dialect) in expected and not row[2].startswith(b"\xff")}
    assert seen
    for kind, elements in seen.items():
        assert elements in [vector.elements for vector in vectors() if vector.type_byte == kind]
    assert {row[5] for row in found} == set(EXPIRIES) and {row[6] for row in found} == set(HINTS)
    assert sorted({row[0] for row in found}) == [row[0] for row, _next in itertools.groupby(found, lambda row: row[:1])]


@by_file
def test_what_follows_is_kept(data: bytes) -> None:
    tail = b"*1\r\n$4\r\nPING\r\n"
    for chunks in (whole(data + tail), bytewise(data + tail), randomly(data + tail)):
        events, scanner = scan(chunks)
        assert scanner.done and scanner.rest == tail and scanner.offset == len(data)
        assert facts(events) == facts(scan(whole(data))[0])


def test_facts_of_the_head() -> None:
    events, scanner = scan(whole(SMALL["redis-12"]))
    assert events[0] == Header(12, t.REDIS) and scanner.version == 12
    assert [event for event in events if isinstance(event, Aux)][0] == Aux(b"redis-ver", b"7.2.0")
    assert [event.code[:5] for event in events if isinstance(event, Function)] == [b"#!lua"]
    assert scan(whole(SMALL["valkey-80"]))[0][0] == Header(80, t.VALKEY)


@by_server
def test_real_files_in_any_chunking(real_files: Callable[[str], bytes], name: str) -> None:
    data = real_files(name)
    events, scanner = scan(whole(data), len(data))
    expected = facts(events)
    assert scanner.done and scanner.rest == b"" and len(expected) > 300
    assert facts(scan(randomly(data, 1, 3000))[0]) == expected
    assert facts(scan(randomly(data, 2, 200_000), len(data))[0]) == expected


@by_server
def test_a_real_file_byte_by_byte(real_files: Callable[[str], bytes], name: str) -> None:
    """Only up to a size: each byte beyond costs a look at what is not finished yet."""
    data = real_files(name)
    assert facts(scan(itertools.chain(bytewise(data[:60_000]), [data[60_000:]]))[0]) == facts(scan(whole(data))[0])


# --- in parts ----------------------------------------------------------------------------------------------------------


@by_server
@pytest.mark.parametrize("big", [1, 100, 1000, 50_000])
def test_values_in_parts_are_the_same(real_files: Callable[[str], bytes], name: str, big: int) -> None:
    data = real_files(name)
    expected = data_of(scan(whole(data))[0])
    for seed in (1, 2):
        events, _scanner = scan(randomly(data, seed, 3000), len(data), big)
        assert data_of(events) == expected
        assert any(isinstance(event, BigStart) for event in events)


@by_file
def test_every_type_in_parts(data: bytes) -> None:
    expected = data_of(scan(whole(data))[0])
    assert data_of(scan(bytewise(data), big=1)[0]) == expected
    for seed in range(10):
        assert data_of(scan(randomly(data, seed, 30), len(data), 1)[0]) == expected


def test_a_module_value_is_never_taken_apart() -> None:
    body = wire.write_length(1 << 40) + b"\x05" + wire.write_string(b"m" * 5000) + b"\x02\x07\x00"
    writer = RdbWriter(9)
    data = writer.header() + writer.entry(0, t.MODULE_2, b"k", body) + writer.trailer()
    for chunks in (whole(data), bytewise(data)):
        (found,) = [event for event in facts(scan(chunks, big=10)[0]) if not isinstance(event, (Header, Aux))]
        assert found[3] == body


def test_data_of_a_module() -> None:
    data = b"REDIS0009\xf7" + wire.write_length(0x4FBA3C3E2E4C8C01) + b"\x02\x02\x05\x03abc\x00\xff" + bytes(8)
    for chunks in (whole(data), bytewise(data)):
        events, _scanner = scan(chunks)
        assert isinstance(events[1], ModuleAux) and len(events[1].module) == 9


def large_file(kind: int, body: Iterable[bytes]) -> Iterator[bytes]:
    writer = RdbWriter(9)
    yield writer.header()
    for index, piece in enumerate(body):
        yield writer._out(piece) if index else writer.entry(0, kind, b"large", piece)
    yield writer.trailer()


@pytest.mark.parametrize("kind", ["string", "set", "hash", "list"])
def test_a_large_value_needs_little_memory(kind: str) -> None:
    count, piece = 64, b"x" * (1 << 20)
    element = wire.write_string(b"y" * 1000)
    bodies: dict[str, tuple[int, Iterable[bytes]]] = {
        "string": (t.STRING, itertools.chain([wire.write_length(count << 20)], [piece] * count)),
        "set": (t.SET, itertools.chain([wire.write_length(count * 1000)], [element * 1000] * count)),
        "hash": (t.HASH, itertools.chain([wire.write_length(count * 500)], [element * 1000] * count)),
        "list": (t.LIST, itertools.chain([wire.write_length(count * 1000)], [element * 1000] * count)),
    }
    scanner = RdbScanner(None, 1 << 20)
    size = 0
    tracemalloc.start()
    try:
        for chunk in large_file(*bodies[kind]):
            for event in scanner.feed(chunk):
                if isinstance(event, BigPart):
                    size += sum(len(item) if isinstance(item, bytes) else len(item[0]) + len(item[1]) for item in event.elements)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scanner.done and size in (count << 20, count * 1_000_000)
    assert peak < 16 << 20


@pytest.mark.parametrize("unpack", [True, False])
def test_memory_for_a_compressed_string_is_bounded(unpack: bool) -> None:
    """600 KB that hold 50 MB; for whoever only counts they are passed over."""
    runs = b"\xe0\xff\x00" * 2000
    count = 100
    packed, plain = 2 + len(runs) * count, 1 + 264 * 2000 * count
    head = b"\xc3" + wire.write_length(packed) + wire.write_length(plain) + b"\x00a"
    scanner = RdbScanner(None, 1 << 17, unpack=unpack)
    size = 0
    tracemalloc.start()
    try:
        for chunk in large_file(t.STRING, itertools.chain([head], [runs] * count)):
            for event in scanner.feed(chunk):
                if isinstance(event, BigStart):
                    assert event.length == plain
                elif isinstance(event, BigPart):
                    size += sum(map(len, event.elements))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scanner.done and size == (plain if unpack else 0)
    assert peak < 6 << 20


def test_a_compressed_string_in_parts() -> None:
    """Damage in it is told with its place in the file."""
    good = b"\x00a" + b"\xe0\xff\x00" * 2000
    head = b"\xc3" + wire.write_length(len(good)) + wire.write_length(1 + 264 * 2000)
    data = b"".join(large_file(t.STRING, [head, good]))
    expected = data_of(scan(whole(data))[0])
    for chunks in (whole(data), bytewise(data), randomly(data)):
        assert data_of(scan(chunks, len(data), 100)[0]) == expected
    bad = data.replace(b"\x00a\xe0\xff\x00", b"\x00a\xff\xff\xff")
    with pytest.raises(CodecError, match="begins before") as caught:
        scan((bad[:500], bad[500:]), None, 100)
    assert caught.value.offset == bad.index(b"\xff\xff\xff") + 3


# --- torn and flipped --------------------------------------------------------------------------------------------------


@by_file
def test_truncated_anywhere(data: bytes) -> None:
    expected = facts(scan(whole(data))[0])
    for size in range(len(data)):
        for total in (None, size, len(data)):
            for big in (NEVER, 10):
                found: list[Any] = []
                scanner = RdbScanner(total, big)
                with pytest.raises(TruncatedError) as caught:
                    found += scanner.feed(data[:size])
                    found += scanner.close()
                assert not scanner.done and caught.value.offset is not None and 0 <= caught.value.offset <= size
                if big == NEVER:
                    assert facts(found) == expected[: len(facts(found))]


def outcome(chunks: Iterable[bytes], total: int | None = None, big: int = NEVER) -> str:
    """``good``, ``rest``, or the name of the error; any other exception goes on."""
    try:
        _events, scanner = scan(chunks, total, big)
    except CodecError as exc:
        assert exc.offset is None or exc.offset >= 0
        assert str(exc)
        return type(exc).__name__
    return "rest" if scanner.rest else "good"


@by_file
def test_any_flipped_bit_is_noticed(data: bytes) -> None:
    names: set[str] = set()
    for pos in range(len(data)):
        for bit in range(8):
            broken = data[:pos] + bytes([data[pos] ^ 1 << bit]) + data[pos + 1 :]
            name = outcome(whole(broken), len(broken), 50)
            # A lower version has no checksum: then eight bytes too many are left over.
            assert name != "good", (pos, bit)
            names.add(name)
    assert "ChecksumError" in names and "CodecError" in names


@by_file
def test_any_replaced_byte_is_noticed(data: bytes) -> None:
    choose = random.Random(5)
    for pos in range(len(data)):
        for _again in range(1):
            other = choose.randrange(256)
            if other == data[pos]:
                continue
            broken = data[:pos] + bytes([other]) + data[pos + 1 :]
            assert outcome(randomly(broken, pos, 400), len(broken), 20) != "good"


def test_a_checksum_of_zero_is_none() -> None:
    data = SMALL["redis-9"]
    assert outcome(whole(data[:-8] + bytes(8))) == "good"
    assert outcome(whole(data[:-8] + b"\x01" + bytes(7))) == "ChecksumError"


def test_the_entries_before_damage_are_given() -> None:
    writer = RdbWriter(9)
    good = writer.header() + writer.entry(0, 0, b"first", b"\x01a")
    bad = writer.entry(0, 0, b"second", b"\xc4zzz")
    found: list[Any] = []
    scanner = RdbScanner()
    with pytest.raises(CodecError) as caught:
        found += scanner.feed(good)
        for event in scanner.feed(bad + bytes(100)):
            found.append(event)
    assert [entry[1] for batch in found if isinstance(batch, Batch) for entry in batch.entries] == [b"first"]
    assert caught.value.offset is not None and len(good) <= caught.value.offset < len(good) + len(bad)


# --- forged ------------------------------------------------------------------------------------------------------------

HUGE = b"\x81\x40" + bytes(7)
FORGED = {
    "string": b"\x00\x01k" + HUGE,
    "key": b"\x00" + HUGE,
    "list": b"\x01\x01k" + HUGE,
    "zset": b"\x03\x01k" + HUGE,
    "zset_2": b"\x05\x01k" + HUGE,
    "hash": b"\x04\x01k" + HUGE,
    "listpack": b"\x10\x01k" + HUGE,
    "quicklist": b"\x0e\x01k" + HUGE,
    "quicklist_2": b"\x12\x01k" + HUGE,
    "stream": b"\x13\x01k" + HUGE,
    "lzf packed": b"\x00\x01k\xc3" + HUGE + b"\x05",
    "lzf plain": b"\x00\x01k\xc3\x05" + HUGE,
    "aux": b"\xfa" + HUGE,
    "aux value": b"\xfa\x01k" + HUGE,
    "function": b"\xf5" + HUGE,
    "module string": b"\x07\x01k\x05\x05" + HUGE,
    "module aux": b"\xf7\x05\x02\x02\x05" + HUGE,
    "list element": b"\x01\x01k\x7f\xff\x01a" + HUGE,
    "hash value": b"\x04\x01k\x7f\xff\x01f" + HUGE,
    "zset_2 member": b"\x05\x01k\x7f\xff" + HUGE,
    "quicklist_2 node": b"\x12\x01k\x7f\xff\x02" + HUGE,
    "stream node": b"\x13\x01k\x7f\xff\x10" + bytes(16) + HUGE,
    "hash_metadata field": b"\x18\x01k" + bytes(8) + b"\x7f\xff\x00" + HUGE,
    "hash_metadata value": b"\x18\x01k" + bytes(8) + b"\x7f\xff\x00\x01f" + HUGE,
    "hash_listpack_ex": b"\x19\x01k" + bytes(8) + HUGE,
    "module id": b"\x07" + HUGE,
    "idle": b"\xf8" + HUGE,
}


@pytest.mark.parametrize("body", list(FORGED.values()), ids=list(FORGED))
@pytest.mark.parametrize("length", [HUGE, b"\x81\x00\x00\x00\x7f" + bytes(4)], ids=["2^62", "2^38"])
def test_absurd_lengths_take_neither_time_nor_memory(body: bytes, length: bytes) -> None:
    """The bytes that are there must not be collected until the claimed ones arrive, which they never do."""
    head = b"REDIS0012\xfe\x00" + body.replace(HUGE, length)
    # As elements of a collection these bytes make sense, as entries they do not.
    filler = b"\x3f" * (1 << 20)
    total = len(head) + 40 * len(filler)
    scanner = RdbScanner(total, 1 << 20)
    held = 0
    with pytest.raises(CodecError):
        for chunk in itertools.chain([head], [filler] * 40):
            for event in scanner.feed(chunk):
                held = max(held, sum(map(len, getattr(event, "elements", ()))))
            held = max(held, scanner._have)
        for _event in scanner.close():
            pass
    assert held < 8 << 20


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", TruncatedError, "without its end mark"),
        (b"REDIS", TruncatedError, "ends inside"),
        (b"VALKEY", TruncatedError, "ends inside"),
        (b"REDIS0", TruncatedError, "ends inside"),
        (b"some text, long enough to tell", CodecError, "not an RDB file"),
        (b"short", CodecError, "not an RDB file"),
        (b"REDIS00x9" + bytes(20), CodecError, "not an RDB file"),
        (b"*1\r\n$4\r\nPING\r\n", CodecError, "not an RDB file"),
        (b"REDIS0099" + bytes(20), UnsupportedError, "version 99"),
        (b"REDIS0000" + bytes(20), UnsupportedError, "version 0"),
        (b"VALKEY999" + bytes(20), UnsupportedError, "version 999"),
        (b"REDIS0009\x63\x01k\x01v\xff", CodecError, "unknown type 99"),
        (b"REDIS0009\x06\x01k\x01v\xff", CodecError, "module_pre_ga"),
        (b"REDIS0011\xf1\x00\xff", CodecError, "opcode 241"),
        (b"REDIS0010\xf6\x00\xff", UnsupportedError, "function_pre_ga"),
        (b"REDIS0009\xfc" + bytes(8) + b"\xfe\x00", CodecError, "between an entry's expiry"),
        (b"REDIS0009\xfc" + bytes(8) + b"\xff", CodecError, "between an entry's expiry"),
    ],
)
def test_what_cannot_be_read(data: bytes, error: type[CodecError], words: str) -> None:
    for chunks in (whole(data), bytewise(data)):
        with pytest.raises(error, match=words):
            scan(chunks, len(data))


def test_types_of_the_other_dialect_are_not_mixed_up() -> None:
    """Type 22 is one thing in Redis and another in Valkey."""
    valkey = [vector for vector in vectors() if vector.dialect == t.VALKEY and vector.type_byte == t.VALKEY_HASH_2]
    for vector in valkey:
        writer = RdbWriter(80, t.VALKEY)
        data = writer.header() + writer.entry(0, vector.type_byte, b"k", vector.body) + writer.trailer()
        assert data_of(scan(bytewise(data))[0])[0][3] == vector.elements
    assert valkey


# --- arbitrary bytes ---------------------------------------------------------------------------------------------------

quick = settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.sampled_from([b"REDIS0006", b"REDIS0011", b"REDIS0012", b"VALKEY080"]), st.binary(max_size=400), st.integers(0, 9))
def test_arbitrary_bytes_after_a_header(head: bytes, body: bytes, seed: int) -> None:
    data = head + body
    results = {
        outcome(whole(data), None),
        outcome(whole(data), len(data)),
        outcome(bytewise(data), len(data)),
        outcome(randomly(data, seed, 20), len(data), 5),
    }
    assert results & {"good", "rest"} == set() or len(results) == 1


_OPCODES_AND_TYPES = st.sampled_from([*range(0, 33), *range(240, 256), 0x80, 0x81, 0xC0, 0xC3])


@quick
@given(st.lists(st.one_of(_OPCODES_AND_TYPES, st.integers(0, 255)), max_size=80).map(bytes), st.integers(0, 9))
def test_likely_bytes_after_a_header(body: bytes, seed: int) -> None:
    for head in (b"REDIS0012", b"VALKEY080"):
        data = head + body
        by_bytes = outcome(bytewise(data), len(data))
        assert by_bytes == outcome(whole(data), len(data)) or "rest" not in by_bytes
        outcome(randomly(data, seed, 9), len(data), 3)


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
@settings(max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choose=st.randoms(use_true_random=False))
def test_mutated_real_files(real_files: Callable[[str], bytes], name: str, choose: random.Random) -> None:
    data = bytearray(real_files(name)[:200_000])
    for _unused in range(choose.randrange(1, 6)):
        pos = choose.randrange(9, len(data))
        how = choose.randrange(4)
        if how == 0:
            data[pos] = choose.randrange(256)
        elif how == 1:
            del data[pos : pos + choose.randrange(1, 50)]
        elif how == 2:
            data[pos:pos] = bytes(choose.randrange(256) for _byte in range(choose.randrange(1, 20)))
        else:
            data[pos : pos + 9] = b"\x81" + struct.pack(">Q", choose.getrandbits(choose.randrange(1, 65)))
    assert outcome(randomly(bytes(data), choose.randrange(100), 50_000), len(data), 5000) != "good"
