# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""instance_info against real servers: through ansible-playbook, and for finer points straight at the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import AuthError, ConnectError, LostError, ServerError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._server.connect import open_client, open_socket
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint, parse_address
from ansible_collections.dcs.migration.plugins.module_utils._server.probe import Instance, probe
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import rdb_version_by_dump
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import (
    MATRIX_SERVERS,
    WHEEL_SERVERS,
    RedisCluster,
    RedisServer,
    Sentinel,
    Twemproxy,
    wait_until,
)

PASSWORD = "open-sesame-42"
EVERY_SERVER = [*WHEEL_SERVERS, *(pytest.param(name, marks=pytest.mark.matrix) for name in MATRIX_SERVERS)]


def look(*addresses: str, **options: Any) -> Instance:
    return probe(Endpoint.from_params({"addresses": list(addresses), **options}))


@pytest.fixture(scope="module")
def secured() -> Iterator[RedisServer]:
    """A Redis 6.2 with a password, some data, and users who lack something."""
    users = [
        "reader on >%s ~* &* +@all -@write" % PASSWORD,
        "plain on >%s ~* &* +@all -psync -sync -config" % PASSWORD,
        "blind on >%s ~* &* +@all -info" % PASSWORD,
        "keyed on >%s ~app:* &* +@all" % PASSWORD,
    ]
    with RedisServer("redis-6.2", password=PASSWORD, users_acl=users) as server:
        for db, count in ((0, 3), (5, 2)):
            client = server.client(db=db)
            for number in range(count):
                client.set("key%d" % number, "value")
        server.client(db=5).expire("key0", 1000)
        yield server


# -- as a user runs it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_module_on_single(secured: RedisServer, check: bool) -> None:
    result = run_module("instance_info", {"instance": {"addresses": [secured.address], "password": PASSWORD}}, check=check)
    assert result["changed"] is False and not result.get("failed")
    found = result["instance"]
    assert (found["product"], found["version"], found["rdb_version"]) == ("redis", "6.2.14", 9)
    assert found["topology"] == "single"
    assert found["shards"] == [{"master": secured.address, "replicas": [], "slots": []}]
    assert found["databases"] == [{"db": 0, "keys": 3, "expires": 0}, {"db": 5, "keys": 2, "expires": 1}]
    assert found["databases_max"] == 16
    assert found["used_memory"] > 0 and found["maxmemory"] == 0
    assert found["psync"]["supported"] is True
    assert found["modules"] == [] and found["functions"] is None
    assert abs(found["clock_skew_ms"]) < 500
    assert PASSWORD not in result["_output"]
    assert "DEPRECATION" not in result["_output"] and "[WARNING]" not in result["_output"]


def test_module_on_cluster() -> None:
    with RedisCluster("valkey-9.1") as cluster:
        result = run_module("instance_info", {"instance": {"addresses": cluster.addresses}})
        found = result["instance"]
        assert found["topology"] == "redis_cluster" and found["cluster_enabled"] is True
        assert (found["product"], found["rdb_version"]) == ("valkey", 80)
        assert sorted(shard["master"] for shard in found["shards"]) == sorted(cluster.addresses)
        assert sum(last - first + 1 for shard in found["shards"] for first, last in shard["slots"]) == 16384
        assert found["missing_slots"] == 0
        assert found["databases_max"] >= 1


def test_module_fails_with_a_remedy(secured: RedisServer) -> None:
    result = run_module("instance_info", {"instance": {"addresses": [secured.address], "password": "wrong-secret"}})
    assert result["failed"] and "WRONGPASS" in result["msg"]
    assert result["what"] == secured.address and "Check username and password" in result["remedy"]
    assert "wrong-secret" not in result["_output"]


def test_module_refuses_contradictions() -> None:
    result = run_module("instance_info", {"instance": {"addresses": ["127.0.0.1"]}})
    assert result["failed"] and "is not host:port" in result["msg"]


# -- logins --------------------------------------------------------------------------------------------------


def test_read_only_user(secured: RedisServer) -> None:
    found = look(secured.address, username="reader", password=PASSWORD)
    assert found.read_only and found.psync.supported
    assert {"RESTORE", "DEL", "PEXPIREAT"} <= set(found.disabled_commands)
    assert found.keys == 5
    assert secured.execute("EXISTS", "__dcs_migration__:probe:absent") == 0


def test_user_without_psync_and_config(secured: RedisServer) -> None:
    found = look(secured.address, username="plain", password=PASSWORD)
    assert found.psync.supported is False and "may not use PSYNC" in found.psync.reason
    assert found.disabled_commands == ("CONFIG",)
    assert found.databases_max == 16  # by SELECT
    assert found.replication["repl_timeout"] is None and found.persistence["rdbcompression"] is None
    assert found.maxmemory == 0 and not found.read_only  # from INFO


def test_user_with_few_keys_still_has_its_commands(secured: RedisServer) -> None:
    found = look(secured.address, username="keyed", password=PASSWORD)
    assert found.disabled_commands == ()


def test_user_without_info(secured: RedisServer) -> None:
    with pytest.raises(AuthError, match=r"INFO.*lacks a permission.*\+info"):
        look(secured.address, username="blind", password=PASSWORD)


def test_default_user_by_name(secured: RedisServer) -> None:
    assert look(secured.address, username="default", password=PASSWORD).keys == 5


def test_no_password_given(secured: RedisServer) -> None:
    with pytest.raises(AuthError, match="asks for a password"):
        look(secured.address)


@pytest.mark.parametrize("name", EVERY_SERVER)
def test_password_given_but_none_set(name: str) -> None:
    with RedisServer(name) as server, pytest.raises(AuthError, match="none set") as caught:
        look(server.address, password=PASSWORD)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("name", EVERY_SERVER)
def test_wrong_password(name: str) -> None:
    with RedisServer(name, password="right") as server, pytest.raises(AuthError, match="refuses the username or password"):
        look(server.address, password=PASSWORD)


# -- every version -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SERVER)
def test_version(name: str) -> None:
    with RedisServer(name, password=PASSWORD, rename={"DEBUG": ""}) as server:
        client = server.client(db=3)
        client.set("a", "1")
        found = look(server.address, password=PASSWORD)
        assert found.product.name == server.product
        assert found.product.version.startswith("%d.%d" % server.version)
        endpoint = Endpoint.from_params({"addresses": [server.address], "password": PASSWORD})
        # Redict writes 12 without knowing a type that came with it: as a target it is a server of version 11.
        written = rdb_version_by_dump(endpoint, endpoint.addresses[0])
        assert found.product.rdb_version == (11 if found.product.name == "redict" else written)
        assert [tuple(item) for item in found.databases or ()] == [(3, 1, 0)]
        assert found.psync.supported is True, found.psync
        assert "DEBUG" in found.disabled_commands
        assert set(found.disabled_commands) <= {"DEBUG"}
        stats = server.info()
        assert stats["sync_full"] == 0 and stats["sync_partial_ok"] == 0 and stats["sync_partial_err"] == 0
        assert server.execute("DBSIZE") == 0  # nothing of ours in database 0
        capable = found.capabilities
        assert capable.streams == (server.version >= (5, 0))
        assert capable.restore_replace == (server.version >= (3, 0))
        assert capable.functions == (server.version >= (7, 0))


@pytest.mark.parametrize("name", EVERY_SERVER)
def test_renamed_psync(name: str) -> None:
    with RedisServer(name, rename={"PSYNC": "", "CONFIG": "hidden"}) as server:
        found = look(server.address)
        assert found.psync.supported is False and "disabled or renamed" in found.psync.reason
        assert found.disabled_commands == ("CONFIG", "PSYNC")
        assert found.databases_max == 16


@pytest.mark.parametrize("name", ["valkey-9.1", pytest.param("redis-7.0", marks=pytest.mark.matrix)])
def test_psync_forbidden_by_acl(name: str) -> None:
    with RedisServer(name, users_acl=["u on >%s ~* &* +@all -psync" % PASSWORD]) as server:
        found = look(server.address, username="u", password=PASSWORD)
        assert found.psync.supported is False and "may not use PSYNC" in found.psync.reason
        assert server.info()["sync_full"] == 0


def test_replconf_forbidden_by_acl() -> None:
    with RedisServer("redis-6.2", users_acl=["u on >%s ~* &* +@all -replconf" % PASSWORD]) as server:
        found = look(server.address, username="u", password=PASSWORD)
        assert found.psync.supported is False and "REPLCONF" in found.psync.reason


@pytest.mark.matrix
def test_users_before_redis_6_have_no_names() -> None:
    with RedisServer("redis-5.0", password=PASSWORD) as server:
        assert look(server.address, username="default", password=PASSWORD).product.version.startswith("5.0")
        with pytest.raises(AuthError, match="knows no users"):
            look(server.address, username="joe", password=PASSWORD)


def test_limits() -> None:
    with RedisServer("redis-6.2", password=PASSWORD, config={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as server:
        found = look(server.address, password=PASSWORD)
        assert (found.maxmemory, found.maxmemory_policy) == (100 << 20, "allkeys-lru")


# -- topologies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SERVER)
def test_replica_leads_to_its_master(name: str) -> None:
    with RedisServer(name, password=PASSWORD) as master, RedisServer(name, password=PASSWORD, replica_of=master) as replica:
        replica.wait_for_link()
        master.wait_for_replicas()
        for addresses in ([replica.address], [replica.address, master.address], [master.address]):
            found = look(*addresses, password=PASSWORD)
            assert found.topology.kind == "master_standby"
            shard = found.topology.shards[0]
            assert str(shard.master) == master.address
            assert [str(one) for one in shard.replicas] == [replica.address]
        assert found.replication["role"] == "master" and not found.read_only


def test_replica_whose_master_is_gone() -> None:
    with RedisServer("redis-6.2") as master, RedisServer("redis-6.2", replica_of=master) as replica:
        replica.wait_for_link()
        master.stop()
        with pytest.raises(ConnectError, match="is a replica, and its master"):
            look(replica.address)


@pytest.mark.parametrize("sentinel_password", [None, PASSWORD])
def test_sentinel(sentinel_password: str | None) -> None:
    with (
        RedisServer("redis-6.2", password=PASSWORD) as master,
        RedisServer("redis-6.2", password=PASSWORD, replica_of=master) as replica,
        Sentinel("redis-6.2", master, password=sentinel_password) as sentinel,
    ):
        replica.wait_for_link()
        sentinel.wait_for_replicas()
        options = {"sentinel_service": "mymaster", "password": PASSWORD}
        # A Sentinel that is down comes first in the list.
        wait_until(lambda: bool(look(sentinel.address, **options).topology.shards[0].replicas), "the replica is usable")
        found = look("127.0.0.1:1", sentinel.address, **options)
        assert found.topology.kind == "master_standby"
        assert str(found.topology.shards[0].master) == master.address
        assert [str(one) for one in found.topology.shards[0].replicas] == [replica.address]
        with pytest.raises(UsageError, match="is a Sentinel"):
            look(sentinel.address, password=sentinel_password)
        with pytest.raises(ServerError, match="does not watch a master named other"):
            look(sentinel.address, sentinel_service="other", password=PASSWORD)
        master.execute("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ServerError, match="names %s, which is no master now" % master.address):
            look(sentinel.address, **options)


@pytest.mark.parametrize(
    "name", ["redis-6.2", "valkey-9.1", *(pytest.param(n, marks=pytest.mark.matrix) for n in MATRIX_SERVERS if n != "redis-2.8")]
)
def test_cluster_from_one_node(name: str) -> None:
    with RedisCluster(name, replicas=1) as cluster:
        wait_until(
            lambda: all(shard.replicas for shard in look(cluster.addresses[0]).topology.shards), "every replica is listed"
        )
        found = look(cluster.addresses[0])
        topology = found.topology
        assert topology.kind == "redis_cluster" and topology.missing_slots == 0
        assert len(topology.shards) == 3 and all(len(shard.replicas) == 1 for shard in topology.shards)
        assert found.psync.supported is True
        client = cluster.client()
        for number in range(30):
            client.set("k%d" % number, "v")
        assert look(cluster.addresses[0]).keys == 30
        replica = topology.shards[0].replicas[0]
        assert set(look(str(replica)).topology.masters) == set(topology.masters)
        with pytest.raises(UsageError, match="node of a Redis Cluster"):
            look(cluster.addresses[0], topology="single")


def test_not_a_cluster(secured: RedisServer) -> None:
    with pytest.raises(UsageError, match="cluster support is off"):
        look(secured.address, password=PASSWORD, topology="redis_cluster")


@pytest.mark.matrix
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_twemproxy(password: str | None) -> None:
    with RedisServer("redis-6.2", password=password) as one, RedisServer("redis-6.2", password=password) as two:
        with Twemproxy([one, two], password=password) as proxy:
            found = look(proxy.address, password=password)
            assert found.topology.kind == "proxy_cluster" and not found.topology.shards
            assert found.product.rdb_version == 9 and found.product.version == ""
            assert found.psync.supported is False and "shards" in found.psync.reason
            assert {"CONFIG", "DBSIZE", "MULTI", "SCAN", "SELECT"} <= set(found.disabled_commands)
            assert not {"DUMP", "RESTORE"} & set(found.disabled_commands)
            assert found.databases is None and found.databases_max == 1
            assert one.execute("DBSIZE") + two.execute("DBSIZE") == 0
            inside = look(proxy.address, password=password, shards=[one.address, two.address])
            assert inside.topology.kind == "proxy_cluster"
            assert {str(master) for master in inside.topology.masters} == {one.address, two.address}
            assert inside.psync.supported is True and inside.product.version == "6.2.14"
            with pytest.raises(UsageError, match="answers like a proxy"):
                look(proxy.address, password=password, topology="single")


@pytest.mark.matrix
def test_twemproxy_with_a_password_and_nodes_without() -> None:
    with RedisServer("redis-6.2") as node, Twemproxy([node], password=None) as proxy:
        inside = look(proxy.address, password=PASSWORD, shards=[node.address])
        assert inside.topology.kind == "proxy_cluster"


# -- connections ---------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_makes_no_proxy(tcp_proxy: Any) -> None:
    """twemproxy ends a connection over INFO; so may a network, at any byte of it."""
    with RedisServer("redis-6.2") as server:
        way = tcp_proxy(server.address)
        for count in (7, 8, 20, 1000):
            way.cut_after(count)
            with pytest.raises((LostError, ConnectError), match="connection"):
                look(way.address)
            assert look(way.address).topology.kind == "single"


def test_tls() -> None:
    with RedisServer("redis-6.2", password=PASSWORD, tls=True) as server:
        assert server.tls is not None
        ca = str(server.tls.ca)
        assert look(server.address, password=PASSWORD, tls=True, ca_certs=ca).product.version == "6.2.14"
        assert look(server.address, password=PASSWORD, tls=True, validate_certs=False).tls is True
        with pytest.raises(ConnectError, match="certificate was not accepted"):
            look(server.address, password=PASSWORD, tls=True)
        with pytest.raises(ServerError, match="set tls to true"):
            look(server.address, password=PASSWORD)
        with pytest.raises(ConnectError, match="ca_certs file"):
            look(server.address, tls=True, ca_certs=str(server.folder / "missing.pem"))
        endpoint = Endpoint.from_params({"addresses": [server.address], "password": PASSWORD, "tls": True, "ca_certs": ca})
        plain = "127.0.0.1:%d" % server.plain_port
        with pytest.raises(ServerError, match="set tls to false"):
            open_client(replace(endpoint, addresses=()), parse_address(plain), connect_timeout=2)
        sock = open_socket(endpoint, endpoint.addresses[0], 5)
        sock.sendall(b"PING\r\n")
        assert sock.recv(64) == b"+PONG\r\n"
        sock.close()


def test_tls_without_a_password() -> None:
    """Nothing is read at connect then, and the server's session tickets lie in the socket."""
    with RedisServer("redis-6.2", tls=True) as server:
        assert server.tls is not None
        endpoint = Endpoint.from_params({"addresses": [server.address], "tls": True, "ca_certs": str(server.tls.ca)})
        for number in range(60):
            client = open_client(endpoint, endpoint.addresses[0])
            assert client.execute_command("ECHO", number) == b"%d" % number
            client.close()


def test_refused_and_unknown_hosts() -> None:
    with pytest.raises(ConnectError, match="refuses the connection"):
        look("127.0.0.1:1")
    with pytest.raises(ConnectError, match="name is not known"):
        look("no-such-host.invalid:6379")
    with pytest.raises(ConnectError, match="no address is usable"):
        look("127.0.0.1:1", "127.0.0.1:2")


def test_nothing_but_auth_is_sent_at_connect(secured: RedisServer) -> None:
    endpoint = Endpoint.from_params({"addresses": [secured.address], "password": PASSWORD})
    secured.execute("CONFIG", "RESETSTAT")
    before = set(secured.info("commandstats"))
    client = open_client(endpoint, endpoint.addresses[0])
    sock = open_socket(endpoint, endpoint.addresses[0])
    after = set(secured.info("commandstats"))
    sock.close()
    client.close()
    assert after - before <= {"cmdstat_auth", "cmdstat_info"}


def test_a_lost_client_stays_lost(secured: RedisServer) -> None:
    endpoint = Endpoint.from_params({"addresses": [secured.address], "password": PASSWORD})
    client = open_client(endpoint, endpoint.addresses[0])
    client.execute_command("SELECT", 5)
    secured.execute("CLIENT", "KILL", "TYPE", "normal")
    for _attempt in range(2):
        with pytest.raises(Exception, match="(?i)connection"):
            client.execute_command("DBSIZE")
    client.close()
