# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every command arrives once: the task's processes are killed at random moments while an application goes on writing.

The journal of the writer tells what was lost or doubled; value by value, number of keys and ``DEBUG DIGEST`` tell the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.datasets import populate_realistic
from ansible_collections.dcs.migration.tests.support.live_writer import Deployment, LiveWriter
from ansible_collections.dcs.migration.tests.support.online import (
    OnlineTask,
    assert_identical,
    endpoint_of,
    finish_and_compare,
    settle,
)
from ansible_collections.dcs.migration.tests.support.params import server_params
from ansible_collections.dcs.migration.tests.support.provision import SERVERS
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, wait_until

# So that what the receiver missed while it was dead is still there.
BACKLOG = {"repl-backlog-size": "64mb"}
KEYS = 30_000
# Slow enough that the full synchronisation takes some seconds, in which the processes can be killed.
BANDWIDTH = 1 << 20
# Beside each batch of commands: some 4.5 MB/s; and the speed at which that is caught up with.
FILLER = 30_000
CATCHING_UP = 6 << 20
# Deaths of one process between two of the watchdog, which starts it again after a longer pause each time.
DEATHS = 5
# Twice in each of two phases: 24 deaths in all.
ROUNDS = 2


def pairs(*names: tuple[str, str]) -> list[Any]:
    """Source and target as parameters; all but the first, of wheels, with the mark ``matrix``: each takes half a minute."""
    return [pytest.param(*pair, id="%s-%s" % pair, marks=pytest.mark.matrix if number else ()) for number, pair in enumerate(names)]


def populate(source: Deployment, databases: int = 1) -> None:
    if isinstance(source, RedisCluster):
        client = source.client()
        try:
            populate_realistic(client, KEYS, databases=(0,), big_hash_fields=20_000)
        finally:
            client.close()
    else:
        populate_realistic(source.client(), KEYS, databases=range(databases), big_hash_fields=20_000)


def write(writer: LiveWriter, count: int, enough: Callable[[], bool] = lambda: False) -> None:
    """Let the writer write so many commands, or fewer when that is enough: moments are measured by it, not by the clock."""
    until = writer.sent + count
    wait_until(lambda: writer.sent >= until or enough(), "%d commands written; %s" % (count, writer.errors))


def stutter(target: Deployment, writer: LiveWriter, random: Random) -> None:
    """Let a server of the target stand still for moments, in which keys expire there that are kept at the source."""
    servers = target.masters if isinstance(target, RedisCluster) else [target]
    for _moment in range(random.randrange(4)):
        process = random.choice(servers).process
        process.freeze()
        try:
            write(writer, random.choice((random.randrange(5, 300), 1500)))
        finally:
            process.thaw()
        write(writer, random.randrange(50))


def torture(task: OnlineTask, writer: LiveWriter, target: Deployment, seed: int) -> list[str]:
    """Kill receiver and applier ``DEATHS`` times and then the watchdog, ``ROUNDS`` times over; the status at each death."""
    random = Random(seed)
    seen = []
    for _round in range(ROUNDS):
        recoveries = task.recoveries()
        for part in [*random.choices(("applier", "applier", "receiver"), k=DEATHS), "watchdog"]:
            if random.random() < 0.5:
                # When what the last death left is just being put in order.
                write(writer, 2000, lambda: task.recoveries() > recoveries)
                write(writer, random.choice((random.randrange(60), random.randrange(600))))
            else:
                stutter(target, writer, random)
                write(writer, random.randrange(1000))
            wait_until(lambda: part in task.pids(), "the %s runs: %s" % (part, task.pids()))
            recoveries = task.recoveries()
            seen.append(str(task.status().get("status")))
            task.kill(part)
        task.start()
    return seen


def full_syncs(task: OnlineTask) -> int:
    return sum(shard["full_syncs"] for shard in task.status()["shards"])


def run(
    tmp_path: Path, source: Deployment, target: Deployment, *, seed: int, databases: int = 1, ansible: bool = False
) -> None:
    """Migrate under fire and compare."""
    populate(source, databases)
    version = source.version
    options = {"bandwidth_limit": BANDWIDTH, "ansible": ansible}
    with (
        OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), **options) as task,
        LiveWriter(source, seed=seed, databases=databases, flush=False) as writer,
    ):
        task.start()
        task.wait_for("full_migrating")
        # Before, it might have left nothing to be loaded.
        writer.flush = True
        seen = torture(task, writer, target, seed)
        task.wait_synced()
        before = full_syncs(task)
        # From here on all evidence stays, and a death leaves more than a checkpoint allows to be sent.
        writer.flush = False
        writer.filler = FILLER
        task.change(bandwidth_limit=CATCHING_UP)
        seen += torture(task, writer, target, seed + 1)
        stutter(target, writer, Random(seed))
        task.wait_synced()
        # The backlog holds what was missed: nothing has to be copied again.
        assert full_syncs(task) == before
        writer.stop()
        # Servers up to 6.2 tell replicas how long a key has to live, not when it dies.
        finish_and_compare(task, source, target, ttl_tolerance_ms=50 if version >= (7, 0) else 60_000)
    assert len(seen) >= 20 and {"full_migrating", "incr_migrating"} <= set(seen)
    assert len(writer.used) >= (60 if version >= (6, 0) else 50), sorted(writer.used)


def restore_float_expiries(source: Any, replica: Any) -> None:
    """Before Redis 6.0 a replica is told of INCRBYFLOAT by a plain SET, and loses the key's expiry; a task does not."""
    for name in source.info("keyspace"):
        ours, theirs = (server.client(db=int(name[len("db") :])) for server in (source, replica))
        for key in ours.scan_iter(match="race:*", count=1000):
            if re.fullmatch(rb"-?\d+(\.\d+)?", theirs.get(key) or b"") and theirs.pttl(key) == -1 and (left := ours.pttl(key)) > 0:
                theirs.pexpire(key, left)


# -- the equipment itself -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", server_params(*(name for name, server in SERVERS.items() if server.version >= (5, 0))))
def test_a_replica_of_the_source_holds_the_same(name: str, server: Any) -> None:
    """If writer, quiescing or comparing were wrong, a real replica would differ, too; and what differs has to be seen."""
    source = server(name)
    replica = server(name, replica_of=source, config={"slave-read-only": "no"})
    replica.wait_for_link()
    with LiveWriter(source, databases=3, rate=4000) as writer:
        wait_until(lambda: writer.sent >= 12_000, "12,000 commands written")
        writer.stop()
    assert len(writer.used) >= 60, sorted(writer.used)
    settle(source)
    end = source.info("replication")["master_repl_offset"]
    wait_until(lambda: replica.info("replication")["slave_repl_offset"] >= end, "the replica has all")
    if source.version < (6, 0):
        restore_float_expiries(source, replica)
    assert_identical(source, replica)
    database = next(name for name in sorted(replica.info("keyspace")))
    client = replica.client(db=int(database[len("db") :]))
    for command, pattern in (("INCR", "ctr:*"), ("RPUSH", "log:*")):
        key = client.keys(pattern)[0]
        client.execute_command(command, key, *(["1"] if command == "RPUSH" else []))
        with pytest.raises(AssertionError, match="journals differ"):
            assert_identical(source, replica)
        client.execute_command("DECR" if command == "INCR" else "RPOP", key)
        assert_identical(source, replica)
    client.set("more", 1)
    with pytest.raises(AssertionError, match="only in the target"):
        assert_identical(source, replica)


# -- the task -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source_name", "target_name"),
    pairs(
        ("redis-6.2", "redis-6.2"),
        ("valkey-9.1", "valkey-9.1"),
        ("redis-7.0", "redis-7.0"),
        ("redis-7.0", "valkey-9.1"),
        ("redis-8.0", "redis-8.0"),
        ("redis-5.0", "redis-6.2"),
    ),
)
def test_single_to_single(source_name: str, target_name: str, tmp_path: Path, server: Any) -> None:
    source, target = server(source_name, config=BACKLOG), server(target_name)
    run(tmp_path, source, target, seed=1, databases=3)


@pytest.mark.parametrize(
    ("source_name", "target_name"), pairs(("valkey-9.1", "valkey-9.1"), ("redis-7.0", "redis-7.0"))
)
def test_single_to_cluster(source_name: str, target_name: str, tmp_path: Path, server: Any, cluster: Any) -> None:
    source, target = server(source_name, config=BACKLOG), cluster(target_name)
    run(tmp_path, source, target, seed=2)


@pytest.mark.parametrize(
    ("source_name", "target_name"), pairs(("redis-6.2", "redis-6.2"), ("valkey-9.1", "valkey-9.1"))
)
def test_cluster_to_cluster_with_other_slots(source_name: str, target_name: str, tmp_path: Path, cluster: Any) -> None:
    source: RedisCluster = cluster(source_name, config=BACKLOG)
    run(tmp_path, source, cluster(target_name, masters=4), seed=3)


@pytest.mark.parametrize(
    ("source_name", "target_name"), pairs(("redis-6.2", "valkey-9.1"), ("redis-7.0", "redis-7.0"))
)
def test_cluster_to_single(source_name: str, target_name: str, tmp_path: Path, server: Any, cluster: Any) -> None:
    run(tmp_path, cluster(source_name, config=BACKLOG), server(target_name), seed=4)


def test_through_the_module(tmp_path: Path, server: Any) -> None:
    """As above, asked for by ansible-playbook."""
    source, target = server("redis-6.2", config=BACKLOG), server("redis-6.2")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), ansible=True) as task, LiveWriter(source, databases=2) as writer:
        task.start()
        for part in ("receiver", "applier", "watchdog"):
            task.wait_synced()
            task.kill(part)
            if part == "watchdog":
                task.start()
        task.wait_synced()
        writer.stop()
        finish_and_compare(task, source, target, ttl_tolerance_ms=10_000)
        assert task.absent()["changed"]
        assert not task.folder.exists()
