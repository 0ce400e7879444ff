# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""From the commands of one stream to parcels for the target's masters.

Most commands are forwarded as they came. What cannot be (several slots, a database that is mapped onto another one, ...) is not translated:
the keys it writes are doubted, and so copied from the source at a later offset.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, Hashable, List, Optional, Sequence, Set

from .._codec.commands import DATABASE, DROPPED, EVERY_MASTER, KEYED, TRANSACTION, Commands, Spec, UnknownCommandError, flushes_slot
from .._codec.errors import CodecError
from .._codec.resp import ErrorReply, command
from .._codec.slots import key_slot
from .._errors import UnsupportedTypeError, UsageError
from .._sink.downgrade import rewrites
from .._sink.frames import Dialect
from .._sink.selection import Selection
from . import expiry
from .doubts import Doubts, Question
from .fences import CHANNEL, Place
from .kinds import ALL_OR_NOTHING, BUILDS, MANY, MAYBE_KEEPS, OTHER, OVERWRITES, Kinds, expires, lacks_a_field, read_positions, releases, was_not_done
from .lane import ApplyLane, Mark, Parcel
from .outlet import Keys, Outlet
from .stream import Piece, argument_size
from .transactions import Statement, copies_over, send_as_one

_SET = frozenset((b"SET", b"set"))
_THREE = frozenset((3,))
_SCRIPTS = frozenset((b"EVAL", b"EVALSHA", b"FCALL"))
# A transaction of more bytes than this is not held together.
_UNIT_MAX = 8 << 20

# Does what concerns a whole database or every master, with nothing under way.
Barrier = Callable[["Dispatcher", List[bytes], int], None]


class Dispatcher:
    """One stream: ``db`` is the database it has selected, ``sent`` the position up to which its commands have gone out.

    ``moved`` says of slots that changed hands whose they are now (None: nobody's yet), ``owners`` whose the others are (empty outside a Redis
    Cluster): what other streams say about them is dropped.
    """

    def __init__(
        self,
        number: int,
        outlet: Outlet,
        barrier: Barrier,
        selection: Selection,
        commands: Commands,
        kinds: Kinds,
        dialect: Dialect,
    ) -> None:
        self.number = number
        self.db = 0
        self.sent = 0
        self.acked = 0
        self.commands = 0
        self.dropped = 0
        self.marks: Deque[Mark] = deque()
        self.doubts = Doubts()
        self.moved: Dict[int, Optional[int]] = {}
        self.owners: Dict[int, int] = {}
        self.left_alone: Set[Place] = set()
        # When what ends at an offset has come (ms since 1970; 0: just now, None: nobody knows); not where expiries are moments anyway.
        self.arrived: Optional[Callable[[int], Optional[int]]] = None
        self.importing: Callable[[int], None] = _nobody_imports
        self.outlet = outlet
        self._barrier = barrier
        self.selection = selection
        self.known = commands
        self.kinds = kinds
        self._dialect = dialect
        self.rewrites = rewrites(dialect)
        self.target_db: Optional[int] = selection.db_of(0)
        self._unit: Optional[List[Statement]] = None
        self._unit_start = 0
        self._unit_db = 0
        self._unit_size = 0
        self._now = 0.0
        self.since = 0

    def begin(self, position: int, db: int) -> None:
        """Start at this position with this database selected."""
        self.sent = self.acked = position
        self._select(db)

    def _select(self, number: int) -> None:
        self.db = number
        self.target_db = self.selection.db_of(number)

    # -- a piece -----------------------------------------------------------------------------------------------------

    def dispatch(self, piece: Piece) -> None:
        """Send what a piece holds. UsageError, UnsupportedTypeError; ServerError by a barrier."""
        if not piece.commands:
            return
        self._now = time.monotonic()
        # What an open transaction holds came before.
        self.since = piece.start if self._unit is None else self._unit_start
        if self._forward(piece):
            return
        self._each(piece)
        if self._unit is not None:
            self._close(Mark(self._unit_start, self._unit_db))
        else:
            self._close(Mark(piece.end, self.db))

    def _close(self, mark: Mark) -> None:
        """Hand over what was collected for this mark."""
        for lane in self.outlet.lanes():
            lane.flush(mark, self)
        self.marks.append(mark)
        self.sent = mark.end

    def _forward(self, piece: Piece) -> bool:
        """The bulk of many streams, plain SETs for one lane, goes on without a look at each."""
        lane = self.outlet.only
        if (
            lane is None
            or self.target_db is None
            or self._unit is not None
            or self.left_alone
            or self.moved
            or not self.selection.all_keys
        ):
            return False
        commands = piece.commands
        if not _SET.issuperset([args[0] for args in commands]) or not _THREE.issuperset(map(len, commands)):
            return False
        if self.kinds.float_sets and MAYBE_KEEPS in map(self.kinds.of_set, commands):
            return False
        fenced = self.doubts.fenced.get(self.db)
        if fenced and not fenced.isdisjoint([args[1] for args in commands]):
            return False
        owner, number = self.owners.get, self.number
        if self.owners and any(owner(key_slot(args[1]), number) != number for args in commands):
            return False
        mark = Mark(piece.end, self.db)
        head = lane.select(self.target_db)
        blob = piece.raw if head is None else head + piece.raw
        places = Keys(self.db, commands, head is not None)
        lane.send(Parcel(blob, len(commands) + (head is not None), mark, (self, places), plain=True))
        self.marks.append(mark)
        self.sent = piece.end
        self.commands += len(commands)
        return True

    def _each(self, piece: Piece) -> None:
        raw = piece.raw
        kinds = self.kinds
        doubts = self.doubts
        fences = doubts.fences
        all_keys = self.selection.all_keys
        keep = self.selection.keep
        rewriting = self.rewrites
        outlet = self.outlet
        only = outlet.only
        float_sets = kinds.float_sets
        owners = self.owners
        at = 0
        end = piece.start
        count = 0
        for args in piece.commands:
            length = len(args)
            size = 4 if length < 10 else len(b"%d" % length) + 3
            for arg in args:
                size += argument_size(len(arg))
            frame = raw[at : at + size]
            at += size
            end += size
            name = args[0]
            try:
                kind = kinds[name]
            except UnknownCommandError as exc:
                raise UnsupportedTypeError(
                    "the stream of the source at offset %d" % end,
                    "%s, so its keys cannot be placed" % exc.reason,
                    "Stop using it for the time of the migration, or migrate by backup files",
                ) from exc
            if kind == OTHER and length >= 3 and name in _SET:
                kind = OVERWRITES if length == 3 and not float_sets else kinds.of_set(args)
            elif kind == MANY:
                kind = OVERWRITES if length == 2 else OTHER
            if self._unit is not None or kind == OTHER or name in rewriting or self.moved or self.left_alone:
                self._other(args, frame, end)
                fences = doubts.fences
                continue
            if owners and not self.owns(args[1]):
                self._other(args, frame, end)
                continue
            if self.target_db is None:
                self.dropped += 1
                continue
            key = args[1]
            if not all_keys and not keep(key):
                self.dropped += 1
                continue
            place = (self.db, key)
            if fences and place in fences and end <= fences[place]:
                continue
            count += 1
            lane = only or outlet.by_slot[key_slot(key)]
            self._one(lane, kind, args, frame, place, end)
        self.commands += count

    def _one(self, lane: ApplyLane, kind: int, args: List[bytes], frame: bytes, place: Place, end: int) -> None:
        """A command on one key, as it is; one that counts its expiry from now may have waited."""
        if end <= self.doubts.mistrust_until and kind != OVERWRITES:
            self.doubts.doubt((place,), self.since)
            return
        if self.arrived is not None and args[0].upper() in expiry.NAMES and expiry.is_relative(args):
            arrived = self.arrived(end)
            if arrived is None or (arrived and args[0].upper() in expiry.RESTORES):
                self.doubts.doubt((place,), self.since)
                return
            made = expiry.absolute(args, arrived, self._dialect.capabilities.set_pxat) if arrived else None
            for words in made or ():
                self._send_one(lane, kind if words[0] in _SET else self.kinds[words[0]], words, command(*words), place)
            if made:
                return
        self._send_one(lane, kind, args, frame, place)

    def _send_one(self, lane: ApplyLane, kind: int, args: List[bytes], frame: bytes, place: Place) -> None:
        db = self.target_db or 0
        doubts = self.doubts
        places = (place,)
        if doubts.stale and kind != OVERWRITES and doubts.touches_stale(places, places):
            doubts.doubt(places, self.since)
            return
        if kind == BUILDS:
            if not doubts.is_known(place):
                self.ask(lane, db, place, places)
            if releases(args[0]):
                lane.add(db, frame, places, partial(self._judge, lacks_a_field, places, self.since))
                doubts.released(place)
            else:
                lane.add(db, frame, places)
        elif kind == OVERWRITES:
            lane.add(db, frame, places)
            doubts.released(place)
        elif kind == MAYBE_KEEPS:
            lane.add(db, command(b"PTTL", place[1]), places, partial(self._judge, expires, places, self.since))
            lane.add(db, frame, places)
            doubts.released(place)
        else:
            lane.add(db, frame, places, partial(self._judge, was_not_done, places, self.since))
            doubts.released(place)

    def ask(self, lane: ApplyLane, db: int, place: Place, written: Sequence[Place]) -> None:
        """Put a question about the key before what is collected next, which writes ``written``."""
        suspects = (place, *(other for other in written if other != place))
        question = Question(self.doubts.asking(place), place, suspects, self._now, self.since)
        lane.add(db, command(b"PTTL", place[1]), suspects, partial(self._answered, question))

    def _answered(self, question: Question, reply: Any) -> None:
        if isinstance(reply, ErrorReply):
            self.refused(question.places, question.since, reply)
        else:
            self.doubts.answered(question, self.sent, reply)

    def _judge(self, wrong: Callable[[Any], bool], places: Sequence[Place], since: int, reply: Any) -> None:
        if isinstance(reply, ErrorReply):
            self.refused(places, since, reply)
        elif wrong(reply):
            self.doubts.doubt(places, since)

    def refused(self, places: Sequence[Place], since: int, reply: ErrorReply) -> None:
        """An error came back; one that is not about the keys is raised by the lane's owner."""
        self.outlet.examine(reply, places)
        self.doubts.doubt(places, since)

    # -- everything else ---------------------------------------------------------------------------------------------

    def _other(self, args: List[bytes], frame: bytes, end: int) -> None:
        spec = self.known.spec(args[0])
        scope = EVERY_MASTER if spec.name == b"CLUSTER" and flushes_slot(args) else spec.scope
        if scope == TRANSACTION:
            self._transaction(spec, frame, end)
        elif self._unit is not None and scope != DROPPED:
            self._unit.append((args, frame, end))
            self._unit_size += len(frame)
            if self._unit_size > _UNIT_MAX:
                self._break_up()
        elif scope == KEYED:
            self._keyed(spec, args, frame, end)
        elif scope == DATABASE:
            if spec.name == b"SELECT":
                self._select(int(args[1]))
            else:
                self._move(args, end)
        elif scope == EVERY_MASTER:
            self._alone(args, frame, end)
        elif spec.name == b"PUBLISH" and len(args) == 3 and args[1] == CHANNEL:
            self.doubts.marker(args[2], end)

    def _alone(self, args: List[bytes], frame: bytes, end: int) -> None:
        """A command that is done with nothing under way."""
        self._close(Mark(end - len(frame), self.db))
        self._barrier(self, args, end)
        # Of a long transaction this part is done for good.
        self.since = self._unit_start = end
        self._unit_db = self.db

    def _keyed(self, spec: Spec, args: List[bytes], frame: bytes, end: int) -> None:
        if not spec.write:
            self.dropped += 1
            return
        try:
            positions = [1] if spec.one_key else spec.find(args)
        except CodecError as exc:
            raise UsageError("the stream of the source at offset %d" % end, exc.reason, "Report this defect") from exc
        if spec.name == b"RESTORE-ASKING":
            self.importing(key_slot(args[1]))
            args = [b"RESTORE", *args[1:]]
            if b"REPLACE" not in args:
                args.append(b"REPLACE")
            frame = command(*args)
        if spec.name == b"COPY" and copies_over(args):
            self._elsewhere(args, end)
            return
        if spec.name == b"SORT" and len(positions) > 1:
            # BY and GET read keys that nobody names.
            self._doubt_wanted([(self.db, args[positions[1]])], end)
            return
        if self.target_db is None:
            self.dropped += 1
            return
        if (self.moved or self.owners) and positions and self._is_foreign(key_slot(args[positions[0]])):
            self.dropped += 1
            return
        wanted = self._wanted(spec, args, positions)
        if wanted is not positions:
            if wanted and spec.per_key:
                parts = self.known.split(args, lambda key: self.selection.keep(key) and (self.target_db, key) not in self.left_alone)
                args = parts[True]
                frame = command(*args)
                positions = spec.find(args)
            else:
                self.doubts.doubt([(self.db, args[pos]) for pos in self.known.written(args) if pos in wanted], end)
                self.dropped += not wanted
                return
        made = self.rewrites[spec.name](args, self._dialect) if spec.name in self.rewrites else None
        if made is None:
            self._place(spec, args, frame, end, positions)
            return
        for words in made:
            other = self.known.spec(words[0])
            self._place(other, words, command(*words), end, other.find(words))

    def owns(self, key: bytes) -> bool:
        """Whether the key's slot was this stream's when it was last at rest."""
        return self.owners.get(key_slot(key), self.number) == self.number

    def _is_foreign(self, slot: int) -> bool:
        """Whether another stream is to be believed about the slot: a master that imports it tells of its keys before they are its own."""
        owner = self.moved.get(slot, self.owners.get(slot, self.number))
        if owner == self.number:
            return False
        if slot not in self.moved:
            self.importing(slot)
        return True

    def _wanted(self, spec: Spec, args: List[bytes], positions: List[int]) -> List[int]:
        """Positions of keys that are taken; the very list where all are."""
        selection = self.selection
        alone = self.left_alone
        if selection.all_keys and not alone:
            return positions
        wanted = [pos for pos in positions if selection.keep(args[pos]) and (self.target_db, args[pos]) not in alone]
        return positions if len(wanted) == len(positions) else wanted

    def _place(self, spec: Spec, args: List[bytes], frame: bytes, end: int, positions: List[int]) -> None:
        """Send a command to the master of its keys, in parts where it may be cut, or doubt what it writes."""
        only = self.outlet.only
        if not positions:
            self._keyless(spec, args, frame, end)
            return
        places = [(self.db, args[pos]) for pos in positions]
        fences = self.doubts.fences
        if fences and any(place in fences and end <= fences[place] for place in places):
            self._fenced(spec, args, end)
            return
        self.commands += 1
        if len(positions) > 1 and (only is None or self.outlet.proxied):
            # What a proxy takes for one place only its owner knows.
            group: Callable[[bytes], Hashable] = key_slot if only is None else bytes
            if len({group(args[pos]) for pos in positions}) > 1:
                if not spec.per_key:
                    self.doubts.doubt([(self.db, args[pos]) for pos in self.known.written(args)], end - len(frame))
                    return
                for part in self.known.split(args, group).values():
                    self._send(spec, part, command(*part), end, spec.find(part))
                return
        self._send(spec, args, frame, end, positions)

    def _send(self, spec: Spec, args: List[bytes], frame: bytes, end: int, positions: List[int]) -> None:
        lane = self.outlet.only or self.outlet.by_slot[key_slot(args[positions[0]])]
        if spec.one_key or len(positions) == 1:
            kind = self.kinds[args[0]]
            if spec.name == b"SET":
                kind = self.kinds.of_set(args)
            if kind in (OTHER, MANY):
                kind = OVERWRITES if spec.per_key else BUILDS
            self._one(lane, kind, args, frame, (self.db, args[positions[0]]), end)
            return
        db = self.target_db or 0
        places = [(self.db, args[pos]) for pos in positions]
        written = [(self.db, args[pos]) for pos in self.known.written(args)]
        if end <= self.doubts.mistrust_until or (self.doubts.stale and self.doubts.touches_stale(places, written)):
            self.doubts.doubt(written, self.since)
            return
        for pos in read_positions(args, spec, positions):
            place = (self.db, args[pos])
            if not self.doubts.is_known(place):
                self.ask(lane, db, place, written)
        watch = partial(self._judge, was_not_done, written, self.since) if spec.name in ALL_OR_NOTHING else None
        lane.add(db, frame, written, watch)
        self.doubts.link(end, places, written)
        for place in written:
            self.doubts.released(place)

    def _fenced(self, spec: Spec, args: List[bytes], end: int) -> None:
        """A command with keys that are copied as of later: what else it writes has to be copied too."""
        fences = self.doubts.fences
        written = [(self.db, args[pos]) for pos in self.known.written(args)]
        left = [place for place in written if not (place in fences and end <= fences[place])]
        if not left:
            return
        if spec.per_key:
            positions = [pos for pos in spec.find(args) if (self.db, args[pos]) in left]
            words = [args[0], *(word for pos in positions for word in args[pos : pos + spec.per_key])]
            self._place(spec, words, command(*words), end, spec.find(words))
            return
        self.doubts.doubt(left, end)

    def _keyless(self, spec: Spec, args: List[bytes], frame: bytes, end: int) -> None:
        lane = self.outlet.only
        if lane is None or self.outlet.proxied or not self.selection.all_keys or self.left_alone:
            raise UnsupportedTypeError(
                "the stream of the source at offset %d" % end,
                "%s names no keys, so it cannot be placed" % spec.name.decode("ascii"),
                "Give the script its keys as KEYS, or let the source replicate effects (Redis 5 and later do)",
            )
        if spec.name in _SCRIPTS:
            # Nobody knows what it writes, so it cannot be copied after a crash.
            self._alone(args, frame, end)
            return
        # It may have failed at the source just so.
        lane.add(self.target_db or 0, frame, (), self._whatever)
        self.commands += 1

    def _whatever(self, reply: Any) -> None:
        if isinstance(reply, ErrorReply):
            self.outlet.examine(reply, ((self.db, b""),))

    # -- databases ---------------------------------------------------------------------------------------------------

    def _elsewhere(self, args: List[bytes], end: int) -> None:
        """COPY ... DB n: the copy is taken from the source."""
        words = [word.upper() for word in args]
        number = int(args[words.index(b"DB", 3) + 1])
        self._doubt_wanted([(number, args[2])], end)

    def _move(self, args: List[bytes], end: int) -> None:
        """MOVE key n: both keys are taken from the source."""
        self._doubt_wanted([(self.db, args[1]), (int(args[2]), args[1])], end)

    def _doubt_wanted(self, places: Sequence[Place], end: int) -> None:
        self.commands += 1
        fences = self.doubts.fences
        self.doubts.doubt([place for place in places if self._is_wanted(place) and not end <= fences.get(place, -1)], end)

    def _is_wanted(self, place: Place) -> bool:
        target_db = self.selection.db_of(place[0])
        return target_db is not None and self.selection.keep(place[1]) and (target_db, place[1]) not in self.left_alone

    # -- transactions ------------------------------------------------------------------------------------------------

    def _transaction(self, spec: Spec, frame: bytes, end: int) -> None:
        if spec.name == b"MULTI":
            self._unit = []
            self._unit_start = end - len(frame)
            self._unit_db = self.db
            self._unit_size = 0
            return
        unit, self._unit = self._unit, None
        if not unit or spec.name != b"EXEC":
            return
        if not send_as_one(self, unit):
            self._single(unit)

    def _break_up(self) -> None:
        """The transaction is too long to be held: what is there goes out command by command."""
        unit, self._unit = self._unit or [], []
        self._unit_size = 0
        # Not None meanwhile: the position must not move past an open transaction.
        held, self._unit = self._unit, None
        self._single(unit)
        self._unit = held

    def _single(self, unit: List[Statement]) -> None:
        for args, frame, end in unit:
            self._other(args, frame, end)


def _nobody_imports(_slot: int) -> None:
    """Outside a Redis Cluster no key arrives from another master."""
