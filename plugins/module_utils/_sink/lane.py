# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One ordered, pipelined connection to one target master.

A lane keeps what it sent until it is answered: an error reply can name its key, and a command that was redirected or
cut off can be sent again. Every frame is one command and gets exactly one reply.

Nothing is sent behind a SELECT before its OK: a server that refuses it would do what follows in the database before.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections import deque
from typing import Any, Callable, Deque, Iterable, List, Optional, Sequence

from .._codec.errors import CodecError, TruncatedError
from .._codec.resp import Block, ErrorReply, arguments, command, read_reply
from .._errors import LostError, ServerError
from .._server.endpoint import Address
from .._server.replies import reply_error

# Called for every reply but +OK with (lane, db, frame, reply).
OnReply = Callable[["Lane", int, bytes, Any], None]

# Unanswered bytes per lane. The server must never run dry while the next chunk is parsed (10 ms a MiB); more than a few
# MiB only costs memory here and query buffer there.
WINDOW = 4 << 20
# Frames smaller than this on average are joined into one write: a system call costs about as much as framing 20 small keys.
_SMALL = 32 << 10
# A server that neither reads nor answers for this long (seconds) is taken for lost. Longer than a slow RESTORE of a big key.
SILENCE = 60.0
_READ = 256 << 10
# Answers that ask for patience, and how long (seconds) the target may ask for it before that becomes an error.
LATER = (b"TRYAGAIN", b"CLUSTERDOWN", b"LOADING", b"MASTERDOWN", b"BUSY")
PATIENCE = 30.0
# Seconds between two tries.
PAUSE = 0.02
_OK = b"+OK\r\n"
_AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_KEYS_WRITTEN = {b"RESTORE": 1, b"SET": 1, b"RESTORE-ASKING": 1}


def keys_in(frame: bytes) -> int:
    """How many keys this frame writes when it is answered with OK."""
    parts = frame[:32].split(b"\r\n", 3)
    if len(parts) < 3:
        return 0
    if parts[2] == b"MSET":
        return (int(parts[0][1:]) - 1) // 2
    return _KEYS_WRITTEN.get(parts[2], 0)


class _Sent:
    """Frames of one write that wait for their replies; a ``gate`` is a SELECT, behind which the rest waits for its OK."""

    __slots__ = ("frames", "keys", "db", "size", "done", "replies", "gate")

    def __init__(self, frames: Sequence[bytes], keys: int, db: int, replies: Optional[List[Any]], gate: bool = False) -> None:
        self.frames = frames
        self.keys = keys
        self.db = db
        self.size = len(frames.raw) if isinstance(frames, Block) else sum(map(len, frames))
        self.done = 0
        self.replies = replies
        self.gate = gate


class Lane:
    """``keys`` counts the keys written and acknowledged, ``in_flight`` the unanswered bytes; ``broken`` after a LostError."""

    def __init__(self, sock: socket.socket, address: Address, on_reply: OnReply) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = address
        self.in_flight = 0
        # Bytes that the socket took, ever.
        self.pushed = 0
        self.broken = False
        self._keys = 0
        self._db = 0
        self._sock = sock
        self._on_reply = on_reply
        self._out: Deque[memoryview] = deque()
        self._sent: Deque[_Sent] = deque()
        # Behind a gate that has no answer yet, and since when (monotonic) that was refused.
        self._held: Deque[_Sent] = deque()
        self._gated = False
        self._refused_at = 0.0
        self._rest = b""

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def keys(self) -> int:
        """Keys written and acknowledged so far."""
        if not self._sent:
            return self._keys
        head = self._sent[0]
        if isinstance(head.frames, Block):
            # One key each, and one that was refused is taken off already: no need to take it apart.
            return self._keys + head.keys - (len(head.frames) - head.done)
        return self._keys + head.keys - sum(map(keys_in, head.frames[head.done :]))

    @property
    def wants_to_send(self) -> bool:
        return bool(self._out)

    def queue(self, frames: Sequence[bytes], keys: int, db: int = 0, replies: Optional[List[Any]] = None) -> None:
        """Take frames for ``db`` that write ``keys`` keys when all are answered with OK; each of a :class:`Block` writes one.

        With ``replies`` every reply goes there and none to the callback.
        """
        if not frames:
            return
        self._select(db)
        self._append(_Sent(frames, keys, db, replies))

    def _select(self, db: int) -> None:
        if db != self._db:
            self._db = db
            self._append(_Sent([command("SELECT", db)], 0, db, None, gate=True))

    def _append(self, sent: _Sent) -> None:
        self.in_flight += sent.size
        if self._gated:
            self._held.append(sent)
        else:
            self._send(sent)

    def _send(self, sent: _Sent) -> None:
        frames = sent.frames
        if isinstance(frames, Block):
            self._out.append(memoryview(frames.raw))
        else:
            # Joining large ones would only copy them.
            self._out.extend(map(memoryview, [b"".join(frames)] if sent.size < _SMALL * len(frames) else frames))
        self._sent.append(sent)
        self._gated = sent.gate

    def hand_over(self, other: Lane) -> None:
        """Queue on ``other`` what has no reply here, in the same order, and the count of keys."""
        other._keys += self.keys
        for sent in (*self._sent, *self._held):
            if not sent.gate:
                frames = sent.frames[sent.done :]
                other.queue(frames, sum(map(keys_in, frames)), sent.db, sent.replies)

    def on_the_same_key(self) -> List[bytes]:
        """For the callback: the frames of this write, in order, that are on the key of the one that is answered now, and stand beside it."""
        head = self._sent[0]
        frames, key = head.frames, arguments(head.frames[head.done])[1]
        first, end = head.done, head.done + 1
        while first > 0 and arguments(frames[first - 1])[1] == key:
            first -= 1
        while end < len(frames) and arguments(frames[end])[1] == key:
            end += 1
        return list(frames[first:end])

    def push(self) -> None:
        """Send what the socket takes without waiting; LostError."""
        out = self._out
        try:
            while out:
                view = out[0]
                count = self._sock.send(view)
                self.pushed += count
                if count < len(view):
                    out[0] = view[count:]
                else:
                    out.popleft()
        except _AGAIN:
            return
        except OSError as exc:
            self._last_words(exc)

    def pull(self) -> None:
        """Take the replies that are there without waiting; LostError."""
        while True:
            try:
                data = self._sock.recv(_READ)
            except _AGAIN:
                return
            except OSError as exc:
                raise self.lost(str(exc)) from exc
            if not data:
                raise self.lost("the server closed it")
            self._take(data)
            if len(data) < _READ:
                return

    def drop_at_end(self) -> None:
        """Let nothing that is still unsent when this connection or this process ends reach the server any more."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._sock.close()

    def _last_words(self, exc: OSError) -> None:
        """The server may have said why before it went: read that first."""
        self._sock.settimeout(1.0)
        try:
            while True:
                data = self._sock.recv(_READ)
                if not data:
                    break
                self._take(data)
        except (OSError, CodecError):
            pass
        raise self.lost(str(exc)) from exc

    def lost(self, why: str) -> LostError:
        """The error for a connection that ended; the lane is broken from now on."""
        self.broken = True
        waiting = sum(len(sent.frames) - sent.done for sent in (*self._sent, *self._held))
        return LostError(
            str(self.address),
            "the connection ended (%s) while %d commands were unanswered" % (why, waiting),
            "Check that the server is up and see its log; run again to complete",
        )

    def _take(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        count = data.count(_OK)
        # A whole read of OKs, the rule in a snapshot, is counted and never parsed.
        if 5 * count == len(data) and not (self._sent and self._sent[0].replies is not None):
            self._rest = b""
            self._advance(count)
            return
        pos = 0
        try:
            while pos < len(data):
                reply, pos = read_reply(data, pos)
                self._answer(reply)
        except TruncatedError:
            pass
        except CodecError as exc:
            raise self.lost(exc.reason) from exc
        self._rest = data[pos:]

    def _advance(self, count: int) -> None:
        """``count`` frames were answered with OK."""
        while count:
            if not self._sent:
                raise self.lost("it sent a reply that nobody asked for")
            head = self._sent[0]
            if head.replies is not None:
                head.replies.extend([b"OK"] * min(count, len(head.frames) - head.done))
            left = len(head.frames) - head.done
            if count < left:
                head.done += count
                return
            count -= left
            self._finish(head)

    def _answer(self, reply: Any) -> None:
        if not self._sent:
            raise self.lost("it sent a reply that nobody asked for: %r" % (reply,))
        head = self._sent[0]
        if head.gate and reply != b"OK":
            self._not_selected(head, reply)
            return
        if head.replies is not None:
            head.replies.append(reply)
        elif reply != b"OK":
            frame = head.frames[head.done]
            head.keys -= keys_in(frame)
            self._on_reply(self, head.db, frame, reply)
        head.done += 1
        if head.done == len(head.frames):
            self._finish(head)

    def _finish(self, head: _Sent) -> None:
        self._sent.popleft()
        self._keys += head.keys
        self.in_flight -= head.size
        if head.gate:
            self._open_gate()

    def _open_gate(self) -> None:
        """The database is selected: send what waits for it, up to the next one."""
        self._gated = False
        self._refused_at = 0.0
        while self._held and not self._gated:
            self._send(self._held.popleft())

    def _not_selected(self, head: Any, reply: Any) -> None:
        """A SELECT was refused: try again where that asks for patience, else ServerError; what waits for it is never sent."""
        now = time.monotonic()
        self._refused_at = self._refused_at or now
        if isinstance(reply, ErrorReply) and reply.code in LATER and now - self._refused_at < PATIENCE:
            time.sleep(PAUSE)
            self._out.append(memoryview(head.frames[0]))
            return
        self.in_flight -= head.size + sum(sent.size for sent in self._held)
        self._sent.popleft()
        self._held.clear()
        self._gated = False
        self._rest = b""
        # None that exists: whatever comes next selects its own.
        self._db = -1
        raise no_database(self.address, head.db, reply)


def no_database(address: Address, db: int, reply: Any) -> ServerError:
    """The error for a database that cannot be selected."""
    text = reply if isinstance(reply, bytes) else b"%d" % reply if isinstance(reply, int) else b"nil"
    error = reply_error(text.decode("utf-8", "replace"), address, "SELECT %d" % db)
    return type(error)(
        "%s, database %d" % (address, db),
        "cannot be selected: %s" % error.why,
        "Set db_map to send its keys to a database that can be, or databases to those you want",
    )


def pump(lanes: Iterable[Lane], limit: int, silence: float = SILENCE) -> None:
    """Send and receive until no lane has more than ``limit`` bytes unanswered.

    LostError when a connection ends, or when a lane that is over the limit makes no progress for ``silence`` seconds.
    """
    lanes = list(lanes)
    deadline = time.monotonic() + silence
    while True:
        moved = False
        busy = []
        for lane in lanes:
            before = (lane.in_flight, lane.pushed)
            lane.push()
            lane.pull()
            moved = moved or before != (lane.in_flight, lane.pushed)
            if lane.in_flight > limit:
                busy.append(lane)
        if not busy:
            return
        if moved:
            deadline = time.monotonic() + silence
        poller = select.poll()
        for lane in lanes:
            poller.register(lane.fileno(), select.POLLIN | (select.POLLOUT if lane.wants_to_send else 0))
        left = deadline - time.monotonic()
        if left <= 0:
            raise busy[0].lost("no answer for %d seconds" % silence)
        poller.poll(min(left, 1.0) * 1000)


def call(lane: Lane, frames: List[bytes], db: int = 0) -> List[Any]:
    """Send commands behind everything that is under way on the lane, and wait for their replies."""
    replies: List[Any] = []
    lane.queue(frames, 0, db, replies)
    pump([lane], 0)
    return replies
