# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Streams: the value of types 15, 19 and 21, read node by node and written back in any of the three.

Sources: ``src/rdb.c`` (rdbSaveObject, rdbLoadObject) and ``src/t_stream.c`` in redis/redis. A stream is a series of nodes, then its
numbers, then its consumer groups. A node is a 16-byte ID (milliseconds and sequence, big endian) and a
listpack: how many entries live and how many are deleted, the field names most entries share, a 0; then for each
entry its flags, its ID less the node's, its fields, and how many elements to go back to its start.

Types 26 and later (Redis 8.6) are known by name only, see ``types``.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, Generator, Iterator, List, Optional, Tuple, TypeVar

from . import listpack, types as t, wire
from .errors import CodecError, TruncatedError, UnsupportedError

StreamID = Tuple[int, int]
Node = Tuple[bytes, bytes]
Entry = Tuple[int, int, List[Tuple[bytes, bytes]]]

_Item = TypeVar("_Item")

_RAW_ID = struct.Struct(">QQ")
_UINT64 = (1 << 64) - 1
_ID_BYTES = 16
# A sign and the digits of a 64-bit number.
_DIGITS_MAX = 20
_DELETED = 1
_SAME_FIELDS = 2

# What Redis 7 stores for "not known": -1 in an unsigned field.
UNKNOWN = -1


class Consumer:
    """``name``; ``seen`` and ``active`` in ms since 1970 (``active`` -1: never); ``pel``: the IDs delivered to it."""

    __slots__ = ("name", "seen", "active", "pel")

    def __init__(self, name: bytes, seen: int, active: int, pel: List[StreamID]) -> None:
        self.name = name
        self.seen = seen
        self.active = active
        self.pel = pel


class Group:
    """``entries_read`` is ``UNKNOWN`` where nobody knows; ``pel``: (ID, delivered at in ms, times delivered)."""

    __slots__ = ("name", "last_id", "entries_read", "pel", "consumers")

    def __init__(
        self,
        name: bytes,
        last_id: StreamID,
        entries_read: int,
        pel: List[Tuple[StreamID, int, int]],
        consumers: List[Consumer],
    ) -> None:
        self.name = name
        self.last_id = last_id
        self.entries_read = entries_read
        self.pel = pel
        self.consumers = consumers


class Stream:
    """A stream with its nodes as they came: (16-byte ID, listpack). IDs elsewhere are (ms, seq).

    ``entries_added`` and ``max_deleted_id`` are what a server assumes (``length``, 0-0) when the type does not say.
    ``first_id`` is then None, and is looked up when it has to be written.
    """

    __slots__ = ("nodes", "length", "last_id", "first_id", "max_deleted_id", "entries_added", "groups")

    kind = "stream"

    def __init__(
        self,
        nodes: List[Node],
        length: int,
        last_id: StreamID,
        first_id: Optional[StreamID] = None,
        max_deleted_id: StreamID = (0, 0),
        entries_added: Optional[int] = None,
        groups: Optional[List[Group]] = None,
    ) -> None:
        self.nodes = nodes
        self.length = length
        self.last_id = last_id
        self.first_id = first_id
        self.max_deleted_id = max_deleted_id
        self.entries_added = length if entries_added is None else entries_added
        self.groups = groups or []

    def entries(self) -> Iterator[Entry]:
        """(ms, seq, [(field, value), ...]) of every entry that is not deleted, oldest first; unpacks one node at a time."""
        for key, blob in self.nodes:
            yield from node_entries(key, blob)

    def find_first_id(self) -> StreamID:
        """The ID of the oldest entry, 0-0 in an empty stream."""
        if self.first_id is not None:
            return self.first_id
        for ms, seq, _fields in self.entries():
            return ms, seq
        return 0, 0


def _number(item: bytes) -> int:
    """An integer element; IndexError where it is too long to be one, as int() would take quadratic time over it."""
    if len(item) > _DIGITS_MAX:
        raise IndexError
    return int(item)


def node_entries(key: bytes, blob: bytes) -> List[Entry]:
    """The entries of one node that are not deleted."""
    if len(key) != _ID_BYTES:
        raise CodecError("a stream node's ID has %d bytes" % len(key), 0)
    base_ms, base_seq = _RAW_ID.unpack(key)
    items = listpack.decode(blob)
    found: List[Entry] = []
    try:
        expected = _number(items[0]) + _number(items[1])
        shared = _number(items[2])
        names = items[3 : 3 + shared]
        pos = 3 + shared
        if shared < 0 or items[pos] != b"0":
            raise CodecError("a stream node does not begin as it should")
        pos += 1
        seen = 0
        while pos < len(items):
            start = pos
            flags = _number(items[pos])
            ms = base_ms + _number(items[pos + 1]) & _UINT64
            seq = base_seq + _number(items[pos + 2]) & _UINT64
            pos += 3
            if flags & _SAME_FIELDS:
                stop = pos + shared
                fields = list(zip(names, items[pos:stop]))
            else:
                count = _number(items[pos])
                if count < 0:
                    raise CodecError("a stream entry has %d fields" % count)
                pos += 1
                stop = pos + 2 * count
                fields = list(zip(items[pos:stop:2], items[pos + 1 : stop : 2]))
            if _number(items[stop]) != stop - start:
                raise CodecError("a stream entry of %d elements claims %s" % (stop - start, items[stop].decode("latin-1")))
            pos = stop + 1
            seen += 1
            if not flags & _DELETED:
                found.append((ms, seq, fields))
    except (IndexError, ValueError):
        raise CodecError("a stream node ends inside an entry, or has no number where one belongs") from None
    if seen != expected:
        raise CodecError("a stream node of %d entries claims %d" % (seen, expected))
    return found


def _read_raw_id(buf: bytes, pos: int) -> Tuple[StreamID, int]:
    try:
        return _RAW_ID.unpack_from(buf, pos), pos + _ID_BYTES
    except struct.error:
        raise TruncatedError("the data ends inside a stream ID", pos) from None


def _read_id(buf: bytes, pos: int) -> Tuple[StreamID, int]:
    ms, pos = wire.read_length(buf, pos)
    seq, pos = wire.read_length(buf, pos)
    return (ms, seq), pos


def _read_pending(buf: bytes, pos: int) -> Tuple[Tuple[StreamID, int, int], int]:
    item, pos = _read_raw_id(buf, pos)
    delivered, pos = wire.read_ms(buf, pos)
    times, pos = wire.read_length(buf, pos)
    return (item, delivered, times), pos


def _read_node(buf: bytes, pos: int) -> Tuple[Node, int]:
    key, end = wire.read_string(buf, pos)
    if len(key) != _ID_BYTES:
        raise CodecError("a stream node's ID has %d bytes" % len(key), pos)
    blob, end = wire.read_string(buf, end)
    return (key, blob), end


class StreamReader:
    """Reads a stream in pieces: ``feed`` gives its nodes as they arrive; ``stream`` is the rest (no nodes) once done."""

    def __init__(self, type_byte: int) -> None:
        self.stream: Optional[Stream] = None
        self._since_2 = type_byte >= t.STREAM_LISTPACKS_2
        self._since_3 = type_byte >= t.STREAM_LISTPACKS_3
        self._buf = b""
        self._pos = 0
        self._nodes: List[Node] = []
        self._steps = self._read_all()

    def feed(self, buf: bytes, pos: int) -> Tuple[List[Node], int, bool]:
        """``(nodes, pos, done)``: all that ``buf`` holds from ``pos`` on. Next time, begin with the bytes from the new ``pos``."""
        self._buf, self._pos, self._nodes = buf, pos, []
        done = next(self._steps, True)
        self._buf = b""
        return self._nodes, self._pos, bool(done)

    def _take(self, read: Callable[[bytes, int], Tuple[_Item, int]]) -> Generator[bool, None, Any]:
        """A step that pauses until ``read`` has enough bytes; its return value is what was read."""
        while True:
            try:
                item, self._pos = read(self._buf, self._pos)
                return item
            except TruncatedError:
                yield False

    def _take_many(self, read: Callable[[bytes, int], Tuple[_Item, int]], into: List[_Item]) -> Generator[bool, None, Any]:
        """A count and that many items: a consumer group may have millions pending, too many for a step each."""
        left = yield from self._take(wire.read_length)
        while left:
            try:
                while left:
                    item, self._pos = read(self._buf, self._pos)
                    into.append(item)
                    left -= 1
            except TruncatedError:
                yield False

    def _read_all(self) -> Generator[bool, None, Any]:
        take = self._take
        count = yield from take(wire.read_length)
        for _unused in range(count):
            node = yield from take(_read_node)
            self._nodes.append(node)
        length = yield from take(wire.read_length)
        stream = Stream([], length, (yield from take(_read_id)))
        if self._since_2:
            stream.first_id = yield from take(_read_id)
            stream.max_deleted_id = yield from take(_read_id)
            stream.entries_added = yield from take(wire.read_length)
        count = yield from take(wire.read_length)
        for _unused in range(count):
            group = yield from self._read_group()
            stream.groups.append(group)
        self.stream = stream

    def _read_group(self) -> Generator[bool, None, Any]:
        take = self._take
        group = Group((yield from take(wire.read_string)), (yield from take(_read_id)), UNKNOWN, [], [])
        if self._since_2:
            group.entries_read = yield from take(wire.read_length)
            if group.entries_read == _UINT64:
                group.entries_read = UNKNOWN
        yield from self._take_many(_read_pending, group.pel)
        known = {item[0] for item in group.pel}
        consumers = yield from take(wire.read_length)
        for _unused in range(consumers):
            name = yield from take(wire.read_string)
            seen = yield from take(wire.read_ms)
            active = seen
            if self._since_3:
                active = yield from take(wire.read_ms)
            owned: List[StreamID] = []
            yield from self._take_many(_read_raw_id, owned)
            if not known.issuperset(owned):
                raise CodecError("a consumer has a pending entry that its group does not have", self._pos)
            group.consumers.append(Consumer(name, seen, active, owned))
        return group


def decode(type_byte: int, buf: bytes, pos: int) -> Tuple[Stream, int]:
    """``(stream, end)`` of a value of type 15, 19 or 21."""
    reader = StreamReader(type_byte)
    nodes, end, _done = reader.feed(buf, pos)
    stream = reader.stream
    if stream is None:
        raise TruncatedError("the data ends inside a stream", pos)
    stream.nodes = nodes
    return stream, end


def type_for(rdb_version: int) -> int:
    """The newest of the three types that a server of ``rdb_version`` loads."""
    if rdb_version >= 11:
        return t.STREAM_LISTPACKS_3
    if rdb_version >= 10:
        return t.STREAM_LISTPACKS_2
    if rdb_version >= 9:
        return t.STREAM_LISTPACKS
    raise UnsupportedError("streams need %s or later" % t.first_server(9))


def encode(stream: Stream, type_byte: int) -> bytes:
    """The body of type 15, 19 or 21; nodes go in as they are.

    Type 19 drops when consumers were last active (the server then takes the time they were last seen). Type 15 also drops the first ID
    (the server finds it), the highest deleted ID, the count of entries ever added (taken to be the length) and how
    many a group has read (estimated). Nothing that is needed to serve the entries or the pending ones is lost.
    """
    length = wire.write_length
    parts = [length(len(stream.nodes))]
    for key, blob in stream.nodes:
        parts += [wire.write_string(key), wire.write_string(blob)]
    parts += [length(stream.length), _write_id(stream.last_id)]
    if type_byte >= t.STREAM_LISTPACKS_2:
        parts += [_write_id(stream.find_first_id()), _write_id(stream.max_deleted_id), length(stream.entries_added)]
    parts.append(length(len(stream.groups)))
    for group in stream.groups:
        parts += [wire.write_string(group.name), _write_id(group.last_id)]
        if type_byte >= t.STREAM_LISTPACKS_2:
            parts.append(length(group.entries_read & _UINT64))
        parts.append(length(len(group.pel)))
        for item, delivered, times in group.pel:
            parts += [_RAW_ID.pack(*item), wire.write_ms(delivered), length(times)]
        parts.append(length(len(group.consumers)))
        for consumer in group.consumers:
            parts += [wire.write_string(consumer.name), wire.write_ms(consumer.seen)]
            if type_byte >= t.STREAM_LISTPACKS_3:
                parts.append(wire.write_ms(consumer.active))
            parts.append(length(len(consumer.pel)))
            parts += [_RAW_ID.pack(*item) for item in consumer.pel]
    return b"".join(parts)


def _write_id(item: StreamID) -> bytes:
    return wire.write_length(item[0]) + wire.write_length(item[1])
