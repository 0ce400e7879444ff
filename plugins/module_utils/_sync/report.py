# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a task's files say, as ``online_sync_info`` reports it. Needs no worker, and no secret gets into it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from .._errors import MigrationError, UsageError
from .config import Config
from .folder import TaskFolder, boot_id, task_names
from .spool import free

# What the applier writes into status.json, and its value before it has.
_DYNAMIC: Dict[str, Any] = {
    "full_migration_progress": 0, "keys": 0, "skipped": 0, "expired": 0, "commands": 0, "copied": 0, "bytes": 0, "bytes_per_second": 0,
    "ops_per_second": 0, "errors": 0, "since": None,
}  # fmt: skip
_RATES = ("bytes_per_second", "ops_per_second")
# States of a stream whose offsets are those of now; a master that has left its cluster has no more of them.
_LINKED = ("streaming", "ended")
# What the receiver writes into sources.json of a stream, under the names of the report.
_RECEIVED = ("state", "received_offset", "source_offset", "reconnects", "error")
ENDED = ("succeeded", "failed")
# Seconds up to which what applier and receiver wrote is of now: both write at least once a second. And up to which a master's offset is:
# the masters are asked one after the other, each second.
_FRESH = 3.0
_ASKED = 10.0
# Seconds after which a person may want to know that one of them writes nothing any more.
_SILENT = 15.0
# Free bytes that are none: the reports themselves are small.
_FULL = 1 << 20


def info(state_dir: str, name: Optional[str] = None) -> List[Dict[str, Any]]:
    """Reports of the task ``name``, or of all; an unknown name gives none. One that cannot be read is reported as failed. FileError."""
    names = [known for known in task_names(state_dir) if name in (None, known)]
    tasks = []
    for known in names:
        try:
            tasks.append(report(TaskFolder(state_dir, known)))
        except MigrationError as exc:
            tasks.append({**_DYNAMIC, "name": known, "status": "failed", "following": False, "shards": [], "error": str(exc), "warnings": []})
    return tasks


def report(folder: TaskFolder, config: Optional[Config] = None) -> Dict[str, Any]:
    """One task. ``config``: where ``config.json`` is not written yet. FileError, UsageError."""
    config = config or Config.load(folder)
    locked = folder.is_locked()
    # What the worker writes is read after it is known whether one runs: its last words are not missed.
    status = folder.peek("status.json")
    worker = folder.peek("worker.json")
    # Its children share the lock, and die a moment after a watchdog that was killed.
    running = locked and ("watchdog" not in worker or _lives(worker["watchdog"]))
    sources = folder.peek("sources.json")
    state, error = status.get("status") or "pending", status.get("error")
    if not running and state not in ENDED:
        state, error = _without_worker(folder, worker, error)
    restarts = worker.get("restarts") or {}
    task: Dict[str, Any] = {"name": folder.name, "status": state}
    task.update((name, status.get(name, value)) for name, value in _DYNAMIC.items())
    if not running:
        task.update(dict.fromkeys(_RATES, 0))
    task["following"] = running and error is None and _is_of_now(status, worker, sources)
    task["shards"] = _shards(status, sources)
    task["error"] = _message(error)
    task["warnings"] = _warnings(status, sources if running else {}, restarts, task["error"])
    if running and state not in ENDED:
        # Where only the snapshots are wanted the receiver ends when it has them.
        received = config.method == "full" and all(stream.get("state") == "ended" for stream in sources.get("streams") or [{}])
        task["warnings"] += _silent(folder, worker, applier=status, **({} if received else {"receiver": sources}))
    task["spool_bytes"] = sources.get("spool_bytes", 0)
    task["spool_limit"] = config.spool_limit
    task["worker"] = {"pid": worker.get("watchdog") if running else None, "running": running, "restarts": restarts}
    task["method"] = config.method
    task["source"] = config.source.label
    task["target"] = config.target.label
    return task


def in_sync(task: Dict[str, Any], config: Config) -> bool:
    """Whether everything has arrived but for ``max_lag_bytes`` of each shard; with method full: whether all has."""
    if task["status"] == "succeeded":
        return True
    if config.method == "full" or task["status"] != "incr_migrating" or not task["shards"]:
        return False
    # Without them, or behind a lost link, the lag is that of the last moment at which it was known.
    if not task["following"] or any(shard.get("state") not in _LINKED for shard in task["shards"]):
        return False
    return all(shard["lag_bytes"] <= config.max_lag_bytes for shard in task["shards"])


def failure(task: Dict[str, Any]) -> Optional[MigrationError]:
    """The error of a task that does not go on by itself; None for one that does, or has ended well."""
    what = "task %s" % task["name"]
    if task["status"] == "failed":
        return MigrationError(what, task["error"] or "failed", "" if task["error"] else "Its worker.log says why")
    if task["status"] == "stopped":
        return UsageError(what, "was stopped meanwhile", "Start it again with state started")
    return None


def _is_of_now(status: Dict[str, Any], worker: Dict[str, Any], sources: Dict[str, Any]) -> bool:
    """Whether every stream is being applied, and both offsets of each, the target's and the source's, are of these seconds."""
    now = time.time()
    started = worker.get("started") or 0.0
    # Somebody may have set this host's clock back since then.
    since = max(now - _FRESH, started if started <= now else 0.0)
    if not status.get("following") or not all(since <= (said.get("at") or 0.0) <= now for said in (status, sources)):
        return False
    applied = {(row.get("id"), row.get("generation")) for row in status.get("shards") or []}
    live = [stream for stream in sources.get("streams") or [] if stream.get("state") != "ended"]
    asked = [stream.get("source_offset_at") or 0.0 for stream in live]
    if not all(now - _ASKED <= at <= now for at in asked):
        return False
    return all((stream.get("id"), stream.get("generation")) in applied for stream in live)


def _silent(folder: TaskFolder, worker: Dict[str, Any], **reports: Dict[str, Any]) -> List[str]:
    """Who has not written its report for long, and what may be the reason."""
    now = time.time()
    ages = {name: now - max(said.get("at") or 0.0, worker.get("started") or now) for name, said in reports.items()}
    why = "the end of worker.log may say why"
    with suppress(MigrationError):
        if free(folder.path) < _FULL:
            why = "the disk of %s is full" % folder.path
    return ["The %s has said nothing for %d s; %s." % (name, age, why) for name, age in ages.items() if age > _SILENT]


def _shards(status: Dict[str, Any], sources: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What the applier said last of each stream, and what the receiver has said since then."""
    streams = {(stream.get("id"), stream.get("generation")): stream for stream in sources.get("streams") or []}
    shards = []
    for row in status.get("shards") or []:
        shard = dict(row)
        stream = streams.get((shard.pop("id", None), shard.pop("generation", None)), {})
        shard.update((name, stream[name]) for name in _RECEIVED if name in stream)
        applied = shard.get("applied_offset")
        if applied:
            shard["lag_bytes"] = max(0, max(shard["source_offset"], shard["received_offset"]) - applied)
        if shard.get("lag_bytes") and stream.get("state") != "ended":
            # The oldest byte that is missing has come since the applier said so, or has aged since.
            shard["lag_seconds"] = round(shard["lag_seconds"] + max(0.0, time.time() - (status.get("at") or 0.0)), 3)
        shard["error"] = _message(shard.get("error"))
        shards.append(shard)
    return shards


def _lives(pid: int) -> bool:
    """Whether the process is there and not about to end: a dying one has no command line well before it is a zombie."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as handle:
            return bool(handle.read(1))
    except OSError:
        return False


def _without_worker(folder: TaskFolder, worker: Dict[str, Any], error: Any) -> Any:
    """Status and error of a task that nobody works on and that did not end."""
    request = folder.peek("request.json")
    if not request:
        return "pending", error
    if request.get("state") == "stop":
        return "stopped", error
    if not worker:
        # Between the request and the worker's hello.
        return "pending", error
    why = "the worker is gone" if worker.get("boot_id") == boot_id() else "the worker is gone: the host was started anew"
    lost = MigrationError("task %s" % folder.name, why, "Start it again with state started; it goes on from where it was")
    return "failed", str(lost)


def _message(error: Any) -> Optional[str]:
    return error.get("message") if isinstance(error, dict) else error


def _warnings(status: Dict[str, Any], sources: Dict[str, Any], restarts: Dict[str, int], error: Optional[str]) -> List[str]:
    """What a person may want to look at, although the task goes on by itself."""
    warnings = list(status.get("warnings") or [])
    found = [status.get("clocks"), sources.get("error")] + [stream.get("error") for stream in sources.get("streams") or []]
    warnings += [str(_message(item)) for item in found if item]
    if sources.get("spool_full"):
        warnings.append("The spool is full, so the source has to wait: the target is slower than the source, or spool_limit is small.")
    warnings += ["Restarts of the %s since the worker began: %d; worker.log says why." % item for item in sorted(restarts.items()) if item[1]]
    return [text for text in dict.fromkeys(warnings) if text != error]
