# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a backup consists of: which server is read for which shard, into which file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import FrozenSet, List, Optional, Tuple

from .._errors import ConnectError, ReplyError, ServerError, UsageError
from .._server.connect import call, open_client
from .._server.endpoint import Address, Endpoint
from .._server.permissions import disabled_by_proxy
from .._server.topology import Shard, Topology, read_info
from .._server.versions import Product, product_of, product_of_rdb

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Options:
    """What the user asked for. ``format`` rdb or aof, ``method`` auto, psync or scan, ``read_from`` master or replica.

    ``max_age`` in seconds, ``parallel`` shards at a time.
    """

    dest: str
    name: str = "dump"
    format: str = "rdb"
    method: str = "auto"
    read_from: str = "master"
    max_age: int = 0
    parallel: int = 4

    def check(self) -> None:
        """UsageError for a name that is no file name."""
        if not self.name or os.sep in self.name or self.name.startswith("."):
            raise UsageError("name %r" % self.name, "is not a plain file name", "Leave folders to dest, and do not begin it with a dot")
        if self.parallel < 1:
            raise UsageError("parallel %d" % self.parallel, "leaves nothing to work", "Use 1 or more")


@dataclass(frozen=True)
class Job:
    """One shard: read ``address`` (``master`` itself, or its replica) into ``path``. ``slots`` is empty outside Redis Cluster.

    ``importing``: slots that are being moved to this master, whose keys lie here already.
    """

    number: int
    path: str
    master: Address
    address: Address
    product: Product
    slots: Tuple[Tuple[int, int], ...] = ()
    importing: FrozenSet[int] = frozenset()
    proxied: bool = False  # a proxy whose nodes are not named

    @property
    def is_replica(self) -> bool:
        return self.address != self.master


def make_jobs(endpoint: Endpoint, topology: Topology, options: Options) -> List[Job]:
    """One job a shard.

    :raises UsageError: a proxy whose nodes were not named, and which does not do what is asked
    :raises ServerError: no usable replica, slots without a master, a master that does not answer
    """
    if not topology.shards:
        return [_through_proxy(endpoint, topology, options)]
    if topology.missing_slots:
        raise ReplyError(
            endpoint.label,
            "%d slots have no master, so their keys are out of reach" % topology.missing_slots,
            "Bring the missing masters back (CLUSTER INFO names the state) and run again",
        )
    clustered = topology.kind == "redis_cluster"
    jobs = []
    for number, shard in enumerate(topology.shards, 1):
        address, product = _reader(endpoint, shard, options.read_from)
        path = os.path.join(options.dest, file_name(options, number, len(topology.shards)))
        importing = importing_slots(endpoint, shard.master) if clustered else frozenset()
        jobs.append(Job(number, path, shard.master, address, product, shard.slots if clustered else (), importing))
    return jobs


def _through_proxy(endpoint: Endpoint, topology: Topology, options: Options) -> Job:
    """What stands behind a proxy is read key by key through it, where it lets us. UsageError."""
    proxy = topology.entry
    name_them = "Name the nodes behind it in source.shards"
    if options.method == "psync":
        raise UsageError(str(proxy), "is a proxy, which gives no replication stream", name_them + ", or set method to scan")
    if options.read_from == "replica":
        raise UsageError(str(proxy), "is a proxy, which names no replicas", name_them + ", or set read_from to master")
    lacking = sorted({"SCAN", "DUMP"} & set(disabled_by_proxy(endpoint, proxy)))
    if lacking:
        raise UsageError(
            str(proxy), "is a proxy: neither PSYNC nor SCAN reaches the data through it (it lacks %s)" % ", ".join(lacking), name_them
        )
    product = product_of(topology.info) if topology.info is not None else product_of_rdb(None)
    path = os.path.join(options.dest, file_name(options, 1, 1))
    return Job(1, path, proxy, proxy, product, proxied=True)


def file_name(options: Options, number: int, count: int) -> str:
    """``dump.rdb``; of several shards ``dump-shard-1-of-3.rdb``, in the order of their slots or as they were named.

    Addresses are left out on purpose: after a failover the same shard must replace the same file.
    """
    if count == 1:
        return "%s.%s" % (options.name, options.format)
    return "%s-shard-%0*d-of-%d.%s" % (options.name, len(str(count)), number, count, options.format)


def importing_slots(endpoint: Endpoint, master: Address) -> FrozenSet[int]:
    """Slots that are being moved to this node, from its own line of CLUSTER NODES; empty where that is refused."""
    client = open_client(endpoint, master)
    try:
        reply = call(client, "CLUSTER", "NODES")
    except redis.RedisError:
        return frozenset()
    finally:
        client.close()
    found = set()
    for line in reply.splitlines():
        words = line.split()
        if len(words) > 8 and b"myself" in words[2]:
            found.update(int(word[1:].split(b"-<-")[0]) for word in words[8:] if word.startswith(b"[") and b"-<-" in word)
    return frozenset(found)


def _reader(endpoint: Endpoint, shard: Shard, read_from: str) -> Tuple[Address, Product]:
    """The server to read: the master, or the first replica that has its master's data."""
    if read_from == "master":
        info = read_info(endpoint, shard.master)
        return shard.master, product_of(info) if info is not None else product_of_rdb(None)
    reasons = []
    for replica in shard.replicas:
        found, reason = _usable(endpoint, replica)
        if found is not None:
            return replica, found
        reasons.append("%s %s" % (replica, reason))
    raise ConnectError(
        str(shard.master),
        "has no replica that could be read: %s" % ("; ".join(reasons) or "it has none at all"),
        "Set read_from to master, or bring a replica up that this host can reach",
    )


def _usable(endpoint: Endpoint, replica: Address) -> Tuple[Optional[Product], str]:
    try:
        info = read_info(endpoint, replica)
    except ServerError as exc:
        return None, exc.why
    if info is None:
        return None, "does not answer INFO"
    if info.text("role") != "slave":
        return None, "is no replica"
    if info.text("master_link_status") != "up":
        return None, "has lost its master"
    return product_of(info), ""
