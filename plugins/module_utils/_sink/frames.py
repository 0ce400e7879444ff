# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Entries of a snapshot into commands for one kind of target.

A framer turns the slices that the scanner found into complete commands, one reply each, and knows neither sockets nor
slots. Plain strings go as MSET or SET, which servers take faster than RESTORE and which need no checksum; everything else as
RESTORE of the bytes as they are, or of the same value in a type that the target loads.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .._codec import payload, types as t
from .._codec.crc64 import calculator
from .._codec.errors import CodecError, UnsupportedError
from .._codec.events import Batch, Entry
from .._codec.flat import FlatLists, FlatFormat
from .._codec.resp import Block, command
from .._errors import FileError, UnsupportedTypeError
from .._server.versions import Capabilities

# Keys per MSET: a longer one gains nothing (0.86 M keys/s at 50 here) and holds the target's event loop.
MSET_KEYS = 50

_SMALL = 4096
_BULK = [b"$%d\r\n" % size for size in range(_SMALL)]
# For arguments as long as the scanner's pairs are.
_HEADS = [b"\r\n$%d\r\n" % size for size in range(1 << 14)]
# Milliseconds that a key lives at least until a PEXPIREAT says how long it is to live.
_SHORTEST = 10_000
_TYPE = [bytes((number,)) for number in range(256)]
# From the end of a RESTORE's key to its payload, by the size of the payload without its checksum.
_NO_TTL = [b"\r\n$1\r\n0\r\n$%d\r\n" % (size + 8) for size in range(1 << 14)]
_CRC = struct.Struct("<Q")


class Dialect(NamedTuple):
    """What framing depends on: the target's RDB version and dialect, and what it understands."""

    rdb_version: int
    name: str
    capabilities: Capabilities


class Framed(NamedTuple):
    """``frames`` in order, the key of each (empty unless asked for), keys they write, and keys that had expired."""

    frames: List[bytes]
    keys_of: List[bytes]
    keys: int
    expired: int


class _Shape(NamedTuple):
    """The fixed parts of SET and RESTORE, in the order they are sent; an empty head: this target has no such form."""

    set_head: bytes
    set_tail: bytes
    restore_head: bytes
    restore_tail: bytes


def _shape(replace: bool, expiring: bool, caps: Capabilities) -> _Shape:
    words = [b"REPLACE"] * replace + [b"ABSTTL"] * expiring
    restore = (caps.restore_replace or not replace) and (caps.restore_absttl or not expiring)
    set_words = [b"NX"] * (not replace) + [b"PXAT"] * expiring
    return _Shape(
        b"*%d\r\n$3\r\nSET\r\n" % (3 + len(set_words) + expiring) if caps.set_pxat or not expiring else b"",
        b"\r\n" + b"".join(map(_bulk, set_words)),
        b"*%d\r\n$7\r\nRESTORE\r\n" % (4 + len(words)) if restore else b"",
        b"\r\n" + b"".join(map(_bulk, words)),
    )


def _loadable(target: Dialect, dialect: str) -> Tuple[bool, ...]:
    """By type byte of ``dialect`` whether the target loads it."""
    return tuple(t.loadable(kind, target.rdb_version, target.name, dialect) for kind in range(256))


def _by_size(table: Sequence[bytes], template: bytes, items: Sequence[bytes], more: int = 0) -> Iterable[bytes]:
    """What stands before each item, by its size: out of the table, or else made from the template with ``more`` added."""
    try:
        return list(map(table.__getitem__, map(len, items)))
    except IndexError:
        return [template % (len(item) + more) for item in items]


def _heads(items: Sequence[bytes]) -> Iterable[bytes]:
    """What stands before each argument, with the end of the one before it."""
    return _by_size(_HEADS, b"\r\n$%d\r\n", items)


def _numbers(numbers: Sequence[int], before: bytes = b"") -> List[bytes]:
    """Each of what is not negative as an argument behind ``before``."""
    sizes = {len(b"%d" % number) for number in (min(numbers, default=0), max(numbers, default=0))}
    if len(sizes) > 1:
        return [b"%b%b" % (before, _bulk(b"%d" % number)) for number in numbers]
    # The rule for moments in milliseconds, and half the time.
    template = b"%b$%d\r\n%%d\r\n" % (before, sizes.pop())
    return [template % number for number in numbers]


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


class Framer:
    """``policy`` is replace, skip or fail; ``routed`` asks for each frame's key.

    ``now_ms`` is the target's clock. ``source`` is the dialect of the entries (known once the header was read).
    """

    def __init__(
        self, target: Dialect, policy: str, now_ms: Callable[[], int], routed: bool, name: str
    ) -> None:
        self._target = target
        self._policy = policy
        self._now_ms = now_ms
        self._routed = routed
        self._name = name
        self._footer = target.rdb_version.to_bytes(2, "little")
        self._checksum = calculator()
        self._shape = _shape(policy == "replace", False, target.capabilities)
        self._expiring_shape = expiring = _shape(policy == "replace", True, target.capabilities)
        self._restore_heads, self._expiring_heads, self._set_heads = (
            [b"%b$%d\r\n" % (head, size) for size in range(512)] for head in (self._shape.restore_head, expiring.restore_head, expiring.set_head)
        )
        # A template for SET with an expiry; empty where the target has no such form.
        self._expiring_set = b""
        if expiring.set_head:
            self._expiring_set = b"%b$%%d\r\n%%b\r\n$%%d\r\n%%b%b$%%d\r\n%%d\r\n" % (expiring.set_head, expiring.set_tail)
        self._loadable: Tuple[bool, ...] = ()
        self._source = t.REDIS
        self.set_source(t.REDIS)
        # Whether every frame writes one key: older targets need further commands around a RESTORE.
        self.one_to_one = target.capabilities.restore_absttl

    def set_source(self, dialect: str) -> None:
        """Whose type bytes the entries have."""
        self._source = dialect
        self._loadable = _loadable(self._target, dialect)

    def frames(self, batch: Batch, entries: List[Entry]) -> Framed:
        """Commands that write ``entries`` of ``batch``; UnsupportedTypeError names a key that the target cannot hold."""
        # The second innermost loop (the scanner's is the first): an entry without expiry and hint is spelled out here.
        buf = batch.buf
        now = self._now_ms()
        loadable = self._loadable
        footer = self._footer
        checksum = self._checksum
        set_head, set_tail, restore_head, restore_tail = self._shape
        expiring_set = self._expiring_set
        routed = self._routed
        frames: List[bytes] = []
        keys_of: List[bytes] = []
        add = frames.append
        join = b"".join
        expired = 0
        for entry in entries:
            kind, key, start, end, data, expire, hint = entry
            if expire is not None or hint is not None:
                if expire is not None and expire <= now:
                    expired += 1
                    continue
                if data and hint is None and expiring_set:
                    add(expiring_set % (len(key), key, end - data, buf[data:end], len(b"%d" % expire), expire))
                else:
                    self._add_other(frames, batch, entry, now)
            else:
                size = len(key)
                key_bulk = _BULK[size] if size < _SMALL else b"$%d\r\n" % size
                if data:
                    size = end - data
                    value_bulk = _BULK[size] if size < _SMALL else b"$%d\r\n" % size
                    add(b"%b%b%b\r\n%b%b%b" % (set_head, key_bulk, key, value_bulk, buf[data:end], set_tail))
                elif restore_head and loadable[kind]:
                    body = _TYPE[kind] + buf[start:end] + footer
                    size = len(body) + 8
                    add(
                        join(
                            (
                                restore_head,
                                key_bulk,
                                key,
                                b"\r\n$1\r\n0\r\n",
                                _BULK[size] if size < _SMALL else b"$%d\r\n" % size,
                                body,
                                checksum(body).to_bytes(8, "little"),
                                restore_tail,
                            )
                        )
                    )
                else:
                    self._add_other(frames, batch, entry, now)
            if routed:
                keys_of.extend([key] * (len(frames) - len(keys_of)))
        return Framed(frames, keys_of, len(entries) - expired, expired)

    def flat_format(self) -> FlatFormat:
        """What :meth:`flat` takes. Older targets need further commands around a RESTORE: what they get comes as entries."""
        target = self._target
        return FlatFormat(self._flat_types, target.capabilities.set_pxat and target.capabilities.restore_absttl, self._footer)

    def _flat_types(self, dialect: str) -> Sequence[bool]:
        return _loadable(self._target, dialect) if self._shape.restore_head else [False] * 256

    def flat(self, lists: FlatLists) -> Iterator[Tuple[Sequence[bytes], int]]:
        """Commands, and how many keys they write, for what is in the lists; nothing in them may have expired."""
        if lists.pairs:
            yield self.mset(lists.pairs), len(lists.pairs) // 2
        for frames in (self.restores(lists.values), self.expiring_sets(lists.expiring_pairs), self.expiring_restores(lists.expiring_values)):
            yield frames, len(frames)

    @staticmethod
    def mset(pairs: Sequence[bytes]) -> List[bytes]:
        """MSET commands of up to ``MSET_KEYS`` keys for key, value, key, value, ..."""
        frames: List[bytes] = []
        for first in range(0, len(pairs), 2 * MSET_KEYS):
            part = pairs[first : first + 2 * MSET_KEYS]
            # Interleaved by slices: per item nothing runs in the interpreter's loop.
            parts = [b""] * (2 * len(part))
            parts[0::2] = _heads(part)
            parts[1::2] = part
            frames.append(b"*%d\r\n$4\r\nMSET%b\r\n" % (1 + len(part), b"".join(parts)))
        return frames

    def restores(self, values: Sequence[bytes]) -> Block:
        """RESTORE for key, body, key, body, ..."""
        keys, bodies = values[0::2], values[1::2]
        return self._restores(self._shape, self._restore_heads, keys, _by_size(_NO_TTL, b"\r\n$1\r\n0\r\n$%d\r\n", bodies, 8), bodies)

    def expiring_restores(self, values: Sequence[Any]) -> Block:
        """RESTORE with ABSTTL for key, body, expiry, key, body, expiry, ..."""
        keys, bodies, expires = (values[column::3] for column in range(3))
        middles = [b"%b$%d\r\n" % (number, len(body) + 8) for number, body in zip(_numbers(expires, b"\r\n"), bodies)]
        return self._restores(self._expiring_shape, self._expiring_heads, keys, middles, bodies)

    def _restores(self, shape: _Shape, heads: List[bytes], keys: Sequence[bytes], middles: Iterable[bytes], bodies: Sequence[bytes]) -> Block:
        # Column by column: per value nearly nothing runs in the interpreter's loop.
        parts = [shape.restore_tail] * (6 * len(keys))
        parts[0::6] = _by_size(heads, b"%b$%%d\r\n" % shape.restore_head, keys)
        parts[1::6] = keys
        parts[2::6] = middles
        parts[3::6] = bodies
        parts[4::6] = map(_CRC.pack, map(self._checksum, bodies))
        return Block(b"".join(parts), len(keys))

    def expiring_sets(self, pairs: Sequence[Any]) -> Block:
        """SET with PXAT for key, value, expiry, key, value, expiry, ..."""
        keys, values, expires = (pairs[column::3] for column in range(3))
        shape = self._expiring_shape
        parts = [b""] * (5 * len(keys))
        parts[0::5] = _by_size(self._set_heads, b"%b$%%d\r\n" % shape.set_head, keys)
        parts[1::5] = keys
        parts[2::5] = _heads(values)
        parts[3::5] = values
        parts[4::5] = _numbers(expires, shape.set_tail)
        return Block(b"".join(parts), len(keys))

    def _add_other(self, frames: List[bytes], batch: Batch, entry: Entry, now: int) -> None:
        """An entry with an expiry, a hint or a type that needs rewriting: less common, so built the readable way."""
        kind, key, start, end, data, expire, hint = entry
        if hint is not None and not self._target.capabilities.restore_idle_freq:
            hint = None
        frames.extend(self.restore_frames(key, *self.body(batch, entry), expire, hint, now))

    def body(self, batch: Batch, entry: Entry) -> Tuple[int, bytes]:
        """Type byte and serialized value as the target loads them."""
        kind, key, start, end = entry[:4]
        raw = batch.buf[start:end]
        if self._loadable[kind]:
            return kind, raw
        try:
            return payload.convert(kind, raw, self._target.rdb_version, self._target.name, self._source)
        except CodecError as exc:
            raise self.unsupported(batch, entry, exc) from exc

    def unsupported(self, batch: Batch, entry: Entry, exc: CodecError) -> Exception:
        """The error for a value that could not be converted."""
        kind, key, start, _end = entry[:4]
        what = "%s, key %s in db %d" % (self._name, show(key), batch.db)
        info = t.TYPES[self._source].get(kind)
        if isinstance(exc, UnsupportedError):
            return UnsupportedTypeError(
                what,
                "the target (RDB version %d) cannot hold it: %s" % (self._target.rdb_version, exc.reason),
                "Migrate to a target that has this type, or leave the key out with exclude_keys",
            )
        where = batch.base + start + (exc.offset or 0)
        return FileError(
            what,
            "its %s value is damaged at byte %d: %s" % (info.kind if info else "unknown", where, exc.reason),
            "Make a new backup, or leave the key out with exclude_keys",
        )

    def restore_frames(
        self,
        key: bytes,
        kind: int,
        body: bytes,
        expire_ms: Optional[int],
        hint: Optional[Tuple[bytes, int]],
        now: int,
    ) -> List[bytes]:
        """RESTORE under the policy, with what an older target needs around it."""
        caps = self._target.capabilities
        replace = self._policy == "replace"
        frames: List[bytes] = []
        ttl = 0 if expire_ms is None else expire_ms if caps.restore_absttl else max(_SHORTEST if replace else 1, expire_ms - now)
        args: List[bytes] = [b"RESTORE", key, b"%d" % ttl, payload.foot(kind, body, self._target.rdb_version)]
        if replace:
            if caps.restore_replace:
                args.append(b"REPLACE")
            else:
                frames.append(command(b"DEL", key))
        if expire_ms is not None and caps.restore_absttl:
            args.append(b"ABSTTL")
        if hint is not None and caps.restore_idle_freq:
            args += (hint[0], b"%d" % hint[1])
        frames.append(command(*args))
        if expire_ms is not None and not caps.restore_absttl and replace:
            # The time to live counted from the command's arrival; this makes it the very millisecond again.
            frames.append(command(b"PEXPIREAT", key, b"%d" % expire_ms))
        return frames


def show(key: bytes) -> str:
    """A key for a message: readable, and not endless."""
    text = key[:120].decode("utf-8", "backslashreplace")
    return '"%s%s"' % (text, "..." if len(key) > 120 else "")
