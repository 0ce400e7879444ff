# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands that concern more than their keys: whole databases, every master, transactions."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from ansible_collections.dcs.migration.tests.support.following import assert_taken, fill, following, ours, run, values
from ansible_collections.dcs.migration.tests.support.live_writer import Deployment
from ansible_collections.dcs.migration.tests.support.logical import functions, snapshot
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, assert_identical, endpoint_of, masters
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, wait_until


# -- commands on whole databases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"])
def test_a_flush_takes_only_what_is_the_source_s(tmp_path: Path, source: RedisServer, any_target: Deployment, command: str) -> None:
    run(source, *("SET in:%d 1" % number for number in range(50)), "SET out:1 1")
    fill(any_target, "SET out:1 mine", "SET mine 1", "SET in:only 1")
    with following(tmp_path, source, any_target, include_keys=["in:*"]):
        run(source, "INCR in:1", command, "INCR in:2", "SET in:3 x", "INCR out:1")
    assert_taken(source, any_target, keep=lambda key: key.startswith(b"in:"), own=[(0, b"out:1"), (0, b"mine")])


def test_a_flush_of_some_databases(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    places: dict[int, int | None] = {0: None, 1: 6, 2: 0, 3: 3}
    for db in places:
        run(source, "SET a 1", "SET b 1", db=db)
    run(target, "SET mine 1", db=7)
    with following(tmp_path, source, target, databases=[1, 2, 3], db_map={"1": 6, "2": 0}) as task:
        run(source, "INCR a", "FLUSHDB", "INCR b", db=1)
        run(source, "FLUSHDB", "INCR a", db=0)
        task.wait_arrived(source)
        run(source, "INCR a", "FLUSHDB", "SET c 1", db=2)
        task.wait_arrived(source)
        assert_taken(source, target, places.get, own=[(7, b"mine"), *((0, key) for key in ours(target))])
        run(source, "FLUSHALL", "INCR a", db=3)
        run(source, "INCR a", db=2)
    assert_taken(source, target, places.get, own=[(7, b"mine")])


def target_has(target: Deployment, key: str) -> bool:
    return (0, key.encode()) in snapshot(masters(target))


def fails(folder: Path, source: RedisServer, target: Deployment, options: Mapping[str, Any], lines: list[str], db: int = 0) -> str:
    """The error with which the task ends for good; it has to say what to do."""
    with OnlineTask(folder, endpoint_of(source), endpoint_of(target), **options) as task:
        task.start()
        task.wait_synced()
        run(source, "SET before 1", *lines, "SET after 1", db=db)
        error = task.wait_for("failed")["error"]
        assert "stream of the source at offset" in error["what"] and "state absent" in error["remedy"]
        assert target_has(target, "before") and not target_has(target, "after")
        # Trying again makes no difference.
        task.start()
        assert task.wait_for("failed")["error"]["why"] == error["why"]
        task.absent()
        assert not ours(target)
        return str(error["why"])


@pytest.mark.parametrize(
    "options",
    [{"databases": [0]}, {"db_map": {"1": 0}}, {"db_map": {"2": 0}}, {"include_keys": ["*"]}, {"on_conflict": "skip"}],
    ids=["databases", "into one", "another into one", "include_keys", "on_conflict"],
)
def test_a_swap_that_cannot_be_done(tmp_path: Path, source: RedisServer, target: RedisServer, options: dict[str, Any]) -> None:
    run(source, "SET a 1")
    fill(target, "SET mine 1")
    assert "SWAPDB 0 1 cannot be done" in fails(tmp_path, source, target, options, ["SWAPDB 0 1"])


def test_a_swap_cannot_be_done_in_a_cluster(tmp_path: Path, source: RedisServer, shared_cluster: Any) -> None:
    run(source, "SET a 1")
    assert "SWAPDB 0 1 cannot be done" in fails(tmp_path, source, shared_cluster("redis-6.2"), {}, ["SWAPDB 0 1"])


def test_swaps_that_can_be_done(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    places: dict[int, int | None] = {0: 4, 1: 0, 2: 2, 3: None, 5: None}
    for db in places:
        run(source, "SET here %d" % db, "SET n 1", db=db)
    with following(tmp_path, source, target, databases=[0, 1, 2], db_map={"0": 4, "1": 0}) as task:
        run(source, "INCR n", "SWAPDB 0 1", "INCR n", "SWAPDB 3 5", "SWAPDB 1 2", "INCR n", "SWAPDB 0 0")
        run(source, "INCR n", "RENAME n m", db=1)
        task.kill("applier")
        run(source, "INCR m", "SWAPDB 2 0", "INCR m", "SET new 1", db=1)
        task.wait_synced()
    assert_taken(source, target, places.get)
    assert not ours(target)


def test_what_only_the_target_has_is_swapped_too(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    run(source, "SET a 1")
    fill(target, "SET count 5", "SET again 5", "SET still 5")
    run(target, "SET still 6", db=3)
    with following(tmp_path, source, target) as task:
        run(source, "SWAPDB 0 3")
        run(source, "INCR count", "APPEND still x", db=3)
        wait_until(lambda: values(target, "count", "still", db=3) == [b"1", b"x"], "nothing was built on them")
        task.kill("applier")
        # What is copied after a death would hide the rest.
        wait_until(lambda: task.log().count("following the source") == 2, "the task goes on")
        run(source, "INCR again", db=3)
        run(source, "INCR still")
    assert_taken(source, target)


def test_a_flush_of_one_of_two_merged_databases(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    run(source, "SET a 1")
    run(source, "SET b 1", db=1)
    why = fails(tmp_path, source, target, {"db_map": {"1": 0}}, ["FLUSHDB"], db=1)
    assert "database 1 was emptied, and db_map puts database 0" in why and values(target, "a") == [b"1"]


def test_a_flush_of_all_merged_databases(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    run(source, "SET a 1")
    run(source, "SET b 1", db=1)
    with following(tmp_path, source, target, db_map={"1": 0}):
        run(source, "FLUSHALL", "SET b 2", db=1)
        run(source, "SET a 2")
    assert_taken(source, target, lambda db: 0)


# -- scripts, functions, transactions -----------------------------------------------------------------------------------------

LIBRARY = "#!lua name=%s\nredis.register_function('%s_run', function(keys, args) return %d end)"


def test_functions_reach_every_master(tmp_path: Path, shared_server: Any, shared_cluster: Any) -> None:
    source, target = shared_server("valkey-9.1", 0), shared_cluster("valkey-9.1")

    def load(name: str, number: int, *words: str) -> None:
        source.execute("FUNCTION", "LOAD", *words, LIBRARY % (name, name, number))

    clients = masters(target)

    def arrived() -> bool:
        held = functions(source.client())
        return all(functions(client) == held for client in clients)

    load("before", 1)
    with following(tmp_path, source, target) as task:
        assert arrived()
        load("one", 1)
        load("two", 1)
        load("one", 2, "REPLACE")
        source.execute("FUNCTION", "DELETE", "two")
        source.execute("FUNCTION", "DELETE", "before")
        source.client().set("a", 1)
        wait_until(arrived, "the functions are in every master")
        dump = source.execute("FUNCTION", "DUMP")
        source.execute("FUNCTION", "FLUSH")
        wait_until(arrived, "no functions are left")
        source.execute("FUNCTION", "RESTORE", dump)
        wait_until(arrived, "the functions are back")
        task.kill("applier")
        load("three", 3)
    assert len(functions(clients)) == 2
    assert_identical(source, target)


def test_scripts_reach_every_master(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    """An application that goes over to the target calls its scripts there by their checksums."""
    for client in [source.client(), *masters(any_target)]:
        client.script_flush()
    with following(tmp_path, source, any_target):
        sha = source.client().script_load("return 1")
        source.client().set("a", 1)
    assert [client.script_exists(sha) for client in masters(any_target)] == [[True]] * len(masters(any_target))


def verbatim(server: Any) -> RedisServer:
    """A source that sends scripts, not what they do, as all did before Redis 5."""
    source: RedisServer = server("redis-6.2")
    source.execute("DEBUG", "lua-always-replicate-commands", "0")
    return source


COUNT = "return redis.call('incr','count')"


def test_scripts_without_keys_are_done_once(tmp_path: Path, server: Any, target: RedisServer) -> None:
    source = verbatim(server)
    clients = [source.client(), source.client(db=3)]
    with following(tmp_path, source, target) as task:
        for _round in range(3):
            for client in clients:
                for _number in range(50):
                    client.eval(COUNT, 0)
                client.incr("count")
            task.kill("applier")
        # The target loses its scripts: the first one is known by its call, the other one by SCRIPT LOAD.
        known = [clients[0].script_load(body) for body in (COUNT, "redis.call('select',2); return redis.call('incr','count')")]
        task.wait_synced(lag=0)
        target.execute("SCRIPT", "FLUSH")
        for sha in known:
            clients[1].evalsha(sha, 0)
        pipe = clients[0].pipeline(transaction=True)
        pipe.incr("count")
        pipe.evalsha(known[0], 0)
        pipe.execute()
        with pytest.raises(redis.ResponseError):
            clients[0].eval("redis.call('incr','count'); return redis.call('incr')", 0)
    assert_identical(source, target)


def test_a_script_that_the_target_lacks(tmp_path: Path, server: Any, target: RedisServer) -> None:
    source = verbatim(server)
    sha = source.client().script_load(COUNT)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        source.client().evalsha(sha, 0)
        task.wait_synced(lag=0)
        task.stop()
        target.execute("SCRIPT", "FLUSH")
        source.client().evalsha(sha, 0)
        task.start()
        error = task.wait_for("failed")["error"]
        assert sha in error["why"] and "SCRIPT LOAD" in error["remedy"]
        target.client().script_load(COUNT)
        task.start()
        task.wait_synced()
        task.finish()
    assert_identical(source, target)


def test_a_script_without_keys_into_a_cluster(tmp_path: Path, server: Any, shared_cluster: Any) -> None:
    source, target = verbatim(server), shared_cluster("redis-6.2")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        source.client().eval(COUNT, 0)
        assert "names no keys" in task.wait_for("failed")["error"]["why"]
        task.absent()


def executed(clients: list[redis.Redis]) -> int:
    """Calls of EXEC so far, on all masters."""
    stats = [client.info("commandstats").get("cmdstat_exec", {"calls": 0}) for client in clients]
    return sum(int(one["calls"]) for one in stats)


def transact(source: RedisServer, count: int) -> None:
    for number in range(count):
        pipe = source.client().pipeline(transaction=True)
        pipe.incr("n")
        pipe.lpush("l:%d" % (number % 7), number)
        pipe.mset({"m:%d" % number: number, "m:%d" % (number + 1): number})
        pipe.execute()


def test_transactions_stay_whole(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    # Keys that a transaction begins may have died in the target: these it cannot take as they come.
    transact(source, 7)
    clients = masters(target)
    with following(tmp_path, source, target) as task:
        before = executed(clients)
        transact(source, 20)
        wait_until(lambda: executed(clients) - before == 20, "20 transactions")
        # One in which something fails at the source, and one over two databases.
        run(source, "SET text x", "MULTI", "INCR text", "INCR n", "EXEC", "MULTI", "INCR n", "SELECT 2", "INCR n", "EXEC", "INCR n")
        task.wait_synced()
    assert_identical(source, target)


def test_transactions_into_a_cluster(tmp_path: Path, source: RedisServer, shared_cluster: Any) -> None:
    target = shared_cluster("redis-6.2")
    clients = masters(target)
    with following(tmp_path, source, target):
        before = executed(clients)
        transact(source, 20)
    assert executed(clients) == before
    assert_identical(source, target)


@pytest.mark.parametrize("quiet", [True, False])
def test_somebody_else_empties_the_target(tmp_path: Path, source: RedisServer, any_target: Deployment, quiet: bool) -> None:
    """One master of it is enough. It is filled anew, also when the source says nothing more until the task is finished."""
    source.client().mset({"key:%d" % number: number for number in range(1000)})
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(any_target)) as task:
        task.start()
        task.wait_synced()
        masters(any_target)[0].flushall()
        if not quiet:
            source.client().set("later", "value")
            wait_until(lambda: task.status()["shards"][0]["full_syncs"] == 2, "everything is copied once more")
            task.wait_synced()
        task.finish()
        assert task.status()["shards"][0]["full_syncs"] == 2
        assert any("asking for a new full synchronisation" in text for text in task.status()["warnings"])
        assert_identical(source, any_target)


def test_writers_that_go_on_until_the_end(tmp_path: Path, source: RedisServer, target: RedisServer, tcp_proxy: Any) -> None:
    """What is sent behind the last offset that has to be reached may find its keys gone, and has to be put right as before."""
    keys = ["counter:%d" % number for number in range(3000)]
    source.client().mset(dict.fromkeys(keys, 100))
    network = tcp_proxy(target.address)
    with OnlineTask(tmp_path, endpoint_of(source), {"addresses": [network.address]}) as task:
        task.start()
        task.wait_synced()
        target.client().delete(*keys)
        network.throttle(2000)
        finishing = threading.Thread(target=task.finish)
        finishing.start()
        for key in keys:
            source.client().incr(key)
            time.sleep(0.01)
            if not finishing.is_alive():
                break
        finishing.join()
    assert task.status()["status"] == "succeeded"
    assert set(target.client().mget(keys)) <= {None, b"101"}
