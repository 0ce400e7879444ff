# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources of several masters: each master's keys are its slots', and slots move and are emptied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.following import assert_taken, following, run
from ansible_collections.dcs.migration.tests.support.live_writer import Deployment
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, assert_identical, endpoint_of
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, wait_until


# Of {a}.
SLOT = 15495


@pytest.fixture(params=["single", "cluster"])
def any_valkey(request: pytest.FixtureRequest) -> Deployment:
    if request.param == "single":
        return request.getfixturevalue("shared_server")("valkey-9.1", 0)
    return request.getfixturevalue("shared_cluster")("valkey-9.1")


def key_of(cluster: RedisCluster, master: RedisServer, stem: str) -> str:
    return next(key for key in ("%s%d" % (stem, number) for number in range(1000)) if cluster.owner_of_key(key.encode()) is master)


def test_one_master_is_loaded_once_more(tmp_path: Path, cluster: Any, target: RedisServer) -> None:
    """With clear_target its keys go before, where they are in the target and nowhere else."""
    source = cluster("redis-6.2", 2)
    first, second = source.masters
    gone, stays = key_of(source, first, "gone"), key_of(source, second, "stays")
    run(first, "SET %s 1" % gone)
    run(second, "SET %s 1" % stays)
    foreign = [key_of(source, master, "foreign") for master in source.masters]
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), clear_target=True, db_map={"0": 3}) as task:
        task.start()
        task.wait_synced()
        run(target, *("SET %s 1" % key for key in foreign))
        first.execute("DEBUG", "CHANGE-REPL-ID")
        run(first, "DEL %s" % gone)
        first.execute("CLIENT", "KILL", "TYPE", "replica")

        def loaded() -> bool:
            return sorted(stream["full_syncs"] for stream in task.read("sources.json")["streams"]) == [1, 2]

        wait_until(loaded, "one full synchronisation more")
        wait_until(lambda: not run(target, "EXISTS %s" % gone, db=3)[0], "its key is gone")
        task.wait_synced()
        task.finish()
    assert_taken(source, target, lambda db: 3, own=[(0, key.encode()) for key in foreign])


def received(task: OnlineTask) -> list[int]:
    return [stream["received_offset"] for stream in task.read("sources.json")["streams"]]


def test_a_slot_migration_is_given_up(tmp_path: Path, cluster: Any, shared_server: Any) -> None:
    """What the importing master says about the slot, its keys and that they go again, is not believed."""
    source, target = cluster("valkey-9.1", 2, config={"enable-debug-command": "yes"}), shared_server("valkey-9.1", 0)
    owner = source.owner(SLOT)
    other = next(master for master in source.masters if master is not owner)
    pipe = owner.client().pipeline(transaction=False)
    for number in range(300):
        pipe.rpush("{a}%d" % number, b"x" * 4000, number)
    pipe.execute()
    with following(tmp_path, source, target) as task:
        owner.execute("CONFIG", "SET", "rdb-key-save-delay", 10_000)
        before = max(received(task))
        owner.execute("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", source.node_id(other))
        wait_until(lambda: max(received(task)) > before + 200_000, "some keys have arrived at the other master")
        run(owner, "RPUSH {a}1 y", "SET {a}new 1")
        owner.execute("CLUSTER", "CANCELSLOTMIGRATIONS")
        owner.execute("CONFIG", "SET", "rdb-key-save-delay", 0)
        run(owner, "RPUSH {a}1 z", "INCR {a}new")
        wait_until(lambda: b"cancelled" in str(owner.execute("CLUSTER", "GETSLOTMIGRATIONS")).encode(), "the migration has ended")
        task.wait_synced(lag=0)
    assert_identical(source, target)


def test_a_slot_is_emptied(tmp_path: Path, cluster: Any, any_valkey: Any) -> None:
    """CLUSTER FLUSHSLOT came with Valkey 9; replicas are told just that."""
    source, target = cluster("valkey-9.1", 2), any_valkey
    owner = source.owner(SLOT)
    run(owner, "SET {a}1 1", "SET {a}2 1", "SET %s 1" % key_of(source, owner, "stays"))
    with following(tmp_path, source, target) as task:
        run(owner, "INCR {a}1", "CLUSTER FLUSHSLOT %d" % SLOT, "INCR {a}1", "INCR {a}3")
        task.kill("applier")
        run(owner, "INCR {a}3", "CLUSTER FLUSHSLOT %d ASYNC" % SLOT, "INCR {a}3")
    assert_identical(source, target)


def test_slots_with_several_databases_move(tmp_path: Path, cluster: Any, shared_server: Any) -> None:
    source, target = cluster("valkey-9.1", 2, config={"cluster-databases": 16}), shared_server("valkey-9.1", 0)
    owner = source.owner(SLOT)
    other = next(master for master in source.masters if master is not owner)
    for db in (0, 1):
        run(owner, "SET {a}%d 1" % db, "SET {a}n 1", "SET {a}gone 1", db=db)
    with following(tmp_path, source, target, db_map={"1": 3}):
        owner.execute("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", source.node_id(other))
        wait_until(lambda: source.owns(other, SLOT), "the slot has moved")
        for db in (0, 1):
            run(other, "SET {a}after 1", "INCR {a}n", "DEL {a}gone", db=db)
        run(other, "CLUSTER FLUSHSLOT %d" % SLOT)
        for db in (0, 1):
            run(other, "SET {a}last 1", "INCR {a}n", db=db)
    assert_taken(source, target, lambda db: {0: 0, 1: 3}[db])
