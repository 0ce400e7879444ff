# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An online task under test: start it, kill parts of it, wait for it, and compare what arrived.

    with OnlineTask(tmp_path, endpoint_of(source), endpoint_of(target)) as task, LiveWriter(source) as writer:
        task.start()
        task.kill("applier")
        task.wait_synced()
        writer.stop()
        finish_and_compare(task, source, target)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from ansible_collections.dcs.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX
from ansible_collections.dcs.migration.plugins.module_utils._sync.control import apply
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder

from .access import identify, raw_client
from .cluster_server import RedisCluster
from .live_writer import Deployment, journal_problems
from .logical import UNKNOWN, Snapshot, assert_same_data, functions, snapshot
from .modules import run_module
from .process import wait_until
from .redis_server import RedisServer

PARTS = ("watchdog", "receiver", "applier")
NAME = "task"
# Times to live below this belong to keys that shall be gone before two deployments are compared.
SHORT_MS = 1_800_000
_LOG_LINES = 40
_SHOWN = 10


def endpoint_of(*deployments: Deployment, **options: Any) -> dict[str, Any]:
    """The endpoint of a deployment; of several servers, when they are a master and its replicas."""
    addresses = [address for one in deployments for address in (one.addresses if isinstance(one, RedisCluster) else [one.address])]
    password = deployments[0].password
    return {"addresses": addresses, **({"password": password} if password else {}), **options}


class TaskFailed(AssertionError):
    """The task says that it failed, or a module did."""


class OnlineTask:
    """The task ``NAME`` in a state folder of its own; ``options``: further ones of the module.

    ``ansible``: ask through ansible-playbook, as a user does, instead of calling what the module calls.
    """

    def __init__(
        self, folder: Path, source: Mapping[str, Any], target: Mapping[str, Any], *, ansible: bool = False, **options: Any
    ) -> None:
        self.state_dir = folder / "tasks"
        self.folder = self.state_dir / NAME
        self._ansible = ansible
        self._params = {"name": NAME, "state_dir": str(self.state_dir), "source": source, "target": target, **options}

    # -- by the module ---------------------------------------------------------------------------------------------------

    def call(self, state: str, **options: Any) -> dict[str, Any]:
        """Bring it into that state; the module's result. TaskFailed where that fails."""
        params = {**self._params, "state": state, **options}
        if self._ansible:
            result = run_module("online_sync", params)
            if result.get("failed"):
                raise TaskFailed("state %s: %s\n%s" % (state, result.get("msg"), self.log()))
            return result
        try:
            return apply(params)
        except MigrationError as exc:
            raise TaskFailed("state %s: %s\n%s" % (state, exc, self.log())) from exc

    def start(self, **options: Any) -> dict[str, Any]:
        return dict(self.call("started", **options)["task"])

    def change(self, **options: Any) -> None:
        """Change options, now and for later calls."""
        self._params.update(options)
        self.call("present")

    def finish(self, **options: Any) -> dict[str, Any]:
        return dict(self.call("finished", **{"wait_timeout": 120, **options})["task"])

    def stop(self, **options: Any) -> dict[str, Any]:
        return dict(self.call("stopped", **options)["task"])

    def absent(self, **options: Any) -> dict[str, Any]:
        return self.call("absent", **options)

    # -- by its files ----------------------------------------------------------------------------------------------------

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the task's folder, empty while there is none."""
        try:
            return dict(json.loads((self.folder / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def status(self) -> dict[str, Any]:
        return self.read("status.json")

    def log(self) -> str:
        """The end of the workers' log."""
        try:
            lines = (self.folder / "worker.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return "(no worker.log)"
        return "\n".join(lines[-_LOG_LINES:])

    def recoveries(self) -> int:
        """How often the applier has begun to copy what a death left in doubt."""
        try:
            return (self.folder / "worker.log").read_bytes().count(b"copying them afresh")
        except FileNotFoundError:
            return 0

    def lag(self) -> int | None:
        """Bytes that the target is behind, None while that is not known."""
        shards = self.status().get("shards") or []
        lags = [shard.get("lag_bytes") for shard in shards]
        return None if not lags or None in lags else sum(lags)

    def wait_for(self, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for one of these; a task that failed is never waited for."""
        self._wait(lambda status: status.get("status") in statuses, " or ".join(statuses), seconds)
        return self.status()

    def wait_synced(self, seconds: float = 90, lag: int = 256 << 10) -> None:
        """Wait until the full synchronisation is done and the target is no more than ``lag`` bytes behind."""

        def synced(status: Mapping[str, Any]) -> bool:
            behind = self.lag()
            return status.get("status") == "incr_migrating" and behind is not None and behind <= lag

        self._wait(synced, "synced", seconds)

    def wait_arrived(self, source: RedisServer) -> None:
        """Wait until the target has answered to all that the source, a single server, has sent so far."""
        sent = source.info("replication")["master_repl_offset"]
        self._wait(lambda status: all(shard["applied_offset"] >= sent for shard in status["shards"]), "offset %d" % sent, 30)

    def _wait(self, ready: Any, what: str, seconds: float) -> None:
        def done() -> bool:
            status = self.status()
            if ready(status):
                return True
            if status.get("status") == "failed":
                raise TaskFailed("waiting for %s: %s\n%s" % (what, status.get("error"), self.log()))
            return False

        try:
            wait_until(done, what, seconds)
        except TimeoutError as exc:
            raise TaskFailed("%s\nstatus %s\nsources %s\n%s" % (exc, self.status(), self.read("sources.json"), self.log())) from exc

    # -- its processes ---------------------------------------------------------------------------------------------------

    def pids(self) -> dict[str, int]:
        """Of the parts that run."""
        worker = self.read("worker.json")
        return {part: worker[part] for part in PARTS if worker.get(part) and self._runs(worker[part])}

    def _runs(self, pid: int) -> bool:
        """Whether this process is there, and one of this task: numbers are given again to others. A dead one has no command line."""
        try:
            return os.fsencode(self.folder) in Path("/proc/%d/cmdline" % pid).read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def kill(self, part: str) -> bool:
        """SIGKILL one of ``PARTS``; False when it does not run just now. Without its watchdog the others end, too."""
        pids = self.pids()
        if part not in pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[part], signal.SIGKILL)
        wait_until(lambda: not self._runs(pids[part]), "the killed %s is gone" % part)
        if part == "watchdog":
            wait_until(lambda: not TaskFolder.at(str(self.folder)).is_locked(), "the last process of the task is gone")
        return True

    def close(self) -> None:
        """End what runs."""
        self.kill("watchdog")
        for part in self.pids():
            self.kill(part)

    def __enter__(self) -> OnlineTask:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


# -- comparing -----------------------------------------------------------------------------------------------------------


def masters(deployment: Deployment) -> list[redis.Redis]:
    """A client of each master."""
    return deployment.clients() if isinstance(deployment, RedisCluster) else [deployment.client()]


def settle(deployment: Deployment, seconds: float = 90) -> None:
    """Wait until nothing expires any more that was to expire soon. Reading a key that is due makes its master delete it."""
    for client in masters(deployment):
        for name in client.info("keyspace"):
            with raw_client(client, int(name[len("db") :])) as raw:
                fields = identify(client).field_expiry
                pending = [key for keys in _scan(raw) for key in keys]

                def gone() -> bool:
                    pending[:] = _expiring(raw, pending, fields)
                    return not pending

                try:
                    wait_until(gone, "no key of %s expires soon" % name, seconds)
                except TimeoutError as exc:
                    raise AssertionError("%s: %r" % (exc, [(key, _expiry(raw, key)) for key in pending[:_SHOWN]])) from exc


def _scan(raw: redis.Redis) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, keys = raw.execute_command("SCAN", cursor, "COUNT", 1000)
        yield keys
        if cursor == b"0":
            return


def _expiring(raw: redis.Redis, keys: list[bytes], fields: bool) -> list[bytes]:
    """Those that expire soon, or hold fields that do."""
    found = []
    for first in range(0, len(keys), 1000):
        some = keys[first : first + 1000]
        pipe = raw.pipeline(transaction=False)
        for key in some:
            pipe.execute_command("PTTL", key)
            pipe.execute_command("TYPE", key)
        replies = pipe.execute()
        for key, left, type_ in zip(some, replies[::2], replies[1::2]):
            if 0 <= left < SHORT_MS or (fields and type_ == b"hash" and _fields_expire(raw, key)):
                found.append(key)
    return found


def _expiry(raw: redis.Redis, key: bytes) -> tuple[Any, ...]:
    """What there is to say about a key that does not go."""
    words = [raw.execute_command("TYPE", key), raw.execute_command("PTTL", key)]
    return (*words, *((raw.execute_command("HLEN", key), raw.execute_command("HKEYS", key)) if words[0] == b"hash" else ()))


def _fields_expire(raw: redis.Redis, key: bytes) -> bool:
    names = raw.execute_command("HKEYS", key)
    # Fields that are due are hidden before they are deleted, and counted.
    if raw.execute_command("HLEN", key) != len(names):
        return True
    for first in range(0, len(names), 10_000):
        some = names[first : first + 10_000]
        if any(0 <= left < SHORT_MS for left in raw.execute_command("HPTTL", key, "FIELDS", len(some), *some)):
            return True
    return False


def assert_identical(source: Deployment, target: Deployment, ttl_tolerance_ms: int = 50, target_db: int | None = None) -> None:
    """Value by value, by number, by digest where both are one server of a version; nothing of ours may be in the target.

    ``target_db``: the one database of the target to look at.
    """
    settle(source)
    settle(target)
    expected = snapshot(masters(source))
    found = snapshot(masters(target), databases=None if target_db is None else [target_db])
    forgive_groups(expected, found, source.version != target.version)
    ours = [key for _db, key in found if key.startswith(RESERVED_PREFIX)]
    if ours:
        raise AssertionError("%d keys of ours are left: %r" % (len(ours), ours[:_SHOWN]))
    problems = journal_problems(expected, found)
    if problems:
        raise AssertionError("the journals differ:\n  " + "\n  ".join(problems[:_SHOWN]))
    assert_same_data(expected, found, ttl_tolerance_ms, names=("source", "target"))
    sizes = [_sizes(one) for one in (source, target)]
    if sizes[0] != sizes[1]:
        raise AssertionError("DBSIZE of the source %s, of the target %s" % tuple(sizes))
    if identify(masters(source)[0]).functions and identify(masters(target)[0]).functions:
        assert functions(masters(source)) == functions(masters(target))
    if isinstance(source, RedisServer) and isinstance(target, RedisServer) and source.name == target.name:
        assert source.digest() == target.digest()


def forgive_groups(source: Snapshot, target: Snapshot, other_version: bool) -> None:
    """Forgive what a real replica would get wrong.

    Masters keep consumers that an XCLAIM or XREADGROUP named in vain, and tell no replica of them, nor always what a group has read. From
    7.0 on an XCLAIM drops entries that are not in the stream any more; older ones keep them.
    """
    for place, entry in source.items():
        other = target.get(place)
        if entry.type != "stream" or other is None or other.type != "stream":
            continue
        for name, group in entry.value["groups"].items():
            theirs = other.value["groups"].get(name)
            group["entries-read"] = UNKNOWN
            if theirs is not None:
                if other_version:
                    for one, stream in ((group, entry), (theirs, other)):
                        there = {identifier for identifier, _fields in stream.value["entries"]}
                        one["pending"] = {identifier: row for identifier, row in one["pending"].items() if identifier in there}
                owners = {row[0] for row in group["pending"].values()}
                group["consumers"] = group["consumers"] & (theirs["consumers"] | owners)


def _sizes(deployment: Deployment) -> dict[str, int]:
    """Keys by database."""
    sizes: dict[str, int] = {}
    for client in masters(deployment):
        for name, numbers in client.info("keyspace").items():
            sizes[name] = sizes.get(name, 0) + numbers["keys"]
    return sizes


def finish_and_compare(task: OnlineTask, source: Deployment, target: Deployment, ttl_tolerance_ms: int = 50) -> dict[str, Any]:
    """End the task once nothing changes in the source any more, and compare. The writer has to be stopped before."""
    settle(source)
    ended = task.finish()
    assert ended["status"] == "succeeded", ended
    assert_identical(source, target, ttl_tolerance_ms)
    return ended
