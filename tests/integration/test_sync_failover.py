# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver of an online task follows its source: failovers, and a Redis Cluster that changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.receiver import Receiver, put, receiver_starter, wait_for_acks
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, Sentinel, wait_until

Start = Callable[..., Any]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Start]:
    with receiver_starter(tmp_path) as start:
        yield start


# -- failovers -----------------------------------------------------------------------------------------------


def watched(server: Start, sentinel: Start) -> tuple[RedisServer, RedisServer, Sentinel]:
    """A master, its replica, and a Sentinel that knows both."""
    old = server("redis-6.2")
    new = server("redis-6.2", replica_of=old)
    new.wait_for_link()
    watch = sentinel("redis-6.2", old)
    watch.wait_for_replicas()
    return old, new, watch


@pytest.mark.parametrize("hangs", [False, True], ids=["dies", "hangs"])
def test_failover_by_sentinel(hangs: bool, server: Start, sentinel: Start, receiver: Start) -> None:
    old, new, watch = watched(server, sentinel)
    one = receiver(watch, endpoint={"sentinel_service": watch.service})
    stream = one.until("streaming", state="streaming", address=old.address)
    put(old, range(100))
    wait_for_acks(old, 2)
    if hangs:
        old.process.freeze()  # its connection stays open, and says nothing
    else:
        old.kill()
    after = one.until("streaming from the new master", state="streaming", address=new.address)
    old.kill()
    put(new, range(100, 200))
    one.caught_up(new)
    assert one.numbers() == list(range(200))
    assert after["full_syncs"] == 1 and after["replication_id"] != stream["replication_id"]
    assert one.sources()["kind"] == "master_standby"


def test_failover_from_a_master_that_does_not_know(server: Start, sentinel: Start, receiver: Start) -> None:
    old, new, watch = watched(server, sentinel)
    one = receiver(watch, endpoint={"sentinel_service": watch.service})
    one.until("streaming", state="streaming", address=old.address)
    assert watch.failover() == new.address
    # It takes ten seconds until the Sentinel tells the old master. What that one says until then may make the new one refuse to continue.
    one.until("streaming from the new master", state="streaming", address=new.address)
    assert old.info("replication")["role"] == "master"
    put(new, range(100))
    one.caught_up(new)
    assert one.numbers() == list(range(100))


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_failover_by_hand(name: str, server: Start, receiver: Start) -> None:
    old = server(name)
    new = server(name, replica_of=old)
    new.wait_for_link()
    one = receiver(new, old)
    stream = one.until("streaming", state="streaming", address=old.address)
    put(old, range(100))
    wait_for_acks(old, 2)
    old.kill()
    new.execute("REPLICAOF", "NO", "ONE")
    put(new, range(100, 200))
    after = one.until("streaming from the new master", state="streaming", address=new.address)
    one.caught_up(new)
    assert one.numbers() == list(range(200))
    assert after["full_syncs"] == 1 and after["replication_id"] != stream["replication_id"]


def test_failover_while_it_was_down(server: Start, receiver: Start) -> None:
    old = server("redis-6.2")
    new = server("redis-6.2", replica_of=old)
    new.wait_for_link()
    one = receiver(old, new)
    one.until("streaming", state="streaming")
    put(old, range(100))
    wait_for_acks(old, 2)
    one.stop()
    new.execute("REPLICAOF", "NO", "ONE")
    old.execute("REPLICAOF", "127.0.0.1", new.port)  # lives, and is no master any more
    put(new, range(100, 200))
    one.start()
    one.until("streaming from the new master", state="streaming", address=new.address, full_syncs=1)
    one.caught_up(new)
    assert one.numbers() == list(range(200))


def test_shards_behind_a_proxy(server: Start, receiver: Start) -> None:
    # What stands before the shards is never asked for a stream: any server will do.
    proxy, first, second = server("redis-6.2"), server("redis-6.2"), server("redis-6.2")
    standby = server("redis-6.2", replica_of=second)
    standby.wait_for_link()
    shards = [first.address, second.address, standby.address]
    one = receiver(proxy, endpoint={"topology": "proxy_cluster", "shards": shards})
    one.until("streaming", 0, state="streaming", address=first.address)
    one.until("streaming", 1, state="streaming", address=second.address)
    put(first, range(50))
    put(second, range(100, 150))
    wait_for_acks(second, 2)
    second.kill()
    standby.execute("REPLICAOF", "NO", "ONE")
    put(standby, range(150, 200))
    one.until("streaming from the new master", 1, state="streaming", address=standby.address, full_syncs=1)
    one.caught_up(standby, 1)
    assert (one.numbers(0), one.numbers(1)) == (list(range(50)), list(range(100, 200)))
    assert (one.sources()["kind"], len(one.streams())) == ("proxy_cluster", 2)


# -- Redis Cluster -------------------------------------------------------------------------------------------


def owners(one: Receiver, slot: int) -> list[int]:
    return [number for first, last, number in one.sources()["slots"] if first <= slot <= last]


def test_cluster_failover(cluster: Start, receiver: Start) -> None:
    source: RedisCluster = cluster("redis-6.2", replicas=1, config={"cluster-node-timeout": 2000})
    one = receiver(source.masters[1])
    for number, master in enumerate(source.masters):
        one.until("streaming", number, state="streaming", address=master.address)
    assert [row[2] for row in one.sources()["slots"]] == [0, 1, 2] and one.sources()["kind"] == "redis_cluster"
    with contextlib.closing(source.client()) as client:
        for number in range(300):
            client.set("seq:%d" % number, number)
        for node in source.masters:
            wait_for_acks(node, 2)
        heir = source.replicas[0]
        heir.execute("CLUSTER", "FAILOVER")
        one.until("streaming from the new master", 0, state="streaming", address=heir.address)
        for number in range(300, 600):
            client.set("seq:%d" % number, number)
    for number, node in enumerate([heir, source.masters[1], source.masters[2]]):
        one.caught_up(node, number)
    numbers = [one.numbers(number) for number in range(3)]
    assert sorted(sum(numbers, [])) == list(range(600))
    assert all(sorted(some) == some for some in numbers)
    assert [stream["full_syncs"] for stream in one.streams()] == [1, 1, 1]
    assert owners(one, 0) == [0]
    # The same with a master that is gone at once.
    source.masters[1].kill()
    second = source.replicas[1]
    one.until("streaming from the second new master", 1, state="streaming", address=second.address, full_syncs=1)
    assert owners(one, 8000) == [1] and len(one.streams()) == 3


def test_cluster_with_a_new_master(cluster: Start, server: Start, receiver: Start) -> None:
    source: RedisCluster = cluster("valkey-9.1", masters=2)
    one = receiver(*source.masters)
    one.until("streaming", 1, state="streaming")
    version = one.sources()["map_at"]
    fresh = server("valkey-9.1", cluster=True)
    source.nodes.append(fresh)
    source.masters.append(fresh)
    fresh.execute("CLUSTER", "MEET", "127.0.0.1", source.masters[0].port)
    wait_until(lambda: all(len(node.execute("CLUSTER", "NODES").splitlines()) == 3 for node in source.nodes), "they met")
    wait_until(lambda: b"connected" in fresh.execute("CLUSTER", "NODES"), "connected")
    assert len(one.streams()) == 2  # a master without slots has nothing to say
    source.begin_move(0, fresh)
    wait_until(lambda: one.sources()["open_slots"] == [0], "a slot on the move")
    assert owners(one, 0) == [0] and one.sources()["map_at"] > version
    source.move_slot(0, fresh)
    one.until("a stream of the new master", 2, state="streaming", address=fresh.address)
    wait_until(lambda: owners(one, 0) == [2], "the slot's new owner")
    wait_until(lambda: one.sources()["open_slots"] == [], "no slot on the move")
    # It gives back what it has, whereupon some versions make it a replica by themselves.
    heir = source.masters[0]
    source.begin_move(0, heir)
    for node in source.masters[:2]:
        node.execute("CLUSTER", "SETSLOT", 0, "NODE", source.node_id(heir))
    wait_until(lambda: owners(one, 0) == [0], "the slot's former owner")
    source.nodes.pop()
    fresh.kill()
    one.until("the end of a stream", 2, state="ended", generation=1)
    assert [stream["state"] for stream in one.streams()] == ["streaming", "streaming", "ended"]
    one.stop()
    one.start()
    one.until("continued", 1, state="streaming", reconnects=1)
    assert one.stream(2)["state"] == "ended" and owners(one, 0) == [0]


def test_full_migration_of_a_cluster(cluster: Start, receiver: Start) -> None:
    source: RedisCluster = cluster("redis-6.2")
    for word, value in (("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "2")):
        source.masters[2].execute("CONFIG", "SET", word, value)
    one = receiver(source.masters[0], method="full")
    one.until("the first one's end", 0, state="ended")
    seen = [one.stream(2)["state"]]
    assert one.wait() == 0
    # The masters were looked at again before the last one ended: nobody was taken for a new one.
    assert seen != ["ended"] and [stream["state"] for stream in one.streams()] == ["ended"] * 3
