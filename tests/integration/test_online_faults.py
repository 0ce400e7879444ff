# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What networks, servers and their operators do while a task runs: it goes on by itself and nothing is lost or doubled."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync.report import info
from ansible_collections.dcs.migration.tests.support.live_writer import Deployment, LiveWriter
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, TaskFailed, endpoint_of, finish_and_compare
from ansible_collections.dcs.migration.tests.support.servers import DOWN, UP, RedisCluster, RedisServer, TcpProxy, wait_until

BACKLOG = {"repl-backlog-size": "64mb"}
# Servers up to 6.2 tell replicas how long a key has to live, not when it dies.
TOLERANCE_MS = 60_000
NOBODY = ("127.0.0.1", 1)


@contextmanager
def migrating(
    tmp_path: Path, source: Deployment, target: Deployment, endpoints: tuple[Any, Any] | None = None, *, write: bool = True, **options: Any
) -> Iterator[tuple[OnlineTask, LiveWriter]]:
    """A task that is in sync, and a writer at work; at the end both have to hold the same."""
    ends = endpoints or (endpoint_of(source), endpoint_of(target))
    databases = 1 if isinstance(source, RedisCluster) or isinstance(target, RedisCluster) else 3
    # Flushes would hide most of what may go wrong.
    writer = LiveWriter(source, databases=databases, flush=False)
    with writer, OnlineTask(tmp_path, *ends, **options) as task:
        written(writer, 500)
        task.start()
        task.wait_synced()
        yield task, writer
        task.wait_synced()
        writer.stop()
        finish_and_compare(task, writer.source, target, TOLERANCE_MS)


def written(writer: LiveWriter, count: int) -> None:
    """Let the writer write so many more commands."""
    until = writer.sent + count
    wait_until(lambda: writer.sent >= until, "%d commands more" % count)


def full_syncs(task: OnlineTask) -> int:
    return sum(shard["full_syncs"] for shard in task.status()["shards"])


def complaints(task: OnlineTask) -> str:
    """Every error and warning that the task reports now."""
    status = task.status()
    found = [status.get("error"), *status.get("warnings", []), *(shard.get("error") for shard in status.get("shards", []))]
    return repr([one for one in found if one])


def wait_for_complaint(task: OnlineTask, *texts: str, seconds: float = 30) -> None:
    """Wait until the task reports an error that holds all of these."""
    wait_until(lambda: all(text in complaints(task) for text in texts), "a complaint about %s; %s" % (texts, task.log()), seconds)


# -- failover of the source ---------------------------------------------------------------------------------------------------


def test_a_replica_of_the_source_is_promoted(tmp_path: Path, server: Any) -> None:
    """As it is done by hand: stop writing, wait for the replica, promote it. What is there goes on without another snapshot."""
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    replica = server("redis-6.2", replica_of=source, config=BACKLOG)
    replica.wait_for_link()
    with migrating(tmp_path, source, target, (endpoint_of(source, replica), endpoint_of(target))) as (task, writer):
        written(writer, 500)
        before = full_syncs(task)
        source.execute("CLIENT", "PAUSE", 600_000, "WRITE")
        wait_until(
            lambda: replica.info("replication")["slave_repl_offset"] >= source.info("replication")["master_repl_offset"], "the replica has all"
        )
        replica.execute("REPLICAOF", "NO", "ONE")
        source.stop()
        writer.retarget(replica)
        written(writer, 1000)
        task.wait_synced()
        assert full_syncs(task) == before


def test_the_source_dies_with_what_its_replica_lacks(tmp_path: Path, server: Any, tcp_proxy: Any) -> None:
    """The task knows more than the promoted replica: then only what the replica holds counts."""
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    way: TcpProxy = tcp_proxy(source.address)
    replica = server("redis-6.2", replica_of=way.address, config=BACKLOG)
    replica.wait_for_link()
    with migrating(tmp_path, source, target, (endpoint_of(source, replica), endpoint_of(target)), clear_target=True) as (task, writer):
        way.refuse()
        written(writer, 1000)
        source.client().set("only here", 1)
        wait_until(lambda: target.client().exists("only here") == 1, "the target has what the replica lacks")
        source.kill()
        replica.execute("REPLICAOF", "NO", "ONE")
        writer.retarget(replica)
        written(writer, 1000)
        wait_until(lambda: full_syncs(task) == 2, "another full synchronisation")


def test_finishing_while_the_source_has_another_history(tmp_path: Path, server: Any) -> None:
    """One that was started anew counts its offsets from the beginning: far less than was applied is not all there is."""
    source, target = server("redis-6.2", config={"appendonly": "yes"}), server("redis-6.2")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        for number in range(1000):
            source.client().set("key:%d" % number, "value")
        task.call("synced", wait_timeout=60, max_lag_bytes=0)
        receiver = task.pids()["receiver"]
        os.kill(receiver, signal.SIGSTOP)
        source.restart()
        source.client().set("later", "value")
        timer = threading.Timer(3, os.kill, (receiver, signal.SIGCONT))
        timer.start()
        finish_and_compare(task, source, target)
        timer.join()


def test_a_sentinel_fails_the_source_over(tmp_path: Path, server: Any, sentinel: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    replica = server("redis-6.2", replica_of=source, config=BACKLOG)
    replica.wait_for_link()
    watcher = sentinel("redis-6.2", source)
    watcher.wait_for_replicas()
    endpoint = {"addresses": [watcher.address], "sentinel_service": watcher.service}
    with migrating(tmp_path, source, target, (endpoint, endpoint_of(target)), clear_target=True) as (_task, writer):
        assert watcher.failover() == replica.address
        writer.retarget(replica)
        written(writer, 1000)


def test_a_master_of_the_source_cluster_fails_over(tmp_path: Path, server: Any, cluster: Any) -> None:
    source, target = cluster("redis-6.2", replicas=1, config=BACKLOG), server("redis-6.2")
    with migrating(tmp_path, source, target) as (_task, writer):
        fail_over(source, source.replicas[0])
        written(writer, 1000)


def fail_over(cluster: RedisCluster, replica: RedisServer) -> None:
    """As an operator does: with both alive, the replica takes over."""
    replica.execute("CLUSTER", "FAILOVER")
    wait_until(lambda: replica.info("replication")["role"] == "master", "%s took over" % replica.address)


# -- failover of the target ---------------------------------------------------------------------------------------------------


def test_masters_of_the_target_cluster_fail_over(tmp_path: Path, server: Any, cluster: Any) -> None:
    """One in good order, one by dying, which may take acknowledged writes with it."""
    source, target = server("redis-6.2", config=BACKLOG), cluster("redis-6.2", replicas=1)
    with migrating(tmp_path, source, target) as (_task, writer):
        fail_over(target, target.replicas[0])
        written(writer, 1000)
        target.masters[1].kill()
        heir = target.replicas[1]
        wait_until(lambda: heir.info("replication")["role"] == "master", "the replica takes over", 60)
        written(writer, 1000)


def test_the_target_comes_back_with_an_older_state(tmp_path: Path, server: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    with migrating(tmp_path, source, target) as (_task, writer):
        target.save()
        written(writer, 2000)
        target.kill()
        target.start()
        written(writer, 500)


def test_a_node_of_the_target_cluster_comes_back_with_an_older_state(tmp_path: Path, server: Any, cluster: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), cluster("redis-6.2")
    with migrating(tmp_path, source, target) as (_task, writer):
        target.masters[1].save()
        written(writer, 2000)
        target.masters[1].kill()
        target.masters[1].start()
        written(writer, 500)


def test_the_target_is_read_only_for_a_while(tmp_path: Path, server: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    with migrating(tmp_path, source, target) as (task, writer):
        # Of a master that is not there, so it keeps its data.
        target.execute("REPLICAOF", *NOBODY)
        written(writer, 500)
        wait_for_complaint(task, target.address, "replica")
        target.execute("REPLICAOF", "NO", "ONE")


def test_the_target_is_out_of_memory_for_a_while(tmp_path: Path, server: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    with migrating(tmp_path, source, target) as (task, writer):
        target.execute("CONFIG", "SET", "maxmemory", 1 << 20)
        written(writer, 500)
        wait_for_complaint(task, "maxmemory")
        target.execute("CONFIG", "SET", "maxmemory", 0)


def test_in_sync_is_said_of_now_only(tmp_path: Path, server: Any) -> None:
    """Not while the target is gone, nor while the applier or the receiver stands still, whatever was true before."""
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    with migrating(tmp_path, source, target, write=False) as (task, writer):
        writer.stop()
        task.call("synced", wait_timeout=30)
        for part in ("receiver", "applier", "target"):
            number = task.pids()["applier" if part == "target" else part]
            if part == "target":
                target.kill()
            else:
                os.kill(number, signal.SIGSTOP)
            source.client().set("big", os.urandom(1 << 20))
            wait_until(lambda: not (following(task) and lag_of(task) < 1 << 20), "it shows that the %s stands still" % part)
            with pytest.raises(TaskFailed, match="was not in sync within 1 s"):
                task.call("synced", wait_timeout=1)
            if part == "target":
                with pytest.raises(TaskFailed, match="%s: .*" % target.address):
                    task.call("synced", wait_timeout=0)
                target.start()
            else:
                os.kill(number, signal.SIGCONT)
            done = task.call("synced", wait_timeout=60)["task"]
            assert done["following"] and done["shards"][0]["lag_bytes"] <= 64 << 10


def following(task: OnlineTask) -> bool:
    """What ``online_sync_info`` says."""
    return bool(info(str(task.state_dir))[0]["following"])


def lag_of(task: OnlineTask) -> int:
    return int(info(str(task.state_dir))[0]["shards"][0]["lag_bytes"])


# -- slots that move ----------------------------------------------------------------------------------------------------------


def busy_slot(cluster: RedisCluster, tag: int) -> int:
    return int(cluster.nodes[0].execute("CLUSTER", "KEYSLOT", "{%d}" % tag))


def move_tags(cluster: RedisCluster, tags: range, writer: LiveWriter) -> None:
    """Give slots that are written to to other masters, each in two steps with writes in between."""
    for tag in tags:
        slot = busy_slot(cluster, tag)
        owner = cluster.owner(slot)
        to = cluster.masters[(cluster.masters.index(owner) + 1) % len(cluster.masters)]
        cluster.begin_move(slot, to)
        written(writer, 200)
        cluster.move_keys(slot, to, 10)
        written(writer, 200)
        cluster.move_slot(slot, to)


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_slots_of_the_source_move(name: str, tmp_path: Path, server: Any, cluster: Any) -> None:
    source, target = cluster(name, config=BACKLOG), server(name)
    with migrating(tmp_path, source, target) as (_task, writer):
        move_tags(source, range(6), writer)
        written(writer, 500)


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_slots_of_both_clusters_move(name: str, tmp_path: Path, cluster: Any) -> None:
    source, target = cluster(name, config=BACKLOG), cluster(name)
    with migrating(tmp_path, source, target) as (_task, writer):
        move_tags(target, range(4), writer)
        move_tags(source, range(4), writer)
        move_tags(target, range(2, 6), writer)
        written(writer, 500)


# -- the network --------------------------------------------------------------------------------------------------------------


def test_the_network_breaks(tmp_path: Path, server: Any, tcp_proxy: Any) -> None:
    """Both connections are cut at any byte, slow, silent, refused."""
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    ways: list[TcpProxy] = [tcp_proxy(one.address) for one in (source, target)]
    with migrating(tmp_path, source, target, tuple({"addresses": [way.address]} for way in ways)) as (task, writer):
        before = full_syncs(task)
        for number, way in enumerate(ways * 3):
            for direction in (DOWN, UP):
                way.cut_after(1000 * number + 77, direction)
                written(writer, 200)
            way.heal()
            way.throttle(20_000)
            written(writer, 500)
            way.black_hole()
            written(writer, 500)
            way.heal()
            way.refuse()
            written(writer, 500)
            way.heal()
            way.cut()
            written(writer, 200)
        task.wait_synced()
        assert full_syncs(task) == before
        assert sum(shard["reconnects"] for shard in task.status()["shards"]) >= 1


def test_the_network_breaks_during_the_full_synchronisation(tmp_path: Path, server: Any, tcp_proxy: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    source.client().mset({"fill:%d" % number: "%d" % number * 100 for number in range(50_000)})
    ways: list[TcpProxy] = [tcp_proxy(one.address) for one in (source, target)]
    ways[0].cut_after(3_000_000, DOWN)
    ways[1].cut_after(2_000_000, UP)
    with migrating(tmp_path, source, target, tuple({"addresses": [way.address]} for way in ways)) as (task, writer):
        written(writer, 200)
        assert task.status()["keys"] >= 50_000


def test_a_burst_larger_than_the_output_buffer(tmp_path: Path, server: Any) -> None:
    """The source's buffer for replicas holds 16 MB, and 100 MB come in each second."""
    source = server("redis-6.2", config={"client-output-buffer-limit": "replica 16mb 16mb 0", "repl-backlog-size": "1mb"})
    target = server("redis-6.2")
    # What the source deletes while the link is down has to go, too.
    with migrating(tmp_path, source, target, clear_target=True) as (task, writer):
        for _attempt in range(5):
            before = full_syncs(task)
            blast(source, 300 << 20, 100 << 20)
            task.wait_synced()
            # A busy host may not let the receiver run for as long as it takes to fill the buffer.
            if full_syncs(task) == before:
                break
        else:
            raise AssertionError("no burst got through in one piece:\n" + task.log())
        written(writer, 200)


def blast(server: RedisServer, size: int, rate: int) -> None:
    """Write so many bytes, ``rate`` in a second."""
    each = 64 << 10
    value = b"v" * each
    count = size // each
    with socket.create_connection(("127.0.0.1", server.port)) as sock, sock.makefile("rb") as replies:
        reader = threading.Thread(target=lambda: [replies.readline() for _number in range(count)], daemon=True)
        reader.start()
        began = time.monotonic()
        for number in range(count):
            name = b"burst:%d" % (number % 200)
            sock.sendall(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(name), name, each, value))
            # The rate is what is asked for here, so this is no waiting for something to happen.
            time.sleep(max(0.0, began + number * each / rate - time.monotonic()))
        reader.join(60)
        assert not reader.is_alive()


# -- operators ----------------------------------------------------------------------------------------------------------------


def test_the_password_is_changed_and_changed_back(tmp_path: Path, server: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG, password="right"), server("redis-6.2", password="too")
    with migrating(tmp_path, source, target) as (task, writer):
        for one in (source, target):
            client = one.client(single_connection_client=True)
            client.ping()
            client.execute_command("CONFIG", "SET", "requirepass", "another")
            client.client_kill_filter(_type="replica" if one is source else "normal", skipme=True)
            wait_for_complaint(task, one.address)
            client.execute_command("CONFIG", "SET", "requirepass", str(one.password))
            written(writer, 500)
            task.wait_synced()
            wait_until(lambda: complaints(task) == "[]", "nothing is wrong any more: " + complaints(task))


def test_a_login_that_may_not_psync(tmp_path: Path, server: Any) -> None:
    """The error names what is missing; once the operator grants it the task goes on by itself."""
    source = server("redis-6.2", users_acl=["mover on >secret ~* &* +@all -psync -sync"])
    target = server("redis-6.2")
    source.client().set("a", 1)
    endpoint = endpoint_of(source, username="mover", password="secret")
    with OnlineTask(tmp_path, endpoint, endpoint_of(target)) as task:
        task.start()
        wait_for_complaint(task, source.address, "may not use")
        source.execute("ACL", "SETUSER", "mover", "+psync", "+sync")
        task.wait_synced()
        finish_and_compare(task, source, target)


# -- the spool ----------------------------------------------------------------------------------------------------------------


def test_the_spool_is_full_for_a_while(tmp_path: Path, server: Any, tcp_proxy: Any) -> None:
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    way: TcpProxy = tcp_proxy(target.address)
    ends = endpoint_of(source), {"addresses": [way.address]}
    with migrating(tmp_path, source, target, ends, spool_limit=8 << 20) as (task, writer):
        before = full_syncs(task)
        way.throttle(100_000)
        blast(source, 80 << 20, 40 << 20)
        wait_until(lambda: bool(task.read("sources.json")["spool_full"]), "the spool is full")
        written(writer, 500)
        # It is measured now and then only.
        assert task.read("sources.json")["spool_bytes"] <= 32 << 20
        way.heal()
        wait_until(lambda: not task.read("sources.json")["spool_full"], "there is room in the spool again", 60)
        task.wait_synced()
        assert full_syncs(task) == before


def test_the_disk_takes_no_more_for_a_while(tmp_path: Path, server: Any) -> None:
    """A limit on the size of files stands in for a full disk: writes fail half-way, and later succeed."""
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    with migrating(tmp_path, source, target) as (task, writer):
        before = full_syncs(task)
        pid = task.pids()["receiver"]
        largest = max(path.stat().st_size for path in task.folder.glob("streams/*/*/stream/*"))
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 12_345, unlimited[1]))
        try:
            blast(source, 5 << 20, 100 << 20)
            wait_for_complaint(task, str(task.folder))
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        written(writer, 500)
        task.wait_synced()
        assert full_syncs(task) == before
        assert task.pids()["receiver"] == pid


def test_what_vanished_between_two_full_syncs(tmp_path: Path, server: Any) -> None:
    """Without clear_target it stays and is reported, and nothing of the stream builds on it."""
    source, target = server("redis-6.2", config={"repl-backlog-size": "16kb"}), server("redis-6.2")
    target.client().set("of the target", "stays")
    writer = source.client()
    writer.mset({"gone:%d" % number: 5 for number in range(100)})
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        task.stop()
        writer.delete(*("gone:%d" % number for number in range(100)))
        writer.mset({"fill:%d" % number: "x" * 100 for number in range(1000)})
        writer.incr("gone:1")
        task.start()
        wait_until(lambda: bool(task.status().get("shards")) and full_syncs(task) > 1, "another full synchronisation")
        task.wait_synced()
        writer.incr("gone:2")
        writer.rpush("gone:3", "a")
        ended = task.finish()
    reader = target.client()
    assert [reader.get("gone:%d" % number) for number in (1, 2, 4)] == [b"1", b"1", b"5"]
    assert reader.lrange("gone:3", 0, -1) == [b"a"]
    assert reader.get("of the target") == b"stays"
    assert any("in the target and not in the source" in text for text in ended["warnings"])


def test_the_history_is_gone(tmp_path: Path, server: Any) -> None:
    """The backlog does not reach back to where the receiver was: all is copied again, and what was deleted meanwhile goes, too."""
    source, target = server("redis-6.2", config={"repl-backlog-size": "16kb"}), server("redis-6.2")
    target.client().set("of the target", "goes")
    with migrating(tmp_path, source, target, clear_target=True) as (task, writer):
        before = full_syncs(task)
        source.client().mset({"gone:%d" % number: number for number in range(100)})
        task.wait_synced()
        task.stop()
        written(writer, 2000)
        source.client().delete(*("gone:%d" % number for number in range(100)))
        task.start()
        wait_until(lambda: bool(task.status().get("shards")) and full_syncs(task) > before, "another full synchronisation")


def test_the_first_load_is_cut_off(tmp_path: Path, server: Any) -> None:
    """What only the target had is still a stranger after the load was begun once more."""
    source, target = server("redis-6.2", config={"rdbcompression": "no"}), server("redis-6.2")
    source.client().mset({"k:%d" % number: "x" * 5000 for number in range(400)})
    target.client().set("count", 5)
    target.client().rpush("list", "old")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), bandwidth_limit=1 << 20) as task:
        task.start()
        wait_until(lambda: target.client().dbsize() > 50, "the load is under way")
        assert task.kill("applier")
        task.change(bandwidth_limit=0)
        task.wait_synced()
        source.client().incr("count")
        source.client().rpush("list", "new")
        task.finish()
    assert target.client().get("count") == b"1" and target.client().lrange("list", 0, -1) == [b"new"]


def test_the_snapshot_is_cut_off(tmp_path: Path, server: Any) -> None:
    """What was loaded of it, and is deleted before the next one begins, is known to be a stranger."""
    source, target = server("redis-6.2", config={"repl-diskless-sync": "yes", "rdbcompression": "no"}), server("redis-6.2")
    writer = source.client()
    pipe = writer.pipeline(transaction=False)
    for number in range(300):
        pipe.rpush("l:%d" % number, b"%d" % number * 2000, "old")
    pipe.execute()
    writer.config_set("rdb-key-save-delay", 20_000)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        wait_until(lambda: target.client().dbsize() > 60, "the load is under way")
        assert task.kill("receiver")
        gone = target.client().keys("l:*")[:20]
        writer.delete(*gone)
        writer.config_set("rdb-key-save-delay", 0)
        task.wait_synced()
        writer.rpush(gone[0], "new")
        ended = task.finish()
    assert target.client().lrange(gone[0], 0, -1) == [b"new"]
    assert any("in the target and not in the source" in text for text in ended["warnings"])
