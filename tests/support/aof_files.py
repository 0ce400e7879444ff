# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AOF files that real servers wrote, and their way into a target: what the tests of the replay share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._import import big_key, snapshot
from ansible_collections.dcs.migration.plugins.module_utils._sink import selection
from ansible_collections.dcs.migration.plugins.module_utils._import.receipts import Sample
from ansible_collections.dcs.migration.plugins.module_utils._import.replay import AofImport, Replayed
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._server.probe import probe
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX
from ansible_collections.dcs.migration.plugins.module_utils._sink.target import Target
from ansible_collections.dcs.migration.plugins.module_utils._source.aof_file import Unit, group
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files

from .aof_workload import Workload
from .servers import RedisCluster, RedisServer, wait_until

AOF_ON = {"appendonly": "yes", "appendfsync": "no", "auto-aof-rewrite-percentage": 0}
STEPS = 4000


# -- sources -------------------------------------------------------------------------------------------------------------


def busy(server: RedisServer, workload: Workload, *, rewrite: bool = False, steps: int = STEPS) -> None:
    """Run the workload, with a rewrite of the AOF in its middle if wanted."""
    client = server.client(single_connection_client=True)
    workload.run(client, steps // 2)
    if rewrite:
        client.execute_command(b"BGREWRITEAOF")
        wait_until(lambda: not server.info("persistence")["aof_rewrite_in_progress"], "the AOF is rewritten")
    workload.run(client, steps // 2)


def files_of(server: RedisServer, to: Path) -> list[Path]:
    """Stop the server, which completes its AOF, and copy that."""
    server.stop()
    to.mkdir(parents=True, exist_ok=True)
    folder = server.folder / "appendonlydir"
    found = sorted(folder.iterdir()) if folder.exists() else [server.folder / "appendonly.aof"]
    return [Path(shutil.copy(path, to / path.name)) for path in found]


class Source:
    """An AOF and what a server says it holds: digest, and digest by key and database."""

    def __init__(self, server: RedisServer, to: Path, workload: Workload) -> None:
        self.digest = server.digest()
        self.values = values_of([server.client()])
        self.used = workload.used
        self.paths = files_of(server, to)

    @property
    def unit(self) -> Unit:
        (unit,) = group(open_files(map(str, self.paths)))
        return unit


def values_of(clients: list[redis.Redis]) -> dict[bytes, tuple[bytes, bool]]:
    """Digest of the value, and whether it expires, by key in database 0."""
    found = {}
    for client in clients:
        keys = client.keys("*")
        for key in keys:
            digest = client.execute_command(b"DEBUG", b"DIGEST-VALUE", key)[0]
            found[key] = (digest, client.pttl(key) > 0)
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Redis 6.2 without a preamble: commands from the first byte."""
    workload = Workload(1)
    with RedisServer("redis-6.2", config={**AOF_ON, "aof-use-rdb-preamble": "no"}) as server:
        busy(server, workload)
        return Source(server, tmp_path_factory.mktemp("plain"), workload)


@pytest.fixture(scope="module")
def preamble(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Redis 6.2 with an RDB preamble."""
    workload = Workload(2)
    with RedisServer("redis-6.2", config={**AOF_ON, "aof-use-rdb-preamble": "yes"}) as server:
        busy(server, workload, rewrite=True)
        return Source(server, tmp_path_factory.mktemp("preamble"), workload)


@pytest.fixture(scope="module")
def multi_part(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Valkey 9.1: manifest, base and increments, with timestamps."""
    workload = Workload(3)
    with RedisServer("valkey-9.1", config={**AOF_ON, "aof-timestamp-enabled": "yes"}) as server:
        busy(server, workload, rewrite=True)
        return Source(server, tmp_path_factory.mktemp("parts"), workload)


# -- targets -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_62() -> Iterator[RedisServer]:
    with RedisServer("redis-6.2") as server:
        yield server


@pytest.fixture(scope="module")
def valkey_91() -> Iterator[RedisServer]:
    with RedisServer("valkey-9.1") as server:
        yield server


@pytest.fixture(scope="module")
def cluster_62() -> Iterator[RedisCluster]:
    with RedisCluster("redis-6.2") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster_91() -> Iterator[RedisCluster]:
    with RedisCluster("valkey-9.1") as cluster:
        yield cluster


def load(
    unit: Unit | Path,
    address: str,
    policy: str = "replace",
    db_of: Callable[[int], int | None] = lambda db: db,
    keep: Callable[[bytes], bool] | None = None,
    journal: Path | None = None,
    topology: str = "auto",
) -> tuple[Replayed, Target]:
    """Import as the engine does: check, prepare, the snapshot, the commands."""
    if isinstance(unit, Path):
        (unit,) = group(open_files([str(unit)]))
    endpoint = Endpoint.from_params({"addresses": [address], "topology": topology})
    target = Target(endpoint, probe(endpoint), policy, unit.name)
    try:
        aof = AofImport(unit, target, db_of, keep, str(journal) if journal else None)
        aof.check()
        aof.prepare()
        chosen = selection.Selection()
        chosen.db_of = db_of  # type: ignore[method-assign,assignment]
        if keep is not None:
            chosen.keep, chosen.all_keys = keep, False  # type: ignore[method-assign]
        snapshot.SnapshotImport(target, chosen, big_key.Journal(None), Sample(), lambda text: None).run(aof.events())
        return aof.run(), target
    finally:
        target.close()


def write_aof(path: Path, *lines: str | bytes) -> Path:
    """An AOF of commands given as texts."""
    path.write_bytes(b"".join(line if isinstance(line, bytes) else command(*line.split()) for line in lines))
    return path


def read_values(client: redis.Redis) -> dict[bytes, Any]:
    """Values of the types that every version has, as replies."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": lambda key: sorted(client.smembers(key)),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"hash": client.hgetall,
        b"stream": client.xrange,
    }
    return {key: readers[client.type(key)](key) for key in client.keys("*")}


def cluster_values(cluster: RedisCluster) -> dict[bytes, tuple[bytes, bool]]:
    found = values_of(cluster.clients())
    assert not [key for key in found if key.startswith(RESERVED_PREFIX)]
    return found
