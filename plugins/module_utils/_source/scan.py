# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One master read key by key, with SCAN, DUMP and PTTL: for servers that give no replication stream.

What comes out is no snapshot: each key is as it was when it was read, and keys written meanwhile may be missing. Every key that exists
from the first to the last moment is in it, once (SCAN's own guarantee, and its repetitions are taken out here).

The server executes a whole pipeline before it notices that nobody reads, so what is asked for at once is bounded by bytes: sizes are
asked first (MEMORY USAGE), or guessed from what came before. A value of more than ``BIG`` bytes comes in parts.
"""

from __future__ import annotations

import struct
import time
from array import array
from hashlib import blake2b
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._codec.crc64 import crc64
from .._codec.resp import Argument, ErrorReply, command
from .._codec.slots import key_slot
from .._errors import LostError, MigrationError, ReplyError
from .._server.connect import reply_error
from .._server.endpoint import Address, Endpoint
from .._server.info import parse_info
from .._server.versions import RESERVED_PREFIX, Product
from .pipe import Pipe

# Bytes of values asked for at once: enough to keep the server busy over a round trip, little beside its memory.
WINDOW_BYTES = 8 << 20
# A value larger than this is handed on in parts of at most this size.
BIG = 8 << 20
# Keys per SCAN, and at most per window. More make replies long without saving round trips that count.
_COUNT = 500
# Keys in a window where the server does not tell sizes.
_BLIND_WINDOW = 64
# PTTL counts from the moment it is executed: the server's clock is read again after so many keys, some ms at most.
_TIME_EVERY = 16
_HANG_UPS = 3  # connections that have to end before it is no accident
_NO_DATABASE = 1 << 20  # a number that no server has
_FOOT = 10  # 2 bytes RDB version, 8 bytes CRC64
_DISABLED = ("unknown command", "unsupported command", "not allowed", "not supported", "disabled", "forbidden")


class ScanRefusedError(ReplyError):
    """SCAN or DUMP is not to be had either: nothing is left that could read the data."""


class Entry(NamedTuple):
    """One key. ``body`` is the value as in an RDB file, without the type byte; None where it comes as ``parts``.

    ``parts`` must be exhausted before the next entry is asked for. ``expire_ms`` is absolute, by the server's clock.
    """

    db: int
    key: bytes
    expire_ms: Optional[int]
    type_byte: int
    body: Optional[bytes]
    parts: Iterator[bytes] = iter(())


class Seen:
    """A set of keys that takes 24 to 48 bytes a key however long they are: an open hash table of 16-byte digests."""

    def __init__(self) -> None:
        self._count = 0
        self._make(1 << 10)

    def _make(self, size: int) -> None:
        self._mask = size - 1
        self._limit = size * 2 // 3
        self._high = array("Q", bytes(8 * size))
        self._low = array("Q", bytes(8 * size))

    def __len__(self) -> int:
        return self._count

    def add(self, key: bytes) -> bool:
        """Whether the key is new."""
        high, low = _PAIR.unpack(blake2b(key, digest_size=16).digest())
        if not self._put(high or 1, low):  # 0 marks a free place
            return False
        self._count += 1
        if self._count > self._limit:
            self._grow()
        return True

    def _put(self, high: int, low: int) -> bool:
        mask, highs, lows = self._mask, self._high, self._low
        place = low & mask
        while highs[place]:
            if lows[place] == low and highs[place] == high:
                return False
            place = (place + 1) & mask
        highs[place] = high
        lows[place] = low
        return True

    def _grow(self) -> None:
        highs, lows = self._high, self._low
        self._make(2 * (self._mask + 1))
        for high, low in zip(highs, lows):
            if high:
                self._put(high, low)


_PAIR = struct.Struct("<QQ")


class ScanSource:
    """Reads one server; a context manager. Counters: ``keys``, ``vanished``, ``repeated``, ``moved`` and ``bytes`` so far.

    ``slots``: what a cluster node owns (empty elsewhere), to ask rightly for keys of slots that are on the move. ``rdb_version``: as
    its payloads say, None before the first. ``read_only``: it is a replica. ``proxied``: a proxy, which may know fewer commands than the version
    behind it, and whose INFO may be that of one node.

    :raises ConnectError: not reachable; AuthError as well
    """

    def __init__(
        self,
        endpoint: Endpoint,
        address: Address,
        product: Product,
        slots: Sequence[Tuple[int, int]] = (),
        read_only: bool = False,
        warn: Callable[[str], None] = lambda _text: None,
        proxied: bool = False,
    ) -> None:
        self.address = address
        self.rdb_version: Optional[int] = None
        self.keys = 0
        self.vanished = 0
        self.repeated = 0
        self.moved = 0
        self.bytes = 0
        self._product = product
        self._slots = frozenset(slot for first, last in slots for slot in range(first, last + 1))
        self._warn = warn
        self._endpoint = endpoint
        self._proxied = proxied
        self._exact = product.compatible >= (7, 0) and not proxied
        self._has_time = bool(product.compatible) or not proxied
        self._sizes = product.compatible >= (4, 0)
        self._largest = WINDOW_BYTES // _BLIND_WINDOW
        self._now_ms = 0
        self._db = 0
        self._pipe = Pipe(endpoint, address)
        if read_only and self._slots:
            self._pipe.ask("READONLY")

    def __enter__(self) -> ScanSource:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pipe.close()

    def functions(self) -> List[bytes]:
        """The source text of every function library; a refusal is a warning."""
        if self._product.compatible < (7, 0):
            return []
        reply = self._pipe.ask("FUNCTION", "LIST", "WITHCODE")
        if isinstance(reply, ErrorReply):
            if b"unknown command" not in reply:  # products that never had functions
                self._warn("%s: functions are left out: %s" % (self.address, reply.decode("utf-8", "replace")))
            return []
        return [dict(zip(row[::2], row[1::2]))[b"library_code"] for row in reply]

    def count(self) -> Optional[int]:
        """Keys of every database by DBSIZE; None where that is refused."""
        databases = self._databases()
        return self._aside(lambda pipe: _count(pipe, databases))

    def entries(self) -> Iterator[Entry]:
        """Every key of every database.

        :raises ScanRefusedError: SCAN, DUMP or PTTL is disabled or forbidden
        :raises LostError: the connection ended
        """
        done: set = set()
        while True:
            # A database that came to life meanwhile is read as well.
            fresh = [db for db in self._databases() if db not in done]
            if not fresh:
                return
            for db in fresh:
                done.add(db)
                yield from self._database(db)

    def _databases(self) -> List[int]:
        reply = self._aside(lambda pipe: pipe.ask("INFO", "keyspace")) if self._proxied else self._pipe.ask("INFO", "keyspace")
        if isinstance(reply, bytes):
            info = parse_info(reply)
            if "keyspace" in info.sections:
                return sorted({item.db for item in info.keyspace()} | ({0} if self._proxied else set()))
        found, refusal = self._aside(_filled_databases) or ([0], b"")
        if refusal and not self._proxied:
            self._warn("%s: only database 0 is read, INFO and SELECT are refused: %s" % (self.address, refusal.decode("utf-8", "replace")))
        return found

    def _aside(self, ask: Callable[[Pipe], Any]) -> Any:
        """Ask on a connection of its own. A proxy may end it over a command that it does not know: None where it does each time."""
        for _attempt in range(_HANG_UPS):
            pipe = Pipe(self._endpoint, self.address)
            try:
                return ask(pipe)
            except LostError:
                if not self._proxied:
                    raise
            finally:
                pipe.close()
        return None

    def _database(self, db: int) -> Iterator[Entry]:
        self._select(db)
        seen = Seen()
        cursor = b"0"
        while True:
            cursor, keys = self._must("SCAN", cursor, "COUNT", _COUNT)
            new = []
            for key in keys:
                if not seen.add(key):
                    self.repeated += 1
                elif not key.startswith(RESERVED_PREFIX):
                    new.append(key)
            for window in self._windows(new):
                yield from self._read(db, window)
            if cursor == b"0":
                return

    def _select(self, db: int) -> None:
        if db != self._db:  # a new connection is in database 0; SELECT may be disabled
            self._must("SELECT", db)
            self._db = db

    def _must(self, *words: Argument) -> Any:
        reply = self._pipe.ask(*words)
        if isinstance(reply, ErrorReply):
            raise self._error(reply, str(words[0]))
        return reply

    # -- sizes ------------------------------------------------------------------------------------------------

    def _windows(self, keys: List[bytes]) -> Iterator[List[bytes]]:
        """The keys in groups whose values are about ``WINDOW_BYTES`` together."""
        sizes = self._ask_sizes(keys) if self._sizes else None
        window: List[bytes] = []
        total = 0
        for number, key in enumerate(keys):
            size = sizes[number] if sizes is not None else self._largest
            if window and total + size > WINDOW_BYTES:
                yield window
                window, total = [], 0
                if sizes is None:
                    size = self._largest
            window.append(key)
            total += size
        if window:
            yield window

    def _ask_sizes(self, keys: List[bytes]) -> Optional[List[int]]:
        """Bytes in the server's memory, which its payload hardly ever exceeds; None from the first refusal on."""
        self._pipe.send(b"".join([self._asking(key) + _SIZE % (len(key), key) for key in keys]))
        sizes = []
        for key in keys:
            if self._is_foreign(key):
                self._pipe.reply()
            reply = self._pipe.reply()
            if isinstance(reply, ErrorReply) and reply.code not in _ELSEWHERE:
                self._sizes = False
            sizes.append(reply if isinstance(reply, int) else 0)
        return sizes if self._sizes else None

    # -- values -----------------------------------------------------------------------------------------------

    def _is_foreign(self, key: bytes) -> bool:
        """Whether the key is here because its slot is being moved to this node."""
        return bool(self._slots) and key_slot(key) not in self._slots

    def _asking(self, key: bytes) -> bytes:
        return _ASKING if self._is_foreign(key) else b""

    def _read(self, db: int, keys: List[bytes]) -> Iterator[Entry]:
        """One window: expiry and payload of each key."""
        pipe = self._pipe
        ttl = b"PEXPIRETIME" if self._exact else b"PTTL"
        parts = []
        foreign = [self._is_foreign(key) for key in keys]
        for number, (key, moving) in enumerate(zip(keys, foreign)):
            if self._has_time and not self._exact and number % _TIME_EVERY == 0:
                parts.append(_TIME)
            size = len(key)
            parts.append((_ASKING_VALUE if moving else _VALUE) % (len(ttl), ttl, size, key, size, key))
        pipe.send(b"".join(parts))
        for number, (key, moving) in enumerate(zip(keys, foreign)):
            if not self._exact and number % _TIME_EVERY == 0:
                self._set_clock(pipe.reply() if self._has_time else None)
            entry = self._one(db, key, ttl.decode(), moving)
            if entry is not None:
                self.keys += 1
                yield entry

    def _one(self, db: int, key: bytes, ttl: str, moving: bool) -> Optional[Entry]:
        pipe = self._pipe
        if moving:
            pipe.reply()
        left = pipe.reply()
        if moving:
            pipe.reply()
        size = pipe.bulk_size()
        for reply, name in ((left, ttl), (size, "DUMP")):
            if isinstance(reply, ErrorReply):
                if reply.code in _ELSEWHERE:
                    self.moved += 1
                    return None
                raise self._error(reply, name, key)
        if size is None:
            self.vanished += 1
            return None
        self.bytes += size
        self._largest = max(size, self._largest * 7 // 8, 1)
        expire = None if left < 0 else left if self._exact else self._now_ms + left
        if size > BIG and self.rdb_version is not None:
            type_byte = pipe.take(1)[0]
            return Entry(db, key, expire, type_byte, None, self._parts(key, type_byte, size - 1 - _FOOT))
        payload = pipe.take(size)
        pipe.take(2)
        return Entry(db, key, expire, payload[0], self._checked(key, payload))

    def _set_clock(self, reply: Any) -> None:
        """What PTTL counts from: the server's clock, else ours."""
        if isinstance(reply, list) and len(reply) == 2:
            self._now_ms = int(reply[0]) * 1000 + int(reply[1]) // 1000
        else:
            self._now_ms = int(time.time() * 1000)

    def _checked(self, key: bytes, payload: bytes) -> bytes:
        """The body of a whole payload."""
        if len(payload) <= _FOOT:
            raise self._damaged(key, "it has %d bytes only" % len(payload))
        self._check_foot(key, payload[-_FOOT:], crc64(memoryview(payload)[:-8]))
        return payload[1:-_FOOT]

    def _parts(self, key: bytes, type_byte: int, size: int) -> Iterator[bytes]:
        """The body of a large payload, then its footer is checked."""
        crc = crc64(b"%c" % type_byte)
        while size:
            part = self._pipe.take(min(size, BIG))
            size -= len(part)
            crc = crc64(part, crc)
            yield part
        foot = self._pipe.take(_FOOT)
        self._pipe.take(2)
        self._check_foot(key, foot, crc64(foot[:2], crc))

    def _check_foot(self, key: bytes, foot: bytes, crc: int) -> None:
        version = int.from_bytes(foot[:2], "little")
        stored = int.from_bytes(foot[2:], "little")
        if stored and stored != crc:
            raise self._damaged(key, "its checksum is wrong")
        if self.rdb_version is None:
            self.rdb_version = version
        elif version > self.rdb_version:
            raise self._damaged(key, "its RDB version is %d after %d before" % (version, self.rdb_version))

    def _damaged(self, key: bytes, why: str) -> ReplyError:
        name = key[:200].decode("utf-8", "backslashreplace")
        return ReplyError(
            "%s, DUMP of key '%s'" % (self.address, name), "the value is damaged: %s" % why, "Look at the server and the network"
        )

    def _error(self, reply: ErrorReply, name: str, key: Optional[bytes] = None) -> MigrationError:
        text = reply.decode("utf-8", "replace")
        lower = text.lower()
        forbidden = text.startswith("NOPERM") and " access " not in lower  # keys out of reach are another matter
        if forbidden or any(part in lower for part in _DISABLED):
            return ScanRefusedError(
                "%s, %s" % (self.address, name),
                "the command is %s, so the keys cannot be read" % ("forbidden for this user" if forbidden else "disabled"),
                "Allow PSYNC, or SCAN with DUMP and PTTL; else have the provider export a backup file and import that",
            )
        return reply_error(text, self.address, name, key)

    def counters(self) -> Dict[str, int]:
        """How far it is."""
        return {name: getattr(self, name) for name in ("keys", "vanished", "repeated", "moved", "bytes")}


def _filled_databases(pipe: Pipe) -> Tuple[List[int], bytes]:
    """Where INFO does not tell: the databases that SELECT and DBSIZE know, and how SELECT is refused altogether (empty: it is not)."""
    reply = pipe.ask("SELECT", _NO_DATABASE)
    if not isinstance(reply, ErrorReply):
        return [0], b""  # it says OK to anything
    if reply.startswith(b"NOPERM") or any(part in reply.decode("utf-8", "replace").lower() for part in _DISABLED):
        return [0], reply
    found = []
    for db in range(_NO_DATABASE):
        if db and isinstance(pipe.ask("SELECT", db), ErrorReply):
            break
        if pipe.ask("DBSIZE") != 0:  # also where that is refused
            found.append(db)
    return found, b""


def _count(pipe: Pipe, databases: List[int]) -> Optional[int]:
    total = 0
    for db in databases:
        if db and isinstance(pipe.ask("SELECT", db), ErrorReply):
            return None
        reply = pipe.ask("DBSIZE")
        if not isinstance(reply, int):
            return None
        total += reply
    return total


# Framed here: a call for each command would be a third of the time that a key takes.
_SIZE = b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n$%d\r\n%b\r\n"
_ASKING = command("ASKING")
_TTL = b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_DUMP = b"*2\r\n$4\r\nDUMP\r\n$%d\r\n%b\r\n"
_VALUE = _TTL + _DUMP
_ASKING_VALUE = _ASKING + _TTL + _ASKING + _DUMP
# A key whose slot is being moved is on the other node by now.
_ELSEWHERE = (b"ASK", b"MOVED", b"TRYAGAIN")
_TIME = command("TIME")
