# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The beginning of a session: every stream is brought to where it can be followed.

A stream whose checkpoint is in the target goes on from there, after the keys that may or may not have been written were copied afresh. Any
other is loaded from its snapshot.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Iterator, List

from .._codec.errors import CodecError
from .._errors import FileError, LostError, UsageError
from .._sink.frames import show
from . import again, barriers, existing, needs
from .checkpoints import Fields, MissingError, Recovered, State, combine
from .folder import boot_id
from .follower import Follower
from .lanes import STREAM
from .recovery import touched
from .snapshot import SnapshotLoad
from .sources import StreamState
from .spool import bounds
from .status import FULL, INCREMENTAL

if TYPE_CHECKING:
    from .session import Session

# Seconds that the source may take to send what it has.
_PATIENCE = 60
# An offset that no stream reaches.
_FOR_EVER = 1 << 62


class Start:
    """:meth:`run` once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mixed = False

    def run(self) -> None:
        """Bring every stream to where it can be followed. MigrationError."""
        session = self._session
        streams = self._await_streams()
        session.homes.look()
        held = self._held(streams)
        recovered = combine(held)
        fresh = [stream for stream in streams if self._needs_snapshot(stream, recovered)]
        session.status.change(FULL if fresh else INCREMENTAL)
        if fresh:
            self._load(fresh)
        if session.config.method == "full":
            return
        session.remember_names()
        if session.sources.slots and any(stream.command == "SYNC" for stream in streams):
            raise UsageError(
                session.config.source.label,
                "gives only SYNC, and the stream of a Redis Cluster that begins so cannot be followed",
                "Allow PSYNC for this user, or use method: full",
            )
        for stream in streams:
            if stream in fresh:
                session.follow(stream, stream.snapshot_offset, stream.stream_db or 0)
        for stream in streams:
            if stream not in fresh:
                self._resume(stream, recovered)
        session.settle()
        if fresh and self._mixed and not session.config.clear_target:
            self._look_for_strangers()
        session.confirm(first=True)
        # All of them: a session that ended between this checkpoint and here has left the one or the other.
        for stream in streams:
            session.memory.loaded(stream.id, stream.generation)
        session.remember_confirmed()
        for stream in streams:
            shutil.rmtree(session.sources.folder_of(stream.id, stream.generation, "snapshot"), ignore_errors=True)
        session.status.change(INCREMENTAL)
        session.status.progress = 100
        session.status.error = None

    def _await_streams(self) -> List[StreamState]:
        """Wait until the receiver knows the source's masters and has something from each."""
        session = self._session
        while True:
            session.check()
            session.sources.refresh()
            live = session.sources.live
            if session.config.method == "full":
                live = list(session.sources.streams.values())
            is_of_now = session.sources.boot in ("", boot_id())
            if live and is_of_now and all(stream.generation > 0 for stream in live):
                return live
            session.report()
            time.sleep(0.05)

    def _held(self, streams: List[StreamState]) -> List[Fields]:
        """The checkpoints. Where one of several is missing, a master has lost its data."""
        session = self._session
        try:
            return session.lanes.read_checkpoints(session.memory.confirmed)
        except MissingError as exc:
            loaded = [stream for stream in streams if session.memory.is_loaded(stream.id, stream.generation)]
            if not loaded:
                return []
            for stream in loaded:
                again.ask(session, stream, exc.why)
            raise

    def _needs_snapshot(self, stream: StreamState, recovered: Recovered) -> bool:
        session = self._session
        state = recovered.states.get(stream.id)
        if state is None or state.generation != stream.generation:
            if session.memory.is_loaded(stream.id, stream.generation):
                again.begin(session, stream, "the target has lost what was written: it holds no checkpoint of ours any more")
            return True
        found = bounds(session.sources.folder_of(stream.id, stream.generation, "stream"))
        if found is None or found[0] > state.at:
            again.begin(session, stream, "the target has gone back to offset %d, which is not in the spool any more" % state.at)
        return False

    def _load(self, fresh: List[StreamState]) -> None:
        session = self._session
        if session.config.clear_target:
            session.lanes.require_list("clear_target")
        elif not session.memory.begun and session.config.on_conflict != "replace":
            session.lanes.require_list("on_conflict: %s" % session.config.on_conflict)
            session.memory.leave_alone(existing.names(session))
        if session.lanes.can_list:
            # A load that was cut off leaves keys that may be gone from the source by now, just as one that was not.
            again = any(session.memory.was_begun(stream.id) for stream in fresh)
            self._mixed = again or not session.memory.begun and not existing.is_empty(session)
        else:
            session.warn("keys that only the target has are not looked for: the nodes behind its proxy are not named in shards")
        for stream in fresh:
            self._look_through(stream)
        if session.config.clear_target:
            barriers.clear(session, fresh)
        session.memory.begin([stream.id for stream in fresh])
        session.remember()
        for index, stream in enumerate(fresh):
            self._load_one(stream, index, len(fresh))
        # Errors from here on are not the snapshot's.
        session.lanes.target.for_file(STREAM)
        if session.config.on_conflict == "fail":
            # Keys that only the target has are no conflict; what the source may make of them later is.
            session.memory.leave_alone(set())

    def _look_through(self, stream: StreamState) -> None:
        """Refuse what the target cannot hold, or holds already, before anything of any stream is written."""
        session = self._session

        def tick(_read: int, _total: int) -> None:
            session.check()
            session.report()

        found = bounds(session.sources.folder_of(stream.id, stream.generation, "snapshot"))
        if found is not None and found[0] > 0:
            again.begin(session, stream, "the snapshot is not whole any more: the spool was full, and the last load was cut off")
        load = SnapshotLoad(session.folder, session.config, session.sources, stream, session.lanes.target, tick)
        with _undamaged(session, stream, load):
            load.look(session.memory.left_alone if session.config.on_conflict == "fail" else ())

    def _load_one(self, stream: StreamState, index: int, of: int) -> None:
        session = self._session
        target, status = session.lanes.target, session.status
        before = (target.written, target.skipped, target.expired)
        counts = (status.keys, status.skipped, status.expired)

        def tick(read: int, total: int) -> None:
            session.check()
            if total:
                status.progress = int((index + read / total) * 100 / of)
            status.keys = counts[0] + target.written - before[0]
            status.skipped = counts[1] + target.skipped - before[1]
            status.expired = counts[2] + target.expired - before[2]
            if read:
                session.throttle(read)
            session.report()

        session.budget.reset()
        session.log("loading the snapshot of %s (offset %d)" % (stream.address, stream.snapshot_offset))
        load = SnapshotLoad(session.folder, session.config, session.sources, stream, target, tick)
        with _undamaged(session, stream, load):
            load.run(session.warn, session.memory.left_alone)
        tick(0, 0)
        session.log("the snapshot of %s is loaded: %d keys" % (stream.address, target.written - before[0]))

    def _look_for_strangers(self) -> None:
        """Keys that only the target has stay; but nothing of the stream may build on them."""
        session = self._session
        count, found, is_all = existing.only_in_target(session)
        shown = [show(place[1]) for places in found.values() for place in sorted(places)[:3]]
        # What the source has by now it may have made since its snapshot: the scan cannot tell.
        session.memory.mistrusted = session.here()
        if not is_all:
            # As long as nobody knows which keys they are, any may be one of them.
            session.memory.mistrusted = dict.fromkeys(session.memory.mistrusted, _FOR_EVER)
            found = {}
        session.remember()
        session.memory.note_strangers(found)
        for number, places in found.items():
            session.followers[number].dispatcher.doubts.stale |= places
        for number, offset in session.memory.mistrusted.items():
            session.followers[number].dispatcher.doubts.mistrust_until = offset
        if count:
            again = any(stream.full_syncs > 1 for stream in session.sources.streams.values())
            session.warn(
                "%d keys are in the target and not in the source (such as %s)%s%s"
                % (
                    count,
                    ", ".join(shown) or "none that could be noted",
                    "" if is_all else "; too many to be remembered, so every key that is changed is copied, which takes longer",
                    ": there was more than one full synchronisation, and these may have been deleted at the source since the first"
                    if again else "",
                )
            )

    def _resume(self, stream: StreamState, recovered: Recovered) -> None:
        """Copy afresh whatever may or may not have been done before the crash."""
        session = self._session
        state = recovered.states[stream.id]
        follower = session.follow(stream, state.at, state.db)
        if follower.has_offsets:
            history, now = follower.source.offset()
            session.same_history(follower, history, now)
            until = min(state.until, now)
            if state.replication_id != stream.replication_id and self._gave_up(follower, state):
                again.begin(session, stream, "the target may hold writes of a history that was given up at a failover")
        else:
            # What was sent is in the spool: a stream by SYNC does not outlive its host, nor its receiver.
            found = bounds(follower.path)
            until = min(state.until, found[1] if found else state.at)
        self._await_offset(stream, until)
        try:
            places = touched(follower.path, state, until, session.commands, session.wanted)
        except CodecError as exc:
            again.damaged(session, stream, str(exc))
        saved = {place: offset for place, offset in recovered.fences.get(stream.id, {}).items() if offset > state.at}
        follower.dispatcher.doubts.saved.update(saved)
        follower.dispatcher.doubts.refence(dict.fromkeys([*places, *saved]))
        follower.floor = state.until
        session.homes.went_back(stream.id, state.at)
        if places or saved:
            session.log(
                "stream %d: %d keys were touched between offsets %d and %d, copying them afresh"
                % (stream.id, len(places) + len(saved), state.at, until)
            )

    def _gave_up(self, follower: Follower, state: State) -> bool:
        """Whether the target may be ahead of where the history of its checkpoint ended."""
        ids, switched_at = follower.source.histories()
        rebooted = self._session.memory.boot not in ("", boot_id())
        return state.replication_id not in ids or state.at > switched_at or rebooted

    def _await_offset(self, stream: StreamState, offset: int) -> None:
        session = self._session
        deadline = time.monotonic() + 60
        while True:
            session.check()
            session.sources.refresh()
            now = session.sources.streams.get(stream.id)
            if now is None or now.generation != stream.generation:
                raise LostError(stream.address, "began a new history")
            found = bounds(session.sources.folder_of(stream.id, stream.generation, "stream"))
            if found is not None and found[1] >= offset:
                return
            if time.monotonic() > deadline:
                raise LostError(stream.address, "did not send what it has within 60 seconds (offset %d)" % offset, "See the receiver in worker.log")
            if session.sources.spool.get("spool_full"):
                # It has to come, whatever fills the spools: nothing else can free them.
                needs.ask(session.folder, stream.id, stream.generation, offset)
            session.report()
            time.sleep(0.02)


@contextlib.contextmanager
def _undamaged(session: Session, stream: StreamState, load: SnapshotLoad) -> Iterator[None]:
    """A snapshot that cannot be read will not be better the next time: another one is asked for."""
    try:
        yield
    except FileError as exc:
        if not exc.what.startswith(load.name):
            raise
        again.damaged(session, stream, "%s: %s" % (exc.what, exc.why))
