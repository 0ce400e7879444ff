# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Commands that concern a whole database or every master: done alone, with nothing under way before or behind them.

A checkpoint is written with each of them: in the same transaction where the command takes the old one away, or must not be done twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Set

from .._codec.resp import ErrorReply, command
from .._codec.slots import key_slot
from .._errors import LostError, UnsupportedTypeError, UsageError
from .._server.connect import reply_error
from .._sink.lane import call
from .checkpoints import WHOLE
from .existing import target_dbs
from .fences import Place
from .lane import Mark

if TYPE_CHECKING:
    from .session import Follower, Session
    from .sources import StreamState


def run(session: Session, follower: Follower, args: List[bytes], end: int) -> None:
    """Do ``args``, which ends at offset ``end`` of that stream. MigrationError."""
    session.settle()
    dispatcher = follower.dispatcher
    name = args[0].upper()
    word = args[1].upper() if len(args) > 1 else b""
    # From here on the stream has passed the command: the checkpoint that is written with it says so.
    dispatcher.marks.append(Mark(end, dispatcher.db))
    dispatcher.sent = end
    follower.advance()
    if name == b"SCRIPT":
        if word == b"LOAD" and len(args) > 2:
            session.memory.scripts.note(args[2])
        if word in (b"LOAD", b"FLUSH") and not session.lanes.proxied:
            session.lanes.target.call_all(command(*args))
    elif name == b"FUNCTION":
        if word in (b"LOAD", b"DELETE", b"FLUSH", b"RESTORE"):
            _function(session, args, word, end)
    elif name in (b"EVAL", b"EVALSHA", b"FCALL"):
        _script(session, follower, args, end)
    elif name == b"CLUSTER":
        _flush_slot(session, follower, int(args[2]))
    elif name == b"SWAPDB":
        _swap(session, follower, int(args[1]), int(args[2]), end)
    elif name == b"FLUSHDB":
        _flush(session, follower, {dispatcher.db}, end)
    elif name == b"FLUSHALL":
        _flush(session, follower, None, end)


# -- scripts ---------------------------------------------------------------------------------------------------------------


def _script(session: Session, follower: Follower, args: List[bytes], end: int) -> None:
    """One that names no keys, as sources before Redis 5 send them: done once, and never again after a crash."""
    scripts, lanes, dispatcher = session.memory.scripts, session.lanes, follower.dispatcher
    db = dispatcher.target_db or 0
    name = args[0].upper()
    lanes.require_database(db)
    if name == b"EVAL":
        scripts.note(args[1])
    elif name == b"EVALSHA":
        body = scripts.body(args[1])
        if body is not None:
            args = [b"EVAL", body, *args[2:]]
        elif lanes.target.call(b"", 0, [command("SCRIPT", "EXISTS", args[1])])[0] != [1]:
            raise UnsupportedTypeError(
                "the stream of the source at offset %d" % end,
                "EVALSHA of the script %s, which the target does not have" % args[1].decode("ascii", "replace"),
                "Load it into the target (SCRIPT LOAD) and start the task again",
            )
    # What was copied as of later the script changes once too often.
    dispatcher.doubts.refence(list(dispatcher.doubts.fences))
    for reply in _with_checkpoint(session, _in(session, db, [command(*args)]), may_fail=True):
        if isinstance(reply, ErrorReply):
            # It may have failed at the source just so.
            session.warn("a script without keys was answered %s" % reply.decode("utf-8", "replace"))
    dispatcher.doubts.forget_answers()
    session.settle()


# -- functions -------------------------------------------------------------------------------------------------------------


def _function(session: Session, args: List[bytes], word: bytes, end: int) -> None:
    """Done once more it must give the same: LOAD and RESTORE replace, DELETE of what is gone is done."""
    if word == b"LOAD" and args[2].upper() != b"REPLACE":
        args = [*args[:2], b"REPLACE", *args[2:]]
    elif word == b"RESTORE":
        args = [*args[:3], args[3] if args[3:4] and args[3].upper() == b"FLUSH" else b"REPLACE"]
    if not session.lanes.target.dialect.capabilities.functions:
        raise UnsupportedTypeError(
            "the stream of the source at offset %d" % end,
            "FUNCTION %s, and the target has no functions (they came with Redis 7.0)" % word.decode("ascii", "replace"),
            "Migrate to a newer target",
        )
    for address, reply in session.lanes.target.call_all(command(*args)):
        if isinstance(reply, ErrorReply) and not (word == b"DELETE" and b"not found" in reply):
            error = reply_error(reply.decode("utf-8", "replace"), address, "FUNCTION %s" % word.decode("ascii", "replace"))
            raise type(error)("offset %d, %s" % (end, error.what), error.why, error.remedy)


# -- databases -------------------------------------------------------------------------------------------------------------


def _swap(session: Session, follower: Follower, one: int, other: int, end: int) -> None:
    selection = session.selection
    first, second = selection.db_of(one), selection.db_of(other)
    if first is None and second is None or one == other:
        return
    lanes = session.lanes
    # What else goes into one of the two would be swapped with it.
    others = {selection.db_of(number) for number in range(session.databases) if number not in (one, other)}
    if (
        first is None
        or second is None
        or first == second
        or first in others
        or second in others
        or len(session.followers) > 1
        or lanes.only is None
        or lanes.proxied
        or not selection.all_keys
        or session.memory.left_alone
        or not lanes.target.dialect.capabilities.swapdb
    ):
        raise UsageError(
            "the stream of the source at offset %d" % end,
            "SWAPDB %d %d cannot be done in the target (filters, db_map, topology or version stand against it)" % (one, other),
            "Start the task anew (state absent, then started) for a full synchronisation, and do not swap databases meanwhile",
        )
    doubts = follower.dispatcher.doubts
    # What was copied as of later lies in the wrong database afterwards, and has put something else in its place.
    moved = [(db, key) for number, key in doubts.fences if number in (one, other) for db in (one, other)]
    doubts.refence(moved)
    memory, number = session.memory, follower.number
    strangers = memory.strangers.get(number, set())
    swapped = _swapped(strangers, one, other)
    if strangers:
        # Until it is known whether it was done, both.
        memory.note_strangers({**memory.strangers, number: strangers | swapped})
    frames = [command("SWAPDB", first, second)]
    if 0 in (first, second):
        frames.insert(0, command("DEL", *lanes.names))
    _with_checkpoint(session, frames)
    doubts.stale = _swapped(doubts.stale, one, other)
    if strangers:
        memory.note_strangers({**memory.strangers, number: swapped})
    doubts.forget_answers()
    session.settle()


def _swapped(places: Set[Place], one: int, other: int) -> Set[Place]:
    numbers = {one: other, other: one}
    return {(numbers.get(db, db), key) for db, key in places}


def _flush(session: Session, follower: Follower, dbs: Optional[Set[int]], end: int) -> None:
    """Empty databases of the source (None: all) in the target, as far as they are this stream's."""
    selection = session.selection
    doubts = follower.dispatcher.doubts
    numbers = dbs if dbs is not None else set(range(session.databases))
    wanted = {number for number in numbers if selection.db_of(number) is not None}
    again = [place for place in doubts.fences if place[0] in wanted]
    targets = {db for db in map(selection.db_of, wanted) if db is not None and session.lanes.has_database(db)}
    if not wanted:
        return
    merged = {number for number in range(session.databases) if selection.db_of(number) in targets} - wanted
    if merged:
        raise UsageError(
            "the stream of the source at offset %d" % end,
            "database %d was emptied, and db_map puts database %d into the same one" % (min(wanted), min(merged)),
            "Start the task anew (state absent, then started) with another db_map",
        )
    alone = len(session.followers) == 1 and not session.memory.left_alone and selection.all_keys and not follower.dispatcher.moved
    doubts.refence(again)
    if alone and not session.lanes.proxied:
        if dbs is None and not selection.is_partial:
            _with_checkpoint(session, [command("FLUSHALL")])
        else:
            _with_checkpoint(session, [frame for db in sorted(targets) for frame in _in(session, db, [command("FLUSHDB")])])
    else:
        session.lanes.require_list("a database that the source empties")
        sweep(session, targets, _owned_by(session, follower))
        session.confirm()
    doubts.forget_answers()
    session.settle()


def _flush_slot(session: Session, follower: Follower, slot: int) -> None:
    """Valkey 9: the slot's keys go, in every database."""
    doubts = follower.dispatcher.doubts
    doubts.refence([place for place in doubts.fences if key_slot(place[1]) == slot])
    session.lanes.require_list("a slot that the source empties")
    owned = _owned_by(session, follower)
    sweep(session, target_dbs(session), lambda db, key: key_slot(key) == slot and owned(db, key))
    session.confirm()
    doubts.forget_answers()
    session.settle()


def clear(session: Session, fresh: List[StreamState]) -> None:
    """Before snapshots of ``fresh`` are loaded into a target that the task owns: nothing else of theirs may be left."""
    live = session.sources.live or fresh
    if len(fresh) >= len(live):
        for address, reply in session.lanes.target.call_all(command("FLUSHALL")):
            if isinstance(reply, ErrorReply):
                raise reply_error(reply.decode("utf-8", "replace"), address, "FLUSHALL")
        return
    numbers = {stream.id for stream in fresh}
    _require_slots(session)
    sweep(session, target_dbs(session), lambda _db, key: session.sources.owner(key_slot(key)) in numbers)


def _owned_by(session: Session, follower: Follower) -> Callable[[int, bytes], bool]:
    """Whether a key in the target is that stream's to delete."""
    selection = session.selection
    alone = session.memory.left_alone
    several = len(session.followers) > 1
    if several:
        _require_slots(session)
    moved = follower.dispatcher.moved

    def doomed(db: int, key: bytes) -> bool:
        if not selection.keep(key) or (db, key) in alone:
            return False
        if not several:
            return True
        slot = key_slot(key)
        owner = moved[slot] if slot in moved else session.sources.owner(slot)
        return owner == follower.number

    return doomed


def _require_slots(session: Session) -> None:
    if not session.sources.slots:
        raise UsageError(
            session.config.source.label,
            "one of several nodes behind a proxy was emptied, and nobody can tell which keys of the target were its own",
            "Start the task anew (state absent, then started) with clear_target",
        )


def sweep(session: Session, dbs: Iterable[int], doomed: Callable[[int, bytes], bool]) -> None:
    """Delete keys one by one. ServerError."""
    for lane, db, keys in session.lanes.scan(dbs, session.breathe):
        names = [key for key in keys if doomed(db, key)]
        for answer in call(lane, [command("DEL", key) for key in names], db) if names else ():
            if isinstance(answer, ErrorReply):
                raise reply_error(answer.decode("utf-8", "replace"), lane.address, "DEL")


def _in(session: Session, db: int, frames: List[bytes]) -> List[bytes]:
    """The frames in another database than the checkpoint's, where the target has any."""
    if not db:
        return frames
    return [command("SELECT", db), *frames, command("SELECT", 0)]


def _with_checkpoint(session: Session, frames: List[bytes], may_fail: bool = False) -> List[Any]:
    """Do ``frames`` on every master, each time in one transaction with the whole checkpoint; their replies. ServerError.

    ``may_fail``: an error is a reply as any other.
    """
    replies: List[Any] = []
    session.lanes.require_checkpoints()
    fields, fences = {**session.fields(), WHOLE: b"1"}, session.all_fences()
    limits = session.limits()
    for address, name in session.lanes.inside.names.items():
        unit = [command("MULTI"), *frames, *session.lanes.inside.frames(name, fields, fences, []), command("EXEC")]
        *queued, done = session.lanes.call(session.lanes.lane_at(address), unit, 0)
        if done is None:
            raise LostError(str(address), "did not execute a transaction", "See its log; the task tries again")
        own, others = (done[: len(frames)], done[len(frames) :]) if isinstance(done, list) else ([], [done])
        for reply in [*queued, *others, *(() if may_fail else own)]:
            if isinstance(reply, ErrorReply):
                raise reply_error(reply.decode("utf-8", "replace"), address, frames[0].split(b"\r\n")[2].decode("ascii"))
        replies += own
    session.saved_all(limits)
    return replies


__all__ = ["clear", "run", "sweep"]
