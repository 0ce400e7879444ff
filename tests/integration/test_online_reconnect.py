# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to the target that is cut again while the applier takes up its work: it takes it up once more, and nothing is loaded anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.online import OnlineTask, assert_identical, endpoint_of
from ansible_collections.dcs.migration.tests.support.servers import wait_until


@pytest.mark.parametrize("word", [b"HGETALL", b"checkpoint:", b"SETNAME", b"HMSET", b"SELECT"])
def test_cut_while_it_takes_up_its_work(word: bytes, tmp_path: Path, shared_server: Any, tcp_proxy: Any) -> None:
    source, target = shared_server("redis-7.0"), shared_server("redis-7.0", 1)
    way = tcp_proxy(target.address)
    writer, reader = source.client(), target.client()
    with OnlineTask(tmp_path, endpoint_of(source), {"addresses": [way.address]}) as task:
        task.start()
        task.wait_synced()
        way.cut_at(word)
        way.cut()
        writer.set("here", 1)
        wait_until(lambda: reader.get("here") == b"1", "it has arrived", 60)
        status = task.finish()
        assert [shard["full_syncs"] for shard in status["shards"]] == [1] and not status["warnings"], task.log()
    assert_identical(source, target)
