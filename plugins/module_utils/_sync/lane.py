# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A connection to one target master on which commands of streams go out in their order.

Unlike the lanes of an import nothing is ever sent twice here, and no reply is lost: each one is counted to the command it answers. What
an unexpected reply means is the business of :mod:`.dispatch`.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional

from .._codec.resp import ErrorReply, command
from .._server.connect import open_socket, reply_error
from .._server.endpoint import Address, Endpoint
from .._sink.lane import Lane, pump

try:
    import hiredis
except ImportError:  # the modules' import guard (_deps) reports it
    hiredis = None  # type: ignore[assignment]

_OK = b"+OK\r\n"
# More than one read brings: whole reads are compared with it.
_OKS = _OK * (80 << 10)
_MORE = object()

OnReply = Callable[[Any], None]
OnError = Callable[["Parcel", int, ErrorReply], None]
# Called before a database is selected; raises where the server does not have it.
Require = Callable[[int], None]


class Mark:
    """A position that a stream has reached once ``pending`` parcels are answered; ``db`` is what it has selected there."""

    __slots__ = ("end", "db", "pending")

    def __init__(self, end: int, db: int) -> None:
        self.end = end
        self.db = db
        self.pending = 0


class Parcel:
    """Commands of one write. ``suspects`` is the dispatcher, and what it doubts when the reply of that number is an error.

    ``watch`` wants the replies of certain numbers.

    ``plain``: each reply but an error is OK, so that a whole read of OKs can be counted without being parsed.
    """

    __slots__ = ("blob", "count", "done", "mark", "suspects", "watch", "plain", "sent_at")

    def __init__(
        self,
        blob: bytes,
        count: int,
        mark: Optional[Mark],
        suspects: Any,
        watch: Optional[Dict[int, OnReply]] = None,
        plain: bool = False,
    ) -> None:
        self.blob = blob
        self.count = count
        self.done = 0
        self.mark = mark
        self.suspects = suspects
        self.watch = watch
        self.plain = plain
        self.sent_at = time.monotonic()
        if mark is not None:
            mark.pending += 1

    # What :class:`.lane.Lane` asks of its own kind of batch.
    @property
    def size(self) -> int:
        return len(self.blob)

    @property
    def frames(self) -> range:
        return range(self.count)


class ApplyLane(Lane):
    """``name`` is the connection's for the server. ``heard_at``: when (monotonic) it last had nothing to wait for, or made progress."""

    def __init__(self, endpoint: Endpoint, address: Address, on_error: OnError, name: str, require: Require) -> None:
        super().__init__(open_socket(endpoint, address), address, _unused)
        self.drop_at_end()
        self._on_error = on_error
        self._require = require
        self._reader = hiredis.Reader(notEnoughData=_MORE, replyError=_error)
        self._frames: List[bytes] = []
        self._suspects: List[Any] = []
        self._watch: Dict[int, OnReply] = {}
        self.heard_at = time.monotonic()
        if name:
            # A server may refuse that.
            self.send(Parcel(command("CLIENT", "SETNAME", name), 1, None, None, {0: _whatever}))

    def add(self, db: int, frame: bytes, suspects: Any, watch: Optional[OnReply] = None) -> None:
        """Collect a command for ``db``; :meth:`flush` hands over what was collected. UsageError for a database that is not there."""
        if db != self._db:
            # Nobody waits for the answer to SELECT: where it fails, all that follows would go into another database.
            self._require(db)
            self._db = db
            self._frames.append(command("SELECT", db))
            self._suspects.append(())
        if watch is not None:
            self._watch[len(self._frames)] = watch
        self._frames.append(frame)
        self._suspects.append(suspects)

    def flush(self, mark: Optional[Mark], owner: Any) -> None:
        """Queue what was collected as one parcel of that dispatcher."""
        if self._frames:
            parcel = Parcel(b"".join(self._frames), len(self._frames), mark, (owner, self._suspects), self._watch or None)
            self._frames, self._suspects, self._watch = [], [], {}
            self.send(parcel)

    def send(self, parcel: Parcel) -> None:
        """Queue a parcel behind everything that was queued before."""
        self._out.append(memoryview(parcel.blob))
        self._sent.append(parcel)  # type: ignore[arg-type]
        self.in_flight += len(parcel.blob)

    def select(self, db: int) -> Optional[bytes]:
        """The SELECT that has to come before a command for ``db``; None where it is the database already. UsageError for one that is not there."""
        if db == self._db:
            return None
        self._require(db)
        self._db = db
        return command("SELECT", db)

    def _take(self, data: bytes) -> None:
        sent: Any = self._sent
        if self._rest:
            data = self._rest + data
            self._rest = b""
        # Where no reply is half read, a read of nothing but OKs holds one for each command.
        if sent and sent[0].plain and not self._reader.has_data():
            count = len(data) // 5
            if _OKS.startswith(data[: 5 * count]) and _OK.startswith(data[5 * count :]):
                self._rest = data[5 * count :]
                self._all_done(count)
                return
        reader = self._reader
        reader.feed(data)
        head = None
        try:
            for reply in iter(reader.gets, _MORE):
                if head is None:
                    if not sent:
                        raise self.lost("it sent a reply that nobody asked for: %r" % (reply,))
                    head = sent[0]
                if head.watch is not None:
                    wanted = head.watch.get(head.done)
                    if wanted is not None:
                        wanted(reply)
                    elif isinstance(reply, ErrorReply):
                        self._on_error(head, head.done, reply)
                elif isinstance(reply, ErrorReply):
                    self._on_error(head, head.done, reply)
                head.done += 1
                if head.done == head.count:
                    self._end(head)
                    head = None
        except hiredis.ProtocolError as exc:
            raise self.lost(str(exc)) from exc

    def _all_done(self, count: int) -> None:
        """``count`` commands were answered with OK."""
        sent: Any = self._sent
        while count:
            if not sent:
                raise self.lost("it sent a reply that nobody asked for")
            head = sent[0]
            step = min(count, head.count - head.done)
            if head.watch is not None:
                for number in range(head.done, head.done + step):
                    if number in head.watch:
                        head.watch[number](b"OK")
            head.done += step
            count -= step
            if head.done == head.count:
                self._end(head)

    def _end(self, parcel: Parcel) -> None:
        self._sent.popleft()
        self.in_flight -= len(parcel.blob)
        if parcel.mark is not None:
            parcel.mark.pending -= 1


def exchange(lane: ApplyLane, frames: List[bytes], db: int = 0) -> List[Any]:
    """Send commands that change nothing on a lane that has nothing under way; their replies, errors among them. ServerError."""
    replies: List[Any] = []
    head = lane.select(db)
    unit = frames if head is None else [head, *frames]
    lane.send(Parcel(b"".join(unit), len(unit), None, None, {number: replies.append for number in range(len(unit))}))
    pump([lane], 0)
    if head is None:
        return replies
    if isinstance(replies[0], ErrorReply):
        # The others speak of another database.
        raise reply_error(replies[0].decode("utf-8", "replace"), lane.address, "SELECT %d" % db)
    return replies[1:]


def _error(text: str) -> Any:
    return ErrorReply(text.encode("utf-8", "replace"))


def _unused(_lane: Lane, _db: int, _frame: bytes, _reply: Any) -> None:
    """Replies are dealt with in :meth:`ApplyLane._take`."""


def _whatever(_reply: Any) -> None:
    """No reply to this matters."""
