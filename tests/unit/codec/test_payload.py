# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Streams by hand-made nodes, DUMP payloads, and rewriting for older or other servers."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import listpack, payload, stream, values, wire
from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import (
    ChecksumError,
    CodecError,
    TruncatedError,
    UnsupportedError,
)

from ansible_collections.dcs.migration.tests.unit.codec.vectors import FAR, Vector, elements_of, read_in_pieces, vectors

KEY = struct.pack(">QQ", 1000, 5)
# Two shared fields; one entry with them, one deleted, one with fields of its own, the last before the node in sequence.
ITEMS = (
    [b"2", b"1", b"2", b"x", b"y", b"0"]
    + [b"2", b"0", b"0", b"1", b"2", b"5"]
    + [b"3", b"0", b"1", b"3", b"4", b"5"]
    + [b"0", b"7", b"-5", b"1", b"z", b"9", b"6"]
)
ENTRIES = [(1000, 5, [(b"x", b"1"), (b"y", b"2")]), (1007, 0, [(b"z", b"9")])]


def example() -> stream.Stream:
    consumers = [stream.Consumer(b"c1", FAR, FAR + 1, [(1000, 5)]), stream.Consumer(b"c2", FAR + 2, -1, [])]
    groups = [
        stream.Group(b"g", (1000, 5), 1, [((1000, 5), FAR, 3), ((1007, 0), FAR, 1)], consumers),
        stream.Group(b"none", (0, 0), stream.UNKNOWN, [], []),
    ]
    return stream.Stream([(KEY, listpack.encode(ITEMS))], 2, (1007, 0), (1000, 5), (1000, 6), 3, groups)


BODIES = [(type_byte, stream.encode(example(), type_byte)) for type_byte in (15, 19, 21)]


def test_node_entries() -> None:
    assert list(example().entries()) == ENTRIES


@pytest.mark.parametrize(("type_byte", "body"), BODIES)
def test_stream_survives_what_its_type_keeps(type_byte: int, body: bytes) -> None:
    value, end = stream.decode(type_byte, b"??" + body + b"trailing", 2)
    assert end == 2 + len(body)
    assert values.canonical(value) == values.canonical(example())
    assert stream.encode(value, type_byte) == body
    assert list(value.entries()) == ENTRIES
    assert value.find_first_id() == (1000, 5)
    first, second = value.groups[0].consumers
    if type_byte == 15:
        assert (value.entries_added, value.max_deleted_id, value.groups[0].entries_read) == (2, (0, 0), stream.UNKNOWN)
    else:
        assert (value.entries_added, value.max_deleted_id, value.groups[0].entries_read) == (3, (1000, 6), 1)
        assert value.groups[1].entries_read == stream.UNKNOWN
    assert (first.active, second.active) == ((FAR + 1, -1) if type_byte == 21 else (FAR, FAR + 2))


@pytest.mark.parametrize(("type_byte", "body"), BODIES)
def test_stream_truncated_and_in_pieces(type_byte: int, body: bytes) -> None:
    for size in range(len(body)):
        with pytest.raises(TruncatedError):
            stream.decode(type_byte, body[:size], 0)
    for size in (1, 5, 64):
        nodes, used, reader = read_in_pieces(type_byte, t.REDIS, body + b"trailing", size)
        reader.stream.nodes = nodes
        assert used == len(body)
        assert stream.encode(reader.stream, type_byte) == body


def test_empty_stream() -> None:
    empty = stream.Stream([], 0, (9, 9), None, (9, 9), 4)
    for type_byte in (15, 19, 21):
        value, _end = stream.decode(type_byte, stream.encode(empty, type_byte), 0)
        assert (list(value.entries()), value.last_id, value.find_first_id()) == ([], (9, 9), (0, 0))


@pytest.mark.parametrize(
    "items",
    [
        [],
        [b"1", b"0", b"2", b"x"],
        [b"1", b"0", b"0", b"1"],
        [b"1", b"0", b"0", b"0"],
        [b"1", b"0", b"0", b"0", b"0", b"0", b"0", b"1", b"f", b"v", b"7"],
        [b"1", b"0", b"0", b"0", b"0", b"0", b"0", b"-1", b"f", b"v", b"6"],
        [b"1", b"0", b"0", b"0", b"0", b"0", b"0", b"x", b"f", b"v", b"6"],
        [b"1", b"0", b"0", b"0", b"0", b"0", b"0", b"%d" % (1 << 62), b"f", b"v", b"6"],
        [b"1" * 5000, b"0", b"0", b"0"],
        [b"0", b"0", b"-1", b"0", b"0"],
    ],
)
def test_broken_nodes(items: list[bytes]) -> None:
    with pytest.raises(CodecError):
        stream.node_entries(KEY, listpack.encode(items))


def test_broken_streams() -> None:
    with pytest.raises(CodecError, match="15 bytes"):
        stream.decode(15, b"\x01" + wire.write_string(KEY[1:]) + b"\x00" * 20, 0)
    lost = example()
    lost.groups[0].consumers[0].pel.append((5, 5))
    with pytest.raises(CodecError, match="group does not have"):
        stream.decode(21, stream.encode(lost, 21), 0)


# -- payloads ----------------------------------------------------------------------------------------------------------


def test_split_and_foot() -> None:
    made = payload.foot(0, b"\x05hello", 9)
    assert payload.split(made) == (0, b"\x05hello", 9)
    for at in range(len(made)):
        wrong = bytearray(made)
        wrong[at] ^= 1
        with pytest.raises(ChecksumError):
            payload.split(bytes(wrong))
    for size in range(11):
        with pytest.raises(TruncatedError):
            payload.split(made[:size])
    with pytest.raises(ChecksumError):
        payload.split(made[:-1])


TARGETS = [(6, t.REDIS), (7, t.REDIS), (8, t.REDIS), (9, t.REDIS), (10, t.REDIS), (11, t.REDIS), (12, t.REDIS), (15, t.REDIS)]
TARGETS += [(11, t.VALKEY), (80, t.VALKEY), (81, t.VALKEY)]


@pytest.mark.parametrize(("version", "dialect"), TARGETS)
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.name)
def test_convert_every_type_to_every_target(vector: Vector, version: int, dialect: str) -> None:
    value, _end = values.decode(vector.type_byte, vector.body, 0, vector.dialect)
    expires = isinstance(value, values.Hash) and any(item[2] for item in value.items)
    try:
        type_byte, body = payload.convert(vector.type_byte, vector.body, version, dialect, vector.dialect)
    except UnsupportedError as exc:
        assert expires
        assert version < (12 if dialect == t.REDIS else 80)
        assert ("Redis 7.4" if dialect == t.REDIS else "Valkey 9.0") in exc.reason
        return
    assert t.loadable(type_byte, version, dialect)
    again, end = values.decode(type_byte, body, 0, dialect)
    assert end == len(body)
    assert values.canonical(again) == values.canonical(value)
    if t.loadable(vector.type_byte, version, dialect, vector.dialect):
        assert (type_byte, body) == (vector.type_byte, vector.body)
    for least in range(version, 82):
        if (least >= 80) == (dialect == t.VALKEY):
            made = payload.encode(value, version, dialect)[0]
            assert t.loadable(made, least, dialect)


@pytest.mark.parametrize(("version", "expected"), [(9, 15), (10, 19), (11, 21), (12, 21), (80, 21)])
def test_streams_take_the_newest_type_of_the_target(version: int, expected: int) -> None:
    type_byte, body = payload.encode(example(), version, t.dialect_of(version))
    assert type_byte == expected
    assert values.canonical(values.decode(type_byte, body, 0, t.REDIS)[0]) == values.canonical(example())


def test_what_a_target_cannot_hold() -> None:
    with pytest.raises(UnsupportedError, match=r"streams need Redis 5\.0"):
        payload.convert(21, BODIES[2][1], 8, t.REDIS, t.REDIS)
    with pytest.raises(UnsupportedError, match=r"ReJSON-RL.*Redis 4\.0"):
        payload.encode(values.Module("ReJSON-RL", b"\x00\x00"), 7, t.REDIS)
    with pytest.raises(UnsupportedError, match="stream_listpacks_4"):
        payload.convert(26, b"\x00", 12, t.REDIS, t.REDIS)
    with pytest.raises(UnsupportedError, match="later than Redis can keep"):
        payload.encode(values.Hash([(b"f", b"v", 1 << 50)]), 12, t.REDIS)
    assert payload.convert(26, b"\x00", 13, t.REDIS, t.REDIS) == (26, b"\x00")


@pytest.mark.parametrize("value", [values.List([]), values.Set([]), values.ZSet([]), values.Hash([])])
def test_empty_collections_are_not_stored(value: values.Value) -> None:
    with pytest.raises(CodecError, match="empty"):
        payload.encode(value, 12, t.REDIS)


def test_convert_refuses_trailing_bytes() -> None:
    with pytest.raises(CodecError, match="1 bytes are left"):
        payload.convert(20, wire.write_string(listpack.encode([b"a"])) + b"x", 9, t.REDIS, t.REDIS)


def test_zset_scores_keep_every_bit_in_the_old_type() -> None:
    scores = [0.1, -0.0, 1e300, 5e-324, 123456789.123456789, float("inf"), -float("inf"), 1 / 3]
    items = [(b"%d" % number, score) for number, score in enumerate(scores)]
    type_byte, body = payload.encode(values.ZSet(items), 7, t.REDIS)
    assert type_byte == t.ZSET
    again = elements_of(values.decode(type_byte, body, 0, t.REDIS)[0])
    assert [struct.pack("<d", score) for _member, score in again] == [struct.pack("<d", score) for score in scores]
