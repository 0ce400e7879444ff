# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AOF files with expiries that passed: the judge is a server of the same version that loads the very files by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from ansible_collections.dcs.migration.plugins.module_utils._errors import ServerError
from ansible_collections.dcs.migration.plugins.module_utils._import import aof_expiry
from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.aof_file import group
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.aof_files import (
    AOF_ON,
    cluster_62,
    cluster_91,
    files_of,
    load,
    read_values,
    redis_62,
    valkey_91,
    write_aof,
)
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, Twemproxy, wait_until

__all__ = ["redis_62", "valkey_91", "cluster_62", "cluster_91"]  # the fixtures, for pytest to find

HOUR = 3_600_000


def moments() -> tuple[int, int]:
    """A moment an hour ago and one in two hours, in ms."""
    now = int(time.time()) * 1000
    return now - HOUR + 123, now + 2 * HOUR + 456


def state(client: Any, keys: Sequence[bytes] | None = None) -> dict[bytes, tuple[Any, int]]:
    """Value and moment of expiry (ms, to a tenth of a second; -1: never) by key."""
    found = {}
    values = read_values(client) if keys is None else {key: client.get(key) for key in keys if client.exists(key)}
    for key, value in values.items():
        now, left = time.time() * 1000, client.pttl(key)
        found[key] = (value, -1 if left < 0 else round((now + left) / 200))
    return found


def assert_same(found: dict[bytes, tuple[Any, int]], wanted: dict[bytes, tuple[Any, int]]) -> None:
    assert {key: value for key, (value, _time) in found.items()} == {key: value for key, (value, _time) in wanted.items()}
    for key, (_value, moment) in wanted.items():
        assert abs(found[key][1] - moment) <= 1, (key, found[key], moment)


def loaded_by(name: str, paths: Sequence[Path]) -> Iterator[RedisServer]:
    """A server that has loaded these files itself."""
    server = RedisServer(name, config={"appendonly": "yes"})
    folder = server.folder / "appendonlydir" if len(paths) > 1 else server.folder
    folder.mkdir(exist_ok=True)
    for path in paths:
        shutil.copy(path, folder / ("appendonly.aof" if len(paths) == 1 else path.name))
    with server:
        yield server


def log_of_everything(path: Path, *more: str) -> Path:
    """What a server of the matrix may log about expiries, about moments that have passed by now."""
    past, future = moments()
    lines = (
        "SELECT 0",
        # prolonged, removed, left
        "SET prolonged 1", f"PEXPIREAT prolonged {past}", f"PEXPIREAT prolonged {future}", "INCR prolonged",
        "SET kept 1", f"PEXPIREAT kept {past}", "PERSIST kept", "INCR kept",
        "SET gone 1", f"PEXPIREAT gone {past}", "INCR gone",
        "HSET cart a 1", f"EXPIREAT cart {past // 1000}", "HSET cart b 2", f"EXPIREAT cart {future // 1000}",
        "RPUSH popped a b", f"PEXPIREAT popped {past}", "RPUSH popped c", "PERSIST popped",
        # written anew
        "SET anew 1", f"PEXPIREAT anew {past}", "SET anew 2",
        "SET twice 1", f"PEXPIREAT twice {future}", f"PEXPIREAT twice {past}",
        # carried to another name
        "SET a 1", f"PEXPIREAT a {past}", "RENAME a b", f"PEXPIREAT b {future}", "APPEND b x",
        "SET c 1", f"PEXPIREAT c {past}", "RENAME c d", "RENAME d gone:too",
        "SET e 1", f"PEXPIREAT e {past}", "RENAMENX e f", "PERSIST f",
        "SADD s 1 2", f"PEXPIREAT s {past}", "SUNIONSTORE t s", "SADD s 3", "SMOVE s t 3",
        # in a transaction, in another database
        "MULTI", "SET m 1", f"PEXPIREAT m {past}", "INCR m", f"PEXPIREAT m {future}", "EXEC",
        # never, by a moment far away, and before there was time
        "SET ever 1", "PEXPIREAT ever 253402300799000", "SET never 1", "PEXPIREAT never 1", "PERSIST never", "SET first 1", "PEXPIREAT first 1",
        *more,
    )  # fmt: skip
    return write_aof(path, *lines)


SINCE_62 = (
    "SET p 1 PXAT {past}", "INCR p", "GETEX p PXAT {future}",
    "SET q 1 EXAT {past_s}", "SET q 2 KEEPTTL", "GETEX q PERSIST",
    "SET r 1 PXAT {past}", "SET r 2 KEEPTTL",
    "SET u 1 PXAT {past}", "COPY u v", "PERSIST v", "COPY u w", "COPY u x", "PEXPIREAT x {future}",
)  # fmt: skip
SINCE_70 = (
    "SET g1 1 PXAT {past}", "PEXPIREAT g1 {future} GT", "INCR g1",
    "SET g2 1 PXAT {future}", "PEXPIREAT g2 {past} GT", "INCR g2",
    "SET g3 1 PXAT {future}", "PEXPIREAT g3 {past} LT", "INCR g3",
    "SET g4 1 PXAT {past}", "PEXPIREAT g4 {future} NX", "PEXPIREAT g4 {future} XX", "SET g5 1", "PEXPIREAT g5 {past} NX",
)  # fmt: skip
OTHER_DB = ("SET h 1 PXAT {past}", "MOVE h 3", "SET i 1 PXAT {past}", "COPY i j DB 3", "SELECT 3", "PERSIST h", "PERSIST j", "SELECT 0")
SINCE_91 = (
    "HSET hf a 1 b 2 c 3", "HPEXPIREAT hf {past} FIELDS 2 a b", "HINCRBY hf a 1", "HPEXPIREAT hf {future} FIELDS 1 a",
    "HSET hp a 1 b 2", "HPEXPIREAT hp {past} FIELDS 1 a", "HINCRBY hp a 1", "HPERSIST hp FIELDS 1 a",
    "HSETEX hx PXAT {past} FIELDS 1 a 1", "HSET hx b 1", "RENAME hx hy",
    "HSETEX hg PXAT {past} FIELDS 2 a 1 b 2", "HGETEX hg PXAT {future} FIELDS 1 a", "COPY hg hc",
    "HSET hz a 1", "HEXPIREAT hz {past_s} FIELDS 1 a",
)  # fmt: skip


def filled(*lines: str) -> list[str]:
    past, future = moments()
    return [line.format(past=past, future=future, past_s=past // 1000) for line in lines]


def server_of(name: str, request: pytest.FixtureRequest) -> RedisServer:
    found: RedisServer = request.getfixturevalue(name)
    found.flush()
    return found


# -- the log -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [2, 20_000])
@pytest.mark.parametrize(("name", "more"), [("redis_62", SINCE_62 + OTHER_DB), ("valkey_91", SINCE_62 + OTHER_DB + SINCE_70 + SINCE_91)])
def test_a_log(
    name: str, more: Sequence[str], held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(aof_expiry, "_HELD", held)
    target = server_of(name, request)
    path = log_of_everything(tmp_path / "a.aof", *filled(*more))
    for _run in range(2):
        load(path, target.address)
        for judge in loaded_by(target.name, [path]):
            for db in (0, 3):
                wanted = state(judge.client(db=db))
                assert wanted and b"gone" not in wanted
                assert_same(state(target.client(db=db)), wanted)
            if target.name == "valkey-9.1":
                assert fields_of(target) == fields_of(judge)


def fields_of(server: RedisServer) -> dict[str, list[Any]]:
    client = server.client()
    return {key: client.execute_command("HPEXPIRETIME", key, "FIELDS", 3, "a", "b", "c") for key in ("hf", "hp", "hy", "hg", "hc", "hz")}


@pytest.mark.parametrize(("name", "more"), [("cluster_62", SINCE_62), ("cluster_91", SINCE_62 + SINCE_70)])
def test_a_log_into_a_cluster(name: str, more: Sequence[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target: RedisCluster = request.getfixturevalue(name)
    target.flush()
    path = log_of_everything(tmp_path / "a.aof", *filled(*more))
    load(path, target.addresses[0])
    found: dict[bytes, tuple[Any, int]] = {}
    for client in target.clients():
        found.update(state(client))
    for judge in loaded_by(target.name, [path]):
        assert_same(found, state(judge.client()))


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["redis-2.8", "redis-3.2", "redis-5.0"])
def test_a_log_into_an_old_server(name: str, tmp_path: Path) -> None:
    path = log_of_everything(tmp_path / "a.aof")
    with RedisServer(name) as target:
        load(path, target.address)
        for judge in loaded_by(name, [path]):
            assert_same(state(target.client()), state(judge.client()))


@pytest.mark.matrix
def test_a_log_through_a_proxy(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    past, future = moments()
    path = write_aof(tmp_path / "a.aof", "SET a 1", f"PEXPIREAT a {past}", "INCR a", f"PEXPIREAT a {future}", "SET b 1", f"PEXPIREAT b {past}")
    with Twemproxy([redis_62]) as proxy:
        load(path, proxy.address, topology="proxy_cluster")
    client = redis_62.client()
    assert client.keys("*") == [b"a"] and client.get("a") == b"2" and abs(client.pttl("a") - 2 * HOUR) < 5000


def test_a_target_with_keys_of_its_own(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    client = redis_62.client()
    client.set("mine", "1")
    client.pexpireat("mine", moments()[1])
    client.set("other", "1")
    path = write_aof(tmp_path / "a.aof", *filled("SET mine 2 PXAT {past}", "SET other 3 PXAT {past}", "PERSIST other", "SET new 1 PXAT {future}"))
    load(path, redis_62.address, "skip")
    assert client.mget("mine", "other", "new") == [b"1", b"1", b"1"]
    assert [client.pttl(key) > 0 for key in ("mine", "other", "new")] == [True, False, True]
    assert client.pttl("new") < 3 * HOUR


def test_a_run_that_was_cut_off(tmp_path: Path, redis_62: RedisServer) -> None:
    """No key keeps an expiry that was put off, whether the run is done again or not."""
    redis_62.flush()
    client = redis_62.client()
    lines = filled("SET n 1 PXAT {past}", "INCR n", "SET near 1 PXAT {future}", "SET dead 1 PXAT {past}", "RPUSH l a", "INCR l")
    state_dir = tmp_path / "state"
    broken = write_aof(tmp_path / "a.aof", *lines)
    with pytest.raises(ServerError, match="INCR of key 'l'"):
        engine(redis_62, broken, state_dir)
    assert sorted(client.keys("*")) == [b"l", b"near"] and 0 < client.pttl("near") < 3 * HOUR
    write_aof(broken, *lines[:-1], *filled("PEXPIREAT n {future}"))
    result = engine(redis_62, broken, state_dir)
    assert result["stats"]["expired"] == 1
    assert sorted(client.keys("*")) == [b"l", b"n", b"near"]
    assert client.get("n") == b"2" and 0 < client.pttl("n") < 3 * HOUR
    assert engine(redis_62, broken, state_dir)["changed"] is False


def engine(target: RedisServer, path: Path, state_dir: Path, **options: Any) -> dict[str, Any]:
    endpoint = Endpoint.from_params({"addresses": [target.address]})
    importer = Importer(endpoint, Options(state_dir=str(state_dir), **options), lambda text: None)
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    return importer.run(open_files(list(map(str, paths))))


# -- the snapshot before it ----------------------------------------------------------------------------------------------------


def made(name: str, tmp_path: Path, fill: Callable[[redis.Redis], None], prolong: Callable[[redis.Redis], None]) -> list[Path]:
    """An AOF with a snapshot: of what ``fill`` does, with expiries in two seconds, before what ``prolong`` does; the expiries have passed."""
    with RedisServer(name, config={**AOF_ON, "aof-use-rdb-preamble": "yes"}) as source:
        client = source.client()
        # What expires would be deleted in the log, too; like this it looks as that of a server that ended before.
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        fill(client)
        client.set("gone", "1", px=2000)
        passed = time.time() + 2.1
        client.execute_command("BGREWRITEAOF")
        wait_until(lambda: not source.info("persistence")["aof_rewrite_in_progress"], "the AOF is rewritten")
        prolong(client)
        wait_until(lambda: time.time() > passed, "the expiries have passed")
        return files_of(source, tmp_path / "files")


def fill(client: redis.Redis) -> None:
    client.set("session", "v", px=2000)
    client.hset("cart", mapping={"a": "1", "b": "2"})
    client.pexpire("cart", 2000)
    client.set("counter", 41, px=2000)
    client.set("unharmed", 1, px=HOUR)
    client.rpush("big", *(b"%d" % n * 200_000 for n in range(10, 30)))
    client.pexpire("big", 2000)


def prolong(client: redis.Redis) -> None:
    client.pexpire("session", HOUR)
    client.hset("cart", "c", "3")
    client.pexpire("cart", HOUR)
    client.persist("counter")
    client.incr("counter")
    client.pexpire("big", HOUR)
    client.lpop("big")


@pytest.mark.parametrize("policy", ["replace", "skip", "fail"])
@pytest.mark.parametrize("name", ["redis_62", "valkey_91"])
def test_a_snapshot(name: str, policy: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target = server_of(name, request)
    paths = made(target.name, tmp_path, fill, prolong)
    result = engine(target, paths[0].parent, tmp_path / "state", on_conflict=policy)
    assert (result["stats"]["keys"], result["stats"]["expired"]) == (5, 1)
    for judge in loaded_by(target.name, paths):
        wanted = state(judge.client())
        assert set(wanted) == {b"session", b"cart", b"counter", b"unharmed", b"big"}
        assert_same(state(target.client()), wanted)
    assert engine(target, paths[0].parent, tmp_path / "state", on_conflict=policy)["changed"] is False


def test_fields_of_a_snapshot(tmp_path: Path, valkey_91: RedisServer) -> None:
    def fill_fields(client: redis.Redis) -> None:
        for key in ("hf", "hp", "hy", "hg", "hc", "hz"):
            client.hset(key, mapping={"a": "1", "b": "2", "c": "3"})
            client.execute_command("HPEXPIRE", key, 2000, "FIELDS", 2, "a", "b")
        client.execute_command("HPEXPIRE", "hz", 2000, "FIELDS", 1, "c")
        client.hset("big", mapping={b"%d" % n: b"x" * 1000 for n in range(6000)})
        client.execute_command("HPEXPIRE", "big", 2000, "FIELDS", 2, "1", "5999")

    def prolong_fields(client: redis.Redis) -> None:
        client.execute_command("HPEXPIRE", "hf", HOUR, "FIELDS", 1, "a")
        client.execute_command("HPERSIST", "hp", "FIELDS", 1, "b")
        client.hincrby("hg", "a", 1)
        client.hset("hc", "a", "new")
        client.execute_command("HPEXPIRE", "big", HOUR, "FIELDS", 1, "5999")

    paths = made("valkey-9.1", tmp_path, fill_fields, prolong_fields)
    (unit,) = group(open_files(map(str, paths)))
    valkey_91.flush()
    load(unit, valkey_91.address)
    for judge in loaded_by("valkey-9.1", paths):
        # A server that loads does not count fields as gone before it comes across them.
        wait_until(lambda: judge.client().hlen("big") == 5999 and not judge.client().exists("hz"), "fields expire")
        wait_until(lambda: judge.client().hlen("hp") == 2, "fields expire")
        assert read_values(valkey_91.client()) == read_values(judge.client())
        assert fields_of(valkey_91) == fields_of(judge)
        assert valkey_91.client().hlen("big") == 5999
