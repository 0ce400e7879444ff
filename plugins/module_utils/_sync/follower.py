# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One stream on its way from its spool into the target."""

from __future__ import annotations

from collections import deque
from typing import Deque

from .dispatch import Dispatcher
from .fences import Source
from .lane import Mark
from .sources import StreamState
from .spool import SpoolReader, bounds
from .stream import StreamReader


class Follower:
    """Spool, parser, dispatcher, and the source's master for copies.

    ``limit``: nothing behind it may be sent yet; ``floor``: something up to it may have been sent by an earlier session; ``at``: everything
    up to there is certain, and ``db`` is selected there.
    """

    def __init__(self, state: StreamState, dispatcher: Dispatcher, source: Source, position: int, spool: str) -> None:
        self.state = state
        self.dispatcher = dispatcher
        self.source = source
        self.spool = SpoolReader(spool, position)
        self.parser = StreamReader(position)
        self.limit = 0
        self.at = position
        self.db = dispatcher.db
        # When (monotonic) nothing more was in the spool.
        self.empty_at = 0.0
        self._passed: Deque[Mark] = deque()
        self.path = spool
        self.floor = 0

    @property
    def number(self) -> int:
        return self.state.id

    @property
    def is_live(self) -> bool:
        return self.state.state != "ended"

    @property
    def has_offsets(self) -> bool:
        """Whether the stream counts as its source does; not after SYNC."""
        return self.state.command != "SYNC"

    @property
    def received(self) -> int:
        """The end of the spool."""
        found = bounds(self.path)
        return found[1] if found else self.at

    def advance(self) -> None:
        """Note how far the answers reach."""
        dispatcher = self.dispatcher
        marks = dispatcher.marks
        while marks and not marks[0].pending:
            mark = marks.popleft()
            dispatcher.acked = mark.end
            self._passed.append(mark)
        dispatcher.doubts.certain(dispatcher.acked)
        guarded = dispatcher.doubts.guarded_from
        while self._passed and self._passed[0].end <= guarded:
            mark = self._passed.popleft()
            self.at, self.db = mark.end, mark.db

    def close(self) -> None:
        self.spool.close()
        self.source.close()
