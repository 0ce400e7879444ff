# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are not there before they are complete, and RDB files written entry by entry."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.events import Aux, Batch, Function, Header
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb import RdbScanner
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import Product
from ansible_collections.dcs.migration.plugins.module_utils._sink.rdb_file import PartialFile, RdbFileSink

REDIS = Product("redis", "7.0.15", (7, 0, 15), 10)
VALKEY = Product("valkey", "9.1.2", (7, 2, 4), 80)
OLD = Product("redis", "2.8.17", (2, 8, 17), 6)


def test_published_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(b"the one before")
    with PartialFile(str(path)) as file:
        file.write(b"some")
        file.write(b" bytes")
        assert path.read_bytes() == b"the one before"
        assert (file.size, file.sha256) == (10, hashlib.sha256(b"some bytes").hexdigest())
        file.publish()
    assert path.read_bytes() == b"some bytes" and os.listdir(tmp_path) == ["dump.rdb"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_removed_when_it_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), PartialFile(str(tmp_path / "dump.rdb")) as file:
        file.write(b"some")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_left_by_a_crash_and_taken_over(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb.partial").write_bytes(b"a longer rest of a run that was killed")
    (tmp_path / "dump.rdb.partial").chmod(0o644)
    with PartialFile(str(tmp_path / "dump.rdb")) as file:
        file.write(b"new")
        file.publish()
    assert (tmp_path / "dump.rdb").read_bytes() == b"new"
    assert (tmp_path / "dump.rdb").stat().st_mode & 0o777 == 0o600


def test_begun_again(tmp_path: Path) -> None:
    with PartialFile(str(tmp_path / "dump.rdb")) as file:
        file.write(b"a snapshot that is lost")
        file.restart()
        file.write(b"again")
        assert (file.size, file.sha256) == (5, hashlib.sha256(b"again").hexdigest())
        file.publish()
    assert (tmp_path / "dump.rdb").read_bytes() == b"again"


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "dump.rdb")
    with PartialFile(path) as file:
        with pytest.raises(FileError, match="another run"), PartialFile(path):
            pass
        file.write(b"x")
        file.publish()
    with PartialFile(path) as file:
        assert file.size == 0
    assert (tmp_path / "dump.rdb").read_bytes() == b"x"


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError), PartialFile(str(tmp_path / "dump.rdb")):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, PartialFile(str(tmp_path / "dump.rdb")) as file:
        file.write(b"x" * 1000)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file._file.fileno())
        os.close(full)
        file.write(b"y")
    assert "beyond byte 1000" in str(caught.value) and "No space left" in str(caught.value) and "Free space" in caught.value.remedy
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("product", [REDIS, VALKEY, OLD], ids=lambda product: product.name + product.version)
def test_rdb_file(tmp_path: Path, product: Product) -> None:
    version = product.rdb_version or 0
    path = tmp_path / "dump.rdb"
    functions = (b"#!lua name=a\n",) if product is REDIS else ()
    with PartialFile(str(path)) as file:
        sink = RdbFileSink(file, product, functions)
        sink.add(0, b"a", t.STRING, write_string(b"1"), None, version)
        sink.add(3, b"b", t.STRING, write_string(b"2"), 4102444800000, version)
        whole = write_string(b"z" * 100_000)
        sink.add_parts(3, b"c", t.STRING, iter([whole[:5], whole[5:]]), None, version)
        sink.close(version)
        file.publish()
    scanner = RdbScanner(path.stat().st_size)
    events = [*scanner.feed(path.read_bytes()), *scanner.close()]
    header = events[0]
    assert isinstance(header, Header) and header == (version, product.dialect)
    entries = [(one.db, *entry[:2], entry[5]) for one in events if isinstance(one, Batch) for entry in one.entries]
    assert entries == [(0, 0, b"a", None), (3, 0, b"b", 4102444800000), (3, 0, b"c", None)]
    assert [one.code for one in events if isinstance(one, Function)] == list(functions)
    names = [one.key for one in events if isinstance(one, Aux)]
    assert names == ([] if product is OLD else [product.name.encode() + b"-ver", b"redis-bits", b"ctime"])


def test_rdb_file_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    with PartialFile(str(path)) as file:
        RdbFileSink(file, OLD).close(6)
        file.publish()
    assert path.read_bytes().startswith(b"REDIS0006\xff")


def test_a_newer_value_than_the_file_is_refused(tmp_path: Path) -> None:
    with PartialFile(str(tmp_path / "dump.rdb")) as file:
        sink = RdbFileSink(file, OLD)
        sink.add(0, b"a", t.STRING, write_string(b"1"), None, 6)
        sink.add(0, b"b", t.STRING, write_string(b"1"), None, 6)
        with pytest.raises(FileError, match="RDB version 7"):
            sink.add(0, b"c", t.STRING, write_string(b"1"), None, 7)
