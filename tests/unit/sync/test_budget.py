# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a limit of bytes per second allows, by a clock of the test's."""

from __future__ import annotations

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync import budget
from ansible_collections.dcs.migration.plugins.module_utils._sync.budget import Budget
from ansible_collections.dcs.migration.tests.unit.sync.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(budget, "time", made)
    return made


def spent(one: Budget, clock: Clock, seconds: float, piece: int) -> int:
    """How much is let through in so many seconds where there is always more."""
    total, until = 0, clock.now + seconds
    while clock.now < until:
        if one.is_left:
            one.spend(piece)
            total += piece
        clock.now += 0.01
    return total


@pytest.mark.parametrize(("limit", "piece"), [(10_000, 1000), (10_000, 128 << 10), (1 << 20, 128 << 10), (100 << 20, 128 << 10)])
def test_a_limit_holds(clock: Clock, limit: int, piece: int) -> None:
    """Also one that is smaller than a piece."""
    got = spent(Budget(lambda: limit), clock, 60, piece)
    assert got <= limit * 60 + piece
    # One look in 10 ms is what this test allows.
    assert got >= min(limit * 59, piece * 5900)


def test_little_is_made_up_for(clock: Clock) -> None:
    one = Budget(lambda: 1000)
    clock.now += 3600
    assert spent(one, clock, 1, 10) <= 1000 * 1.5 + 10


def test_a_limit_that_changes(clock: Clock) -> None:
    """What was spent without one, or under another, is not held against the next."""
    limit: int | None = None
    one = Budget(lambda: limit)
    assert one.allows(1 << 40) and one.piece == 0
    limit = 1000
    clock.now += 0.1
    assert one.allows(1 << 40) and one.piece == 100
    assert not one.allows((1 << 40) + 1100)
    clock.now += 0.9
    assert not one.allows((1 << 40) + 1100)
    clock.now += 0.2
    assert one.allows((1 << 40) + 1100)
    one.reset()
    assert one.allows(0) and not one.allows(1)
