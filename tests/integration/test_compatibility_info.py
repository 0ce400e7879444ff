# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""compatibility_info as a user runs it, through ansible-playbook, against real servers and mere descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, Twemproxy

PASSWORD = "open-sesame-42"


def judge(**args: Any) -> dict[str, Any]:
    result = run_module("compatibility_info", args)
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is False
    return result


def status(result: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["status"] for check in result["checks"]}


def modes(result: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {mode["mode"]: (mode["dcs"], mode["supported"]) for mode in result["modes"]}


def test_two_described_endpoints() -> None:
    result = judge(
        source={"provider": "other", "topology": "redis_cluster", "version": "7.0"},
        target={"provider": "dcs", "topology": "proxy_cluster", "version": "5.0"},
    )
    assert result["recommended_mode"] == "import_rdb" and result["compatible"] is True
    assert modes(result) == {
        "import_rdb": ("Y", True),
        "import_aof": ("Y", True),
        "import_from_instance": ("Y", True),
        "online": ("x", True),
    }
    assert status(result)["version_order"] == "warn"


def test_real_pair_with_databases_and_a_cluster() -> None:
    with RedisServer("redis-6.2", password=PASSWORD) as source, RedisCluster("valkey-9.1") as target:
        source.client(db=2).set("a", "1")
        pair: dict[str, Any] = {
            "source": {"addresses": [source.address], "password": PASSWORD},
            "target": {"addresses": target.addresses},
        }
        result = judge(**pair)
        found = status(result)
        assert found["cluster_databases"] == "fail" and result["compatible"] is False
        assert found["source_connection"] == found["target_connection"] == found["psync"] == "pass"
        assert found["target_slots"] == found["target_commands"] == found["target_empty"] == "pass"
        assert result["recommended_mode"] == "online"
        assert PASSWORD not in result["_output"]
        mapped = judge(**pair, db_map={"2": 0})
        assert mapped["compatible"] is True, mapped["checks"]
        assert judge(**pair, databases=[0])["compatible"] is True


def test_source_without_psync_and_full_target() -> None:
    with (
        RedisServer("valkey-9.1", rename={"PSYNC": "", "SYNC": ""}) as source,
        RedisServer("redis-6.2", config={"maxmemory": "900kb", "maxmemory-policy": "allkeys-lru"}) as target,
    ):
        source.client().set("big", b"x" * (2 << 20))
        result = judge(source={"addresses": [source.address]}, target={"addresses": [target.address]})
        found = status(result)
        assert (found["psync"], found["memory"], found["eviction"]) == ("warn", "fail", "warn")
        assert found["version_order"] == found["types"] == "warn"
        assert result["recommended_mode"] == "import_from_instance" and result["compatible"] is False
        online = next(mode for mode in result["modes"] if mode["mode"] == "online")
        assert online["supported"] is False and "import_from_instance" in online["reasons"][0]


def test_a_server_is_not_migrated_into_itself(shared_server: Any) -> None:
    server = shared_server("redis-7.0")
    result = run_module(
        "compatibility_info",
        {"source": {"addresses": [server.address]}, "target": {"addresses": ["localhost:%d" % server.port]}},
    )
    assert not result["compatible"]
    (check,) = [check for check in result["checks"] if check["status"] == "fail"]
    assert check["id"] == "apart" and "source and target at once" in check["message"]


def test_unreachable_endpoints_are_checks() -> None:
    with RedisServer("redis-6.2") as target:
        result = judge(source={"addresses": ["127.0.0.1:1"]}, target={"addresses": [target.address]})
    assert status(result)["source_connection"] == "fail"
    assert modes(result)["online"][1] is False
    assert result["recommended_mode"] == "import_rdb" and result["compatible"] is False
    # The way out that the verdict names.
    assert any("refuses the connection" in check["message"] for check in result["checks"])


def test_backup_files(tmp_path: Path) -> None:
    with RedisServer("redis-6.2") as server:
        server.client().set("a", "1")
        rdb = server.save()
        torn = tmp_path / "torn.rdb"
        torn.write_bytes(b"")
        good = judge(backup_files=[str(rdb)], target={"topology": "redis_cluster", "version": "7.0"})
        assert good["compatible"] is True and good["recommended_mode"] == "import_rdb"
        assert set(modes(good)) == {"import_rdb", "import_aof"}
        assert status(good)["file_rdb_version"] == "pass"
        bad = judge(backup_files=[str(torn), str(tmp_path / "missing.aof")], target={"topology": "single"})
        assert status(bad)["files_readable"] == "fail" and bad["compatible"] is False


def test_facts_of_backup_file_info() -> None:
    facts = {
        "path": "s3://b/dump.rdb",
        "format": "rdb",
        "rdb_version": 11,
        "databases": [{"db": 0, "keys": 1}, {"db": 4, "keys": 2}],
        "types": {"string": 1, "stream": 2},
        "memory": 1000,
        "big_keys": [{"key": "k"}],
        "complete": True,
        "error": None,
    }
    result = judge(backup_files=[facts], target={"topology": "redis_cluster", "version": "4.0"})
    found = status(result)
    assert (found["cluster_databases"], found["types"], found["big_keys"]) == ("fail", "fail", "warn")
    assert found["files_readable"] == "pass"


def test_a_cluster_with_several_databases_takes_one(tmp_path: Path) -> None:
    with RedisServer("redis-6.2") as source, RedisCluster("valkey-9.1", config={"cluster-databases": 4}) as target:
        source.client(db=1).set("a", "1")
        path = str(source.save())
        goal = {"addresses": target.addresses}
        rows = run_module("backup_file_info", {"files": [path]})["files"]
        options = {"files": [path], "target": goal, "state_dir": str(tmp_path)}
        judged = judge(backup_files=rows, target=goal)
        assert status(judged)["cluster_databases"] == "fail" and judged["compatible"] is False
        assert run_module("backup_import", options)["failed"]
        assert judge(backup_files=rows, target=goal, db_map={"1": 0})["compatible"] is True
        assert run_module("backup_import", {**options, "db_map": {"1": 0}})["stats"]["keys"] == 1


@pytest.mark.parametrize("what", ["functions", "functions in an AOF", "hash fields that expire"])
def test_what_an_import_would_refuse_fails_a_check(shared_server: Any, tmp_path: Path, what: str) -> None:
    source, target = shared_server("valkey-9.1"), {"addresses": [shared_server("redis-6.2").address]}
    client = source.client()
    client.set("a", "1")
    library = "#!lua name=lib1\nredis.register_function('f', function() return 1 end)"
    try:
        if what == "hash fields that expire":
            client.execute_command("HSET", "hash", "f", "v")
            client.execute_command("HPEXPIRE", "hash", "1000000", "FIELDS", "1", "f")
        else:
            client.execute_command("FUNCTION", "LOAD", library)
        path = tmp_path / "a.rdb"
        path.write_bytes(source.save().read_bytes())
        if what == "functions in an AOF":
            path = path.rename(tmp_path / "a.aof")
            path.write_bytes(command(b"FUNCTION", b"LOAD", library.encode()))
        live = judge(source={"addresses": [source.address]}, target=target)
    finally:
        client.execute_command("FUNCTION", "FLUSH")
    check = "types" if what == "hash fields that expire" else "functions"
    rows = run_module("backup_file_info", {"files": [str(path)]})["files"]
    judged = judge(backup_files=rows, target=target)
    assert status(judged)[check] == "fail" and judged["compatible"] is False
    assert status(live)[check] == ("warn" if check == "types" else "fail")  # only files tell what the hashes hold
    imported = run_module("backup_import", {"files": [str(path)], "target": target, "state_dir": str(tmp_path / "state")})
    assert imported["failed"], imported
    newer = judge(backup_files=rows, target={"topology": "single", "version": "valkey 9.0"})
    assert status(newer)[check] == "pass" and newer["compatible"] is True


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"target": {"topology": "single"}}, "one of the following is required"),
        ({"target": {"topology": "single"}, "backup_files": []}, "what is to be migrated"),
        ({"target": {}, "backup_files": ["a.rdb"]}, "without a topology"),
        ({"target": {"topology": "single"}, "backup_files": ["a.rdb"], "db_map": {"x": 1}}, "database numbers"),
    ],
)
def test_options_that_make_no_sense(args: dict[str, Any], message: str) -> None:
    result = run_module("compatibility_info", args)
    assert result["failed"] and message in result["msg"]


@pytest.mark.matrix
def test_twemproxy_source() -> None:
    with RedisServer("redis-6.2") as one, Twemproxy([one]) as proxy, RedisServer("redis-6.2") as target:
        hidden = judge(
            source={"addresses": [proxy.address], "topology": "proxy_cluster"}, target={"addresses": [target.address]}
        )
        assert status(hidden)["source_commands"] == "fail" and hidden["compatible"] is False
        named = judge(
            source={"addresses": [proxy.address], "shards": [one.address]}, target={"addresses": [target.address]}
        )
        assert named["recommended_mode"] == "online" and named["compatible"] is True
