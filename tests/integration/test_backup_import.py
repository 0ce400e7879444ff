# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``backup_import`` as a user calls it, against real servers and a real bucket."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any, Tuple

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError
from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.access import identify
from ansible_collections.dcs.migration.tests.support.aof_files import write_aof
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.importing import Import, many_keys, run_import
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, functions, snapshot
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, S3Server, wait_until

__all__ = ["run_import"]  # the fixture, for pytest to find


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


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_clear_target(name: str, shared_server: Any, run_import: Import) -> None:
    source, target = shared_server(name), shared_server(name, 1)
    file = every_type(source)
    target.client(db=7).set("old", "1")
    if name.startswith("valkey"):
        target.client().function_load("#!lua name=old\nredis.register_function('old', function() return 1 end)")
    before = target.info("memory")["lazyfreed_objects"]
    assert run_import(target, file, clear_target=True)["changed"]
    assert target.digest() == source.digest()
    if name.startswith("valkey"):
        assert functions(target.client()) == functions(source.client()) != {}
    # In the background: a large target would answer nothing for minutes.
    wait_until(lambda: target.info("memory")["lazyfreed_objects"] > before, "the old keys are freed")
    assert not run_import(target, file, clear_target=True)["changed"]


def test_nothing_is_cleared_for_a_damaged_file(shared_server: Any, tmp_path: Path) -> None:
    target = shared_server("redis-6.2", 1)
    target.client().set("old", "1")
    data = many_keys(tmp_path / "many.rdb", 2000).read_bytes()
    for content in (data[:-20], data[:-1] + bytes((data[-1] ^ 1,))):
        (tmp_path / "bad.rdb").write_bytes(content)
        with pytest.raises(FileError):
            engine(target, tmp_path / "bad.rdb", tmp_path / "state", clear_target=True)
        assert target.client().keys("*") == [b"old"]


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
    words = [b"%x" % rng.getrandbits(28) for _unused in range(3000)]
    client.set("big:text", b" ".join(rng.choices(words, k=900_000)))
    for key in ("big:hash", "big:string"):
        client.pexpire(key, 3_600_000)
    client.set("small", "1")


def test_big_values_are_split(shared_server: Any, shared_cluster: Any, run_import: Import) -> None:
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    big_values(source.client())
    file = source.save()
    result = run_import(target, file)
    assert result["stats"]["keys"] == 9
    assert target.digest() == source.digest()
    assert_same_data(snapshot(source.client()), snapshot(target.client()))
    cluster = shared_cluster("valkey-9.1")
    assert run_import(cluster, file)["stats"]["keys"] == 9
    assert_same_data(snapshot(source.client()), snapshot(cluster.client()))


def engine(target: RedisServer, file: Path, state_dir: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    """As the module does it, in this process; MigrationError."""
    importer = Importer(Endpoint.from_params({"addresses": [target.address]}), Options(state_dir=str(state_dir), **options), lambda text: None)
    return importer.run(open_files([str(file)]), check)


@pytest.mark.parametrize("check", [True, False])
def test_a_state_dir_that_is_none(check: bool, shared_server: Any, tmp_path: Path) -> None:
    target = shared_server("redis-6.2", 1)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileError, match="Set state_dir to a folder") as caught:
        engine(target, write_aof(tmp_path / "a.aof", "SET k v"), tmp_path / "file", check)
    assert str(tmp_path / "file") in str(caught.value)
    assert target.client().dbsize() == 0


def test_what_an_aof_is_counted_by(shared_server: Any, tmp_path: Path) -> None:
    target = shared_server("redis-6.2", 1)
    result = engine(target, write_aof(tmp_path / "a.aof", "SET k v", "INCR n", "INCR n"), tmp_path / "state")
    assert (result["stats"]["keys"], result["stats"]["commands"]) == (0, 3)
    assert (result["files"][0]["keys"], result["files"][0]["commands"]) == (0, 3)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("nothing", {}),
        ("nothing", {"clear_target": True}),
        ("k", {}),
        ("k", {"exclude_keys": ["k*"]}),
        ("k", {"databases": [1]}),
        ("expired", {}),
        ("aof", {}),
        ("aof", {"exclude_keys": ["k*"]}),
        ("empty aof", {}),
    ],
)
def test_check_mode_predicts_a_change(content: str, options: dict[str, Any], shared_server: Any, tmp_path: Path) -> None:
    target = shared_server("redis-6.2", 1)
    file = tmp_path / "file"
    if "aof" in content:
        write_aof(file, "SELECT 0", *(["SET k v"] if content == "aof" else []))
    else:
        writer = RdbWriter(9)
        data = writer.header()
        if content != "nothing":
            data += writer.entry(0, 0, content.encode(), write_string(b"v"), 1 if content == "expired" else None)
        file.write_bytes(data + writer.trailer())
    predicted = engine(target, file, tmp_path / "state", True, **options)
    assert engine(target, file, tmp_path / "state", **options)["changed"] == predicted["changed"]


@pytest.mark.parametrize("content", ["[[0", "7", "[0]", "[[0, 1]]"])
@pytest.mark.parametrize("name", ["unfinished.json", "unfinished.json.log"])
def test_a_damaged_journal(name: str, content: str, shared_server: Any, tmp_path: Path) -> None:
    target, state = shared_server("redis-6.2", 1), tmp_path / "state"
    file = write_aof(tmp_path / "a.aof", "SET k v")
    assert engine(target, file, state, on_conflict="skip")["changed"]
    (folder,) = (state / "imports").iterdir()
    if name.endswith(".log"):
        content = json.dumps(str(file)) + "\n" + content + "\n"
    (folder / name).write_text(content)
    with pytest.raises(FileError, match="%s: cannot be read.*Remove it" % name):
        engine(target, file, state, on_conflict="skip", force=True)
    (folder / name).unlink()
    engine(target, file, state, on_conflict="skip", force=True)


@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_pending_entries_of_deleted_messages(name: str, shared_server: Any, run_import: Import) -> None:
    """A stream goes whole up to 16 MiB; a larger one in commands, and no command makes such an entry."""
    source, target = shared_server(name), shared_server(name, 1)
    client = source.client()
    rng = random.Random(3)
    for key, count in (("whole", 6), ("parts", 22)):
        for number in range(50):
            client.xadd(key, {"a": "x"}, id="%d-1" % (number + 1))
        pipeline = client.pipeline(transaction=False)
        for number in range(count):
            pipeline.xadd(key, {"a": rng.randbytes(1 << 20)}, id="%d-1" % (100 + number))
        pipeline.execute()
        client.xgroup_create(key, "readers", "0")
        client.xreadgroup("readers", "one", {key: ">"}, count=40)
        client.xdel(key, *("%d-1" % number for number in range(5, 12)))
        client.xtrim(key, minid="3-1", approximate=False)
    result = run_import(target, source.save())
    other = target.client()
    for key in ("whole", "parts"):
        assert other.xlen(key) == client.xlen(key) and other.xrange(key, count=60) == client.xrange(key, count=60)
    assert pending(other, "whole") == pending(client, "whole") and len(pending(client, "whole")) == 40
    lost = len(pending(client, "parts")) - len(pending(other, "parts"))
    assert lost == 9
    assert [text for text in result["warnings"] if 'key "parts"' in text and "9 pending entries" in text]


def pending(client: Any, key: str) -> list[Any]:
    return [(row["message_id"], row["consumer"], row["times_delivered"]) for row in client.xpending_range(key, "readers", "-", "+", 1000)]


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


def test_a_library_of_functions_that_is_another_one(shared_server: Any, run_import: Import) -> None:
    source, target = shared_server("valkey-9.1"), shared_server("valkey-9.1", 1)
    for server, number in ((source, 1), (target, 2)):
        server.client().function_load("#!lua name=lib\nredis.register_function('f', function() return %d end)" % number)
    result = run_import(target, source.save(), on_conflict="fail")
    assert result["failed"] and target.address in result["msg"] and "library of functions" in result["msg"]
    assert "on_conflict" in result["remedy"] and "Traceback" not in result["_output"]
    skipped = run_import(target, source.save(), on_conflict="skip")
    assert skipped["changed"] is False and skipped["stats"]["functions"] == 0
    replaced = run_import(target, source.save(), on_conflict="replace")
    assert replaced["changed"] and replaced["stats"]["functions"] == 1
    assert functions(target.client()) == functions(source.client()) != {}


def test_a_function_that_another_library_has(shared_server: Any, run_import: Import) -> None:
    source, target = shared_server("valkey-9.1"), shared_server("valkey-9.1", 1)
    for server, name in ((source, "new"), (target, "old")):
        server.client().function_load("#!lua name=%s\nredis.register_function('f', function() return 1 end)" % name)
    result = run_import(target, source.save())
    assert result["failed"] and "already exists" in result["msg"] and "FUNCTION DELETE" in result["remedy"]
    assert not run_import(target, source.save(), on_conflict="skip").get("failed")
    assert list(functions(target.client())) == [b"old"]


def damaged(kind: str, good: bytes) -> Tuple[bytes, str]:
    """A file made bad in one way, and a word its error must have."""
    head = b"REDIS0009\xfe\x00"
    flipped = bytearray(good)
    # Within a value: of a key it could make another one that is there.
    flipped[good.index(b"k250") + 20] ^= 1
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
