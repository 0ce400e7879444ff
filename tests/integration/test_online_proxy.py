# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proxies in front of single servers: into one, out of one, and a log imported through one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.aof_files import write_aof
from ansible_collections.dcs.migration.tests.support.live_writer import Deployment
from ansible_collections.dcs.migration.tests.support.logical import Snapshot, assert_same_data, snapshot
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, endpoint_of, masters, settle
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, Twemproxy, wait_until

# So that what the receiver missed while it was dead is still there.
BACKLOG = {"repl-backlog-size": "64mb"}
# Servers up to 6.2 tell replicas how long a key has to live, not when it dies.
TOLERANCE_MS = 60_000
KEYS = 12


# -- an application without streams and blocking commands, which proxies do not have -------------------------------------------


def on_one_key(random: Random) -> list[Any]:
    number = random.randrange(KEYS)
    word = "w%d" % random.randrange(30)
    return random.choice(
        [
            ["SET", "s:%d" % number, word],
            ["SET", "s:%d" % number, word, "PX", random.choice([20, 200, 100_000_000])],
            ["APPEND", "s:%d" % number, word],
            ["INCRBY", "n:%d" % number, number],
            ["PEXPIRE", "n:%d" % number, random.choice([30, 300])],
            ["PERSIST", "n:%d" % number],
            ["HSET", "h:%d" % number, word, word, "x", number],
            ["HINCRBY", "h:%d" % number, "count", 1],
            ["HDEL", "h:%d" % number, word],
            ["RPUSH", "l:%d" % number, word, word],
            ["LPOP", "l:%d" % number],
            ["LTRIM", "l:%d" % number, 0, 20],
            ["SADD", "t:%d" % number, word],
            ["SPOP", "t:%d" % number],
            ["ZADD", "z:%d" % number, number, word],
            ["ZINCRBY", "z:%d" % number, 1.5, word],
            ["ZREMRANGEBYRANK", "z:%d" % number, 0, 0],
            ["SETRANGE", "s:%d" % number, 3, word],
            ["PFADD", "p:%d" % number, word],
            ["GETSET", "s:%d" % number, word],
            ["DEL", random.choice("snhltzp") + ":%d" % number],
        ]
    )


def on_several_keys(random: Random) -> list[Any]:
    a, b = random.sample(range(KEYS), 2)
    return random.choice(
        [
            ["MSET", "s:%d" % a, 1, "s:%d" % b, 2, "n:%d" % a, 5],
            ["DEL", "s:%d" % a, "l:%d" % b, "t:%d" % a],
            ["UNLINK", "s:%d" % a, "l:%d" % b],
            ["RENAME", "l:%d" % a, "l:%d" % b],
            ["RENAMENX", "s:%d" % a, "s:%d" % b],
            ["RPOPLPUSH", "l:%d" % a, "l:%d" % b],
            ["SUNIONSTORE", "t:%d" % a, "t:%d" % a, "t:%d" % b],
            ["ZUNIONSTORE", "z:%d" % a, 2, "z:%d" % a, "z:%d" % b],
            ["SMOVE", "t:%d" % a, "t:%d" % b, "w1"],
            ["COPY", "h:%d" % a, "h:%d" % b, "REPLACE"],
            ["BITOP", "OR", "s:%d" % a, "s:%d" % b, "p:%d" % a],
            ["EVAL", "redis.call('INCR',KEYS[1]); redis.call('RPUSH',KEYS[2],ARGV[1])", 2, "n:%d" % a, "l:%d" % b, "e"],
            ["MULTI", ["INCR", "n:%d" % a], ["RPUSH", "l:%d" % b, "m"], ["INCR", "n:%d" % b]],
        ]
    )


class Application:
    """Writes through ``client`` until it is stopped, with a journal: INCR and RPUSH of a running number, which show what got lost."""

    def __init__(self, client: redis.Redis, makers: list[Callable[[Random], list[Any]]]) -> None:
        self.sent = 0
        self._client = client
        self._makers = makers
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        random = Random(1)
        try:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                self._client.incr("ctr:%d" % (number % 5))
                self._client.rpush("log:%d" % (number % 5), number)
                self._send(random.choice(self._makers)(random))
                self.sent += 3
        except BaseException as exc:
            self._failure = exc

    def _send(self, words: list[Any]) -> None:
        try:
            if words[0] == "MULTI":
                pipe = self._client.pipeline(transaction=True)
                for one in words[1:]:
                    pipe.execute_command(*one)
                pipe.execute()
            else:
                self._client.execute_command(*words)
        except redis.ResponseError:
            pass  # of a RENAME of no key: errors are part of the game

    def write(self, count: int) -> None:
        """Wait until so many more commands were written."""
        until = self.sent + count
        wait_until(lambda: self.sent >= until or self._failure is not None, "%d commands more" % count)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Application:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def __exit__(self, *exc: object) -> None:
        self.stop()


# -- into a proxy -------------------------------------------------------------------------------------------------------------


def held_by(servers: list[RedisServer]) -> Snapshot:
    """Everything that the servers hold together; a key that two of them hold is an error."""
    for one in servers:
        settle(one)
    return snapshot([one.client() for one in servers])


def assert_same(source: Snapshot, target: Snapshot) -> None:
    assert [key for _db, key in target if key.startswith(RESERVED_PREFIX)] == []
    assert_same_data(source, target, TOLERANCE_MS, ("source", "target"))


def proxied(proxy: Twemproxy, named: bool) -> dict[str, Any]:
    """The endpoint of the proxy, with or without the names of what is behind it."""
    return endpoint_of_proxy(proxy, shards=[one.address for one in proxy.backends]) if named else endpoint_of_proxy(proxy)


def endpoint_of_proxy(proxy: Twemproxy, **options: Any) -> dict[str, Any]:
    return {"addresses": [proxy.address], "topology": "proxy_cluster", **options}


@pytest.mark.parametrize("named", [False, True], ids=["shards-hidden", "shards-named"])
def test_into_a_proxy(named: bool, tmp_path: Path, server: Any, twemproxy: Any) -> None:
    source = server("redis-6.2", config={**BACKLOG, "databases": 1})
    proxy = twemproxy([server("redis-6.2") for _number in range(3)])
    source.client().mset({"fill:%d" % number: "x" * number for number in range(1000)})
    source.client().hset("fields", mapping={"f%d" % number: number for number in range(5000)})
    with (
        OnlineTask(tmp_path, endpoint_of(source), proxied(proxy, named)) as task,
        Application(source.client(), [on_one_key, on_several_keys]) as application,
    ):
        application.write(500)
        task.start()
        for part in ("applier", "applier", "receiver", "applier"):
            task.wait_synced()
            application.write(1000)
            task.kill(part)
        task.wait_synced()
        application.write(500)
        task.stop()
        application.write(300)
        task.start()
        task.wait_synced()
        application.stop()
        settle(source)
        assert task.finish()["status"] == "succeeded"
        assert not (task.folder / "checkpoint.json").exists()
        task.absent()
    assert len(source.client().lrange("log:0", 0, -1)) == int(source.client().get("ctr:0")) > 200
    found = held_by(proxy.backends)
    assert all(one.client().dbsize() for one in proxy.backends)
    assert_same(held_by([source]), found)
    # As the proxy's clients see it, too.
    keys = [key for _db, key in found]
    assert_same(held_by([source]), snapshot(proxy.client(), keys=keys))


def test_other_databases_need_a_map(tmp_path: Path, server: Any, twemproxy: Any) -> None:
    """A proxy has one database."""
    source, proxy = server("redis-6.2"), twemproxy([server("redis-6.2") for _number in range(2)])
    source.client(db=3).set("a", 1)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of_proxy(proxy), databases=[3], db_map={"3": 0}) as task:
        task.start()
        task.wait_synced()
        source.client(db=3).incr("a")
        source.client(db=0).incr("a")
        task.finish()
    assert [one for one in (server.client().get("a") for server in proxy.backends) if one] == [b"2"]


@pytest.mark.parametrize("options", [{}, {"on_conflict": "skip"}, {"on_conflict": "fail"}, {"clear_target": True}], ids=str)
def test_what_needs_all_keys_of_the_proxy(options: dict[str, Any], tmp_path: Path, server: Any, twemproxy: Any) -> None:
    """Where the nodes are named they are asked; a proxy itself has neither SCAN nor FLUSHALL."""
    source, proxy = server("redis-6.2"), twemproxy([server("redis-6.2") for _number in range(2)])
    source.client().mset({"k:%d" % number: 1 for number in range(50)})
    proxy.client().set("mine", 5)
    with OnlineTask(tmp_path, endpoint_of(source), proxied(proxy, True), **options) as task:
        task.start()
        task.wait_synced()
        source.client().incr("mine")
        source.client().flushall()
        source.client().incr("after")
        task.finish()
    found = {key: entry.value for (_db, key), entry in held_by(proxy.backends).items()}
    assert found == {b"after": b"1", **({b"mine": b"5"} if options.get("on_conflict") == "skip" else {})}


@pytest.mark.parametrize("options", [{}, {"on_conflict": "skip"}, {"on_conflict": "fail"}, {"clear_target": True}], ids=str)
def test_what_cannot_be_done_without_names(options: dict[str, Any], tmp_path: Path, server: Any, twemproxy: Any) -> None:
    """An error that tells what is missing, and no trying for ever."""
    source, proxy = server("redis-6.2"), twemproxy([server("redis-6.2") for _number in range(2)])
    proxy.client().set("mine", 5)
    with OnlineTask(tmp_path, endpoint_of(source), proxied(proxy, False), **options) as task:
        task.start()
        if not options:
            task.wait_synced(20)
            source.client().flushall()
        wait_until(lambda: task.status().get("status") == "failed", "it fails: %s" % task.log(), 20)
        assert "shards" in task.status()["error"]["remedy"]
    assert proxy.client().get("mine") == b"5"


def test_commands_that_a_proxy_does_not_have(tmp_path: Path, server: Any, twemproxy: Any) -> None:
    """twemproxy ends the connection over them; then the key is copied."""
    source, proxy = server("redis-6.2", config=BACKLOG), twemproxy([server("redis-6.2") for _number in range(2)])
    with OnlineTask(tmp_path, endpoint_of(source), proxied(proxy, True)) as task:
        task.start()
        task.wait_synced()
        for number in range(3):
            source.client().xadd("x", {"n": number})
            source.client().incr("n")
        task.finish()
    assert_same(held_by([source]), held_by(proxy.backends))


# -- out of a proxy -----------------------------------------------------------------------------------------------------------


@contextmanager
def out_of_a_proxy(folder: Path, proxy: Twemproxy, target: Deployment, **options: Any) -> Iterator[OnlineTask]:
    with OnlineTask(folder, proxied(proxy, True), endpoint_of(target), **options) as task:
        task.start()
        task.wait_synced()
        yield task


@pytest.fixture
def source_proxy(server: Any, twemproxy: Any) -> Twemproxy:
    return twemproxy([server("redis-6.2", config=BACKLOG) for _number in range(3)])


@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_out_of_a_proxy(kind: str, tmp_path: Path, source_proxy: Twemproxy, server: Any, cluster: Any) -> None:
    target: Deployment = server("redis-6.2") if kind == "single" else cluster("redis-6.2")
    client = source_proxy.client()
    for number in range(500):
        client.set("fill:%d" % number, "x" * number)
    with Application(client, [on_one_key]) as application, out_of_a_proxy(tmp_path, source_proxy, target) as task:
        shards = task.status()["shards"]
        assert sorted(shard["source"] for shard in shards) == sorted(one.address for one in source_proxy.backends)
        for part in ("applier", "receiver", "applier"):
            application.write(800)
            task.kill(part)
            task.wait_synced()
        application.write(500)
        application.stop()
        for one in source_proxy.backends:
            settle(one)
        assert task.finish()["status"] == "succeeded"
    settle(target)
    assert_same(held_by(source_proxy.backends), snapshot(masters(target)))


def test_one_shard_is_flushed(tmp_path: Path, source_proxy: Twemproxy, server: Any) -> None:
    """Nobody can tell which keys of the target were its own: the error says so, and what to do."""
    target = server("redis-6.2")
    client = source_proxy.client()
    for number in range(100):
        client.set("k:%d" % number, number)
    with out_of_a_proxy(tmp_path, source_proxy, target) as task:
        assert target.client().dbsize() == 100 + 1
        source_proxy.backends[1].client().flushall()
        error = task.wait_for("failed")["error"]
        assert "nobody can tell which keys of the target were its own" in error["why"] and "clear_target" in error["remedy"]
        task.absent()
    assert target.client().dbsize() == 100
    # As the error tells.
    left = held_by(source_proxy.backends)
    assert 0 < len(left) < 100
    with out_of_a_proxy(tmp_path, source_proxy, target, clear_target=True) as task:
        assert task.finish()["status"] == "succeeded"
    assert_same(left, held_by([target]))


# -- a log through a proxy ----------------------------------------------------------------------------------------------------


def test_a_log_is_imported_once(tmp_path: Path, server: Any, twemproxy: Any) -> None:
    """Behind a proxy, too, the receipt counts only while the keys are there."""
    backends = [server("redis-6.2") for _number in range(3)]
    proxy = twemproxy(backends)
    lines = ["SELECT 0", *("INCR k:%d" % (number % 50) for number in range(100)), "RPUSH l a b", "DEL k:0 k:1", "SADD s x"]
    path = write_aof(tmp_path / "a.aof", *lines)
    endpoint = Endpoint.from_params(endpoint_of_proxy(proxy))

    def load() -> str:
        result = Importer(endpoint, Options(state_dir=str(tmp_path / "state")), lambda _text: None).run(open_files([str(path)]))
        return str(result["files"][0]["status"])

    expected = {b"k:%d" % number: b"2" for number in range(2, 50)}
    for flushed in (False, True):
        assert load() == "imported"
        found = held_by(backends)
        assert {key: entry.value for (_db, key), entry in found.items() if entry.type == "string"} == expected
        assert len(found) == 50 and all(one.client().dbsize() for one in backends)
        assert load() == "present"
        assert held_by(backends) == found
        if not flushed:
            for one in backends:
                one.flush()
