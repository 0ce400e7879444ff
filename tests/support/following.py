# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task that follows its source while a test writes there, and what has to be in the target at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX

from .live_writer import Deployment
from .logical import assert_same_data, snapshot
from .online import OnlineTask, endpoint_of, masters, settle
from .redis_server import RedisServer

# Servers up to 6.2 tell replicas how long a key has to live, not when it dies.
TOLERANCE_MS = 60_000
TargetDb = Callable[[int], Optional[int]]


@contextmanager
def following(folder: Path, source: Deployment, target: Deployment, **options: Any) -> Iterator[OnlineTask]:
    """A task in sync; what the body does is in the stream. At its end it has arrived, and the task has ended."""
    with OnlineTask(folder, endpoint_of(source), endpoint_of(target), **options) as task:
        task.start()
        task.wait_synced()
        yield task
        assert task.finish()["status"] == "succeeded"


def run(server: RedisServer, *lines: str, db: int = 0) -> list[Any]:
    """One command after the other, on one connection."""
    pipe = server.client(db=db).pipeline(transaction=False)
    for line in lines:
        pipe.execute_command(*line.split())
    return list(pipe.execute())


def assert_taken(
    source: Deployment,
    target: Deployment,
    db_of: TargetDb = lambda db: db,
    keep: Callable[[bytes], bool] = lambda key: True,
    own: Any = (),
) -> None:
    """The target holds the keys that are to be taken, where they are to be, and of its own only ``own``, (database, key)."""
    settle(source)
    settle(target)
    expected = {}
    for (db, key), entry in snapshot(masters(source)).items():
        place = (db_of(db), key)
        if place[0] is not None and keep(key) and place not in own:
            assert place not in expected, "the test itself puts two keys into one place: %r" % (place,)
            expected[place] = entry
    found = snapshot(masters(target))
    for place in own:
        del found[place]
    assert_same_data(expected, found, TOLERANCE_MS, ("source", "target"))


def values(server: RedisServer, *keys: str, db: int = 0) -> list[Any]:
    return list(server.client(db=db).mget(*keys))


def ours(target: Deployment) -> list[bytes]:
    return [key for _db, key in snapshot(masters(target)) if key.startswith(RESERVED_PREFIX)]


def fill(target: Deployment, *lines: str) -> None:
    """Commands on one key each."""
    for line in lines:
        words = line.split()
        node = target if isinstance(target, RedisServer) else target.owner_of_key(words[1].encode())
        node.execute(*words)
