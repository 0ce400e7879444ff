# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup files as byte streams: raw, in archives, damaged, hostile; and the thread that reads ahead."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._source import archives
from ansible_collections.dcs.migration.plugins.module_utils._source.files import BackupFile, local_files, open_files
from ansible_collections.dcs.migration.plugins.module_utils._source.readahead import DEPTH, read_ahead

MIB = 1 << 20
# Not compressible, longer than one block, no multiple of anything.
RDB = random.Random(1).randbytes(5 * MIB + 17)
AOF = b"*1\r\n$4\r\nPING\r\n" * 1000
MEMBERS = {
    "dump.rdb": RDB,
    "README.txt": b"not a backup",
    "deep/er/shard-2.AOF": AOF,
    "appendonlydir/appendonly.aof.1.base.rdb": RDB[:1000],
    "appendonlydir/appendonly.aof.1.incr.aof": b"",
    "appendonlydir/appendonly.aof.manifest": b"file appendonly.aof.1.base.rdb seq 1 type b\n",
    "__MACOSX/._dump.rdb": b"resource fork",
}
BACKUPS = {name: content for name, content in MEMBERS.items() if name not in ("README.txt", "__MACOSX/._dump.rdb")}


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("empty-folder") if hasattr(archive, "mkdir") else None
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo("appendonlydir")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


MAKERS = {"a.zip": make_zip, "a.tar.gz": make_tar, "a.TGZ": make_tar}


def content(backup: BackupFile, **options: int) -> bytes:
    return b"".join(backup.chunks(**options))


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read")]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert reading_threads() == []


# --- raw files ---------------------------------------------------------------------------------------------------------


def test_raw_file_reads_the_same_at_every_pass(tmp_path: Path) -> None:
    path = tmp_path / "whatever.name"
    path.write_bytes(RDB)
    (backup,) = open_files([str(path)])
    assert (backup.name, backup.size, backup.directory) == (str(path), len(RDB), str(tmp_path))
    assert (backup.member, backup.container, backup.basename) == (None, None, "whatever.name")
    assert content(backup) == content(backup, size=1000) == RDB
    assert max(map(len, backup.chunks(size=1000))) <= 1000
    assert backup.identity() == hashlib.sha256(RDB).hexdigest()


def test_identity_before_reading_is_kept_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(RDB)
    (backup,) = open_files([str(path)])
    before = backup.identity()
    changed = RDB[:-1] + b"!"
    path.write_bytes(changed)
    with pytest.raises(FileError) as caught:
        content(backup)
    assert str(path) in str(caught.value)
    assert before in caught.value.why
    assert hashlib.sha256(changed).hexdigest() in caught.value.why
    assert caught.value.remedy


@pytest.mark.parametrize("change", [b"", RDB[:-1], RDB + b"more"], ids=["emptied", "shorter", "longer"])
def test_another_length_than_at_first_sight_is_an_error(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(RDB)
    (backup,) = open_files([str(path)])
    path.write_bytes(change)
    why = "more than the %d bytes stated" % len(RDB) if len(change) > len(RDB) else "%d bytes where %d were" % (len(change), len(RDB))
    with pytest.raises(FileError, match=why):
        content(backup)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.rdb"
    empty.touch()
    pipe = tmp_path / "pipe.rdb"
    os.mkfifo(pipe)
    for path, why in ((tmp_path / "none.rdb", "does not exist"), (tmp_path, "is a directory"), (empty, "is empty"), (pipe, "regular file")):
        with pytest.raises(FileError, match=why) as caught:
            open_files([str(path)])
        assert caught.value.what == str(path)
        assert caught.value.remedy


def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(RDB)
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read everything
        with pytest.raises(FileError, match="may not be read"):
            open_files([str(path)])
    finally:
        os.seteuid(user)


def test_an_incremental_part_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof.3.incr.aof"
    path.touch()
    (backup,) = open_files([str(path)])
    assert content(backup) == b""


def test_paths_are_named_once_and_at_least_one(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(RDB)
    with pytest.raises(UsageError, match="empty"):
        open_files([])
    with pytest.raises(UsageError, match="more than once"):
        open_files([str(path), str(path)])


def test_local_files_leaves_archives_whole(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", MEMBERS)
    (backup,) = local_files([str(path)])
    assert content(backup) == path.read_bytes()


# --- archives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_every_backup_in_an_archive_is_one_file(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path / kind, MEMBERS)
    backups = open_files([str(path)])
    assert {backup.member: content(backup) for backup in backups} == BACKUPS
    assert {backup.member: content(backup, size=4099) for backup in backups} == BACKUPS
    for backup in backups:
        plain = BACKUPS[str(backup.member)]
        assert backup.identity() == hashlib.sha256(plain).hexdigest()
        assert backup.size == len(plain)
        assert backup.container == str(path)
        assert backup.name == "%s!%s" % (path, backup.member)
        assert set(backup.ignored) == {"README.txt", "__MACOSX/._dump.rdb"}
    parts = [backup for backup in backups if backup.directory == "%s!appendonlydir" % path]
    assert [part.is_manifest for part in parts] == [False, False, True]


@pytest.mark.parametrize("kind", MAKERS)
def test_names_that_point_outside_are_only_names(tmp_path: Path, kind: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = MAKERS[kind](inside / kind, {"../outside.rdb": RDB, "/absolute.rdb": AOF})
    assert [content(backup) for backup in open_files([str(path)])] == [RDB, AOF]
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == sorted([kind, "inside"])


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_without_a_backup_says_what_is_in_it(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path / kind, {"inner.zip": b"", "appendonly.aof.manifest": b"x", "notes.txt": b"x"})
    with pytest.raises(FileError, match=r"no \.rdb or \.aof file.*inner\.zip, notes\.txt"):
        open_files([str(path)])


@pytest.mark.parametrize("kind", MAKERS)
def test_an_empty_backup_in_an_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path / kind, {"good.rdb": RDB, "empty.rdb": b""})
    with pytest.raises(FileError, match="empty.rdb: is empty"):
        open_files([str(path)])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_truncated_archive_is_an_error_wherever_it_ends(tmp_path: Path, kind: str) -> None:
    whole = MAKERS[kind](tmp_path / ("whole." + kind), {"one.rdb": RDB[:3000], "two.rdb": RDB[3000:4000]}).read_bytes()
    path = tmp_path / kind
    for end in [*range(1, 200, 7), *range(200, len(whole) - 200, 397), *range(len(whole) - 200, len(whole))]:
        path.write_bytes(whole[:end])
        with pytest.raises(FileError) as caught:
            for backup in open_files([str(path)]):
                content(backup)
        assert caught.value.what.startswith(str(path))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_flipped_byte_never_goes_unnoticed(tmp_path: Path, kind: str) -> None:
    """Either an error, or (in fields that carry nothing, like times and permissions) the right content."""
    members = {"one.rdb": RDB[:600], "two.rdb": RDB[600:1000]}
    whole = MAKERS[kind](tmp_path / ("whole." + kind), members).read_bytes()
    path = tmp_path / kind
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        try:
            found = [content(backup) for backup in open_files([str(path)])]
        except FileError:
            continue
        assert set(found) <= set(members.values())
        if kind != "a.zip":  # a .zip carries no sum over its directory: a damaged name there can hide a member
            assert found == list(members.values())


@pytest.mark.parametrize("kind", MAKERS)
def test_random_bytes_are_a_damaged_archive(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.write_bytes(RDB)
    with pytest.raises(FileError, match="damaged"):
        open_files([str(path)])


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_name_twice_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "a.zip":
        with zipfile.ZipFile(path, "w") as zipped, pytest.warns(UserWarning, match="Duplicate"):
            zipped.writestr("a.rdb", b"1")
            zipped.writestr("a.rdb", b"2")
    else:
        with tarfile.open(path, "w:gz") as tarred:
            add(tarred, "a.rdb", b"1")
            add(tarred, "a.rdb", b"2")
    with pytest.raises(FileError, match="twice"):
        open_files([str(path)])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods_without_a_memory_bound_are_refused(tmp_path: Path, method: int) -> None:
    path = make_zip(tmp_path / "a.zip", {"dump.rdb": RDB}, method)
    with pytest.raises(FileError, match="packed by method"):
        open_files([str(path)])


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"dump.rdb": RDB})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match="encrypted"):
        open_files([str(path)])


def test_a_tar_may_hold_links_long_names_and_several_gzip_members(tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        add(archive, "link.rdb", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "./" + "long/" * 60 + "dump.rdb", RDB)
        add(archive, "fifo.rdb", b"", type=tarfile.FIFOTYPE)
    data = plain.getvalue()
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(data[:70000]) + gzip.compress(data[70000:]) + b"\0" * 512)
    (backup,) = open_files([str(path)])
    assert backup.member == "long/" * 60 + "dump.rdb"
    assert backup.ignored == ("link.rdb", "fifo.rdb")
    assert content(backup) == RDB


def _tar(path: Path, edit: Callable[[bytearray], bytes]) -> str:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        add(archive, "one.rdb", b"1" * 512)
        add(archive, "two.rdb", b"2" * 512)
    path.write_bytes(gzip.compress(edit(bytearray(plain.getvalue()))))
    return str(path)


def _damage_second_header(data: bytearray) -> bytes:
    data[1024 + 3] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    "edit",
    [_damage_second_header, lambda data: data[:1024], lambda data: data[:2048], lambda data: data[:1300]],
    ids=["header", "after-first", "no-end-mark", "in-header"],
)
def test_a_tar_that_tarfile_would_take_as_ended_is_damaged(tmp_path: Path, edit: Callable[[bytearray], bytes]) -> None:
    with pytest.raises(FileError, match="damaged"):
        open_files([_tar(tmp_path / "a.tar.gz", edit)])


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 4 << 30
    path.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 4096))
    with pytest.raises(FileError, match="claims %d bytes" % (4 << 30)):
        open_files([str(path)])


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_a_bomb_takes_no_memory(tmp_path: Path, kind: str) -> None:
    size = 200 * MIB
    path = tmp_path / kind
    if kind == "a.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped, zipped.open("zeros.rdb", "w") as out:
            for _part in range(200):
                out.write(bytes(MIB))
    else:
        info = tarfile.TarInfo("zeros.rdb")
        info.size = size
        with gzip.open(path, "wb", 1) as zipped:
            zipped.write(info.tobuf())
            for _part in range(200):
                zipped.write(bytes(MIB))
            zipped.write(bytes(1024))
    tracemalloc.start()
    (backup,) = open_files([str(path)])
    assert sum(map(len, backup.chunks())) == backup.size == size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * MIB


def test_gunzip_gives_small_blocks_and_everything() -> None:
    packed = gzip.compress(bytes(300_000) + RDB[:5000])
    for step in (1, 10, 1000, len(packed)):
        pieces = iter([packed[i : i + step] for i in range(0, len(packed), step)])
        blocks = list(archives.gunzip(pieces, 4096))
        assert b"".join(blocks) == bytes(300_000) + RDB[:5000]
        assert max(map(len, blocks)) <= 4096


# --- reading ahead -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["raw", "a.zip", "a.tar.gz"])
def test_closing_early_ends_the_threads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "raw":
        path.write_bytes(RDB)
    else:
        MAKERS[kind](path, MEMBERS)
    backup = open_files([str(path)])[0]
    blocks = backup.chunks(size=1000)
    assert reading_threads() == []
    next(blocks)
    assert reading_threads()
    blocks.close()  # type: ignore[attr-defined]
    assert reading_threads() == []
    blocks = backup.chunks(size=1000)
    next(blocks)
    del blocks
    assert reading_threads() == []


def test_the_producer_is_never_far_ahead() -> None:
    made: list[int] = []

    def produce() -> Iterator[bytes]:
        for number in range(100):
            made.append(number)
            yield b"%d" % number

    taken = 0
    for block in read_ahead(produce):
        assert block == b"%d" % taken
        taken += 1
        assert len(made) <= taken + DEPTH + 1
    assert taken == 100


def test_an_exception_of_the_producer_comes_after_its_blocks() -> None:
    def produce() -> Iterator[bytes]:
        yield b"one"
        raise KeyError("in the thread")

    blocks = read_ahead(produce)
    assert next(blocks) == b"one"
    with pytest.raises(KeyError, match="in the thread"):
        next(blocks)
    assert list(blocks) == []


def test_closing_closes_the_producer() -> None:
    closed = threading.Event()

    def produce() -> Iterator[bytes]:
        try:
            while True:
                yield b"block"
        finally:
            closed.set()

    blocks = read_ahead(produce)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert closed.is_set()
