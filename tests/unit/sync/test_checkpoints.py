# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What checkpoints tell, alone and together, and where they are put."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import arguments
from ansible_collections.dcs.migration.plugins.module_utils._codec.slots import SLOTS, key_slot
from ansible_collections.dcs.migration.plugins.module_utils._errors import FileError
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Address
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import RESERVED_PREFIX
from ansible_collections.dcs.migration.plugins.module_utils._sync.checkpoints import (
    FileCheckpoints,
    State,
    TargetCheckpoints,
    combine,
    fence_fields,
    fence_name,
    state_fields,
)
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder

ID = "0123456789abcdef0123456789abcdef01234567"
A, B, C = (Address("10.0.0.%d" % number, 6379) for number in (1, 2, 3))


def state(at: int, until: int, generation: int = 1, replication_id: str = ID, db: int = 0) -> State:
    return State(generation, replication_id, at, until, db)


# -- fields -------------------------------------------------------------------------------------------------------------------

numbers = st.integers(0, 1 << 62)
states = st.builds(State, numbers, st.sampled_from(["", ID]), numbers, numbers, st.integers(0, 15))
places = st.tuples(st.integers(0, 1000), st.binary(max_size=30))


@given(st.dictionaries(st.integers(0, 100), st.tuples(states, st.dictionaries(places, numbers, max_size=5)), max_size=4))
def test_what_is_written_is_read(streams: dict[int, tuple[State, dict[tuple[int, bytes], int]]]) -> None:
    fields: dict[bytes, bytes] = {}
    for number, (one, fences) in streams.items():
        fields.update(state_fields(number, one))
        fields.update(fence_fields(number, dict(fences)))
    found = combine([fields])
    assert found.states == {number: one for number, (one, _fences) in streams.items()}
    assert found.fences == {number: fences for number, (_one, fences) in streams.items() if fences}
    assert found.disputed == []


def test_keys_may_look_like_fields() -> None:
    keys = [b"", b":", b"f:0:0:x", b"at:0", b"a:b:c", b"\x00\xff", b"disputed"]
    fences = {(3, key): number for number, key in enumerate(keys)}
    assert combine([fence_fields(7, dict(fences))]).fences == {7: fences}
    assert len({fence_name(7, (3, key)) for key in keys}) == len(keys)


def test_nothing_there() -> None:
    assert combine([]) == combine([{}]) == ({}, {}, [])


# -- several masters ----------------------------------------------------------------------------------------------------------


def test_the_lowest_and_the_highest() -> None:
    """Done is what every master has; sent may be what any allowed."""
    hashes = [state_fields(0, one) for one in (state(200, 900, db=2), state(100, 500, db=1), state(300, 700, db=3))]
    for order in (hashes, hashes[::-1], hashes[1:] + hashes[:1]):
        assert combine(order).states == {0: state(100, 900, db=1)}


def test_the_lowest_generation() -> None:
    """One master has gone back behind a whole snapshot, or not come to it yet: nothing newer holds for all."""
    older, newer = state_fields(0, state(10, 9000, 1)), state_fields(0, state(500, 600, 2))
    assert combine([older, newer]).states == combine([newer, older]).states == {0: state(10, 9000, 1)}


def test_streams_do_not_mix() -> None:
    one = {**state_fields(0, state(1, 2)), **state_fields(1, state(100, 200)), **fence_fields(0, {(0, b"a"): 5})}
    other = {**state_fields(0, state(3, 4)), **state_fields(1, state(50, 300)), **fence_fields(1, {(0, b"a"): 7})}
    found = combine([one, other])
    assert found.states == {0: state(1, 4), 1: state(50, 300)}
    assert found.fences == {0: {(0, b"a"): 5}, 1: {(0, b"a"): 7}}


def test_fences_of_all() -> None:
    found = combine([fence_fields(0, {(0, b"a"): 5}), fence_fields(0, {(0, b"b"): 7, (1, b"a"): 9})])
    assert found.fences == {0: {(0, b"a"): 5, (0, b"b"): 7, (1, b"a"): 9}}


@pytest.mark.parametrize(
    "name, value",
    [
        (b"at:0", b""),
        (b"at:0", b"1 id 2 3"),
        (b"at:0", b"1 id 2 3 4 5"),
        (b"at:0", b"1 id x 3 0"),
        (b"at:0", b"1 \xff\xfe 2 3 0"),
        (b"at:", b"1 id 2 3 0"),
        (b"at:x", b"1 id 2 3 0"),
        (b"f:0:0", b"5"),
        (b"f:x:0:a", b"5"),
        (b"f:0:x:a", b"5"),
        (b"f:0:0:a", b""),
        (b"f:0:0:a", b"inf"),
        (b"disputed", b"1 x"),
    ],
)
def test_what_cannot_be_read(name: bytes, value: bytes) -> None:
    with pytest.raises(FileError, match="checkpoint in the target.*Remove the task"):
        combine([state_fields(1, state(1, 2)), {name: value}])


names = st.one_of(st.binary(max_size=12), st.sampled_from([b"at:0", b"f:0:0:k", b"disputed"]))


@given(st.dictionaries(names, st.binary(max_size=20), max_size=4))
def test_hostile_fields(fields: dict[bytes, bytes]) -> None:
    try:
        combine([fields])
    except FileError:
        pass


# -- names --------------------------------------------------------------------------------------------------------------------


def owned(name: bytes, slots: list[tuple[int, int]]) -> bool:
    return any(first <= key_slot(name) <= last for first, last in slots)


def test_a_single_target_has_one_name() -> None:
    checkpoints = TargetCheckpoints("0123", False)
    checkpoints.choose({A: []})
    name = list(checkpoints.names.values())[0]
    assert name.startswith(RESERVED_PREFIX) and b"0123" in name
    # A replica that was promoted has the data, and the checkpoint among it.
    checkpoints.choose({B: []})
    assert checkpoints.names == {B: name}


def test_names_are_in_slots_of_their_masters() -> None:
    checkpoints = TargetCheckpoints("0123", True)
    slots_of = {A: [(0, 5460)], B: [(5461, 5461)], C: [(5462, 9000), (12_000, SLOTS - 1)]}
    checkpoints.choose(slots_of)
    assert all(owned(checkpoints.names[address], slots) for address, slots in slots_of.items())
    assert len(set(checkpoints.names.values())) == 3
    assert all(name.startswith(RESERVED_PREFIX) and b"0123" in name for name in checkpoints.names.values())


def test_names_stay_while_their_slots_do() -> None:
    checkpoints = TargetCheckpoints("0123", True)
    checkpoints.choose({A: [(0, 8191)], B: [(8192, SLOTS - 1)]})
    before = dict(checkpoints.names)
    slot = key_slot(before[A])
    checkpoints.choose({A: [(slot, slot)], B: [(8192, SLOTS - 1)], C: [(0, slot - 1), (slot + 1, 8191)]})
    assert checkpoints.names[A] == before[A] and checkpoints.names[B] == before[B]
    assert owned(checkpoints.names[C], [(0, slot - 1), (slot + 1, 8191)])


def test_a_name_whose_slot_went_away_is_replaced() -> None:
    checkpoints = TargetCheckpoints("0123", True)
    checkpoints.choose({A: [(0, 8191)], B: [(8192, SLOTS - 1)]})
    before = dict(checkpoints.names)
    checkpoints.choose({A: [(8192, SLOTS - 1)]})
    assert set(checkpoints.names) == {A} and owned(checkpoints.names[A], [(8192, SLOTS - 1)])
    assert checkpoints.names[A] not in (before[A],)


def test_two_tasks_do_not_meet() -> None:
    names = set()
    for token in ("0123", "4567"):
        checkpoints = TargetCheckpoints(token, True)
        checkpoints.choose({A: [(0, SLOTS - 1)]})
        names.update(checkpoints.names.values())
    assert len(names) == 2


# -- commands -----------------------------------------------------------------------------------------------------------------


def test_fences_come_before_the_positions_and_go_behind_them() -> None:
    """Cut off anywhere, a checkpoint may name a fence too many, and never one too few."""
    fields = state_fields(0, state(1, 2))
    fences = fence_fields(0, {(0, b"%d" % number): float(number) for number in range(5000)})
    gone = [fence_name(0, (1, b"%d" % number)) for number in range(5000)]
    commands = [arguments(frame) for frame in TargetCheckpoints.frames(b"name", fields, fences, gone)]
    assert all(words[1] == b"name" and len(words) <= 4002 for words in commands)
    (at,) = [number for number, words in enumerate(commands) if words[2:] == [word for pair in fields.items() for word in pair]]
    written: dict[bytes, bytes] = {}
    for words in commands[:at]:
        assert words[0] == b"HMSET"
        written.update(zip(words[2::2], words[3::2]))
    assert written == fences
    assert [name for words in commands[at + 1 :] for name in words[2:]] == gone
    assert {words[0] for words in commands[at + 1 :]} == {b"HDEL"}


def test_positions_alone() -> None:
    fields = state_fields(0, state(1, 2))
    assert [arguments(frame) for frame in TargetCheckpoints.frames(b"name", fields, {}, [])] == [
        [b"HMSET", b"name", *(word for pair in fields.items() for word in pair)]
    ]


# -- behind a proxy -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    folder = TaskFolder(str(tmp_path), "task")
    folder.make()
    return folder


def test_a_file_for_a_proxy(folder: TaskFolder) -> None:
    assert FileCheckpoints(folder).read() == []
    checkpoints = FileCheckpoints(folder)
    fences = {(0, b"\xff\x00"): 5.0, (1, b"b"): 6.0}
    checkpoints.write({**state_fields(0, state(1, 2)), **fence_fields(0, fences)}, [])
    checkpoints.write(state_fields(0, state(3, 4)), [fence_name(0, (1, b"b")), fence_name(0, (9, b"never there"))])
    for reader in (checkpoints, FileCheckpoints(folder)):
        assert combine(reader.read()) == ({0: state(3, 4)}, {0: {(0, b"\xff\x00"): 5}}, [])
    # Who has read it goes on with what it holds.
    again = FileCheckpoints(folder)
    again.read()
    again.write(state_fields(0, state(7, 8)), [])
    assert combine(FileCheckpoints(folder).read()).fences == {0: {(0, b"\xff\x00"): 5}}
    again.remove()
    assert FileCheckpoints(folder).read() == again.read() == []
    again.remove()


@pytest.mark.parametrize("content", ["", "{", '[["not base64!", "YQ=="]]', '[["YQ=="]]'])
def test_a_file_that_cannot_be_read(folder: TaskFolder, content: str) -> None:
    Path(folder.file("checkpoint.json")).write_text(content, encoding="utf-8")
    with pytest.raises(FileError):
        combine(FileCheckpoints(folder).read())
