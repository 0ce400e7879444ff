# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test equipment itself: if a server, a data set or the oracle does not work, no other result means anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from ansible_collections.dcs.migration.tests.support.access import identify
from ansible_collections.dcs.migration.tests.support.datasets import (
    LIBRARIES,
    ODD_KEYS,
    populate_every_type,
    populate_realistic,
)
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, functions, snapshot
from ansible_collections.dcs.migration.tests.support.params import server_params
from ansible_collections.dcs.migration.tests.support.provision import tool
from ansible_collections.dcs.migration.tests.support.servers import (
    RedisCluster,
    RedisServer,
    S3Server,
    Sentinel,
    StartError,
    TcpProxy,
    Twemproxy,
    make_client,
    wait_until,
)

Server = Callable[..., RedisServer]


def test_a_server_holds_every_type_through_a_restart(server: Server, server_name: str) -> None:
    one = server(server_name, password="secret")
    assert identify(one.client()) == (one.product, one.version)
    written = populate_every_type(one.client(), one.version, one.product)
    before, digest = snapshot(one.client()), one.digest()
    assert before.keys() == set(written)

    dump = one.save()
    one.restart()

    assert one.digest() == digest != b"0" * 40
    assert_same_data(before, snapshot(one.client()))
    magic = b"VALKEY" if one.rdb_version >= 80 else b"REDIS"
    assert dump.read_bytes()[:9] == magic + b"%0*d" % (9 - len(magic), one.rdb_version)
    if one.version >= (7, 0):
        assert functions(one.client()).keys() == {name for name, _body in LIBRARIES}


@pytest.mark.parametrize("name", server_params())
def test_its_checker_accepts_its_own_dump(shared_server: Server, name: str) -> None:
    one = shared_server(name)
    populate_every_type(one.client(), one.version, one.product)
    dump = one.save()
    done = subprocess.run([*tool(name, "redis-check-rdb"), str(dump)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_seed_makes_the_same_data(shared_server: Server) -> None:
    first, second = shared_server("valkey-9.1"), shared_server("valkey-9.1", 1)
    for one in (first, second):
        populate_every_type(one.client(), one.version, one.product)
    assert first.digest() == second.digest()
    assert_same_data(snapshot(first.client()), snapshot(second.client()), ttl_tolerance_ms=0)

    second.flush()
    populate_every_type(second.client(), second.version, second.product, seed=2)
    assert first.digest() != second.digest()


def test_the_oracle_names_what_differs(shared_server: Server) -> None:
    first, second = shared_server("redis-6.2"), shared_server("valkey-9.1")
    for one in (first, second):
        client = one.client()
        client.hset("hash", "field", str(one.version))
        client.set("same", "v", px=100_000_000)
        client.set("expiring", "v", px=100_000_000 * one.version[0])
        client.rpush("list", "a", *["b"] * one.version[0])
    first.client(db=3).set("missing", 1)
    second.client().set("extra", 1)
    first.client().set("type", 1)
    second.client().sadd("type", 1)

    with pytest.raises(AssertionError) as caught:
        assert_same_data(snapshot(first.client()), snapshot(second.client()), ttl_tolerance_ms=5000)

    lines = str(caught.value).splitlines()
    assert lines[0] == "6 of 7 keys differ:"
    assert [line.strip().split(": ")[0] for line in lines[1:]] == [
        "db 0 key b'expiring'",
        "db 0 key b'extra'",
        "db 0 key b'hash'",
        "db 0 key b'list'",
        "db 0 key b'type'",
        "db 3 key b'missing'",
    ]


def test_a_cluster_takes_the_data_and_moves_slots(cluster: Callable[..., RedisCluster], cluster_name: str) -> None:
    one = cluster(cluster_name, replicas=1)
    with _closing(one) as client:
        written = populate_every_type(client, one.version, one.product, databases=(0,))
        before = snapshot(client)
    assert before.keys() == set(written)

    slot = int(one.masters[0].execute("CLUSTER", "KEYSLOT", b"{tag}first"))
    owner = one.owner(slot)
    target = next(node for node in one.masters if node is not owner)
    one.move_slot(slot, target)

    assert one.owner(slot) is target
    assert_same_data(before, snapshot(one.clients()))


class _closing:
    """redis-py's cluster client closes only half of itself in a ``with`` block."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.client = cluster.client()

    def __enter__(self) -> redis.RedisCluster:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()


@pytest.mark.parametrize("name", server_params("redis-2.8", "redis-6.2", "valkey-9.1"))
def test_realistic_data_is_large_and_of_all_types(shared_server: Server, name: str) -> None:
    one = shared_server(name)
    populate_realistic(one.client(), keys=5000, big_hash_fields=2000)
    types = {entry.type for entry in snapshot(one.client()).values()}
    assert types >= {"string", "list", "set", "zset", "hash"}
    assert one.client().hlen("profile:segments") == 2000
    assert set(one.info("keyspace")) == {"db0", "db1", "db2"}


@pytest.mark.parametrize("name", server_params("redis-2.8", "redis-6.2", "redis-8.0", "valkey-9.1"))
def test_sentinel_fails_over_to_the_replica(server: Server, sentinel: Callable[..., Sentinel], name: str) -> None:
    master = server(name, password="secret")
    replica = server(name, password="secret", replica_of=master)
    replica.wait_for_link()
    watcher = sentinel(name, master)
    assert watcher.master_address() == master.address
    watcher.wait_for_replicas()
    assert watcher.failover() == replica.address


def test_twemproxy_spreads_keys(server: Server, twemproxy: Callable[..., Twemproxy]) -> None:
    backends = [server("redis-6.2", password="secret"), server("valkey-9.1", password="secret")]
    proxy = twemproxy(backends, password="secret", hash_tag="{}")
    written = populate_every_type(proxy.client(), (6, 2), "redis", databases=(0,), streams=False, functions=False)
    direct = snapshot([backend.client() for backend in backends])
    assert all(backend.client().dbsize() > 20 for backend in backends)
    assert_same_data(direct, snapshot(proxy.client(), keys=[key for _database, key in written]), ttl_tolerance_ms=2000)


def test_s3_keeps_large_objects(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 100_000)
    client = s3.client()
    client.upload_file(str(big), bucket, "folder/big")
    (s3.root / bucket / "by-hand").write_bytes(b"x")
    listed = {one["Key"]: one["Size"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]}
    client.download_file(bucket, "folder/big", str(tmp_path / "copy"))
    client.close()
    assert listed == {"folder/big": big.stat().st_size, "by-hand": 1}
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()


@pytest.mark.parametrize("name", server_params("redis-6.2", "valkey-9.1", "redis-7.0"))
def test_tls_and_users(server: Server, name: str) -> None:
    one = server(name, tls=True, password="secret", users_acl=["alice on >hidden ~* +@all"])
    assert one.client(username="alice", password="hidden").set("k", "v")
    assert one.digest() != b"0" * 40
    plain = make_client(one.port, password="secret", socket_timeout=2)
    with pytest.raises(redis.ConnectionError):
        plain.ping()
    plain.close()


def test_commands_can_be_renamed_and_disabled(server: Server) -> None:
    one = server("redis-6.2", rename={"DEBUG": "HIDDEN", "CONFIG": ""})
    assert one.digest() == b"0" * 40
    with pytest.raises(redis.ResponseError, match="unknown command"):
        one.client().config_get("save")


def test_the_proxy_cuts_at_the_byte(shared_server: Server, tcp_proxy: Callable[..., TcpProxy]) -> None:
    one = shared_server("redis-6.2")
    one.client().set("k", b"x" * 1_000_000)
    proxy = tcp_proxy(one.address)
    client = make_client(proxy.port, socket_timeout=20)
    proxy.cut_after(12_345)
    with pytest.raises(redis.ConnectionError):
        client.get("k")
    assert proxy.bytes["down"] == 12_345
    assert len(client.get("k")) == 1_000_000

    proxy.black_hole()
    silent = make_client(proxy.port, socket_timeout=0.2)
    with pytest.raises(redis.TimeoutError):
        silent.ping()
    proxy.heal()
    assert client.ping()
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.close()
    silent.close()


def test_a_server_that_does_not_start_shows_its_log(server: Server) -> None:
    with pytest.raises(StartError, match="Bad directive|no-such-setting"):
        server("redis-6.2", config={"no-such-setting": "1"})


def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from ansible_collections.dcs.migration.tests.support.servers import RedisServer\n"
        "server = RedisServer('redis-6.2').start()\n"
        "print(server.process.pid, server.folder, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == -9, done.stderr
    pid, folder = done.stdout.split()
    wait_until(lambda: not Path("/proc", pid).exists(), "the server is gone", 10)
    shutil.rmtree(folder)


def test_odd_keys_are_all_there(shared_server: Server) -> None:
    one = shared_server("redis-6.2")
    populate_every_type(one.client(), one.version, one.product, databases=(0,))
    assert one.client().exists(*ODD_KEYS) == len(ODD_KEYS)
