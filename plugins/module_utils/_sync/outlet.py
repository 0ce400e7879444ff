# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The target as a dispatcher sees it."""

from __future__ import annotations

from typing import List, Optional, Protocol, Sequence

from .._codec.resp import ErrorReply
from .fences import Place
from .lane import ApplyLane


class Outlet(Protocol):
    """What takes the commands; :class:`.lanes.Lanes` is one."""

    only: Optional[ApplyLane]  # None for a Redis Cluster
    by_slot: List[ApplyLane]
    proxied: bool

    def lanes(self) -> List[ApplyLane]:
        """Every lane there is."""

    def examine(self, reply: ErrorReply, places: Sequence[Place]) -> None:
        """Raise a ServerError for a reply that is about the target, not about these keys."""


class Keys:
    """The keys of plain SETs, by the number of the reply; made only when one is asked for."""

    def __init__(self, db: int, commands: List[List[bytes]], selects: bool) -> None:
        self._db = db
        self.known = commands
        self._first = int(selects)

    def __getitem__(self, number: int) -> Sequence[Place]:
        if number < self._first:
            return ()
        return ((self._db, self.known[number - self._first][1]),)
