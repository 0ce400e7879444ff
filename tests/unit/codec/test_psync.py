# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answers and the snapshot of a master: whole, byte by byte, cut off, with the end mark split everywhere."""

from __future__ import annotations

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import psync
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError, TruncatedError
from ansible_collections.dcs.migration.plugins.module_utils._codec.psync import Answer, LineReader, PayloadReader, read_answer

ID = "17c881a2b0bcbd3e56a9b871395572f95585fd4d"
MARK = b"380a2deb06822386ee54ecf5df52916ca2463499"
BODY = b"REDIS0011\xfa\tredis-ver\x057.2.4\xff\x00\n\r\n$EOF:" + bytes(range(256))
STREAM = b"*1\r\n$4\r\nPING\r\n"

# name -> (bytes, snapshot, what follows it)
PAYLOADS = {
    "counted": (b"$%d\r\n%b" % (len(BODY), BODY), BODY, b""),
    "counted, then the stream": (b"$%d\r\n%b%b" % (len(BODY), BODY, STREAM), BODY, STREAM),
    "empty": (b"$0\r\n" + STREAM, b"", STREAM),
    "marked": (b"$EOF:%b\r\n%b%b" % (MARK, BODY, MARK), BODY, b""),
    "marked, then the stream": (b"$EOF:%b\r\n%b%b%b" % (MARK, BODY, MARK, STREAM), BODY, STREAM),
    "marked, nothing in it": (b"$EOF:%b\r\n%b" % (MARK, MARK), b"", b""),
    "keepalives": (b"\n\n\n$%d\r\n%b" % (len(BODY), BODY), BODY, b""),
    "keepalives and a mark": (b"\n\n$EOF:%b\r\n%b%b" % (MARK, BODY, MARK), BODY, b""),
    "half the mark inside": (b"$EOF:%b\r\n%b%b%b" % (MARK, BODY, MARK[:39], MARK), BODY + MARK[:39], b""),
    "the mark's start again and again": (b"$EOF:%b\r\n%b%b" % (MARK, MARK[:7] * 30, MARK), MARK[:7] * 30, b""),
}


def receive(reader: PayloadReader, data: bytes, step: int) -> bytes:
    out = b""
    for pos in range(0, len(data), step):
        out += b"".join(reader.feed(data[pos : pos + step]))
    return out


@pytest.mark.parametrize("step", [1, 2, 7, 39, 40, 41, 1 << 20])
@pytest.mark.parametrize("name", PAYLOADS)
def test_any_chunking_gives_the_same(name: str, step: int) -> None:
    data, snapshot, rest = PAYLOADS[name]
    reader = PayloadReader()
    assert receive(reader, data, step) == snapshot
    assert reader.done and reader.begun and reader.rest == rest
    assert reader.received == len(snapshot)
    assert reader.keepalives == len(data) - len(data.lstrip(b"\n"))
    reader.close()


@pytest.mark.parametrize("name", [name for name in PAYLOADS if "mark" in name])
def test_the_mark_may_be_split_anywhere(name: str) -> None:
    data, snapshot, rest = PAYLOADS[name]
    for cut in range(len(data) + 1):
        reader = PayloadReader()
        assert b"".join(reader.feed(data[:cut]) + reader.feed(data[cut:])) == snapshot
        assert reader.done and reader.rest == rest


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_truncation_is_noticed(name: str) -> None:
    data, _snapshot, rest = PAYLOADS[name]
    for cut in range(len(data) - len(rest)):
        reader = PayloadReader()
        reader.feed(data[:cut])
        assert not reader.done
        with pytest.raises(TruncatedError):
            reader.close()


def test_what_comes_late_is_kept_for_the_stream() -> None:
    reader = PayloadReader()
    reader.feed(PAYLOADS["marked"][0])
    assert reader.feed(STREAM) == [] and reader.rest == STREAM


def test_an_error_instead_of_a_snapshot() -> None:
    reader = PayloadReader()
    assert reader.feed(b"\n-ERR unknown command 'SYNC'\r\nmore") == []
    assert reader.error == "ERR unknown command 'SYNC'" and not reader.begun and reader.rest == b"more"


@pytest.mark.parametrize("head", [b"$EOF:short\r\n", b"$-1\r\n", b"$abc\r\n", b"+OK\r\n", b"HTTP/1.1 400 Bad Request\r\n"])
def test_no_snapshot_begins_like_that(head: bytes) -> None:
    with pytest.raises(CodecError):
        PayloadReader().feed(head)


def test_a_line_without_end_is_not_collected_for_ever() -> None:
    reader = PayloadReader()
    with pytest.raises(CodecError):
        for _number in range(100):
            reader.feed(b"x" * 1000)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_lines_among_keepalives(step: int) -> None:
    data = b"\n\n+OK\r\n\n-ERR no\n\n\n+FULLRESYNC %s 7\r\n$25\r\nREDIS" % ID.encode()
    reader = LineReader()
    lines = []
    for pos in range(0, len(data), step):
        reader.feed(data[pos : pos + step])
        while len(lines) < 3:
            line = reader.line()
            if line is None:
                break
            lines.append(line)
    assert lines == [b"+OK", b"-ERR no", b"+FULLRESYNC %s 7" % ID.encode()]
    assert reader.keepalives == 5 and reader.take_rest() == b"$25\r\nREDIS" and reader.take_rest() == b""


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("+FULLRESYNC %s 42" % ID, Answer(psync.FULL, "+FULLRESYNC %s 42" % ID, ID, 42)),
        ("+FULLRESYNC ? -1", Answer(psync.FULL, "+FULLRESYNC ? -1", "?", -1)),
        ("+FULLRESYNC", Answer(psync.REFUSED, "+FULLRESYNC")),
        ("+FULLRESYNC id x", Answer(psync.REFUSED, "+FULLRESYNC id x")),
        ("+CONTINUE", Answer(psync.CONTINUE, "+CONTINUE")),
        ("+CONTINUE %s" % ID, Answer(psync.CONTINUE, "+CONTINUE %s" % ID, ID)),
        ("-LOADING Redis is loading the dataset in memory", Answer(psync.LATER, "LOADING Redis is loading the dataset in memory")),
        ("-NOMASTERLINK Can't SYNC", Answer(psync.LATER, "NOMASTERLINK Can't SYNC")),
        ("-ERR unknown command 'PSYNC'", Answer(psync.REFUSED, "ERR unknown command 'PSYNC'")),
        ("-NOPERM no", Answer(psync.REFUSED, "NOPERM no")),
        ("", Answer(psync.REFUSED, "")),
    ],
)
def test_answers(line: str, answer: Answer) -> None:
    assert read_answer(line.encode()) == answer
