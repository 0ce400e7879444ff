# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What ``bandwidth_limit`` allows."""

from __future__ import annotations

import time
from typing import Callable, Optional


# Seconds of which nothing was spent that may be made up for.
_SAVED = 0.5
# Pieces a second, where the limit is small.
_PIECES = 10


class Budget:
    """``limit`` gives the bytes per second of now (it may change), None or 0 for no limit. What was spent too much is waited for, however long."""

    def __init__(self, limit: Callable[[], Optional[int]]) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Count from here."""
        self._left = 0.0
        self._at = time.monotonic()
        self._total = 0

    def spend(self, size: int) -> None:
        self._left -= size

    @property
    def is_left(self) -> bool:
        """Whether more may be spent now."""
        limit, now = self._limit(), time.monotonic()
        if limit:
            self._left = min(self._left + limit * (now - self._at), limit * _SAVED)
        else:
            # Nothing that was spent without a limit counts under the next one.
            self._left = 0.0
        self._at = now
        return self._left >= 0

    @property
    def piece(self) -> int:
        """Bytes at most to spend at once, so that a small limit holds within each second; 0 for no limit."""
        limit = self._limit()
        return max(1, limit // _PIECES) if limit else 0

    def allows(self, total: int) -> bool:
        """Whether more than ``total`` bytes, counted since the last :meth:`reset`, may be spent now."""
        self.spend(total - self._total)
        self._total = total
        return self.is_left
