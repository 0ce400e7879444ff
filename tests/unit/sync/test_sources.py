# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the receiver tells, as the applier takes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError
from ansible_collections.dcs.migration.plugins.module_utils._sync import sources as module
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder
from ansible_collections.dcs.migration.plugins.module_utils._sync.sources import SOURCES, Sources, StreamState

STREAM: dict[str, Any] = {
    "id": 0, "address": "h:1", "state": "streaming", "generation": 2, "replication_id": "abc",
    "command": "PSYNC", "snapshot_offset": 100,
    "stream_db": 3, "snapshot_length": 1000, "snapshot_received": 1000, "snapshot_complete": True,
    "received_offset": 500, "source_offset": 700,
    "durable_offset": 400, "reconnects": 1, "full_syncs": 2, "error": None, "since": 1.5,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    folder = TaskFolder(str(tmp_path), "task")
    folder.make()
    return folder


@pytest.fixture
def sources(folder: TaskFolder) -> Sources:
    return Sources(folder)


def tell(folder: TaskFolder, *streams: dict[str, Any], **more: Any) -> None:
    folder.write(SOURCES, {"at": 5.0, "kind": "single", "streams": [{**STREAM, **stream} for stream in streams], **more})


def test_before_the_receiver_has_said_anything(sources: Sources) -> None:
    assert not sources.refresh()
    assert (sources.streams, sources.live, sources.slots, sources.kind, sources.error) == ({}, [], [], "", None)
    assert sources.owner(0) is None and sources.lag_seconds(0, 0) == 0.0


def test_a_stream(folder: TaskFolder, sources: Sources) -> None:
    tell(folder, {}, spool_bytes=5, spool_limit=10, spool_full=False)
    assert sources.refresh() and not sources.refresh()
    assert sources.streams == {0: StreamState(**{name: STREAM[name] for name in StreamState._fields})}
    assert sources.live == list(sources.streams.values())
    assert sources.spool == {"spool_bytes": 5, "spool_limit": 10, "spool_full": False} and sources.at == 5.0
    assert sources.folder_of(0, 2, "snapshot") == os.path.join(folder.path, "streams", "0", "2", "snapshot")


def test_news(folder: TaskFolder, sources: Sources) -> None:
    """A file that is replaced is read again, even when it is of the same length and the same moment."""
    for generation in range(1, 6):
        tell(folder, {"generation": generation})
        os.utime(folder.file(SOURCES), ns=(1, 1))
        if sources.refresh():
            assert sources.streams[0].generation == generation
    tell(folder, {"generation": 9})
    assert sources.refresh() and sources.streams[0].generation == 9


def test_before_anything_was_received(folder: TaskFolder, sources: Sources) -> None:
    empty = dict.fromkeys(("stream_db", "snapshot_length", "received_offset", "source_offset", "error"))
    tell(folder, {**empty, "state": "connecting", "generation": 0}, error={"message": "no"})
    assert sources.refresh()
    assert sources.streams[0].generation == 0 and sources.streams[0].received_offset is None
    assert sources.error == {"message": "no"} and sources.lag_seconds(0, 0) == 0.0


def test_nothing_but_the_error(folder: TaskFolder, sources: Sources) -> None:
    folder.write(SOURCES, {"at": 1.0, "error": {"message": "no"}, "kind": None, "slots": None, "open_slots": None, "streams": None})
    assert sources.refresh() and (sources.kind, sources.slots, sources.open_slots, sources.streams) == ("", [], [], {})


def test_ended_streams(folder: TaskFolder, sources: Sources) -> None:
    tell(folder, {}, {"id": 1, "state": "ended"}, {"id": 2, "state": "lost"})
    sources.refresh()
    assert [stream.id for stream in sources.live] == [0, 2] and set(sources.streams) == {0, 1, 2}


def test_owners_of_slots(folder: TaskFolder, sources: Sources) -> None:
    tell(folder, {}, {"id": 1}, kind="redis_cluster", slots=[[0, 99, 1], [100, 100, 0], [200, 16383, 1]], open_slots=[7], map_at=3)
    sources.refresh()
    assert [sources.owner(slot) for slot in (0, 99, 100, 101, 199, 200, 16383)] == [1, 1, 0, None, None, 1, 1]
    assert (sources.open_slots, sources.map_at, sources.kind) == ([7], 3, "redis_cluster")


def test_damage(folder: TaskFolder, sources: Sources) -> None:
    Path(folder.file(SOURCES)).write_text("{", encoding="utf-8")
    with pytest.raises(FileError, match="sources.json"):
        sources.refresh()


# -- lag ----------------------------------------------------------------------------------------------------------------------


def test_lag_in_seconds(folder: TaskFolder, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first byte that is not applied: since when it is known of."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    for at, received, known in ((1000.0, 100, 90), (1001.0, 200, 90), (1002.0, 200, 300), (1003.0, 300, 300)):
        now[0] = at
        tell(folder, {"received_offset": received, "source_offset": known})
        assert sources.refresh()
    now[0] = 1010.0
    assert sources.lag_seconds(0, 50) == 10.0
    assert sources.lag_seconds(0, 100) == sources.lag_seconds(0, 150) == 9.0
    assert sources.lag_seconds(0, 299) == 8.0
    assert sources.lag_seconds(0, 300) == 0.0
