# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the applier tells of each stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder
from ansible_collections.dcs.migration.plugins.module_utils._sync.sources import SOURCES, Sources
from ansible_collections.dcs.migration.plugins.module_utils._sync.status import Status


@pytest.mark.parametrize(
    ("stream", "applied", "lag"),
    [
        # What is before the snapshot comes with it.
        ({"state": "snapshot", "snapshot_offset": 9_000, "received_offset": 9_000, "source_offset": 9_700}, {}, 700),
        ({"state": "streaming", "snapshot_offset": 9_000, "received_offset": 9_500, "source_offset": 9_000}, {}, 500),
        ({"state": "streaming", "snapshot_offset": 0, "received_offset": 300, "source_offset": 300}, {0: 0}, 300),
        ({"state": "streaming", "snapshot_offset": 9_000, "received_offset": 9_500, "source_offset": 9_700}, {0: 9_600}, 100),
        ({"state": "ended", "snapshot_offset": 9_000, "received_offset": 9_500, "source_offset": 9_700}, {}, 0),
    ],
)
def test_how_far_the_target_is_behind(tmp_path: Path, stream: dict[str, Any], applied: dict[int, int], lag: int) -> None:
    folder = TaskFolder(str(tmp_path), "task")
    folder.make()
    folder.write(SOURCES, {"streams": [{"id": 0, "address": "h:1", "generation": 1, **stream}]})
    sources, status = Sources(folder), Status(folder, lambda text: None)
    sources.refresh()
    status.shard_rows(sources, applied)
    assert status.shards[0]["lag_bytes"] == lag
