# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Take a backup of a whole deployment: all shards at once, and all of its files or none."""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Event
from typing import Any, Callable, Dict, List, Sequence, Tuple

from .._errors import FileError, ReplyError
from .._server.endpoint import Endpoint
from .._server.permissions import psync
from .._server.topology import Topology, discover
from .._sink.rdb_file import PartialFile, disk_error
from .manifest import Manifest
from .plan import Job, Options, make_jobs
from .shard import NO_STREAM, Outcome, ShardReader, StoppedError, as_result

Result = Dict[str, Any]
_KEPT = ("files", "method", "reason", "started")


def take(endpoint: Endpoint, options: Options, check: bool = False, warn: Callable[[str], None] = lambda _text: None) -> Result:
    """``{changed, files, method, reason}``; with ``check`` nothing is written and nothing is read from the source but its state.

    Nothing shows under its final name before every shard is complete, checked and on the disk.

    :raises FileError: dest is not writable, full or in use
    :raises ServerError: the source is not reachable, refuses every method, or changed its shape meanwhile
    :raises UsageError: options that contradict the source, or dest belongs to another backup
    """
    options.check()
    manifest = Manifest(options.dest, options.name)
    known = manifest.read()
    topology = discover(endpoint)
    addresses = _addresses(endpoint, topology)
    manifest.check_source(known, addresses)
    wanted = {"format": options.format, "asked": options.method, "read_from": options.read_from}
    if known is not None and manifest.is_fresh(known, options.max_age, **wanted):
        return {"changed": False, **{name: known[name] for name in _KEPT}}
    jobs = make_jobs(endpoint, topology, options)
    if check:
        _check_folder(options.dest)
        return _summary([_predicted(endpoint, job, options.method) for job in jobs])
    _make_folder(options.dest)
    started = int(time.time())
    notes: List[str] = []
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(PartialFile(job.path)) for job in jobs]
            outcomes = _read_all(endpoint, jobs, files, options, notes.append)
            _check_unmoved(endpoint, topology)
            for file in files:
                file.finish()
            result = {**_summary([as_result(*one) for one in zip(jobs, files, outcomes)]), "started": started}
            manifest.remove()
            for file in files:
                file.publish()
    finally:
        for note in notes:
            warn(note)
    manifest.write({**{name: result[name] for name in _KEPT}, **wanted, "addresses": addresses})
    manifest.remove_stale(known, [job.path for job in jobs])
    return result


def _addresses(endpoint: Endpoint, topology: Topology) -> List[str]:
    """Every name the deployment goes by, to recognise it after a failover."""
    found = set(map(str, endpoint.addresses)) if not endpoint.sentinel_service else set()
    if endpoint.sentinel_service:
        found.add("%s via %s" % (endpoint.sentinel_service, endpoint.addresses[0]))
    for shard in topology.shards:
        found.update(map(str, (shard.master, *shard.replicas)))
    return sorted(found)


def _read_all(
    endpoint: Endpoint, jobs: Sequence[Job], files: Sequence[PartialFile], options: Options, note: Callable[[str], None]
) -> List[Outcome]:
    """All shards, some at a time; the first error ends the others and is raised."""
    stop = Event()

    def read(job: Job, file: PartialFile) -> Outcome:
        if stop.is_set():
            raise StoppedError
        return ShardReader(endpoint, job, options.method, options.format == "aof", note, stop).into(file)

    with ThreadPoolExecutor(max_workers=min(options.parallel, len(jobs)), thread_name_prefix="shard") as pool:
        futures: List[Future] = [pool.submit(read, job, file) for job, file in zip(jobs, files)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Also on the way out of a KeyboardInterrupt: the pool waits for its threads.
            if not all(future.done() and not future.exception() for future in futures):
                stop.set()
    errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None and not isinstance(error, StoppedError):
            raise error
    return [future.result() for future in futures]


def _check_unmoved(endpoint: Endpoint, before: Topology) -> None:
    """ReplyError when slots changed their owner meanwhile: keys could be in two files or in none."""
    if before.kind != "redis_cluster":
        return
    after = discover(endpoint)
    if {shard.slots for shard in before.shards} != {shard.slots for shard in after.shards}:
        raise ReplyError(
            endpoint.label,
            "slots moved from one master to another during the backup, so keys may be in two files or in none",
            "Let the resharding end and run again",
        )


def _predicted(endpoint: Endpoint, job: Job, method: str) -> Dict[str, Any]:
    """What would be made, as far as it can be told without a fork."""
    reason = "asked for" if method == "scan" else ""
    if job.proxied and method == "auto":
        method, reason = "scan", NO_STREAM
    elif method == "auto":
        verdict = psync(endpoint, job.address, job.product)
        method, reason = ("psync", "") if verdict.supported else ("scan", verdict.reason)
    return {
        "path": job.path,
        "size": None,
        "sha256": None,
        "shard": str(job.master),
        "source": str(job.address),
        "slots": [list(pair) for pair in job.slots],
        "keys": None,
        "method": method,
        "reason": reason,
    }


def _summary(files: List[Dict[str, Any]]) -> Result:
    """The module's result: the weakest method of all shards, and every reason for one that was not PSYNC."""
    methods: Tuple[str, ...] = ("psync", "sync", "scan")
    method = max((file["method"] for file in files), key=methods.index)
    reasons = []
    for file in files:
        if file["reason"] and file["reason"] != "asked for":
            reasons.append("%s: %s" % (file["source"], file["reason"]))
    return {"changed": True, "files": files, "method": method, "reason": "; ".join(reasons)}


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as exc:
        raise disk_error(path, exc, "cannot be made a folder") from exc


def _check_folder(path: str) -> None:
    """FileError where the folder could not be written or made; nothing is touched."""
    place = path
    while not os.path.lexists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise FileError(path, "%s is not a folder" % place, "dest is a folder: name one, or leave it to be made")
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileError(path, "%s is not writable" % place, "Give the user that runs the task the right to write there")
