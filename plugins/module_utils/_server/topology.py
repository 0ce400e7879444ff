# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which masters a deployment consists of, and what each owns."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple

from .._errors import AuthError, ConnectError, LostError, ReplyError, ServerError, UsageError
from .connect import call, open_client, translate
from .endpoint import Address, Endpoint
from .info import Info, parse_info

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

SLOT_COUNT = 16384
_HANG_UPS = 3  # connections that have to end before it is no accident
_MAX_HOPS = 8  # replicas of replicas of ...: deeper chains are a loop


@dataclass(frozen=True)
class Shard:
    """One master and what it owns; ``slots`` are inclusive ranges, empty outside Redis Cluster."""

    master: Address
    replicas: Tuple[Address, ...] = ()
    slots: Tuple[Tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Topology:
    """What ``discover`` found.

    ``kind`` is single, master_standby, proxy_cluster or redis_cluster. ``entry`` is the address that answered:
    the proxy of a proxy cluster, a master elsewhere. ``shards`` holds the real masters; it is empty behind a
    proxy whose nodes were not named. ``info`` is the INFO of ``entry``, None where it is not to be had: of a proxy, or of a
    server whose kind the user set.
    """

    kind: str
    entry: Address
    shards: Tuple[Shard, ...] = ()
    info: Optional[Info] = None

    @property
    def masters(self) -> Tuple[Address, ...]:
        return tuple(shard.master for shard in self.shards)

    @property
    def missing_slots(self) -> int:
        """How many slots of a Redis Cluster have no master, 0 elsewhere."""
        if self.kind != "redis_cluster":
            return 0
        return SLOT_COUNT - sum(last - first + 1 for shard in self.shards for first, last in shard.slots)


def discover(endpoint: Endpoint) -> Topology:
    """Find the deployment's masters, replicas and slots.

    Asks the addresses in order until one answers. Errors: ConnectError (none answers; names each), AuthError,
    ReplyError, UsageError (``topology`` says otherwise than the servers do).
    """
    if endpoint.sentinel_service:
        return _discover_sentinel(endpoint)
    if endpoint.shards:
        return _discover_named_shards(endpoint)
    failures: List[ServerError] = []
    standby: Optional[Tuple[Address, Info]] = None
    for address in endpoint.addresses:
        try:
            info = read_info(endpoint, address)
        except (ConnectError, LostError) as exc:
            failures.append(exc)
            continue
        if info is not None and info.text("redis_mode") == "sentinel":
            raise UsageError(str(address), "is a Sentinel", "Set sentinel_service to the name of the master it watches")
        if info is None and endpoint.topology in ("single", "master_standby") and _goes_on_without_info(endpoint, address):
            return Topology(endpoint.topology, address, (Shard(address),))
        if info is None or endpoint.topology == "proxy_cluster" or info.is_proxy:
            return _proxy(endpoint, address, info)
        if info.flag("cluster_enabled"):
            return _discover_cluster(endpoint, address, info)
        if info.text("role") != "slave":
            return _single(endpoint, address, info)
        standby = standby or (address, info)  # one of the other addresses is likely its master
    if standby is not None:
        return _single(endpoint, *_follow(endpoint, *standby), was_replica=True)
    _raise_unreachable(endpoint, failures)


def read_info(endpoint: Endpoint, address: Address) -> Optional[Info]:
    """INFO of one address; None where INFO is refused but the address speaks Redis (a proxy).

    Errors: ConnectError, LostError, AuthError, ReplyError.
    """
    client = open_client(endpoint, address)
    try:
        try:
            if call(client, "PING") != b"PONG":
                raise ReplyError(str(address), "does not answer PING like a Redis server")
        except redis.RedisError as exc:
            _raise_unless_forbidden(exc, address, endpoint)
        try:
            return parse_info(call(client, "INFO"))
        except redis.ResponseError as exc:
            if isinstance(exc, redis.exceptions.NoPermissionError):
                raise translate(exc, address, "INFO") from exc
            return None
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            if isinstance(exc, (redis.AuthenticationError, redis.BusyLoadingError, redis.TimeoutError)):
                raise translate(exc, address, "INFO") from exc
            if not _hangs_up(endpoint, address):
                raise translate(exc, address, "INFO") from exc
            return None
    finally:
        client.close()


def _hangs_up(endpoint: Endpoint, address: Address) -> bool:
    """Whether it closes the connection on a command that it does not know, as twemproxy does.

    A network that breaks at the wrong moment looks the same, and must not turn a server into a proxy: so it has to happen each time.
    """
    for attempt in range(_HANG_UPS):
        # What breaks connections for a moment gets the chance to be over.
        time.sleep(0.05 * attempt)
        client = open_client(endpoint, address)
        well = False
        try:
            well = call(client, "PING") == b"PONG"
            # Unlike INFO's, this reply is too short to be cut in two.
            call(client, "ECHO", "hello")
            return False
        except redis.ConnectionError:
            if not well:
                return False
        except redis.RedisError:
            return False
        finally:
            client.close()
    return True


def _goes_on_without_info(endpoint: Endpoint, address: Address) -> bool:
    """Whether it is a server whose INFO is disabled, as its owner says: the connection lasts, and other commands are known."""
    client = open_client(endpoint, address)
    try:
        try:
            call(client, "INFO")
        except redis.ResponseError:
            pass
        return call(client, "ECHO", "hello") == b"hello"
    except redis.RedisError:
        return False
    finally:
        client.close()


def _raise_unless_forbidden(exc: Exception, address: Address, endpoint: Endpoint) -> None:
    """PING may be refused by an ACL that allows what is needed; everything else about it is final."""
    if isinstance(exc, redis.exceptions.NoPermissionError):
        return
    error = translate(exc, address, "PING", tls=endpoint.tls)
    if isinstance(error, LostError):
        raise ConnectError(error.what, error.why, error.remedy) from exc
    raise error from exc


def _proxy(endpoint: Endpoint, address: Address, info: Optional[Info]) -> Topology:
    if endpoint.topology not in ("auto", "proxy_cluster"):
        raise UsageError(
            str(address),
            "topology is set to %s, but it answers like a proxy" % endpoint.topology,
            "Set topology to proxy_cluster or auto",
        )
    return Topology("proxy_cluster", address, (), info)


def _single(endpoint: Endpoint, address: Address, info: Info, was_replica: bool = False) -> Topology:
    if endpoint.topology == "redis_cluster":
        raise UsageError(
            str(address), "topology is set to redis_cluster, but cluster support is off", "Set topology to auto"
        )
    replicas = info.replicas()
    kind = endpoint.topology
    if kind == "auto":
        kind = "master_standby" if replicas or was_replica else "single"
    return Topology(kind, address, (Shard(address, replicas),), info)


def _follow(endpoint: Endpoint, address: Address, info: Info) -> Tuple[Address, Info]:
    """From a replica to its master."""
    replica = address
    for _hop in range(_MAX_HOPS):
        if info.text("role") != "slave":
            return address, info
        address = Address(info.text("master_host"), info.number("master_port") or 0)
        try:
            master_info = read_info(endpoint, address)
        except ConnectError as exc:
            raise ConnectError(
                str(replica),
                "is a replica, and its master %s cannot be reached from here (%s)" % (address, exc.why),
                "Give the address of the master as this host sees it",
            ) from exc
        if master_info is None:
            raise ReplyError(str(address), "is a master that does not answer INFO", "Allow INFO for this user")
        info = master_info
    raise ReplyError(str(replica), "its replication chain has no master", "Promote a master with REPLICAOF NO ONE")


def _discover_named_shards(endpoint: Endpoint) -> Topology:
    """A proxy whose real nodes the user named: look inside, keep the proxy as the entry."""
    direct = replace(endpoint, topology="auto")
    shards: List[Shard] = []
    for address in endpoint.shards:
        info = read_info(direct, address)
        if info is None:
            raise UsageError(str(address), "is named in shards but does not answer INFO", "Name the real nodes behind the proxy")
        if info.flag("cluster_enabled"):
            shards = list(_cluster_shards(direct, address))
            break
        was_replica = info.text("role") == "slave"
        found = _single(direct, *(_follow(direct, address, info) if was_replica else (address, info)))
        if found.shards[0].master not in [shard.master for shard in shards]:
            shards.extend(found.shards)
    failures: List[ServerError] = []
    for entry in endpoint.addresses:
        try:
            return Topology("proxy_cluster", entry, tuple(shards), read_info(endpoint, entry))
        except (ConnectError, LostError) as exc:
            failures.append(exc)
    _raise_unreachable(endpoint, failures)


def _discover_cluster(endpoint: Endpoint, address: Address, info: Info) -> Topology:
    if endpoint.topology in ("single", "master_standby"):
        raise UsageError(
            str(address),
            "topology is set to %s, but it is a node of a Redis Cluster" % endpoint.topology,
            "Set topology to redis_cluster or auto",
        )
    try:
        shards = _cluster_shards(endpoint, address)
    except ReplyError:
        if endpoint.topology == "redis_cluster" or endpoint.provider == "self_hosted":
            raise
        return _proxy(endpoint, address, info)  # managed proxies pass a node's INFO through but not CLUSTER
    return Topology("redis_cluster", address, shards, info)


def _cluster_shards(endpoint: Endpoint, address: Address) -> Tuple[Shard, ...]:
    """CLUSTER SLOTS of one node, by master. Errors: ServerError."""
    client = open_client(endpoint, address)
    try:
        return shards_from_slots(call(client, "CLUSTER", "SLOTS"), address)
    except redis.RedisError as exc:
        raise translate(exc, address, "CLUSTER SLOTS", tls=endpoint.tls) from exc
    finally:
        client.close()


def shards_from_slots(rows: Sequence[Any], asked: Address) -> Tuple[Shard, ...]:
    """Group ``CLUSTER SLOTS`` rows ``[first, last, master, replica...]`` by master, ordered by first slot."""
    replicas: Dict[Address, List[Address]] = {}
    slots: Dict[Address, List[Tuple[int, int]]] = {}
    for first, last, master, *others in sorted(rows, key=lambda row: row[0]):
        owner = _node_address(master, asked)
        slots.setdefault(owner, []).append((int(first), int(last)))
        known = replicas.setdefault(owner, [])
        for other in others:
            node = _node_address(other, asked)
            if node not in known:
                known.append(node)
    if not slots:
        raise ReplyError(str(asked), "is a cluster node that knows no slots", "Join it to its cluster, or give another node")
    return tuple(Shard(owner, tuple(replicas[owner]), tuple(slots[owner])) for owner in slots)


def _node_address(node: Sequence[Any], asked: Address) -> Address:
    """``[host, port, id, [metadata...]]``: an unknown host (null, empty, ``?``) is the one we asked, or its ``ip``."""
    host = node[0].decode() if node[0] else ""
    if host in ("", "?") and len(node) > 3 and node[3]:
        metadata = dict(zip(node[3][::2], node[3][1::2]))
        host = metadata.get(b"ip", b"").decode() or host
    return Address(asked.host if host in ("", "?") else host, int(node[1]))


def _discover_sentinel(endpoint: Endpoint) -> Topology:
    """Ask each Sentinel for the master until one names a server that says it is one."""
    failures: List[ServerError] = []
    for sentinel in endpoint.addresses:
        try:
            master, replicas = _ask_sentinel(endpoint, sentinel)
            info = read_info(endpoint, master)
        except ServerError as exc:
            failures.append(exc)
            continue
        if info is not None and info.text("role") == "master":
            shard = Shard(master, replicas or info.replicas())
            return Topology(_sentinel_kind(endpoint), master, (shard,), info)
        failures.append(
            ReplyError(str(sentinel), "names %s, which is no master now" % str(master), "Wait for the failover to end and run again")
        )
    _raise_unreachable(endpoint, failures)


def _sentinel_kind(endpoint: Endpoint) -> str:
    return "master_standby" if endpoint.topology == "auto" else endpoint.topology


def _ask_sentinel(endpoint: Endpoint, sentinel: Address) -> Tuple[Address, Tuple[Address, ...]]:
    """Master and usable replicas as one Sentinel knows them. Errors: ServerError."""
    client = _open_sentinel(endpoint, sentinel)
    service = endpoint.sentinel_service or ""
    try:
        reply = call(client, "SENTINEL", "get-master-addr-by-name", service)
        if not reply:
            raise ReplyError(str(sentinel), "does not watch a master named %s" % service, "Check sentinel_service")
        rows = call(client, "SENTINEL", "slaves", service)  # the name every version knows
    except redis.RedisError as exc:
        raise translate(exc, sentinel, "SENTINEL", tls=endpoint.tls) from exc
    finally:
        client.close()
    return Address(reply[0].decode(), int(reply[1])), tuple(_sentinel_replicas(rows))


def _open_sentinel(endpoint: Endpoint, sentinel: Address) -> redis.Redis:
    """Log in with the endpoint's credentials; a Sentinel that refuses them may well want none."""
    try:
        return open_client(endpoint, sentinel)
    except AuthError:
        return open_client(replace(endpoint, username=None, password=None), sentinel)


def _sentinel_replicas(rows: Sequence[Any]) -> List[Address]:
    found = []
    for row in rows:
        fields = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2]))
        if b"s_down" not in fields.get(b"flags", b"") and b"disconnected" not in fields.get(b"flags", b""):
            found.append(Address(fields[b"ip"].decode(), int(fields[b"port"])))
    return found


def _raise_unreachable(endpoint: Endpoint, failures: List[ServerError]) -> NoReturn:
    """The one failure as it is, several as a list."""
    if len(failures) == 1:
        raise failures[0]
    remedies = []
    for failure in failures:
        if failure.remedy and failure.remedy not in remedies:
            remedies.append(failure.remedy)
    raise ConnectError(
        endpoint.label,
        "no address is usable: " + "; ".join("%s %s" % (f.what, f.why) for f in failures),
        ". ".join(remedies),
    )


__all__ = ["SLOT_COUNT", "Shard", "Topology", "discover", "read_info", "shards_from_slots"]
