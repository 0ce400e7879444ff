# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands made column by column are those that are made entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.events import Batch, Header
from ansible_collections.dcs.migration.plugins.module_utils._codec.flat import FlatLists, FlatFormat
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb import RdbScanner
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import arguments
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import read_string
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


def batches(data: bytes, form: FlatFormat | None = None) -> tuple[str, list[Batch]]:
    """The dialect of a file and its batches."""
    scanner = RdbScanner(len(data), flat=form)
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
@pytest.mark.parametrize("plain", [True, False])
def test_flat_lists_become_the_same_commands(version: int, source: str, target: Dialect, plain: bool) -> None:
    data = small_file(version, source, plain=plain)
    framer = Framer(target, "replace", lambda: -10, False, "a file")
    dialect, found = batches(data)
    framer.set_source(dialect)
    expected: dict[Any, list[bytes]] = {}
    refused = set()
    for batch in found:
        for entry in batch.entries:
            made = attempt(lambda batch=batch, entry=entry: framer.frames(batch, [entry]).frames)  # type: ignore[misc]
            if isinstance(made, str):
                refused.add(made)
            else:
                expected[batch.db, entry[1]] = made
    for batch in batches(data, framer.flat_format())[1]:
        assert batch.flat is not None
        for pair in pairs_of(batch.flat.pairs):
            # Alone a SET, or a RESTORE of an integer.
            name, key, *args = arguments(expected.pop((batch.db, pair[0]))[-1])
            assert key == pair[0] and pair[1] == (args[0] if name == b"SET" else read_string(args[1], 1)[0])
        batch.flat.pairs.clear()
        for frames, keys in framer.flat(batch.flat):
            assert keys == len(frames)
            for frame in frames:
                assert expected.pop((batch.db, arguments(frame)[1])) == [frame]
        for entry in batch.entries:
            made = attempt(lambda batch=batch, entry=entry: framer.frames(batch, [entry]).frames)  # type: ignore[misc]
            assert made in refused if isinstance(made, str) else made == expected.pop((batch.db, entry[1]))
    assert not expected


def pairs_of(items: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [items[at : at + 2] for at in range(0, len(items), 2)]


@pytest.mark.parametrize("size", [0, 511, 512, 5000])
@pytest.mark.parametrize("length", [1, 16_381, 16_382, 100_000])
@pytest.mark.parametrize("expiries", [(None, None), (1, 1), (1_800_000_000_000, 1 << 60)])
def test_sizes_beyond_the_tables(size: int, length: int, expiries: Sequence[Any]) -> None:
    target = TARGETS[2]
    framer = Framer(target, "replace", lambda: 0, False, "a file")
    batch = Batch(0, bytes(length), 0, [])
    body = bytes((t.HASH_ZIPLIST,)) + batch.buf + framer.flat_format().footer
    flat, entries = FlatLists(), []
    for number, expire in enumerate(expiries):
        key = b"%d" % number * size
        if expire is None:
            flat.values += [key, body]
        else:
            flat.expiring_values += [key, body, expire]
        entries.append((t.HASH_ZIPLIST, key, 0, length, 0, expire, None))
    assert [frame for frames, _keys in framer.flat(flat) for frame in frames] == framer.frames(batch, entries).frames
    strings = [(t.STRING, entry[1], 0, length, 0, expire, None) for entry, expire in zip(entries, expiries)]
    # The value begins at a byte that is not the first: 0 says that it is no plain string.
    batch = Batch(0, b"-" + batch.buf, 0, [])
    strings = [(t.STRING, key, 0, length + 1, 1, expire, None) for _kind, key, _start, _end, _data, expire, _hint in strings]
    if expiries[0] is not None:
        flat = FlatLists(expiring_pairs=[item for entry in strings for item in (entry[1], batch.buf[1:], entry[5])])
        assert [frame for frames, _keys in framer.flat(flat) for frame in frames] == framer.frames(batch, strings).frames


def test_what_has_expired_is_dropped() -> None:
    flat = FlatLists([b"a", b"1"], [b"b", b"2"], [b"c", b"3", 10, b"d", b"4", 11], [b"e", b"5", 9])
    assert flat.drop_expired(10) == 2
    assert (flat.pairs, flat.values, flat.expiring_pairs, flat.expiring_values) == ([b"a", b"1"], [b"b", b"2"], [b"d", b"4", 11], [])
    assert flat.only(lambda key: key != b"a").pairs == []
