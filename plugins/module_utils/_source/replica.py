# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A connection that a master takes for a replica: the handshake, the snapshot, and the way to the stream behind it.

Source: ``src/replication.c`` in redis/redis and valkey-io/valkey; the framing is in ``_codec/psync.py``.

Choices made here, each tried with servers from 2.8 to Valkey 9.1:

* One command at a time: PSYNC is refused while replies wait ("SYNC and PSYNC are invalid with pending output").
* ``REPLCONF version``: Valkey 9 sends RDB version 11 to whoever does not name a version, and ends the sync at the first hash
  field with an expiry, which that version cannot hold. We say the highest there can be and get the server's own version.
* ``REPLCONF listening-port 0``: Sentinel and our own discovery take a replica with a port for one that can be asked.
* ``REPLCONF rdb-only 1`` (6.2 and later) for a mere backup: the master then keeps no buffer of writes for us that could
  overrun, and ends the connection itself. Nothing must be sent to it meanwhile: unread input would turn its close into a reset.
* A master never drops a replica that is receiving its snapshot for not speaking; only behind it do ACKs become due.
"""

from __future__ import annotations

import socket
import time
from typing import Callable, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

from .._codec import psync
from .._codec.errors import CodecError, TruncatedError
from .._codec.psync import Answer, LineReader, PayloadReader
from .._codec.events import Aux, Header
from .._codec.rdb import RdbScanner
from .._codec.resp import Argument, command
from .._errors import LostError, ReplyError
from .._server.connect import open_socket, reply_error, translate
from .._server.endpoint import Address, Endpoint

# Seconds without a single byte. Masters send a newline every second while they fork (every ten seconds up to Redis 2.8.17);
# 60 is also what replicas allow (repl-timeout).
SILENCE = 60.0
# Seconds in which a master may go on answering -LOADING or -NOMASTERLINK.
PATIENCE = 60.0
# Seconds between two calls of ``idle``.
TICK = 0.2
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
# Bytes for one recv: larger ones save system calls no more, smaller ones show at 1 GB/s.
_RECV = 256 << 10
_HIGHEST_VERSION = "255.255.255"
# The facts at the start of a snapshot fit in here, ``repl-stream-db`` among them.
_HEAD = 4096


class SyncRefusedError(ReplyError):
    """The server does not give a replication stream to this login (command renamed, disabled, forbidden, or not a Redis master).

    Something else has to read the data. ``why`` is the reason in words; ``answered`` is False where the connection ended instead of an
    answer, which may have other causes as well.
    """

    answered = True


class FullSync(NamedTuple):
    """What was agreed on. ``command`` is PSYNC or SYNC; SYNC tells neither ID (empty) nor offset (-1)."""

    command: str
    replication_id: str
    offset: int


def _ignore(_message: str) -> None:
    """For callers that do not want to hear about waiting."""


class ReplicaLink:
    """One connection to ``address``, open and logged in; a context manager.

    ``snapshot_only``: ask for no writes after the snapshot. ``silence``: seconds. ``idle`` is called every ``TICK`` seconds while nothing
    comes, in every phase, and may raise to leave. Errors of every method: LostError (ended or silent), and those named there.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        address: Address,
        snapshot_only: bool = False,
        silence: float = SILENCE,
        idle: Optional[Callable[[], None]] = None,
    ) -> None:
        self.address = address
        self.stream_db: Optional[int] = None
        self.length: Optional[int] = None
        self._snapshot_only = snapshot_only
        self._silence = silence
        self._lines = LineReader()
        self._payload = PayloadReader()
        self._pieces: List[bytes] = []
        self._rest = b""
        self._head = b""
        self._idle = idle
        self._tick = silence if idle is None else min(TICK, silence)
        self._sock = open_socket(endpoint, address, self._tick)

    def __enter__(self) -> ReplicaLink:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a master that still sends notices and stops."""
        self._sock.close()

    # -- handshake --------------------------------------------------------------------------------------------

    def introduce(self) -> None:
        """REPLCONF, as replicas do. Its errors mean that the master is older than what it says, and are not fatal.

        :raises SyncRefusedError: this user may not use REPLCONF, or the server ends the connection over it
        """
        words: Tuple[Tuple[str, ...], ...] = (
            ("listening-port", "0"),
            ("capa", "eof", "capa", "psync2"),
            ("version", _HIGHEST_VERSION),
        )
        if self._snapshot_only:
            words += (("rdb-only", "1"),)
        for arguments in words:
            line = self._ask("REPLCONF", *arguments)
            if line.startswith(b"-NOPERM"):
                raise self._refused("this user may not use REPLCONF")

    def psync(self, replication_id: str = "?", offset: int = -1) -> Answer:
        """Ask for the stream after ``offset`` of that history; by default for everything. Answers as they are, LATER too.

        :raises SyncRefusedError: the server refuses, by a line or by ending the connection
        """
        answer = psync.read_answer(self._ask("PSYNC", replication_id, offset + 1 if offset >= 0 else -1))
        if answer.kind == psync.REFUSED:
            raise self._refused(_reason("PSYNC", answer.text))
        return answer

    def sync(self) -> Answer:
        """The command before there was PSYNC: its answer is the payload itself, so this waits until that begins (or LATER).

        :raises SyncRefusedError: the server refuses, by a line or by ending the connection
        :raises ReplyError: the answer is no snapshot
        """
        self._send("SYNC")
        try:
            error = self._await_payload()
        except LostError as exc:
            raise self._refused("%s over SYNC" % exc.why, answered=False) from exc
        if error is None:
            return Answer(psync.FULL, "")
        answer = psync.read_answer(b"-" + error.encode())
        if answer.kind == psync.REFUSED:
            raise self._refused(_reason("SYNC", error))
        return answer

    def _ask(self, *words: Argument) -> bytes:
        """Send one command, wait for its line; a connection that ends instead is a refusal."""
        try:
            self._send(*words)
            return self._line()
        except LostError as exc:
            raise self._refused("%s over %s" % (exc.why, words[0]), answered=False) from exc
        except CodecError as exc:
            raise self._refused("the server answered %s with something else (%s)" % (words[0], exc.reason)) from exc

    def _send(self, *words: Argument) -> None:
        try:
            self._sock.sendall(command(*words))
        except OSError as exc:
            self._fail(exc)

    def _line(self) -> bytes:
        while True:
            line = self._lines.line()
            if line is not None:
                return line
            data = self._receive()
            if not data:
                raise LostError(str(self.address), "closed the connection")
            self._lines.feed(data)

    def _refused(self, why: str, answered: bool = True) -> SyncRefusedError:
        error = SyncRefusedError(
            str(self.address), why, "Allow PSYNC, SYNC and REPLCONF for this user, or use a method that reads the keys (scan)"
        )
        error.answered = answered
        return error

    # -- snapshot ---------------------------------------------------------------------------------------------

    def payload(self) -> Iterator[bytes]:
        """The snapshot in pieces of at most some 100 KB.

        ``length`` (None where only the end mark tells) is known with the first piece, ``stream_db`` too; after the last one,
        ``read_stream`` goes on behind it.

        :raises ReplyError: the answer is no snapshot
        """
        reader = self._payload
        error = self._await_payload()
        if error is not None:
            raise reply_error(error, self.address, "PSYNC")
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                self._note_head(piece)
                yield piece
            if reader.done:
                self._rest = reader.rest
                return
            self._feed_payload()

    def _await_payload(self) -> Optional[str]:
        """Wait, as long as newlines come, until the payload begins; the error line that came instead of it."""
        reader = self._payload
        data = self._lines.take_rest()
        if data:
            self._pieces += reader.feed(data)
        while not reader.begun and reader.error is None:
            self._feed_payload()
        self.length = reader.length
        return reader.error

    def _feed_payload(self) -> None:
        reader = self._payload
        try:
            data = self._receive()
            if data:
                self._pieces += reader.feed(data)
            else:
                reader.close()
        except TruncatedError as exc:
            raise LostError(str(self.address), exc.reason, _LOST_REMEDY) from exc
        except CodecError as exc:
            raise ReplyError(str(self.address), exc.reason, "Check that the address is that of a Redis server") from exc

    def _note_head(self, piece: bytes) -> None:
        """Look for the database that the stream begins in, without which its first commands cannot be placed."""
        if self.stream_db is not None or len(self._head) >= _HEAD:
            return
        self._head += piece[: _HEAD - len(self._head)]
        self.stream_db = stream_db(self._head)

    # -- behind the snapshot ----------------------------------------------------------------------------------

    def acknowledge(self, offset: int) -> None:
        """Tell the master how far the stream was received; it starts sending a stream after the first of these."""
        self._send("REPLCONF", "ACK", offset)

    def read_stream(self) -> bytes:
        """The next bytes of the stream, empty at its end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        rest = self._lines.take_rest()
        return rest or self._receive()

    def _receive(self) -> bytes:
        waited = 0.0
        while True:
            try:
                return self._sock.recv(_RECV)
            except socket.timeout as exc:
                # A TLS record that came in part is kept by the socket: asking again goes on with it.
                waited += self._tick
                if self._idle is None or waited >= self._silence:
                    self._fail(exc)
                self._idle()
            except OSError as exc:
                self._fail(exc)

    def _fail(self, exc: OSError) -> NoReturn:
        if isinstance(exc, socket.timeout):
            raise LostError(
                str(self.address),
                "sent nothing for %d seconds during the synchronisation" % self._silence,
                "Look at the log of the server and at firewalls that drop idle connections",
            ) from exc
        error = translate(exc, self.address)
        raise LostError(error.what, error.why, _LOST_REMEDY) from exc


_LOST_REMEDY = (
    "Its log tells why: a fork that failed, client-output-buffer-limit or repl-timeout exceeded, a failover. Mend that and run again"
)


def stream_db(head: bytes) -> Optional[int]:
    """``repl-stream-db`` of a snapshot that begins with ``head``; None where it is not in there (yet)."""
    try:
        for event in RdbScanner().feed(head):
            if isinstance(event, Aux):
                if event.key == b"repl-stream-db":
                    return int(event.value)
            elif not isinstance(event, Header):
                break
    except (CodecError, ValueError):
        pass  # whoever reads the snapshot itself will tell
    return None


def _reason(name: str, text: str) -> str:
    lower = text.lower()
    if text.startswith("NOPERM"):
        return "this user may not use %s" % name
    if "unknown command" in lower or "unsupported command" in lower:
        return "%s is disabled or renamed" % name
    return "%s is refused: %s" % (name, text[:200])


def open_full_sync(
    endpoint: Endpoint,
    address: Address,
    snapshot_only: bool = False,
    silence: float = SILENCE,
    patience: float = PATIENCE,
    report: Callable[[str], None] = _ignore,
) -> Tuple[ReplicaLink, FullSync]:
    """Connect and get a full synchronisation granted: by PSYNC, else by SYNC. Read ``link.payload()`` next, then close the link.

    A server that is loading or has lost its master is asked again for ``patience`` seconds, with growing pauses; ``report`` hears of
    each of these, and of the step from PSYNC to SYNC.

    :raises SyncRefusedError: neither is to be had; ``why`` names both reasons
    :raises ReplyError: still not ready after ``patience`` seconds, or no Redis
    :raises ConnectError: not reachable; AuthError as well
    """
    request = _Request(endpoint, address, snapshot_only, silence, patience, report)
    try:
        return request.granted("PSYNC")
    except SyncRefusedError as exc:
        refusal = exc
    report("%s: %s; trying SYNC" % (address, refusal.why))
    try:
        return request.granted("SYNC")
    except SyncRefusedError as exc:
        why = refusal.why if exc.why == refusal.why else "%s; %s" % (refusal.why, exc.why)
        raise SyncRefusedError(exc.what, why, exc.remedy) from exc


class _Request(NamedTuple):
    """What :func:`open_full_sync` was asked for."""

    endpoint: Endpoint
    address: Address
    snapshot_only: bool
    silence: float
    patience: float
    report: Callable[[str], None]

    def granted(self, name: str) -> Tuple[ReplicaLink, FullSync]:
        """Ask by PSYNC or SYNC, as often as the server says "later"."""
        deadline = time.monotonic() + self.patience
        pause = _FIRST_PAUSE
        attempts = 0
        while True:
            attempts += 1
            link, answer = self._ask(name)
            if answer.kind == psync.FULL:
                return link, FullSync(name, answer.replication_id, answer.offset)
            link.close()
            if answer.kind == psync.CONTINUE:
                raise ReplyError(str(self.address), "continues a stream that was never begun (%s)" % answer.text)
            if time.monotonic() + pause > deadline:
                error = reply_error(answer.text, self.address, name)
                raise ReplyError(
                    error.what, "%s, asked %d times in %d seconds" % (error.why, attempts, self.patience), error.remedy
                )
            self.report("%s: %s; asking again in %g s" % (self.address, answer.text, pause))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _ask(self, name: str) -> Tuple[ReplicaLink, Answer]:
        link = ReplicaLink(self.endpoint, self.address, self.snapshot_only, self.silence)
        try:
            link.introduce()
            return link, link.psync() if name == "PSYNC" else link.sync()
        except BaseException:
            link.close()
            raise
