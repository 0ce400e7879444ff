# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Append-only files whole, byte by byte, cut off and damaged; manifests as servers write them and as nobody should."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._codec import aof
from ansible_collections.dcs.migration.plugins.module_utils._codec.aof import AofReader, Command, Part, parse_manifest
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError, TruncatedError
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command

SET = command("SET", "key", "value")
SELECT = command("SELECT", 0)
MULTI, EXEC = command("MULTI"), command("EXEC")
STAMP = b"#TS:1628217473\r\n"

FILES: dict[str, tuple[bytes, list[bytes]]] = {
    "empty": (b"", []),
    "one command": (SET, [SET]),
    "several": (SELECT + SET + SET, [SELECT, SET, SET]),
    "empty arguments": (command("SET", "", ""), [command("SET", "", "")]),
    "binary": (command("SET", b"\r\n*1\r\n$", b"\x00\xff\r\n"), [command("SET", b"\r\n*1\r\n$", b"\x00\xff\r\n")]),
    "timestamps": (STAMP + SELECT + STAMP + STAMP + SET + STAMP, [SELECT, SET]),
    "transaction": (MULTI + SET + SET + EXEC, [MULTI, SET, SET, EXEC]),
    "discarded": (MULTI + SET + command("discard") + SET, [MULTI, SET, command("discard"), SET]),
    "lower case": (command("multi") + SET + command("exec"), [command("multi"), SET, command("exec")]),
    "many arguments": (command("RPUSH", *range(3000)), [command("RPUSH", *range(3000))]),
    "length beyond the table": (command("SET", "k", b"x" * 20000), [command("SET", "k", b"x" * 20000)]),
    "leading zeros": (b"*02\r\n$003\r\nGET\r\n$1\r\nk\r\n", [b"*02\r\n$003\r\nGET\r\n$1\r\nk\r\n"]),
}


def read(data: bytes, step: int | None = None, base: int = 0, total: bool = False) -> list[Command]:
    """All commands of a file that is fed in pieces of ``step`` bytes."""
    reader = AofReader(base, base + len(data) if total else None)
    found = []
    for pos in range(0, len(data), step or max(1, len(data))):
        found += reader.feed(data[pos : pos + (step or len(data))])
    return found + list(reader.close())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("step", [None, 1, 2, 3, 7, 64])
def test_any_chunking_gives_the_same(name: str, step: int | None) -> None:
    data, frames = FILES[name]
    found = read(data, step)
    assert [frame for _args, frame, _offset in found] == frames
    assert all(data[offset : offset + len(frame)] == frame for _args, frame, offset in found)


def test_arguments_and_positions_count_from_the_base() -> None:
    assert read(STAMP + SET, base=100) == [([b"SET", b"key", b"value"], SET, 100 + len(STAMP))]


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("total", [False, True])
def test_cut_anywhere(step: int | None, total: bool) -> None:
    data = SELECT + STAMP + SET + SET
    ends = {0: 0, len(SELECT): 1, len(SELECT) + len(STAMP): 1, len(SELECT) + len(STAMP) + len(SET): 2}
    for cut in range(len(data)):
        if cut in ends:
            assert len(read(data[:cut], step, total=total)) == ends[cut]
            continue
        reader = AofReader(0, cut if total else None)
        whole = []
        with pytest.raises(TruncatedError) as caught:
            for pos in range(0, cut, step or cut):
                whole += reader.feed(data[pos : min(cut, pos + (step or cut))])
            whole += reader.close()
        assert caught.value.offset == max(end for end in ends if end <= cut)


def test_a_cut_transaction_is_named_by_its_multi() -> None:
    data = SET + MULTI + SET + SET
    for cut in (len(SET + MULTI), len(data) - 3, len(data)):
        with pytest.raises(TruncatedError, match="MULTI at byte %d" % len(SET)) as caught:
            read(data[:cut])
        assert caught.value.offset == len(SET)


DAMAGED = {
    "text": (b"hello\r\n", 0),
    "rdb": (b"REDIS0009", 0),
    "inline": (SET + b"PING\r\n", len(SET)),
    "no arguments": (SET + b"*0\r\n", len(SET)),
    "negative count": (b"*-1\r\n", 0),
    "no number": (b"*x\r\n", 0),
    "underscore": (b"*1_0\r\n", 0),
    "space": (b"* 1\r\n$4\r\nPING\r\n", 0),
    "endless count": (b"*" + b"1" * 40, 0),
    "integer argument": (b"*1\r\n:4\r\n", 4),
    "no length": (b"*1\r\n$\r\n", 4),
    "negative length": (b"*1\r\n$-1\r\n", 4),
    "huge length": (b"*1\r\n$9999999999\r\n", 4),
    "huge count": (b"*99999999999\r\n", 0),
    "too long": (b"*2\r\n$3\r\nGET\r\n$2\r\nkey\r\n", 17),
    "too short": (b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n" + SET, 17),
    "no end": (b"#" + b"x" * aof.ANNOTATION_MAX, 0),
    "multi in multi": (MULTI + MULTI, len(MULTI)),
    "exec alone": (SET + EXEC, len(SET)),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("step", [None, 1])
def test_damage_is_named_with_its_position(name: str, step: int | None) -> None:
    data, offset = DAMAGED[name]
    with pytest.raises(CodecError) as caught:
        read(data, step, base=1000)
    assert caught.value.offset == 1000 + offset
    assert not isinstance(caught.value, TruncatedError)


def test_commands_before_the_damage_come_first() -> None:
    reader = AofReader()
    found = []
    with pytest.raises(CodecError):
        for item in reader.feed(SET + SET + b"garbage"):
            found.append(item)
    assert len(found) == 2


def test_a_length_beyond_the_file_ends_at_once() -> None:
    reader = AofReader(0, 1000)
    with pytest.raises(TruncatedError, match="argument of 500000000 bytes"):
        list(reader.feed(b"*2\r\n$3\r\nSET\r\n$500000000\r\nx"))


def test_many_small_pieces_cost_linear_time() -> None:
    data = command("RPUSH", *[b"x" * 50] * 60_000)
    began = time.process_time()
    assert len(read(data, 1 << 16)) == 1
    whole = time.process_time() - began
    began = time.process_time()
    assert len(read(data)) == 1
    assert whole < 20 * (time.process_time() - began) + 1


words = st.lists(st.binary(max_size=40), min_size=1, max_size=6).filter(
    lambda args: args[0].upper() not in (b"MULTI", b"EXEC", b"DISCARD") or len(args) > 1
)


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=12), st.integers(1, 50))
def test_reads_what_was_written(written: list[list[bytes]], step: int) -> None:
    data = b"".join(command(*args) for args in written)
    assert [args for args, _frame, _offset in read(data, step, total=True)] == written


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_garbage_never_does_anything_else_than_say_so(data: bytes, step: int) -> None:
    outcomes = []
    for size in (step, None):
        try:
            outcomes.append(repr(read(data, size)))
        except CodecError as exc:
            outcomes.append("%s at %s" % (type(exc).__name__, exc.offset))
            assert exc.offset is not None and 0 <= exc.offset <= len(data)
    assert outcomes[0] == outcomes[1]


@settings(max_examples=300, deadline=None)
@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_a_flipped_byte_is_read_alike_in_any_chunking(written: list[list[bytes]], data: st.DataObject) -> None:
    text = bytearray(b"".join(command(*args) for args in written))
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    outcomes = []
    for size in (1, 5, None):
        try:
            outcomes.append(repr(read(bytes(text), size)))
        except CodecError as exc:
            outcomes.append("%s at %s" % (type(exc).__name__, exc.offset))
    assert len(set(outcomes)) == 1


# -- manifests -----------------------------------------------------------------------------------------------------------


def test_a_manifest_as_a_server_writes_it() -> None:
    text = (
        b"file appendonly.aof.2.base.rdb seq 2 type b\n"
        b"file appendonly.aof.1.incr.aof seq 1 type h\n"
        b"file appendonly.aof.4.incr.aof seq 4 type i\n"
        b"file appendonly.aof.5.incr.aof seq 5 type i\n"
    )
    assert parse_manifest(text) == [
        Part("appendonly.aof.2.base.rdb", 2, aof.BASE),
        Part("appendonly.aof.4.incr.aof", 4, aof.INCREMENT),
        Part("appendonly.aof.5.incr.aof", 5, aof.INCREMENT),
        Part("appendonly.aof.1.incr.aof", 1, aof.HISTORY),
    ]


def test_the_base_is_first_wherever_it_stands() -> None:
    text = b"file a.1.incr.aof seq 1 type i\r\n\r\n# a comment\r\nfile a.1.base.aof seq 1 type b\r\n"
    assert [part.name for part in parse_manifest(text)] == ["a.1.base.aof", "a.1.incr.aof"]


def test_later_versions_may_say_more() -> None:
    text = b"file a.1.incr.aof seq 1 type i startoffset 100 endoffset 2000\n"
    assert parse_manifest(text) == [Part("a.1.incr.aof", 1, aof.INCREMENT)]


def test_a_quoted_name() -> None:
    text = b'file "with space \\x41 and \\"quote\\".1.incr.aof" seq 1 type i\n'
    assert parse_manifest(text)[0].name == 'with space A and "quote".1.incr.aof'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# nothing\n",
        b"file a.1.incr.aof seq 1 type h\n",
        b"file a.1.incr.aof seq 0 type i\n",
        b"file a.1.incr.aof seq x type i\n",
        b"file a.1.incr.aof seq 1 type x\n",
        b"file a.1.incr.aof seq 1\n",
        b"file ../../etc/passwd seq 1 type i\n",
        b'file "open seq 1 type i\n',
        b"file a.1.base.rdb seq 1 type b\nfile a.2.base.rdb seq 2 type b\n",
        b"file a.2.incr.aof seq 2 type i\nfile a.1.incr.aof seq 1 type i\n",
        b"*1\r\n$4\r\nPING\r\n",
        bytes(range(256)),
    ],
)
def test_what_is_no_manifest(text: bytes) -> None:
    with pytest.raises(CodecError):
        parse_manifest(text)


@given(st.binary(max_size=200))
def test_garbage_is_no_manifest(text: bytes) -> None:
    with pytest.raises(CodecError):
        parse_manifest(text)
