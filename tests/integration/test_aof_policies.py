# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An AOF onto a target that has data already, in parts, and with commands that empty or swap whole databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import ConflictError, ServerError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._source.aof_file import AOF, group
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.aof_files import (
    AOF_ON,
    Source,
    busy,
    files_of,
    load,
    write_aof,
    plain,
    preamble,
    redis_62,
    cluster_62,
)
from ansible_collections.dcs.migration.tests.support.aof_workload import Workload
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, wait_until

__all__ = ["plain", "preamble", "redis_62", "cluster_62"]  # the fixtures, for pytest to find

# -- policies ----------------------------------------------------------------------------------------------------------------

COUNTED = ("SELECT 0", "INCR n", "INCR n", "RPUSH l a b", "SET s 1", "DEL s x", "APPEND t xy", "MSET m 1 o 2")


def test_skip_leaves_keys_alone(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    client = redis_62.client()
    client.mset({"n": "100", "x": "mine", "o": "mine"})
    done, _target = load(write_aof(tmp_path / "a.aof", *COUNTED), redis_62.address, "skip")
    assert client.mget("n", "x", "o", "m", "t") == [b"100", b"mine", b"mine", b"1", b"xy"]
    assert done.skipped_keys == 3


def test_skip_on_a_cluster(tmp_path: Path, cluster_62: RedisCluster) -> None:
    cluster_62.flush()
    client = cluster_62.client()
    try:
        for key in ("n", "x", "o"):
            client.set(key, "mine")
        load(write_aof(tmp_path / "a.aof", *COUNTED), cluster_62.addresses[0], "skip")
        assert [client.get(key) for key in ("n", "x", "o", "m", "t")] == [b"mine", b"mine", b"mine", b"1", b"xy"]
    finally:
        client.close()


def test_skip_refuses_what_would_be_half_right(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    redis_62.client().sadd("a", "mine")
    path = write_aof(tmp_path / "a.aof", "SADD a 1", "SADD b 2", "SUNIONSTORE d a b")
    with pytest.raises(UsageError, match="SUNIONSTORE.*left alone"):
        load(path, redis_62.address, "skip")
    assert redis_62.client().keys("*") == [b"a"]


def test_skip_after_a_run_that_was_cut_off(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    client = redis_62.client()
    client.set("n", "mine")
    journal = tmp_path / "journal"
    broken = write_aof(tmp_path / "a.aof", "INCR n", "INCR c", "RPUSH l a", "INCR l", "INCR c")
    with pytest.raises(ServerError, match="at byte .*INCR of key 'l'"):
        load(broken, redis_62.address, "skip", journal=journal)
    assert journal.exists()
    good = write_aof(tmp_path / "a.aof", "INCR n", "INCR c", "RPUSH l a", "RPUSH l b", "INCR c")
    load(good, redis_62.address, "skip", journal=journal)
    assert client.mget("n", "c") == [b"mine", b"2"] and client.lrange("l", 0, -1) == [b"a", b"b"]
    assert not journal.exists()


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_existing_keys_under_a_preamble(policy: str, tmp_path: Path, redis_62: RedisServer) -> None:
    with RedisServer("redis-6.2", config=AOF_ON) as server:
        client = server.client()
        client.mset({"only:%d" % number: "base" for number in range(10)})
        client.mset({"both:%d" % number: "base" for number in range(10)})
        client.execute_command(b"BGREWRITEAOF")
        wait_until(lambda: not server.info("persistence")["aof_rewrite_in_progress"], "the AOF is rewritten")
        for number in range(10):
            client.append("both:%d" % number, "+")
            client.append("tail:%d" % number, "t")
        paths = files_of(server, tmp_path)
    (unit,) = group(open_files(map(str, paths)))
    assert unit.kind == AOF
    redis_62.flush()
    client = redis_62.client()
    client.mset({"only:1": "mine", "both:1": "mine", "tail:1": "mine", "other": "mine"})
    for _run in range(2):
        if _run and policy == "skip":
            break
        load(unit, redis_62.address, policy)
        changed = {"only": "base", "both": "base+", "tail": "t"}
        for name, value in changed.items():
            kept = b"mine" if policy == "skip" else value.encode()
            assert client.mget("%s:0" % name, "%s:1" % name) == [value.encode(), kept]
        assert client.get("other") == b"mine" and client.dbsize() == 31


@pytest.mark.parametrize("with_preamble", [False, True])
def test_fail_writes_nothing(with_preamble: bool, tmp_path: Path, plain: Source, preamble: Source, redis_62: RedisServer) -> None:
    source = preamble if with_preamble else plain
    redis_62.flush()
    key = sorted(source.values)[-1]
    redis_62.client().set(key, "mine")
    with pytest.raises(ConflictError, match="nothing was written"):
        load(source.unit, redis_62.address, "fail")
    assert redis_62.client().keys("*") == [key]
    redis_62.flush()
    load(source.unit, redis_62.address, "fail")
    assert redis_62.digest() == source.digest


# -- whole databases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("use_preamble", ["yes", "no"])
def test_flush_and_swap(seed: int, use_preamble: str, tmp_path: Path, redis_62: RedisServer) -> None:
    workload = Workload(100 + seed, databases=3, flush=True)
    with RedisServer("redis-6.2", config={**AOF_ON, "aof-use-rdb-preamble": use_preamble}) as server:
        busy(server, workload, rewrite=True, steps=3000)
        source = Source(server, tmp_path, workload)
    assert "SWAPDB" in workload.used or "FLUSHDB" in workload.used
    redis_62.flush()
    for _run in range(2):
        load(source.unit, redis_62.address)
        assert redis_62.digest() == source.digest


def test_a_flush_of_the_log_leaves_the_target_s_own_keys(tmp_path: Path, redis_62: RedisServer) -> None:
    for policy in ("replace", "skip"):
        redis_62.flush()
        client = redis_62.client()
        client.mset({"mine": "1", "a": "2"})
        path = write_aof(tmp_path / "a.aof", "SET a gone", "FLUSHALL", "SET b 1", "SELECT 1", "SET c 1", "FLUSHDB", "SET d 1")
        load(path, redis_62.address, policy)
        assert sorted(client.keys("*")) == [b"a", b"b", b"mine"] and client.get("a") == b"2"


def test_move_and_copy_between_databases(tmp_path: Path, redis_62: RedisServer) -> None:
    lines = ("SELECT 0", "SET a 1", "MOVE a 2", "SET b 1", "COPY b c DB 2", "SELECT 2", "INCR a")
    path = write_aof(tmp_path / "a.aof", *lines)
    redis_62.flush()
    for _run in range(2):
        load(path, redis_62.address, db_of=lambda db: {0: 5, 2: 6}[db])
        assert redis_62.client(db=5).keys("*") == [b"b"]
        client = redis_62.client(db=6)
        assert sorted(client.keys("*")) == [b"a", b"c"] and client.get("a") == b"2"
    with pytest.raises(UsageError, match="db_map makes one"):
        load(path, redis_62.address, db_of=lambda db: 0)
    with pytest.raises(UsageError, match="left out"):
        load(write_aof(tmp_path / "b.aof", "SET a 1", "MOVE a 2"), redis_62.address, db_of=lambda db: db or None)


def test_two_databases_into_one(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    path = write_aof(tmp_path / "a.aof", "SELECT 0", "INCR a", "SELECT 1", "INCR b", "SELECT 0", "INCR a")
    load(path, redis_62.address, db_of=lambda db: 0)
    assert redis_62.client().mget("a", "b") == [b"2", b"1"]
    clash = write_aof(tmp_path / "b.aof", "SELECT 0", "INCR a", "SELECT 1", "INCR a")
    with pytest.raises(UsageError, match="database 0 and in database 1"):
        load(clash, redis_62.address, db_of=lambda db: 0)


# -- filters -----------------------------------------------------------------------------------------------------------------


def test_filters_cut_commands(tmp_path: Path, redis_62: RedisServer, cluster_62: RedisCluster) -> None:
    lines = ("MSET a:1 1 b:1 1", "DEL a:1 b:1", "MULTI", "INCR a:2", "INCR b:2", "EXEC", "SUNIONSTORE b:3 b:4 b:5", "SADD a:6 x")
    path = write_aof(tmp_path / "a.aof", *lines)
    for address, server in ((redis_62.address, redis_62), (cluster_62.addresses[0], cluster_62)):
        server.flush()
        load(path, address, keep=lambda key: key.startswith(b"a:"))
        clients = cluster_62.clients() if server is cluster_62 else [redis_62.client()]
        assert sorted(key for client in clients for key in client.keys("*")) == [b"a:2", b"a:6"]
    mixed = write_aof(tmp_path / "b.aof", "SADD a:1 x", "SUNIONSTORE a:2 a:1 b:1")
    redis_62.flush()
    with pytest.raises(UsageError, match="SUNIONSTORE combines keys"):
        load(mixed, redis_62.address, keep=lambda key: key.startswith(b"a:"))
    assert not redis_62.client().keys("*")
