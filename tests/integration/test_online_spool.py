# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bytes that an online task keeps on its host: a full spool, a full disk and what is left behind block nothing for good."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync import report
from ansible_collections.dcs.migration.tests.support.online import OnlineTask, assert_identical, endpoint_of
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, wait_until

LIMIT = 4 << 20


def key_of(cluster: RedisCluster, master: RedisServer) -> bytes:
    return next(b"%d" % number for number in range(1000) if cluster.owner_of_key(b"%d" % number) is master)


def fill(server: RedisServer, key: bytes, size: int) -> None:
    """Write so many bytes into the stream."""
    value = os.urandom(100_000)
    for _number in range(size // len(value)):
        server.client().set(key, value)


def is_full(task: OnlineTask) -> bool:
    return bool(task.read("sources.json")["spool_full"])


def test_a_busy_master_does_not_keep_an_idle_one_from_its_recovery(tmp_path: Path, server: Any, cluster: Any) -> None:
    """After a crash the applier has to have of each what was sent; until then it frees nothing that fills the spool."""
    source, target = cluster("redis-6.2", 2), server("redis-6.2")
    keys = [key_of(source, master) for master in source.masters]
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), spool_limit=LIMIT) as task:
        task.start()
        task.wait_synced()
        target.process.freeze()
        fill(source.masters[0], keys[0], LIMIT * 3 // 2)
        wait_until(lambda: is_full(task), "the spool is full")
        for _number in range(100):
            source.masters[1].client().incr(keys[1])
        task.kill("applier")
        target.process.thaw()
        task.call("synced", wait_timeout=60, max_lag_bytes=0)
        task.finish()
        assert_identical(source, target)


def test_a_busy_master_does_not_keep_a_late_one_from_its_snapshot(tmp_path: Path, server: Any, cluster: Any) -> None:
    source, target = cluster("redis-6.2", 2), server("redis-6.2")
    busy, late = source.masters
    key = key_of(source, busy)
    late.client().set(key_of(source, late), os.urandom(LIMIT * 3 // 4))
    late.execute("CONFIG", "SET", "repl-diskless-sync", "yes")
    late.execute("CONFIG", "SET", "repl-diskless-sync-delay", 600)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), spool_limit=LIMIT) as task:
        task.start()
        wait_until(lambda: [one["state"] for one in task.read("sources.json").get("streams", ())][:1] == ["streaming"], "one streams")
        fill(busy, key, LIMIT * 3 // 2)
        wait_until(lambda: is_full(task), "the spool is full")
        late.execute("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        task.call("synced", wait_timeout=60)
        task.finish()
        assert_identical(source, target)


def test_a_snapshot_that_was_loaded_does_not_stay(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """Not even when the worker was killed between the checkpoint behind it and its removal."""
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        task.kill("watchdog")
        left = task.folder / "streams/0/1/snapshot"
        left.mkdir(exist_ok=True)
        (left / ("%020d" % 0)).write_bytes(b"x" * 1000)
        memory = task.read("applier.json")
        assert memory["loaded"] == {"0": 1}
        (task.folder / "applier.json").write_text(json.dumps({**memory, "loaded": {}}), encoding="utf-8")
        task.call("synced", wait_timeout=60)
        assert not left.exists() and task.read("applier.json")["loaded"] == {"0": 1}


def test_a_report_that_cannot_be_written(
    tmp_path: Path, source: RedisServer, target: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, for which a limit on the size of files stands in, is no reason to leave in the spool what is there; and it is told."""
    monkeypatch.setattr(report, "_SILENT", 3.0)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        pid = task.pids()["applier"]
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
        written = task.status()["at"]
        source.client().set("meanwhile", 1)
        wait_until(lambda: target.client().exists("meanwhile") == 1, "it arrives")
        wait_until(lambda: any("The applier has said nothing for" in text for text in warnings(task)), "it is told")
        source.client().set("later", 1)
        wait_until(lambda: target.client().exists("later") == 1, "the next arrives, too")
        assert task.status()["at"] - written < 1 and task.pids()["applier"] == pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        assert task.call("synced", wait_timeout=30)["task"]["errors"] == 0
        wait_until(lambda: not warnings(task), "nothing is wrong any more")
        task.finish()
        assert_identical(source, target)


def warnings(task: OnlineTask) -> list[str]:
    """What ``online_sync_info`` says."""
    return list(report.info(str(task.state_dir))[0]["warnings"])


def test_a_command_and_a_transaction_longer_than_the_spool(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """They pass all the same, and the report says why the limit does not hold."""
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), spool_limit=1 << 20) as task:
        task.start()
        task.wait_synced()
        source.client().set("long", os.urandom(6 << 20))
        wait_until(lambda: target.client().exists("long") == 1, "the long one has arrived: " + task.log(), 30)
        with source.client().pipeline(transaction=True) as pipe:
            for number in range(50):
                pipe.set("part:%d" % number, os.urandom(100_000))
            pipe.execute()
        wait_until(lambda: target.client().exists("part:49") == 1, "the transaction has arrived: " + task.log(), 30)
        assert any("does not fit into the spool" in text for text in task.status()["warnings"])
        task.finish()
        assert_identical(source, target)


def test_another_limit_while_it_runs(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """A higher one lets a source go on that waits, and a lower one is kept although the segments of the spool were made for the higher."""
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), spool_limit=LIMIT) as task:
        task.start()
        task.wait_synced()
        target.process.freeze()
        fill(source, b"key", LIMIT * 3 // 2)
        wait_until(lambda: is_full(task), "the spool is full")
        task.change(spool_limit=1 << 30)
        wait_until(lambda: not is_full(task), "the source need not wait any more")
        target.process.thaw()
        task.kill("receiver")
        fill(source, b"key", LIMIT * 3)
        task.call("synced", wait_timeout=60)
        task.change(spool_limit=LIMIT)
        wait_until(lambda: task.read("sources.json")["spool_bytes"] <= LIMIT // 2, "the spool is small")
        source.client().set("key", "value")
        task.finish()
        assert_identical(source, target)


def slowly_filled(server: RedisServer) -> int:
    """Bytes of what a snapshot of it will hold."""
    for number in range(400):
        server.client().set("key:%d" % number, os.urandom(20_000))
    return 400 * 20_000


def test_a_receiver_that_has_done_its_work_is_not_missed(
    tmp_path: Path, source: RedisServer, target: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that takes long is no reason for a warning that nothing comes from the source."""
    slowly_filled(source)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), bandwidth_limit=1 << 20, method="full") as task:
        task.start()
        wait_until(lambda: "receiver" not in task.pids() and bool(one_shard(task)), "the receiver has ended")
        monkeypatch.setattr(report, "_SILENT", 1.5)
        wait_until(lambda: time.time() - task.read("sources.json")["at"] > 2, "its last report is old")
        (told,) = report.info(str(task.state_dir))
        assert told["status"] == "full_migrating" and told["warnings"] == []


@pytest.mark.parametrize("method", ["full", "full_incremental"])
def test_a_snapshot_that_is_damaged_on_the_disk(tmp_path: Path, source: RedisServer, target: RedisServer, method: str) -> None:
    """Another one is asked for, also where the receiver has done its work."""
    size = slowly_filled(source)
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target), bandwidth_limit=1 << 20, method=method) as task:
        task.start()
        wait_until(lambda: target.client().dbsize() > 10 and (task.folder / "streams/0/1/snapshot").exists(), "the load has begun")
        wait_until(lambda: bool(task.read("sources.json")["streams"][0]["snapshot_complete"]), "the snapshot is there")
        (segment,) = (task.folder / "streams/0/1/snapshot").iterdir()
        with segment.open("r+b") as handle:
            handle.seek(size - 300_000)
            handle.write(os.urandom(200_000))
        task.call("synced", bandwidth_limit=0, wait_timeout=60)
        assert one_shard(task)["full_syncs"] == 2
        if method != "full":
            task.finish()
        assert_identical(source, target)


def test_a_stream_that_is_damaged_on_the_disk(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task:
        task.start()
        task.wait_synced()
        target.process.freeze()
        slowly_filled(source)
        wait_until(lambda: one_shard(task)["received_offset"] > 8_000_000, "all of it was received")
        (segment,) = (task.folder / "streams/0/1/stream").iterdir()
        with segment.open("r+b") as handle:
            handle.seek(8_000_000 - 100_000)
            handle.write(os.urandom(50_000))
        target.process.thaw()
        wait_until(lambda: one_shard(task)["full_syncs"] == 2, "another snapshot is taken")
        task.call("synced", wait_timeout=60)
        task.finish()
        assert_identical(source, target)


def test_a_full_load_that_was_cut_off_behind_what_was_given_back(tmp_path: Path, source: RedisServer, target: RedisServer) -> None:
    """What is loaded of a snapshot larger than the spool is gone: the receiver begins again although it had done its work."""
    slowly_filled(source)
    with OnlineTask(
        tmp_path, endpoint_of(source), endpoint_of(target), spool_limit=LIMIT, bandwidth_limit=2 << 20, method="full"
    ) as task:
        task.start()
        wait_until(lambda: one_shard(task).get("state") == "ended", "all of the snapshot was received", 60)
        task.kill("applier")
        task.call("synced", bandwidth_limit=0, wait_timeout=60)
        assert one_shard(task)["full_syncs"] == 2
        assert_identical(source, target)


def one_shard(task: OnlineTask) -> Any:
    """What the receiver says of the only one."""
    return (task.read("sources.json").get("streams") or [{}])[0]
