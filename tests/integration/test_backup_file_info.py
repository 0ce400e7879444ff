# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``backup_file_info`` as a user calls it, on local files and on a real bucket."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, S3Server, wait_until


@pytest.fixture
def dump(shared_server: Callable[..., RedisServer], tmp_path: Path) -> Path:
    """A snapshot with a key of every kind and three big ones."""
    client = shared_server("redis-6.2").client()
    client.set("small", "x" * 100, px=10**9)
    client.set("big string", "x" * 20_000)
    client.hset("big hash", mapping={"f%d" % number: number for number in range(6000)})
    client.execute_command("SELECT", 3)
    client.rpush(b"list \xff", *range(10))
    client.zadd("zset", {"a": 1.5})
    client.sadd("set", "a", "b")
    client.xadd("stream", {"a": "b"})
    client.execute_command("SELECT", 0)
    path = tmp_path / "dump.rdb"
    path.write_bytes(shared_server("redis-6.2").save().read_bytes())
    return path


def look(*files: Path, **options: Any) -> list[dict[str, Any]]:
    result = run_module("backup_file_info", {"files": [str(file) for file in files], **options})
    assert not result.get("failed"), result
    assert result["changed"] is False
    rows: list[dict[str, Any]] = result["files"]
    return rows


def test_a_snapshot(dump: Path) -> None:
    (row,) = look(dump)
    assert (row["path"], row["size"], row["format"], row["rdb_version"]) == (str(dump), dump.stat().st_size, "rdb", 9)
    assert row["product"] == "redis" and row["version"].startswith("6.2.") and row["memory"] > 100_000 and row["created"] > 1.7e9
    assert (row["keys"], row["expires"], row["expired"], row["complete"], row["error"]) == (7, 1, 0, True, None)
    assert row["databases"] == [{"db": 0, "keys": 3, "expires": 1}, {"db": 3, "keys": 4, "expires": 0}]
    assert row["types"] == {"string": 2, "hash": 1, "list": 1, "zset": 1, "set": 1, "stream": 1}
    assert [(big["db"], big["key"], big["type"]) for big in row["big_keys"]] == [(0, "big hash", "hash"), (0, "big string", "string")]
    assert row["big_keys"][0]["elements"] == 6000 and row["big_keys"][1]["size"] == 20_000 and row["big_keys_total"] == 2
    assert row["compressed"] >= 1


def test_options_for_big_keys(dump: Path) -> None:
    (row,) = look(dump, big_key_bytes=90, big_key_elements=5, big_keys_max=2)
    assert row["big_keys_total"] == 4 and len(row["big_keys"]) == 2
    (row,) = look(dump, big_key_bytes=10**9, big_key_elements=9)
    assert [(big["key"], big["db"]) for big in row["big_keys"]] == [("big hash", 0), ("list \\xff", 3)]
    result = run_module("backup_file_info", {"files": [str(dump)], "big_key_bytes": -1})
    assert result["failed"] and "big_key_bytes" in result["msg"]


def test_check_mode_says_the_same(dump: Path) -> None:
    result = run_module("backup_file_info", {"files": [str(dump)]}, check=True)
    assert result["changed"] is False and result["files"] == look(dump)


def test_damaged_files_have_rows(dump: Path, tmp_path: Path) -> None:
    data = dump.read_bytes()
    torn, flipped, text, empty, archive = (tmp_path / name for name in ("torn.rdb", "flipped.rdb", "x.rdb", "empty.rdb", "bad.zip"))
    torn.write_bytes(data[:-50])
    flipped.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    text.write_text("no backup\n")
    empty.touch()
    archive.write_bytes(b"PK\x03\x04" + bytes(100))
    rows = look(torn, dump, flipped, text, empty, archive)
    assert [Path(row["path"]).name for row in rows] == ["torn.rdb", "dump.rdb", "flipped.rdb", "x.rdb", "empty.rdb", "bad.zip"]
    assert [row["complete"] for row in rows] == [False, True, False, False, False, False]
    assert [row["format"] for row in rows] == ["rdb", "rdb", "rdb", "unknown", "unknown", "archive"]
    assert "truncated" in rows[0]["error"] and "at byte %d" % (len(data) - 50) in rows[0]["error"] and rows[0]["keys"] > 0
    assert "text" in rows[3]["error"] and "is empty" in rows[4]["error"]
    judged = run_module("compatibility_info", {"backup_files": rows, "target": {"topology": "single", "version": "7.2"}})
    assert {check["id"]: check["status"] for check in judged["checks"]}["files_readable"] == "fail"


def test_what_compatibility_info_makes_of_it(dump: Path) -> None:
    target = {"topology": "redis_cluster", "version": "4.0"}
    judged = run_module("compatibility_info", {"backup_files": look(dump), "target": target})
    found = {check["id"]: check["status"] for check in judged["checks"]}
    assert (found["cluster_databases"], found["types"], found["big_keys"], found["files_readable"]) == ("fail", "fail", "warn", "pass")


def test_archives(dump: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(dump, "one/dump.rdb")
        zipped.write(dump, "two/dump.rdb")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tarred:
        tarred.add(dump, "dump.rdb")
    rows = look(tmp_path / "b.tar.gz", tmp_path / "a.zip")
    assert [row["path"].partition("!")[2] for row in rows] == ["dump.rdb", "one/dump.rdb", "two/dump.rdb"]
    assert all(row["complete"] and row["keys"] == 7 for row in rows)


def test_a_member_whose_name_is_no_text(dump: Path, server: Callable[..., RedisServer], tmp_path: Path) -> None:
    archive = tmp_path / "b.tar.gz"
    with tarfile.open(archive, "w:gz") as tarred:
        tarred.add(dump, "d\udcfcmp.rdb")
    (row,) = look(archive)
    assert row["path"] == "%s!d\\xfcmp.rdb" % archive and row["complete"]
    target = server("redis-6.2")
    options = {"files": [str(archive)], "target": {"addresses": [target.address]}, "state_dir": str(tmp_path / "state")}
    for changed in (True, False):
        result = run_module("backup_import", options)
        assert not result.get("failed") and result["changed"] is changed, result
        assert result["files"][0]["path"] == row["path"]
    dump.write_bytes(dump.read_bytes()[:-50])
    with tarfile.open(archive, "w:gz") as tarred:
        tarred.add(dump, "d\udcfcmp.rdb")
    refused = run_module("backup_import", {**options, "force": True})
    assert refused["failed"] and "d\\xfcmp.rdb" in refused["msg"]


def test_append_only_files(server: Callable[..., RedisServer], tmp_path: Path) -> None:
    for name, preamble in (("redis-6.2", "no"), ("redis-6.2", "yes"), ("valkey-9.1", "yes")):
        running = server(name, config={"appendonly": "yes", "aof-use-rdb-preamble": preamble})
        client = running.client()
        client.set("before", 1)
        client.bgrewriteaof()
        _wait_for_rewrite(client)
        client.set("after", 1)
        running.stop()
        (row,) = look(*(path for path in sorted(running.folder.rglob("appendonly*")) if path.is_file()))
        assert (row["format"], row["complete"], row["keys"]) == ("aof", True, None)
        assert row["commands"]["SET"] == (2 if preamble == "no" else 1)
        assert row["preamble"] is (preamble == "yes") and row["snapshot_keys"] == (1 if preamble == "yes" else None)
        assert len(row["parts"]) == (3 if name == "valkey-9.1" else 0)


def _wait_for_rewrite(client: Any) -> None:
    def done() -> bool:
        info = client.info("persistence")
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

    wait_until(done, "the AOF is rewritten")


@pytest.mark.parametrize("kind", ["missing", "folder", "twice", "none"])
def test_what_cannot_be_read_at_all(dump: Path, tmp_path: Path, kind: str) -> None:
    files = {"missing": [dump, tmp_path / "gone.rdb"], "folder": [tmp_path], "twice": [dump, dump], "none": []}[kind]
    result = run_module("backup_file_info", {"files": [str(file) for file in files]})
    assert result["failed"]
    assert {"missing": "gone.rdb: does not exist", "folder": "is a directory", "twice": "more than once", "none": "is empty"}[kind] in result["msg"]


# --- buckets -----------------------------------------------------------------------------------------------------------


def access(s3: S3Server, bucket: str, **options: Any) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "endpoint_url": s3.endpoint_url,
        "region": s3.region,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        **options,
    }


def put(s3: S3Server, bucket: str, key: str, data: bytes) -> None:
    path = s3.root / bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_objects(dump: Path, s3: S3Server, bucket: str) -> None:
    data = dump.read_bytes()
    put(s3, bucket, "night/one.rdb", data)
    put(s3, bucket, "night/torn.rdb", data[:-30])
    put(s3, bucket, "night/readme.txt", b"hello")
    put(s3, bucket, "other/two.rdb", data)
    named = run_module("backup_file_info", access(s3, bucket, prefix="night", objects=["torn.rdb", "one.rdb"]))
    assert [(row["path"], row["complete"]) for row in named["files"]] == [
        ("s3://%s/night/torn.rdb" % bucket, False),
        ("s3://%s/night/one.rdb" % bucket, True),
    ]
    assert named["files"][1]["types"] == look(dump)[0]["types"]
    listed = run_module("backup_file_info", access(s3, bucket, prefix="night"))
    assert [row["path"] for row in listed["files"]] == ["s3://%s/night/%s" % (bucket, name) for name in ("one.rdb", "torn.rdb")]
    # A role sets the bucket as a default of the module, also where the files are local.
    local = run_module("backup_file_info", access(s3, bucket, files=[str(dump)]))
    assert [row["path"] for row in local["files"]] == [str(dump)]


def test_buckets_that_cannot_be_read(s3: S3Server, bucket: str) -> None:
    put(s3, bucket, "notes.txt", b"hello")
    for options, words in (
        (access(s3, "no-such-bucket", objects=["a.rdb"]), "no-such-bucket"),
        (access(s3, bucket, objects=["gone.rdb"]), "gone.rdb"),
        (access(s3, bucket, secret_key="wrong", objects=["gone.rdb"]), "secret_key"),
        (access(s3, bucket), "there is no object named"),
        ({"objects": ["a.rdb"]}, "bucket"),
    ):
        result = run_module("backup_file_info", options)
        assert result["failed"] and words in result["msg"], result["msg"]
