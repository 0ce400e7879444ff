# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that are written in parts, into a target that has them already."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import ConflictError
from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.servers import RedisServer

KINDS = ("string", "list", "set", "zset", "hash", "stream")
CHANGES: dict[str, Callable[[Any], Any]] = {
    "string": lambda client: client.setrange("string", 3_000_000, "other"),
    "list": lambda client: client.lset("list", 50, "other"),
    "set": lambda client: client.sadd("set", "another"),
    "zset": lambda client: client.zincrby("zset", 0.5, client.zrange("zset", 5, 5)[0]),
    "hash": lambda client: client.hset("hash", "7", "other"),
    "stream": lambda client: client.xdel("stream", "150-1"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One key of each kind, each larger than what is written in one piece."""
    rng = random.Random(7)
    path = tmp_path_factory.mktemp("big") / "big.rdb"
    with RedisServer("redis-6.2") as source:
        client = source.client()
        client.set("string", rng.randbytes(6 << 20))
        for number in range(90):
            element = rng.randbytes(60_000)
            client.rpush("list", element)
            client.sadd("set", element)
            client.zadd("zset", {element: rng.random() * 1e9})
            client.hset("hash", str(number), element)
        for number in range(300):
            client.xadd("stream", {"a": rng.randbytes(60_000), "n": number}, id="%d-1" % (number + 1))
        path.write_bytes(source.save().read_bytes())
    return path


def run(target: RedisServer, file: Path, state: Path, policy: str) -> dict[str, Any]:
    options = Options(state_dir=str(state), on_conflict=policy, force=True)
    return Importer(Endpoint.from_params({"addresses": [target.address]}), options, lambda _text: None).run(open_files([str(file)]))


def test_fail_lets_the_same_value_be(file: Path, shared_server: Any, tmp_path: Path) -> None:
    target = shared_server("redis-6.2")
    assert run(target, file, tmp_path, "fail")["stats"]["keys"] == len(KINDS)
    digest = target.digest()
    again = run(target, file, tmp_path, "fail")
    assert not again["changed"] and again["stats"]["keys"] == 0 and again["stats"]["skipped"] == len(KINDS)
    assert target.digest() == digest


@pytest.mark.parametrize("kind", KINDS)
def test_fail_names_another_value(kind: str, file: Path, shared_server: Any, tmp_path: Path) -> None:
    target = shared_server("redis-6.2")
    run(target, file, tmp_path, "replace")
    CHANGES[kind](target.client())
    digest = target.digest()
    with pytest.raises(ConflictError, match='key "%s" in db 0.*another value' % kind):
        run(target, file, tmp_path, "fail")
    assert target.digest() == digest
    target.client().delete(kind)
    target.client().set(kind, "of another kind")
    with pytest.raises(ConflictError, match='key "%s" in db 0.*another value' % kind):
        run(target, file, tmp_path, "fail")
