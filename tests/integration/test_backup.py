# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``backup`` as a user calls it, against real servers; what it made is read by the servers themselves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._backup.engine import take
from ansible_collections.dcs.migration.plugins.module_utils._backup.plan import Options
from ansible_collections.dcs.migration.plugins.module_utils._errors import LostError, ReplyError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._server.topology import discover
from ansible_collections.dcs.migration.tests.support.access import identify
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, functions, snapshot
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.params import server_params
from ansible_collections.dcs.migration.tests.support.provision import tool
from ansible_collections.dcs.migration.tests.support.servers import DOWN, RedisServer, TcpProxy, wait_until

PASSWORD = "open-sesame-42"
Start = Callable[..., Any]


def backup(source: Any, dest: Path, *, check: bool = False, endpoint: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The module's result."""
    addresses = getattr(source, "addresses", None) or [source.address]
    return run_module("backup", {"source": {"addresses": addresses, **(endpoint or {})}, "dest": str(dest), **options}, check=check)


def take_it(source: Any, dest: Path | str, endpoint: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The same without the process around it, for finer points and many servers."""
    addresses = getattr(source, "addresses", None) or [source.address]
    parameters = {"addresses": addresses, **(endpoint or {})}
    notes: list[str] = []
    return {**take(Endpoint.from_params(parameters), Options(str(dest), **options), warn=notes.append), "notes": notes}


def fill(server: RedisServer, **options: Any) -> None:
    """Every type the server has."""
    client = server.client()
    identity = identify(client)
    populate_every_type(client, identity.version, identity.product, **options)


def set_keys(server: Any, count: int) -> None:
    client = server.client()
    for number in range(count):
        client.set("key:%d" % number, "v")
    client.close()


def loaded(server: Start, name: str, path: str) -> RedisServer:
    """A fresh server of that version that started with the file as its own."""
    made: RedisServer = server(name)
    made.stop()
    shutil.copy(path, made.folder / "dump.rdb")
    return made.start()


def check_rdb(name: str, path: str) -> None:
    """The server's own checker. (Up to 3.0 it is redis-check-dump, whose status says nothing.)"""
    done = subprocess.run([*tool(name, "redis-check-rdb"), path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def is_sound(file: dict[str, Any]) -> None:
    """What the module says of a file is true of it."""
    data = Path(file["path"]).read_bytes()
    assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert Path(file["path"]).stat().st_mode & 0o777 == 0o600


def keys_in(server: RedisServer) -> int:
    return sum(one["keys"] for one in server.info("keyspace").values())


def replay(server: RedisServer, data: bytes) -> list[bytes]:
    """Send an AOF as commands; the error lines."""
    with socket.create_connection(("127.0.0.1", server.plain_port)) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        replies = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        sender.join()
    return [line for line in replies.split(b"\r\n") if line.startswith(b"-")]


# -- every version -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["psync", "scan"])
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_every_version(server_name: str, method: str, diskless: str, server: Start, tmp_path: Path) -> None:
    source = server(server_name, config={"repl-diskless-sync": diskless} if server_name != "redis-2.8" else {})
    fill(source)
    result = take_it(source, tmp_path, method=method)
    (file,) = result["files"]
    assert result["changed"] and result["method"] == method and not result["notes"]
    assert (file["keys"], file["rdb_version"]) == (keys_in(source), source.rdb_version)
    assert sorted(os.listdir(tmp_path)) == ["dump.backup.json", "dump.rdb"]
    is_sound(file)
    check_rdb(server_name, file["path"])
    copy = loaded(server, server_name, file["path"])
    assert copy.digest() == source.digest()
    assert_same_data(snapshot(source.client()), snapshot(copy.client()))
    if source.version >= (7, 0):
        assert functions(copy.client()) == functions(source.client()) != {}


@pytest.mark.parametrize("method", ["psync", "scan"])
def test_aof_of_every_version(server_name: str, method: str, server: Start, tmp_path: Path) -> None:
    source, target = server(server_name), server(server_name)
    fill(source)
    if source.version >= (5, 0):
        # A pending entry whose message is gone does not survive a server's own rewrite either.
        for database in (0, 1, 9):
            source.client(db=database).delete("stream:pending")
    (file,) = take_it(source, tmp_path, method=method, format="aof")["files"]
    assert file["path"].endswith("/dump.aof") and file["keys"] == keys_in(source)
    is_sound(file)
    done = subprocess.run([*tool(server_name, "redis-check-aof"), file["path"]], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "valid" in done.stdout, done.stdout + done.stderr
    assert replay(target, Path(file["path"]).read_bytes()) == []
    assert target.digest() == source.digest()
    assert_same_data(snapshot(source.client()), snapshot(target.client()))
    if source.version >= (7, 0):
        assert functions(target.client()) == functions(source.client()) != {}


@pytest.mark.parametrize("name", server_params("redis-2.8", "redis-6.2", "redis-7.0", "valkey-9.1"))
def test_sync_where_psync_is_renamed(name: str, server: Start, tmp_path: Path) -> None:
    source = server(name, rename={"PSYNC": ""})
    fill(source)
    result = take_it(source, tmp_path)
    assert result["method"] == "sync" and "PSYNC is disabled or renamed" in result["reason"]
    assert result["files"][0]["replication_id"] is None
    assert loaded(server, name, result["files"][0]["path"]).digest() == source.digest()


def test_an_empty_server(server_name: str, server: Start, tmp_path: Path) -> None:
    source = server(server_name)
    for method in ("psync", "scan"):
        (file,) = take_it(source, tmp_path, method=method)["files"]
        assert file["keys"] == 0
        assert loaded(server, server_name, file["path"]).client().dbsize() == 0


# -- as a user runs it ---------------------------------------------------------------------------------------


def test_module_check_mode_and_max_age(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", password=PASSWORD)
    fill(source)
    dest = tmp_path / "not" / "there"
    endpoint = {"password": PASSWORD}
    predicted = backup(source, dest, check=True, endpoint=endpoint)
    assert predicted["changed"] and not dest.parent.exists()
    assert [file["path"] for file in predicted["files"]] == [str(dest / "dump.rdb")] and predicted["method"] == "psync"
    assert source.info()["sync_full"] == 0

    first = backup(source, dest, endpoint=endpoint)
    assert first["changed"] and first["method"] == "psync" and first["reason"] == ""
    (file,) = first["files"]
    is_sound(file)
    assert file["shard"] == file["source"] == source.address and file["keys"] == keys_in(source)
    assert len(file["replication_id"]) == 40 and file["offset"] >= 0 and file["attempts"] == 1
    assert PASSWORD not in first["_output"] and "[WARNING]" not in first["_output"]
    assert PASSWORD not in (dest / "dump.backup.json").read_text()

    again = backup(source, dest, endpoint=endpoint, max_age=1000)
    assert not again["changed"] and again["files"] == first["files"] and again["method"] == "psync"
    assert not backup(source, dest, endpoint=endpoint, max_age=1000, check=True)["changed"]
    assert backup(source, dest, endpoint=endpoint, max_age=1000, method="scan")["changed"]
    assert backup(source, dest, endpoint=endpoint)["changed"]
    Path(file["path"]).write_bytes(b"cut off")
    assert backup(source, dest, endpoint=endpoint, max_age=1000)["changed"]
    assert loaded(server, "redis-6.2", file["path"]).digest() == source.digest()


def test_module_falls_back_to_scan(server: Start, tmp_path: Path) -> None:
    users = ["u on >%s ~* &* +@all -psync -sync" % PASSWORD]
    source = server("valkey-9.1", users_acl=users)
    fill(source)
    endpoint = {"username": "u", "password": PASSWORD}
    predicted = backup(source, tmp_path, endpoint=endpoint, check=True)
    assert predicted["method"] == "scan" and "may not use PSYNC" in predicted["reason"]
    result = backup(source, tmp_path, endpoint=endpoint)
    assert result["method"] == result["files"][0]["method"] == "scan"
    assert "this user may not use PSYNC; this user may not use SYNC" in result["reason"]
    copy = loaded(server, "valkey-9.1", result["files"][0]["path"])
    assert copy.digest() == source.digest() and functions(copy.client()) == functions(source.client())

    refused = backup(source, tmp_path, endpoint=endpoint, method="psync")
    assert refused["failed"] and "may not use PSYNC" in refused["msg"] and "scan" in refused["remedy"]


@pytest.mark.parametrize("command", ["dump", "scan"])
def test_nothing_is_allowed(command: str, server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", users_acl=["u on >%s ~* &* +@all -psync -sync -%s" % (PASSWORD, command)])
    source.client().set("a", "1")
    refused = backup(source, tmp_path, endpoint={"username": "u", "password": PASSWORD})
    assert refused["failed"] and command.upper() in refused["msg"] and "forbidden for this user" in refused["msg"]
    assert "may not use PSYNC" in refused["msg"] and "export a backup file" in refused["remedy"]
    assert os.listdir(tmp_path) == []


def test_wrong_password(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", password=PASSWORD)
    refused = backup(source, tmp_path, endpoint={"password": "wrong-secret"})
    assert refused["failed"] and "WRONGPASS" in refused["msg"] and "wrong-secret" not in refused["_output"]


def test_tls(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", password=PASSWORD, tls=True)
    fill(source)
    endpoint = {"password": PASSWORD, "tls": True, "ca_certs": str(source.tls.ca)}
    for method in ("psync", "scan"):
        (file,) = take_it(source, tmp_path, endpoint, method=method)["files"]
        assert file["keys"] == keys_in(source)
        is_sound(file)


# -- dest ----------------------------------------------------------------------------------------------------


def test_dest_is_no_folder(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2")
    (tmp_path / "file").write_text("x")
    for check in (True, False):
        for dest in (tmp_path / "file", tmp_path / "file" / "below"):
            refused = backup(source, dest, check=check)
            assert refused["failed"] and str(dest) in refused["msg"] and refused["remedy"]
    assert source.info()["sync_full"] == 0


def test_full_disk_leaves_the_backup_before(server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = server("redis-6.2")
    source.client().set("a", "1")
    take_it(source, tmp_path)
    before = (tmp_path / "dump.rdb").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="No space left on device"):
        take_it(source, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["dump.backup.json", "dump.rdb"]
    assert (tmp_path / "dump.rdb").read_bytes() == before


def test_another_deployment_is_not_replaced(server: Start, tmp_path: Path) -> None:
    one, two = server("redis-6.2"), server("redis-6.2")
    take_it(one, tmp_path)
    with pytest.raises(UsageError, match="backup of another deployment"):
        take_it(two, tmp_path)
    take_it(two, tmp_path, name="two")
    assert sorted(os.listdir(tmp_path)) == ["dump.backup.json", "dump.rdb", "two.backup.json", "two.rdb"]


@pytest.mark.parametrize("spelled", ["%s", "%s/", "%s/../%s"])
def test_files_of_shards_that_are_gone_go_too(server: Start, tmp_path: Path, spelled: str) -> None:
    source = server("redis-6.2")
    take_it(source, tmp_path)
    stale = tmp_path / "dump-shard-2-of-2.rdb"
    stale.write_bytes(b"of the backup before")
    other = tmp_path / "dump-other.rdb"
    other.write_bytes(b"not ours")
    note = json.loads((tmp_path / "dump.backup.json").read_text())
    note["files"].append({**note["files"][0], "path": str(stale), "size": stale.stat().st_size})
    (tmp_path / "dump.backup.json").write_text(json.dumps(note))
    take_it(source, spelled.replace("%s", str(tmp_path), 1).replace("%s", tmp_path.name))
    assert sorted(os.listdir(tmp_path)) == ["dump-other.rdb", "dump.backup.json", "dump.rdb"]


# -- topologies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["psync", "scan"])
def test_cluster(cluster_name: str, method: str, cluster: Start, server: Start, tmp_path: Path) -> None:
    source = cluster(cluster_name)
    client = source.client()
    populate_every_type(client, source.version, source.product, databases=(0,))
    result = take_it(source, tmp_path, method=method)
    client.close()
    names = ["dump-shard-%d-of-3.rdb" % number for number in (1, 2, 3)]
    assert sorted(os.listdir(tmp_path)) == [*names, "dump.backup.json"]
    assert sorted(file["shard"] for file in result["files"]) == sorted(source.addresses)
    assert not result["notes"]
    together: dict[Any, Any] = {}
    for file, node in zip(result["files"], source.masters):
        is_sound(file)
        copy = snapshot(loaded(server, cluster_name, file["path"]).client())
        assert len(copy) == file["keys"] == node.client().dbsize()
        assert not together.keys() & copy.keys()
        together.update(copy)
    assert_same_data(snapshot([node.client() for node in source.masters]), together)


def test_cluster_through_the_module(cluster: Start, tmp_path: Path) -> None:
    source = cluster("valkey-9.1", password=PASSWORD)
    set_keys(source, 300)
    result = backup(source, tmp_path, endpoint={"password": PASSWORD})
    assert not result.get("failed") and sum(file["keys"] for file in result["files"]) == 300
    assert [file["slots"][0][0] for file in result["files"]] == sorted(file["slots"][0][0] for file in result["files"])


@pytest.mark.parametrize("method", ["psync", "scan"])
def test_cluster_with_a_slot_on_the_move(method: str, cluster: Start, tmp_path: Path) -> None:
    source = cluster("redis-6.2")
    client = source.client()
    for number in range(100):
        client.set("{tag}:%d" % number, "v")
    slot = client.keyslot("{tag}")
    client.close()
    owner = source.owner(slot)
    target = next(node for node in source.masters if node is not owner)
    source.begin_move(slot, target)
    source.move_keys(slot, target, 40)
    result = take_it(source, tmp_path, method=method)
    assert sum(file["keys"] for file in result["files"]) == 100
    counts = {file["shard"]: file["keys"] for file in result["files"]}
    assert (counts[owner.address], counts[target.address]) == (60, 40)
    if method == "psync":
        assert any("40 keys belong to slots that are being moved" in note for note in result["notes"])


@pytest.mark.parametrize("method", ["psync", "scan"])
def test_replica(method: str, server: Start, tmp_path: Path) -> None:
    master = server("redis-6.2", password=PASSWORD)
    replica = server("redis-6.2", password=PASSWORD, replica_of=master)
    fill(master)
    replica.wait_for_link()
    master.wait_for_replicas()
    master.client().wait(1, 5000)
    before = master.info()["sync_full"]
    endpoint = {"password": PASSWORD}
    (file,) = take_it(master, tmp_path, endpoint, method=method, read_from="replica")["files"]
    assert (file["shard"], file["source"]) == (master.address, replica.address)
    assert master.info()["sync_full"] == before
    assert loaded(server, "redis-6.2", file["path"]).digest() == master.digest()
    replica.stop()
    with pytest.raises(Exception, match="has no replica that could be read"):
        take_it(master, tmp_path, endpoint, read_from="replica")


def test_cluster_from_its_replicas(cluster: Start, tmp_path: Path) -> None:
    source = cluster("valkey-9.1", replicas=1)
    set_keys(source, 300)
    for node in source.masters:
        node.client().wait(1, 5000)
    replicas = {node.address for node in source.replicas}
    endpoint = Endpoint.from_params({"addresses": source.addresses})
    wait_until(lambda: all(shard.replicas for shard in discover(endpoint).shards), "every replica is listed")
    for method in ("psync", "scan"):
        files = take_it(source, tmp_path, method=method, read_from="replica")["files"]
        assert {file["source"] for file in files} == replicas
        assert sum(file["keys"] for file in files) == 300


def test_sentinel(server: Start, sentinel: Start, tmp_path: Path) -> None:
    master = server("redis-6.2", password=PASSWORD)
    replica = server("redis-6.2", password=PASSWORD, replica_of=master)
    replica.wait_for_link()
    watcher = sentinel("redis-6.2", master)
    watcher.wait_for_replicas()
    fill(master)
    endpoint = {"password": PASSWORD, "sentinel_service": "mymaster"}
    result = take_it(watcher, tmp_path, endpoint)
    assert result["files"][0]["shard"] == master.address
    assert loaded(server, "redis-6.2", result["files"][0]["path"]).digest() == master.digest()
    assert sorted(os.listdir(tmp_path)) == ["dump.backup.json", "dump.rdb"]


def test_proxy(server: Start, twemproxy: Start, tmp_path: Path) -> None:
    nodes = [server("redis-6.2"), server("redis-6.2")]
    proxy = twemproxy(nodes)
    set_keys(proxy, 100)
    refused = backup(proxy, tmp_path)
    assert refused["failed"] and "is a proxy" in refused["msg"] and "source.shards" in refused["remedy"]
    result = backup(proxy, tmp_path, endpoint={"shards": [node.address for node in nodes]})
    assert [file["shard"] for file in result["files"]] == [node.address for node in nodes]
    assert sum(file["keys"] for file in result["files"]) == 100
    assert sorted(os.listdir(tmp_path)) == ["dump-shard-1-of-2.rdb", "dump-shard-2-of-2.rdb", "dump.backup.json"]


# -- trouble -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["psync", "scan"])
@pytest.mark.parametrize("name", ["redis-6.2", "valkey-9.1"])
def test_a_source_that_is_written_meanwhile(name: str, method: str, server: Start, tmp_path: Path) -> None:
    source = server(name)
    fill(source)
    steady = snapshot(source.client())
    client = source.client()
    pipeline = client.pipeline(transaction=False)
    for number in range(20_000):
        pipeline.set("load:%d" % number, "x" * 100)
    pipeline.execute()
    stop = threading.Event()

    def write() -> None:
        busy = source.client()
        number = 0
        while not stop.is_set():
            number += 1
            busy.set("load:%d" % (number % 40_000), "y" * (number % 300))
            busy.delete("load:%d" % (number * 7 % 40_000))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        (file,) = take_it(source, tmp_path, method=method)["files"]
    finally:
        stop.set()
        writer.join()
    check_rdb(name, file["path"])
    copy = loaded(server, name, file["path"])
    assert keys_in(copy) == file["keys"]
    found = {place: entry for place, entry in snapshot(copy.client()).items() if not place[1].startswith(b"load:")}
    assert_same_data(steady, found)


def test_a_snapshot_that_is_lost_is_asked_for_again(server: Start, tcp_proxy: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", config={"rdbcompression": "no"})
    source.client().set("big", os.urandom(3_000_000))
    network: TcpProxy = tcp_proxy(source.address)
    network.cut_after(1_000_000)
    result = take_it(network, tmp_path)
    assert result["method"] == "psync" and result["files"][0]["attempts"] == 2
    assert any("the snapshot was lost" in note and "asking again" in note for note in result["notes"])
    assert loaded(server, "redis-6.2", result["files"][0]["path"]).digest() == source.digest()


def test_a_snapshot_that_is_lost_every_time(server: Start, tcp_proxy: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", config={"rdbcompression": "no"})
    source.client().set("big", os.urandom(3_000_000))
    network: TcpProxy = tcp_proxy(source.address)
    network.throttle(20_000_000)
    stop = threading.Event()

    def cut() -> None:
        gone = 0
        while not stop.wait(0.001):
            if network.bytes[DOWN] - gone > 1_000_000:
                gone = network.bytes[DOWN]
                network.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        with pytest.raises(LostError, match=r"3 attempts"):
            take_it(network, tmp_path, method="psync")
    finally:
        stop.set()
        cutter.join()
    assert os.listdir(tmp_path) == []


def test_a_shard_that_fails_takes_all_files_with_it(cluster: Start, tmp_path: Path) -> None:
    source = cluster("redis-6.2", rename={"PSYNC": "", "SYNC": ""})
    set_keys(source, 100)
    source.masters[1].execute("ACL", "SETUSER", "default", "-dump")
    with pytest.raises(ReplyError, match="DUMP.*forbidden"):
        take_it(source, tmp_path)
    assert os.listdir(tmp_path) == []


def test_large_values_come_in_parts(server: Start, tmp_path: Path) -> None:
    source = server("redis-6.2", config={"rdbcompression": "no"})
    client = source.client()
    client.set("small", "1")
    client.set("large", os.urandom(20 << 20))
    pipeline = client.pipeline(transaction=False)
    for number in range(0, 300_000, 1000):
        pipeline.sadd("members", *["member:%040d" % n for n in range(number, number + 1000)])
    pipeline.execute()
    client.pexpireat("members", 4102444800000)
    for method in ("psync", "scan"):
        (file,) = take_it(source, tmp_path, method=method)["files"]
        assert file["keys"] == 3
        assert loaded(server, "redis-6.2", file["path"]).digest() == source.digest()
        (aof,) = take_it(source, tmp_path, method=method, format="aof", name="commands")["files"]
        target = server("redis-6.2")
        assert replay(target, Path(aof["path"]).read_bytes()) == []
        assert target.digest() == source.digest()
