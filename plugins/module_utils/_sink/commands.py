# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Commands in their order into a target: pipelined, one lane per master, nothing overtakes anything on the same key.

The lanes here are connections of their own beside those of :class:`.target.Target`. Commands are not repeated after a cut
connection, as an INCR that may have been done must not be done twice: LostError then, and the whole is to be run again.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from .._codec.commands import Commands
from .._codec.errors import CodecError, TruncatedError
from .._codec.resp import ErrorReply, arguments, command, read_reply
from .._codec.slots import key_slot
from .._errors import LostError, MigrationError
from .._server.connect import open_socket, reply_error
from .._server.endpoint import Address
from .lane import LATER, WINDOW, Lane, pump
from .target import _ELSEWHERE, Target, Undone

try:
    import hiredis
except ImportError:  # replies are read in Python then, more slowly
    hiredis = None

Several = Callable[[List[bytes], int, int], None]

# Commands are handed to a lane in batches of about this size (bytes): large enough that a system call costs nothing per command.
BATCH = 64 << 10
# A position for commands that are ours and stand in no file.
NOWHERE = -1
_OK = b"+OK\r\n"
# What may be answered with an array of OKs.
_ARRAYS = (b"EXEC", b"EVAL", b"EVALSHA", b"FCALL")
_MORE = object()


class Failure(NamedTuple):
    """A command that was answered with an error; ``offset`` is its position in the source, ``reply`` the first error in it."""

    offset: int
    db: int
    frame: bytes
    reply: ErrorReply
    address: Address


class _Batch:
    """Commands of one write that wait for their replies; what :class:`.lane.Lane` asks of its own kind of batch."""

    __slots__ = ("frames", "offsets", "db", "size", "done", "gate")

    def __init__(self, frames: List[bytes], offsets: List[int], db: int) -> None:
        self.frames = frames
        self.offsets = offsets
        self.db = db
        self.size = sum(map(len, frames))
        self.done = 0
        self.gate = False


class CommandLane(Lane):
    """A lane for commands with any reply. ``failures`` are those answered with an error, ``overtaking`` what went well after the first.

    Inside MULTI a SELECT is only queued: whoever sends one there has to know that the database is there (:meth:`.target.Target.enter`).
    """

    def __init__(self, target: Target, address: Address) -> None:
        super().__init__(open_socket(target.endpoint, address), address, _ignore)
        self.frames: List[bytes] = []
        self.offsets: List[int] = []
        self.pending = 0
        self.db = 0
        self.failures: List[Failure] = []
        self.overtaking: List[Tuple[int, bytes]] = []
        self._replies = _HiredisReplies() if hiredis is not None else _Replies()

    def commit(self) -> None:
        """Hand over what was collected."""
        if not self.frames:
            return
        self._select(self.db)
        self._append(_Batch(self.frames, self.offsets, self.db))  # type: ignore[arg-type]
        self.frames, self.offsets, self.pending = [], [], 0

    def _take(self, data: bytes) -> None:
        replies = self._replies
        count = data.count(_OK)
        if 5 * count == len(data) and not replies.unfinished and not self._in_array():
            self._advance(count)
            return
        plain = 0
        try:
            for reply in replies.feed(data):
                kind = reply.__class__
                if kind is bytes or kind is int or reply is None:
                    plain += 1
                    continue
                self._advance(plain)
                plain = 0
                error = _first_error(reply)
                if error is None:
                    self._advance(1)
                elif self._sent and self._sent[0].gate:
                    self._not_selected(self._sent[0], error)
                else:
                    self._fail(error)
                    self._advance(1, done=False)
        except CodecError as exc:
            raise self.lost(exc.reason) from exc
        self._advance(plain)

    def _in_array(self) -> bool:
        """Whether these may be the elements of one reply: no reader of ours can tell that it has read the head of an array."""
        head: Any = self._sent[0] if self._sent else None
        return head is not None and head.frames[head.done].split(b"\r\n", 3)[2].upper() in _ARRAYS

    def _advance(self, count: int, done: bool = True) -> None:
        """``count`` commands were answered, ``done`` unless with an error."""
        while count:
            if not self._sent:
                raise self.lost("it sent a reply that nobody asked for")
            head: Any = self._sent[0]
            step = min(count, len(head.frames) - head.done)
            # A SELECT of ours has no position in a file, and cannot overtake.
            if done and self.failures and not head.gate:
                span = slice(head.done, head.done + step)
                self.overtaking.extend(zip(head.offsets[span], head.frames[span]))
            head.done += step
            count -= step
            if head.done == len(head.frames):
                self._sent.popleft()
                self.in_flight -= head.size
                if head.gate:
                    self._open_gate()

    def _fail(self, error: ErrorReply) -> None:
        head: Any = self._sent[0] if self._sent else None
        if head is None:
            raise self.lost("it sent an error that nobody asked for: %s" % error.decode("utf-8", "replace"))
        self.failures.append(Failure(head.offsets[head.done], head.db, head.frames[head.done], error, self.address))


class CommandStream:
    """Send commands with :meth:`add`, wait for all of them with :meth:`drain`. ``where`` puts a position into words.

    ``several(args, offset, db)`` does a command on several keys of a slot that is being moved: no node has all of them then, and
    none takes the command before the move is over. The first error is raised by whichever call notices it, with position, command and
    key; what had been sent behind it by then is done.
    """

    def __init__(
        self, target: Target, where: Callable[[int], str], commands: Commands, several: Optional[Several] = None
    ) -> None:
        self._target = target
        self._where = where
        self._commands = commands
        self._several = several
        self._lanes: Dict[Address, CommandLane] = {}
        self._by_slot: List[CommandLane] = []
        self._clustered = target.instance.topology.kind == "redis_cluster"
        self._only: Optional[CommandLane] = None
        self._guarded: Set[int] = set()
        target.flush()
        self._connect()

    def add(self, key: bytes, db: int, frame: bytes, offset: int) -> None:
        """Send a command on one key. LostError, ReplyError, ..."""
        lane = self._only
        if lane is None:
            slot = key_slot(key)
            if slot in self._guarded:
                self.drain()
            lane = self._by_slot[slot]
        if lane.db != db:
            lane.commit()
            lane.db = db
        lane.frames.append(frame)
        lane.offsets.append(offset)
        lane.pending += len(frame)
        if lane.pending > BATCH:
            self._commit(lane)

    def add_group(self, key: bytes, db: int, frame: bytes, offset: int) -> None:
        """Send a command on several keys of one slot.

        While a slot is moved such a command may have to wait (TRYAGAIN) where one on a single key is done at once: nothing is sent to
        the slot until it is answered.
        """
        self.add(key, db, frame, offset)
        if self._only is None:
            self._guarded.add(key_slot(key))

    def drain(self) -> None:
        """Wait until everything is answered."""
        for lane in self._lanes.values():
            lane.commit()
        self._pump(0)
        self._guarded.clear()

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    def failed(self, failure: Failure) -> MigrationError:
        """The error for a command that was refused: position, command, key and reply."""
        args = arguments(failure.frame)
        key = None
        try:
            positions = self._commands.keys(args)
            key = args[positions[0]] if positions else None
        except CodecError:
            pass
        error = reply_error(
            failure.reply.decode("utf-8", "replace"), failure.address, args[0].decode("ascii", "replace").upper(), key
        )
        if failure.offset == NOWHERE:
            return error
        return type(error)("%s, %s" % (self._where(failure.offset), error.what), error.why, error.remedy)

    # -- lanes -----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Lanes to where the target's own lanes go now."""
        if not self._clustered:
            if self._only is None:
                self._only = self._lane(self._target._only_lane().address)
            return
        lanes: Dict[int, CommandLane] = {}
        for lane in self._target._lanes.values():
            lanes[id(lane)] = self._lane(lane.address)
        self._by_slot = [lanes[id(lane)] for lane in self._target._by_slot]

    def _lane(self, address: Address) -> CommandLane:
        lane = self._lanes.get(address)
        if lane is None:
            lane = self._lanes[address] = CommandLane(self._target, address)
        return lane

    def _commit(self, lane: CommandLane) -> None:
        lane.commit()
        self._pump(WINDOW)

    def _pump(self, limit: int) -> None:
        lanes = self._lanes.values()
        try:
            pump(lanes, limit)
        except LostError:
            # An error that was noticed before explains more than the end of the connection.
            final = [item for lane in lanes for item in lane.failures if not self._passing(item)]
            if final:
                raise self.failed(min(final)) from None
            raise
        if any(lane.failures for lane in lanes):
            self._settle()

    # -- errors ----------------------------------------------------------------------------------------------------

    def _passing(self, failure: Failure) -> bool:
        """Whether the command may be sent again: the node does not have the slot, or asks for patience."""
        return failure.reply.code in LATER or (self._clustered and failure.reply.code in _ELSEWHERE)

    def _settle(self) -> None:
        """Once nothing is under way: send again, in order, what was not done; anything else is final."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.commit()
        if not any(not self._passing(item) for lane in lanes for item in lane.failures):
            pump(lanes, 0)
        failures = sorted((item for lane in lanes for item in lane.failures), key=lambda item: item.offset)
        done = [item for lane in lanes for item in lane.overtaking]
        for lane in lanes:
            lane.failures, lane.overtaking = [], []
        for failure in failures:
            if not self._passing(failure):
                raise self.failed(failure)
        self._refuse_overtaken(failures, done)
        for failure in failures:
            self._again(failure)
        self._connect()

    def _again(self, failure: Failure) -> None:
        keys = self._keys(failure.frame)
        if self._several is not None and len(keys) > 1 and failure.reply.code in (b"ASK", b"TRYAGAIN"):
            self._several(arguments(failure.frame), failure.offset, failure.db)
            return
        reply = self._target._resend(Undone(failure.db, failure.frame, failure.reply), keys[0])
        error = _first_error(reply)
        if error is not None:
            raise self.failed(failure._replace(reply=error))

    def _refuse_overtaken(self, failures: List[Failure], done: List[Tuple[int, bytes]]) -> None:
        """A later command on the same key went well before this one: the order is lost, and so is the result."""
        first: Dict[bytes, Failure] = {}
        for failure in failures:
            keys = self._keys(failure.frame)
            if not keys:
                raise self.failed(failure)
            for key in keys:
                first.setdefault(key, failure)
        for offset, frame in done:
            if offset == NOWHERE:
                continue
            for key in self._keys(frame):
                if key in first and first[key].offset < offset:
                    error = self.failed(first[key])
                    raise type(error)(
                        error.what,
                        "%s; a later command on that key was done all the same, so their order is lost" % error.why,
                        "Run again from the start",
                    )

    def _keys(self, frame: bytes) -> List[bytes]:
        args = arguments(frame)
        try:
            return [args[pos] for pos in self._commands.keys(args)]
        except CodecError:
            return []


# -- questions about keys ---------------------------------------------------------------------------------------------------


def existing(target: Target, db: int, keys: Sequence[bytes]) -> List[bytes]:
    """Those of ``keys`` that the target has, asked for in one round trip per master. MigrationError."""
    return [key for key, reply in zip(keys, ask_each(target, db, keys, b"EXISTS")) if reply]


def ask_each(target: Target, db: int, keys: Sequence[bytes], name: bytes) -> List[Any]:
    """The replies to ``name key`` for each key, in the order of ``keys``. MigrationError."""
    target.flush()
    parts: Dict[int, Tuple[Lane, List[int], List[bytes], List[Any]]] = {}
    for index, key in enumerate(keys):
        lane = target._lane_of(key)
        part = parts.setdefault(id(lane), (lane, [], [], []))
        part[1].append(index)
        part[2].append(command(name, key))
    for lane, _indexes, frames, replies in parts.values():
        lane.queue(frames, 0, db, replies)
    target.flush()
    found: List[Any] = [None] * len(keys)
    for lane, indexes, frames, replies in parts.values():
        for index, frame, reply in zip(indexes, frames, replies):
            if isinstance(reply, ErrorReply):
                reply = target._resend(Undone(db, frame, reply), keys[index])
            if isinstance(reply, ErrorReply):
                raise target._error(lane.address, frame, reply)
            found[index] = reply
    return found


# -- replies ---------------------------------------------------------------------------------------------------------------


class _Replies:
    """Replies out of any chunking, in Python."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def unfinished(self) -> bool:
        """Whether a part of a reply is waiting for more bytes."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterable[Any]:
        if self._rest:
            data = self._rest + data
        pos = 0
        found = []
        try:
            while pos < len(data):
                reply, pos = read_reply(data, pos)
                found.append(reply)
        except TruncatedError:
            pass
        self._rest = data[pos:]
        return found


class _HiredisReplies:
    """The same by hiredis, about ten times as fast."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_MORE)

    @property
    def unfinished(self) -> bool:
        return bool(self._reader.has_data())

    def feed(self, data: bytes) -> Iterable[Any]:
        reader = self._reader
        reader.feed(data)
        found = []
        try:
            while True:
                reply = reader.gets()
                if reply is _MORE:
                    return found
                found.append(reply)
        except hiredis.ProtocolError as exc:
            raise CodecError(str(exc)) from exc


def _first_error(reply: Any) -> Optional[ErrorReply]:
    """The error, or the first one inside (EXEC answers with the replies of its commands)."""
    if isinstance(reply, ErrorReply):
        return reply
    if isinstance(reply, list):
        return next((error for error in map(_first_error, reply) if error is not None), None)
    if isinstance(reply, Exception):
        return ErrorReply(str(reply).encode("utf-8", "replace"))
    return None


def _ignore(lane: Lane, db: int, frame: bytes, reply: Union[Any, None]) -> None:
    """Replies are dealt with in :meth:`CommandLane._take`."""


__all__ = ["CommandLane", "CommandStream", "Failure", "NOWHERE", "ask_each", "existing"]
