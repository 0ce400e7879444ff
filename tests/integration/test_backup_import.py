# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``backup_import`` as a user calls it, against real servers and a real bucket."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.tests.support.access import identify
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, functions, snapshot
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, S3Server, wait_until

Import = Callable[..., Dict[str, Any]]


@pytest.fixture
def run_import(tmp_path: Path) -> Import:
    """``run_import(target, file, **options)`` with a state_dir of its own; the module's result."""

    def run(target: Any, file: Path, *, check: bool = False, **options: Any) -> Dict[str, Any]:
        endpoint = {"addresses": getattr(target, "addresses", None) or [target.address], **options.pop("endpoint", {})}
        arguments = {"files": [str(file)], "target": endpoint, "state_dir": str(tmp_path / "state"), **options}
        return run_module("backup_import", arguments, check=check)

    return run


def every_type(server: RedisServer, **options: Any) -> Path:
    """Fill a server with every type it has, and save."""
    client = server.client()
    identity = identify(client)
    populate_every_type(client, identity.version, identity.product, **options)
    return server.save()


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_same_version_has_the_same_digest(name: str, shared_server: Any, run_import: Import) -> None:
    source, target = shared_server(name), shared_server(name, 1)
    file = every_type(source)

    predicted = run_import(target, file, check=True)
    assert predicted["changed"] and predicted["files"] == [{"path": str(file), "status": "would be imported"}]
    assert target.client().dbsize() == 0

    first = run_import(target, file)
    assert first["changed"] and not first.get("failed")
    assert target.digest() == source.digest()
    if name.startswith("valkey"):
        assert functions(target.client()) == functions(source.client()) != {}
    assert first["stats"]["keys"] == sum(first["stats"]["types"].values()) == len(snapshot(source.client()))

    again = run_import(target, file)
    assert not again["changed"] and again["stats"]["keys"] == 0
    assert again["files"] == [{"path": str(file), "status": "present"}]

    target.flush()
    assert run_import(target, file)["changed"]
    assert target.digest() == source.digest()


def test_older_source_into_a_newer_cluster(shared_server: Any, shared_cluster: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_cluster("valkey-9.1")
    file = every_type(source, databases=(0,))
    assert run_import(target, file)["changed"]
    assert_same_data(snapshot(source.client()), snapshot(target.client()))
    assert not run_import(target, file)["changed"]


def test_other_databases_need_a_map_into_a_cluster(shared_server: Any, shared_cluster: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_cluster("valkey-9.1")
    file = every_type(source, databases=(3,))
    refused = run_import(target, file)
    assert refused["failed"] and not refused["changed"]
    assert "database 3" in refused["msg"] and "db_map" in refused["remedy"]
    assert not snapshot(target.client())
    assert run_import(target, file, db_map={3: 0})["changed"]
    expected = {(0, key): entry for (_db, key), entry in snapshot(source.client()).items()}
    assert_same_data(expected, snapshot(target.client()))


def test_map_and_filters(shared_server: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    for db in (0, 1, 2):
        client = source.client(db=db)
        client.mset({"user:1": db, "user:2": db, "session:1": db, "us[er": db})
    result = run_import(
        target, source.save(), databases=[1, 2], db_map={1: 5}, include_keys=["user:*", "us\\[er"], exclude_keys=["*:2"]
    )
    assert result["stats"]["keys"] == 4
    found = {place: entry.value for place, entry in snapshot(target.client()).items()}
    assert found == {(5, b"user:1"): b"1", (5, b"us[er"): b"1", (2, b"user:1"): b"2", (2, b"us[er"): b"2"}


def test_conflicts(shared_server: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    file = every_type(source, databases=(0,))
    target.client().set("only:here", "1")
    key = next(key for (_db, key), entry in snapshot(source.client()).items() if entry.type == "list")
    target.client().set(key, "theirs")

    failed = run_import(target, file, on_conflict="fail")
    assert failed["failed"] and "exists already" in failed["msg"] and "on_conflict" in failed["remedy"]
    assert target.client().get(key) == b"theirs"

    skipped = run_import(target, file, on_conflict="skip")
    assert skipped["stats"]["skipped"] >= 1
    assert target.client().get(key) == b"theirs"

    replaced = run_import(target, file, on_conflict="replace")
    assert replaced["stats"]["skipped"] == 0
    assert target.client().get("only:here") == b"1"
    expected = snapshot(source.client())
    assert_same_data(expected, {place: entry for place, entry in snapshot(target.client()).items() if place in expected})

    # What is there with the same value is no conflict: an interrupted run can be completed.
    assert not run_import(target, file, on_conflict="fail", force=True).get("failed")


def test_clear_target(shared_server: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    file = every_type(source)
    target.client(db=7).set("old", "1")
    assert run_import(target, file, clear_target=True)["changed"]
    assert target.digest() == source.digest()
    assert not run_import(target, file, clear_target=True)["changed"]


def test_expired_keys_are_counted(shared_server: Any, run_import: Import, tmp_path: Path) -> None:
    target = shared_server("redis-6.2")
    writer = RdbWriter(9)
    now = int(time.time() * 1000)
    parts = [writer.header(), writer.entry(0, 0, b"dead", write_string(b"1"), now - 1000)]
    parts += [writer.entry(0, 0, b"alive", write_string(b"1"), now + 3_600_000), writer.trailer()]
    file = tmp_path / "expiring.rdb"
    file.write_bytes(b"".join(parts))
    stats = run_import(target, file)["stats"]
    assert (stats["keys"], stats["expired"]) == (1, 1)
    assert target.client().keys() == [b"alive"]
    assert int(target.execute("PTTL", "alive")) + int(time.time() * 1000) == pytest.approx(now + 3_600_000, abs=50)


def test_idle_time_and_frequency_are_carried(server: Any, run_import: Import) -> None:
    source = server("redis-6.2", config={"maxmemory-policy": "allkeys-lfu"})
    target = server("redis-6.2", config={"maxmemory-policy": "allkeys-lfu"})
    client = source.client()
    client.set("often", "not a shared object")
    for _unused in range(3000):
        client.get("often")
    client.set("once", "nor this one")
    run_import(target, source.save())
    assert target.client().object("freq", "often") == pytest.approx(client.object("freq", "often"), abs=1)
    assert target.client().object("freq", "often") > target.client().object("freq", "once")


def big_values(client: Any) -> None:
    """One value of each type beyond the size that is split, with an expiry, groups, pending entries."""
    rng = random.Random(7)
    pipeline = client.pipeline(transaction=False)
    for start in range(0, 240_000, 500):
        numbers = range(start, start + 500)
        pipeline.hset("big:hash", mapping={b"field:%d" % number: rng.randbytes(40) for number in numbers})
        pipeline.rpush("big:list", *[rng.randbytes(45) for _unused in numbers])
        pipeline.sadd("big:set", *[b"%d:%b" % (number, rng.randbytes(40)) for number in numbers])
        pipeline.zadd("big:zset", {b"%d:%b" % (number, rng.randbytes(30)): rng.random() * 1e9 for number in numbers})
        pipeline.execute()
    for number in range(90_000):
        pipeline.xadd("big:stream", {b"a": rng.randbytes(80), b"n": number}, id="%d-%d" % (1000 + number // 3, number % 3 + 1))
        if number % 1000 == 999:
            pipeline.execute()
    client.xgroup_create("big:stream", "readers", "0")
    client.xreadgroup("readers", "one", {"big:stream": ">"}, count=50)
    client.xgroup_create("big:stream", "others", "$")
    client.xdel("big:stream", "2000-1")
    client.set("big:string", rng.randbytes(20 << 20))
    client.set("big:compressed", b"abc" * (10 << 20))
    for key in ("big:hash", "big:string"):
        client.pexpire(key, 3_600_000)
    client.set("small", "1")


def test_big_values_are_split(shared_server: Any, shared_cluster: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    big_values(source.client())
    file = source.save()
    result = run_import(target, file)
    assert result["stats"]["keys"] == 8
    assert target.digest() == source.digest()
    assert_same_data(snapshot(source.client()), snapshot(target.client()))
    cluster = shared_cluster("valkey-9.1")
    assert run_import(cluster, file)["stats"]["keys"] == 8
    assert_same_data(snapshot(source.client()), snapshot(cluster.client()))


def test_from_a_bucket(shared_server: Any, shared_cluster: Any, s3: S3Server, tmp_path: Path) -> None:
    source, target = shared_server("redis-6.2"), shared_cluster("valkey-9.1")
    file = every_type(source, databases=(0,))
    s3.client().create_bucket(Bucket="backups")
    access = {
        "bucket": "backups",
        "prefix": "orders/",
        "endpoint_url": s3.endpoint_url,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
    }
    sent = run_module("bucket_upload", {"files": [str(file)], **access})
    keys = [item["key"] for item in sent["objects"]]
    arguments = {"objects": keys, "target": {"addresses": target.addresses}, "state_dir": str(tmp_path / "state"), **access}
    first = run_module("backup_import", arguments)
    assert first["changed"], first
    assert_same_data(snapshot(source.client()), snapshot(target.client()))
    assert not run_module("backup_import", arguments)["changed"]
    missing = run_module("backup_import", {**arguments, "bucket": "nowhere"})
    assert missing["failed"] and "nowhere" in missing["msg"] and missing["remedy"]


def damaged(kind: str, good: bytes) -> Tuple[bytes, str]:
    """A file made bad in one way, and a word its error must have."""
    head = b"REDIS0009\xfe\x00"
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    return {
        "truncated": (good[: len(good) // 2], "truncated"),
        "flipped": (bytes(flipped), "damaged"),
        "checksum": (good[:-1] + bytes([good[-1] ^ 1]), "checksum"),
        "length": (head + b"\x00\x01k\x81\x40" + bytes(7) + b"x" * 50, "4611686018427387904"),
        "count": (head + b"\x04\x01k\x81\x40" + bytes(7) + b"\x01x" * 50, "4611686018427387904"),
        "type": (head + b"\x63\x01k\x01x\xff" + bytes(8), "unknown type 99"),
        "newer": (b"REDIS0014\xfe\x00\x1c\x01k\x01x\xff" + bytes(8), "Redis 8.8"),
        "version": (b"REDIS0999\xff" + bytes(8), "999"),
        "text": (b"hello\n" * 100, "text"),
        "empty": (b"", "empty"),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["truncated", "flipped", "checksum", "length", "count", "type", "newer", "version", "text", "empty"]
)
def test_bad_files_are_named(kind: str, shared_server: Any, run_import: Import, tmp_path: Path) -> None:
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    rng = random.Random(3)
    source.client().mset({b"k%d" % number: rng.randbytes(50) for number in range(500)})
    content, word = damaged(kind, source.save().read_bytes())
    file = tmp_path / "bad.rdb"
    file.write_bytes(content)
    result = run_import(target, file)
    assert result["failed"]
    assert str(file) in result["msg"] and word in result["msg"] and result["remedy"]
    assert "Traceback" not in result["_output"]
    if "stats" in result:
        assert result["stats"]["keys"] == target.client().dbsize()


def test_wrong_password(server: Any, run_import: Import) -> None:
    source, target = server("redis-6.2"), server("redis-6.2", password="right-one")
    source.client().set("k", "v")
    result = run_import(target, source.save(), endpoint={"password": "wrong-one"})
    assert result["failed"] and target.address in result["msg"] and "password" in result["msg"]
    assert "wrong-one" not in result["_output"]


def many_keys(path: Path, count: int = 400_000) -> Path:
    """An RDB file of ``count`` incompressible strings of 200 bytes."""
    rng = random.Random(11)
    writer = RdbWriter(9)
    with path.open("wb") as handle:
        handle.write(writer.header())
        for number in range(count):
            handle.write(writer.entry(0, 0, b"key:%d" % number, write_string(rng.randbytes(200))))
        handle.write(writer.trailer())
    return path


def test_a_full_target_can_be_enlarged_and_completed(server: Any, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb", 100_000)
    target = server("redis-6.2", config={"maxmemory": "20mb", "maxmemory-policy": "noeviction"})
    result = run_import(target, file)
    assert result["failed"] and "maxmemory" in result["msg"] and target.address in result["msg"] and "key:" in result["msg"]
    assert 0 < result["stats"]["keys"] == target.client().dbsize()
    target.execute("CONFIG", "SET", "maxmemory", "0")
    assert run_import(target, file)["changed"]
    assert target.client().dbsize() == 100_000


def test_a_target_that_takes_no_writes(server: Any, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb", 1000)
    target = server("redis-6.2", config={"min-replicas-to-write": 1})
    result = run_import(target, file)
    assert result["failed"] and target.address in result["msg"] and result["remedy"]
    assert result["stats"]["keys"] == 0


def test_a_target_killed_half_way(server: Any, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb")
    target = server("redis-6.2")
    client = target.client()

    def kill() -> None:
        wait_until(lambda: client.dbsize() > 20_000, "keys arrive", seconds=60)
        target.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    result = run_import(target, file)
    killer.join()
    assert result["failed"] and target.address in result["msg"] and "run again" in result["remedy"].lower()
    assert 0 < result["stats"]["keys"] < 400_000
    assert result["files"][0]["status"] == "incomplete"
    assert "Traceback" not in result["_output"]
    target.revive()
    assert run_import(target, file)["stats"]["keys"] == 400_000
    assert target.client().dbsize() == 400_000


def test_a_cut_connection_is_taken_up_again(server: Any, tcp_proxy: Any, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb", 100_000)
    target = server("redis-6.2")
    proxy = tcp_proxy(target.address)
    proxy.cut_after(5_000_000, "up")
    result = run_import(proxy, file)
    assert not result.get("failed"), result
    assert result["stats"]["reconnects"] == 1
    assert result["stats"]["keys"] == 100_000 == target.client().dbsize()


def test_a_slot_that_moves_meanwhile(cluster: Any, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb", 200_000)
    target = cluster("redis-6.2")
    node = target.owner(100)
    other = next(master for master in target.masters if master is not node)

    def move() -> None:
        wait_until(lambda: other.client().dbsize() > 1000, "keys arrive", seconds=60)
        for slot in range(100, 140):
            target.move_slot(slot, other)

    mover = threading.Thread(target=move)
    mover.start()
    result = run_import(target, file)
    mover.join()
    assert not result.get("failed"), result
    assert sum(client.dbsize() for client in target.clients()) == 200_000


def test_a_second_import_at_once_says_so(server: Any, run_import: Import, tmp_path: Path) -> None:
    file = many_keys(tmp_path / "many.rdb")
    target = server("redis-6.2")
    results = []
    first = threading.Thread(target=lambda: results.append(run_import(target, file)))
    first.start()
    wait_until(lambda: target.client().dbsize() > 0, "the first import writes", seconds=60)
    target.execute("CLIENT", "PAUSE", "60000", "WRITE")
    second = run_import(target, file)
    target.execute("CLIENT", "UNPAUSE")
    first.join()
    assert second["failed"] and "another import" in second["msg"]
    assert not results[0].get("failed")
