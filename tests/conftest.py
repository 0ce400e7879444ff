# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures that give tests real servers. A server that cannot be had is an error, never a skipped test.

``server``, ``cluster``, ``twemproxy``, ``sentinel`` and ``tcp_proxy`` start afresh and end with the test;
``shared_server`` and ``shared_cluster`` live as long as the run and come emptied.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.servers import (
    RedisCluster,
    RedisServer,
    S3Server,
    Sentinel,
    TcpProxy,
    Twemproxy,
)


def _factory(kind: Callable[..., Any], stack: contextlib.ExitStack) -> Callable[..., Any]:
    def start(*arguments: Any, **options: Any) -> Any:
        return stack.enter_context(kind(*arguments, **options))

    return start


@pytest.fixture
def server() -> Iterator[Callable[..., RedisServer]]:
    """``server(name, **options)``: a fresh server."""
    with contextlib.ExitStack() as stack:
        yield _factory(RedisServer, stack)


@pytest.fixture
def cluster() -> Iterator[Callable[..., RedisCluster]]:
    """``cluster(name, masters=3, replicas=0, **options)``: a fresh Redis Cluster. Takes two seconds and more."""
    with contextlib.ExitStack() as stack:
        yield _factory(RedisCluster, stack)


@pytest.fixture
def sentinel() -> Iterator[Callable[..., Sentinel]]:
    """``sentinel(name, master, **options)``."""
    with contextlib.ExitStack() as stack:
        yield _factory(Sentinel, stack)


@pytest.fixture
def twemproxy() -> Iterator[Callable[..., Twemproxy]]:
    """``twemproxy(backends, **options)``. It comes from Debian, so the test is one of the matrix."""
    with contextlib.ExitStack() as stack:
        yield _factory(Twemproxy, stack)


@pytest.fixture
def tcp_proxy() -> Iterator[Callable[..., TcpProxy]]:
    """``tcp_proxy("host:port")``: a network to break."""
    with contextlib.ExitStack() as stack:
        yield _factory(TcpProxy, stack)


class _Shared:
    """Servers of the whole run, by name and number; brought back when a test killed one."""

    def __init__(self, kind: Callable[..., Any], stack: contextlib.ExitStack) -> None:
        self._kind = kind
        self._stack = stack
        self._started: dict[tuple[str, int], Any] = {}

    def get(self, name: str, number: int) -> Any:
        place = (name, number)
        if place not in self._started:
            self._started[place] = self._stack.enter_context(self._kind(name))
        return self._started[place]


@pytest.fixture(scope="session")
def _shared_servers() -> Iterator[_Shared]:
    with contextlib.ExitStack() as stack:
        yield _Shared(RedisServer, stack)


@pytest.fixture(scope="session")
def _shared_clusters() -> Iterator[_Shared]:
    with contextlib.ExitStack() as stack:
        yield _Shared(RedisCluster, stack)


def _emptied(shared: _Shared) -> Callable[..., Any]:
    seen = set()

    def get(name: str, number: int = 0) -> Any:
        found = shared.get(name, number)
        if (name, number) not in seen:
            seen.add((name, number))
            found.revive()
            found.flush()
        return found

    return get


@pytest.fixture
def shared_server(_shared_servers: _Shared) -> Callable[..., RedisServer]:
    """``shared_server(name, number=0)``: a running server, emptied; do not change its settings."""
    return _emptied(_shared_servers)


@pytest.fixture
def shared_cluster(_shared_clusters: _Shared) -> Callable[..., RedisCluster]:
    """``shared_cluster(name, number=0)``: three masters, emptied; do not move its slots."""
    return _emptied(_shared_clusters)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """An S3 service; take a bucket of your own from ``bucket``. Not one for the whole run: rclone keeps spinning after uploads that were cut off."""
    with S3Server() as service:
        yield service


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The name of a new, empty bucket in ``s3``."""
    name = "test-" + uuid.uuid4().hex[:20]
    (s3.root / name).mkdir()
    return name
