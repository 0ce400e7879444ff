# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The buffer on disk: nothing lost, nothing twice, nothing too early."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError
from ansible_collections.dcs.migration.plugins.module_utils._sync import spool
from ansible_collections.dcs.migration.plugins.module_utils._sync.spool import SpoolReader, SpoolWriter

Open = Callable[..., SpoolWriter]
START = 1234


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "stream")


@pytest.fixture
def writer(path: str) -> Iterator[Open]:
    """``writer(position, segment)``"""
    with contextlib.ExitStack() as stack:

        def start(position: int = START, segment: int = 10) -> SpoolWriter:
            return stack.enter_context(contextlib.closing(SpoolWriter(path, position, segment)))

        yield start


def everything(path: str, position: int = START, limit: int = 7) -> bytes:
    """All that there is to read."""
    with contextlib.closing(SpoolReader(path, position)) as reader:
        return b"".join(iter(lambda: reader.read(limit), b""))


def pattern(count: int) -> bytes:
    return random.Random(1).randbytes(count)


def test_nothing_there(path: str) -> None:
    assert spool.bounds(path) is None
    assert spool.size(path) == 0
    with contextlib.closing(SpoolReader(path, 0)) as reader:
        assert reader.read(10) == b""
        with contextlib.closing(SpoolWriter(path, 0)) as one:
            assert reader.read(10) == b""
            one.write(b"abc")
            assert reader.read(2) == b"ab"
            assert (reader.read(2), reader.read(2), reader.position) == (b"c", b"", 3)


def test_empty_begins_at_its_position(path: str, writer: Open) -> None:
    assert writer().position == START
    assert spool.bounds(path) == (START, START)
    assert os.listdir(path) == ["%020d" % START]


def test_only_for_the_owner(path: str, writer: Open) -> None:
    writer().write(bytes(25))
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert {os.stat(os.path.join(path, name)).st_mode & 0o777 for name in os.listdir(path)} == {0o600}


@pytest.mark.parametrize("chunk", [1, 3, 9, 10, 11, 35, 200])
def test_reads_follow_writes_over_segments(path: str, writer: Open, chunk: int) -> None:
    data = pattern(200)
    one, got = writer(), b""
    with contextlib.closing(SpoolReader(path, START)) as reader:
        for at in range(0, len(data), chunk):
            one.write(data[at : at + chunk])
            got += reader.read(4)
        got += b"".join(iter(lambda: reader.read(4), b""))
    assert got == data == everything(path)
    assert spool.bounds(path) == (START, START + 200)
    assert one.position == START + 200 and spool.size(path) == 200
    assert sorted(map(int, os.listdir(path))) == list(range(START, START + 200, 10))


def test_reading_from_the_middle(path: str, writer: Open) -> None:
    data = pattern(95)
    writer().write(data)
    for position in range(96):
        assert everything(path, START + position) == data[position:]


def test_idle_reader_lists_no_folder(path: str, writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer()
    one.write(bytes(10))
    with contextlib.closing(SpoolReader(path, START)) as reader:
        assert len(reader.read(100)) == 10
        monkeypatch.setattr(os, "listdir", lambda _path: pytest.fail("listed"))
        assert reader.read(100) == b""
        monkeypatch.undo()
        one.write(b"x")
        monkeypatch.setattr(os, "listdir", lambda _path: pytest.fail("listed"))
        assert reader.read(100) == b"x"


@pytest.mark.parametrize("count", [0, 5, 10, 15, 20])
def test_continued_where_it_ends(path: str, writer: Open, count: int) -> None:
    data = pattern(count + 30)
    writer().write(data[:count])
    for at in range(count, count + 30):
        again = SpoolWriter(path, START + at, 10)
        again.write(data[at : at + 1])
        again.close()
    assert everything(path) == data


def test_started_anew_elsewhere(path: str, writer: Open) -> None:
    writer().write(bytes(35))
    writer(7).write(b"new")
    assert spool.bounds(path) == (7, 10)
    assert everything(path, 7) == b"new"


@pytest.mark.parametrize("position", range(0, 46))
def test_cut(path: str, writer: Open, position: int) -> None:
    data = pattern(45)
    writer().write(data)
    spool.cut(path, START + position)
    left = min(position, 45)
    assert spool.bounds(path) == (START, START + left)
    assert everything(path) == data[:left]
    writer(START + left).write(data[left:])
    assert everything(path) == data


def test_cut_before_all_of_it(path: str, writer: Open) -> None:
    writer().write(bytes(45))
    spool.cut(path, START - 1)
    assert spool.bounds(path) is None


@pytest.mark.parametrize("position, first", [(0, 0), (9, 0), (10, 10), (19, 10), (40, 40), (45, 40), (99, 40)])
def test_trim(path: str, writer: Open, position: int, first: int) -> None:
    data = pattern(45)
    one = writer()
    one.write(data)
    spool.trim(path, START + position)
    assert spool.bounds(path) == (START + first, START + 45)
    assert everything(path, START + first) == data[first:]
    one.write(b"more")
    assert everything(path, START + 45) == b"more"
    with contextlib.closing(SpoolReader(path, START + 39)) as reader:
        if first > 39:
            with pytest.raises(FileError, match="does not hold position %d" % (START + 39)):
                reader.read(1)


def test_a_reader_outlives_trimming_behind_it(path: str, writer: Open) -> None:
    data = pattern(45)
    writer().write(data)
    with contextlib.closing(SpoolReader(path, START)) as reader:
        assert reader.read(100) == data[:10]
        spool.trim(path, reader.position)
        assert reader.read(100) == data[10:20]


def test_a_removed_spool_is_an_error(path: str, writer: Open) -> None:
    writer().write(b"abc")
    with contextlib.closing(SpoolReader(path, START)) as reader:
        assert reader.read(100) == b"abc"
        os.unlink(os.path.join(path, "%020d" % START))
        os.rmdir(path)
        with pytest.raises(FileError, match="does not hold"):
            reader.read(100)


def test_size_of_all_below(tmp_path: Path) -> None:
    for name in ("1/1/snapshot", "1/2/stream", "2/1/stream"):
        with contextlib.closing(SpoolWriter(str(tmp_path / name), 0, 10)) as one:
            one.write(bytes(33))
    assert spool.size(str(tmp_path)) == 99


@contextlib.contextmanager
def file_size_limit(count: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond that: a disk that is full, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("before", [0, 1, 8, 15, 20])
def test_a_write_that_fails_leaves_nothing(path: str, writer: Open, before: int) -> None:
    data = pattern(60)
    one = writer(segment=20)
    one.write(data[:before])
    with file_size_limit(17):
        with pytest.raises(FileError, match="cannot be written"):
            one.write(data[before:])
        assert one.position == START + before
        assert spool.bounds(path) == (START, START + before)
        assert everything(path) == data[:before]
    one.write(data[before:])
    assert everything(path) == data


def test_a_full_disk_is_named(path: str, writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer()

    def full(_handle: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FileError, match="the disk is full. Make room"):
        one.write(b"abc")
    monkeypatch.undo()
    one.write(b"abc")
    assert everything(path) == b"abc"


def test_no_folder_to_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        SpoolWriter(str(tmp_path / "file" / "stream"), 0)


def test_sync_reaches_every_segment_once(path: str, writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fdatasync

    def note(handle: int) -> None:
        synced.append(os.readlink("/proc/self/fd/%d" % handle)[-4:])
        real(handle)

    monkeypatch.setattr(os, "fdatasync", note)
    one = writer()
    one.write(bytes(25))
    assert one.sync() == START + 25
    assert synced == ["1234", "1244", "1254"]
    one.write(bytes(10))
    spool.trim(path, START + 20)
    assert one.sync() == START + 35
    assert synced[3:] == ["1254", "1264"]
    again = writer(START + 35)
    assert again.sync() == START + 35
    assert synced[5:] == ["1254", "1264"]  # of a writer that may have died before it synced them


def test_a_sync_that_fails_is_done_again(writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer()
    one.write(bytes(25))
    failures = [OSError(errno.EIO, "Input/output error")]
    calls: list[int] = []

    def fail_once(handle: int) -> None:
        calls.append(handle)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(os, "fdatasync", fail_once)
    with pytest.raises(FileError, match="Input/output error"):
        one.sync()
    assert one.sync() == START + 25
    assert len(calls) == 1 + 3


def test_reader_writer_and_sync_at_the_same_time(path: str, writer: Open) -> None:
    data = pattern(300_000)
    one = writer(segment=4096)
    ended = threading.Event()

    def write() -> None:
        sizes = random.Random(2)
        at = 0
        while at < len(data):
            count = sizes.choice([1, 100, 4096, 10_000])
            one.write(data[at : at + count])
            at += count
        ended.set()

    def sync() -> None:
        while not ended.is_set():
            assert one.sync() <= one.position

    threads = [threading.Thread(target=write), threading.Thread(target=sync)]
    for thread in threads:
        thread.start()
    got = bytearray()
    with contextlib.closing(SpoolReader(path, START)) as reader:
        while len(got) < len(data):
            got += reader.read(1000)
            if len(got) % 50 == 0:
                spool.trim(path, reader.position)
    for thread in threads:
        thread.join()
    assert got == data


def test_what_is_kept_of_the_applied_bytes() -> None:
    """A quarter of the limit at most, of all streams together; nothing where the disk has no room for it."""
    plenty = 1 << 40
    assert spool.to_keep(10 << 30, 1, plenty) == 256 << 20
    assert spool.to_keep(64 << 20, 1, plenty) == spool.to_keep(256 << 20, 4, plenty) == 16 << 20
    assert spool.to_keep(10 << 30, 1, 1 << 20) == spool.to_keep(10 << 30, 0, 0) == 0
