# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases that the target does not have, or does not let anybody select: what is in them goes nowhere, least of all into another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.tests.support.aof_files import write_aof
from ansible_collections.dcs.migration.tests.support.importing import Import, run_import

__all__ = ["run_import"]  # the fixture, for pytest to find


def file_of(path: Path, *dbs: int) -> Path:
    """An RDB file that has the keys ``user:1`` and ``l`` in each of these databases."""
    writer = RdbWriter(9)
    parts = [writer.header()]
    for db in dbs:
        parts.append(writer.entry(db, 0, b"user:1", write_string(b"of %d" % db)))
        parts.append(writer.entry(db, 1, b"l", b"\x01" + write_string(b"of %d" % db)))
    path.write_bytes(b"".join([*parts, writer.trailer()]))
    return path


def assert_only_db_0(target: Any) -> None:
    client = target.client()
    assert client.get("user:1") == b"of 0" and client.lrange("l", 0, -1) == [b"of 0"]
    assert set(target.info("keyspace")) == {"db0"}


@pytest.mark.parametrize("db", [20, 2**40])
def test_a_database_that_is_not_there(db: int, shared_server: Any, run_import: Import, tmp_path: Path) -> None:
    target = shared_server("redis-6.2")
    file = file_of(tmp_path / "a.rdb", 0, db)
    predicted = run_import(target, file, check=True)
    assert predicted["failed"] and "database %d" % db in predicted["msg"] and "16 databases" in predicted["msg"]
    assert "db_map" in predicted["remedy"] and not target.client().dbsize()

    result = run_import(target, file)
    assert result["failed"] and target.address in result["msg"] and "database %d" % db in result["msg"]
    assert "2 keys were written before" in result["msg"] and "db_map" in result["remedy"]
    assert result["stats"]["keys"] == 2 and "Traceback" not in result["_output"]
    assert_only_db_0(target)

    assert run_import(target, file, db_map={db: 5})["stats"]["keys"] == 4
    assert target.client(db=5).get("user:1") == b"of %d" % db


def test_keys_of_two_databases_in_one(shared_server: Any, run_import: Import, tmp_path: Path) -> None:
    target = shared_server("redis-6.2")
    file = file_of(tmp_path / "a.rdb", 0, 3)
    result = run_import(target, file, db_map={3: 0})
    assert [text for text in result["warnings"] if str(file) in text and "databases 0, 3 went to the same database 0" in text]
    assert target.client().get("user:1") == b"of 3"
    assert not run_import(target, file, db_map={3: 1}).get("warnings")
    target.flush()
    skipped = run_import(target, file, db_map={3: 0}, on_conflict="skip")
    assert skipped["stats"]["skipped"] == 2 and not skipped.get("warnings")
    assert_only_db_0(target)


def test_databases_that_nobody_may_select(server: Any, run_import: Import, tmp_path: Path) -> None:
    target = server("redis-6.2", rename={"SELECT": ""})
    for file in (file_of(tmp_path / "a.rdb", 0, 3), file_of(tmp_path / "b.rdb", 3)):
        result = run_import(target, file)
        assert result["failed"] and "database 3" in result["msg"] and "db_map" in result["remedy"]
        assert_only_db_0(target)


@pytest.mark.parametrize("unit", ["", "MULTI"])
def test_a_log_with_a_database_that_nobody_may_select(unit: str, server: Any, run_import: Import, tmp_path: Path) -> None:
    target = server("redis-6.2", rename={"SELECT": ""})
    target.client().set("user:1", "mine")
    lines = ["SELECT 0", "SET a 1", *([unit] if unit else []), "SELECT 3", "SET user:1 theirs", *(["EXEC"] if unit else [])]
    for check in (True, False):
        result = run_import(target, write_aof(tmp_path / "a.aof", *lines), check=check)
        assert result["failed"] and "database 3" in result["msg"] and "db_map" in result["remedy"]
        assert target.client().keys() == [b"user:1"] and target.client().get("user:1") == b"mine"


def test_a_target_without_info(server: Any, run_import: Import, tmp_path: Path) -> None:
    """What it is its owner says."""
    target = server("redis-6.2", rename={"INFO": ""})
    result = run_import(target, file_of(tmp_path / "a.rdb", 0), endpoint={"topology": "single"})
    assert result["stats"]["keys"] == 2 == target.client().dbsize()
