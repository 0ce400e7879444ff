# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Redis Cluster of real servers, put together without redis-cli (which no wheel carries for every version)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from .process import wait_until
from .redis_server import CLIENT_SECONDS, Config, RedisServer, ServerHandle, _SILENT

SLOTS = 16384
# Long enough for a loaded machine, short enough for a test of a failover.
NODE_TIMEOUT_MS = 5000


class RedisCluster(ServerHandle):
    """Masters with the slots shared out evenly, and ``replicas`` of each."""

    def __init__(
        self,
        name: str,
        masters: int = 3,
        replicas: int = 0,
        *,
        password: str | None = None,
        config: Config | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.password = password
        settings = {"cluster-node-timeout": NODE_TIMEOUT_MS, **(config or {})}
        self.nodes = [
            RedisServer(name, config=settings, password=password, rename=rename, cluster=True)
            for _number in range(masters * (1 + replicas))
        ]
        self.masters = self.nodes[:masters]
        self.replicas = self.nodes[masters:]
        self.product, self.version = self.nodes[0].product, self.nodes[0].version

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> RedisCluster:
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes, 1):
            # Without an epoch of its own each node would have to fight for one, which takes seconds.
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number)
        share = SLOTS / len(self.masters)
        for number, node in enumerate(self.masters):
            first, last = round(share * number), round(share * (number + 1))
            node.execute("CLUSTER", "ADDSLOTS", *range(first, last))
        for node in self.nodes[1:]:
            self.nodes[0].execute("CLUSTER", "MEET", "127.0.0.1", node.port)
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes know each other")
        self._attach_replicas()
        wait_until(lambda: all(self._healthy(node) for node in self.nodes), "cluster_state:ok on every node")
        return self

    def _attach_replicas(self) -> None:
        for number, node in enumerate(self.replicas):
            node.execute("CLUSTER", "REPLICATE", self.node_id(self.masters[number % len(self.masters)]))
        for node in self.replicas:
            node.wait_for_link()

    def _knows_all(self, node: RedisServer) -> bool:
        lines = self._node_lines(node)
        settled = [line for line in lines if b"handshake" not in line[2] and b"noaddr" not in line[2]]
        return len(settled) == len(self.nodes)

    def _healthy(self, node: RedisServer) -> bool:
        info = bytes(node.execute("CLUSTER", "INFO"))
        slaves = sum(1 for line in self._node_lines(node) if b"slave" in line[2])
        return b"cluster_state:ok" in info and b"slots_ok:%d" % SLOTS in info and slaves == len(self.replicas)

    def _node_lines(self, node: RedisServer) -> list[list[bytes]]:
        text = bytes(node.execute("CLUSTER", "NODES"))
        return [line.split(b" ") for line in text.splitlines()]

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def revive(self) -> None:
        """Start the nodes that do not run."""
        for node in self.nodes:
            node.revive()
        wait_until(lambda: all(self._healthy(node) for node in self.nodes), "cluster_state:ok on every node")

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        super().close()

    # -- use -------------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Of the masters it began with."""
        return [node.address for node in self.masters]

    def clients(self) -> list[redis.Redis]:
        """One client for each node that is a master now."""
        return [node.client() for node in self.nodes if node.process.running and self._is_master(node)]

    def _is_master(self, node: RedisServer) -> bool:
        return node.info("replication")["role"] == "master"

    def client(self, **options: Any) -> redis.RedisCluster:
        """redis-py's cluster client; close it yourself."""
        settings: dict[str, Any] = {"host": "127.0.0.1", "port": self.nodes[0].port, "password": self.password}
        silent = {**_SILENT, "protocol": 2, "socket_timeout": CLIENT_SECONDS}
        return redis.RedisCluster(**{**settings, **silent, **options})

    def flush(self) -> None:
        """Empty every master, of functions too."""
        for node in self.nodes:
            if self._is_master(node):
                node.flush()

    def node_id(self, node: RedisServer) -> str:
        for line in self._node_lines(node):
            if b"myself" in line[2]:
                return line[0].decode()
        raise LookupError("%s does not know itself" % node.address)

    def owner(self, slot: int) -> RedisServer:
        """The node that says it owns the slot."""
        for node in self.nodes:
            if node.process.running and self.owns(node, slot):
                return node
        raise LookupError("nobody owns slot %d" % slot)

    def owns(self, node: RedisServer, slot: int) -> bool:
        """Whether the node says so. While a slot changes hands nobody may."""
        lines = [line for line in self._node_lines(node) if b"myself" in line[2]]
        return any(slot in _slot_range(word) for line in lines for word in line[8:])

    def owner_of_key(self, key: bytes) -> RedisServer:
        return self.owner(int(self.nodes[0].execute("CLUSTER", "KEYSLOT", key)))

    def begin_move(self, slot: int, to: RedisServer) -> RedisServer:
        """Put a slot into migration, which makes its keys answer with ASK; return its owner."""
        owner = self.owner(slot)
        to.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(owner))
        owner.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(to))
        return owner

    def move_keys(self, slot: int, to: RedisServer, count: int = 1_000_000) -> int:
        """Move up to ``count`` keys of a slot in migration; how many there were."""
        owner = self.owner(slot)
        keys = owner.execute("CLUSTER", "GETKEYSINSLOT", slot, count)
        login = ["AUTH", self.password] if self.password else []
        for key in keys:
            owner.execute("MIGRATE", "127.0.0.1", to.port, key, 0, 10000, *login)
        return len(keys)

    def move_slot(self, slot: int, to: RedisServer) -> None:
        """Give a slot with its keys to another master, as a resharding does."""
        owner = self.begin_move(slot, to)
        while self.move_keys(slot, to):
            pass
        identity = self.node_id(to)
        for node in (to, owner, *(one for one in self.masters if one not in (to, owner))):
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", identity)


def _slot_range(word: bytes) -> range:
    if word.startswith(b"["):
        return range(0)
    first, _dash, last = word.partition(b"-")
    return range(int(first), int(last or first) + 1)
