# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lengths, strings, doubles, LZF, and the compact encodings by themselves."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._codec import intset, listpack, lzf, skip, types, wire, ziplist, zipmap
from ansible_collections.dcs.migration.plugins.module_utils._codec.crc64 import crc64
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError, TruncatedError

from ansible_collections.dcs.migration.tests.unit.codec.vectors import INTSET, LISTPACK, LISTPACK_ITEMS, ZIPLIST, ZIPMAP

LENGTHS = [
    (0, "00"),
    (63, "3f"),
    (64, "4040"),
    (16383, "7fff"),
    (16384, "8000004000"),
    ((1 << 32) - 1, "80ffffffff"),
    (1 << 32, "810000000100000000"),
    ((1 << 64) - 1, "81ffffffffffffffff"),
]


@pytest.mark.parametrize(("number", "text"), LENGTHS)
def test_lengths(number: int, text: str) -> None:
    data = bytes.fromhex(text)
    assert wire.write_length(number) == data
    assert wire.read_length(b"x" + data + b"trailing", 1) == (number, 1 + len(data))
    for size in range(len(data)):
        with pytest.raises(TruncatedError):
            wire.read_length(data[:size], 0)


@pytest.mark.parametrize("first", [0x82, 0xBF, 0xC0])
def test_no_length(first: int) -> None:
    with pytest.raises(CodecError):
        wire.read_length(bytes([first]) * 20, 0)


@given(st.binary(max_size=300), st.binary(max_size=3))
def test_strings(value: bytes, trailing: bytes) -> None:
    data = wire.write_string(value)
    assert wire.read_string(data + trailing, 0) == (value, len(data))
    assert wire.skip_string(data + trailing, 0) == len(data)


@pytest.mark.parametrize("long_share", [0, 0.02, 0.3, 1])
@pytest.mark.parametrize("seed", range(50))
def test_many_strings_are_skipped(seed: int, long_share: float) -> None:
    """Short ones go by another way than those between and behind them."""
    rng = random.Random(seed)
    encoded = (b"\xc0\x05", b"\xc1aa", b"\xc2aaaa", b"\xc3\x05\x40\x64abcde")
    parts = []
    for _number in range(rng.randrange(200)):
        if rng.random() < long_share:
            parts.append(rng.choice((*encoded, wire.write_string(bytes(rng.choice((64, 300, 17_000)))))))
        else:
            parts.append(wire.write_string(rng.randbytes(rng.randrange(64))))
    data = b"xx" + b"".join(parts)
    assert skip.strings_end(data, 2, len(parts)) == len(data)
    for cut in rng.sample(range(2, len(data)), min(5, len(data) - 2)):
        try:
            assert skip.strings_end(data[:cut], 2, len(parts)) > cut
        except IndexError:
            pass


@pytest.mark.parametrize("data", [b"\xc0\x80", b"\xc1\x00\x80", b"\xc2\x00\x00\x00\x80", b"\xc3\x04\x09\x00a\xc0\x00", b"\x40\x03abc"])
def test_encoded_strings_are_skipped_and_truncated_alike(data: bytes) -> None:
    assert wire.skip_string(data + b"trailing", 0) == wire.read_string(data + b"trailing", 0)[1] == len(data)
    for size in range(len(data)):
        for read in (wire.skip_string, wire.read_string):
            with pytest.raises(TruncatedError):
                read(data[:size], 0)


def test_a_string_longer_than_memory_is_only_truncated() -> None:
    with pytest.raises(TruncatedError):
        wire.read_string(b"\x81\x7f" + b"\xff" * 7 + b"abc", 0)


@given(st.floats(allow_nan=False))
def test_doubles_survive_both_forms(number: float) -> None:
    for write, read in ((wire.write_double, wire.read_double), (wire.write_old_double, wire.read_old_double)):
        data = write(number)
        assert read(data + b"x", 0) == (number, len(data))
        for size in range(len(data)):
            with pytest.raises(TruncatedError):
                read(data[:size], 0)


def test_not_a_number() -> None:
    for data in (wire.write_old_double(float("nan")), b"\x03nan"):
        number, _end = wire.read_old_double(data, 0)
        assert math.isnan(number)
    for text in (b"", b" 1", b"1_0", b"0x10", b"--1", b"1e", b"one"):
        with pytest.raises(CodecError):
            wire.parse_double(text)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_times(ms: int) -> None:
    assert wire.read_ms(wire.write_ms(ms), 0) == (ms, 8)


def test_crc64() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"6789", crc64(b"12345")) == crc64(b"123456789")


# -- LZF ---------------------------------------------------------------------------------------------------------------


def _lzf_pieces(seed: int) -> tuple[bytes, bytes]:
    """Random LZF data and what it holds, made one byte at a time."""
    source = random.Random(seed)
    packed = bytearray()
    plain = bytearray()
    for _unused in range(source.randrange(1, 60)):
        if not plain or source.random() < 0.4:
            text = source.randbytes(source.randrange(1, 33))
            packed += bytes([len(text) - 1]) + text
            plain += text
            continue
        run = source.choice([3, 4, 8, 9, 10, 100, 264])
        back = source.randrange(1, min(len(plain), 8192) + 1)
        short = min(run - 2, 7)
        packed.append(short << 5 | back - 1 >> 8)
        if short == 7:
            packed.append(run - 2 - 7)
        packed.append(back - 1 & 255)
        for _again in range(run):
            plain.append(plain[-back])
    return bytes(packed), bytes(plain)


@pytest.mark.parametrize("seed", range(200))
def test_lzf(seed: int) -> None:
    packed, plain = _lzf_pieces(seed)
    assert lzf.decompress(packed, len(plain)) == plain
    for wrong in (len(plain) - 1, len(plain) + 1):
        with pytest.raises(CodecError):
            lzf.decompress(packed, wrong)
    for size in range(len(packed)):
        with pytest.raises(CodecError):
            lzf.decompress(packed[:size], len(plain))


def unpacked(chunks: Iterable[bytes], packed: int, plain: int) -> tuple[list[bytes], bytes]:
    """The pieces of LZF data that comes in chunks, and what follows it in them; CodecError, TruncatedError at their end."""
    unpacker = lzf.Unpacker(packed, plain)
    pieces: list[bytes] = []
    buf, done = b"", False
    for chunk in chunks:
        buf += chunk
        pos = 0
        while not done:
            piece, pos, done = unpacker.feed(buf, pos)
            if not piece:
                break
            pieces.append(piece)
        buf = buf[pos:]
        assert done or len(buf) <= 33
    if not done:
        raise TruncatedError("the chunks end", 0)
    return pieces, buf


@pytest.mark.parametrize("seed", range(200))
def test_lzf_in_pieces(seed: int) -> None:
    packed, plain = _lzf_pieces(seed)
    size = len(packed)
    cut = random.Random(seed).randrange(size + 1)
    for chunks in ([packed], [packed[pos : pos + 1] for pos in range(size)], [packed[:cut], packed[cut:]], [packed + b"trailing"]):
        pieces, rest = unpacked(chunks, size, len(plain))
        assert b"".join(pieces) == plain and rest in (b"", b"trailing")
    for wrong in (len(plain) - 1, len(plain) + 1):
        with pytest.raises(CodecError):
            unpacked([packed], size, wrong)
    for short in range(size):
        with pytest.raises(CodecError):
            unpacked([packed[:short]], size, len(plain))
        with pytest.raises(CodecError):
            unpacked([packed[:short] + b"\xff" * 40], short, len(plain))


def test_lzf_pieces_are_bounded() -> None:
    packed = b"\x00a" + b"\xe0\xff\x00" * 100_000
    pieces, _rest = unpacked([packed], len(packed), 1 + 264 * 100_000)
    assert max(map(len, pieces)) < (1 << 20) + 1000 and b"".join(pieces) == b"a" * (1 + 264 * 100_000)


@pytest.mark.parametrize("data", [b"\x20\x00", b"\x00a\x20\x01", b"\xe0", b"\x00a\xe0\x00", b"\x05abc"])
def test_broken_lzf(data: bytes) -> None:
    with pytest.raises(CodecError):
        lzf.decompress(data, 4)
    with pytest.raises(CodecError):
        unpacked([data], len(data), 4)


def test_lzf_cannot_claim_more_than_it_can_hold() -> None:
    with pytest.raises(CodecError, match="cannot hold"):
        wire.read_string(b"\xc3\x01\x81\x00\x00\x00\xff\xff\xff\xff\xff\x00", 0)
    with pytest.raises(CodecError, match="cannot hold"):
        wire.skip_string(b"\xc3\x01\x81\x00\x00\x00\xff\xff\xff\xff\xff\x00", 0)
    with pytest.raises(CodecError, match="cannot hold"):
        lzf.Unpacker(5 << 20, 1 << 40)


# -- compact encodings ------------------------------------------------------------------------------------------------


def test_listpack_vector() -> None:
    assert listpack.decode(LISTPACK) == LISTPACK_ITEMS
    assert listpack.encode(LISTPACK_ITEMS) == LISTPACK


_EDGES = [0, 127, 128, -1, -4096, 4095, 4096, -4097, 32767, -32768, 32768, 1 << 23, -(1 << 23), (1 << 31) - 1, 1 << 31, -(1 << 63), (1 << 63) - 1]


@pytest.mark.parametrize("number", _EDGES + [1 << 63, -(1 << 63) - 1, 10**30])
def test_listpack_integers(number: int) -> None:
    item = b"%d" % number
    assert listpack.decode(listpack.encode([item, b"end"])) == [item, b"end"]


@pytest.mark.parametrize("item", [b"", b"-", b"-0", b"01", b"+1", b"1 ", b"1_0", b"\xd9\xa1"])
def test_listpack_leaves_other_strings_alone(item: bytes) -> None:
    assert listpack.decode(listpack.encode([item])) == [item]


@pytest.mark.parametrize("size", [63, 64, 125, 126, 127, 4095, 4096, 16376, 16377, 16378, 16379, (1 << 21) - 6, 1 << 21, 1 << 22])
def test_listpack_lengths(size: int) -> None:
    items = [b"a" * size, b"b"]
    assert listpack.decode(listpack.encode(items)) == items


@given(st.lists(st.one_of(st.binary(max_size=200), st.integers().map(lambda number: b"%d" % number)), max_size=30))
def test_listpack_round_trip(items: list[bytes]) -> None:
    assert listpack.decode(listpack.encode(items)) == items


def test_listpack_with_more_elements_than_its_header_counts() -> None:
    items = [b"%d" % number for number in range(70000)]
    data = listpack.encode(items)
    assert data[4:6] == b"\xff\xff"
    assert listpack.decode(data) == items


def test_ziplist_vector() -> None:
    assert ziplist.decode(ZIPLIST) == LISTPACK_ITEMS


def _ziplist(entries: list[bytes]) -> bytes:
    body = b""
    before = 0
    tail = 10
    for entry in entries:
        tail = 10 + len(body)
        head = bytes([before]) if before < 254 else b"\xfe" + struct.pack("<I", before)
        body += head + entry
        before = len(head) + len(entry)
    return struct.pack("<IIH", 11 + len(body), tail, len(entries)) + body + b"\xff"


def test_ziplist_encodings() -> None:
    entries = [
        (b"\xf1", b"0"),
        (b"\xfd", b"12"),
        (b"\xd0" + struct.pack("<i", -70000), b"-70000"),
        (b"\xe0" + struct.pack("<q", 1 << 40), b"%d" % (1 << 40)),
        (b"\xf0\xff\xff\x7f", b"8388607"),
        (b"\xf0\x00\x00\x80", b"-8388608"),
        (b"\x00", b""),
        (b"\x43\xe8" + b"x" * 1000, b"x" * 1000),
        (b"\x80\x00\x01\x00\x00" + b"y" * 65536, b"y" * 65536),
        (b"\x01z", b"z"),
    ]
    assert ziplist.decode(_ziplist([entry for entry, _item in entries])) == [item for _entry, item in entries]
    assert ziplist.decode(_ziplist([])) == []


def test_intset() -> None:
    assert intset.decode(INTSET) == [b"-5", b"0", b"7"]
    assert intset.decode(struct.pack("<IIiq", 8, 1, 5, 0)[:16]) == [b"5"]
    for wrong in (INTSET[:-1], INTSET + b"\x00", struct.pack("<II", 3, 0), struct.pack("<IIhh", 2, 2, 1, 1), b"\x02"):
        with pytest.raises(CodecError):
            intset.decode(wrong)


def test_zipmap() -> None:
    assert zipmap.decode(ZIPMAP) == [(b"a", b"b"), (b"cc", b"ddd")]
    long = b"v" * 300
    assert zipmap.decode(b"\xfe\x01a\xfe" + struct.pack("<I", 300) + b"\x00" + long + b"\xff") == [(b"a", long)]
    for wrong in (b"", b"\x00", b"\x01\xff", ZIPMAP[:-1], b"\x03" + ZIPMAP[1:], b"\x01\x01a\xff\xff", b"\x01\x01a\x05\x00b\xff"):
        with pytest.raises(CodecError):
            zipmap.decode(wrong)


@pytest.mark.parametrize(("decoder", "blob"), [(listpack.decode, LISTPACK), (ziplist.decode, ZIPLIST), (intset.decode, INTSET)])
def test_blobs_cut_or_lengthened(decoder, blob: bytes) -> None:  # type: ignore[no-untyped-def]
    for wrong in [blob[:size] for size in range(len(blob))] + [blob + b"\x00", blob + b"\xff"]:
        with pytest.raises(CodecError):
            decoder(wrong)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_in_every_blob(data: bytes) -> None:
    framed = (
        (listpack.decode, struct.pack("<IH", len(data) + 7, 0xFFFF) + data + b"\xff"),
        (ziplist.decode, struct.pack("<IIH", len(data) + 11, 10, 0xFFFF) + data + b"\xff"),
        (intset.decode, struct.pack("<II", 2, len(data) // 2) + data),
        (zipmap.decode, b"\xfe" + data + b"\xff"),
    )
    for decoder, blob in framed:
        for variant in (data, blob):
            try:
                items = decoder(variant)
            except CodecError:
                continue
            assert len(items) <= len(variant)


@given(st.binary(max_size=300), st.integers(0, 30000))
def test_arbitrary_bytes_in_lzf(data: bytes, length: int) -> None:
    try:
        plain = lzf.decompress(data, length)
        assert len(plain) == length <= 88 * len(data)
    except CodecError:
        with pytest.raises(CodecError):
            unpacked([data], len(data), length)
        return
    assert b"".join(unpacked([data[:100], data[100:]], len(data), length)[0]) == plain


# -- types -------------------------------------------------------------------------------------------------------------


def test_dialects() -> None:
    assert types.dialect_of(11) == types.dialect_of(12) == types.dialect_of(79) == types.REDIS
    assert types.dialect_of(80) == types.dialect_of(11, b"VALKEY") == types.VALKEY
    assert types.dialect_of(80, b"REDIS") == types.REDIS
    assert types.type_name(22, types.REDIS) == "hash_metadata_pre_ga"
    assert types.type_name(22, types.VALKEY) == "hash_2"
    assert types.OPCODES[types.REDIS][243] != types.OPCODES[types.VALKEY][243]
    assert set(types.TYPES[types.REDIS]) == set(range(33)) - {8}


@pytest.mark.parametrize(
    ("type_byte", "version", "dialect", "source", "expected"),
    [
        (5, 7, types.REDIS, None, False),
        (5, 8, types.REDIS, None, True),
        (14, 6, types.REDIS, None, False),
        (6, 12, types.REDIS, None, False),
        (9, 80, types.VALKEY, types.REDIS, True),
        (21, 80, types.VALKEY, types.REDIS, True),
        (22, 80, types.VALKEY, None, True),
        (22, 80, types.VALKEY, types.REDIS, False),
        (22, 11, types.VALKEY, None, False),
        (22, 12, types.REDIS, types.VALKEY, False),
        (24, 12, types.REDIS, types.REDIS, True),
        (24, 81, types.VALKEY, None, False),
        (26, 12, types.REDIS, None, False),
        (26, 13, types.REDIS, None, True),
        (8, 99, types.REDIS, None, False),
    ],
)
def test_loadable(type_byte: int, version: int, dialect: str, source: str | None, expected: bool) -> None:
    assert types.loadable(type_byte, version, dialect, source) is expected


@pytest.mark.parametrize(
    ("product", "version", "expected"),
    [
        ("redis", "2.4.1", None),
        ("redis", "2.6.0", 6),
        ("redis", "3.0.7", 6),
        ("redis", "3.2.11", 7),
        ("redis", "6.2.14", 9),
        ("redis", "7.4-rc2", 12),
        ("redis", "8.4.0", 12),
        ("redis", "8.10.1", 15),
        ("Valkey", "8.1.0", 11),
        ("valkey", "9.1.2", 80),
        ("redict", "7.3.6", 11),
        ("keydb", "6.3.4", 9),
        ("dragonfly", "1.0", None),
        ("redis", "255.255.255", 15),
    ],
)
def test_server_versions(product: str, version: str, expected: int | None) -> None:
    assert types.server_rdb_version(product, version) == expected
