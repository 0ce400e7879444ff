# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One stream of the receiver: everything that one master says to a replica, into spools, at line rate and across lost connections.

Each snapshot begins a generation with spools of its own, so that a reader never meets two histories in one. The stream goes on in
the same generation as long as masters answer CONTINUE.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
import time
from typing import Callable, Optional, Tuple, TypeVar

from .._codec import psync
from .._codec.psync import Answer
from .._errors import FileError, LostError, MigrationError, ReplyError
from .._server.connect import reply_error
from .._server.endpoint import Address, parse_address
from .._source.replica import ReplicaLink, SyncRefusedError
from .folder import error_dict
from .receiver_state import (
    CONNECTING,
    ENDED,
    LOST,
    SNAPSHOT,
    STREAMING,
    WAITING,
    Shared,
    StreamState,
    Wake,
    generations,
    remove_older,
)
from .spool import SpoolWriter

# Seconds between attempts, doubled up to the longest.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
# Failed attempts in a row that end a task without auto_reconnect.
TRIES = 5
# Seconds. Masters count a second without an ACK as lag, and a minute as death.
ACK_EVERY = 1.0
DISK_PAUSE = 1.0
_NAP = 0.1
# Seconds to wait for a look at who is the master now.
LOOK_PATIENCE = 3.0

_Result = TypeVar("_Result")


class _Stopped(Exception):
    """The receiver is to end."""


class _StartOver(Exception):
    """The applier has no more use for this generation."""


class _Moved(Exception):
    """The stream goes on at another master."""


class _LostForGood(Exception):
    """``args[0]`` is the MigrationError that says why."""


class _NotReadyError(ReplyError):
    """The server is loading, or a replica without its master; that passes."""


class Stream:
    """Reads one master in a thread of its own (:meth:`run`).

    Others may set ``address`` (its master from now on), ``retired`` (its master has nothing any more: end when the link does) and
    ``obsolete`` (a generation that is of no more use), ``held`` (bytes of its spools, counted up meanwhile) and ``needed`` (an offset to be
    received although the spools are full). ``linked``: there is a connection that gives data. ``state`` is replaced as a
    whole where fields change that belong together.
    """

    def __init__(self, shared: Shared, state: StreamState) -> None:
        self.state = state
        self.address = parse_address(state.address)
        self.linked = False
        self.retired = False
        self.obsolete = 0
        self.held = 0
        self.needed = 0
        self.folder = shared.folder.file("streams", str(state.id))
        self._shared = shared
        self._lock = threading.Lock()
        self._snapshot: Optional[SpoolWriter] = None
        self._stream: Optional[SpoolWriter] = None
        self._wake = Wake(shared.folder.file("wake"))
        self._at: Address = self.address
        self._in_session = False
        self._link: Optional[ReplicaLink] = None
        self._next_ack = 0.0
        self._tries = 0
        self._pause = FIRST_PAUSE
        self._ahead: Optional[int] = None

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.state.state in (LOST, ENDED)

    @property
    def closed(self) -> bool:
        """It ended because its master owned nothing any more. Should that one come back, it is another stream."""
        return self.state.state == ENDED and self._shared.config.method != "full"

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the stream ends or the receiver does."""
        try:
            while not self.over:
                self._attempt()
        except _Stopped:
            pass
        except Exception as exc:  # a bug must not look like silence
            self._shared.fail(exc)
        finally:
            self._close()

    def _attempt(self) -> None:
        received = self.state.received_offset
        try:
            self._session()
        except _StartOver:
            self._log("the applier asks for generation %d to be replaced" % self.state.generation)
        except _Moved:
            self._log("leaves %s: %s is the master now" % (self._at, self.address))
            self.state.enter(CONNECTING)
            self._shared.changed()
        except _LostForGood as exc:
            self._give_up(exc.args[0])
        except FileError as exc:
            self._report(exc, DISK_PAUSE)
            self._rest(DISK_PAUSE)
        except MigrationError as exc:
            if self.state.received_offset > received:
                self._tries, self._pause = 0, FIRST_PAUSE
            self._retry(exc)

    def _retry(self, exc: MigrationError) -> None:
        """Pause after a failure, or end because of it."""
        look = self._shared.look()
        if not isinstance(exc, _NotReadyError):
            self._tries += 1
        if self._tries >= TRIES and not self._shared.config.auto_reconnect:
            self._give_up(exc)
            return
        self._report(exc, self._pause)
        deadline = time.monotonic() + self._pause
        while self._at == self.address and time.monotonic() < deadline:
            self._rest(min(_NAP, self._pause))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        # A former master, a replica now, would give us a snapshot where its successor goes on with the stream.
        deadline = time.monotonic() + LOOK_PATIENCE
        while self._shared.looked() < look and time.monotonic() < deadline:
            self._rest(_NAP)
        if self.retired:
            self._end("%s owns nothing any more" % str(self._at))

    def _give_up(self, error: MigrationError) -> None:
        self.state.error = error_dict(error)
        self.state.enter(LOST)
        self._log("lost: %s" % error)
        self._shared.changed()

    def _end(self, why: str) -> None:
        self.state.error = None
        self.state.enter(ENDED)
        self._log("ended: %s" % why)
        self._shared.changed()

    def _report(self, exc: MigrationError, pause: float) -> None:
        self.state.error = error_dict(exc)
        self.state.enter(CONNECTING)
        self._log("%s Trying again in %g s" % (exc, pause))
        self._shared.changed()

    def _log(self, text: str) -> None:
        self._shared.log("stream %d: %s" % (self.state.id, text))

    def _close(self) -> None:
        with self._lock:
            for writer in (self._snapshot, self._stream):
                if writer is not None:
                    writer.close()
            self._snapshot = self._stream = None
        self._wake.close()

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Whether there is a reason to leave what is being done."""
        if self._shared.stop.is_set():
            raise _Stopped
        if self._in_session and self._at != self.address:
            raise _Moved
        if self._link is not None and self.obsolete == self.state.generation > 0:
            raise _StartOver

    def _idle(self) -> None:
        """While nothing comes from the link, and while we do not read from it."""
        self._check()
        if self._link is not None and self.state.state == STREAMING and time.monotonic() >= self._next_ack:
            self._acknowledge(self._link)

    def _acknowledge(self, link: ReplicaLink) -> None:
        link.acknowledge(self.state.received_offset)
        self._next_ack = time.monotonic() + ACK_EVERY

    def _rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self._idle()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._shared.stop.wait(min(left, _NAP))

    def _insist(self, action: Callable[[], _Result]) -> _Result:
        """Do something to the disk, again each second while that fails: the link stays as it is meanwhile."""
        failed = False
        while True:
            try:
                result = action()
            except FileError as exc:
                if not failed:
                    self._log("%s Trying again each second" % exc)
                failed = True
                self.state.error = error_dict(exc)
                self._shared.changed()
                self._rest(DISK_PAUSE)
                continue
            if failed:
                self.state.error = None
                self._log("the disk takes data again")
                self._shared.changed()
            return result

    # -- one connection -----------------------------------------------------------------------------------------------

    def _session(self) -> None:
        """Connect, agree, receive; returns only when there is no more to come."""
        self._at = self.address
        self.state.address = str(self._at)
        self._in_session = True
        try:
            link, answer, command = self._request()
            with link:
                self._link = link
                if self.state.generation > 0:
                    self.state.reconnects += 1
                if answer.kind == psync.CONTINUE:
                    self._continue(answer)
                else:
                    self._begin(command, answer)
                self.linked = True
                if answer.kind != psync.CONTINUE:
                    self._receive_snapshot(link)
                    if self._shared.config.method == "full":
                        self._end("the snapshot is complete")
                        return
                self._receive_stream(link)
        finally:
            self.linked = self._in_session = False
            self._link = None

    def _resumable(self) -> bool:
        state = self.state
        return state.snapshot_complete and bool(state.replication_id) and self.obsolete != state.generation

    def _may_start_over(self) -> bool:
        """Whether a snapshot may be taken: the first one always, later ones where the user or the applier wants it."""
        state = self.state
        return self._shared.config.auto_reconnect or not state.snapshot_complete or self.obsolete == state.generation

    def _request(self) -> Tuple[ReplicaLink, Answer, str]:
        """Ask for what is missing, or for everything."""
        resume = self._resumable()
        link = self._open()
        try:
            command = "PSYNC"
            try:
                answer = link.psync(self.state.replication_id, self.state.received_offset) if resume else link.psync()
            except SyncRefusedError as exc:
                if not self._sync_may_help(exc):
                    raise
                self._log("%s; trying SYNC" % exc.why)
                command = "SYNC"
                link.close()
                link = self._open()
                answer = link.sync()
            if answer.kind == psync.LATER:
                error = reply_error(answer.text, self._at, command)
                raise _NotReadyError(error.what, error.why, error.remedy)
            if answer.kind == psync.CONTINUE and not resume:
                raise ReplyError(str(self._at), "continues a stream that was never begun (%s)" % answer.text)
            if answer.kind == psync.FULL and not self._may_start_over():
                raise _LostForGood(self._history_gone())
            return link, answer, command
        except BaseException:
            link.close()
            raise

    def _open(self) -> ReplicaLink:
        shared = self._shared
        link = ReplicaLink(shared.config.source, self._at, snapshot_only=shared.config.method == "full", idle=self._idle)
        try:
            link.introduce()
        except BaseException:
            link.close()
            raise
        return link

    def _sync_may_help(self, exc: SyncRefusedError) -> bool:
        """SYNC gives a stream that cannot be resumed: not where a connection was merely cut at the wrong moment."""
        if not self._may_start_over():
            return False
        return exc.answered or (self.state.generation == 0 and self._tries > 1)

    def _history_gone(self) -> LostError:
        offset = self.state.received_offset
        return LostError(
            str(self._at),
            "cannot continue the stream at offset %d: its backlog does not reach back so far, or it has another history" % offset,
            "Set auto_reconnect to allow a new full synchronisation, or enlarge repl-backlog-size there and set the task up anew",
        )

    def _continue(self, answer: Answer) -> None:
        state = self.state
        if self._stream is None:
            writer = self._insist(lambda: SpoolWriter(self._path("stream"), state.received_offset, self._shared.segment()))
            with self._lock:
                self._stream = writer
        if answer.replication_id and answer.replication_id != state.replication_id:
            self._log("continues as %s from offset %d" % (answer.replication_id, state.received_offset))
            state.replication_id = answer.replication_id
            # What is received now belongs to that history: asked for under the old name it could be refused.
            self._insist(self._shared.publish)
        self._tries, self._pause = 0, FIRST_PAUSE
        self._log("%s continues the stream at offset %d" % (self._at, state.received_offset))

    # -- snapshot -----------------------------------------------------------------------------------------------------

    def _path(self, kind: str) -> str:
        return os.path.join(self.folder, str(self.state.generation), kind)

    def _begin(self, command: str, answer: Answer) -> None:
        """Begin a generation with what the master granted."""
        self._close()
        old = self.state
        if old.generation and not old.snapshot_complete:
            shutil.rmtree(os.path.join(self.folder, str(old.generation)), ignore_errors=True)
        offset = max(answer.offset, 0)
        state = dataclasses.replace(
            old,
            state=WAITING,
            since=time.time(),
            generation=max([old.generation, *generations(self.folder)]) + 1,
            replication_id=answer.replication_id,
            command=command,
            snapshot_offset=offset,
            stream_db=None,
            snapshot_length=None,
            snapshot_received=0,
            snapshot_complete=False,
            snapshot_durable=False,
            received_offset=offset,
            durable_offset=offset,
            full_syncs=old.full_syncs + 1,
            error=None,
        )
        with self._lock:
            self.state = state
            self._ahead = None
        segment = self._shared.segment()
        snapshot = self._insist(lambda: SpoolWriter(self._path("snapshot"), 0, segment))
        stream = self._insist(lambda: SpoolWriter(self._path("stream"), offset, segment))
        with self._lock:
            self._snapshot, self._stream = snapshot, stream
        self._insist(self._shared.publish)
        self._log("%s gives a snapshot by %s, generation %d, offset %d" % (self._at, command, state.generation, offset))

    def _receive_snapshot(self, link: ReplicaLink) -> None:
        state, writer = self.state, self._snapshot
        if writer is None:
            raise LostError(str(self._at), "has no spool")
        for piece in link.payload():
            if state.state == WAITING:
                state.snapshot_length = link.length
                state.enter(SNAPSHOT)
                self._shared.changed()
            state.stream_db = link.stream_db
            self._store(writer, piece)
            state.snapshot_received = writer.position
            self._wake()
            self._await_room(writer)
        if self._shared.config.method != "full":
            self._acknowledge(link)
        state.snapshot_complete = True
        if self._shared.config.method != "full":
            state.enter(STREAMING)
        self._insist(self._shared.publish)
        self._wake()
        self._tries, self._pause = 0, FIRST_PAUSE
        remove_older(self.folder, state.generation)
        self._log("the snapshot is complete: %d bytes" % state.snapshot_received)

    # -- stream -------------------------------------------------------------------------------------------------------

    def _receive_stream(self, link: ReplicaLink) -> None:
        state, writer = self.state, self._stream
        if writer is None:
            raise LostError(str(self._at), "has no spool")
        state.error = None
        state.enter(STREAMING)
        self._shared.changed()
        self._acknowledge(link)
        while True:
            data = link.read_stream()
            if not data:
                raise LostError(str(self._at), "ended the replication stream", _LOST_REMEDY)
            self._store(writer, data)
            state.received_offset = writer.position
            self._wake()
            if b"GETACK" in data or time.monotonic() >= self._next_ack:
                self._acknowledge(link)
            self._await_room(writer)

    def _store(self, writer: SpoolWriter, data: bytes) -> None:
        self._shared.room -= len(data)
        self.held += len(data)
        try:
            writer.write(data)
        except FileError:
            self._insist(lambda: writer.write(data))

    def _await_room(self, writer: SpoolWriter) -> None:
        """Do not read on while the spools are full, but stay connected.

        What one stream fills the applier may only free when it has what another one brings: each has a share that is its own.
        """
        self._check()
        while self._shared.room <= 0 and self.held >= self._shared.share and self.state.received_offset >= self.needed:
            # Under a limit that was lowered meanwhile the last segment alone may be too much, and is never given back.
            with contextlib.suppress(FileError):
                writer.turn(self._shared.segment())
            self._idle()
            self._shared.stop.wait(_NAP)

    # -- for other threads --------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Bring what was received to the disk itself. FileError."""
        with self._lock:
            state, snapshot, stream = self.state, self._snapshot, self._stream
        if snapshot is not None and not state.snapshot_durable:
            complete = state.snapshot_complete
            snapshot.sync()
            state.snapshot_durable = complete
        if stream is not None and stream.position > state.durable_offset:
            state.durable_offset = stream.sync()

    def note_source_offset(self, offset: int, state: StreamState, received: int) -> None:
        """What the master said of its own offset; and the stream's ``state``, and what we had received, before it was asked.

        After SYNC nobody says where in the master's count our stream began. What was received cannot be more than what the master
        had sent, so the smallest difference ever seen is an upper bound of it, and the true one as soon as the link was once drained.
        """
        with self._lock:
            if state is not self.state:
                return
            if state.command == "SYNC":
                ahead = offset - received
                self._ahead = ahead if self._ahead is None else min(ahead, self._ahead)
                offset -= self._ahead
            state.source_offset, state.source_offset_at = offset, time.time()


_LOST_REMEDY = (
    "Its log tells why: client-output-buffer-limit or repl-timeout exceeded, a failover, a restart; nothing needs to be done while the "
    "stream continues"
)
