# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Source, target and worker whose clocks disagree: each expires keys by its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX
from ansible_collections.dcs.migration.plugins.module_utils._sync.report import info

from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, snapshot
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, endpoint_of, masters
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, wait_until

MINUTES = 300
NAMES = ["redis-6.2", "valkey-9.1"]


def fill(source: RedisServer, left: int = 100) -> None:
    """Keys that live forever, for a day, and for ``left`` seconds."""
    client = source.client()
    client.mset({"forever:%d" % number: number for number in range(50)})
    client.set("day", "1", ex=86_400)
    for number in range(50):
        client.set("brief:%d" % number, number, ex=left)
    client.hset("hash", "field", "1")
    client.expire("hash", left)


def touch(source: RedisServer) -> None:
    """Build on every key."""
    client = source.client()
    for number in range(50):
        client.incr("brief:%d" % number)
        client.incr("forever:%d" % number)
    client.append("day", "x")
    client.hincrby("hash", "field", 1)


def held(server: RedisServer) -> set[bytes]:
    """The kinds of keys that are there, but for the task's own."""
    return {key.split(b":")[0] for key in server.client().keys() if not key.startswith(RESERVED_PREFIX)}


def clock_warnings(task: OnlineTask) -> list[str]:
    [report] = info(str(task.state_dir))
    return [text for text in report["warnings"] if "clock" in text]


@pytest.mark.parametrize("name", NAMES)
def test_the_clock_of_the_target_is_ahead(name: str, tmp_path: Path, server: Any) -> None:
    """What expires too early leaves nothing behind; once the clock is right, all that is written is there again."""
    source, target = server(name), server(name, clock=MINUTES)
    fill(source)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced(lag=0)
        wait_until(lambda: bool(clock_warnings(task)), "the clocks are complained of")
        assert "ahead of" in clock_warnings(task)[0] and "NTP" in clock_warnings(task)[0]
        for number in range(3):
            touch(source)
            wait_until(lambda: target.client().strlen("day") == number + 2, "the round has arrived")
            wait_until(lambda: held(target) == {b"forever", b"day"}, "nothing is left of what had expired there")

        target.set_clock(0)
        touch(source)
        wait_until(lambda: not clock_warnings(task), "nothing is complained of any more")
        task.wait_synced(lag=0)
        task.finish()
        assert_same_data(snapshot(masters(source)), snapshot(masters(target)), names=("source", "target"))
        assert target.client().get("brief:7") == b"11" and target.client().ttl("brief:7") > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("source_clock", "target_clock"), [(0, -MINUTES), (MINUTES, MINUTES), (-MINUTES, -MINUTES), (MINUTES, 0)])
def test_other_clocks(name: str, source_clock: int, target_clock: int, tmp_path: Path, server: Any) -> None:
    """Moments of expiry arrive as they are, whatever the worker's host takes for the time."""
    source, target = server(name, clock=source_clock), server(name, clock=target_clock)
    fill(source)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced(lag=0)
        if source_clock != target_clock:
            wait_until(lambda: bool(clock_warnings(task)), "the clocks are complained of")
        touch(source)
        source.client().expire("forever:1", 200)
        task.wait_synced(lag=0)
        assert bool(clock_warnings(task)) == (source_clock != target_clock)
        task.finish()
        # Up to Redis 6.2 the last one travels as a time to live, from when it arrives.
        moved = MINUTES * 1000 if source_clock != target_clock else 0
        tolerance = 50 if source.version >= (7, 0) else moved + 1000
        assert_same_data(snapshot(masters(source)), snapshot(masters(target)), tolerance, names=("source", "target"))
