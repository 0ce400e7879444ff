# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every type, by vectors: whole, in pieces, with trailing bytes, truncated; and what is refused."""

from __future__ import annotations

import math

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec import values, wire
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError, TruncatedError, UnsupportedError

from ansible_collections.dcs.migration.tests.unit.codec.vectors import (
    LISTPACK,
    PAIR_LISTPACK,
    Vector,
    blob,
    elements_of,
    read_in_pieces,
    vectors,
)

every_vector = pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector.name)


@every_vector
def test_whole(vector: Vector) -> None:
    value, end = values.decode(vector.type_byte, vector.body, 0, vector.dialect)
    assert elements_of(value) == vector.elements
    assert end == len(vector.body)
    assert value.kind == t.kind_of(vector.type_byte, vector.dialect)


@every_vector
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_in_the_middle_of_other_bytes(vector: Vector, wrap: type) -> None:
    value, end = values.decode(vector.type_byte, wrap(b"\xff\xff" + vector.body + b"trailing"), 2, vector.dialect)
    assert (elements_of(value), end) == (vector.elements, 2 + len(vector.body))


@every_vector
def test_truncated_anywhere(vector: Vector) -> None:
    for size in range(len(vector.body)):
        with pytest.raises(TruncatedError):
            values.decode(vector.type_byte, vector.body[:size], 0, vector.dialect)


@every_vector
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_in_pieces(vector: Vector, size: int) -> None:
    elements, used, _reader = read_in_pieces(vector.type_byte, vector.dialect, vector.body + b"trailing", size)
    assert (elements, used) == (vector.elements, len(vector.body))


@every_vector
def test_reader_stays_done(vector: Vector) -> None:
    reader = values.element_reader(vector.type_byte, vector.dialect)
    reader.feed(vector.body, 0)
    assert reader.feed(b"more", 1) == ([], 1, True)


def test_reader_resumes_between_elements_without_keeping_them() -> None:
    reader = values.element_reader(t.SET, t.REDIS)
    assert reader.feed(b"\x03\x01a\x01", 0) == ([b"a"], 3, False)
    assert reader.feed(b"\x01b", 0) == ([b"b"], 2, False)
    assert reader.feed(b"??\x01c!", 2) == ([b"c"], 4, True)


@pytest.mark.parametrize(
    ("type_byte", "body"),
    [
        (t.ZSET, b"\x01\x01a\xfd"),
        (t.ZSET, b"\x01\x01a\x031_0"),
        (t.ZSET, b"\x01\x01a\x00"),
        (t.ZSET_2, b"\x01\x01a" + wire.write_double(math.nan)),
        (t.HASH_LISTPACK, blob(LISTPACK)),
        (t.ZSET_LISTPACK, blob(PAIR_LISTPACK)),
        (t.LIST_QUICKLIST, b"\x01\x00"),
        (t.LIST_QUICKLIST_2, b"\x01\x03\x01a"),
        (t.LIST_QUICKLIST_2, b"\x01\x02" + blob(LISTPACK[:-1])),
        (t.HASH_METADATA, wire.write_ms(-1) + b"\x01\x01\x01f\x01v"),
        (t.HASH_METADATA, wire.write_ms(1 << 48) + b"\x01\x02\x01f\x01v"),
        (t.HASH_METADATA_PRE_GA, b"\x01" + wire.write_length((1 << 64) - 1) + b"\x01f\x01v"),
        (t.HASH_LISTPACK_EX, wire.write_ms(0) + blob(PAIR_LISTPACK)),
        (t.STRING, b"\xc4a"),
        (t.STRING, b"\x82"),
        (t.SET, b"\xc0\x01\x01a"),
    ],
)
def test_wrong_bytes(type_byte: int, body: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        values.decode(type_byte, body + b"\x00" * 40, 0, t.REDIS)
    assert not isinstance(caught.value, (TruncatedError, UnsupportedError))


@pytest.mark.parametrize("count", [b"\x81" + b"\xff" * 8, b"\x80\xff\xff\xff\xff"])
@pytest.mark.parametrize("type_byte", [1, 2, 3, 4, 5, 14, 15, 18, 19, 21])
def test_huge_counts_cost_nothing(type_byte: int, count: bytes) -> None:
    with pytest.raises(TruncatedError):
        values.decode(type_byte, count, 0, t.REDIS)


@pytest.mark.parametrize(
    ("type_byte", "dialect", "words"),
    [
        (6, t.REDIS, "Redis 4.0"),
        (8, t.REDIS, "type 8"),
        (26, t.REDIS, r"stream_listpacks_4 \(26\), new in Redis 8.6"),
        (27, t.REDIS, r"stream_listpacks_5 \(27\), new in Redis 8.8"),
        (28, t.REDIS, r"array \(28\), new in Redis 8.8"),
        (29, t.REDIS, "Redis 8.10"),
        (32, t.REDIS, "Redis 8.10"),
        (33, t.REDIS, "type 33"),
        (23, t.VALKEY, r"path_hash \(23\), new in Valkey 9.2"),
        (24, t.VALKEY, "type 24 is not known to Valkey"),
    ],
)
def test_types_known_by_name_are_refused(type_byte: int, dialect: str, words: str) -> None:
    for run in (lambda: values.decode(type_byte, b"\x01\x00", 0, dialect), lambda: values.element_reader(type_byte, dialect)):
        with pytest.raises(UnsupportedError, match=words):
            run()


# ReJSON-RL is the nine letters of a well-known module; version 3.
def _module_id(name: str, version: int) -> int:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in name:
        number = number << 6 | letters.index(letter)
    return number << 10 | version


def test_module() -> None:
    body = wire.write_length(_module_id("ReJSON-RL", 3)) + b"\x02\x05\x01\x40\x50\x03aaaa\x04bbbbbbbb\x05\x03abc\x05\xc0\x01\x00"
    value, end = values.decode(t.MODULE_2, body + b"trailing", 0, t.REDIS)
    assert isinstance(value, values.Module)
    assert (value.name, value.raw, end) == ("ReJSON-RL", body, len(body))
    for size in range(len(body)):
        with pytest.raises(TruncatedError):
            values.decode(t.MODULE_2, body[:size], 0, t.REDIS)
    with pytest.raises(CodecError, match="tag 6"):
        values.decode(t.MODULE_2, b"\x00\x06\x00", 0, t.REDIS)
    with pytest.raises(UnsupportedError):
        values.element_reader(t.MODULE_2, t.REDIS)


def test_canonical_forgets_order_and_encoding() -> None:
    one, _end = values.decode(t.SET, b"\x02\x01a\xc0\x01", 0, t.REDIS)
    two, _end = values.decode(t.SET, b"\x02\x011\x01a", 0, t.REDIS)
    assert values.canonical(one) == values.canonical(two)
    assert values.canonical(values.List([b"a", b"b"])) != values.canonical(values.List([b"b", b"a"]))
    assert values.canonical(values.Hash([(b"f", b"v", 0)])) != values.canonical(values.Hash([(b"f", b"v", 5)]))
    assert values.canonical(values.ZSet([(b"m", 0.0)])) == values.canonical(values.ZSet([(b"m", -0.0)]))
    assert values.canonical(values.Set([b"a"])) != values.canonical(values.List([b"a"]))


def test_valkey_field_that_expired_in_1970_is_not_one_that_never_expires() -> None:
    value, _end = values.decode(t.VALKEY_HASH_2, b"\x01\x01f\x01v" + wire.write_ms(0), 0, t.VALKEY)
    assert elements_of(value) == [(b"f", b"v", 1)]
    with pytest.raises(CodecError):
        values.decode(t.VALKEY_HASH_2, b"\x01\x01f\x01v" + wire.write_ms(-2), 0, t.VALKEY)
