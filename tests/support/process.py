# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A child process that cannot outlive the tests, and the ports such processes listen on."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.005
LOG_TAIL_LINES = 40

# Below the range that the kernel takes ports of outgoing connections from, and low enough that a cluster
# bus (port + 10000) is below it too.
_PORTS = range(10000, 20000)
_BUS_OFFSET = 10000

# Asks the kernel to end the process when its parent ends, then becomes the program. PR_SET_PDEATHSIG is 1.
_BECOME = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or os._exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)

# That signal is tied to the *thread* that started the child, so one thread that lives as long as we do starts all.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class StartError(Exception):
    """A process did not come up; the text holds the end of its log."""


def wait_until(ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll until ``ready()``; raise TimeoutError naming ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError("after %g s still not: %s" % (seconds, what))
        time.sleep(POLL_SECONDS)


class Port:
    """A port of the loopback interface, reserved against other test runs until ``release``."""

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / ("dcs-migration-ports-%d" % os.getuid())
        folder.mkdir(mode=0o700, exist_ok=True)
        candidates = list(_PORTS)
        random.shuffle(candidates)
        for number in candidates:
            handle = open(folder / str(number), "a", encoding="ascii")  # noqa: SIM115
            if _lock(handle) and _free(number) and _free(number + _BUS_OFFSET):
                self.number = number
                self._handle: IO[str] = handle
                return
            handle.close()
        raise StartError("no free port on the loopback interface")

    def release(self) -> None:
        """Let others have it."""
        self._handle.close()


def _lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


class Process:
    """One child, its output in a file, ended by ``stop`` or ``kill`` or with us."""

    def __init__(self, argv: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = argv
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise StartError("%s is not running" % self.argv[0])
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Start it and wait until ``ready()``; it does not stay behind when that fails."""
        argv = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *self.argv]
        with open(self.log, "ab") as output:
            self._child = _spawner.submit(
                subprocess.Popen, argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._env
            ).result()
        try:
            wait_until(lambda: not self.running or ready(), "%s answers" % self.argv[-1], seconds)
            if not self.running:
                raise StartError("it ended with status %s" % (self._child.returncode if self._child else None))
        except BaseException as exc:
            self.kill()
            if isinstance(exc, (StartError, TimeoutError)):
                raise StartError("%s\n%s\n%s" % (" ".join(self.argv), exc, self.tail())) from exc
            raise

    def tail(self) -> str:
        """The end of what it printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def stop(self) -> None:
        """End it in good order, or in bad order when it does not hurry."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def freeze(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        os.kill(self.pid, signal.SIGCONT)
