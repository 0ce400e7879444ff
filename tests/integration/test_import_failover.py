# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Masters that are replaced while files are imported: what they had acknowledged may be gone, and no run may call that a success."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._errors import LostError
from ansible_collections.dcs.migration.plugins.module_utils._import.replay import check, replay
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._server.probe import probe
from ansible_collections.dcs.migration.plugins.module_utils._sink.target import Target
from ansible_collections.dcs.migration.plugins.module_utils._source.aof_file import AofStream, group
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.aof_files import write_aof
from ansible_collections.dcs.migration.tests.support.importing import Import, many_keys, run_import
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, wait_until

__all__ = ["run_import"]  # the fixture, for pytest to find

GONE = "is no master any more.*what was written before may be gone"


def replica_of(cluster: RedisCluster, master: RedisServer) -> RedisServer:
    return next(node for node in cluster.nodes if node.info("replication").get("master_port") == master.port)


def is_master(node: RedisServer) -> bool:
    return node.info("replication")["role"] == "master"


def hand_over(cluster: RedisCluster) -> None:
    """Let a replica of the first master take its place, in good order."""
    master = cluster.masters[0]
    replica = replica_of(cluster, master)
    replica.execute("CLUSTER", "FAILOVER")
    wait_until(lambda: is_master(replica) and not is_master(master), "the replica is promoted")


@pytest.fixture
def pairs(cluster: Any) -> RedisCluster:
    """Three masters with a replica each."""
    return cluster("redis-6.2", replicas=1)


@pytest.fixture
def hasty(cluster: Any) -> RedisCluster:
    """The same, quick to give up a master, and now and then to believe that the cluster is down."""
    return cluster("redis-6.2", replicas=1, config={"cluster-node-timeout": 1000})


def test_a_master_that_only_hung(hasty: RedisCluster, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb", 200_000)
    master = hasty.masters[0]
    replica = replica_of(hasty, master)
    results = []
    importer = threading.Thread(target=lambda: results.append(run_import(hasty, file)))
    importer.start()
    try:
        wait_until(lambda: master.client().dbsize() > 2000, "keys arrive", seconds=60)
        replica.process.freeze()
        written = master.client().dbsize()
        wait_until(lambda: master.client().dbsize() > written + 2000, "more keys arrive", seconds=60)
        master.process.freeze()
        replica.process.thaw()
        wait_until(lambda: is_master(replica), "the replica is promoted", seconds=60)
    finally:
        replica.process.thaw()
        master.process.thaw()
        importer.join()
    (result,) = results
    assert result["failed"] and master.address in result["msg"] and "is no master any more" in result["msg"], result
    assert "Run again from the start" in result["remedy"] and result["files"][0]["status"] == "incomplete"

    wait_until(lambda: not is_master(master), "the old master follows")
    again = run_import(hasty, file)
    assert not again.get("failed") and again["stats"]["keys"] == 200_000
    assert sum(client.dbsize() for client in hasty.clients()) == 200_000


def test_a_master_that_is_replaced_after_the_last_key(pairs: RedisCluster) -> None:
    endpoint = Endpoint.from_params({"addresses": pairs.addresses[::-1]})
    target = Target(endpoint, probe(endpoint))
    try:
        for number in range(50):
            target.call(b"%d" % number, 0, [command("SET", str(number), "v")])
        target.confirm()
        pairs.move_slot(100, pairs.masters[1])
        target.confirm()
        hand_over(pairs)
        with pytest.raises(LostError, match=GONE):
            target.confirm()
    finally:
        target.close()


def test_a_master_that_is_replaced_during_a_log(pairs: RedisCluster, tmp_path: Path) -> None:
    path = write_aof(tmp_path / "a.aof", *["INCR n%d" % (number % 100) for number in range(20_000)])
    (unit,) = group(open_files([str(path)]))
    endpoint = Endpoint.from_params({"addresses": pairs.addresses})
    target = Target(endpoint, probe(endpoint), "replace", unit.name)

    def interrupted(commands: Iterator[Any]) -> Iterator[Any]:
        for number, item in enumerate(commands):
            if number == 10_000:
                hand_over(pairs)
            yield item

    stream = AofStream(unit)
    try:
        plan = check(AofStream(unit).commands(), target, lambda db: db)
        with pytest.raises(LostError, match=GONE):
            replay(interrupted(stream.commands()), target, plan)
    finally:
        stream.close()
        target.close()


@pytest.mark.matrix
def test_a_single_master_that_became_a_replica(server: Any) -> None:
    first, second = server("redis-5.0"), server("redis-5.0")
    endpoint = Endpoint.from_params({"addresses": [first.address]})
    target = Target(endpoint, probe(endpoint))
    try:
        target.confirm()
        first.execute("SLAVEOF", "127.0.0.1", second.port)
        with pytest.raises(LostError, match=GONE):
            target.confirm()
    finally:
        target.close()
