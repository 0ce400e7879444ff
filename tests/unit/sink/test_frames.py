# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands made column by column are those that are made entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb import Batch, Header, RdbScanner
from ansible_collections.dcs.migration.plugins.module_utils._errors import UnsupportedTypeError
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import Capabilities
from ansible_collections.dcs.migration.plugins.module_utils._sink.frames import Dialect, Framer

from ansible_collections.dcs.migration.tests.unit.codec.vectors import small_file

OLD = Capabilities()
MIDDLE = Capabilities(restore_replace=True, streams=True)
NEW = Capabilities(restore_replace=True, restore_absttl=True, restore_idle_freq=True, set_pxat=True, streams=True, functions=True)
TARGETS = [
    Dialect(6, t.REDIS, OLD),
    Dialect(7, t.REDIS, MIDDLE),
    Dialect(9, t.REDIS, NEW),
    Dialect(12, t.REDIS, NEW),
    Dialect(80, t.VALKEY, NEW),
]


def batches(data: bytes, flat: bool) -> tuple[str, list[Batch]]:
    """The dialect of a file and its batches."""
    scanner = RdbScanner(len(data), flat=flat)
    events = [*scanner.feed(data), *scanner.close()]
    return next(iter([event.dialect for event in events if isinstance(event, Header)])), [event for event in events if isinstance(event, Batch)]


def attempt(make: Callable[[], list[bytes]]) -> Any:
    """The commands, or the error's text."""
    try:
        return make()
    except UnsupportedTypeError as exc:
        return str(exc)


@pytest.mark.parametrize("target", TARGETS, ids=["%s-%d" % (target.name, target.rdb_version) for target in TARGETS])
@pytest.mark.parametrize(("version", "source"), [(6, t.REDIS), (9, t.REDIS), (12, t.REDIS), (80, t.VALKEY)])
def test_values_become_the_same_commands(version: int, source: str, target: Dialect) -> None:
    data = small_file(version, source, plain=True)
    framer = Framer(target, "replace", lambda: 0, False, "a file")
    dialect, plain = batches(data, flat=False)
    framer.set_source(dialect)
    expected = {
        (batch.db, entry[0], entry[1]): attempt(lambda batch=batch, entry=entry: framer.frames(batch, [entry]).frames)  # type: ignore[misc]
        for batch in plain
        for entry in batch.entries
        if entry[5:] == (None, None)
    }
    seen = set()
    for batch in batches(data, flat=True)[1]:
        fours = [batch.values[at : at + 4] for at in range(0, len(batch.values), 4)]
        taken: list[Any] = []
        for four in fours:
            made = attempt(lambda batch=batch, four=four: list(framer.restores(batch, four)))  # type: ignore[misc]
            assert made == expected[batch.db, four[0], four[1]]
            if isinstance(made, list):
                taken.append((four, made))
        together = framer.restores(batch, [item for four, _made in taken for item in four])
        assert list(together) == [frame for _four, made in taken for frame in made]
        seen.update(four[0] for four, _made in taken)
    assert len(seen) >= 9


@pytest.mark.parametrize("size", [0, 511, 512, 5000])
@pytest.mark.parametrize("length", [1, 16_381, 16_382, 100_000])
def test_sizes_beyond_the_tables(size: int, length: int) -> None:
    framer = Framer(TARGETS[2], "replace", lambda: 0, False, "a file")
    batch = Batch(0, bytes(length), 0, [])
    entry = (t.HASH_ZIPLIST, b"k" * size, 0, length, 0, None, None)
    assert list(framer.restores(batch, entry[:4])) == framer.frames(batch, [entry]).frames
