# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The import against the target's own limit, side by side in one run.

    python tests/bench/import.py [--rounds N] [--memory]

``saturation`` is what the target takes when nothing has to be computed: RESTORE commands framed beforehand, written on one
connection while a second thread counts the replies. ``import`` is what ``backup_import`` does with the file, from the first look at
the target to the receipt. They take turns, and the ratio is taken pair by pair, so that a machine whose speed drifts does not matter.
``--memory`` imports 2 GB in a process of its own, from a file and out of a bucket, and prints that process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

from ansible_collections.dcs.migration.plugins.module_utils._codec import payload
from ansible_collections.dcs.migration.plugins.module_utils._codec.events import Batch
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb import RdbScanner
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string
from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.plugins.modules.backup_import import backup_files
from ansible_collections.dcs.migration.tests.support.pipelined import send
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, S3Server

RDB_VERSION = 9
EXPIRE_MS = int(time.time() * 1000) + 86_400_000


def strings(count: int, size: int) -> Iterator[Tuple[bytes, ...]]:
    """SET of incompressible values."""
    rng = random.Random(1)
    for number in range(count):
        yield b"SET", b"key:%d" % number, rng.randbytes(size)


def mix(count: int) -> Iterator[Tuple[bytes, ...]]:
    """Every type in sizes as applications have them; a tenth expires, and some hashes are large."""
    rng = random.Random(2)

    def words(number: int, size: int) -> List[bytes]:
        return [b"%x" % rng.getrandbits(4 * size) for _unused in range(number)]

    for number in range(count):
        key = b"k:%d" % number
        kind = number % 10
        if kind < 3:
            yield b"SET", key, words(1, rng.randint(5, 200))[0]
        elif kind == 3:
            yield b"SET", key, words(1, 20)[0], b"PXAT", b"%d" % (EXPIRE_MS + number)
        elif kind == 4:
            yield b"SET", key, b"%d" % number
        elif kind == 5:
            yield (b"HSET", key, *words(2 * rng.randint(1, 12), 8))
        elif kind == 6:
            yield (b"RPUSH", key, *words(rng.randint(1, 20), 12))
        elif kind == 7:
            yield (b"SADD", key, *(words(rng.randint(1, 20), 8) if number % 20 < 10 else [b"%d" % rng.getrandbits(20)] * 3))
        elif kind == 8:
            yield (b"ZADD", key, *(word for _unused in range(rng.randint(1, 20)) for word in (b"%d" % rng.getrandbits(20), *words(1, 8))))
        elif number % 1000 == 9:
            yield (b"HSET", key, *words(2000, 12))
        else:
            yield b"XADD", key, b"*", b"a", words(1, 10)[0], b"b", words(1, 4)[0]


DATASETS: List[Tuple[str, Callable[[], Iterator[Tuple[bytes, ...]]]]] = [
    ("1M strings of 100 bytes", lambda: strings(1_000_000, 100)),
    ("500k keys of all types", lambda: mix(500_000)),
    ("20k strings of 50 KB", lambda: strings(20_000, 50_000)),
]


def make_file(server: RedisServer, folder: Path, name: str, commands: Iterator[Tuple[bytes, ...]]) -> Path:
    """Fill the server, let it write its RDB file, keep that."""
    server.flush()
    pipeline = server.client().pipeline(transaction=False)
    for number, words in enumerate(commands):
        pipeline.execute_command(*words)
        if number % 1000 == 999:
            pipeline.execute()
    pipeline.execute()
    path = folder / ("%s.rdb" % name.replace(" ", "-"))
    shutil.move(str(server.save()), path)
    return path


def frames_of(path: Path) -> Tuple[List[bytes], int]:
    """The whole file as RESTORE commands, framed beforehand."""
    blobs: List[bytes] = []
    keys = 0
    scanner = RdbScanner()

    def take(event: Any) -> int:
        if not isinstance(event, Batch):
            return 0
        frames = []
        for kind, key, start, end, _data, expire, _hint in event.entries:
            words = [b"RESTORE", key, b"%d" % (expire or 0), payload.foot(kind, event.buf[start:end], RDB_VERSION), b"REPLACE"]
            frames.append(command(*words, *([b"ABSTTL"] if expire else [])))
        blobs.append(b"".join(frames))
        return len(event.entries)

    with path.open("rb") as handle:
        for chunk in iter(lambda: handle.read(1 << 20), b""):
            keys += sum(map(take, scanner.feed(chunk)))
    keys += sum(map(take, scanner.close()))
    return blobs, keys


def saturate(server: RedisServer, blobs: List[bytes], keys: int) -> float:
    """Seconds the target takes for frames that cost nothing to make."""
    server.flush()
    return send(server.port, blobs, keys)


def run_import(server: RedisServer, path: Path, folder: Path, keys: int) -> float:
    """Seconds of the engine behind ``backup_import``, from the probe to the receipt."""
    server.flush()
    state = tempfile.mkdtemp(dir=folder)
    started = time.perf_counter()
    result = import_file(server.address, path, state)
    seconds = time.perf_counter() - started
    if result["stats"]["keys"] != keys or server.client().dbsize() != keys:
        raise SystemExit("imported %s of %d keys" % (result["stats"]["keys"], keys))
    return seconds


def import_file(address: str, path: Path, state: str) -> Any:
    """What the module does with its options."""
    importer = Importer(Endpoint.from_params({"addresses": [address]}), Options(state_dir=state), print)
    return importer.run(open_files([str(path)]))


def import_as_told() -> None:
    """Import what the standard input says (the module's options), and print this process's peak memory."""
    params = json.load(sys.stdin)
    importer = Importer(Endpoint.from_params(params["target"]), Options(state_dir=params["state_dir"]), print)
    importer.run(backup_files(params))
    print(peak_memory())


def compare(rounds: int, folder: Path) -> None:
    """Print a row per data set: keys per second of both, and the ratio's minimum, median and maximum."""
    print("%-26s %14s %14s   ratio min / median / max" % ("data set", "saturation/s", "import/s"))
    with RedisServer("redis-6.2") as server:
        for name, commands in DATASETS:
            path = make_file(server, folder, name, commands())
            blobs, keys = frames_of(path)
            run_import(server, path, folder, keys)
            pairs = [(saturate(server, blobs, keys), run_import(server, path, folder, keys)) for _unused in range(rounds)]
            ratios = sorted(limit / ours for limit, ours in pairs)
            print(
                "%-26s %14.0f %14.0f   %.2f / %.2f / %.2f"
                % (
                    name,
                    keys / statistics.median(pair[0] for pair in pairs),
                    keys / statistics.median(pair[1] for pair in pairs),
                    ratios[0],
                    statistics.median(ratios),
                    ratios[-1],
                ),
                flush=True,
            )
            path.unlink()


def make_large_file(path: Path, size: int) -> int:
    """An RDB file of ``size`` bytes: small strings, lists, values of 1 MB, and hashes beyond the size that is split."""
    rng = random.Random(3)
    writer = RdbWriter(RDB_VERSION)
    noise = rng.randbytes(4 << 20)
    keys = 0
    written = 0
    with path.open("wb") as handle:
        written += handle.write(writer.header())
        while written < size:
            for _unused in range(2000):
                start = rng.randrange(1 << 20)
                written += handle.write(writer.entry(0, 0, b"s:%d" % keys, write_string(noise[start : start + 400])))
                keys += 1
            start = rng.randrange(1 << 20)
            written += handle.write(writer.entry(0, 0, b"v:%d" % keys, write_string(noise[start : start + (1 << 20)])))
            keys += 1
            if keys % 40 == 0:
                fields = b"".join(
                    write_string(b"field:%d" % field) + write_string(noise[field : field + 100]) for field in range(200_000)
                )
                written += handle.write(writer.entry(0, 4, b"h:%d" % keys, b"\x80" + (200_000).to_bytes(4, "big") + fields))
                keys += 1
        handle.write(writer.trailer())
    return keys


def peak_memory() -> str:
    """This process's own; getrusage would count what its parent held when it started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return "%d MB" % (kilobytes // 1024)


def memory(folder: Path) -> None:
    """Print the peak memory of a process that imports 2 GB, from a file and out of a bucket."""
    path = folder / "buckets" / "large" / "large.rdb"
    path.parent.mkdir(parents=True)
    keys = make_large_file(path, 2_000_000_000)
    with RedisServer("redis-6.2") as server, S3Server(folder / "buckets") as s3:
        access = {"bucket": "large", "endpoint_url": s3.endpoint_url, "access_key": s3.access_key, "secret_key": s3.secret_key}
        for what, params in (("a file", {"files": [str(path)]}), ("a bucket", {"files": None, "objects": [path.name], **access})):
            server.flush()
            params.update(target={"addresses": [server.address]}, state_dir=str(folder / what))
            done = subprocess.run(
                [sys.executable, __file__, "--import-as-told"], check=True, input=json.dumps(params), stdout=subprocess.PIPE, text=True
            )
            if server.client().dbsize() != keys:
                raise SystemExit("imported %d of %d keys" % (server.client().dbsize(), keys))
            size = path.stat().st_size / 1e9
            print("peak memory of importing %d keys, %.2f GB, from %s: %s" % (keys, size, what, done.stdout.strip()), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the import beside the target's own limit.")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs per data set")
    parser.add_argument("--memory", action="store_true", help="measure the memory of a 2 GB import instead")
    parser.add_argument("--import-as-told", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.import_as_told:
        import_as_told()
        return
    with tempfile.TemporaryDirectory(prefix="dcs-migration-bench-") as folder:
        if options.memory:
            memory(Path(folder))
        else:
            compare(options.rounds, Path(folder))


if __name__ == "__main__":
    main()
