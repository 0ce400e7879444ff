# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a stream may be taken up again, in cases that servers show only for a moment."""

from __future__ import annotations

from typing import Any

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.commands import Commands
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import Capabilities
from ansible_collections.dcs.migration.plugins.module_utils._sink.frames import Dialect
from ansible_collections.dcs.migration.plugins.module_utils._sink.selection import Selection
from ansible_collections.dcs.migration.plugins.module_utils._sync.dispatch import Dispatcher
from ansible_collections.dcs.migration.plugins.module_utils._sync.kinds import Kinds
from ansible_collections.dcs.migration.plugins.module_utils._sync.lane import Mark
from ansible_collections.dcs.migration.plugins.module_utils._sync.stream import StreamReader

START = 1000


class Sink:
    """Outlet and lane that keep nothing."""

    proxied = False

    def __init__(self) -> None:
        self.only: Any = self
        self.by_slot: list[Any] = []

    def lanes(self) -> list[Any]:
        return [self]

    def add(self, *_arguments: Any) -> None:
        pass

    def flush(self, mark: Mark, _owner: Any) -> None:
        pass

    def examine(self, *_arguments: Any) -> None:
        pass


def done(dispatcher: Dispatcher, _args: list[bytes], end: int) -> None:
    """What a barrier tells the stream."""
    dispatcher.marks.append(Mark(end, dispatcher.db))
    dispatcher.sent = end


def test_a_long_transaction_with_a_flush_and_several_databases() -> None:
    """It is broken up, and until its end is there the stream is taken up behind the flush, with the database that was selected there."""
    commands = Commands()
    dispatcher = Dispatcher(1, Sink(), done, Selection(), commands, Kinds(commands), Dialect(9, t.REDIS, Capabilities()))  # type: ignore[arg-type]
    dispatcher.begin(START, 0)
    lines = ["MULTI", "SELECT 3", "FLUSHDB", "SELECT 2", "SET a x"]
    frames = [command(*line.split()) for line in lines]
    flushed = START + sum(map(len, frames[:3]))
    reader = StreamReader(START)
    dispatcher.dispatch(reader.feed(b"".join(frames)))
    assert (dispatcher.marks[-1].end, dispatcher.marks[-1].db) == (START, 0)
    dispatcher.dispatch(reader.feed(command("SET", "b", b"x" * (9 << 20))))
    assert [(mark.end, mark.db) for mark in dispatcher.marks][-2:] == [(flushed, 3), (flushed, 3)]
    dispatcher.dispatch(reader.feed(command("SET", "c", "x")))
    assert (dispatcher.marks[-1].end, dispatcher.marks[-1].db) == (flushed, 3)
    dispatcher.dispatch(reader.feed(command("EXEC")))
    assert (dispatcher.marks[-1].end, dispatcher.marks[-1].db) == (reader.position, 2)
