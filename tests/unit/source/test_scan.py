# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of reading key by key that need no server."""

from __future__ import annotations

import random

from ansible_collections.dcs.migration.plugins.module_utils._source.scan import Seen


def test_seen_tells_every_key_once() -> None:
    seen = Seen()
    keys = [b"", b"\0", b"x" * 100_000] + [b"key:%d" % number for number in range(20_000)]
    order = keys + keys
    random.Random(3).shuffle(order)
    assert sum(seen.add(key) for key in order) == len(keys) == len(seen)
    assert not any(seen.add(key) for key in keys)


def test_seen_stays_small() -> None:
    seen = Seen()
    for number in range(100_000):
        seen.add(b"a key with a name that is rather long %d" % number)
    used = seen._high.itemsize * len(seen._high) * 2
    assert used <= 48 * len(seen)
