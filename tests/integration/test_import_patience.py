# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Targets that ask for patience now and then: what they refused is written later, in the right order, and soon."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.tests.support.aof_files import write_aof
from ansible_collections.dcs.migration.tests.support.importing import Import, run_import
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, snapshot
from ansible_collections.dcs.migration.tests.support.refusing import Refusing
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, wait_until

__all__ = ["run_import"]  # the fixture, for pytest to find

SPIN = """local now = redis.call('TIME')
local over = now[1] * 1000000 + now[2] + tonumber(ARGV[1])
while now[1] * 1000000 + now[2] < over do for i = 1, 100 do end now = redis.call('TIME') end"""


def spin(server: RedisServer, milliseconds: int) -> None:
    """Let a script hold the server."""
    server.client(socket_timeout=60).eval(SPIN, 0, milliseconds * 1000)


def test_a_pause_costs_no_more_than_its_time(server: Any, run_import: Import, tmp_path: Path) -> None:
    target = server("redis-6.2", config={"lua-time-limit": 5})
    writer = RdbWriter(9)
    with (tmp_path / "a.rdb").open("wb") as handle:
        handle.write(writer.header())
        for number in range(100_000):
            handle.write(writer.entry(0, 1, b"l%d" % number, b"\x01" + write_string(b"v")))
        handle.write(writer.trailer())

    def hold() -> None:
        wait_until(lambda: target.client().dbsize() > 0, "keys arrive", seconds=60)
        spin(target, 300)

    holder = threading.Thread(target=hold)
    holder.start()
    result = run_import(target, tmp_path / "a.rdb")
    holder.join()
    assert not result.get("failed"), result["msg"]
    assert result["stats"]["keys"] == 100_000 == target.client().dbsize()
    assert target.info("errorstats")["errorstat_BUSY"]["count"] > 100
    assert result["stats"]["seconds"] < 20


def big_values(client: Any) -> None:
    """Values that are written in parts, each of which depends on the one before."""
    rng = random.Random(5)
    pipeline = client.pipeline(transaction=False)
    for first in range(0, 90_000, 500):
        numbers = range(first, first + 500)
        pipeline.rpush("list", *[b"%08d%b" % (number, rng.randbytes(60)) for number in numbers])
        fields = {b"%d" % number: rng.randbytes(50) for number in numbers}
        pipeline.hset("hash", mapping=fields)
        if first % 2000 == 0:
            pipeline.execute_command("HPEXPIREAT", "hash", 4102444800000 + first, "FIELDS", len(fields), *fields)
        pipeline.execute()
    client.set("string", rng.randbytes(8 << 20))


def test_parts_of_a_big_key_stay_in_order(shared_server: Any, run_import: Import) -> None:
    source, target = shared_server("valkey-9.1"), shared_server("valkey-9.1", 1)
    big_values(source.client())
    every = {b"RPUSH": 7, b"HMSET": 5, b"HPEXPIREAT": 4, b"SETRANGE": 3, b"APPEND": 3}
    with Refusing(target, every) as front:
        result = run_import(front, source.save())
        assert not result.get("failed"), result["msg"]
        assert {b"RPUSH", b"HMSET", b"HPEXPIREAT"} <= set(front.refused)
    assert_same_data(snapshot(source.client()), snapshot(target.client()))
    assert target.digest() == source.digest()


def test_entries_of_a_stream_stay_in_order_or_it_is_said(shared_server: Any, run_import: Import) -> None:
    """Of a stream that is too large to go whole."""
    source, target = shared_server("redis-6.2"), shared_server("redis-6.2", 1)
    rng = random.Random(6)
    pipeline = source.client().pipeline(transaction=False)
    for number in range(45_000):
        pipeline.xadd("stream", {b"f": rng.randbytes(420)}, id="%d-1" % (number + 1))
        if number % 1000 == 999:
            pipeline.execute()
    source.client().xgroup_create("stream", "readers", "0")
    source.client().xreadgroup("readers", "one", {"stream": ">"}, count=50)
    file = source.save()
    with Refusing(target, {b"XADD": 20_000}) as front:
        result = run_import(front, file)
    assert result["failed"] and 'key "stream" in db 0' in result["msg"] and "run again" in result["remedy"].lower()
    with Refusing(target, {b"XGROUP": 2, b"XCLAIM": 7}) as front:
        result = run_import(front, file)
        assert not result.get("failed"), result["msg"]
        assert front.refused[b"XCLAIM"]
    assert target.digest() == source.digest()
    assert_same_data(snapshot(source.client()), snapshot(target.client()))


def test_commands_of_a_log_stay_in_order_or_it_is_said(shared_server: Any, run_import: Import, tmp_path: Path) -> None:
    target = shared_server("redis-6.2")
    apart = write_aof(tmp_path / "apart.aof", *["APPEND k%d x" % number for number in range(3000)])
    with Refusing(target, {b"APPEND": 100}) as front:
        result = run_import(front, apart)
    assert not result.get("failed") and target.client().dbsize() == 3000, result
    more = write_aof(tmp_path / "more.aof", *["APPEND m%d x" % number for number in range(3000)], "SELECT 1", "SET k v")
    with Refusing(target, {b"APPEND": 3000}) as front:
        result = run_import(front, more)
    assert not result.get("failed") and target.client().dbsize() == 6000, result
    behind = write_aof(tmp_path / "behind.aof", *["APPEND n %d" % number for number in range(3000)])
    with Refusing(target, {b"APPEND": 2000}) as front:
        result = run_import(front, behind)
    assert result["failed"] and "APPEND of key 'n'" in result["msg"] and "their order is lost" in result["msg"], result
    assert "Run again from the start" in result["remedy"] and result["files"][0]["status"] == "incomplete"
    assert run_import(target, behind, on_conflict="replace")["stats"]["commands"] == 3000
    assert target.client().get("n") == b"".join(b"%d" % number for number in range(3000))


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["redis-2.8", "redis-3.2"])
def test_an_older_target_gets_the_commands_on_a_key_as_a_unit(name: str, server: Any, run_import: Import, tmp_path: Path) -> None:
    target = server(name)
    writer = RdbWriter(6)
    until = int(time.time() * 1000) + 3_600_000
    with (tmp_path / "a.rdb").open("wb") as handle:
        handle.write(writer.header())
        for number in range(2000):
            handle.write(writer.entry(0, 1, b"l%d" % number, b"\x01" + write_string(b"v"), until + number if number % 2 else None))
        handle.write(writer.trailer())
    pipeline = target.client().pipeline(transaction=False)
    # Half of them are there already.
    for number in range(1000):
        pipeline.set("l%d" % number, "mine")
    pipeline.execute()
    with Refusing(target, {b"DEL": 11, b"RESTORE": 17, b"PEXPIREAT": 13}) as front:
        result = run_import(front, tmp_path / "a.rdb")
    assert not result.get("failed"), result["msg"]
    assert result["stats"]["keys"] == 2000 and not result["stats"]["skipped"]
    for number in range(2000):
        pipeline.type("l%d" % number)
        pipeline.pttl("l%d" % number)
    now = int(time.time() * 1000)
    replies = pipeline.execute()
    assert set(replies[0::2]) == {b"list"} and target.client().dbsize() == 2000
    for number, left in enumerate(replies[1::2]):
        assert left in (-1, None) if not number % 2 else abs(now + left - until - number) < 2000


@pytest.mark.matrix
def test_keys_that_an_old_target_has_are_skipped(server: Any, run_import: Import, tmp_path: Path) -> None:
    target = server("redis-2.8")
    writer = RdbWriter(6)
    parts = [writer.header(), *(writer.entry(0, 1, b"l%d" % number, b"\x01" + write_string(b"v")) for number in range(3)), writer.trailer()]
    (tmp_path / "a.rdb").write_bytes(b"".join(parts))
    target.client().set("l1", "mine")
    result = run_import(target, tmp_path / "a.rdb", on_conflict="skip")
    assert not result.get("failed"), result["msg"]
    assert (result["stats"]["keys"], result["stats"]["skipped"]) == (2, 1) and target.client().get("l1") == b"mine"
