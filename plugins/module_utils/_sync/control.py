# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Bringing a task into the state that the user asks for: what ``online_sync`` calls."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from dataclasses import fields
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from .._errors import FileError, MigrationError, UsageError
from .._server.endpoint import Endpoint
from .._server.topology import discover
from .._sink.failover import run_id
from .applier import forget
from .config import CONFIG, LIVE, OPTIONS, Config
from .folder import TaskFolder, boot_id
from .install import install
from .launch import launch
from .report import ENDED, failure, in_sync, report

STATE_DIR = "~/.local/state/dcs_migration/tasks"
WAIT_TIMEOUT = 600
# Parts of an endpoint that say how to log in, not which deployment it is.
LOGIN = frozenset(("username", "password", "provider", "tls", "ca_certs", "client_cert", "client_key", "validate_certs"))

_STOP_SECONDS = 20.0  # the watchdog allows its children ten
_POLL_SECONDS = 0.25


def apply(params: Mapping[str, Any], check_mode: bool = False, warn: Callable[[str], None] = lambda text: None) -> Dict[str, Any]:
    """Do what ``state`` says. ``params`` are the options of ``online_sync``; those that are missing or None count as left out.

    Returns ``changed``, ``actions`` (what was done, or would be in check mode) and ``task``. Errors: MigrationError, which carries the
    same on ``result``.
    """
    control = _Control(params, check_mode, warn)
    try:
        control.apply(params.get("state") or "started")
    except MigrationError as exc:
        exc.result = control.result()  # type: ignore[attr-defined]
        raise
    return control.result()


class _Control:
    def __init__(self, params: Mapping[str, Any], check_mode: bool, warn: Callable[[str], None]) -> None:
        self._params = params
        self._check_mode = check_mode
        self._warn = warn
        self._folder = TaskFolder(params.get("state_dir") or STATE_DIR, params["name"])
        self._what = "task %s" % self._folder.name
        self._config: Optional[Config] = None
        self._actions: List[str] = []
        self._task: Dict[str, Any] = {}

    def apply(self, state: str) -> None:
        with self._alone():
            if state == "absent":
                self._absent()
                return
            if state == "stopped" and self._folder.exists():
                self._stop()
            config = self._config = self._configure()
            if state in ("started", "synced", "finished"):
                self._start(config, "finish" if state == "finished" else "run")
        if self._check_mode:
            return
        if state == "synced":
            self._wait("in sync", lambda task: in_sync(task, config))
        elif state == "finished":
            self._wait("finished", lambda task: task["status"] == "succeeded")

    def result(self) -> Dict[str, Any]:
        task = self._task
        if self._config is not None:
            # Errors in the files have been reported by now, or are the very one that is.
            with contextlib.suppress(MigrationError):
                task = report(self._folder, self._config)
        return {"changed": bool(self._actions), "actions": self._actions, "task": task}

    def _do(self, action: str) -> bool:
        """Note what is done; whether to do it."""
        self._actions.append(action)
        return not self._check_mode

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other modules off this task. Its worker has a lock of its own."""
        if self._check_mode or (self._params.get("state") == "absent" and not self._folder.exists()):
            yield
            return
        handle = self._hold()
        try:
            yield
        finally:
            os.close(handle)
            # Where nothing came of it.
            with contextlib.suppress(OSError):
                os.rmdir(self._folder.path)

    def _hold(self) -> int:
        """A descriptor of the folder, locked; of the one that is there: another module may remove it meanwhile."""
        while True:
            self._folder.make()
            try:
                handle = os.open(self._folder.path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(self._folder.path)):
                    return handle
            os.close(handle)

    # -- present -----------------------------------------------------------------------------------------------------

    def _configure(self) -> Config:
        stored = self._folder.read(CONFIG)
        wanted = dict(stored or {})
        wanted.update((name, _plain(self._params[name])) for name in OPTIONS if self._params.get(name) is not None)
        if not wanted.get("source") or not wanted.get("target"):
            raise UsageError(self._what, "does not exist in %s" % os.path.dirname(self._folder.path), "Give source and target to set it up")
        config = Config.build(self._folder.name, wanted)
        if stored is None:
            self._config = config
            if self._do("set up the task"):
                self._folder.write(CONFIG, wanted, durable=True)
            return config
        old = self._config = Config.build(self._folder.name, stored)
        changes = _changes(old, config)
        fixed = [name for name in changes if name not in LIVE and name.partition(".")[2] not in LOGIN]
        if fixed and self._begun():
            raise UsageError(
                self._what,
                "has begun already, and %s cannot be changed any more" % ", ".join(fixed),
                "Leave the task as it is, or remove it first (state absent) and begin again",
            )
        if any(name not in LIVE for name in changes) and self._folder.is_locked():
            raise UsageError(
                self._what,
                "is running, and %s cannot be changed meanwhile" % ", ".join(name for name in changes if name not in LIVE),
                "Stop it first (state stopped)",
            )
        if changes and self._do("change " + ", ".join(changes)):
            self._folder.write(CONFIG, wanted, durable=True)
        return config

    def _begun(self) -> bool:
        """Whether anything of this source may be in the target."""
        if os.path.exists(self._folder.file("applier.json")):
            return True
        streams = self._folder.peek("sources.json").get("streams") or []
        return any(stream.get("replication_id") for stream in streams)

    # -- started, synced, finished -----------------------------------------------------------------------------------

    def _start(self, config: Config, wanted: str) -> None:
        task = report(self._folder, config)
        if task["status"] == "succeeded":
            return
        finish, request = wanted == "finish", self._request()["state"]
        if task["worker"]["running"] and task["status"] not in ENDED and request != "stop":
            # To finish is asked anew: the source has moved on. A request to finish that nobody waits for any more is taken back.
            if finish or request == "finish":
                if self._do("ask the worker to finish" if finish else "ask the worker to go on"):
                    self._ask(wanted)
            return
        if not self._check_mode:
            # One that has failed, was asked to stop, or was killed, may not be gone yet.
            self._await_end()
        if not self._begun():
            # Wrong addresses and passwords are told now, instead of being tried for ever.
            _require_apart(config)
        if self._do("start the worker, and ask it to finish" if finish else "start the worker"):
            self._clear()
            self._ask(wanted)
            install(self._folder)
            launch(self._folder)

    def _clear(self) -> None:
        """What an earlier worker said of itself does not hold for the new one."""
        self._folder.remove("worker.json")
        status = self._folder.peek("status.json")
        if status:
            phase = "incr_migrating" if status.get("full_migration_progress") == 100 else "full_migrating"
            status.update(status=phase if self._begun() else "pending", following=False, error=None, since=time.time())
            self._folder.write("status.json", status)

    def _request(self) -> Dict[str, Any]:
        return {"state": "run", "serial": 0, **self._folder.peek("request.json")}

    def _ask(self, state: str) -> None:
        self._folder.write("request.json", {"state": state, "serial": self._request()["serial"] + 1}, durable=True)

    def _wait(self, goal: str, reached: Callable[[Dict[str, Any]], bool]) -> None:
        limit = self._params.get("wait_timeout")
        limit = WAIT_TIMEOUT if limit is None else limit
        deadline = time.monotonic() + limit
        while True:
            task = report(self._folder, self._config)
            # A worker that has done its work needs a moment to end.
            if task["status"] not in ENDED or not task["worker"]["running"]:
                if reached(task):
                    return
                error = failure(task)
                if error is not None:
                    raise error
            if time.monotonic() > deadline:
                raise MigrationError(
                    self._what,
                    "was not %s within %d s; it is %s" % (goal, limit, _progress(task)),
                    "It goes on in the background: ask again, with a longer wait_timeout",
                )
            time.sleep(_POLL_SECONDS)

    # -- stopped, absent ---------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        task = self._report()
        ending = task["worker"]["running"] and task["status"] in ENDED
        # One whose worker is gone would be reported as failed until it is told that this is as it should be.
        orphaned = task["status"] == "failed" and self._folder.peek("status.json").get("status") != "failed"
        if ending and not self._check_mode:
            self._await_end()
        elif (task["worker"]["running"] or orphaned) and self._do("stop the worker"):
            self._ask("stop")
            self._await_end()

    def _await_end(self) -> None:
        """Ask the worker to end until the lock is free; in the end the hard way."""
        began = time.monotonic()
        asked = 0
        while self._folder.is_locked():
            late = time.monotonic() - began > _STOP_SECONDS
            if late and time.monotonic() - began > 2 * _STOP_SECONDS:
                raise MigrationError(self._what, "its worker does not end", "Find out what holds the process, and end it")
            number = signal.SIGKILL if late else signal.SIGTERM
            worker = self._folder.peek("worker.json")
            # By another boot's number goes some other process; a worker that has just begun has not told its own yet.
            pid = worker.get("watchdog") if worker.get("boot_id") == boot_id() else None
            if pid and asked != number:
                asked = number
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.05)

    def _report(self) -> Dict[str, Any]:
        """Of a task that is to end, whose files may be damaged: what it takes to end it is known without them."""
        try:
            return report(self._folder)
        except MigrationError:
            return {"name": self._folder.name, "status": "unknown", "worker": {"running": self._folder.is_locked()}}

    def _absent(self) -> None:
        if not self._folder.exists():
            return
        self._task = self._report()
        self._stop()
        if self._task["status"] != "succeeded" and self._begun() and self._do("remove the task's own keys from the target"):
            try:
                forget(self._folder)
            except MigrationError as exc:
                if not self._params.get("force"):
                    if isinstance(exc, FileError):
                        raise FileError(exc.what, exc.why, "Restore it, or set force: then the task's own keys may stay in the target") from exc
                    raise
                self._warn("The task's own keys may still be in the target. %s" % exc)
        if self._do("remove the task"):
            try:
                _remove(self._folder)
            except OSError as exc:
                raise FileError(self._folder.path, "cannot be removed: %s" % exc, "Remove it by hand") from exc


def _require_apart(config: Config) -> None:
    """UsageError for a server that is source and target at once: it would be told of its own writes for ever. ServerError."""
    source, target = discover(config.source), discover(config.target)
    sources = {run_id(config.source, address) for address in source.masters} - {b""}
    for address in target.masters:
        if run_id(config.target, address) in sources:
            raise UsageError(str(address), "is source and target at once", "Name another target. A replica stands for its master")


def _plain(value: Any) -> Any:
    """An option as it is stored; of an endpoint only what was given."""
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items() if item is not None}
    return value


def _changes(old: Config, new: Config) -> List[str]:
    """Names of the options that differ, of endpoints like ``source.password``."""
    names: List[str] = []
    for name in Config._fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Endpoint):
            parts = [part.name for part in fields(before) if getattr(before, part.name) != getattr(after, part.name)]
            names += ["%s.%s" % (name, part) for part in parts]
        elif before != after:
            names.append(name)
    return names


def _progress(task: Dict[str, Any]) -> str:
    """How far a task is, in words."""
    text = str(task["status"])
    if task["status"] == "full_migrating":
        text += ", %s %% of the snapshot" % task["full_migration_progress"]
    lags = [shard["lag_bytes"] for shard in task["shards"] if shard.get("lag_bytes") is not None]
    if lags:
        text += ", %d bytes behind" % sum(lags)
    return ". ".join([text, *task["warnings"], *([task["error"]] if task["error"] else [])])


def _remove(folder: TaskFolder) -> None:
    """Remove the folder, what makes it a task last: when this is interrupted, it can be asked for again."""
    with os.scandir(folder.path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != CONFIG:
                os.unlink(entry.path)
    os.unlink(folder.file(CONFIG))
    os.rmdir(folder.path)
