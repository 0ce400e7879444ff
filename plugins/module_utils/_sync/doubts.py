# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What is doubtful about one stream: keys to be copied afresh, and keys of which older commands are dropped.

Doubt spreads: a command that read a doubtful key has written another one. So commands on several keys are remembered until everything
before them is certain.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Deque, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from .fences import PENDING, Place

# Bytes of the stream after which passed fences are looked for again.
_LOOK_EVERY = 4 << 20
# What a checkpoint says of a fence whose marker is still to come: behind everything.
_SOMEWHERE = 1 << 62
# Keys known to have no expiry; beyond this many the memory is not worth the saved questions.
_SAFE_MAX = 100_000


class _Guard(NamedTuple):
    """Until the stream has reached ``end``, commands relied on these keys to live until ``deadline`` (monotonic)."""

    end: int
    deadline: float
    since: int
    places: Sequence[Place]


class Question(NamedTuple):
    """Whether ``place`` is there, asked at ``asked_at`` (monotonic) before commands behind ``since``; otherwise ``places`` are doubtful."""

    number: int
    place: Place
    places: Sequence[Place]
    asked_at: float
    since: int


class Doubts:
    """``fences``: key -> offset up to which its commands are dropped (PENDING: its copy is still to be made)."""

    def __init__(self) -> None:
        self.fences: Dict[Place, float] = {}
        # The keys in ``fences`` by database, for whoever asks about many at a time.
        self.fenced: Dict[int, Set[bytes]] = {}
        self.pending: Dict[Place, None] = {}
        # Keys that only the target had: nothing may build on them.
        self.stale: Set[Place] = set()
        # Up to here the source may have made keys under names of which the target has something older.
        self.mistrust_until = 0
        # Fences that no checkpoint holds yet, and names of fences that one holds.
        self.unsaved: Dict[Place, float] = {}
        self.saved: Dict[Place, float] = {}
        self._markers: Dict[bytes, None] = {}
        self._marked: Dict[Place, bytes] = {}
        self._look_at = 0
        self._links: Deque[Tuple[int, Sequence[Place], Sequence[Place]]] = deque()
        self._guards: Deque[_Guard] = deque()
        self._safe: Set[Place] = set()
        # The number of the last question about a key whose answer is still to come.
        self._asked: Dict[Place, int] = {}
        self._questions = 0

    # -- what the target holds ---------------------------------------------------------------------------------------

    def is_known(self, place: Place) -> bool:
        """Whether a command that builds on the key needs no question before it."""
        return place in self._safe or place in self._asked

    def asking(self, place: Place) -> int:
        """A question about the key goes out; its number."""
        self._questions += 1
        self._asked[place] = self._questions
        return self._questions

    def released(self, place: Place) -> None:
        """The key's expiry may change from here on."""
        self._safe.discard(place)
        self._asked.pop(place, None)

    def forget_answers(self) -> None:
        """Keys may have changed places (FLUSHDB, SWAPDB)."""
        self._safe.clear()
        self._asked.clear()

    def answered(self, question: Question, sent: int, left: Any) -> None:
        """PTTL said ``left``: -2 no such key, -1 no expiry, else ms; ``sent``: position up to which commands have gone out by now."""
        place = question.place
        is_last = self._asked.get(place) == question.number
        if is_last:
            del self._asked[place]
        if left == -2:
            self.doubt(question.places, question.since)
        elif left != -1:
            self._safe.discard(place)
            self._guards.append(_Guard(sent, question.asked_at + left / 1000, question.since, question.places))
        elif is_last:
            if len(self._safe) >= _SAFE_MAX:
                self._safe.clear()
            self._safe.add(place)

    def touches_stale(self, places: Sequence[Place], written: Sequence[Place]) -> bool:
        """Whether one of the keys is one that only the target had; those that are ``written``, and so doubted, are like any other from now on."""
        found = not self.stale.isdisjoint(places)
        if found:
            self.stale.difference_update(written)
        return found

    # -- doubt -------------------------------------------------------------------------------------------------------

    def link(self, end: int, keys: Sequence[Place], written: Sequence[Place]) -> None:
        """A command that ends at ``end`` has written some keys depending on others."""
        self._links.append((end, keys, written))

    def doubt(self, places: Iterable[Place], since: int) -> None:
        """These keys, and what commands behind ``since`` made of them, have to be copied."""
        doubtful = set(places)
        for end, keys, written in self._links:
            if end > since and not doubtful.isdisjoint(keys):
                doubtful.update(written)
        self.refence(doubtful)

    def certain(self, end: int) -> None:
        """Everything up to ``end`` was answered."""
        guards = self._guards
        now = time.monotonic()
        while guards and guards[0].end <= end:
            guard = guards.popleft()
            if now > guard.deadline:
                self.doubt(guard.places, guard.since)
        links = self._links
        keep_from = min(end, min((guard.since for guard in guards), default=end))
        while links and links[0][0] <= keep_from:
            links.popleft()

    def copied(self, places: Iterable[Place], offset: int) -> None:
        """The copies of these were made at ``offset`` and are in the target."""
        for place in places:
            self.pending.pop(place, None)
            self.fences[place] = self.unsaved[place] = offset

    def await_marker(self, places: Iterable[Place], marker: bytes) -> None:
        """The copies of these were made where the stream will show this marker, and are in the target."""
        self._markers[marker] = None
        for place in places:
            self.pending.pop(place, None)
            self._marked[place] = marker
            self.unsaved[place] = _SOMEWHERE

    def marker(self, marker: bytes, end: int) -> None:
        """The stream shows it at ``end``."""
        if marker in self._markers:
            del self._markers[marker]
            for place in [place for place, other in self._marked.items() if other == marker]:
                del self._marked[place]
                self.fences[place] = self.unsaved[place] = end

    @property
    def awaits(self) -> bool:
        """Whether a marker is still to come."""
        return bool(self._markers)

    def refence(self, places: Iterable[Place]) -> None:
        """These copies are to be made once more."""
        for place in places:
            self.fences[place] = PENDING
            self.pending[place] = None
            self._marked.pop(place, None)
            self.fenced.setdefault(place[0], set()).add(place[1])
            self.released(place)

    def give_up(self, places: Iterable[Place]) -> None:
        """These are somebody else's by now."""
        for place in places:
            self.pending.pop(place, None)
            self.fences.pop(place, None)
            self._marked.pop(place, None)
            self.fenced[place[0]].discard(place[1])

    @property
    def guarded_from(self) -> float:
        """The position from which on commands may still turn out to have come too late for their keys."""
        return min((guard.since for guard in self._guards), default=PENDING)

    @property
    def reaches(self) -> int:
        """The highest offset of a fence, 0 for none."""
        return max((int(offset) for offset in self.fences.values() if offset != PENDING), default=0)

    def passed(self, position: int) -> List[Place]:
        """Drop the fences that the stream is past; those among them that checkpoints hold."""
        if position < self._look_at:
            return []
        fences = self.fences
        for place in [place for place, offset in fences.items() if offset <= position]:
            del fences[place]
            self.fenced[place[0]].discard(place[1])
        gone = [place for place, offset in self.saved.items() if offset <= position]
        for place in gone:
            del self.saved[place]
        # Not at every turn: there may be many.
        reaches = self.reaches
        self._look_at = min(reaches, position + _LOOK_EVERY) if reaches > position else 0
        return gone

    def save(self) -> Dict[Place, float]:
        """The fences that the next checkpoint has to hold in addition."""
        unsaved, self.unsaved = self.unsaved, {}
        self.saved.update(unsaved)
        return unsaved

    def all_fences(self) -> Dict[Place, float]:
        """Every fence, as a checkpoint has to name it: whatever its offset is, the key is copied afresh after a crash."""
        return {place: offset if offset != PENDING else _SOMEWHERE for place, offset in self.fences.items()}
