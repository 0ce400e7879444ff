# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups through a proxy whose nodes nobody named, and of servers that keep INFO or SELECT to themselves.

A server that is declared a proxy, with commands taken away, stands for proxies that pass SCAN and DUMP on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._backup.engine import take
from ansible_collections.dcs.migration.plugins.module_utils._backup.plan import Options
from ansible_collections.dcs.migration.plugins.module_utils._errors import ReplyError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._plan.pair import judge_pair
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.scan import ScanSource
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, snapshot
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import RedisServer

Start = Callable[..., Any]
TARGET = {"topology": "single", "version": "valkey 9.1"}


def as_proxy(server: RedisServer, **options: Any) -> dict[str, Any]:
    return {"addresses": [server.address], "topology": "proxy_cluster", **options}


def take_it(endpoint: dict[str, Any], dest: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    notes: list[str] = []
    return {**take(Endpoint.from_params(endpoint), Options(str(dest), **options), check, notes.append), "notes": notes}


def from_instance(source: dict[str, Any]) -> tuple[str, bool]:
    """The recommended mode, and whether a backup is said to work."""
    verdict = judge_pair(source, TARGET)
    mode = next(mode for mode in verdict.modes if mode.mode == "import_from_instance")
    return verdict.recommended_mode, mode.supported


def fill(server: RedisServer) -> None:
    client = server.client()
    client.mset({"k%d" % number: "v" * number for number in range(300)})
    client.hset("hash", "f", "v")
    client.set("soon", "v", px=10**8)


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
@pytest.mark.parametrize("hidden", [(), ("SELECT", "MEMORY", "DBSIZE", "TIME", "PEXPIRETIME", "INFO")], ids=["open", "narrow"])
def test_keys_are_read_through_the_proxy(server: Start, tmp_path: Path, name: str, hidden: tuple[str, ...]) -> None:
    if name == "redis-6.2":
        hidden = tuple(word for word in hidden if word != "PEXPIRETIME")  # it has none to hide
    behind = server(name, rename=dict.fromkeys(hidden, ""))
    fill(behind)
    source = as_proxy(behind)
    assert from_instance(source) == ("import_from_instance", True)
    assert take_it(source, tmp_path, check=True)["method"] == "scan"
    result = run_module("backup", {"source": source, "dest": str(tmp_path)})
    assert not result.get("failed"), result
    assert (result["method"], result["files"][0]["keys"], result["files"][0]["shard"]) == ("scan", 302, behind.address)
    assert "proxy" in result["reason"]
    told = "does not tell (DBSIZE) whether 302 are all keys" in result["_output"]
    assert told == bool(hidden)
    target = server(name)
    imported = run_module(
        "backup_import",
        {"files": [result["files"][0]["path"]], "target": {"addresses": [target.address]}, "state_dir": str(tmp_path / "state")},
    )
    assert imported["stats"]["keys"] == 302, imported
    if not hidden:
        assert_same_data(snapshot(behind.client()), snapshot(target.client()))


@pytest.mark.parametrize("hidden", [(), ("INFO",), ("INFO", "DBSIZE")], ids=["open", "info", "info-dbsize"])
def test_databases_behind_a_proxy(server: Start, tmp_path: Path, hidden: tuple[str, ...]) -> None:
    behind = server("redis-6.2", rename=dict.fromkeys(hidden, ""))
    behind.client().set("a", "1")
    behind.client(db=3).mset({"b": "1", "c": "1"})
    assert take_it(as_proxy(behind), tmp_path)["files"][0]["databases"] == {"0": 1, "3": 2}


def test_a_proxy_that_asks_one_of_its_nodes_only(server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = server("redis-6.2")
    fill(behind)
    monkeypatch.setattr(ScanSource, "count", lambda _self: 604)
    with pytest.raises(ReplyError, match="SCAN finds 302 of 604 keys.*source.shards"):
        take_it(as_proxy(behind), tmp_path)
    monkeypatch.setattr(ScanSource, "count", lambda _self: 310)
    assert any("302 of 310 keys" in note for note in take_it(as_proxy(behind), tmp_path)["notes"])


@pytest.mark.parametrize("lacking", ["SCAN", "DUMP"])
def test_what_the_proxy_does_not_do_is_told_alike(server: Start, tmp_path: Path, lacking: str) -> None:
    behind = server("redis-6.2", rename={lacking: ""})
    source = as_proxy(behind)
    assert from_instance(source) == ("import_rdb", False)
    for check in (True, False):
        with pytest.raises(UsageError, match="is a proxy.*lacks %s.*source.shards" % lacking):
            take_it(source, tmp_path, check)


def test_what_no_proxy_does(server: Start, tmp_path: Path) -> None:
    source = as_proxy(server("redis-6.2"))
    with pytest.raises(UsageError, match="no replication stream"):
        take_it(source, tmp_path, method="psync")
    with pytest.raises(UsageError, match="no replicas"):
        take_it(source, tmp_path, read_from="replica")


# -- a server that keeps commands to itself ------------------------------------------------------------------------


def test_a_scan_of_database_0_needs_no_select(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", rename={"SELECT": ""})
    fill(source)
    result = take_it({"addresses": [source.address]}, tmp_path, method="scan")
    assert (result["files"][0]["keys"], result["notes"]) == (302, [])


def test_databases_that_nobody_tells_of_are_a_warning(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", rename={"SELECT": "", "INFO": ""})
    fill(source)
    result = take_it({"addresses": [source.address], "topology": "single"}, tmp_path, method="scan")
    assert result["files"][0]["keys"] == 302
    assert any("only database 0 is read" in note for note in result["notes"])


@pytest.mark.parametrize("topology", ["single", "master_standby"])
def test_a_server_without_info_is_what_its_owner_says(server: Start, tmp_path: Path, topology: str) -> None:
    source = server("redis-6.2", rename={"INFO": ""})
    fill(source)
    source.client(db=2).set("b", "1")
    endpoint = {"addresses": [source.address], "topology": topology}
    for method in ("auto", "scan"):
        for form in ("rdb", "aof"):
            result = take_it(endpoint, tmp_path / method, method=method, name=form, format=form)
            assert result["method"] == ("psync" if method == "auto" else "scan")
            assert result["files"][0]["databases"] == {"0": 302, "2": 1}
    found = run_module("instance_info", {"instance": endpoint})["instance"]
    assert (found["topology"], found["rdb_version"], found["databases"]) == (topology, 9, None)
    assert found["psync"]["supported"] is True and found["shards"][0]["master"] == source.address
    assert "INFO" in found["disabled_commands"]
    assert from_instance(endpoint) == ("import_from_instance", True)
    target = server("redis-6.2")
    for name in ("auto/rdb.rdb", "scan/rdb.rdb", "auto/aof.aof", "scan/aof.aof"):
        options = {"files": [str(tmp_path / name)], "target": {"addresses": [target.address]}, "state_dir": str(tmp_path / "state")}
        imported = run_module("backup_import", options)
        assert not imported.get("failed"), imported
        assert target.digest() == source.digest()
        target.flush()
