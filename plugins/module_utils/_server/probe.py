# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Everything ``instance_info`` reports, gathered from every master. What is refused is None, not an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Tuple

from .clock import clock_skew
from .connect import call, open_client
from .endpoint import Address, Endpoint
from .info import Info, Keyspace, parse_info
from .permissions import Psync, disabled_by_proxy, disabled_commands, is_read_only, psync
from .topology import Topology, discover
from .versions import Capabilities, Product, capabilities, product_of, product_of_rdb, rdb_version_by_dump

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

_SETTINGS = (
    "databases",
    "cluster-databases",
    "maxmemory",
    "maxmemory-policy",
    "repl-timeout",
    "repl-backlog-size",
    "repl-diskless-sync",
    "client-output-buffer-limit",
    "rdbcompression",
    "rdbchecksum",
    "appendonly",
    "aof-use-rdb-preamble",
    "save",
    "proto-max-bulk-len",
)
_DATABASES_LIMIT = 1 << 16  # where the search for the number of databases ends


@dataclass(frozen=True)
class Node:
    """What one server says about itself; ``settings`` is empty where CONFIG is refused."""

    address: Address
    info: Info
    settings: Dict[str, str]
    clock_skew_ms: Optional[int]

    def setting(self, name: str) -> Optional[str]:
        return self.settings.get(name)

    def number(self, setting: str, info_field: str = "") -> Optional[int]:
        """A number from CONFIG, else from INFO."""
        value = self.settings.get(setting, "")
        if value.lstrip("-").isdigit():
            return int(value)
        return self.info.number(info_field) if info_field else None


@dataclass(frozen=True)
class Instance:
    """One probed deployment. Sizes are bytes, sums over the masters; None means: not to be had."""

    provider: str
    label: str
    tls: bool
    topology: Topology
    product: Product
    capabilities: Capabilities
    mode: Optional[str] = None
    nodes: Tuple[Node, ...] = ()
    databases: Optional[Tuple[Keyspace, ...]] = None
    databases_max: Optional[int] = None
    used_memory: Optional[int] = None
    maxmemory: Optional[int] = None
    maxmemory_policy: Optional[str] = None
    evicted_keys: Optional[int] = None
    psync: Psync = Psync(None, "not asked")
    modules: Optional[Tuple[Dict[str, Any], ...]] = None
    functions: Optional[int] = None
    disabled_commands: Tuple[str, ...] = ()
    read_only: bool = False
    clock_skew_ms: Optional[int] = None
    persistence: Dict[str, Any] = field(default_factory=dict)
    replication: Dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> Optional[int]:
        """Keys in all databases of all masters."""
        return None if self.databases is None else sum(item.keys for item in self.databases)

    def as_dict(self) -> Dict[str, Any]:
        """The ``instance`` that the modules return."""
        return {
            "provider": self.provider,
            "product": self.product.name,
            "version": self.product.version or None,
            "compatible_version": ".".join(map(str, self.product.compatible)) or None,
            "rdb_version": self.product.rdb_version,
            "mode": self.mode,
            "topology": self.topology.kind,
            "tls": self.tls,
            "cluster_enabled": self.topology.kind == "redis_cluster",
            "missing_slots": self.topology.missing_slots,
            "shards": [
                {
                    "master": str(shard.master),
                    "replicas": [str(replica) for replica in shard.replicas],
                    "slots": [list(pair) for pair in shard.slots],
                }
                for shard in self.topology.shards
            ],
            "databases": None if self.databases is None else [item._asdict() for item in self.databases],
            "databases_max": self.databases_max,
            "keys": self.keys,
            "used_memory": self.used_memory,
            "maxmemory": self.maxmemory,
            "maxmemory_policy": self.maxmemory_policy,
            "evicted_keys": self.evicted_keys,
            "psync": self.psync._asdict(),
            "modules": None if self.modules is None else list(self.modules),
            "functions": self.functions,
            "disabled_commands": list(self.disabled_commands),
            "read_only": self.read_only,
            "clock_skew_ms": self.clock_skew_ms,
            "persistence": self.persistence,
            "replication": self.replication,
            "capabilities": self.capabilities.as_dict(),
        }


def probe(endpoint: Endpoint) -> Instance:
    """Look at a deployment; nothing of its data changes.

    (A proxy that hides its version may get a probe key for a moment: see ``rdb_version_by_dump``.)
    Errors: as ``topology.discover``, and ServerError for a master that does not answer.
    """
    topology = discover(endpoint)
    nodes = tuple(_look(endpoint, address) for address in topology.masters)
    if nodes:
        return _instance(endpoint, topology, nodes)
    return _behind_proxy(endpoint, topology)


def _instance(endpoint: Endpoint, topology: Topology, nodes: Tuple[Node, ...]) -> Instance:
    first = nodes[0]
    product = product_of(first.info)
    if product.rdb_version is None:
        rdb_version = rdb_version_by_dump(endpoint, first.address)
        product = replace(product, rdb_version=rdb_version) if product.compatible else product_of_rdb(rdb_version)
    proxied = topology.kind == "proxy_cluster"
    if proxied:
        disabled = disabled_by_proxy(endpoint, topology.entry)
    else:
        disabled = disabled_commands(endpoint, first.address, product)
        if not first.info.fields:
            disabled = tuple(sorted((*disabled, "INFO")))
    return Instance(
        provider=endpoint.provider,
        label=endpoint.label,
        tls=endpoint.tls,
        topology=topology,
        product=product,
        capabilities=capabilities(product),
        mode=first.info.text("redis_mode") or first.info.text("server_mode") or None,
        nodes=nodes,
        databases=_merge_keyspaces([node.info for node in nodes]) if all("keyspace" in node.info.sections for node in nodes) else None,
        databases_max=_databases_max(endpoint, topology, first),
        used_memory=_sum(node.info.number("used_memory") for node in nodes),
        maxmemory=_sum(node.number("maxmemory", "maxmemory") for node in nodes),
        maxmemory_policy=first.setting("maxmemory-policy") or first.info.text("maxmemory_policy") or None,
        evicted_keys=_sum(node.info.number("evicted_keys") for node in nodes),
        psync=_all_psync(endpoint, nodes, product),
        modules=_modules(endpoint, first),
        functions=_functions(endpoint, first.address) if product.compatible >= (7, 0) else None,
        disabled_commands=disabled,
        read_only=any(is_read_only(endpoint, node.address, product) for node in nodes),
        clock_skew_ms=_largest(node.clock_skew_ms for node in nodes),
        persistence=_persistence(first),
        replication=_replication(first),
    )


def _behind_proxy(endpoint: Endpoint, topology: Topology) -> Instance:
    """A proxy whose nodes were not named: what INFO tells, else what a DUMP footer tells."""
    info = topology.info
    product = product_of(info) if info is not None else product_of_rdb(None)
    if product.rdb_version is None:
        rdb_version = rdb_version_by_dump(endpoint, topology.entry)
        product = replace(product, rdb_version=rdb_version) if product.compatible else product_of_rdb(rdb_version)
    node = _look(endpoint, topology.entry, info)
    disabled = disabled_by_proxy(endpoint, topology.entry)
    keyspace = None if info is None or "keyspace" not in info.sections else _merge_keyspaces([info])
    return Instance(
        provider=endpoint.provider,
        label=endpoint.label,
        tls=endpoint.tls,
        topology=topology,
        product=product,
        capabilities=capabilities(product),
        mode=(info.text("redis_mode") or None) if info is not None else None,
        nodes=(),
        databases=keyspace,
        databases_max=1 if "SELECT" in disabled else _databases_by_select(endpoint, topology.entry),
        used_memory=node.info.number("used_memory"),
        maxmemory=node.number("maxmemory", "maxmemory"),
        maxmemory_policy=node.setting("maxmemory-policy") or node.info.text("maxmemory_policy") or None,
        psync=Psync(False, "the nodes behind the proxy are not known: name them in shards"),
        disabled_commands=disabled,
        clock_skew_ms=node.clock_skew_ms,
        persistence=_persistence(node),
        replication=_replication(node),
    )


def _look(endpoint: Endpoint, address: Address, info: Optional[Info] = None) -> Node:
    """Ask one address for INFO, CONFIG and TIME, each on its own connection where it may end one."""
    if info is None:
        reply = _ask(endpoint, address, "INFO")
        info = parse_info(reply) if reply is not None else Info({})
    return Node(address, info, _settings(endpoint, address), clock_skew(endpoint, address))


def _ask(endpoint: Endpoint, address: Address, *words: Any) -> Any:
    """One command on one connection; None where it is refused. Errors: ServerError while connecting."""
    client = open_client(endpoint, address)
    try:
        return call(client, *words)
    except redis.RedisError:
        return None
    finally:
        client.close()


def _settings(endpoint: Endpoint, address: Address) -> Dict[str, str]:
    """CONFIG GET of what matters; the first refusal ends it."""
    found: Dict[str, str] = {}
    client = open_client(endpoint, address)
    try:
        for name in _SETTINGS:
            reply = call(client, "CONFIG", "GET", name)
            if isinstance(reply, list) and len(reply) >= 2:
                found[name] = reply[1].decode("utf-8", "replace")
    except redis.RedisError:
        return found
    finally:
        client.close()
    return found


def _all_psync(endpoint: Endpoint, nodes: Tuple[Node, ...], product: Product) -> Psync:
    """Supported only where every master allows it; the first refusal is the reason."""
    if () < product.compatible < (2, 8) or product.name in ("dragonfly", "garnet", "kvrocks", "pika"):
        return Psync(False, "%s %s does not offer PSYNC" % (product.name, product.version))
    verdict = Psync(None, "not asked")
    for node in nodes:
        verdict = psync(endpoint, node.address, product)
        if not verdict.supported:
            return Psync(verdict.supported, "%s: %s" % (node.address, verdict.reason))
    return verdict


def _merge_keyspaces(infos: List[Info]) -> Tuple[Keyspace, ...]:
    """Databases by number, keys and expires summed over the masters."""
    merged: Dict[int, Keyspace] = {}
    for info in infos:
        for item in info.keyspace():
            known = merged.get(item.db, Keyspace(item.db, 0, 0))
            merged[item.db] = Keyspace(item.db, known.keys + item.keys, known.expires + item.expires)
    return tuple(merged[db] for db in sorted(merged))


def _databases_max(endpoint: Endpoint, topology: Topology, node: Node) -> Optional[int]:
    """How many databases there are; a Redis Cluster has one, but Valkey 9 may have more."""
    if topology.kind == "redis_cluster":
        return node.number("cluster-databases") or _databases_by_select(endpoint, node.address) or 1
    if topology.kind == "proxy_cluster":
        return _databases_by_select(endpoint, topology.entry)
    return node.number("databases") or _databases_by_select(endpoint, node.address)


def _databases_by_select(endpoint: Endpoint, address: Address) -> Optional[int]:
    """Search for the highest database that SELECT accepts; None where SELECT 0 is refused already."""
    client = open_client(endpoint, address)

    def exists(db: int) -> bool:
        try:
            return call(client, "SELECT", db) == b"OK"
        except redis.ResponseError:
            return False

    try:
        if not exists(0):
            return None
        low, high = 0, 1
        while high < _DATABASES_LIMIT and exists(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if exists(middle) else (low, middle)
        return low + 1
    except (redis.ConnectionError, redis.TimeoutError):
        return None
    finally:
        client.close()


def _modules(endpoint: Endpoint, node: Node) -> Optional[Tuple[Dict[str, Any], ...]]:
    """Loaded modules as ``{name, version}``; None where the server will not say."""
    if node.info.modules:
        rows = [dict(part.split("=", 1) for part in text.split(",") if "=" in part) for text in node.info.modules]
        return tuple({"name": row.get("name", "unknown"), "version": _number(row.get("ver"))} for row in rows)
    if "modules" in node.info.sections:
        return ()
    reply = _ask(endpoint, node.address, "MODULE", "LIST")
    if reply is None:
        return () if product_of(node.info).compatible < (4, 0) else None
    found = []
    for row in reply:
        named = dict(zip(row[::2], row[1::2]))
        found.append({"name": named.get(b"name", b"unknown").decode("utf-8", "replace"), "version": named.get(b"ver")})
    return tuple(found)


def _functions(endpoint: Endpoint, address: Address) -> Optional[int]:
    """How many function libraries are loaded."""
    reply = _ask(endpoint, address, "FUNCTION", "LIST")
    return len(reply) if isinstance(reply, list) else None


def _persistence(node: Node) -> Dict[str, Any]:
    return {
        "rdbcompression": _yes(node.setting("rdbcompression")),
        "rdbchecksum": _yes(node.setting("rdbchecksum")),
        "appendonly": _yes(node.setting("appendonly")) if node.setting("appendonly") else _aof(node.info),
        "aof_use_rdb_preamble": _yes(node.setting("aof-use-rdb-preamble")),
        "save": node.setting("save"),
        "last_save": node.info.number("rdb_last_save_time"),
        "bgsave_in_progress": _bit(node.info, "rdb_bgsave_in_progress"),
        "loading": _bit(node.info, "loading"),
    }


def _replication(node: Node) -> Dict[str, Any]:
    return {
        "role": node.info.text("role") or None,
        "replication_id": node.info.text("master_replid") or None,
        "offset": node.info.number("master_repl_offset"),
        "backlog_size": node.number("repl-backlog-size", "repl_backlog_size"),
        "repl_timeout": node.number("repl-timeout"),
        "diskless": _yes(node.setting("repl-diskless-sync")),
        "output_buffer_limit": output_buffer_limit(node.setting("client-output-buffer-limit")),
    }


def output_buffer_limit(setting: Optional[str]) -> Optional[Dict[str, int]]:
    """The replica class of ``client-output-buffer-limit``: hard and soft limit in bytes, seconds over the soft one."""
    words = (setting or "").split()
    for index, word in enumerate(words[:-3]):
        if word in ("slave", "replica"):
            hard, soft, seconds = (_number(text) or 0 for text in words[index + 1 : index + 4])
            return {"hard": hard, "soft": soft, "seconds": seconds}
    return None


def _aof(info: Info) -> Optional[bool]:
    return _bit(info, "aof_enabled")


def _bit(info: Info, name: str) -> Optional[bool]:
    return None if info.number(name) is None else info.flag(name)


def _yes(setting: Optional[str]) -> Optional[bool]:
    return None if setting is None else setting == "yes"


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.lstrip("-").isdigit() else None


def _sum(numbers: Any) -> Optional[int]:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _largest(numbers: Any) -> Optional[int]:
    known = [number for number in numbers if number is not None]
    return max(known, key=abs) if known else None
