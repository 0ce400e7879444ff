# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes doubtful with what, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync import doubts as module
from ansible_collections.dcs.migration.plugins.module_utils._sync.doubts import Doubts, Question
from ansible_collections.dcs.migration.plugins.module_utils._sync.fences import PENDING, Place
from ansible_collections.dcs.migration.tests.unit.sync.clock import Clock

A, B, C, D, E = ((0, name) for name in (b"a", b"b", b"c", b"d", b"e"))
NOT_THERE, NO_EXPIRY = -2, -1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    yield clock


@pytest.fixture
def doubts() -> Doubts:
    return Doubts()


def pending(doubts: Doubts) -> set[Place]:
    """Keys to be copied; they are the ones of which everything is dropped."""
    found = set(doubts.pending)
    assert found == {place for place, offset in doubts.fences.items() if offset == PENDING}
    consistent(doubts)
    return found


def consistent(doubts: Doubts) -> None:
    """``fenced`` says the same as ``fences``."""
    assert {(db, key) for db, keys in doubts.fenced.items() for key in keys} == set(doubts.fences)


# -- doubt spreads ------------------------------------------------------------------------------------------------------------


def test_alone(doubts: Doubts) -> None:
    doubts.doubt([A], 0)
    assert pending(doubts) == {A}


def test_it_spreads_along_what_was_written(doubts: Doubts) -> None:
    doubts.link(10, [A, B], [B])
    doubts.link(20, [B, C], [C])
    doubts.link(30, [D, E], [E])
    doubts.doubt([A], 0)
    assert pending(doubts) == {A, B, C}


def test_it_does_not_spread_backwards(doubts: Doubts) -> None:
    """Neither to what was read, nor through a command that came before."""
    doubts.link(10, [B, C], [C])
    doubts.link(20, [A, B], [B])
    doubts.doubt([A], 0)
    assert pending(doubts) == {A, B}
    doubts.doubt([C], 0)
    assert pending(doubts) == {A, B, C}


@pytest.mark.parametrize("since, found", [(0, {A, B, C}), (9, {A, B, C}), (10, {A}), (19, {A}), (20, {A})])
def test_only_behind_where_it_began(doubts: Doubts, since: int, found: set[Place]) -> None:
    doubts.link(10, [A, B], [B])
    doubts.link(20, [B, C], [C])
    doubts.doubt([A], since)
    assert pending(doubts) == found


def test_databases_are_different(doubts: Doubts) -> None:
    doubts.link(10, [(1, b"a"), B], [B])
    doubts.doubt([A], 0)
    assert pending(doubts) == {A}
    doubts.doubt([(1, b"a")], 0)
    assert pending(doubts) == {A, (1, b"a"), B}


def test_what_is_certain_spreads_nothing(doubts: Doubts) -> None:
    doubts.link(10, [A, B], [B])
    doubts.link(20, [B, C], [C])
    doubts.certain(10)
    doubts.doubt([A, B], 0)
    assert pending(doubts) == {A, B, C}
    doubts.copied([A, B, C], 30)
    doubts.certain(20)
    doubts.doubt([B], 0)
    assert pending(doubts) == {B}


# -- the answer to PTTL -------------------------------------------------------------------------------------------------------


def ask(doubts: Doubts, place: Place, *suspects: Place, asked_at: float = 1000.0, since: int = 10) -> Question:
    """A question about a key; where the answer is no, it and the suspects are doubtful."""
    return Question(doubts.asking(place), place, suspects or (place,), asked_at, since)


def test_a_key_that_is_gone(doubts: Doubts) -> None:
    question = ask(doubts, A)
    assert doubts.is_known(A) and not doubts.is_known(B)
    doubts.link(20, [A, B], [B])
    doubts.answered(question, 20, NOT_THERE)
    assert pending(doubts) == {A, B} and not doubts.is_known(A)


def test_the_suspects_are_doubted_and_not_what_was_asked_for(doubts: Doubts) -> None:
    doubts.answered(ask(doubts, A, B, C), 20, NOT_THERE)
    assert pending(doubts) == {B, C}


def test_a_key_without_expiry_is_asked_about_once(doubts: Doubts) -> None:
    doubts.answered(ask(doubts, A), 20, NO_EXPIRY)
    assert doubts.is_known(A) and not pending(doubts)
    doubts.released(A)
    assert not doubts.is_known(A)


@pytest.mark.parametrize("left", [NO_EXPIRY, 5000])
def test_an_answer_from_before_the_expiry_changed(doubts: Doubts, left: int) -> None:
    """EXPIRE was sent between the question and its answer."""
    question = ask(doubts, A)
    doubts.released(A)
    doubts.answered(question, 20, left)
    assert not doubts.is_known(A)


def test_only_the_last_answer_counts(doubts: Doubts) -> None:
    """Asked, given an expiry, and asked again: the first answer comes after the second question."""
    first = ask(doubts, A)
    doubts.released(A)
    second = ask(doubts, A, since=20)
    doubts.answered(first, 30, NO_EXPIRY)
    # A question is under way still, so no other is needed.
    assert doubts.is_known(A)
    doubts.answered(second, 30, 5000)
    assert not doubts.is_known(A)


def test_answers_are_forgotten(doubts: Doubts) -> None:
    question = ask(doubts, A)
    ask(doubts, B)
    doubts.answered(question, 20, NO_EXPIRY)
    doubts.forget_answers()
    assert not doubts.is_known(A) and not doubts.is_known(B)


def test_doubted_keys_are_asked_about_again(doubts: Doubts) -> None:
    doubts.answered(ask(doubts, A), 20, NO_EXPIRY)
    doubts.doubt([A], 20)
    assert not doubts.is_known(A)


def test_the_memory_for_answers_is_limited(doubts: Doubts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAFE_MAX", 100)
    for number in range(1000):
        place = (0, b"%d" % number)
        doubts.answered(ask(doubts, place), 20, NO_EXPIRY)
        assert doubts.is_known(place)
    assert sum(doubts.is_known((0, b"%d" % number)) for number in range(1000)) <= 100


# -- keys with little time left -----------------------------------------------------------------------------------------------


def ask_about_a_living_key(doubts: Doubts, left: int) -> None:
    """Asked at 1000.0 behind offset 10; commands up to offset 50 were sent when the answer came."""
    doubts.answered(ask(doubts, A), 50, left)


def test_it_is_asked_about_again(doubts: Doubts, clock: Clock) -> None:
    ask_about_a_living_key(doubts, 5000)
    assert not doubts.is_known(A) and not pending(doubts)


def test_answered_before_it_could_expire(doubts: Doubts, clock: Clock) -> None:
    ask_about_a_living_key(doubts, 5000)
    clock.now = 1004.9
    doubts.certain(50)
    clock.now = 2000.0
    doubts.certain(60)
    assert not pending(doubts)


def test_it_may_have_expired_under_the_commands_behind_the_question(doubts: Doubts, clock: Clock) -> None:
    ask_about_a_living_key(doubts, 5000)
    doubts.link(40, [A, B], [B])
    clock.now = 1005.1
    doubts.certain(49)
    assert not pending(doubts)
    doubts.certain(50)
    assert pending(doubts) == {A, B}


def test_a_key_with_no_time_left(doubts: Doubts, clock: Clock) -> None:
    ask_about_a_living_key(doubts, 0)
    clock.now += 0.001
    doubts.certain(50)
    assert pending(doubts) == {A}


def test_links_wait_for_the_guards(doubts: Doubts, clock: Clock) -> None:
    """A command that is answered still counts while a key that it read is guarded."""
    ask_about_a_living_key(doubts, 5000)
    doubts.link(20, [A, B], [B])
    doubts.link(45, [B, C], [C])
    doubts.certain(45)
    clock.now = 1006.0
    doubts.certain(50)
    assert pending(doubts) == {A, B, C}


def test_several_guards(doubts: Doubts, clock: Clock) -> None:
    for number, place in enumerate((A, B, C)):
        doubts.answered(ask(doubts, place, asked_at=1000.0 + number, since=10 * number), 10 * number + 10, 5000)
    clock.now = 1005.5
    doubts.certain(15)
    assert pending(doubts) == {A}
    doubts.certain(30)
    assert pending(doubts) == {A}


def test_guards_hold_the_checkpoint_back(doubts: Doubts, clock: Clock) -> None:
    """After a crash the commands behind the question have to be looked at again."""
    assert doubts.guarded_from == PENDING
    doubts.answered(ask(doubts, A, since=10), 50, 5000)
    doubts.answered(ask(doubts, B, since=20), 60, 9000)
    assert doubts.guarded_from == 10
    doubts.certain(50)
    assert doubts.guarded_from == 20
    doubts.certain(60)
    assert doubts.guarded_from == PENDING


# -- fences -------------------------------------------------------------------------------------------------------------------


def test_a_fence_ends_where_the_stream_has_passed_it(doubts: Doubts) -> None:
    doubts.doubt([A, B], 0)
    doubts.copied([A], 100)
    assert pending(doubts) == {B}
    doubts.copied([B], 200)
    assert not pending(doubts) and doubts.fences == {A: 100, B: 200} and doubts.reaches == 200
    assert doubts.all_fences() == {A: 100, B: 200}
    assert doubts.passed(99) == [] and doubts.fences == {A: 100, B: 200}
    doubts.passed(200)
    consistent(doubts)
    assert not doubts.fences and doubts.reaches == 0


def test_a_fence_in_the_middle(doubts: Doubts) -> None:
    doubts.doubt([A, B], 0)
    doubts.copied([A], 100)
    doubts.copied([B], 200)
    doubts.passed(100)
    consistent(doubts)
    assert doubts.fences == {B: 200}


def test_many_are_not_looked_for_at_every_turn(doubts: Doubts) -> None:
    far = 100 << 20
    doubts.doubt([A, B], 0)
    doubts.copied([A], 1000)
    doubts.copied([B], far)
    doubts.passed(0)
    doubts.passed(2000)
    assert A in doubts.fences
    doubts.passed(5 << 20)
    assert doubts.fences == {B: far}
    doubts.passed(far)
    assert not doubts.fences


def test_a_pending_fence_is_never_passed(doubts: Doubts) -> None:
    doubts.doubt([A], 0)
    doubts.passed(1 << 60)
    assert pending(doubts) == {A} and doubts.reaches == 0
    # A checkpoint names it: then it is copied after a crash, whatever the stream brings.
    assert list(doubts.all_fences()) == [A] and doubts.all_fences()[A] > 1 << 60


def test_fences_go_into_checkpoints_once(doubts: Doubts) -> None:
    doubts.doubt([A, B], 0)
    assert doubts.save() == {}
    doubts.copied([A, B], 100)
    assert doubts.save() == {A: 100, B: 100} and doubts.saved == {A: 100, B: 100}
    assert doubts.save() == {}
    assert sorted(doubts.passed(100)) == [A, B] and doubts.passed(200) == []
    assert not doubts.saved and not doubts.fences


def test_one_that_no_checkpoint_holds_need_not_be_removed(doubts: Doubts) -> None:
    doubts.doubt([A], 0)
    doubts.copied([A], 100)
    assert doubts.passed(100) == []


def test_a_copy_that_is_made_once_more(doubts: Doubts) -> None:
    doubts.doubt([A], 0)
    doubts.copied([A], 100)
    doubts.save()
    doubts.doubt([A], 50)
    assert pending(doubts) == {A}
    # Meanwhile the one in the checkpoint holds: what comes after a crash is copied anyway.
    doubts.copied([A], 300)
    assert doubts.save() == {A: 300} and doubts.saved == {A: 300}
    assert doubts.passed(299) == [] and doubts.passed(300) == [A]


def test_giving_up(doubts: Doubts) -> None:
    doubts.doubt([A, B], 0)
    doubts.give_up([A])
    assert pending(doubts) == {B} and A not in doubts.fences
    doubts.give_up(list(doubts.pending))
    assert not doubts.fences and not pending(doubts)


# -- keys that only the target had --------------------------------------------------------------------------------------------


def test_stale(doubts: Doubts) -> None:
    """What a command writes with them is copied; what it only reads stays what it was."""
    doubts.stale = {A, B, C}
    assert not doubts.touches_stale([D, E], [E])
    assert doubts.touches_stale([A, B, D], [B, D]) and doubts.stale == {A, C}
    assert not doubts.touches_stale([B], [B]) and doubts.touches_stale([A, E], [E])
    assert doubts.touches_stale([A], [A]) and not doubts.touches_stale([A], [A])


# -- streams whose offsets nobody tells ---------------------------------------------------------------------------------------


def test_a_marker_tells_the_offset(doubts: Doubts) -> None:
    doubts.doubt([A, B, C], 0)
    doubts.await_marker([A, B], b"one")
    doubts.await_marker([C], b"two")
    assert not doubts.pending and doubts.awaits
    # Until it comes everything is dropped, now and after a crash.
    assert set(doubts.fences.values()) == {PENDING} and min(doubts.save().values()) > 1 << 60
    doubts.marker(b"somebody else's", 50)
    doubts.marker(b"one", 100)
    assert doubts.fences == {A: 100, B: 100, C: PENDING} and doubts.awaits and doubts.reaches == 100
    assert doubts.save() == {A: 100, B: 100}
    doubts.marker(b"two", 200)
    assert not doubts.awaits and doubts.save() == {C: 200}
    assert sorted(doubts.passed(200)) == [A, B, C]
    consistent(doubts)


def test_a_marker_of_a_copy_that_is_made_once_more(doubts: Doubts) -> None:
    doubts.doubt([A, B], 0)
    doubts.await_marker([A, B], b"one")
    doubts.doubt([A], 0)
    doubts.marker(b"one", 100)
    assert doubts.fences == {A: PENDING, B: 100} and pending(doubts) == {A}
    doubts.await_marker([A], b"two")
    doubts.marker(b"two", 300)
    assert doubts.fences == {A: 300, B: 100}


def test_a_marker_without_keys(doubts: Doubts) -> None:
    doubts.await_marker([], b"end")
    assert doubts.awaits
    doubts.marker(b"end", 100)
    assert not doubts.awaits and not doubts.fences
