# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The online synchronisation against the import and against the target's own limit, side by side in one run.

    python tests/bench/online.py [--rounds N] [--only full|incremental|lag|memory]

``full``: a source's 1M strings of 100 bytes by ``online_sync`` (from the first byte of the snapshot until the last key is in the target) beside
the import of the same keys from a file. ``incremental``: 1M SETs that wait in the spool, applied with checkpoints, beside the same
SETs framed beforehand and pipelined on one connection. ``lag``: 20,000 writes/s to the source; one write in fifty is watched for in the
target, and the time from its acknowledgement by the source until it can be read there is the lag. ``memory``: the peak of the worker's
processes, in sum, over a full synchronisation of 2 GB with big keys and a million commands behind it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.plugins.module_utils._sync.control import apply
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder
from ansible_collections.dcs.migration.tests.support.pipelined import send
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, wait_until

SERVER = "redis-6.2"
KEYS = 1_000_000
SIZE = 100


class Task:
    """One task through the same code that ``online_sync`` calls."""

    def __init__(self, folder: Path, source: RedisServer, target: RedisServer) -> None:
        self.options: Dict[str, Any] = {
            "name": "bench",
            "state_dir": str(folder),
            "source": {"addresses": [source.address]},
            "target": {"addresses": [target.address]},
            "wait_timeout": 600,
        }
        self.folder = TaskFolder(str(folder), "bench")

    def bring(self, state: str) -> None:
        apply({**self.options, "state": state})

    def pids(self) -> List[int]:
        worker = self.folder.read("worker.json") or {}
        return [worker[name] for name in ("watchdog", "receiver", "applier") if worker.get(name)]

    def applier(self) -> int:
        return int((self.folder.read("worker.json") or {})["applier"])

    def shard(self) -> Dict[str, Any]:
        shards = (self.folder.read("status.json") or {}).get("shards") or [{}]
        return dict(shards[0])

    def received(self) -> int:
        streams = (self.folder.read("sources.json") or {}).get("streams") or [{}]
        return int(streams[0].get("received_offset") or 0)


@contextmanager
def running(source: RedisServer, target: RedisServer) -> Iterator[Task]:
    """A task that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="dcs-migration-bench-") as folder:
        task = Task(Path(folder), source, target)
        try:
            yield task
        finally:
            task.bring("absent")


def frames(count: int, seed: int) -> List[bytes]:
    """SETs in blobs of a thousand, ready to be sent."""
    rng = random.Random(seed)
    blobs = []
    for _first in range(0, count, 1000):
        parts = []
        for _number in range(1000):
            key, value = b"key:%010d" % rng.randrange(10**9), rng.randbytes(SIZE)
            parts.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value))
        blobs.append(b"".join(parts))
    return blobs


def omem(source: RedisServer) -> int:
    """Bytes that wait in the source for its replicas."""
    text = bytes(source.execute("CLIENT", "LIST")).decode()
    return max((int(line.split("omem=")[1].split()[0]) for line in text.splitlines() if "flags=S" in line), default=0)


def shown(name: str, ratios: List[float], figures: str) -> None:
    low, high = min(ratios), max(ratios)
    print("%-12s ratio min %.2f median %.2f max %.2f   %s" % (name, low, statistics.median(ratios), high, figures), flush=True)


# -- what is measured ---------------------------------------------------------------------------------------------------------


def full(source: RedisServer, target: RedisServer, rounds: int) -> None:
    source.flush()
    send(source.port, frames(KEYS, 1), KEYS)
    ratios, imports, syncs = [], [], []
    with tempfile.TemporaryDirectory(prefix="dcs-migration-bench-") as folder:
        file = str(source.save())
        for number in range(rounds):
            target.flush()
            started = time.perf_counter()
            endpoint = Endpoint.from_params({"addresses": [target.address]})
            options = Options(state_dir="%s/import-%d" % (folder, number))
            Importer(endpoint, options, lambda _text: None).run(open_files([file]))
            imported = time.perf_counter() - started

            target.flush()
            with running(source, target) as task:
                task.bring("started")
                wait_until(lambda: task.folder.read("sources.json") is not None and _begun(task), "the snapshot began", 60)
                started = time.perf_counter()
                wait_until(lambda: _loaded(task), "the snapshot is loaded", 120)
                synced = time.perf_counter() - started
            ratios.append(imported / synced)
            imports.append(KEYS / imported)
            syncs.append(KEYS / synced)
    shown("full", ratios, "import %.0f keys/s, full sync %.0f keys/s" % (statistics.median(imports), statistics.median(syncs)))


def _begun(task: Task) -> bool:
    streams = (task.folder.read("sources.json") or {}).get("streams") or [{}]
    return bool(streams[0].get("snapshot_received") or streams[0].get("snapshot_complete"))


def _loaded(task: Task) -> bool:
    return (task.folder.read("status.json") or {}).get("status") == "incr_migrating"


def incremental(source: RedisServer, target: RedisServer, rounds: int) -> None:
    blobs = frames(KEYS, 2)
    ratios, limits, speeds, waiting = [], [], [], 0
    client = target.client()
    for _number in range(rounds):
        source.flush()
        target.flush()
        limit = send(target.port, blobs, KEYS)
        target.flush()
        with running(source, target) as task:
            task.bring("synced")
            os.kill(task.applier(), signal.SIGSTOP)
            send(source.port, blobs, KEYS)
            waiting = max(waiting, omem(source))
            source.client().execute_command(b"SET", b"bench:end", b"1")
            goal = source.info("replication")["master_repl_offset"]
            wait_until(lambda: task.received() >= goal, "everything is in the spool", 60)
            started = time.perf_counter()
            os.kill(task.applier(), signal.SIGCONT)
            wait_until(lambda: client.exists("bench:end") == 1, "everything is in the target", 60)
            speed = time.perf_counter() - started
        ratios.append(limit / speed)
        limits.append(KEYS / limit)
        speeds.append(KEYS / speed)
    figures = "target alone %.0f SET/s, incremental %.0f SET/s, most that waited in the source %d bytes"
    shown("incremental", ratios, figures % (statistics.median(limits), statistics.median(speeds), waiting))


def lag(source: RedisServer, target: RedisServer, seconds: float = 20, rate: int = 20_000) -> None:
    source.flush()
    target.flush()
    found: List[float] = []
    with running(source, target) as task:
        task.bring("synced")
        writer, reader = source.client(), target.client()
        started = time.perf_counter()
        number = 0
        while time.perf_counter() - started < seconds:
            pipe = writer.pipeline(transaction=False)
            for _unused in range(200):
                number += 1
                pipe.set("lag:%d" % (number % 100_000), "x" * SIZE)
            pipe.set("lag:mark", number)
            pipe.execute()
            written = time.perf_counter()
            while reader.get("lag:mark") != b"%d" % number:
                pass
            found.append(time.perf_counter() - written)
            time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        took = time.perf_counter() - started
        waiting = omem(source)
    found.sort()
    print(
        "lag          at %d writes/s: median %.1f ms, 99th percentile %.1f ms, most %.1f ms (%d samples); waiting in the source %d bytes"
        % (number / took, 1000 * found[len(found) // 2], 1000 * found[int(len(found) * 0.99)], 1000 * found[-1], len(found), waiting),
        flush=True,
    )


def memory(source: RedisServer, target: RedisServer) -> None:
    source.flush()
    target.flush()
    client = source.client()
    for number in range(400):
        client.set("big:%d" % number, random.Random(number).randbytes(1 << 20))
    client.set("huge", random.Random(1).randbytes(64 << 20))
    for number in range(20):
        for first in range(0, 200_000, 1000):
            client.hset("hash:%d" % number, mapping={"f%d" % at: "v" * 50 for at in range(first, first + 1000)})
    for seed in range(6):
        send(source.port, frames(KEYS, 10 + seed), KEYS)
    with running(source, target) as task:
        task.bring("started")
        peak: Dict[int, int] = {}
        commands = threading.Thread(target=lambda: send(source.port, frames(KEYS, 99), KEYS))
        commands.start()
        while not (_loaded(task) and task.shard().get("lag_bytes", 1) < 1000 and not commands.is_alive()):
            _peaks(task, peak)
            time.sleep(0.2)
        _peaks(task, peak)
        size = source.info("memory")["used_memory_human"]
        status = task.folder.read("status.json") or {}
    parts = ", ".join("%d MB" % (value >> 10) for value in peak.values())
    print("memory       source of %s, %d commands: peak %d MB (%s)" % (size, status["commands"], sum(peak.values()) >> 10, parts), flush=True)


def _peaks(task: Task, peak: Dict[int, int]) -> None:
    """Peak of each process (KB): pages that processes share count in parts."""
    for pid in task.pids():
        try:
            text = Path("/proc/%d/smaps_rollup" % pid).read_text(encoding="ascii")
        except OSError:
            continue
        now = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        peak[pid] = max(peak.get(pid, 0), now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("full", "incremental", "lag", "memory"))
    options = parser.parse_args()
    wanted = [options.only] if options.only else ["full", "incremental", "lag", "memory"]
    with RedisServer(SERVER) as source, RedisServer(SERVER) as target:
        if "full" in wanted:
            full(source, target, options.rounds)
        if "incremental" in wanted:
            incremental(source, target, options.rounds)
        if "lag" in wanted:
            lag(source, target)
        if "memory" in wanted:
            memory(source, target)


if __name__ == "__main__":
    main()
