# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One connected life of the applier: from the checkpoints, or a snapshot, on through the streams.

Whatever goes wrong ends it with a MigrationError; the next one begins with what the target itself says it has.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Set

from .._codec.commands import Commands
from .._codec.errors import CodecError
from .._codec.resp import ErrorReply, command
from .._codec.slots import key_slot
from .._errors import LostError
from .._server.endpoint import parse_address
from .._server.probe import probe
from .._sink.lane import Lane
from . import again, barriers, needs
from .budget import Budget
from .checkpoints import WHOLE, Fields, State, combine, fence_fields, fence_name, state_fields
from .clocks import Clocks
from .config import Config
from .dispatch import Dispatcher
from .fences import MovedError, Source, Writer, chunks, commands_of
from .folder import TaskFolder, boot_id
from .follower import Follower
from .homes import Homes
from .kinds import Kinds
from .lanes import Lanes
from .lane import ApplyLane, OnReply, Parcel
from .memory import Memory
from .sources import Sources, StreamState
from .spool import free, to_keep, trim
from .start import Start
from .status import Status

# Bytes behind the last byte read that a checkpoint allows to be sent.
WINDOW = 2 << 20
# A checkpoint goes out after so many bytes, and after so many seconds when anything changed.
_STEP = 256 << 10
_INTERVAL = 0.1
# Unanswered bytes per lane, and bytes read from a spool at a time.
_IN_FLIGHT = 1 << 20
_CHUNK = 128 << 10
_HOUSEKEEPING = 0.2
# Seconds since a spool was seen empty, in which its next bytes have just come.
_MOMENT = 0.05
# Since when a stream tells moments of expiry, and not times to live.
_MOMENTS_SINCE = (7, 0)
# Since when a SET that was an INCRBYFLOAT says that it keeps the expiry.
_KEEPTTL_SINCE = (6, 0)


class Stop(Exception):
    """The task was asked to halt."""


class Session:
    """``check`` is called often; it raises :class:`Stop` when the task is to halt."""

    def __init__(
        self,
        folder: TaskFolder,
        config: Config,
        status: Status,
        sources: Sources,
        memory: Memory,
        log: Callable[[str], None],
        check: Callable[[], None],
        wake: int,
    ) -> None:
        self.folder = folder
        self.config = config
        self.status = status
        self.sources = sources
        self.memory = memory
        self.log = log
        self.selection = config.selection()
        self.followers: Dict[int, Follower] = {}
        self.check = check
        self._wake = wake
        self.commands = Commands()
        self._source_instance = probe(config.source)
        self._kinds = Kinds(self.commands, self._source_instance.product.compatible < _KEEPTTL_SINCE)
        self.commands.learn(commands_of(config.source, self._source_instance.topology.masters))
        self.lanes = Lanes(config.target, folder, memory.token, memory.names, memory.target)
        memory.target = self.lanes.kind
        self._writer = Writer(self.lanes.target)
        self._clocks = Clocks(config.source, self._source_instance, config.target, self.lanes.instance)
        status.clocks = self._clocks.complaint
        self.homes = Homes(self)
        self._checkpoint_at = 0.0
        self._last_fields: Fields = {}
        # Where each stream was in the last checkpoint that every master has acknowledged.
        self._confirmed: Dict[int, int] = {}
        self._open_checkpoint = False
        self._housekept = 0.0
        self.budget = Budget(lambda: self.config.bandwidth_limit)

    def close(self) -> None:
        self._clocks.close()
        for follower in self.followers.values():
            follower.close()
        self.lanes.close()

    def begin(self) -> None:
        """Bring every stream to where it can be followed. MigrationError."""
        self._clocks.start()
        Start(self).run()

    def warn(self, text: str) -> None:
        self.status.warn(text)
        self.log(text)

    def _dispatcher(self, stream: StreamState) -> Dispatcher:
        dispatcher = Dispatcher(
            stream.id, self.lanes, self._barrier, self.selection, self.commands, self._kinds, self.lanes.target.dialect
        )
        dispatcher.left_alone = self.memory.left_alone
        dispatcher.moved = self.homes.moved
        dispatcher.owners = self.homes.owners
        dispatcher.doubts.mistrust_until = self.memory.mistrusted.get(stream.id, 0)
        dispatcher.doubts.stale = set(self.memory.strangers.get(stream.id, ()))
        dispatcher.importing = partial(self._importing, stream.id)
        if self._source_instance.product.compatible < _MOMENTS_SINCE:
            dispatcher.arrived = partial(self._arrived, stream.id)
        return dispatcher

    def _source(self, stream: StreamState) -> Source:
        clustered = self.sources.kind == "redis_cluster"
        return Source(self.config.source, parse_address(stream.address), self._source_instance.product, clustered)

    def _arrived(self, stream: int, end: int) -> Optional[int]:
        """By the source's clock, as all moments in a stream and a snapshot are."""
        follower = self.followers.get(stream)
        if follower is not None and time.monotonic() - follower.empty_at <= _MOMENT:
            return 0
        at = self.sources.arrived(stream, end)
        return at + (self._clocks.source_ms or 0) if at else at

    def _importing(self, stream: int, slot: int) -> None:
        self.homes.importing(slot, stream)

    def follow(self, stream: StreamState, position: int, db: int) -> Follower:
        dispatcher = self._dispatcher(stream)
        dispatcher.begin(position, db)
        source = self._source(stream)
        spool = self.sources.folder_of(stream.id, stream.generation, "stream")
        follower = self.followers[stream.id] = Follower(stream, dispatcher, source, position, spool)
        return follower

    def wanted(self, db: int, key: bytes) -> bool:
        target_db = self.selection.db_of(db)
        return target_db is not None and self.selection.keep(key) and (target_db, key) not in self.memory.left_alone

    # -- following -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One round: answers, doubts, checkpoint, more commands; waits a little when there is nothing to do."""
        self.lanes.turn()
        for follower in self.followers.values():
            follower.advance()
        if any(follower.dispatcher.doubts.pending for follower in self.followers.values()):
            self.settle()
        if self.lanes.rerouted:
            self._reroute()
        self._checkpoint()
        moved = self._read()
        now = time.monotonic()
        if now - self._housekept > _HOUSEKEEPING:
            self._housekept = now
            self._keep_house()
        if not moved:
            self.lanes.wait(_INTERVAL / 2, self._wake)
            self._drain_wake()

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass

    def _read(self) -> bool:
        """Dispatch more where that is allowed; whether anything was there."""
        moved = False
        for follower in self.followers.values():
            if self.lanes.in_flight > _IN_FLIGHT:
                break
            room = min(self.budget.piece or _CHUNK, _CHUNK, follower.limit - follower.spool.position)
            if room <= 0 or not self.budget.is_left:
                continue
            data = follower.spool.read(room)
            if not data:
                follower.empty_at = time.monotonic()
                continue
            # The receiver tells of a new history before it writes the first byte of it.
            self.sources.refresh()
            now = self.sources.streams.get(follower.number, follower.state)
            if (now.generation, now.replication_id) != (follower.state.generation, follower.state.replication_id):
                raise LostError(now.address, "goes on with another history; what was copied ahead of it is copied once more")
            moved = True
            self.budget.spend(len(data))
            self.status.bytes += len(data)
            dispatcher = follower.dispatcher
            before = dispatcher.commands
            try:
                piece = follower.parser.feed(data)
            except CodecError as exc:
                again.damaged(self, follower.state, str(exc))
            dispatcher.dispatch(piece)
            self.status.commands += dispatcher.commands - before
        return moved

    def throttle(self, read: int) -> None:
        """Hold a load back to the bandwidth limit."""
        while not self.budget.allows(read):
            self.check()
            self.report()
            time.sleep(0.02)

    def _keep_house(self) -> None:
        self.check()
        if self.sources.refresh():
            self._compare_streams()
        self.homes.tend()
        self.lanes.target.clock_skew_ms = self._clocks.target_ms or 0
        self.status.clocks = self._clocks.complaint
        kept = to_keep(self.config.spool_limit, len(self.followers), 0 if self.status.unwritten else free(self.folder.path))
        full = self.sources.spool.get("spool_full")
        for number, follower in self.followers.items():
            # The source waits for room, and nothing that is still to be applied makes any.
            stuck = full and follower.spool.position >= follower.received
            # Never behind the checkpoint that a later session may have to begin at.
            trim(follower.path, max(0, min(follower.dispatcher.acked - (0 if stuck else kept), self._confirmed.get(number, 0))))
        if full:
            needs.ask_for_rest(self.folder, self.followers.values(), self.config.spool_limit, self.warn)
        self.report()

    def _compare_streams(self) -> None:
        """The receiver may have begun a new history, or follow other masters."""
        live = {stream.id for stream in self.sources.live}
        for number in [number for number in self.followers if number not in live]:
            # Its master owns nothing any more: all it had was copied from the new owners, or will be.
            self.log("stream %d has ended" % number)
            self.followers.pop(number).close()
        for stream in self.sources.live:
            follower = self.followers.get(stream.id)
            if stream.generation > 0 and (follower is None or follower.state.generation != stream.generation):
                raise LostError(stream.address, "needs a new full synchronisation")
            if follower is not None:
                if follower.state.address != stream.address:
                    self.log("stream %d now comes from %s" % (stream.id, stream.address))
                    follower.source.close()
                    follower.source = self._source(stream)
                if follower.state.replication_id != stream.replication_id:
                    raise LostError(stream.address, "goes on with another history; what was copied ahead of it is copied once more")
                follower.state = stream

    def report(self) -> None:
        applied = {number: follower.dispatcher.acked for number, follower in self.followers.items()}
        self.status.shard_rows(self.sources, applied)
        self.status.write_soon(self.sources.spool)

    # -- doubts --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Answer everything under way, then copy what is doubtful. MigrationError."""
        while True:
            self.lanes.drain()
            for follower in self.followers.values():
                follower.advance()
            if not any(follower.dispatcher.doubts.pending for follower in self.followers.values()):
                return
            for follower in self.followers.values():
                self._copy(follower)

    def _copy(self, follower: Follower) -> None:
        doubts = follower.dispatcher.doubts
        moved = self.homes.moved
        if moved:
            # These come with their slot.
            doubts.give_up([place for place in doubts.pending if moved.get(key_slot(place[1]), follower.number) != follower.number])
        for db, keys in chunks(list(doubts.pending)):
            self.breathe()
            target_db = self.selection.db_of(db) or 0
            self.lanes.require_database(target_db)
            marker = None if follower.has_offsets else os.urandom(12).hex().encode("ascii")
            try:
                groups = follower.source.copies(db, keys, marker)
            except MovedError as exc:
                self.homes.dispute([exc.slot])
                return
            for some, history, offset, copies in groups:
                self.same_history(follower, history, offset)
                kept = self._elsewhere(follower, db, [key for key, copied in zip(some, copies) if copied.payload is None])
                pairs = [(key, copied) for key, copied in zip(some, copies) if key not in kept]
                self._writer.write(target_db, pairs)
                places = [(db, key) for key in some]
                if marker is None:
                    doubts.copied(places, offset)
                else:
                    doubts.await_marker(places, marker)
                self.status.copied += len(some)

    def _elsewhere(self, follower: Follower, db: int, gone: List[bytes]) -> Set[bytes]:
        """Keys that are gone from one database of the source, and there in another that goes into the same one of the target."""
        if not gone or not self.selection.is_partial:
            return set()
        target = self.selection.db_of(db)
        others = [other for other in range(self.databases) if other != db and self.selection.db_of(other) == target]
        return {
            key
            for other in others
            for key, found in zip(gone, follower.source.ask([command("EXISTS", key) for key in gone], other))
            if found
        }

    def same_history(self, follower: Follower, history: str, offset: int) -> None:
        self.sources.refresh()
        stream = self.sources.streams.get(follower.number, follower.state)
        if history and stream.replication_id and history != stream.replication_id:
            raise LostError(stream.address, "has another history by now (%s); waiting for the receiver to follow" % history)
        if follower.has_offsets and offset < follower.dispatcher.sent:
            raise LostError(
                stream.address, "is behind what was received from it (offset %d of %d)" % (offset, follower.dispatcher.sent)
            )

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def fields(self) -> Fields:
        """The positions of all streams, as a checkpoint made now has to tell them."""
        fields: Fields = {}
        for number, follower in self.followers.items():
            until = max(follower.floor, follower.spool.position + WINDOW)
            state = State(follower.state.generation, follower.state.replication_id, follower.at, until, follower.db)
            fields.update(state_fields(number, state))
        return fields

    def all_fences(self) -> Fields:
        fields: Fields = {}
        for number, follower in self.followers.items():
            fields.update(fence_fields(number, follower.dispatcher.doubts.all_fences()))
        return fields

    def limits(self) -> Dict[int, int]:
        return {number: max(follower.floor, follower.spool.position + WINDOW) for number, follower in self.followers.items()}

    def _checkpoint(self) -> None:
        """Write one where it is time to."""
        now = time.monotonic()
        urgent = any(
            follower.spool.position + WINDOW - follower.limit >= _STEP for follower in self.followers.values()
        )
        if not urgent and now - self._checkpoint_at < _INTERVAL:
            return
        fields = self.fields()
        unsaved = any(follower.dispatcher.doubts.unsaved for follower in self.followers.values())
        if fields == self._last_fields and not unsaved:
            return
        self._checkpoint_at = now
        self._write_checkpoint(fields)

    def _write_checkpoint(self, fields: Fields, first: bool = False) -> None:
        """``first``: those are not there yet, or may be gone."""
        limits = self.limits()
        reached = {number: follower.at for number, follower in self.followers.items()}
        self._open_checkpoint = True
        self._last_fields = dict(fields)
        fences: Fields = {}
        gone: List[bytes] = []
        for number, follower in self.followers.items():
            doubts = follower.dispatcher.doubts
            fences.update(fence_fields(number, doubts.save()))
            gone += [fence_name(number, place) for place in doubts.passed(follower.at)]
        if self.lanes.file is not None:
            self.lanes.file.write({**fields, **fences}, gone)
            self._confirmed = reached
            self._open_checkpoint = False
            self._allow(limits)
            return
        waiting: Set[Lane] = set(self.lanes.lanes())

        def answered(lane: ApplyLane, is_last: bool, reply: Any) -> None:
            if isinstance(reply, ErrorReply):
                self.lanes.examine(reply, ())
            elif is_last:
                waiting.discard(lane)
                if not waiting:
                    self._allow(limits)
                    self._confirmed = reached
                    self._open_checkpoint = False

        for address, name in self.lanes.inside.names.items():
            lane = self.lanes.lane_at(address)
            frames = self.lanes.inside.frames(name, {**fields, WHOLE: b"1"} if first else fields, fences, gone)
            frames.insert(0, command("HEXISTS", name, WHOLE))
            head = lane.select(0)
            if head is not None:
                frames.insert(0, head)
            watch: Dict[int, OnReply] = {number: partial(answered, lane, number == len(frames) - 1) for number in range(len(frames))}
            if not first:
                watch[int(head is not None)] = partial(self.lanes.still_whole, lane)
            lane.send(Parcel(b"".join(frames), len(frames), None, None, watch))

    def _allow(self, limits: Dict[int, int]) -> None:
        for number, limit in limits.items():
            if number in self.followers:
                self.followers[number].limit = max(limit, self.followers[number].limit)

    def remember_confirmed(self) -> None:
        """Every master has a checkpoint now: one that lacks it later has lost its data."""
        self.memory.boot = boot_id()
        self.memory.confirmed = list(self.lanes.inside.names.values())
        self.memory.save(self.lanes.names)
        self.lanes.forget_old()
        self.memory.save(self.lanes.names)

    def remember_names(self) -> None:
        """The names are on the disk before the first of them is used."""
        self.memory.save(self.lanes.names)

    def _reroute(self) -> None:
        """The target's slots have moved: everything is settled first, then the map is read again."""
        self.settle()
        self.log("the target says that slots have moved; reading its map again")
        before = set(self.lanes.inside.names)
        self.lanes.reconnect()
        if before != set(self.lanes.inside.names):
            # What a master that is gone had acknowledged its heir may lack: the next session asks for the checkpoints.
            raise LostError(self.config.target.label, "has other masters now", "Wait for the task to look at them")
        self._writer = Writer(self.lanes.target)
        # A master that was replaced may lack what the old one had acknowledged; then its checkpoint is older, too.
        held = self.lanes.read_checkpoints(self.memory.confirmed)
        for states in (combine([fields]).states for fields in held):
            if any(number not in states or states[number].at < at for number, at in self._confirmed.items()):
                raise LostError(self.config.target.label, "has lost what it had acknowledged", "See the logs of its masters for a failover or a restart")
        self.remember_names()
        for follower in self.followers.values():
            follower.dispatcher.doubts.unsaved.update(follower.dispatcher.doubts.all_fences())
        self.confirm(first=True)
        self.remember_confirmed()

    def _barrier(self, dispatcher: Dispatcher, args: List[bytes], end: int) -> None:
        barriers.run(self, self.followers[dispatcher.number], args, end)

    # -- the end -----------------------------------------------------------------------------------------------------------

    def here(self) -> Dict[int, int]:
        """Up to where the sources have written by now, in the count of each stream. ServerError."""
        found = {}
        for number, follower in self.followers.items():
            found[number] = follower.source.offset()[1] if follower.has_offsets else follower.received
        return found

    def goals(self) -> Dict[int, int]:
        """Where each source is now. ServerError."""
        goals = {}
        for number, follower in self.followers.items():
            if follower.has_offsets:
                history, goals[number] = follower.source.offset()
                # A source that was started anew counts from the beginning: the receiver has not noticed yet.
                self.same_history(follower, history, goals[number])
            else:
                marker = os.urandom(12).hex().encode("ascii")
                follower.dispatcher.doubts.await_marker((), marker)
                follower.source.mark(marker)
                goals[number] = 0
        return goals

    def has_reached(self, goals: Dict[int, int]) -> bool:
        """Whether everything up to there is done, and nothing copied belongs to a later moment."""
        for number, follower in self.followers.items():
            dispatcher = follower.dispatcher
            doubts = dispatcher.doubts
            if doubts.pending or doubts.awaits or follower.at < max(goals.get(number, 0), doubts.reaches):
                return False
        return not self.homes.open

    # -- for barriers ----------------------------------------------------------------------------------------------------

    @property
    def databases(self) -> int:
        """How many databases the source has."""
        return self._source_instance.databases_max or 16

    def confirm(self, first: bool = False) -> None:
        """Write a checkpoint and wait for it. ServerError; LostError where a master does not take it, as its slot is on the move."""
        self._write_checkpoint(self.fields(), first)
        self.lanes.drain()
        if self._open_checkpoint:
            raise LostError(self.config.target.label, "does not take a checkpoint while its slots are moving", "Wait for the resharding to end")

    def saved_all(self, limits: Dict[int, int]) -> None:
        """A checkpoint with everything in it was written elsewhere."""
        for follower in self.followers.values():
            follower.dispatcher.doubts.save()
        self._allow(limits)

    def remember(self) -> None:
        """Put the memory on the disk. FileError."""
        self.memory.save(self.memory.names)

    def breathe(self) -> None:
        """In the middle of something long: listen to the user, tell how it goes."""
        self.check()
        self.sources.refresh()
        self.report()
