# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Values: what the bytes of a type mean, whole or element by element.

Source: ``src/rdb.c`` (rdbLoadObject) in redis/redis and valkey-io/valkey.

``decode`` reads a whole value. ``element_reader`` reads one of any size in pieces, with no more in memory than the piece:

    reader = element_reader(type_byte, dialect)
    elements, pos, done = reader.feed(buf, pos)      # again, with more bytes after pos, until done

Elements by ``reader.kind``: list and set ``bytes``; zset ``(member, score)``; hash ``(field, value, expire_ms)`` with 0 for "never";
string ``bytes`` (one element); stream ``(node ID, listpack)``, and ``reader.stream`` at the end. A compact encoding (one blob) comes all at
once. ``feed`` looks again at an element whose end it has not seen, in constant time, so small pieces cost little.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Union

from . import intset, listpack, lzf, stream as stream_format, types as t, wire, ziplist, zipmap
from .errors import CodecError, TruncatedError, UnsupportedError
from .stream import Stream, StreamReader

# Redis keeps a field's expiry in 48 bits.
FIELD_EXPIRE_MAX = (1 << 48) - 1

_QUICKLIST_PLAIN = 1
_QUICKLIST_PACKED = 2
_VALKEY_NO_EXPIRY = -1
_MODULE_NAME_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class String:
    """``value``: bytes."""

    __slots__ = ("value",)
    kind = "string"

    def __init__(self, value: bytes) -> None:
        self.value = value


class List:
    """``items``: bytes, head first."""

    __slots__ = ("items",)
    kind = "list"

    def __init__(self, items: list[bytes]) -> None:
        self.items = items


class Set:
    """``members``: bytes, in any order."""

    __slots__ = ("members",)
    kind = "set"

    def __init__(self, members: list[bytes]) -> None:
        self.members = members


class ZSet:
    """``items``: ``(member, score)``, in any order."""

    __slots__ = ("items",)
    kind = "zset"

    def __init__(self, items: list[tuple[bytes, float]]) -> None:
        self.items = items


class Hash:
    """``items``: ``(field, value, expire_ms)``, in any order; ``expire_ms`` since 1970, 0 for never."""

    __slots__ = ("items",)
    kind = "hash"

    def __init__(self, items: list[tuple[bytes, bytes, int]]) -> None:
        self.items = items


class Module:
    """A module's value, opaque: the ``name`` of its type, and ``raw``, the body of type 7 as it came."""

    __slots__ = ("name", "raw")
    kind = "module"

    def __init__(self, name: str, raw: bytes) -> None:
        self.name = name
        self.raw = raw


Value = Union[String, List, Set, ZSet, Hash, Stream, Module]
Elements = list[Any]
_BUILD: dict[str, Callable[[Any], Value]] = {"list": List, "set": Set, "zset": ZSet, "hash": Hash}


# -- one element of a counted series: (buf, pos) -> (element, end) -------------------------------------------------------


def _one_zset_old(buf: bytes, pos: int) -> tuple[Any, int]:
    member, end = wire.read_string(buf, pos)
    score, end = wire.read_old_double(buf, end)
    return (member, _score(score, pos)), end


def _one_zset(buf: bytes, pos: int) -> tuple[Any, int]:
    member, end = wire.read_string(buf, pos)
    score, end = wire.read_double(buf, end)
    return (member, _score(score, pos)), end


def _score(score: float, pos: int) -> float:
    if math.isnan(score):
        raise CodecError("a score is not a number", pos)
    return score


def _one_hash(buf: bytes, pos: int) -> tuple[Any, int]:
    field, pos = wire.read_string(buf, pos)
    value, pos = wire.read_string(buf, pos)
    return (field, value, 0), pos


def _one_valkey_hash(buf: bytes, pos: int) -> tuple[Any, int]:
    field, end = wire.read_string(buf, pos)
    value, end = wire.read_string(buf, end)
    expire, end = wire.read_ms(buf, end)
    if expire < _VALKEY_NO_EXPIRY:
        raise CodecError("a hash field expires at %d" % expire, pos)
    # A field that expired at the very start of 1970 must not read as one that never does.
    return (field, value, 0 if expire == _VALKEY_NO_EXPIRY else max(expire, 1)), end


def _field_expiry(expire: int, pos: int) -> int:
    if not 0 <= expire <= FIELD_EXPIRE_MAX:
        raise CodecError("a hash field expires at %d" % expire, pos)
    return expire


def _one_hash_metadata(buf: bytes, pos: int, base: int) -> tuple[Any, int]:
    """``base``: what an expiry of 1 means, in ms."""
    expire, end = wire.read_length(buf, pos)
    field, end = wire.read_string(buf, end)
    value, end = wire.read_string(buf, end)
    return (field, value, _field_expiry(expire and expire + base - 1, pos)), end


# A list node holds many elements, so these return a list of them.


def _one_quicklist(buf: bytes, pos: int) -> tuple[Elements, int]:
    blob, end = wire.read_string(buf, pos)
    return _unpack(ziplist.decode, blob, pos), end


def _one_quicklist_2(buf: bytes, pos: int) -> tuple[Elements, int]:
    container, end = wire.read_length(buf, pos)
    if container not in (_QUICKLIST_PLAIN, _QUICKLIST_PACKED):
        raise CodecError("a list node is of unknown kind %d" % container, pos)
    blob, end = wire.read_string(buf, end)
    if container == _QUICKLIST_PLAIN:
        return [blob], end
    return _unpack(listpack.decode, blob, pos), end


# -- one blob ----------------------------------------------------------------------------------------------------------


def _unpack(decoder: Callable[[bytes], Elements], blob: bytes, pos: int) -> Elements:
    """Decode a blob; its offsets mean nothing outside (it may have been compressed), so errors point at its start."""
    try:
        return decoder(blob)
    except CodecError as exc:
        inside = "" if exc.offset is None else ", %d bytes into the blob" % exc.offset
        raise CodecError(exc.reason + inside, pos) from None


def _split(items: list[bytes], each: int) -> list[tuple[bytes, ...]]:
    if len(items) % each:
        raise CodecError("%d elements do not make groups of %d" % (len(items), each))
    return list(zip(*(items[first::each] for first in range(each))))


def _as_scores(items: list[bytes]) -> Elements:
    return [(member, _score(wire.parse_double(score), 0)) for member, score in _split(items, 2)]


def _as_fields(items: list[bytes]) -> Elements:
    return [(field, value, 0) for field, value in _split(items, 2)]


def _as_expiring_fields(items: list[bytes]) -> Elements:
    try:
        return [(field, value, _field_expiry(int(expire[:21]), 0)) for field, value, expire in _split(items, 3)]
    except ValueError:
        raise CodecError("a hash field's expiry is not a number") from None


_BLOBS: dict[int, Callable[[bytes], Elements]] = {
    t.HASH_ZIPMAP: lambda blob: [(field, value, 0) for field, value in zipmap.decode(blob)],
    t.LIST_ZIPLIST: ziplist.decode,
    t.SET_INTSET: intset.decode,
    t.ZSET_ZIPLIST: lambda blob: _as_scores(ziplist.decode(blob)),
    t.HASH_ZIPLIST: lambda blob: _as_fields(ziplist.decode(blob)),
    t.HASH_LISTPACK: lambda blob: _as_fields(listpack.decode(blob)),
    t.ZSET_LISTPACK: lambda blob: _as_scores(listpack.decode(blob)),
    t.SET_LISTPACK: listpack.decode,
}
_SERIES: dict[int, Callable[[bytes, int], tuple[Any, int]]] = {
    t.LIST: wire.read_string,
    t.SET: wire.read_string,
    t.ZSET: _one_zset_old,
    t.HASH: _one_hash,
    t.ZSET_2: _one_zset,
}
_NODES: dict[int, Callable[[bytes, int], tuple[Elements, int]]] = {
    t.LIST_QUICKLIST: _one_quicklist,
    t.LIST_QUICKLIST_2: _one_quicklist_2,
}
_STREAMS = (t.STREAM_LISTPACKS, t.STREAM_LISTPACKS_2, t.STREAM_LISTPACKS_3)


# -- readers -----------------------------------------------------------------------------------------------------------


class _SeriesReader:
    """A count, then that many elements (``nodes``: lists of elements)."""

    def __init__(self, kind: str, one: Callable[[bytes, int], tuple[Any, int]], nodes: bool = False) -> None:
        self.kind = kind
        self.left = -1
        self._one = one
        self._nodes = nodes

    def feed(self, buf: bytes, pos: int) -> tuple[Elements, int, bool]:
        """``(elements, pos, done)``: as many complete elements as ``buf`` holds from ``pos`` on."""
        elements: Elements = []
        keep = elements.extend if self._nodes else elements.append
        try:
            if self.left < 0:
                pos = self._begin(buf, pos)
            one = self._one
            while self.left:
                made, pos = one(buf, pos)
                keep(made)
                self.left -= 1
        except TruncatedError:
            return elements, pos, False
        return elements, pos, True

    def _begin(self, buf: bytes, pos: int) -> int:
        self.left, pos = wire.read_length(buf, pos)
        return pos


class _MetadataReader(_SeriesReader):
    """Type 24: the earliest expiry, a count, then fields whose expiries count from it."""

    def _begin(self, buf: bytes, pos: int) -> int:
        base, end = wire.read_ms(buf, pos)
        left, end = wire.read_length(buf, end)
        if base < 0:
            raise CodecError("a hash field expires at %d" % base, pos)
        self._one = lambda data, at: _one_hash_metadata(data, at, base)
        self.left = left
        return end


class _BlobReader:
    """One string that holds everything, after ``ahead`` bytes that do not matter."""

    def __init__(self, kind: str, unpack: Callable[[bytes], Elements], ahead: int = 0) -> None:
        self.kind = kind
        self._unpack = unpack
        self._ahead = ahead
        self._done = False

    def feed(self, buf: bytes, pos: int) -> tuple[Elements, int, bool]:
        """``(elements, pos, done)``: nothing until the whole blob is there."""
        if self._done:
            return [], pos, True
        try:
            blob, end = wire.read_string(buf, pos + self._ahead)
        except TruncatedError:
            return [], pos, False
        self._done = True
        return _unpack(self._unpack, blob, pos), end, True


class StringReader:
    """The parts of one uncompressed string, with the interface of an element reader."""

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, buf: bytes, pos: int) -> tuple[Elements, int, bool]:
        """As for the other readers; pieces of the string."""
        piece = buf[pos : pos + self._left]
        self._left -= len(piece)
        return [piece] if piece else [], pos + len(piece), not self._left


class PackedReader:
    """The parts of one LZF string, each of about a MiB at most; with ``unpack`` False only its end."""

    def __init__(self, packed: int, plain: int, unpack: bool, offset: int) -> None:
        self._unpacker = lzf.Unpacker(packed, plain, offset)
        self._passed = None if unpack else StringReader(packed)

    def feed(self, buf: bytes, pos: int) -> tuple[Elements, int, bool]:
        """As for the other readers; pieces of the string."""
        if self._passed is not None:
            _pieces, pos, done = self._passed.feed(buf, pos)
            return [], pos, done
        piece, pos, done = self._unpacker.feed(buf, pos)
        return [piece] if piece else [], pos, done


class _StreamElements(StreamReader):
    kind = "stream"


Reader = Union[_SeriesReader, _BlobReader, _StreamElements]


def _refuse(type_byte: int, dialect: str) -> UnsupportedError:
    info = t.TYPES[dialect].get(type_byte)
    if info is None:
        return UnsupportedError("type %d is not known to %s" % (type_byte, dialect.capitalize()))
    if type_byte == t.MODULE_PRE_GA:
        return UnsupportedError("type module_pre_ga, which only release candidates of Redis 4.0 wrote, cannot be read")
    return UnsupportedError("type %s (%d), new in %s, cannot be read yet" % (info.name, type_byte, t.first_server(info.since)))


def element_reader(type_byte: int, dialect: str) -> Reader:
    """A reader for a value of this type that arrives in pieces; UnsupportedError for types that cannot be taken apart."""
    kind = t.kind_of(type_byte, dialect) or ""
    if type_byte == t.STRING:
        return _BlobReader(kind, lambda blob: [blob])
    if type_byte in _SERIES:
        return _SeriesReader(kind, _SERIES[type_byte])
    if type_byte in _NODES:
        return _SeriesReader(kind, _NODES[type_byte], nodes=True)
    if type_byte in _BLOBS:
        return _BlobReader(kind, _BLOBS[type_byte])
    if type_byte in _STREAMS:
        return _StreamElements(type_byte)
    if type_byte == t.MODULE_2:
        raise UnsupportedError("a module's value cannot be taken apart")
    if dialect == t.VALKEY:
        if type_byte == t.VALKEY_HASH_2:
            return _SeriesReader(kind, _one_valkey_hash)
    elif type_byte == t.HASH_METADATA:
        return _MetadataReader(kind, _one_hash)
    elif type_byte == t.HASH_METADATA_PRE_GA:
        return _SeriesReader(kind, lambda buf, pos: _one_hash_metadata(buf, pos, 1))
    elif type_byte in (t.HASH_LISTPACK_EX, t.HASH_LISTPACK_EX_PRE_GA):
        ahead = 8 if type_byte == t.HASH_LISTPACK_EX else 0
        return _BlobReader(kind, lambda blob: _as_expiring_fields(listpack.decode(blob)), ahead)
    raise _refuse(type_byte, dialect)


# -- whole values ------------------------------------------------------------------------------------------------------


def module_name(module_id: int) -> str:
    """The nine letters in the upper 54 bits of a module's 64-bit ID (``src/module.c``, moduleTypeNameByID)."""
    return "".join(_MODULE_NAME_LETTERS[module_id >> shift & 63] for shift in range(58, 9, -6))


def _decode_module(buf: bytes, pos: int) -> tuple[Module, int]:
    start = pos
    module_id, pos = wire.read_length(buf, pos)
    while True:
        at = pos
        tag, pos = wire.read_length(buf, pos)
        if tag == t.MODULE_EOF:
            return Module(module_name(module_id), bytes(buf[start:pos])), pos
        if tag in (t.MODULE_SINT, t.MODULE_UINT):
            _number, pos = wire.read_length(buf, pos)
        elif tag == t.MODULE_FLOAT:
            _number, pos = wire.read_float(buf, pos)
        elif tag == t.MODULE_DOUBLE:
            _number, pos = wire.read_double(buf, pos)
        elif tag == t.MODULE_STRING:
            pos = wire.skip_string(buf, pos)
        else:
            raise CodecError("a module value has the unknown tag %d" % tag, at)


def decode(type_byte: int, buf: bytes, pos: int, dialect: str) -> tuple[Value, int]:
    """``(value, end)``. TruncatedError when ``buf`` ends first, UnsupportedError for a type known by name only."""
    if type_byte == t.MODULE_2:
        return _decode_module(buf, pos)
    if type_byte in _STREAMS:
        return stream_format.decode(type_byte, buf, pos)
    reader = element_reader(type_byte, dialect)
    elements, end, done = reader.feed(buf, pos)
    if not done:
        raise TruncatedError("the data ends inside a %s" % reader.kind, pos)
    if type_byte == t.STRING:
        return String(elements[0]), end
    return _BUILD[reader.kind](elements), end


def canonical(value: Value) -> tuple[Any, ...]:
    """A hashable form that is equal for equal data, whatever type or order it was stored in.

    Of a stream it has what every version keeps: length, last ID, entries, groups with their pending entries (with consumer, time and
    count) and consumers. Counters that only newer versions have, and when a consumer was last seen, are left out.
    """
    if isinstance(value, String):
        return ("string", value.value)
    if isinstance(value, List):
        return ("list", tuple(value.items))
    if isinstance(value, Set):
        return ("set", frozenset(value.members))
    if isinstance(value, (ZSet, Hash)):
        return (value.kind, frozenset(value.items))
    if isinstance(value, Module):
        return ("module", value.name, value.raw)
    entries = tuple((ms, seq, tuple(fields)) for ms, seq, fields in value.entries())
    return ("stream", value.length, value.last_id, entries, frozenset(_canonical_group(group) for group in value.groups))


def _canonical_group(group: stream_format.Group) -> tuple[Any, ...]:
    owners = {item: consumer.name for consumer in group.consumers for item in consumer.pel}
    pending = frozenset((item, delivered, times, owners.get(item)) for item, delivered, times in group.pel)
    return (group.name, group.last_id, pending, frozenset(consumer.name for consumer in group.consumers))
