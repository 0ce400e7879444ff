# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes of a replication stream into commands: the same in any chunking, each in its place, and nothing from what is no stream."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._sync.stream import StreamReader, argument_size, command_size

START = 1_000_003
LENGTHS = [0, 1, 9, 10, 99, 100, 999, 1000, 8191, 8192, 9999, 10_000, 16_383, 16_384, 99_999, 100_000, 1_000_000]
COUNTS = [1, 2, 3, 9, 10, 11, 99, 100, 101, 999, 1000]


def frames(commands: Sequence[Sequence[bytes]]) -> list[bytes]:
    return [command(*args) for args in commands]


def read(chunks: Sequence[bytes], position: int = START) -> list[list[bytes]]:
    """Feed the chunks; what every piece says of itself has to be true."""
    reader = StreamReader(position)
    fed = b"".join(chunks)
    taken = bytearray()
    found: list[list[bytes]] = []
    for chunk in chunks:
        piece = reader.feed(chunk)
        assert piece.start == position + len(taken)
        taken += piece.raw
        assert piece.end == reader.position == position + len(taken)
        assert b"".join(frames(piece.commands)) == piece.raw
        found += piece.commands
    assert fed.startswith(taken) and reader.waiting == len(fed) - len(taken)
    return found


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Chunks of these sizes, and the rest."""
    chunks = []
    at = 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


MIXED = [
    [b"SELECT", b"0"],
    [b"PING"],
    [b"SET", b"key", b"value"],
    [b"MULTI"],
    [b"MSET", *(b"%d" % number for number in range(1000))],
    [b"SET", b"", b""],
    [b"EXEC"],
    [b"HSET", b"h", *(b"f%d" % number for number in range(8))],
    [b"set", b"*3\r\n$3\r\nSET\r\n", b"\r\n$-1\r\n\x00\xff"],
    [b"APPEND", b"big", bytes(range(256)) * 80],
    [b"PING"],
]


@pytest.mark.parametrize("length", LENGTHS)
def test_sizes_of_arguments(length: int) -> None:
    argument = b"x" * length
    assert argument_size(length) == len(command(argument)) - len(b"*1\r\n")
    assert command_size([b"SET", argument]) == len(command(b"SET", argument))
    commands = [[b"SET", b"a", argument], [argument], [b"PING"]]
    assert read([b"".join(frames(commands))]) == commands


@pytest.mark.parametrize("count", COUNTS)
def test_numbers_of_arguments(count: int) -> None:
    commands = [[b"PING"], [b"%d" % number for number in range(count)], [b"PING"]]
    assert command_size(commands[1]) == len(command(*commands[1]))
    assert read([b"".join(frames(commands))]) == commands


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 4096, 1 << 20])
def test_chunks_of_one_size(size: int) -> None:
    data = b"".join(frames(MIXED))
    assert read([data[at : at + size] for at in range(0, len(data), size)]) == MIXED


def test_cut_in_two_at_every_byte() -> None:
    commands = [*MIXED[:4], *MIXED[5:9], [b"S", b"k", b"v" * 12]]
    data = b"".join(frames(commands))
    ends = {0}
    for frame in frames(commands):
        ends.add(max(ends) + len(frame))
    for at in range(len(data) + 1):
        reader = StreamReader(START)
        first = reader.feed(data[:at])
        assert reader.position == START + max(end for end in ends if end <= at)
        assert reader.waiting == at - (reader.position - START)
        assert first.commands + reader.feed(data[at:]).commands == commands


words = st.one_of(st.binary(max_size=40), st.sampled_from([0, 9, 10, 8191, 16_383, 16_384, 100_000]).map(lambda size: b"x" * size))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(words, min_size=1, max_size=12), max_size=8), st.lists(st.integers(0, 20_000), max_size=8), st.integers(0, 1 << 50)
)
def test_any_commands_in_any_chunks(commands: list[list[bytes]], sizes: list[int], position: int) -> None:
    assert read(cut(b"".join(frames(commands)), sizes), position) == commands


def test_nothing_is_fed() -> None:
    reader = StreamReader(START)
    for data in (b"", b"*", b"", b"1\r\n$4\r\nPIN", b""):
        assert reader.feed(data) == ([], b"", START, START)
    assert reader.feed(b"G\r\n").commands == [[b"PING"]] and reader.position == START + len(command("PING"))


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"\n",
        b"\x00",
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":1\r\n",
        b"$3\r\nabc\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*x\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-5\r\nabc\r\n",
        b"*1\r\n$1\r\nabc\r\n",
        b"*2\r\n$3\r\nGET\r\n-ERR no\r\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n$04\r\nPING\r\n",
        b"*+1\r\n$4\r\nPING\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n#t\r\n",
        b"_\r\n",
        b"%1\r\n$1\r\na\r\n$1\r\nb\r\n",
    ],
)
def test_what_no_server_writes(data: bytes) -> None:
    """At the beginning and behind commands that were fine, in one piece or byte by byte."""
    good = command("SET", "a", "1")
    for stream in (data, good + data):
        for chunks in ([stream + good], [stream[at : at + 1] for at in range(len(stream))] + [good, good]):
            reader = StreamReader(START)
            with pytest.raises(CodecError):
                for chunk in chunks:
                    reader.feed(chunk)


@pytest.mark.parametrize("data", [b"*0\r\n", b"%0\r\n", b"~0\r\n", b">0\r\n"])
def test_a_command_without_a_name(data: bytes) -> None:
    with pytest.raises(CodecError):
        StreamReader(START).feed(data + command("PING"))


def feed_all(chunks: Sequence[bytes]) -> list[list[bytes]]:
    """The commands; none from where the bytes are none."""
    reader = StreamReader(0)
    found: list[list[bytes]] = []
    try:
        for chunk in chunks:
            found += reader.feed(chunk).commands
    except CodecError:
        pass
    return found


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text("*$:+-%~_#,()=|>\r\n0123 aP", max_size=60).map(str.encode)),
    st.lists(st.integers(0, 20), max_size=5),
)
def test_hostile_bytes(data: bytes, sizes: list[int]) -> None:
    """Whatever comes, it is either no stream, or commands of at least a name each."""
    for args in feed_all(cut(data, sizes)):
        assert args and all(isinstance(arg, bytes) for arg in args)


def test_hostile_changes_of_a_stream() -> None:
    """One byte is another one: an error, or other commands, but never anything else."""
    random = Random(1)
    data = b"".join(frames([*MIXED[:4], *MIXED[5:9]]))
    for _attempt in range(3000):
        at = random.randrange(len(data))
        changed = data[:at] + bytes([random.choice(b"*$\r\n0123456789abc\x00\xff:-+%~")]) + data[at + 1 :]
        for args in feed_all(cut(changed, [random.randrange(len(data))])):
            assert args and all(isinstance(arg, bytes) for arg in args)


def test_an_error_tells_where() -> None:
    reader = StreamReader(START)
    good = command("SET", "a", "1")
    reader.feed(good)
    with pytest.raises(CodecError) as refused:
        reader.feed(b"PING\r\n")
    assert refused.value.offset == START + len(good)
