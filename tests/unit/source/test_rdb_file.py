# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file as events, and what is said of a file that is none."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.events import Batch, BigStart, Header
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.plugins.module_utils._errors import BucketError, FileError
from ansible_collections.dcs.migration.plugins.module_utils._source.files import BackupFile, open_files
from ansible_collections.dcs.migration.plugins.module_utils._source.rdb_file import Rest, events, header, looks_like

PING = b"*1\r\n$4\r\nPING\r\n"


def snapshot(keys: int = 3, aux: tuple[tuple[bytes, bytes], ...] = ((b"redis-ver", b"7.2.4"),)) -> bytes:
    writer = RdbWriter(11)
    # In this order: the writer computes the checksum as it goes.
    parts = [writer.header(aux)]
    parts += [writer.entry(number % 2, 0, b"key:%d" % number, write_string(b"v" * number)) for number in range(keys)]
    return b"".join([*parts, writer.trailer()])


def backup(tmp_path: Path, data: bytes, name: str = "dump.rdb") -> BackupFile:
    (tmp_path / name).write_bytes(data)
    (found,) = open_files([str(tmp_path / name)])
    return found


def failure(file: BackupFile) -> FileError:
    with pytest.raises(FileError) as caught:
        for _event in events(file):
            pass
    assert caught.value.remedy and file.name in caught.value.what
    return caught.value


def test_a_file(tmp_path: Path) -> None:
    file = backup(tmp_path, snapshot(2000))
    found = list(events(file))
    assert found[0] == Header(11, "redis")
    assert sum(len(event.entries) for event in found if isinstance(event, Batch)) == 2000
    assert not any(isinstance(event, Rest) for event in found)
    # It was read to its end, so its checksum is known by now.
    assert len(file.identity()) == 64


def test_small_parts(tmp_path: Path) -> None:
    found = list(events(backup(tmp_path, snapshot()), big=1))
    assert any(isinstance(event, (Batch, BigStart)) for event in found)


def test_commands_behind_a_snapshot(tmp_path: Path) -> None:
    data = snapshot() + PING * 300_000
    found = []
    commands = b""
    for event in events(backup(tmp_path, data)):
        found.append(event)
        if isinstance(event, Rest):
            assert event.offset == len(snapshot())
            commands = b"".join(event.chunks)
    assert isinstance(found[-1], Rest) and commands == PING * 300_000


def test_commands_that_nobody_reads_are_not_lost_silently(tmp_path: Path) -> None:
    assert "not read" in str(failure(backup(tmp_path, snapshot() + PING)))


def test_an_annotated_aof_may_follow(tmp_path: Path) -> None:
    file = backup(tmp_path, snapshot() + b"#TS:1700000000\r\n" + PING)
    rests = []
    for event in events(file):
        if isinstance(event, Rest):
            rests.append(b"".join(event.chunks))
    assert rests == [b"#TS:1700000000\r\n" + PING]


@pytest.mark.parametrize("tail", [b"\n", b"\0" * 40, b"0123456789abcdef0123456789abcdef01234567", snapshot()])
def test_anything_else_may_not(tmp_path: Path, tail: bytes) -> None:
    error = failure(backup(tmp_path, snapshot() + tail))
    assert error.what.endswith("at byte %d" % len(snapshot())) and "%d bytes follow" % len(tail) in error.why


@pytest.mark.parametrize("size", [9, 30, len(snapshot()) - 9, len(snapshot()) - 1])
def test_truncated(tmp_path: Path, size: int) -> None:
    error = failure(backup(tmp_path, snapshot()[:size]))
    assert error.why.startswith("truncated: ") and error.what.endswith("at byte %d" % size)
    assert "compare size" in error.remedy


def test_damaged(tmp_path: Path) -> None:
    data = bytearray(snapshot(50))
    data[-30] ^= 1
    error = failure(backup(tmp_path, bytes(data)))
    assert error.why.startswith("damaged: ") and "checksum" in error.why and "new backup" in error.remedy


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"REDIS0099" + snapshot()[9:], "RDB version 99"),
        (snapshot(0)[:-9] + b"\x63\x01k\x01v" + b"\xff" * 9, "written by Redis 7.2.4"),
        (snapshot(0)[:-9] + b"\xf1\x01" + b"\xff" * 9, "unknown opcode 241"),
        (snapshot(0, ((b"redis-ver", b"7.2"), (b"valkey-ver", b"9.1")))[:-9] + b"\xf1\x01", "written by Valkey 9.1"),
    ],
)
def test_what_no_known_server_wrote(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in failure(backup(tmp_path, data)).why


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(snapshot(), mtime=0), "gzip"),
        (b"PK\x03\x04" + bytes(20), "zip archive"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00\x00", "xz"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd"),
        (PING, "commands of an AOF"),
        (b"#TS:1700000000\r\n", "AOF with timestamps"),
        (b"file appendonly.aof.1.base.rdb seq 1 type b\n", "manifest"),
        (b"-NOAUTH Authentication required.\r\n", "error reply"),
        (b"$175\r\n" + snapshot(), "reply to SYNC"),
        (b"$EOF:" + b"a" * 40 + b"\r\n" + snapshot(), "reply to SYNC"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"key": 1}', "JSON"),
        (b"hello, this is a text\n", "text"),
        ("gr\u00fc\u00dfe ".encode() * 200, "text"),
        (bytes(5000), "zeros"),
        (b"REDISxxxx" + bytes(9), "version cannot be read"),
        (b"\x93\x01\x02\xfe\xff\x00", "unknown data"),
        (b"", "empty"),
    ],
)
def test_what_a_file_looks_like(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in looks_like(data)
    if data:
        error = failure(backup(tmp_path, data))
        assert words in error.why and "is not an RDB or AOF file" in error.why


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (snapshot(), Header(11, "redis")),
        (b"VALKEY080" + bytes(9), Header(80, "valkey")),
        (b"REDIS0099", Header(99, "redis")),
        (b"REDIS009", Header(0, "redis")),
        (PING, Header(0, "redis")),
    ],
)
def test_header(tmp_path: Path, data: bytes, expected: Header) -> None:
    assert header(backup(tmp_path, data)) == expected


class Unreadable(BackupFile):
    """A download that ends in an error."""

    def _read(self, size: int) -> Iterator[bytes]:
        yield snapshot()[:50]
        raise BucketError("s3://b/k", "gone", "wait")


def test_errors_of_the_download_stay_what_they_are() -> None:
    with pytest.raises(BucketError):
        list(events(Unreadable("s3://b/k", 1000, "s3://b")))


def test_stopping_early_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = backup(tmp_path, snapshot())
    closed: list[bool] = []
    chunks = file.chunks

    def watched(size: int = 0) -> Iterator[bytes]:
        try:
            yield from chunks(size)
        finally:
            closed.append(True)

    monkeypatch.setattr(file, "chunks", watched)
    running: Any = events(file)
    next(running)
    running.close()
    assert closed == [True]
