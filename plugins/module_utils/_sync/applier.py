# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The process that writes: follows the streams into the target until it is told to halt or to finish."""

from __future__ import annotations

import gc
import os
import signal
import time
from typing import Any, Dict, Optional

from .._codec.errors import CodecError
from .._errors import FileError, LostError, MigrationError, ServerError
from .._server.probe import probe
from .._sink.target import Target
from .checkpoints import FileCheckpoints, TargetCheckpoints
from .config import Config, stamp
from .folder import TaskFolder
from .log import Log
from .memory import Memory
from .session import Session, Stop
from .sources import Sources
from .status import FAILED, STOPPED, SUCCEEDED, Status

DONE, AGAIN, FAILED_FOR_GOOD = 0, 1, 3
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
# Where reconnecting is not wanted: so many sessions in a row may fail.
_TRIES = 5


def main(folder: TaskFolder) -> int:
    """Run the task ``folder`` describes; an exit code for the watchdog."""
    # Commands are short-lived lists of bytes: looking for cycles among them takes a fifth of the time.
    gc.set_threshold(200_000, 50, 100)
    try:
        return Applier(folder).run()
    except MigrationError as exc:
        # A file that it cannot be without is damaged: no other try mends that.
        log = Log(folder.file("worker.log"), "applier")
        log("failed: %s" % exc)
        status = Status(folder, log)
        status.fail(exc, final=True)
        status.write()
        return FAILED_FOR_GOOD


class Applier:
    def __init__(self, folder: TaskFolder) -> None:
        self.folder = folder
        self.log = Log(folder.file("worker.log"), "applier")
        self._config_stamp = stamp(folder)
        self.config = Config.load(folder)
        self.status = Status(folder, self.log)
        self.sources = Sources(folder)
        self.memory = Memory(folder)
        self._session: Optional[Session] = None
        self._stopping = False
        # The request to finish, by its number; 0 for none.
        self._finish = 0
        self._checked = 0.0
        signal.signal(signal.SIGTERM, self._on_term)
        # For writing too: without a writer it would count as ready all the time.
        self._wake = os.open(folder.file("wake"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _on_term(self, _number: int, _frame: Any) -> None:
        self._stopping = True

    # -- life ----------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Sessions, one after the other, until one ends as it should."""
        pause = _FIRST_PAUSE
        failures = 0
        while True:
            started = time.monotonic()
            self._session = None
            try:
                if self.memory.finishing:
                    return self._forget()
                self._session = Session(
                    self.folder, self.config, self.status, self.sources, self.memory, self.log, self.check, self._wake
                )
                return self._follow(self._session)
            except Stop:
                return self._stopped()
            except (ServerError, FileError, CodecError) as exc:
                error = exc if isinstance(exc, MigrationError) else LostError("the stream of the source", str(exc), "Report this defect")
            except MigrationError as exc:
                return self._failed(exc)
            finally:
                if self._session is not None:
                    self._session.close()
            failures = 1 if time.monotonic() - started > 30 else failures + 1
            pause = _FIRST_PAUSE if failures == 1 else min(_LONGEST_PAUSE, 2 * pause)
            if not self.config.auto_reconnect and failures >= _TRIES:
                return self._failed(error)
            self.log("%s Trying again in %g s" % (error, pause))
            self.status.fail(error, final=False)
            self._write_status()
            try:
                if not self._sleep(pause):
                    return self._stopped()
            except FileError as exc:
                self.log(str(exc))

    def _follow(self, session: Session) -> int:
        session.begin()
        self.status.error = None
        self.status.following = self.config.method != "full"
        self._write_status()
        if self.config.method == "full":
            self._succeed()
            return DONE
        self.log("following the source")
        goals: Dict[int, int] = {}
        asked = 0
        while True:
            session.turn()
            if self.status.error is not None:
                self.status.error = None
            if self._finish != asked:
                asked = self._finish
                goals = session.goals() if asked else {}
                where = ", ".join("offset %d of stream %d" % (goal, number) for number, goal in goals.items())
                self.log("finishing at %s" % where if asked else "not finishing any more, as asked")
            if goals and session.has_reached(goals):
                # A checkpoint on its way would come behind the removal, which has a connection of its own; and what was sent behind the
                # goals may have come too late for its keys.
                session.settle()
                if session.homes.open or not self._is_still_to_finish(asked):
                    continue
                session.lanes.require_checkpoints()
                self.memory.finish()
                session.lanes.remove_checkpoints()
                self._succeed()
                return DONE

    def _is_still_to_finish(self, asked: int) -> bool:
        """Look once more: there is no way back."""
        self._checked = 0.0
        self.check()
        return self._finish == asked

    def _forget(self) -> int:
        """The last run had done everything but to remove its checkpoints."""
        remove_checkpoints(self.folder, self.config, self.memory)
        self._succeed()
        return DONE

    def _succeed(self) -> None:
        self.log("finished")
        self.status.error = None
        self.status.progress = 100
        self.status.change(SUCCEEDED)
        self._write_status()

    def _stopped(self) -> int:
        self.log("halted")
        self.status.change(STOPPED)
        self._write_status()
        return DONE

    def _failed(self, error: MigrationError) -> int:
        self.log("failed: %s" % error)
        self.status.fail(error, final=True)
        self._write_status()
        return FAILED_FOR_GOOD

    def _write_status(self) -> None:
        self.status.write(self.sources.spool)

    # -- the user's word -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look for a request of the user, a few times a second; :class:`Stop`."""
        if self._stopping:
            raise Stop
        now = time.monotonic()
        if now - self._checked < 0.1:
            return
        self._checked = now
        request: Dict[str, Any] = self.folder.peek("request.json")
        if request.get("state") == "stop":
            raise Stop
        self._finish = int(request.get("serial", 0)) + 1 if request.get("state") == "finish" else 0
        config_stamp = stamp(self.folder)
        if config_stamp != self._config_stamp:
            self._config_stamp = config_stamp
            self.config = self.config.renewed(self.folder)
            if self._session is not None:
                self._session.config = self.config

    def _sleep(self, seconds: float) -> bool:
        """Whether the time passed without a word of the user."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.check()
            except Stop:
                return False
            self.sources.refresh()
            time.sleep(0.05)
        return True


def forget(folder: TaskFolder) -> None:
    """Remove what the task has put into its target beside the data. MigrationError."""
    memory = Memory(folder)
    if memory.names:
        remove_checkpoints(folder, Config.load(folder), memory)


def remove_checkpoints(folder: TaskFolder, config: Config, memory: Memory) -> None:
    instance = probe(config.target)
    if instance.topology.kind == "proxy_cluster":
        FileCheckpoints(folder).remove()
        return
    target = Target(config.target, instance, "replace", "the checkpoints")
    try:
        TargetCheckpoints.remove(target, memory.names)
    finally:
        target.close()


__all__ = ["FAILED", "forget", "main"]
