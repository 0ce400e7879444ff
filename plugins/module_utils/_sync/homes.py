# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Slots that move between the masters of a source.

Each master has a stream of its own, and nothing says how far one is beside another. So while a slot moves, and until its owner is
settled, what any stream says about it is dropped; then the whole slot is copied from its owner, key by key, each with its offset.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from .._codec.resp import command
from .._codec.slots import key_slot
from .existing import target_dbs
from .fences import MovedError, Place

if TYPE_CHECKING:
    from .session import Session

# Seconds without a change after which the map counts as settled: the receiver asks for it every second.
_QUIET = 1.5
# Seconds for which a master that lost a slot may still delete keys of it.
_AFTERMATH = 10.0
# Seconds without a key on its way after which an open slot is taken for one that nobody moves.
_LONG = 60.0
# Slots that are copied in one go, and settlements that are remembered.
_SLOTS_MAX = 64
_SETTLED_MAX = 1000


class Homes:
    """Shared with every dispatcher: ``moved``, of slots that changed hands whose they are, None while that is open; ``owners``, whose the
    slots were when they were last at rest.
    """

    def __init__(self, session: Session) -> None:
        memory = session.memory
        self.moved: Dict[int, Optional[int]] = dict(memory.moved)
        self._session = session
        self._map_at = -1
        self.owners: Dict[int, int] = dict(memory.owners)
        now = time.monotonic()
        # When (monotonic) something was last heard of each open slot, and since when it is open.
        self._heard_at: Dict[int, float] = dict.fromkeys(self.open, now)
        self._open_since: Dict[int, float] = dict.fromkeys(self.open, now)
        # Of settled slots: offsets that the other streams have to be past (None: not known yet), and when at the earliest the slot is like any other.
        self._waiting: Dict[int, Tuple[Optional[Dict[int, int]], float]] = {
            slot: (None, now + _AFTERMATH) for slot, owner in self.moved.items() if owner is not None
        }

    @property
    def open(self) -> List[int]:
        """Slots whose owner is not settled."""
        return [slot for slot, owner in self.moved.items() if owner is None]

    def look(self) -> None:
        """Compare the receiver's map with the one that is known. FileError."""
        sources = self._session.sources
        if not sources.slots or sources.map_at == self._map_at:
            return
        self._map_at = sources.map_at
        now = {slot: stream for first, last, stream in sources.slots for slot in range(first, last + 1)}
        if not self.owners:
            self.owners.update(now)
            self._session.memory.owners = dict(now)
            self._session.remember()
        self.dispute({slot for slot, stream in now.items() if self.owners.get(slot) != stream}.union(sources.open_slots))

    def importing(self, slot: int, stream: int) -> None:
        """A key of the slot has arrived at that stream's master."""
        if self.moved.get(slot, self.owners.get(slot)) != stream:
            self.dispute([slot])

    def went_back(self, stream: int, at: int) -> None:
        """The stream begins at ``at``, perhaps before slots came to rest that did so in the past. FileError."""
        for slots, positions in self._session.memory.settled:
            if at < positions.get(stream, 0):
                self.dispute(slots)

    def dispute(self, slots: Iterable[int]) -> None:
        """From now on nothing is believed about these. FileError."""
        now = time.monotonic()
        slots = list(slots)
        for slot in slots:
            self._heard_at[slot] = now
        new = [slot for slot in slots if slot not in self.moved or self.moved[slot] is not None]
        if not new:
            return
        for slot in new:
            self.moved[slot] = None
            self._open_since[slot] = now
            self._waiting.pop(slot, None)
        self._remember(new)
        self._session.log("%d slots of the source are moving (%s)" % (len(new), _shown(new)))

    def tend(self) -> None:
        """Copy the slots that have come to rest, and forget about those that have been for long. MigrationError."""
        self.look()
        if self.moved:
            self._settle()
            self._forget()

    def _settle(self) -> None:
        session = self._session
        now = time.monotonic()
        shown_open = set(session.sources.open_slots)
        ready: Dict[int, List[int]] = {}
        for slot in self.open:
            # Flags that were left behind by a resharding that was given up stay for ever.
            quiet = _LONG if slot in shown_open else _QUIET
            owner = session.sources.owner(slot)
            if owner in session.followers and now - self._heard_at.get(slot, 0) >= quiet:
                ready.setdefault(owner, []).append(slot)
        late = [slot for slot in self.open if now - self._open_since.get(slot, now) > 2 * _LONG]
        if late:
            session.status.warn("slots of the source have been moving for long, and what is written to them waits (%s)" % _shown(late))
        for owner, slots in ready.items():
            try:
                self._copy(owner, slots[:_SLOTS_MAX])
            except MovedError as exc:
                # On their way again; the map will tell.
                self.dispute([exc.slot])
                for slot in slots:
                    self._heard_at[slot] = time.monotonic()
                return

    def _copy(self, owner: int, slots: List[int]) -> None:
        session = self._session
        follower = session.followers[owner]
        session.settle()
        found: Set[Place] = set(self._in_target(set(slots)))
        # A Redis Cluster has one database; that of Valkey 9 may have more.
        for db in range(session.databases):
            for slot in slots if session.selection.db_of(db) is not None else ():
                count = follower.source.ask([command("CLUSTER", "COUNTKEYSINSLOT", slot)], db)[0]
                # Keys may be added meanwhile; the stream brings those.
                keys = follower.source.ask([command("CLUSTER", "GETKEYSINSLOT", slot, count + 1000)], db)[0]
                found.update((db, key) for key in keys)
        places = [place for place in found if session.wanted(*place)]
        others = self._offsets(owner)
        for slot in slots:
            self.moved[slot] = owner
        follower.dispatcher.doubts.refence(places)
        session.settle()
        session.confirm()
        if any(self.moved.get(slot) != owner for slot in slots):
            return
        for slot in slots:
            self.owners[slot] = owner
            self._waiting[slot] = (others, time.monotonic() + _AFTERMATH)
            self._open_since.pop(slot, None)
        session.memory.owners = dict(self.owners)
        # A target that goes back behind these has to see the slot settled once more.
        positions = {**others, owner: follower.at}
        session.memory.settled = [*session.memory.settled, (slots, positions)][-_SETTLED_MAX:]
        self._remember(slots)
        session.log(
            "%d slots of the source have come to rest at %s (%s): %d keys were copied afresh"
            % (len(slots), follower.state.address, _shown(slots), len(places))
        )

    def _offsets(self, owner: int) -> Dict[int, int]:
        """Where the other masters are now."""
        followers = self._session.followers
        return {number: other.source.offset()[1] for number, other in followers.items() if number != owner and other.is_live}

    def _in_target(self, slots: Set[int]) -> Iterator[Place]:
        """Keys that the target has in these slots, as the source would have them."""
        session = self._session
        by_db = target_dbs(session)
        for db, keys in session.lanes.keys(by_db, session.breathe):
            for key in keys:
                if key_slot(key) in slots:
                    yield from ((number, key) for number in by_db[db])

    def _forget(self) -> None:
        now = time.monotonic()
        followers = self._session.followers
        past = []
        known: Dict[int, Dict[int, int]] = {}
        for slot, (offsets, earliest) in self._waiting.items():
            owner = self.moved.get(slot)
            if offsets is None and owner is not None:
                offsets = known.get(owner) or known.setdefault(owner, self._offsets(owner))
                self._waiting[slot] = (offsets, earliest)
            behind = any(number in followers and followers[number].at < offset for number, offset in (offsets or {}).items())
            if now > earliest and not behind:
                past.append(slot)
        if past:
            for slot in past:
                del self._waiting[slot]
                del self.moved[slot]
            self._remember(past)

    def _remember(self, slots: Iterable[int]) -> None:
        """Put what is decided about these on the disk. FileError."""
        moved = self._session.memory.moved
        for slot in slots:
            if slot in self.moved:
                moved[slot] = self.moved[slot]
            else:
                moved.pop(slot, None)
        self._session.remember()


def _shown(slots: List[int]) -> str:
    ordered = sorted(slots)
    return ", ".join(map(str, ordered[:10])) + (", ..." if len(ordered) > 10 else "")
