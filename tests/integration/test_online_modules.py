# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``online_sync`` and ``online_sync_info``: states, what they change and refuse, and the worker behind them.

What the worker does to the data is the subject of the other online tests. Where a module's own start of some seconds tells nothing new,
the function is called that the module calls.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import AuthError, ConnectError, FileError, MigrationError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._sync import control, launch
from ansible_collections.dcs.migration.plugins.module_utils._sync.control import apply
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder
from ansible_collections.dcs.migration.plugins.module_utils._sync.report import info
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.online import PARTS, OnlineTask, endpoint_of
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, TcpProxy, wait_until

PASSWORD = "open-sesame-42"
WRONG = "open-barley-17"

Sync = Callable[..., dict[str, Any]]


@pytest.fixture
def source(server: Callable[..., RedisServer]) -> RedisServer:
    started = server("redis-6.2", password=PASSWORD)
    started.client().mset({"key:%d" % number: number for number in range(1000)})
    return started


@pytest.fixture
def target(shared_server: Callable[..., RedisServer]) -> RedisServer:
    return shared_server("redis-6.2")


@pytest.fixture
def task(tmp_path: Path, source: RedisServer, target: RedisServer) -> Iterator[OnlineTask]:
    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as made:
        yield made


@pytest.fixture
def sync(task: OnlineTask) -> Sync:
    """``sync("started", **options)``: what the module returns; source and target only where they are given."""

    def call(state: str, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        return apply({"name": "task", "state_dir": str(task.state_dir), "state": state, **options}, check_mode)

    return call


def one(task: OnlineTask) -> dict[str, Any]:
    """What ``online_sync_info`` says."""
    (found,) = info(str(task.state_dir))
    return found


def arrives(target: RedisServer, key: str) -> None:
    wait_until(lambda: bool(target.client().exists(key)), "%s is in the target" % key)


def test_life_of_a_task(task: OnlineTask, source: RedisServer, target: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to nothing, by modules: each state says what it changed, and again that there is nothing left to change."""
    monkeypatch.setenv("SOURCE_PASSWORD", PASSWORD)
    named = {"name": "task", "state_dir": str(task.state_dir)}
    ends = {"source": endpoint_of(source), "target": endpoint_of(target), "bandwidth_limit": "100M"}

    planned = run_module("online_sync", {**named, **ends}, check=True)
    assert planned["changed"] and planned["actions"] == ["set up the task", "start the worker"], planned["_output"]
    assert planned["task"]["status"] == "pending" and not task.state_dir.exists()

    started = run_module("online_sync", {**named, **ends})
    assert started["changed"] and started["actions"] == planned["actions"], started["_output"]
    assert started["task"]["worker"]["running"]
    # The module has ended, and what it ran from is gone.
    assert sorted(task.pids()) == sorted(PARTS)
    assert task.read("config.json")["bandwidth_limit"] == 100 << 20

    synced = run_module("online_sync", {**named, **ends, "state": "synced", "wait_timeout": 60})
    assert not synced["changed"] and synced["actions"] == [], synced["_output"]
    assert synced["task"]["status"] == "incr_migrating" and synced["task"]["keys"] == 1000
    source.client().set("later", "value")
    arrives(target, "later")

    told = run_module("online_sync_info", named)
    (report,) = told["tasks"]
    assert not told["changed"] and report["name"] == "task" and report["source"] == source.address
    assert report["status"] == "incr_migrating" and report["full_migration_progress"] == 100 and report["error"] is None
    (shard,) = report["shards"]
    assert shard["source"] == source.address and shard["lag_bytes"] <= 65536 and len(shard["replication_id"]) == 40
    assert_private(task)

    finished = run_module("online_sync", {**named, "state": "finished", "wait_timeout": 60})
    assert finished["changed"] and finished["task"]["status"] == "succeeded", finished["_output"]
    assert not task.pids() and source.digest() == target.digest()

    removed = run_module("online_sync", {**named, "state": "absent"})
    assert removed["changed"] and list(task.state_dir.iterdir()) == [], removed["_output"]
    assert run_module("online_sync_info", named)["tasks"] == []
    for result in (planned, started, synced, told, finished, removed):
        assert PASSWORD not in result["_output"]


def assert_private(task: OnlineTask) -> None:
    """Files are for their owner only, and the password is in none but the configuration, and in nothing that ``ps`` shows."""
    assert stat.S_IMODE(task.folder.stat().st_mode) == 0o700
    for path in task.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        if path.is_file():
            assert (PASSWORD.encode() in path.read_bytes()) == (path.name == "config.json"), path
    for pid in task.pids().values():
        for name in ("cmdline", "environ"):
            assert PASSWORD.encode() not in Path("/proc/%d/%s" % (pid, name)).read_bytes()


def test_a_wrong_password_is_told_before_anything_runs(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    named = {"name": "task", "state_dir": str(task.state_dir)}
    wrong = {"addresses": [source.address], "password": WRONG}
    result = run_module("online_sync", {**named, "source": wrong, "target": endpoint_of(target)})
    assert result["failed"] and "%s: refuses the username or password" % source.address in result["msg"], result["_output"]
    assert WRONG not in result["_output"] and not task.pids()
    assert result["task"]["status"] == "pending"

    with pytest.raises(AuthError):
        sync("started", check_mode=True)
    # Put right without starting over.
    assert sync("synced", source=endpoint_of(source), wait_timeout=60)["actions"] == ["change source.password", "start the worker"]


def test_stopped_and_started(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    """It goes on from where it was, and copies nothing a second time."""
    task.start()
    assert sync("started")["changed"] is False
    task.wait_synced()
    assert sync("stopped", check_mode=True)["actions"] == ["stop the worker"] and len(task.pids()) == 3
    halted = sync("stopped")
    assert halted["changed"] and halted["task"]["status"] == "stopped" and not halted["task"]["worker"]["running"]
    assert not task.pids()
    assert sync("stopped")["changed"] is False

    source.client().set("meanwhile", "value")
    assert sync("started")["actions"] == ["start the worker"]
    arrives(target, "meanwhile")
    assert one(task)["shards"][0]["full_syncs"] == 1
    finished = task.finish()
    assert finished["status"] == "succeeded" and not finished["worker"]["running"]
    assert source.digest() == target.digest()
    # There is nothing to go on with.
    for state in ("finished", "synced", "started", "stopped", "present"):
        assert sync(state)["changed"] is False, state
    assert one(task)["status"] == "succeeded"


def test_present_is_only_set_up(task: OnlineTask, sync: Sync, source: RedisServer, target: RedisServer) -> None:
    assert task.call("present")["actions"] == ["set up the task"]
    assert task.call("present")["changed"] is False and sync("present")["changed"] is False
    assert one(task)["status"] == "pending" and not task.pids()
    # Nothing has begun, so everything can be changed.
    assert sync("present", check_mode=True, databases=[0])["changed"]
    other = {"addresses": ["127.0.0.1:1"]}
    assert sync("present", target=other, databases=[0])["actions"] == ["change target.addresses, databases"]
    assert task.read("config.json")["target"] == other
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"):
        sync("started")
    assert sync("absent")["actions"] == ["remove the task"] and sync("absent")["changed"] is False


def test_a_server_is_not_migrated_into_itself(
    task: OnlineTask, source: RedisServer, server: Callable[..., RedisServer], shared_cluster: Callable[..., Any], sync: Sync
) -> None:
    """Not by another of its addresses, nor by that of a replica, nor a cluster into another node of it."""
    before = source.digest()
    replica = server("redis-6.2", replica_of=source, password=PASSWORD)
    replica.wait_for_link()
    other = {"addresses": [source.address.replace("127.0.0.1", "localhost")], "password": PASSWORD}
    for target in (other, endpoint_of(replica)):
        with pytest.raises(UsageError, match="is source and target at once"):
            sync("started", source=endpoint_of(source), target=target, clear_target=True)
    with pytest.raises(UsageError, match="is source and target at once"):
        sync("started", check_mode=True, source=endpoint_of(replica))
    cluster = shared_cluster("redis-6.2")
    nodes = [{"addresses": [address]} for address in cluster.addresses]
    with pytest.raises(UsageError, match="is source and target at once"):
        sync("started", source=nodes[0], target=nodes[1])
    assert not task.pids() and source.digest() == before


def test_what_can_be_changed(task: OnlineTask, sync: Sync, source: RedisServer, target: RedisServer) -> None:
    task.start()
    task.wait_synced()
    before = task.pids()
    assert sync("started", max_lag_bytes=1, spool_limit=1 << 30)["actions"] == ["change spool_limit, max_lag_bytes"]
    assert one(task)["spool_limit"] == 1 << 30
    assert sync("synced", wait_timeout=60)["changed"] is False
    with pytest.raises(UsageError, match="is running, and source.username, source.password cannot be changed"):
        sync("started", source=endpoint_of(source, username="default", password=WRONG))
    with pytest.raises(UsageError, match="has begun already, and target.addresses cannot be changed any more"):
        sync("started", target={"addresses": ["127.0.0.1:1"]})
    assert task.pids() == before

    # Stopping comes first, so that one call can stop and change.
    assert sync("stopped", source=endpoint_of(source, username="default"))["actions"] == ["stop the worker", "change source.username"]
    with pytest.raises(UsageError, match="db_map, exclude_keys cannot be changed any more"):
        sync("present", db_map={"0": "1"}, exclude_keys=["a*"])
    assert sync("synced", wait_timeout=60)["task"]["status"] == "incr_migrating"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"source": None}, "does not exist in"),
        ({"name": "../task"}, "cannot be the name of a folder"),
        ({"db_map": {"a": 1}}, "is not a number"),
        ({"include_keys": ["[a"]}, r"has a \[ without \]"),
        ({"spool_limit": 1 << 19}, "spool_limit: is less than 1048576"),
        ({"target": {"addresses": ["nowhere"]}}, "is not host:port"),
    ],
)
def test_what_cannot_be_meant(sync: Sync, task: OnlineTask, options: dict[str, Any], reason: str) -> None:
    ends = {"source": {"addresses": ["127.0.0.1:1"]}, "target": {"addresses": ["127.0.0.1:2"]}}
    with pytest.raises(UsageError, match=reason):
        sync("present", **{**ends, **options})
    assert info(str(task.state_dir)) == [] and not task.folder.exists()


@pytest.mark.parametrize("part", ["receiver", "applier"])
def test_a_part_that_is_killed_is_started_again(task: OnlineTask, source: RedisServer, target: RedisServer, part: str) -> None:
    task.start()
    task.wait_synced()
    before = task.pids()
    task.kill(part)
    wait_until(lambda: task.pids().get(part) not in (None, before[part]), "another %s runs" % part)
    source.client().set("afterwards", "value")
    arrives(target, "afterwards")
    report = one(task)
    assert report["worker"]["restarts"][part] == 1 and any("Restarts of the %s" % part in text for text in report["warnings"])
    assert {name: pid for name, pid in task.pids().items() if name != part} == {
        name: pid for name, pid in before.items() if name != part
    }


def test_a_worker_that_is_gone(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    """Said to be gone by every module, started again by the state that wants it, accepted by the one that does not."""
    task.start()
    task.wait_synced()
    task.kill("watchdog")
    report = one(task)
    assert report["status"] == "failed" and "the worker is gone" in report["error"] and not report["worker"]["running"]
    source.client().set("meanwhile", "value")
    assert sync("started")["actions"] == ["start the worker"]
    arrives(target, "meanwhile")

    task.kill("watchdog")
    assert sync("stopped")["actions"] == ["stop the worker"]
    assert one(task)["status"] == "stopped" and sync("stopped")["changed"] is False


def test_started_right_after_the_worker_was_killed(task: OnlineTask, sync: Sync) -> None:
    """Its children may live a moment longer."""
    task.start()
    task.wait_synced()
    os.kill(task.pids()["watchdog"], signal.SIGKILL)
    wait_until(lambda: task.pids().get("watchdog") is None, "the watchdog is gone")
    assert sync("synced", wait_timeout=60)["actions"] == ["start the worker"]


def test_a_number_of_another_boot_is_nobody_s(task: OnlineTask, sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that systemd has just started holds the lock, and worker.json is still that of before the reboot."""
    task.call("present")
    folder = TaskFolder.at(str(task.folder))
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            wait_until(lambda: b"sleep" in Path("/proc/%d/cmdline" % bystander.pid).read_bytes(), "it sleeps")
            folder.write("worker.json", {"boot_id": "another", "watchdog": bystander.pid})
            handle = folder.lock()
            assert handle is not None
            monkeypatch.setattr(control, "_STOP_SECONDS", 0.3)
            with pytest.raises(MigrationError, match="its worker does not end"):
                sync("stopped")
            os.close(handle)
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_second_worker_says_so_and_ends(task: OnlineTask) -> None:
    task.start()
    task.wait_synced()
    before = task.pids()
    second = subprocess.run([sys.executable, str(task.folder / "engine.zip")], check=False, env={"PATH": os.environ["PATH"]})
    assert second.returncode == 1 and "another worker has this task" in task.log()
    assert task.pids() == before


@pytest.mark.parametrize("unit", ["LoadState=loaded", "LoadState=not-found"])
def test_systemd_is_asked_where_it_has_the_unit(
    task: OnlineTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    """By a stand-in for ``systemctl`` that does what systemd would do with the unit."""
    commands = tmp_path / "bin"
    commands.mkdir()
    script = commands / "systemctl"
    script.write_text(
        '#!/bin/sh\necho "$@" >>%s\ncase "$*" in\n'
        '*show*) echo "%s"; echo "ExecStart={ path=python ; argv[]=python %s/engine.zip ; ignore_errors=no }" ;;\n'
        '*start*) exec "%s" %s/engine.zip detach ;;\nesac\n' % (tmp_path / "asked", unit, task.folder, sys.executable, task.folder)
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (commands, os.environ["PATH"]))
    monkeypatch.setattr(launch, "SYSTEMD", str(tmp_path))
    assert task.start()["worker"]["running"]
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert "show --property=LoadState,ExecStart dcs-migration-sync@task.service" in asked[0]
    assert any("start dcs-migration-sync@task.service" in line for line in asked) == (unit == "LoadState=loaded")
    task.wait_synced()


def test_a_worker_that_cannot_start_is_told(
    task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the reason from its log, and at once."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "__init__.py").write_text("raise RuntimeError('some broken library')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MigrationError, match="its worker ended at once; its log ends with: (?s:.*)RuntimeError: some broken library"):
        sync("started", source=endpoint_of(source), target=endpoint_of(target))
    assert one(task)["status"] == "pending"
    monkeypatch.delenv("PYTHONPATH")
    assert sync("synced", wait_timeout=60)["actions"] == ["start the worker"]


def test_full_ends_by_itself(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    result = task.call("synced", method="full", wait_timeout=60)
    assert result["task"]["status"] == "succeeded" and result["task"]["method"] == "full"
    assert not task.pids() and source.digest() == target.digest()
    source.client().set("later", "value")
    assert sync("started")["changed"] is False and not target.client().exists("later")


def test_the_error_of_a_task_is_that_of_the_module(source: RedisServer, target: RedisServer, task: OnlineTask, sync: Sync) -> None:
    target.client().set("key:7", "another value")
    with pytest.raises(MigrationError, match="key:7") as caught:
        sync("synced", source=endpoint_of(source), target=endpoint_of(target), on_conflict="fail", wait_timeout=60)
    result = caught.value.result  # type: ignore[attr-defined]
    assert result["changed"] and result["task"]["status"] == "failed" and "key:7" in result["task"]["error"]
    assert not task.pids() and sync("stopped")["changed"] is False
    assert target.client().get("key:7") == b"another value"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_task_that_failed_goes_on(
    source: RedisServer, target: RedisServer, task: OnlineTask, sync: Sync, tcp_proxy: Callable[..., TcpProxy], side: str
) -> None:
    """One that is not to try for ever ends with the error of receiver or applier, and is started again when that is mended."""
    ends = {"source": endpoint_of(source), "target": endpoint_of(target)}
    network = tcp_proxy(ends[side]["addresses"][0])
    ends[side]["addresses"] = [network.address]
    sync("synced", **ends, auto_reconnect=False, wait_timeout=60)
    network.refuse()
    wait_until(lambda: one(task)["status"] == "failed" and not task.pids(), "the task has failed")
    assert network.address in one(task)["error"]
    source.client().set("meanwhile", "value")
    network.heal()
    assert sync("synced", wait_timeout=60)["actions"] == ["start the worker"]
    assert one(task)["error"] is None and one(task)["shards"][0]["full_syncs"] == 1
    sync("finished", wait_timeout=60)
    assert source.digest() == target.digest()


def test_to_try_for_ever_is_changed_while_it_runs(
    source: RedisServer, target: RedisServer, task: OnlineTask, sync: Sync, tcp_proxy: Callable[..., TcpProxy]
) -> None:
    network = tcp_proxy(source.address)
    sync("synced", source={**endpoint_of(source), "addresses": [network.address]}, target=endpoint_of(target), wait_timeout=60)
    assert sync("started", auto_reconnect=False)["actions"] == ["change auto_reconnect"]
    network.refuse()
    wait_until(lambda: one(task)["status"] == "failed", "the task has failed", 60)
    assert network.address in one(task)["error"]


def test_waiting_has_an_end(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    """The error says how far it is, and the task goes on."""
    source.client().set("big", os.urandom(4 << 20))
    with pytest.raises(MigrationError, match=r"was not in sync within 2 s; it is (full_migrating, \d+ % of the snapshot|pending)"):
        sync("synced", source=endpoint_of(source), target=endpoint_of(target), bandwidth_limit=1 << 20, wait_timeout=2)
    assert sync("synced", bandwidth_limit=0, wait_timeout=60)["actions"] == ["change bandwidth_limit"]


def test_forgetting_needs_the_target(task: OnlineTask, server: Callable[..., RedisServer], source: RedisServer, sync: Sync) -> None:
    gone = server("redis-6.2")
    task.call("started", target=endpoint_of(gone))
    task.wait_synced()
    gone.kill()
    with pytest.raises(ConnectError, match=gone.address.replace(".", r"\.")):
        sync("absent")
    assert one(task)["status"] == "stopped"
    assert sync("absent", force=True)["changed"] and not task.folder.exists()


@pytest.mark.parametrize("name", ["status.json", "worker.json", "sources.json"])
def test_a_host_that_crashed_left_an_empty_report(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync, name: str) -> None:
    """The task goes on, and can be removed: nothing depends on what these files say."""
    task.start()
    task.wait_synced()
    task.kill("watchdog")
    (task.folder / name).write_bytes(b"")
    assert one(task)["name"] == "task"
    source.client().set("meanwhile", "value")
    assert sync("synced", wait_timeout=60)["actions"] == ["start the worker"]
    assert target.client().get("meanwhile") == b"value"
    assert one(task)["shards"][0]["full_syncs"] == 1
    task.kill("watchdog")
    (task.folder / name).write_bytes(b"{")
    assert "remove the task's own keys from the target" in sync("absent")["actions"]
    assert source.digest() == target.digest() and list(task.state_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["applier.json", "config.json"])
def test_absent_of_what_cannot_be_read(task: OnlineTask, target: RedisServer, sync: Sync, name: str) -> None:
    task.start()
    task.wait_synced()
    task.kill("watchdog")
    (task.folder / name).write_bytes(b"")
    with pytest.raises(FileError, match="%s: cannot be read: .*set force" % name):
        sync("absent")
    assert sync("absent", force=True)["changed"] and not task.folder.exists()
    target.flush()


@pytest.mark.parametrize("name", ["applier.json", "left_alone.json", "strangers.json"])
def test_a_damaged_memory_is_an_error(task: OnlineTask, target: RedisServer, sync: Sync, name: str) -> None:
    """What it says cannot be had from anywhere else: the task says so at once, and goes on when it is back."""
    task.start()
    task.wait_synced()
    sync("stopped")
    path = task.folder / name
    content = path.read_bytes() if path.exists() else b"[]" if name == "left_alone.json" else b"{}"
    path.write_bytes(b"{")
    with pytest.raises(MigrationError, match="%s: cannot be read: .*Restore it" % name):
        sync("synced", wait_timeout=30)
    report = one(task)
    assert report["status"] == "failed" and name in report["error"] and not report["worker"]["running"]
    path.write_bytes(content)
    assert sync("synced", wait_timeout=60)["actions"] == ["start the worker"]
    assert one(task)["shards"][0]["full_syncs"] == 1 and one(task)["error"] is None


def test_the_clock_of_the_host_is_set_back(task: OnlineTask, sync: Sync) -> None:
    """What the worker says counts by the clock of now, though it began at a later hour; what was said at a later hour does not."""
    task.start()
    task.wait_synced()
    began = task.folder / "worker.json"
    began.write_text(json.dumps({**task.read("worker.json"), "started": time.time() + 3600}), encoding="utf-8")
    sync("synced", wait_timeout=10)
    os.kill(task.pids()["applier"], signal.SIGSTOP)
    said = task.folder / "status.json"
    said.write_text(json.dumps({**task.status(), "at": time.time() + 3600}), encoding="utf-8")
    assert one(task)["following"] is False


def test_a_request_to_finish_is_taken_back(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    task.start()
    task.wait_synced()
    target.process.freeze()
    source.client().set("meanwhile", "value")
    with pytest.raises(MigrationError, match="was not finished within 1 s"):
        sync("finished", wait_timeout=1)
    assert sync("started", check_mode=True)["actions"] == ["ask the worker to go on"]
    assert sync("started")["actions"] == ["ask the worker to go on"] and sync("started")["changed"] is False
    target.process.thaw()
    assert sync("synced", wait_timeout=60)["changed"] is False
    source.client().set("later", "value")
    arrives(target, "later")
    assert sync("finished", wait_timeout=60)["task"]["status"] == "succeeded"


def test_two_modules_at_one_task(task: OnlineTask, monkeypatch: pytest.MonkeyPatch, sync: Sync) -> None:
    """One removes the folder that the other has just made, and then the one that the other waits for."""
    made: list[bool] = []
    make = TaskFolder.make

    def removed(folder: TaskFolder) -> None:
        make(folder)
        made.append(True)
        if len(made) == 1:
            os.rmdir(folder.path)

    lock = fcntl.flock

    def late(handle: int, how: int) -> None:
        if len(made) == 2:
            os.rmdir(task.folder)
            made.append(True)
        lock(handle, how)

    monkeypatch.setattr(TaskFolder, "make", removed)
    monkeypatch.setattr(fcntl, "flock", late)
    assert task.call("present")["actions"] == ["set up the task"]
    assert len(made) == 4 and one(task)["status"] == "pending"


def test_absent_leaves_only_the_data(task: OnlineTask, source: RedisServer, target: RedisServer, sync: Sync) -> None:
    task.start()
    task.wait_synced()
    planned = sync("absent", check_mode=True)["actions"]
    assert planned == ["stop the worker", "remove the task's own keys from the target", "remove the task"]
    assert len(task.pids()) == 3
    assert sync("absent")["actions"] == planned
    assert source.digest() == target.digest() and list(task.state_dir.iterdir()) == []


def test_info_of_what_cannot_be_read(task: OnlineTask, sync: Sync) -> None:
    """One such task hides no other; a name that nobody has gives nothing."""
    task.call("present")
    broken = TaskFolder(str(task.state_dir), "broken")
    broken.make()
    Path(broken.file("config.json")).write_text("{", encoding="utf-8")
    first, second = info(str(task.state_dir))
    assert first["name"] == "broken" and first["status"] == "failed" and "config.json: cannot be read" in first["error"]
    assert second["name"] == "task" and second["status"] == "pending"
    assert info(str(task.state_dir), "nobody") == [] and info(str(task.state_dir / "nowhere")) == []
