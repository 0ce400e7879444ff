# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog, with a receiver and an applier that do as the test says; and the copy of the engine that it runs from."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder
from ansible_collections.dcs.migration.plugins.module_utils._sync.install import ENGINE, install
from ansible_collections.dcs.migration.tests.support.process import wait_until

PACKAGE = "ansible_collections.dcs.migration.plugins.module_utils._sync"
SCRIPT = """
import signal, sys, time
from %s import worker

def waits(folder):
    signal.pause()

def runs(folder):
    %%s

worker.%%s, worker.%%s = runs, waits
worker._GRACE = worker._LOCK_PATIENCE = 0.5
sys.exit(worker.main(sys.argv[1]))
""" % PACKAGE
ENDED = {"streams": [{"id": 0, "state": "ended"}]}

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    made = TaskFolder(str(tmp_path), "orders")
    made.make()
    return made


@pytest.fixture
def start(folder: TaskFolder) -> Iterator[Start]:
    """``start("code", "applier")``: a worker whose applier runs that code, and whose other child only waits."""
    with contextlib.ExitStack() as stack:

        def started(code: str, child: str = "applier", **environment: str) -> subprocess.Popen[bytes]:
            # The path at which this very collection was imported.
            root = str(Path(sys.modules[PACKAGE].__path__[0]).parents[5])
            names = ("apply", "receive") if child == "applier" else ("receive", "apply")
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT % (code, *names), folder.path], env={**os.environ, **environment, "PYTHONPATH": root}
            )
            stack.callback(end, process)
            return process

        yield started


def end(process: subprocess.Popen[bytes]) -> None:
    """Its children end with it."""
    process.kill()
    process.wait()


def pids(folder: TaskFolder) -> dict[str, Any]:
    """Those of a worker that runs whole."""

    def whole() -> bool:
        worker = folder.read("worker.json") or {}
        return bool(worker.get("receiver") and worker.get("applier"))

    wait_until(whole, "receiver and applier run")
    return dict(folder.read("worker.json"))


def log(folder: TaskFolder) -> str:
    return Path(folder.file("worker.log")).read_text(encoding="utf-8")


def gone(pid: int) -> bool:
    try:
        return Path("/proc/%d/stat" % pid).read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_child_that_is_killed_is_started_again(folder: TaskFolder, start: Start) -> None:
    start("signal.pause()")
    before = pids(folder)
    assert stat.S_ISFIFO(os.stat(folder.file("wake")).st_mode)
    os.kill(before["applier"], signal.SIGKILL)
    wait_until(lambda: folder.read("worker.json")["applier"] not in (None, before["applier"]), "another applier runs")
    after = pids(folder)
    assert after["receiver"] == before["receiver"] and after["watchdog"] == before["watchdog"]
    assert after["restarts"] == {"receiver": 0, "applier": 1}
    assert "the applier ended by signal 9; starting it again in 0.2 s" in log(folder)


def test_pauses_grow(folder: TaskFolder, start: Start) -> None:
    start("raise ValueError('some defect')")
    wait_until(lambda: "again in 0.8 s" in log(folder) if os.path.exists(folder.file("worker.log")) else False, "a third pause")
    assert log(folder).index("with status 1; starting it again in 0.2 s") < log(folder).index("again in 0.4 s")
    assert "ValueError: some defect" in log(folder)


def test_children_end_with_a_watchdog_that_is_killed(folder: TaskFolder, start: Start) -> None:
    process = start("signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()")
    running = pids(folder)
    end(process)
    wait_until(lambda: gone(running["receiver"]) and gone(running["applier"]), "its children are gone")
    assert not folder.is_locked()


def test_asked_to_end(folder: TaskFolder, start: Start) -> None:
    """By force where a child does not listen."""
    process = start("signal.signal(signal.SIGTERM, signal.SIG_IGN); open(folder.file('deaf'), 'w').close(); time.sleep(60)")
    running = pids(folder)
    wait_until(lambda: os.path.exists(folder.file("deaf")), "the applier does not listen")
    process.terminate()
    assert process.wait(10) == 0
    assert gone(running["receiver"]) and gone(running["applier"]) and not folder.is_locked()
    assert "the applier did not end" in log(folder)


@pytest.mark.parametrize(("code", "status"), [("return 0", 0), ("return 3", 3)])
def test_the_applier_ends_the_worker(folder: TaskFolder, start: Start, code: str, status: int) -> None:
    process = start(code)
    assert process.wait(10) == status
    assert gone(folder.read("worker.json")["receiver"]) and not folder.is_locked()
    assert folder.read("status.json") is None, "the applier's business"


def test_a_receiver_that_failed_for_good_is_told_of(folder: TaskFolder, start: Start) -> None:
    folder.write("status.json", {"name": "orders", "status": "full_migrating", "keys": 5})
    error = {"message": "h:1: no backlog."}
    process = start("folder.write('sources.json', %r); return 3" % {"error": None, "streams": [{"error": error}]}, "receiver")
    assert process.wait(10) == 3
    status = folder.read("status.json")
    assert (status["status"], status["error"], status["keys"]) == ("failed", error, 5)


def test_a_receiver_may_be_done(folder: TaskFolder, start: Start) -> None:
    """Only when it has read all; one that was merely asked to end is started again."""
    start("time.sleep(0.2); return 0", "receiver")
    wait_until(lambda: (folder.read("worker.json") or {}).get("restarts", {}).get("receiver", 0) > 0, "the receiver is started again")
    folder.write("sources.json", ENDED)
    wait_until(lambda: "the receiver has read all" in log(folder), "the receiver is done")
    assert folder.is_locked()


def test_a_second_worker_says_so_and_ends(folder: TaskFolder, start: Start) -> None:
    start("signal.pause()")
    running = pids(folder)
    assert start("signal.pause()").wait(10) == 1
    assert "another worker has this task" in log(folder)
    assert pids(folder) == running


def test_systemd_hears_of_it(folder: TaskFolder, start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(20)
        start("signal.pause()", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert notices.recv(100) == b"READY=1"
        assert folder.read("worker.json")["applier"]


def test_the_engine_runs_from_its_zip_alone(folder: TaskFolder) -> None:
    """Without Ansible and without the folder it was copied from."""
    install(folder)
    engine = folder.file(ENGINE)
    assert stat.S_IMODE(os.stat(engine).st_mode) == 0o600
    with zipfile.ZipFile(engine) as archive:
        assert "__main__.py" in archive.namelist() and not [name for name in archive.namelist() if not name.endswith(".py")]
    code = (
        "import json, sys; sys.path.insert(0, %r); sys.modules['ansible'] = None; from %s import worker; "
        "print(json.dumps([m.__spec__.origin for n, m in sys.modules.items() if n.startswith('ansible_collections.')]))"
    )
    shown = subprocess.run([sys.executable, "-I", "-c", code % (engine, PACKAGE)], stdout=subprocess.PIPE, check=True, cwd="/").stdout
    origins = json.loads(shown)
    assert len(origins) > 20 and all(origin.startswith(engine) for origin in origins)


def test_the_engine_can_be_copied_from_a_zip(folder: TaskFolder, tmp_path: Path) -> None:
    """As from Ansible's payload, in which the engine is when a module installs it."""
    install(folder)
    first = Path(folder.file(ENGINE)).rename(tmp_path / "payload.zip")
    code = "import sys; sys.path.insert(0, %r); from %s import install, folder; install.install(folder.TaskFolder.at(%r))"
    subprocess.run([sys.executable, "-I", "-c", code % (str(first), PACKAGE, folder.path)], check=True, cwd="/")
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(folder.file(ENGINE)) as other:
        assert {name: one.read(name) for name in one.namelist()} == {name: other.read(name) for name in other.namelist()}
