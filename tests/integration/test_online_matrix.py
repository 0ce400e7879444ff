# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each server of the matrix into each: a snapshot, 10,000 increments on the way, and every value compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, assert_identical, endpoint_of
from ansible_collections.dcs.migration.tests.support.servers import SERVERS, RedisServer

# One worker has the servers of this module.
pytestmark = [pytest.mark.matrix, pytest.mark.xdist_group("online_matrix")]

INCREMENTS = 10_000
COUNTERS = 100


@pytest.fixture(scope="module")
def sources() -> Iterator[dict[str, RedisServer]]:
    """A server of each version, with what the oldest can hold."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(RedisServer(name)) for name in SERVERS}
        for server in servers.values():
            populate_every_type(server.client(), (2, 8), "redis", streams=False, functions=False)
        yield servers


@pytest.fixture(scope="module", params=list(SERVERS))
def target(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as server:
        yield server


@pytest.mark.parametrize("name", SERVERS)
def test_pair(name: str, target: RedisServer, sources: dict[str, RedisServer], tmp_path: Path) -> None:
    source = sources[name]
    target.flush()
    client = source.client()
    before = sum(map(int, client.mget(counters()) if client.exists("ctr:0") else []))
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        # Some before the snapshot is loaded, most after.
        for part in range(10):
            increment(source, INCREMENTS // 10)
            if part == 2:
                task.wait_synced()
        assert task.finish()["status"] == "succeeded"
        task.absent()
    assert sum(map(int, target.client().mget(counters()))) == before + INCREMENTS
    assert_identical(source, target, ttl_tolerance_ms=1000)


def counters() -> list[str]:
    return ["ctr:%d" % number for number in range(COUNTERS)]


def increment(server: RedisServer, count: int) -> None:
    pipe = server.client().pipeline(transaction=False)
    for number in range(count):
        pipe.execute_command(b"INCR", "ctr:%d" % (number % COUNTERS))
    pipe.execute()
