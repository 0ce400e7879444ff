# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raw access to any deployment: replies as the server sent them, any database, any node of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Union

import redis

Client = Union[redis.Redis, redis.RedisCluster]
# Commands in one pipeline: enough to hide the round trip, few enough not to pile up replies.
BATCH = 1000
BATCH_BYTES = 4 << 20


class Identity(NamedTuple):
    """Which server it is, which decides what it can hold."""

    product: str
    version: tuple[int, int]

    @property
    def streams(self) -> bool:
        return self.version >= (5, 0)

    @property
    def functions(self) -> bool:
        return self.version >= (7, 0)

    @property
    def field_expiry(self) -> bool:
        """Fields of hashes with an expiry of their own."""
        since = {"redis": (7, 4), "valkey": (9, 0)}.get(self.product)
        return since is not None and self.version >= since


def identify(client: redis.Redis) -> Identity:
    """Ask a server what it is."""
    info = client.info("server")
    for product in ("valkey", "redict"):
        if product + "_version" in info:
            return Identity(product, _short(info[product + "_version"]))
    return Identity("redis", _short(info["redis_version"]))


def _short(version: str) -> tuple[int, int]:
    major, minor = str(version).split(".")[:2]
    return int(major), int(minor)


@contextlib.contextmanager
def raw_client(client: redis.Redis, database: int | None = None) -> Iterator[redis.Redis]:
    """A client of the same server, in that database, that leaves replies as they came."""
    pool = client.connection_pool
    settings = dict(pool.connection_kwargs)
    if database is not None:
        settings["db"] = database
    raw = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **settings))
    raw.response_callbacks.clear()
    try:
        yield raw
    finally:
        raw.close()
        raw.connection_pool.disconnect()


class Writer:
    """Sends commands in pipelines to whichever node and database they belong."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cleanup = contextlib.ExitStack()
        self._raw: dict[tuple[str, int], redis.Redis] = {}
        self._waiting: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        self._bytes: dict[tuple[str, int], int] = {}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        with self._cleanup:
            if exc is None:
                self.flush()

    def write(self, database: int, key: bytes, *words: Any) -> None:
        """Send a command some time before ``flush`` returns, in order with others of that key."""
        place = self._place(database, key)
        self._waiting[place].append(words)
        self._bytes[place] += sum(len(word) for word in words if isinstance(word, (bytes, str)))
        if len(self._waiting[place]) >= BATCH or self._bytes[place] >= BATCH_BYTES:
            self._send(place)

    def everywhere(self, *words: Any) -> None:
        """Send a command without a key to every master."""
        for client in nodes(self._client):
            with raw_client(client) as raw:
                raw.execute_command(*words)

    def flush(self) -> None:
        for place in self._waiting:
            self._send(place)

    def _place(self, database: int, key: bytes) -> tuple[str, int]:
        if isinstance(self._client, redis.RedisCluster):
            node = self._client.nodes_manager.get_node_from_slot(self._client.keyslot(key), False)
            place = (node.name, database)
            client = self._client.get_redis_connection(node)
        else:
            place = ("", database)
            client = self._client
        if place not in self._raw:
            self._raw[place] = self._cleanup.enter_context(raw_client(client, database))
            self._waiting[place] = []
            self._bytes[place] = 0
        return place

    def _send(self, place: tuple[str, int]) -> None:
        commands, self._waiting[place], self._bytes[place] = self._waiting[place], [], 0
        if not commands:
            return
        pipeline = self._raw[place].pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        pipeline.execute()


def nodes(client: Client) -> list[redis.Redis]:
    """A client for each master."""
    if isinstance(client, redis.RedisCluster):
        return [client.get_redis_connection(node) for node in client.get_primaries()]
    return [client]
