# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AOF files that real servers wrote, replayed into real targets; DEBUG DIGEST on both sides is the judge."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._codec.slots import key_slot
from ansible_collections.dcs.migration.plugins.module_utils._errors import (
    FileError,
    LostError,
    MigrationError,
    ServerError,
    UnsupportedTypeError,
    UsageError,
)
from ansible_collections.dcs.migration.plugins.module_utils._import.replay import AofImport, check, replay
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._server.probe import probe
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX
from ansible_collections.dcs.migration.plugins.module_utils._sink.target import Target
from ansible_collections.dcs.migration.plugins.module_utils._source.aof_file import (
    AOF,
    MULTI_PART,
    RDB,
    AofStream,
    group,
)
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.aof_files import (
    AOF_ON,
    Source,
    busy,
    cluster_values,
    files_of,
    load,
    read_values,
    values_of,
    write_aof,
    plain,
    preamble,
    multi_part,
    redis_62,
    valkey_91,
    cluster_62,
    cluster_91,
)
from ansible_collections.dcs.migration.tests.support.aof_workload import Workload
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, Twemproxy

__all__ = ["plain", "preamble", "multi_part", "redis_62", "valkey_91", "cluster_62", "cluster_91"]  # the fixtures, for pytest to find

# -- a single target -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "preamble"])
def test_single(name: str, request: pytest.FixtureRequest, redis_62: RedisServer) -> None:
    source: Source = request.getfixturevalue(name)
    assert len(source.used) >= 60, sorted(source.used)
    redis_62.flush()
    done, _target = load(source.unit, redis_62.address)
    assert redis_62.digest() == source.digest
    assert done.commands > 500 and not done.transplanted
    # Once more: what increments and appends must start from nothing.
    load(source.unit, redis_62.address)
    assert redis_62.digest() == source.digest


def test_multi_part_single(multi_part: Source, valkey_91: RedisServer) -> None:
    assert multi_part.unit.kind == MULTI_PART and len(multi_part.unit.parts) == 2
    valkey_91.flush()
    for _run in range(2):
        load(multi_part.unit, valkey_91.address)
        assert valkey_91.digest() == multi_part.digest


def test_an_older_file_into_a_newer_server(plain: Source, valkey_91: RedisServer) -> None:
    valkey_91.flush()
    load(plain.unit, valkey_91.address)
    assert set(values_of([valkey_91.client()])) == set(plain.values)


def test_keys_only_in_the_target_stay(preamble: Source, redis_62: RedisServer) -> None:
    redis_62.flush()
    client = redis_62.client()
    client.set("mine", "stays")
    for key in list(preamble.values)[::3]:
        client.set(key, "in the way")
    client.delete("n:0")
    client.rpush("n:0", "of another type")
    load(preamble.unit, redis_62.address)
    found = values_of([client])
    assert client.get("mine") == b"stays"
    del found[b"mine"]
    assert found == preamble.values


# -- a cluster ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "preamble"])
def test_cluster(name: str, request: pytest.FixtureRequest, cluster_62: RedisCluster) -> None:
    source: Source = request.getfixturevalue(name)
    cluster_62.flush()
    for _run in range(2):
        done, _target = load(source.unit, cluster_62.addresses[0])
        assert cluster_values(cluster_62) == source.values
        assert done.transplanted > 50


def test_multi_part_cluster(multi_part: Source, cluster_91: RedisCluster) -> None:
    cluster_91.flush()
    for _run in range(2):
        load(multi_part.unit, cluster_91.addresses[0])
        assert cluster_values(cluster_91) == multi_part.values


def test_expiries_survive_a_transplant(tmp_path: Path, cluster_62: RedisCluster) -> None:
    cluster_62.flush()
    path = write_aof(
        tmp_path / "a.aof", "SELECT 0", "SET a 1", "PEXPIREAT a 4102444800123", "RENAME a b", "SET c 1", "SUNIONSTORE t u v", "RENAMENX c b"
    )
    load(path, cluster_62.addresses[0])
    client = cluster_62.client()
    try:
        assert sorted(cluster_values(cluster_62)) == [b"b", b"c"]
        remaining = client.pttl("b")
    finally:
        client.close()
    assert 0 < remaining


def test_slots_that_move_meanwhile(tmp_path: Path, cluster_62: RedisCluster) -> None:
    cluster_62.flush()
    lines = ["INCR k%d" % (number % 50) for number in range(5000)]
    path = write_aof(tmp_path / "a.aof", *lines)
    slot = int(cluster_62.nodes[0].execute("CLUSTER", "KEYSLOT", "k7"))
    owner = cluster_62.owner(slot)
    other = next(node for node in cluster_62.masters if node is not owner)
    endpoint = Endpoint.from_params({"addresses": [cluster_62.addresses[0]]})
    target = Target(endpoint, probe(endpoint), "replace", str(path))
    try:
        (unit,) = group(open_files([str(path)]))
        aof = AofImport(unit, target, lambda db: db)
        aof.check()
        aof.prepare()
        # Behind the target's back: the map it made is wrong for this slot now.
        cluster_62.move_slot(slot, other)
        list(aof.events())
        aof.run()
        assert target.redirects
    finally:
        target.close()
        cluster_62.move_slot(slot, owner)
    client = cluster_62.client()
    try:
        assert [client.get("k%d" % number) for number in range(50)] == [b"100"] * 50
    finally:
        client.close()


def test_a_slot_in_migration(tmp_path: Path, cluster_62: RedisCluster) -> None:
    cluster_62.flush()
    slot = int(cluster_62.nodes[0].execute("CLUSTER", "KEYSLOT", "{t}1"))
    lines = ["SET {t}1 a", "SET {t}2 b", "APPEND {t}1 c", "RENAME {t}1 {t}3", "APPEND {t}3 d", "INCR x"] + ["RPUSH {t}4 %d" % n for n in range(50)]
    path = write_aof(tmp_path / "a.aof", *lines)
    owner = cluster_62.owner(slot)
    other = next(node for node in cluster_62.masters if node is not owner)
    cluster_62.begin_move(slot, other)
    try:
        load(path, cluster_62.addresses[0])
    finally:
        cluster_62.move_slot(slot, other)
    client = cluster_62.client()
    try:
        assert (client.get("{t}3"), client.get("{t}2"), client.get("x")) == (b"acd", b"b", b"1")
        assert client.lrange("{t}4", 0, -1) == [b"%d" % n for n in range(50)]
    finally:
        client.close()
        cluster_62.move_slot(slot, owner)


def test_a_script_that_stores_the_names_of_its_keys(tmp_path: Path, cluster_62: RedisCluster) -> None:
    cluster_62.flush()
    script = b"redis.call('SADD', KEYS[1], KEYS[2]); return redis.call('SET', KEYS[2], 'x')"
    path = write_aof(tmp_path / "a.aof", command("EVAL", script, 2, "index", "item:1"))
    assert key_slot(b"index") != key_slot(b"item:1")
    with pytest.raises(MigrationError, match="names of its keys as data"):
        load(path, cluster_62.addresses[0])
    assert not [key for key in values_of(cluster_62.clients()) if key.startswith(RESERVED_PREFIX)]


def test_other_databases_need_a_map(tmp_path: Path, cluster_62: RedisCluster) -> None:
    cluster_62.flush()
    path = write_aof(tmp_path / "a.aof", "SELECT 3", "SET a 1")
    with pytest.raises(UsageError, match="db_map"):
        load(path, cluster_62.addresses[0])
    assert not cluster_values(cluster_62)
    load(path, cluster_62.addresses[0], db_of=lambda db: 0)
    assert list(cluster_values(cluster_62)) == [b"a"]


# -- a proxy -----------------------------------------------------------------------------------------------------------------


@pytest.mark.matrix
def test_proxy(tmp_path: Path, redis_62: RedisServer, valkey_91: RedisServer) -> None:
    redis_62.flush()
    lines = ["SELECT 0", "SET a 1", "INCR a", "MULTI", "RPUSH l 1 2", "INCR a", "EXEC", "MSET b 1 c 2 d 3", "DEL b c", "PING"]
    path = write_aof(tmp_path / "a.aof", *lines)
    with RedisServer("redis-6.2") as second, Twemproxy([redis_62, second]) as proxy:
        for _run in range(2):
            load(path, proxy.address, topology="proxy_cluster")
            found = {key: 1 for server in (redis_62, second) for key in server.client().keys("*")}
            assert sorted(found) == [b"a", b"d", b"l"]
            values = [server.client().get("a") for server in (redis_62, second)]
            assert b"3" in values


# -- what goes wrong ---------------------------------------------------------------------------------------------------------


def test_truncated(tmp_path: Path, plain: Source, redis_62: RedisServer) -> None:
    redis_62.flush()
    data = plain.paths[0].read_bytes()
    path = tmp_path / "cut.aof"
    path.write_bytes(data[:-3])
    with pytest.raises(FileError, match=r"at byte \d+: truncated"):
        load(path, redis_62.address)
    path.write_bytes(data + command("MULTI") + command("SET", "a", 1))
    with pytest.raises(FileError, match=r"at byte %d: truncated: the file ends before the EXEC" % len(data)):
        load(path, redis_62.address)
    path.write_bytes(data + b"garbage")
    with pytest.raises(FileError, match=r"at byte %d: damaged" % len(data)):
        load(path, redis_62.address)
    assert not redis_62.client().keys("*")


def test_a_refused_command_is_named(tmp_path: Path, redis_62: RedisServer, cluster_62: RedisCluster) -> None:
    path = write_aof(tmp_path / "a.aof", "SET a x", "INCR a", "SET b 1")
    for address, server in ((redis_62.address, redis_62), (cluster_62.addresses[0], cluster_62)):
        server.flush()
        with pytest.raises(ServerError, match=r"a.aof at byte 27.*INCR of key 'a'.*not an integer"):
            load(path, address)
    path = write_aof(tmp_path / "b.aof", "SET a x", "MULTI", "INCR a", "EXEC")
    with pytest.raises(ServerError, match=r"b.aof at byte .*not an integer"):
        load(path, redis_62.address)
    path = write_aof(tmp_path / "select.aof", "SET a x", "INCR a", "SELECT 1", "SET b 1")
    with pytest.raises(ServerError, match=r"select.aof at byte 27.*INCR of key 'a'.*not an integer"):
        load(path, redis_62.address)
    path = write_aof(tmp_path / "c.aof", "SET a x", "RENAME c d")
    with pytest.raises(ServerError, match=r"c.aof at byte .*RENAME of .*no such key"):
        load(path, cluster_62.addresses[0])


def test_commands_that_the_target_lacks(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    path = write_aof(tmp_path / "a.aof", "SET a 1", "HSETEX h FIELDS 1 f v")
    with pytest.raises(UnsupportedTypeError, match=r"does not offer the command HSETEX"):
        load(path, redis_62.address)
    path = write_aof(tmp_path / "b.aof", "SET a 1", "JSON.SET h $ 1")
    with pytest.raises(UnsupportedTypeError, match=r"JSON.SET is not known"):
        load(path, redis_62.address)
    assert not redis_62.client().keys("*")
    # Nothing is left of it, so it does not matter.
    load(write_aof(tmp_path / "c.aof", "JSON.SET h $ 1", "FLUSHALL", "SET a 1"), redis_62.address)
    assert redis_62.client().keys("*") == [b"a"]


def test_an_older_target_gets_the_words_it_knows(tmp_path: Path, valkey_91: RedisServer, redis_62: RedisServer) -> None:
    redis_62.flush()
    client = valkey_91.client()
    client.flushall()
    client.hset("h", mapping={str(number): "v" for number in range(300)})
    payload = client.dump("h")
    path = write_aof(tmp_path / "a.aof", command("RESTORE", "h", 0, payload, "ABSTTL"), "HSET h a b")
    load(path, redis_62.address)
    assert redis_62.client().hlen("h") == 301


@pytest.mark.matrix
def test_a_much_older_target(tmp_path: Path) -> None:
    lines = ("SET a 1 PXAT 4102444800123", "SET b 1", "UNLINK b c", "SET c 1 EXAT 4102444800", "FLUSHDB ASYNC", "SET a 1 PXAT 4102444800123")
    path = write_aof(tmp_path / "a.aof", *lines)
    with RedisServer("redis-3.2") as server:
        load(path, server.address)
        assert server.client().keys("*") == [b"a"] and server.client().pttl("a") > 0
        with pytest.raises(UnsupportedTypeError, match="XADD"):
            load(write_aof(tmp_path / "b.aof", "SET x 1", "XADD s 1-1 f v"), server.address)
        assert server.client().keys("*") == [b"a"]
    with RedisServer("redis-5.0") as server:
        path = write_aof(tmp_path / "c.aof", "XADD s 1-1 f v", "XGROUP CREATE s g 0 ENTRIESREAD 1", "XSETID s 2-1 ENTRIESADDED 1 MAXDELETEDID 0-0")
        load(path, server.address)
        assert b"2-1" in server.client().execute_command(b"XINFO", b"STREAM", b"s")


def test_a_connection_that_is_cut(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    path = write_aof(tmp_path / "a.aof", *["INCR n%d" % (number % 10) for number in range(20_000)])
    (unit,) = group(open_files([str(path)]))
    endpoint = Endpoint.from_params({"addresses": [redis_62.address]})
    target = Target(endpoint, probe(endpoint), "replace", unit.name)

    def cut(commands: Iterator[Any]) -> Iterator[Any]:
        for number, item in enumerate(commands):
            if number == 15_000:
                redis_62.execute("CLIENT", "KILL", "TYPE", "normal")
            yield item

    stream = AofStream(unit)
    try:
        plan = check(AofStream(unit).commands(), target, lambda db: db)
        assert list(plan.used) == [0]
        with pytest.raises(LostError):
            replay(cut(stream.commands()), target, plan)
    finally:
        stream.close()
        target.close()
    load(path, redis_62.address)
    assert redis_62.client().mget(*["n%d" % number for number in range(10)]) == [b"2000"] * 10


def test_a_sample_of_what_is_there(tmp_path: Path, redis_62: RedisServer) -> None:
    redis_62.flush()
    lines = ["SET k%d v" % number for number in range(3000)] + ["DEL k0", "PEXPIREAT k1 4102444800123"]
    done, _target = load(write_aof(tmp_path / "a.aof", *lines), redis_62.address)
    assert 200 < len(done.sample) <= 512
    assert all(redis_62.client().exists(key) for _db, key, _expire in done.sample)
    done, _target = load(write_aof(tmp_path / "b.aof", "SET a 1", "SET b 1 PXAT 4102444800123", "DEL a"), redis_62.address)
    ((db, key, expire),) = done.sample
    assert (db, key) == (0, b"b") and abs((expire or 0) - 4102444800123) < 1000


# -- files -------------------------------------------------------------------------------------------------------------------


def test_an_empty_increment_is_no_data(tmp_path: Path, redis_62: RedisServer) -> None:
    (tmp_path / "a.aof.1.incr.aof").touch()
    (tmp_path / "a.aof.manifest").write_bytes(b"file a.aof.1.incr.aof seq 1 type i\n")
    (unit,) = group(open_files(map(str, tmp_path.iterdir())))
    redis_62.flush()
    assert load(unit, redis_62.address)[0].total == 0
    assert unit.kind == MULTI_PART


def test_parts_that_are_missing_or_alone(tmp_path: Path, multi_part: Source) -> None:
    manifest = next(path for path in multi_part.paths if path.suffix == ".manifest")
    increment = next(path for path in multi_part.paths if ".incr." in path.name)
    with pytest.raises(FileError, match=r"base.rdb.*is listed in"):
        group(open_files([str(manifest), str(increment)]))
    with pytest.raises(FileError, match="one part of an AOF"):
        group(open_files([str(increment)]))
    stray = Path(shutil.copy(increment, increment.with_name("appendonly.aof.1.incr.aof.bak")))
    history = Path(shutil.copy(increment, increment.with_name("appendonly.aof.999.incr.aof")))
    units = group(open_files(map(str, [*multi_part.paths, history])))
    assert len(units) == 1 and units[0].ignored == (str(history),)
    stray.unlink()
    history.unlink()


def test_kinds_by_content(tmp_path: Path, plain: Source, preamble: Source, redis_62: RedisServer) -> None:
    redis_62.flush()
    redis_62.client().set("a", "1")
    dump = shutil.copy(redis_62.save(), tmp_path / "looks-like.aof")
    assert [unit.kind for unit in group(open_files([dump, str(plain.paths[0]), str(preamble.paths[0])]))] == [RDB, AOF, AOF]
    (tmp_path / "x.rdb").write_bytes(b"<html>")
    with pytest.raises(FileError, match="not an RDB or AOF"):
        group(open_files([str(tmp_path / "x.rdb")]))


def test_an_archive(tmp_path: Path, multi_part: Source, valkey_91: RedisServer) -> None:
    for kind in ("zip", "gztar"):
        path = shutil.make_archive(str(tmp_path / "backup"), kind, multi_part.paths[0].parent)
        (unit,) = group(open_files([path]))
        valkey_91.flush()
        load(unit, valkey_91.address)
        assert valkey_91.digest() == multi_part.digest


# -- other versions ----------------------------------------------------------------------------------------------------------


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["redis-2.8", "redis-3.2", "redis-5.0", "redis-7.0", "redis-8.0", "valkey-8.0"])
def test_files_of_other_versions(name: str, tmp_path: Path, redis_62: RedisServer, valkey_91: RedisServer) -> None:
    workload = Workload(7)
    with RedisServer(name, config=AOF_ON) as server:
        busy(server, workload, rewrite=True)
        keys = {key: server.client().type(key) for key in server.client().keys("*")}
        source_values = read_values(server.client())
        paths = files_of(server, tmp_path)
    (unit,) = group(open_files(map(str, paths)))
    target = valkey_91 if name >= "redis-7" or name.startswith("valkey") else redis_62
    target.flush()
    load(unit, target.address)
    assert read_values(target.client()) == source_values
    assert keys
