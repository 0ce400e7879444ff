# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Copies of single keys from the source, taken at a known offset: fences.

A key and the offset at which it was copied stand for all commands on it up to there: these are dropped from then on. That is what is done
for every command that cannot be forwarded as it is, that was answered in an unexpected way, or of which nobody knows whether it was done.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._codec import payload
from .._codec.errors import CodecError, UnsupportedError
from .._codec.resp import ErrorReply, command
from .._codec.slots import key_slot
from .._codec.types import dialect_of
from .._errors import FileError, LostError, ReplyError, ServerError, UnsupportedTypeError
from .._server.connect import reply_error
from .._server.endpoint import Address, Endpoint
from .._server.info import parse_info
from .._server.versions import RESERVED_PREFIX, Product
from .._sink.frames import Framer, show
from .._sink.target import Target
from .lane import ApplyLane, Parcel, exchange

# Database of the source, key.
Place = Tuple[int, bytes]
# Of a fence whose copy is still to be made: everything is dropped meanwhile.
PENDING = float("inf")
# Where a source that was asked by SYNC publishes markers; nobody subscribes.
CHANNEL = RESERVED_PREFIX + b"offset"
# Keys per transaction on the source: a few milliseconds of its time when they are small.
_KEYS = 64
_PEXPIRETIME_SINCE = (7, 0)


class MovedError(LostError):
    """The source's master does not own the slot any more, or not all of it."""

    def __init__(self, what: str, why: str, slot: int) -> None:
        super().__init__(what, why, "Wait for the resharding to end")
        self.slot = slot


class Copy(NamedTuple):
    """``payload`` None: no such key; ``expire_ms`` since 1970, None for no expiry."""

    payload: Optional[bytes]
    expire_ms: Optional[int]


class Copied(NamedTuple):
    """Keys, the replication ID and the offset at which they were read, and their copies."""

    keys: Sequence[bytes]
    history: str
    offset: int
    copies: List[Copy]


class Source:
    """Reads keys of one source master at a known offset; connects when first asked."""

    def __init__(self, endpoint: Endpoint, address: Address, product: Product, clustered: bool) -> None:
        self.address = address
        self._clustered = clustered
        self._endpoint = endpoint
        self._exact = product.compatible >= _PEXPIRETIME_SINCE and product.name != "keydb"
        self._lane: Optional[ApplyLane] = None

    def close(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def offset(self) -> Tuple[str, int]:
        """Replication ID (empty where the server tells none, before Redis 4.0) and offset now. ServerError."""
        return self._state(self._call([command("INFO", "replication")])[0])

    def histories(self) -> Tuple[Tuple[str, str], int]:
        """The replication ID and the one before the last failover, and up to which offset both are the same. ServerError."""
        info = parse_info(self.ask([command("INFO", "replication")])[0])
        return (info.text("master_replid"), info.text("master_replid2")), (info.number("second_repl_offset") or 0) - 1

    def copies(self, db: int, keys: Sequence[bytes], marker: Optional[bytes] = None) -> List[Copied]:
        """What these keys held, in groups that were read at one offset. ServerError; MovedError.

        ``marker``: published in the same moment, for a stream whose offsets nobody tells.
        """
        groups: List[List[bytes]] = [list(keys)]
        if self._clustered:
            by_slot: Dict[int, List[bytes]] = {}
            for key in keys:
                by_slot.setdefault(key_slot(key), []).append(key)
            groups = list(by_slot.values())
        units = [self._unit(group, marker) for group in groups]
        replies = self._call([frame for unit in units for frame in unit], db)
        found = []
        first = 0
        for group, unit in zip(groups, units):
            part = replies[first : first + len(unit)]
            first += len(unit)
            for frame, reply in zip(unit, part):
                if isinstance(reply, ErrorReply):
                    raise self._refused(frame, reply, group[0])
            found.append(self._copied(group, part[-1]))
        return found

    def mark(self, marker: bytes) -> None:
        """Let the stream show where it is now. ServerError."""
        self.ask([command("PUBLISH", CHANNEL, marker)])

    def _unit(self, keys: Sequence[bytes], marker: Optional[bytes]) -> List[bytes]:
        frames = [command("MULTI")]
        for key in keys:
            # Where the moment itself is not told, the clock is read beside what is left.
            times = [command("PEXPIRETIME", key)] if self._exact else [command("PTTL", key), command("TIME")]
            frames += (*times, command("DUMP", key))
        if marker is not None:
            frames.append(command("PUBLISH", CHANNEL, marker))
        return [*frames, command("INFO", "replication"), command("EXEC")]

    def _copied(self, keys: Sequence[bytes], replies: List[Any]) -> Copied:
        *values, info = replies
        step = 2 if self._exact else 3
        copies = []
        for number, key in enumerate(keys):
            part = values[step * number : step * (number + 1)]
            for reply in part:
                if isinstance(reply, ErrorReply):
                    raise self._refused(command("DUMP", key), reply, key)
            expiry = None if part[0] < 0 else part[0]
            if expiry is not None and not self._exact:
                expiry += int(part[1][0]) * 1000 + int(part[1][1]) // 1000
            copies.append(Copy(part[-1], expiry))
        return Copied(keys, *self._state(info), copies)

    def ask(self, frames: List[bytes], db: int = 0) -> List[Any]:
        """Replies to commands that change nothing. ServerError."""
        replies = self._call(frames, db)
        for frame, reply in zip(frames, replies):
            if isinstance(reply, ErrorReply):
                raise self._refused(frame, reply)
        return replies

    def _call(self, frames: List[bytes], db: int = 0) -> List[Any]:
        if self._lane is None:
            self._lane = ApplyLane(self._endpoint, self.address, _unused, "", _anything)
        try:
            return exchange(self._lane, frames, db)
        except ServerError:
            self.close()
            raise

    def _state(self, text: bytes) -> Tuple[str, int]:
        if isinstance(text, ErrorReply):
            raise self._refused(command("INFO"), text)
        info = parse_info(text)
        if info.text("role") == "slave":
            raise LostError(str(self.address), "is no master any more", "Wait for the failover to end")
        return info.text("master_replid"), info.number("master_repl_offset") or 0

    def _refused(self, frame: bytes, reply: ErrorReply, key: Optional[bytes] = None) -> Exception:
        if key is not None and reply.code in (b"MOVED", b"ASK", b"TRYAGAIN", b"EXECABORT"):
            return MovedError(str(self.address), "answered %s" % reply.decode("utf-8", "replace"), key_slot(key))
        if reply.code == b"MOVED":
            return LostError(str(self.address), "answered %s" % reply.decode("utf-8", "replace"), "Wait for the resharding to end")
        error = reply_error(reply.decode("utf-8", "replace"), self.address, frame.split(b"\r\n")[2].decode("ascii", "replace"))
        if isinstance(error, ReplyError) or not error.remedy:
            error.remedy = error.remedy or "Allow MULTI, EXEC, DUMP, PTTL, TIME and INFO for this user on the source"
        return error


def _unused(_parcel: Parcel, _number: int, _reply: ErrorReply) -> None:
    """Every reply is asked for."""


def _anything(_db: int) -> None:
    """The reply to SELECT is asked for, too."""


def commands_of(endpoint: Endpoint, masters: Sequence[Address]) -> List[Any]:
    """What the source tells of its commands, those of modules among them; nothing where it may not. ServerError."""
    for address in masters:
        lane = ApplyLane(endpoint, address, _unused, "", _anything)
        try:
            reply = exchange(lane, [command("COMMAND")])[0]
        finally:
            lane.close()
        if isinstance(reply, list):
            return reply
    return []


def chunks(places: Iterable[Place]) -> Iterator[Tuple[int, List[bytes]]]:
    """Keys by database, in numbers that one transaction may have."""
    by_db: Dict[int, List[bytes]] = {}
    for db, key in places:
        by_db.setdefault(db, []).append(key)
    for db, keys in by_db.items():
        for first in range(0, len(keys), _KEYS):
            yield db, keys[first : first + _KEYS]


class Writer:
    """Puts copies into the target, whatever was there, and waits until they are."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._framer = Framer(target.dialect, "replace", target.now_ms, False, target.name)

    def write(self, db: int, copies: Sequence[Tuple[bytes, Copy]]) -> None:
        """``db`` is the target's. ServerError, UnsupportedTypeError."""
        self._target.send([(key, self._frames(db, key, copied)) for key, copied in copies], db)

    def _frames(self, db: int, key: bytes, copied: Copy) -> List[bytes]:
        if copied.payload is None:
            return [command("DEL", key)]
        # Whether its time has come is for the target to say: somebody may have set its clock since it was looked at.
        what = "%s, key %s in db %d" % (self._target.name, show(key), db)
        dialect = self._target.dialect
        try:
            kind, body, version = payload.split(copied.payload)
            source = dialect_of(version)
            if version != dialect.rdb_version or source != dialect.name:
                kind, body = payload.convert(kind, body, dialect.rdb_version, dialect.name, source)
        except UnsupportedError as exc:
            raise UnsupportedTypeError(
                what, "the target cannot hold it: %s" % exc.reason, "Migrate to a target that has this type, or leave the key out with exclude_keys"
            ) from exc
        except CodecError as exc:
            raise FileError(what, "its DUMP cannot be read: %s" % exc.reason, "Report this defect") from exc
        return self._framer.restore_frames(key, kind, body, copied.expire_ms, None, self._target.now_ms())
