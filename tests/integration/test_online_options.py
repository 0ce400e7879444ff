# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the options of an online task do to the replication stream, not only to the snapshot."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.following import assert_taken, fill, following, ours, run, values
from ansible_collections.dcs.migration.tests.support.live_writer import Deployment, LiveWriter
from ansible_collections.dcs.migration.tests.support.logical import snapshot
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, assert_identical, endpoint_of, masters, settle
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, wait_until


# -- databases ----------------------------------------------------------------------------------------------------------------


def test_databases_go_elsewhere(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """0 to 4, 2 to 0, 1 stays, and 3 is left out."""
    places: dict[int, int | None] = {0: 4, 1: 1, 2: 0, 3: None}
    for db in places:
        run(source, "SET here %d" % db, "SADD s:%d a" % db, "SET move:%d 1" % db, "SET copy:%d 1" % db, "SET n 1", db=db)
    with following(tmp_path, source, target, databases=[0, 1, 2], db_map={"0": 4, "2": 0}):
        for db in places:
            run(source, "INCR n", "SET new:%d 1" % db, "RENAME s:%d renamed:%d" % (db, db), db=db)
        for db in places:
            for other in places:
                if other != db:
                    moved, copied = "m:%d:%d" % (db, other), "c:%d:%d" % (db, other)
                    run(source, "SET %s 1" % moved, "MOVE %s %d" % (moved, other), "COPY n %s DB %d" % (copied, other), db=db)
                    # What follows builds on what was moved and copied.
                    run(source, "INCR %s" % moved, "INCR %s" % copied, "COPY %s n DB %d REPLACE" % (copied, db), db=other)
        run(source, "MOVE move:0 2", "COPY copy:0 copy:0 DB 1")
        run(source, "MULTI", "INCR n", "SELECT 2", "INCR n", "SELECT 3", "INCR n", "EXEC")
    assert_taken(source, target, places.get)
    assert not ours(target)


def test_two_databases_into_one(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """A key that moves between them stays where it is in the target, whichever way it goes."""
    run(source, *("SET a:%d %d" % (number, number) for number in range(20)), *("SADD x:%d a" % number for number in range(20)))
    run(source, *("SET b:%d %d" % (number, number) for number in range(20)), db=1)
    with following(tmp_path, source, target, db_map={"1": 0}):
        for number in range(20):
            run(source, "MOVE a:%d 1" % number, "COPY x:%d y:%d DB 1" % (number, number))
            run(source, "MOVE b:%d 0" % number, "INCR a:%d" % number, "SADD y:%d b" % number, db=1)
            run(source, "INCR b:%d" % number, "RENAME x:%d z:%d" % (number, number))
    assert_taken(source, target, lambda db: 0)


def test_an_application_over_mapped_databases(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    places: dict[int, int | None] = {0: 5, 1: 0, 2: None}
    with LiveWriter(source, databases=3, flush=False) as writer:
        wait_until(lambda: writer.sent >= 500, "500 commands written")
        with following(tmp_path, source, target, databases=[0, 1], db_map={"0": 5, "1": 0}) as task:
            wait_until(lambda: writer.sent >= 3000, "3000 commands written")
            task.kill("applier")
            wait_until(lambda: writer.sent >= 6000, "6000 commands written")
            writer.stop()
            settle(source)
    assert_taken(source, target, places.get)
    assert not ours(target)


@pytest.mark.parametrize(
    ("kind", "db", "lines"),
    [("single", 5, ["SET x five", "INCR n"]), ("single", 0, ["COPY x z DB 5"]), ("cluster", 5, ["SET x five", "INCR n"])],
    ids=["written", "copied", "cluster"],
)
def test_a_database_that_the_target_lacks(
    tmp_path: Path, source: RedisServer, server: Any, shared_cluster: Any, kind: str, db: int, lines: list[str]
) -> None:
    """Nothing that belongs there goes into another one."""
    target = shared_cluster("redis-6.2") if kind == "cluster" else server("redis-6.2", config={"databases": 4})
    run(source, "SET x zero")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        run(source, *lines, db=db)
        error = task.wait_for("failed", seconds=15)["error"]
        assert "database 5" in error["why"] and "db_map" in error["remedy"]
        task.absent()
    client = target.client()
    assert client.get("x") == b"zero" and not client.exists("n") and not client.exists("z")


def test_a_flush_leaves_databases_alone_that_the_target_lacks(tmp_path: Path, source: RedisServer, server: Any) -> None:
    target = server("redis-6.2", config={"databases": 4})
    run(source, "SET a 1", db=1)
    run(target, "SET mine 1")
    with following(tmp_path, source, target, db_map={"0": 3, "1": 2}):
        run(source, "FLUSHALL", "SET b 1", db=1)
    assert_taken(source, target, lambda db: {0: 3, 1: 2}[db], own=[(0, b"mine")])


# -- keys ---------------------------------------------------------------------------------------------------------------------

IN = {"include_keys": ["in:*", "also:*"], "exclude_keys": ["in:not:*"]}


def is_in(key: bytes) -> bool:
    return key.startswith((b"in:", b"also:")) and not key.startswith(b"in:not:")


def test_commands_of_which_some_keys_are_taken(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    run(source, "SADD in:s a b", "SADD out:s c", "SET in:b 1", "SET out:b 1")
    run(source, "SET in:c 1", "SET out:d 5", "SET out:x 1", "SET in:not:x 3")
    run(source, "RPUSH out:l 1 2 3", "RPUSH in:l 1 2 3", "ZADD out:z 1 a")
    run(source, "SET in:n 1", "SET out:n 1", "PFADD in:p a", "PFADD out:p b")
    with following(tmp_path, source, any_target, **IN):
        run(source, "MSET in:a 1 out:a 1 also:a 1 in:not:a 1", "DEL in:b out:b also:none")
        run(source, "RENAME in:c out:c", "RENAME out:d in:d", "INCR in:d")
        run(source, "SUNIONSTORE in:u in:s out:s", "SADD in:u d", "SUNIONSTORE out:u in:s out:s")
        run(source, "SUNIONSTORE also:u out:s", "SMOVE in:s out:s a")
        run(source, "SMOVE out:s in:s c", "COPY out:x in:x", "INCR in:x", "COPY in:x out:y", "COPY in:not:x also:x", "INCR also:x")
        run(source, "RPOPLPUSH out:l in:l", "RPOPLPUSH in:l out:l")
        run(source, "LMOVE in:l also:l LEFT RIGHT", "RPUSH also:l 9", "PFMERGE in:p out:p")
        run(source, "ZUNIONSTORE in:z 1 out:z", "ZADD in:z 2 b", "SORT out:l STORE in:sorted")
        run(source, "RPUSH in:sorted 7", "BITOP OR in:bit out:n in:n")
        run(source, "MULTI", "INCR in:n", "INCR out:n", "RENAME out:n in:moved", "EXEC")
        run(source, "INCR in:moved", "MSETNX in:k 1 out:k 1", "INCR in:k")
        run(source, "SET in:gone 1", "RENAMENX in:gone out:gone", "UNLINK out:y in:a")
        run(source, "SET out:r 1 PX 60", "EVAL %s 2 in:e out:e" % TWO_KEYS)
        run(source, "INCR in:e", "BLPOP in:l out:l 1", "EXPIRE also:a 100000", "GETSET in:n 7")
    assert_taken(source, any_target, keep=is_in)
    assert not ours(any_target)


TWO_KEYS = "redis.call('INCR',KEYS[1]);redis.call('INCR',KEYS[2])"


def test_an_application_of_which_some_keys_are_taken(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    """Keys are called kind:number; taken are those of an even number."""
    numbers = {"include_keys": ["*[02468]"], "exclude_keys": ["*18"]}
    with LiveWriter(source, databases=1, flush=False) as writer:
        wait_until(lambda: writer.sent >= 500, "500 commands written")
        with following(tmp_path, source, any_target, **numbers) as task:
            wait_until(lambda: writer.sent >= 3000, "3000 commands written")
            task.kill("applier")
            wait_until(lambda: writer.sent >= 6000, "6000 commands written")
            writer.stop()
            settle(source)
    assert_taken(source, any_target, keep=lambda key: key[-1:] in b"02468" and not key.endswith(b"18"))


# -- keys that the target has already -----------------------------------------------------------------------------------------


def test_replace(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    """What only the target has stays until the source has it, too; then it is the source's alone."""
    run(source, "SET both 1", "RPUSH list a", "SET later 1")
    fill(any_target, "SET both 50", "RPUSH list x y", "SET mine 1", "SET t:incr 50")
    fill(any_target, "RPUSH t:push x", "SADD t:set x", "SET t:set:2 x")
    fill(any_target, "SET t:setnx 1", "HSET t:hash f 1", "SET t:append x")
    fill(any_target, "SADD t:union x", "SET t:renamed x", "SET t:expire x", "SET t:tx 9")
    with following(tmp_path, source, any_target, on_conflict="replace") as task:
        assert any("in the target and not in the source" in text for text in task.status()["warnings"])
        run(source, "INCR both", "RPUSH list b", "INCR t:incr", "LPUSH t:push 1")
        run(source, "SADD t:set 1", "SET t:set:2 1", "INCR t:set:2", "SETNX t:setnx 5")
        run(source, "HINCRBY t:hash g 1", "APPEND t:append y", "SADD s 1")
        run(source, "SUNIONSTORE t:union s", "RENAME later t:renamed", "INCR t:renamed")
        run(source, "SET t:expire 1 PX 100000", "PERSIST t:expire")
        run(source, "MULTI", "INCR t:tx", "INCR t:tx", "EXEC", "INCR t:incr", "SET t:gone 1", "DEL t:gone")
    assert_taken(source, any_target, own=[(0, b"mine")])


def test_more_keys_of_the_target_than_are_remembered(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    target.execute("DEBUG", "POPULATE", "200300", "mine")
    with following(tmp_path, source, target, on_conflict="replace") as task:
        assert any("200300 keys are in the target and not in the source" in text for text in task.status()["warnings"])
        noted = {base64.b64decode(key) for rows in task.read("strangers.json").values() for _db, key in rows}
        keys = [b"mine:%d" % number for number in range(200300)]
        name = next(key for key in keys if key not in noted).decode()
        run(source, "APPEND %s x" % name)
        wait_until(lambda: values(target, name) == [b"x"], "nothing was built on it")
        task.kill("applier")
        wait_until(lambda: task.log().count("following the source") == 2, "the task goes on")
        other = next(key for key in reversed(keys) if key not in noted).decode()
        run(source, "APPEND %s x" % other)
        wait_until(lambda: values(target, other) == [b"x"], "nothing was built on it either")
    assert values(source, name, other) == values(target, name, other)


def test_skip(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    """Keys that the target had are its own, whatever the source does to them."""
    own = [b"both", b"list", b"t:incr", b"t:push", b"t:renamed", b"t:union", b"t:gone", b"t:copied"]
    run(source, "SET both 1", "RPUSH list a", "SET other 1", "SADD s 1", "SET later 1", "SET both:2 1")
    fill(any_target, "SET both 50", "RPUSH list x y", "SET t:incr 50", "RPUSH t:push x")
    fill(any_target, "SET t:renamed x", "SADD t:union x", "SET t:gone 1")
    fill(any_target, "SET t:copied 1")
    before = snapshot(masters(any_target))
    with following(tmp_path, source, any_target, on_conflict="skip") as task:
        run(source, "INCR both", "RPUSH list b", "INCR t:incr", "LPUSH t:push 1")
        run(source, "INCR other", "RENAME later t:renamed", "SUNIONSTORE t:union s")
        run(source, "SET t:gone 1", "DEL t:gone other:2", "MSET both 7 new 7 t:incr 8")
        run(source, "COPY both fresh", "INCR fresh", "COPY other t:copied")
        run(source, "MULTI", "INCR both", "INCR both:2", "EXEC", "EXPIRE both 100000")
        run(source, "RPOPLPUSH list popped", "RPUSH popped 1", "SUNIONSTORE u s t:union")
        task.kill("applier")
        run(source, "INCR both", "DEL t:incr", "SET t:incr 1", "INCR new", "INCR both:2")
        assert task.status()["skipped"] >= 2
    found = snapshot(masters(any_target))
    assert {place: found.get(place) for place in before} == before
    assert_taken(source, any_target, own=[(0, key) for key in own])


def test_skip_what_other_databases_bring(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    run(source, "RPUSH list 3 1 2", "SET other 1")
    run(source, "SET moved x", "SET copied x", db=1)
    fill(target, "RPUSH sorted mine", "SET moved mine", "SET copied mine")
    before = snapshot(masters(target))
    with following(tmp_path, source, target, on_conflict="skip"):
        run(source, "SORT list STORE sorted", "INCR other", "SORT list STORE sorted:2")
        run(source, "COPY copied copied DB 0", "COPY copied copied:2 DB 0", "MOVE moved 0", db=1)
        run(source, "MOVE moved 2")
    found = snapshot(masters(target))
    assert {place: found.get(place) for place in before} == before
    assert_taken(source, target, own=before)


def test_skip_survives_a_flush(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    run(source, "SET both 1", "SET other 1")
    fill(target, "SET both 50", "SET mine 60")
    with following(tmp_path, source, target, on_conflict="skip"):
        run(source, "FLUSHALL", "INCR both", "INCR mine", "INCR other")
    assert values(target, "both", "mine", "other") == [b"50", b"60", b"1"] and target.client().dbsize() == 3


def test_fail(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """It fails before anything is written; once the key is out of the way it goes on."""
    run(source, *("SET k:%d 1" % number for number in range(100)))
    fill(target, "SET k:50 mine", "SET t:incr 50", "RPUSH t:push x")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), on_conflict="fail") as task:
        task.start()
        error = task.wait_for("failed")["error"]
        assert "k:50" in str(error) and "on_conflict" in str(error)
        assert sorted(target.client().keys("*")) == [b"k:50", b"t:incr", b"t:push"] and values(target, "k:50") == [b"mine"]
        target.client().delete("k:50")
        task.start()
        task.wait_synced()
        run(source, "INCR t:incr", "LPUSH t:push 1", "INCR k:50")
        task.finish()
    assert_taken(source, target)


def test_clear_target(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    run(source, "SET a 1")
    fill(any_target, "SET a 5", "SET mine 1", "SET later 5")
    if isinstance(any_target, RedisServer):
        run(any_target, "SET elsewhere 1", db=5)
    with following(tmp_path, source, any_target, clear_target=True):
        run(source, "INCR a", "INCR later")
    assert_identical(source, any_target)


# -- how fast and how much ----------------------------------------------------------------------------------------------------


def pour(server: RedisServer, size: int) -> None:
    """Write so many bytes that cannot be compressed."""
    random = Random(1)
    pipe = server.client().pipeline(transaction=False)
    for number in range(size // 5000):
        pipe.execute_command("SET", "fill:%d" % number, random.randbytes(5000))
    pipe.execute()


def applied(task: OnlineTask) -> int:
    return sum(shard["applied_offset"] for shard in task.status().get("shards") or [])


def rate(reading: Callable[[], int], first: int, last: int) -> float:
    """How much the reading grows in a second between two values."""
    times = []
    for value in (first, last):
        wait_until(lambda: reading() >= value, "%d of %d" % (value, last))
        times.append((reading(), time.monotonic()))
    (before, began), (after, ended) = times
    return (after - before) / (ended - began)


def test_bandwidth_limit(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """It holds for the snapshot and for the stream, and it is taken over while the task runs."""
    limit = 1_000_000
    pour(source, 4_000_000)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), bandwidth_limit=limit) as task:
        task.start()
        client = target.client()
        found = rate(lambda: 5000 * client.dbsize(), 1_000_000, 3_000_000)
        assert limit / 2 < found < limit * 1.5
        task.wait_synced()
        task.wait_arrived(source)
        begun = applied(task)
        pour(source, 8_000_000)
        found = rate(lambda: applied(task) - begun, 500_000, 3_000_000)
        assert limit / 2 < found < limit * 1.5
        assert task.call("started", bandwidth_limit=2 * limit)["actions"] == ["change bandwidth_limit"]
        found = rate(lambda: applied(task) - begun, 4_000_000, 7_000_000)
        assert limit < found < limit * 3
        # Twenty seconds at that rate.
        pour(source, 40_000_000)
        began = time.monotonic()
        assert task.finish(bandwidth_limit=0)["status"] == "succeeded"
        assert time.monotonic() - began < 15
    assert_identical(source, target)


def test_a_slow_full_synchronisation_is_let_go(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    pour(source, 2_000_000)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), bandwidth_limit=20_000) as task:
        task.start()
        task.wait_for("full_migrating")
        task.start(bandwidth_limit=0)
        task.wait_synced(20)
        assert task.finish()["status"] == "succeeded"
    assert_identical(source, target)


def test_only_the_full_synchronisation(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    run(source, *("SET k:%d 1" % number for number in range(1000)), "RPUSH l a b", "SET brief 1 EX 100000")
    fill(any_target, "SET mine 1")
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(any_target), method="full") as task:
        task.start()
        status = task.wait_for("succeeded")
        assert status["full_migration_progress"] == 100 and status["keys"] == 1002
        wait_until(lambda: not task.pids(), "its processes have ended")
        assert_taken(source, any_target, own=[(0, b"mine")])
        run(source, "SET afterwards 1", "DEL l")
        assert task.call("started")["changed"] is False
        assert task.finish()["status"] == "succeeded"
    found = snapshot(masters(any_target))
    assert (0, b"l") in found and (0, b"afterwards") not in found and not ours(any_target)


def test_large_values_in_the_stream(tmp_path: Path, source: RedisServer, any_target: Deployment) -> None:
    """100 MB in one argument, and 40,000 arguments in one command."""
    random = Random(1)
    client = source.client()
    with following(tmp_path, source, any_target) as task:
        client.set("large", random.randbytes(1 << 20) * 100)
        client.append("large", b"end")
        client.hset("hash", mapping={"field:%d" % number: random.randbytes(20) for number in range(20_000)})
        client.hincrby("hash", "count", 1)
        client.rpush("list", *range(50_000))
        task.wait_synced()
        # Copies of the large ones, too.
        client.rename("large", "larger")
        client.copy("hash", "hasher")
        task.wait_synced()
    assert_identical(source, any_target)
