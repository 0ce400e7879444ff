# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver of an online task against real servers: every byte arrives once, whatever breaks. (Failovers: ``test_sync_failover``.)"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.aof import AofReader
from ansible_collections.dcs.migration.plugins.module_utils._sync import spool
from ansible_collections.dcs.migration.tests.support.access import identify
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.receiver import Receiver, Writer, put, receiver_starter, wait_for_acks
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, TcpProxy, wait_until

Start = Callable[..., Any]
PASSWORD = "open-sesame-43"
_FAILED_FOR_GOOD = 3


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Start]:
    with receiver_starter(tmp_path) as start:
        yield start


# -- every version -------------------------------------------------------------------------------------------


def test_every_version(server_name: str, server: Start, receiver: Start) -> None:
    source = server(server_name)
    client = source.client()
    identity = identify(client)
    populate_every_type(client, identity.version, identity.product)
    keys = {key for db in (0, 1, 9) for key in source.client(db=db).keys()}
    one = receiver(source)
    stream = one.until("streaming", state="streaming", snapshot_complete=True)
    put(source, range(500))
    client = source.client(db=5)
    client.set("seq", 500)
    if source.version >= (3, 0):
        assert client.execute_command("WAIT", 1, 5000) == 1
    stream = one.caught_up(source)
    assert one.keys() == keys
    assert one.numbers() == list(range(501))
    assert [args for args in one.commands() if args[0].upper() == b"SELECT"][-1][1] == b"5"
    assert (stream["generation"], stream["full_syncs"], stream["reconnects"], stream["command"]) == (1, 1, 0, "PSYNC")
    assert stream["snapshot_received"] == len(one.bytes_of("snapshot"))
    assert stream["snapshot_length"] in (None, stream["snapshot_received"])
    assert stream["received_offset"] == stream["snapshot_offset"] + len(one.bytes_of("stream"))
    wait_until(lambda: one.stream()["source_offset"] == source.info("replication")["master_repl_offset"], "the source's offset")
    wait_until(lambda: one.stream()["durable_offset"] == one.stream()["received_offset"], "synced")
    sources = one.sources()
    assert (sources["kind"], sources["error"], sources["slots"], sources["spool_full"]) == ("single", None, [], False)
    assert sources["spool_bytes"] > len(one.bytes_of("snapshot"))
    assert one.stop() == 0


def test_a_full_migration_ends_with_the_snapshot(shared_server: Start, receiver: Start) -> None:
    source = shared_server("redis-6.2")
    put(source, range(10))
    one = receiver(source, method="full")
    assert one.wait() == 0
    assert (one.stream()["state"], one.stream()["snapshot_complete"]) == ("ended", True)
    assert one.keys() == {b"seq"}
    assert one.start().wait() == 0  # nothing is left to do
    assert one.stream()["full_syncs"] == 1


def test_tls_and_a_password(server: Start, receiver: Start) -> None:
    source = server("redis-6.2", tls=True, password=PASSWORD)
    assert source.tls is not None
    one = receiver(source, endpoint={"password": PASSWORD, "tls": True, "ca_certs": str(source.tls.ca)})
    one.until("streaming", state="streaming")
    put(source, range(2000), size=1000)
    wait_for_acks(source, 1)
    assert one.numbers() == list(range(2000))
    assert all(PASSWORD.encode() not in (Path(one.folder.path) / name).read_bytes() for name in ("sources.json", "worker.log"))


def test_by_sync_where_psync_is_disabled(server: Start, receiver: Start) -> None:
    source = server("redis-6.2", rename={"PSYNC": ""})
    put(source, range(100))  # the master's count is ahead of ours
    one = receiver(source)
    stream = one.until("streaming", state="streaming")
    assert (stream["command"], stream["replication_id"], stream["snapshot_offset"]) == ("SYNC", "", 0)
    put(source, range(500))
    wait_until(lambda: one.numbers()[-1:] == [499], "all of it arrived")
    assert one.numbers() == list(range(500))
    wait_until(lambda: one.stream()["source_offset"] == one.stream()["received_offset"], "an estimate of the source's offset")
    source.execute("CLIENT", "KILL", "TYPE", "replica")
    one.until("a new generation: SYNC cannot continue", generation=2, state="streaming", full_syncs=2)


# -- interruptions -------------------------------------------------------------------------------------------


def test_killed_again_and_again(server: Start, receiver: Start) -> None:
    source = server("redis-6.2", config={"repl-backlog-size": "64mb"})
    one = receiver(source)
    one.until("streaming", state="streaming")
    with Writer(source) as writer:
        for count in range(1, 4):
            writer.wait_for_more()
            one.kill()
            writer.wait_for_more()
            one.start()
            one.until("continued", state="streaming", reconnects=count)
        writer.wait_for_more()
    one.caught_up(source)
    assert one.numbers() == list(range(writer.last + 1))
    assert (one.stream()["full_syncs"], one.stream()["generation"]) == (1, 1)
    assert one.stop() == 0
    put(source, range(writer.last + 1, writer.last + 11))
    one.start()
    one.caught_up(source)
    assert one.numbers() == list(range(writer.last + 11))


def test_killed_inside_the_snapshot(server: Start, tcp_proxy: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    for number in range(30):
        source.client().set("key:%d" % number, os.urandom(1 << 18))
    network: TcpProxy = tcp_proxy(source.address)
    network.throttle(4 << 20)
    one = receiver(network)
    wait_until(lambda: bool(one.streams()) and one.stream()["snapshot_received"] > 0, "half a snapshot")
    assert not one.stream()["snapshot_complete"]
    one.kill()
    network.cut_after(3 << 20)
    one.start()
    wait_until(lambda: "Trying again" in one.log, "a lost snapshot")
    network.throttle(None)
    stream = one.until("streaming", state="streaming", snapshot_complete=True)
    assert len(one.keys()) == 30
    assert os.listdir(one.folder.file("streams", "0")) == [str(stream["generation"])]
    put(source, range(10))
    one.caught_up(source)
    assert one.numbers() == list(range(10))


def test_connections_that_are_cut(server: Start, tcp_proxy: Start, receiver: Start) -> None:
    source = server("redis-6.2", config={"repl-backlog-size": "64mb"})
    network: TcpProxy = tcp_proxy(source.address)
    one = receiver(network)
    one.until("streaming", state="streaming")
    with Writer(source) as writer:
        for count in range(1, 6):
            network.cut_after(1000 * count + count)
            wait_until(lambda wanted=count: one.stream()["reconnects"] >= wanted, "connected again")
        writer.wait_for_more()
    one.caught_up(source)
    assert one.numbers() == list(range(writer.last + 1))
    assert one.stream()["full_syncs"] == 1
    assert "Trying again in 0.2 s" in one.log


def test_the_source_is_not_there_at_first(server: Start, tcp_proxy: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    network: TcpProxy = tcp_proxy(source.address)
    network.refuse()
    one = receiver(network)
    wait_until(lambda: one.sources().get("error") is not None, "an error")
    assert network.address in one.sources()["error"]["message"]
    network.heal()
    one.until("streaming", state="streaming")
    wait_until(lambda: one.sources()["error"] is None, "no error")
    network.refuse()
    wait_until(lambda: one.stream()["error"] is not None, "an error of the stream")
    assert one.stream()["state"] == "connecting"
    network.heal()
    stream = one.until("streaming", state="streaming")
    assert stream["error"] is None


def test_never_there_without_auto_reconnect(tcp_proxy: Start, receiver: Start) -> None:
    network: TcpProxy = tcp_proxy("127.0.0.1:1")
    one = receiver(network, auto_reconnect=False)
    assert one.wait() == _FAILED_FOR_GOOD
    assert one.log.count("Trying again") == 4
    assert one.sources()["error"]["message"] in one.log


# -- the history is gone -------------------------------------------------------------------------------------


def outrun(source: RedisServer, network: TcpProxy, one: Receiver) -> None:
    """Write more than the backlog holds while the receiver is away."""
    one.until("streaming", state="streaming")
    network.refuse()
    one.until("cut off", state="connecting")
    put(source, range(1000, 1100), size=2000)
    network.heal()


def test_backlog_too_small(server: Start, tcp_proxy: Start, receiver: Start) -> None:
    source = server("redis-6.2", config={"repl-backlog-size": "16kb"})
    network: TcpProxy = tcp_proxy(source.address)
    one = receiver(network)
    outrun(source, network, one)
    stream = one.until("a new generation", generation=2, state="streaming", snapshot_complete=True)
    assert (stream["full_syncs"], stream["reconnects"]) == (2, 1)
    put(source, range(10))
    one.caught_up(source)
    assert one.keys() == {b"seq", b"ballast"}
    assert one.numbers() == list(range(10))
    assert os.listdir(one.folder.file("streams", "0")) == ["2"]


def test_backlog_too_small_without_auto_reconnect(server: Start, tcp_proxy: Start, receiver: Start) -> None:
    source = server("redis-6.2", config={"repl-backlog-size": "16kb"})
    network: TcpProxy = tcp_proxy(source.address)
    one = receiver(network, auto_reconnect=False)
    outrun(source, network, one)
    assert one.wait() == _FAILED_FOR_GOOD
    stream = one.stream()
    assert (stream["state"], stream["generation"], stream["full_syncs"]) == ("lost", 1, 1)
    assert "cannot continue the stream at offset %d" % stream["received_offset"] in stream["error"]["why"]
    assert "auto_reconnect" in stream["error"]["remedy"]
    one.configure(auto_reconnect=True)
    one.start()
    one.until("a new generation", generation=2, state="streaming")


def test_gone_for_good_without_auto_reconnect(server: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    one = receiver(source, auto_reconnect=False)
    one.until("streaming", state="streaming")
    source.stop()
    assert one.wait() == _FAILED_FOR_GOOD
    assert one.stream()["state"] == "lost" and source.address in one.stream()["error"]["message"]
    assert one.log.count("Trying again") == 4


def test_the_applier_asks_for_a_new_generation(server: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    one = receiver(source, auto_reconnect=False)
    one.until("streaming", state="streaming")
    one.folder.write("resync.json", {"0": 1})
    one.until("a new generation", generation=2, state="streaming", full_syncs=2)
    put(source, range(10))
    one.caught_up(source)
    assert one.numbers() == list(range(10))
    one.kill()
    one.start()
    one.until("continued", generation=2, state="streaming", reconnects=2)


def test_the_host_crashed(server: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    one = receiver(source)
    one.until("streaming", state="streaming")
    put(source, range(1000))
    one.caught_up(source)
    wait_until(lambda: one.stream()["durable_offset"] == one.stream()["received_offset"], "synced")
    one.kill()
    path, saved = one.part("stream"), one.sources()
    durable = saved["streams"][0]["received_offset"] - 12345
    # What such a crash may leave: the right length, but not what was written last.
    os.truncate(os.path.join(path, os.listdir(path)[0]), durable - saved["streams"][0]["snapshot_offset"])
    os.truncate(os.path.join(path, os.listdir(path)[0]), durable + 5000)
    saved["boot_id"] = "another"
    saved["streams"][0]["durable_offset"] = durable
    one.folder.write("sources.json", saved)
    one.start()
    one.until("continued", state="streaming", reconnects=1)
    one.caught_up(source)
    assert one.numbers() == list(range(1000))
    one.kill()
    saved = one.sources()
    saved["boot_id"] = "another"
    saved["streams"][0]["snapshot_durable"] = False
    one.folder.write("sources.json", saved)
    one.start()
    one.until("a new generation", state="streaming", generation=2)


# -- disk, memory --------------------------------------------------------------------------------------------


def replicas_of(source: RedisServer) -> list[dict[str, Any]]:
    """As the master sees them."""
    info = source.info("replication")
    return [info["slave%d" % number] for number in range(info["connected_slaves"])]


def test_spool_limit(server: Start, receiver: Start) -> None:
    source = server("redis-6.2", config={"client-output-buffer-limit": "replica 0 0 0", "repl-backlog-size": "16kb"})
    one = receiver(source, spool_limit=4 << 20)
    one.until("streaming", state="streaming")
    put(source, range(300), size=100_000)
    wait_until(lambda: one.sources()["spool_full"], "full")
    held = one.stream()["received_offset"]
    assert held < 5 << 20 < 25 << 20 < source.info("replication")["master_repl_offset"]
    # Three more looks: nothing more is read, but the master hears from us all the same.
    for _look in range(3):
        at = one.sources()["at"]
        wait_until(lambda since=at: one.sources()["at"] > since, "written again")
    assert one.stream()["received_offset"] == held
    assert [replica["lag"] <= 1 for replica in replicas_of(source)] == [True]
    got, path = [], one.part("stream")
    reader = AofReader()
    end = source.info("replication")["master_repl_offset"]
    with contextlib.closing(spool.SpoolReader(path, one.stream()["snapshot_offset"])) as tail:

        def applied() -> bool:
            got.extend(args for args, _raw, _at in reader.feed(tail.read(1 << 20)))
            spool.trim(path, tail.position)
            return tail.position >= end

        wait_until(applied, "all of it went through")
    assert [int(args[2]) for args in got if args[1:2] == [b"seq"]] == list(range(300))
    assert (one.stream()["reconnects"], one.stream()["full_syncs"]) == (0, 1)
    wait_until(lambda: not one.sources()["spool_full"], "room again")


def test_a_disk_that_takes_no_more(server: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    one = receiver(source)
    one.until("streaming", state="streaming")
    limits = resource.prlimit(one.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (100_001, limits[1]))
    put(source, range(2000), size=100)
    wait_until(lambda: one.stream()["error"] is not None, "an error")
    assert "cannot be written" in one.stream()["error"]["why"] and one.stream()["state"] == "streaming"
    resource.prlimit(one.pid, resource.RLIMIT_FSIZE, limits)
    one.caught_up(source)
    wait_until(lambda: one.stream()["error"] is None, "no error")
    assert one.numbers() == list(range(2000))
    assert one.stream()["reconnects"] == 0


def test_line_rate_in_little_memory(server: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    one = receiver(source)
    os.mkfifo(one.folder.file("wake"), 0o600)
    wake = os.open(one.folder.file("wake"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        one.until("streaming", state="streaming")
        put(source, range(20), size=5 << 20)
        client = source.client()
        for number in range(20, 25):
            client.set("seq", number)
            # The master asks for an ACK and gets it at once: those of every second would come too late for one of these.
            assert client.execute_command("WAIT", 1, 400) == 1
        assert 0 < len(os.read(wake, 1 << 16)) <= 1 << 16
    finally:
        os.close(wake)
    put(source, range(25, 30))
    one.caught_up(source)  # nobody to wake any more
    assert one.numbers() == list(range(30))
    status = Path("/proc/%d/status" % one.pid).read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 45 << 10


def test_ended_by_a_signal_at_once(server: Start, receiver: Start) -> None:
    source = server("redis-6.2")
    one = receiver(source)
    one.until("streaming", state="streaming")
    source.process.freeze()
    try:
        os.kill(one.pid, signal.SIGTERM)
        assert one.wait() == 0
    finally:
        source.process.thaw()
