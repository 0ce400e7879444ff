# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The worker of one task: a watchdog that holds the task's lock, starts receiver and applier and starts them again when they die.

The three are one program that forks, so that they share the pages of everything imported. Nothing here has a thread: forks are safe, and the
kernel's signal at the parent's death (PR_SET_PDEATHSIG) goes by the thread that forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import stat
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, Optional

from .._errors import MigrationError
from .applier import main as apply
from .folder import TaskFolder, boot_id
from .log import Log
from .receiver import main as receive

DETACH = "detach"
LOG = "worker.log"
# Exit codes of receiver and applier, and of the worker.
DONE, FAILED, FAILED_FOR_GOOD = 0, 1, 3

_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before a child is started again; doubled each time
_LOOK_EVERY = 0.5  # seconds, for an applier that asks a receiver which has done its work for more
_HEALTHY = 30.0  # seconds a child lives until its next death counts as the first
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_LOCK_PATIENCE = 2.0  # seconds: someone may just be looking whether the lock is taken, or an old child be dying
_SIGNALS = frozenset((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT))
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
# The receiver's place among other processes, where it may take it: a busy host must not make the source's buffer for it overrun.
_NICE = -10
_SWITCH = 0.0005  # seconds, of 0.005 by default


def start(path: str, *options: str) -> int:
    """What ``python engine.zip`` runs; ``path`` is the task's folder.

    With the option ``detach`` the process that was called ends as soon as the worker, its child, has said hello (0) or has ended (1).
    """
    if DETACH not in options:
        return main(path)
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return DONE if os.read(reading, 1) else FAILED
    os.close(reading)

    def hello() -> None:
        os.write(writing, b"+")
        os.close(writing)

    return main(path, hello)


def main(path: str, hello: Optional[Callable[[], None]] = None) -> int:
    """Be the worker of the task in the folder ``path``; ``hello`` is called when its processes run."""
    os.umask(0o077)
    folder = TaskFolder.at(path)
    log = Log(folder.file(LOG), "watchdog")
    deadline = time.monotonic() + _LOCK_PATIENCE
    # Never closed: the children share it, so the task is free only when the last of them has ended.
    while folder.lock() is None:
        if time.monotonic() > deadline:
            log("another worker has this task; this one ends")
            return FAILED
        time.sleep(0.05)
    try:
        return Watchdog(folder, log).run(hello or _notify_systemd)
    except Exception:
        log(traceback.format_exc())
        return FAILED


class _Child:
    """``main`` runs in a process of its own. ``due`` is the time (monotonic) to start it at, while it has no ``pid``."""

    def __init__(self, name: str, run: Callable[[TaskFolder], int]) -> None:
        self.name = name
        self.run = run
        self.pid: Optional[int] = None
        self.since = 0.0
        self.pause = _PAUSE
        self.due = 0.0
        self.done = False
        self.restarts = 0


class Watchdog:
    """``run`` returns the worker's exit code."""

    def __init__(self, folder: TaskFolder, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._log = log
        self._receiver = _Child("receiver", receive)
        self._applier = _Child("applier", apply)
        self._children = [self._receiver, self._applier]
        self._started = time.time()

    def run(self, hello: Callable[[], None]) -> int:
        _make_fifo(self._folder.file("wake"))
        # Signals are taken out of a queue, one at a time, and interrupt nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # What is there now is shared with the children and is never garbage: a collection must not write to its pages.
        gc.collect()
        gc.freeze()
        try:
            self._start_due()
            hello()
            return self._watch()
        finally:
            self._end()

    # -- life --------------------------------------------------------------------------------------------------------

    def _watch(self) -> int:
        while True:
            waiting = [child.due for child in self._children if child.pid is None and not child.done]
            pause = max(0.0, min(waiting) - time.monotonic()) if waiting else _LOOK_EVERY if self._receiver.done else 3600.0
            event = signal.sigtimedwait(_SIGNALS, pause)
            if event is not None and event.si_signo != signal.SIGCHLD:
                self._log("ends, as asked by signal %d" % event.si_signo)
                return DONE
            for child in self._children:
                code = self._reap(child)
                if code is not None:
                    return code
            if self._receiver.done and self._is_asked_again():
                self._log("another snapshot is asked for; the receiver is started again")
                self._receiver.done = False
            self._start_due()

    def _start_due(self) -> None:
        due = [child for child in self._children if child.pid is None and not child.done and child.due <= time.monotonic()]
        for child in due:
            self._start(child)
        if due:
            self._tell()

    def _start(self, child: _Child) -> None:
        watchdog = os.getpid()
        child.since = time.monotonic()
        try:
            child.pid = os.fork()
        except OSError as exc:
            self._log("the %s cannot be started: %s" % (child.name, exc))
            child.due = child.since + _LONGEST_PAUSE
            return
        if child.pid:
            return
        code = FAILED
        try:
            _be(child.name, watchdog)
            code = child.run(self._folder)
        except BaseException:
            Log(self._folder.file(LOG), child.name)(traceback.format_exc())
        finally:
            os._exit(code)

    def _reap(self, child: _Child) -> Optional[int]:
        """Look whether a child has ended. The worker's exit code where that ends the worker, too."""
        if child.pid is None:
            return None
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if not pid:
            return None
        child.pid = None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if child is self._applier and code == DONE:
            self._log("the applier has ended; so has the task's work")
            return DONE
        if code == FAILED_FOR_GOOD:
            self._log("the %s has failed for good" % child.name)
            self._end()
            if child is self._receiver:
                self._fail()
            return FAILED_FOR_GOOD
        if child is self._receiver and code == DONE and self._all_received():
            self._log("the receiver has read all there is to read")
            child.done = True
            return None
        if time.monotonic() - child.since >= _HEALTHY:
            child.pause = _PAUSE
        child.due = time.monotonic() + child.pause
        child.restarts += 1
        ending = "by signal %d" % -code if code < 0 else "with status %d" % code
        self._log("the %s ended %s; starting it again in %.1f s" % (child.name, ending, child.pause))
        child.pause = min(_LONGEST_PAUSE, 2 * child.pause)
        self._tell()
        return None

    def _end(self) -> None:
        """End the children, by force when they take their time."""
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        while any(child.pid for child in self._children) and time.monotonic() < deadline:
            signal.sigtimedwait((signal.SIGCHLD,), max(0.0, deadline - time.monotonic()))
            for child in self._children:
                if child.pid and os.waitpid(child.pid, os.WNOHANG)[0]:
                    child.pid = None
        for child in self._children:
            if child.pid:
                self._log("the %s did not end in %d s and is killed" % (child.name, _GRACE))
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = None

    # -- files -------------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Write ``worker.json``. A full disk must not end the worker: it is what the receiver waits out."""
        state: Dict[str, Any] = {"boot_id": boot_id(), "watchdog": os.getpid(), "started": self._started}
        state.update((child.name, child.pid) for child in self._children)
        state["restarts"] = {child.name: child.restarts for child in self._children}
        try:
            self._folder.write("worker.json", state)
        except MigrationError as exc:
            self._log(str(exc))

    def _streams(self) -> List[Dict[str, Any]]:
        return self._folder.peek("sources.json").get("streams") or []

    def _all_received(self) -> bool:
        streams = self._streams()
        return bool(streams) and all(stream.get("state") == "ended" for stream in streams)

    def _is_asked_again(self) -> bool:
        """Whether the applier has no use for what was received."""
        with contextlib.suppress(MigrationError):
            wanted = self._folder.peek("resync.json")
            return any(wanted.get(str(stream.get("id"))) == stream.get("generation") for stream in self._streams())
        return False

    def _fail(self) -> None:
        """Write the receiver's error into ``status.json``: the applier cannot know of it."""
        errors = [self._folder.peek("sources.json").get("error")]
        errors += [stream.get("error") for stream in self._streams()]
        unknown = {"message": "The receiver failed; %s says why." % self._folder.file(LOG)}
        error = next((error for error in errors if error), unknown)
        status = {"name": self._folder.name, **self._folder.peek("status.json")}
        status.update(status="failed", error=error, since=time.time())
        try:
            self._folder.write("status.json", status)
        except MigrationError as exc:
            self._log(str(exc))


def _be(name: str, watchdog: int) -> None:
    """Become a child: end with the watchdog, default signals, a name for ``top``."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != watchdog:
        raise SystemExit(FAILED)
    libc.prctl(_PR_SET_NAME, b"dcs-" + name.encode("ascii"), 0, 0, 0)
    if name == "receiver":
        _go_first()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _go_first() -> None:
    """Get the processor when there is something to do, as far as this user may ask for it."""
    # Linux weighs sessions against each other (autogroup), and nice counts within one only.
    os.setsid()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as handle:
        handle.write("%d" % _NICE)
    # Nor may its own threads keep each other waiting: between two reads a stream asks for the interpreter three times.
    sys.setswitchinterval(_SWITCH)


def _make_fifo(path: str) -> None:
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return
        os.unlink(path)
    except FileNotFoundError:
        pass
    os.mkfifo(path, 0o600)


def _notify_systemd() -> None:
    """Say hello where systemd started the worker (``Type=notify``)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.connect("\0" + address[1:] if address.startswith("@") else address)
            notices.send(b"READY=1")
