# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that the commands between two offsets of a spool write."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.commands import Commands
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError
from ansible_collections.dcs.migration.plugins.module_utils._sync import recovery
from ansible_collections.dcs.migration.plugins.module_utils._sync.checkpoints import State
from ansible_collections.dcs.migration.plugins.module_utils._sync.spool import SpoolWriter, trim

START = 5000
Found = list[tuple[int, bytes]]


class Log:
    """A spool of commands, and the offset behind each of them. The segments are small, so commands lie across them."""

    def __init__(self, path: Path, *lines: str) -> None:
        self.path = str(path / "stream")
        self.ends = [START]
        with contextlib.closing(SpoolWriter(self.path, START, segment=50)) as writer:
            for line in lines:
                writer.write(command(*line.split()))
                self.ends.append(writer.position)

    def touched(self, first: int = 0, last: int = -1, db: int = 0, **filters: Sequence[object]) -> Found:
        """Of the commands from number ``first`` up to before number ``last``."""
        return self.between(self.ends[first], self.ends[last], db, **filters)

    def between(
        self, at: int, until: int, db: int = 0, keys: Sequence[bytes] | None = None, dbs: Sequence[int] | None = None
    ) -> Found:
        def wanted(number: int, key: bytes) -> bool:
            return (keys is None or key in keys) and (dbs is None or number in dbs)

        return recovery.touched(self.path, State(1, "id", at, until, db), until, Commands(), wanted)


def test_every_key_once_in_order(tmp_path: Path) -> None:
    log = Log(tmp_path, "INCR b", "SET a 1", "INCR b", "MSET c 1 d 2", "DEL a e", "get f", "TTL f", "ping", "lpush l 1")
    assert log.touched() == [(0, key) for key in (b"b", b"a", b"c", b"d", b"e", b"l")]


def test_what_is_only_read_is_not_touched(tmp_path: Path) -> None:
    lines = ["SUNIONSTORE d a b", "BITOP AND e a b", "COPY a c", "SORT a STORE f", "ZUNIONSTORE z 2 a b"]
    log = Log(tmp_path, *lines, "XREADGROUP GROUP g c STREAMS x >")
    assert {key for _db, key in log.touched()} == {b"d", b"e", b"c", b"f", b"z", b"x"}


def test_what_names_two_keys_and_writes_both(tmp_path: Path) -> None:
    log = Log(tmp_path, "RENAME a b", "SMOVE c d m", "LMOVE e f LEFT RIGHT", "EVAL script 2 g h 1")
    assert {key for _db, key in log.touched()} == {b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"}


def test_databases(tmp_path: Path) -> None:
    log = Log(tmp_path, "INCR a", "SELECT 3", "INCR a", "select 0", "INCR b", "SELECT 3")
    assert log.touched() == [(0, b"a"), (3, b"a"), (0, b"b")]
    # The database that was selected at the beginning comes with the checkpoint.
    assert log.touched(first=2, last=3, db=3) == [(3, b"a")]
    assert log.touched(db=7)[0] == (7, b"a")


def test_move_and_copy_touch_both_databases(tmp_path: Path) -> None:
    log = Log(tmp_path, "SELECT 1", "MOVE a 2", "COPY b c DB 4", "COPY b d db 5 REPLACE", "COPY b e REPLACE", "COPY db db")
    assert log.touched() == [(1, b"a"), (2, b"a"), (1, b"c"), (4, b"c"), (1, b"d"), (5, b"d"), (1, b"e"), (1, b"db")]


def test_transactions_and_scripts(tmp_path: Path) -> None:
    log = Log(tmp_path, "MULTI", "INCR a", "SELECT 1", "INCR b", "EXEC", "FLUSHDB", "SCRIPT LOAD x", "PUBLISH c m", "EVAL script 0")
    assert log.touched() == [(0, b"a"), (1, b"b")]


def test_commands_that_nobody_knows(tmp_path: Path) -> None:
    log = Log(tmp_path, "INCR a", "NO.SUCH b", "EVAL script many b", "INCR c")
    assert log.touched() == [(0, b"a"), (0, b"c")]


def test_filters(tmp_path: Path) -> None:
    log = Log(tmp_path, "MSET a 1 b 2", "SELECT 1", "INCR a", "MOVE a 2", "COPY b a DB 2", "COPY b a DB 3")
    assert log.touched(keys=[b"a"]) == [(0, b"a"), (1, b"a"), (2, b"a"), (3, b"a")]
    assert log.touched(dbs=[2]) == [(2, b"a")]
    assert log.touched(dbs=[0, 3]) == [(0, b"a"), (0, b"b"), (3, b"a")]


# -- the range ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 256 << 10])
def test_from_and_until_anywhere(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends behind ``until`` was not sent."""
    monkeypatch.setattr(recovery, "_CHUNK", chunk)
    log = Log(tmp_path, *("SET k%d %s" % (number, "v" * number) for number in range(12)))
    keys = [(0, b"k%d" % number) for number in range(12)]
    for first in range(12):
        for until in range(log.ends[first], log.ends[-1] + 1):
            last = max(number for number, end in enumerate(log.ends) if end <= until)
            assert log.between(log.ends[first], until) == keys[first:last]


def test_nothing_in_between(tmp_path: Path) -> None:
    log = Log(tmp_path, "INCR a")
    assert log.touched(0, 0) == log.touched(1, 1) == []


def test_the_spool_ends_before(tmp_path: Path) -> None:
    log = Log(tmp_path, "INCR a", "INCR b")
    assert log.between(START, log.ends[-1] + 1000) == [(0, b"a"), (0, b"b")]


def test_the_spool_does_not_hold_it_any_more(tmp_path: Path) -> None:
    log = Log(tmp_path, *("SET k%d 1" % number for number in range(12)))
    trim(log.path, log.ends[-2])
    with pytest.raises(FileError, match="does not hold position 5000"):
        log.touched()


def test_not_at_a_command(tmp_path: Path) -> None:
    log = Log(tmp_path, "INCR a", "INCR b")
    with pytest.raises(CodecError):
        log.between(START + 1, log.ends[-1])
