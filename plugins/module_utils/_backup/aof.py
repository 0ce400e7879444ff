# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A snapshot turned into the commands that build the same data: an AOF without RDB preamble, which every version and tool reads.

Source: ``src/aof.c`` (rewriteAppendOnlyFileRio and its helpers) in redis/redis, whose commands and bounds these are. Values of modules
have no commands of their own here and become RESTORE.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from .._codec import stream as streams, types as t
from .._codec.errors import CodecError
from .._codec.payload import foot
from .._codec.events import Aux, Batch, BigEnd, BigPart, BigStart, Function, Header
from .._codec.rdb import RdbScanner
from .._codec.resp import Argument, command
from .._codec.values import element_reader
from .._server.versions import Product
from .._sink.rdb_file import Output

# Elements in one command, as the server's own rewrite has it: no command blocks a server that reads the file.
_ELEMENTS = 64
_BUFFER = 1 << 20


class AofConverter:
    """Takes an RDB file by ``write``, in any chunking, and writes commands to ``output``; ``close`` after the last byte.

    ``product`` is the source: what its commands understand is used. Memory stays at some chunks, however large a value is.

    :raises CodecError: not an RDB file, damaged, or a type that cannot be read (UnsupportedError)
    """

    def __init__(self, output: Output, product: Product, total: Optional[int] = None) -> None:
        self._output = output
        self._product = product
        self._scanner = RdbScanner(total)
        self._dialect = t.REDIS
        self._version = 0
        self._db: Optional[int] = None
        self._parts: List[bytes] = []
        self._size = 0
        self._big: Optional[BigStart] = None
        self._building: Optional[_Building] = None

    def write(self, data: bytes) -> None:
        """The next bytes of the snapshot."""
        self._take(self._scanner.feed(data))

    def close(self) -> None:
        """The snapshot has ended."""
        self._take(self._scanner.close())
        self._flush()

    def _take(self, events: Iterable[Any]) -> None:
        for event in events:
            if isinstance(event, Batch):
                self._batch(event)
            elif isinstance(event, BigPart):
                if self._building is not None:
                    self._put(self._building.add(event.elements))
            elif isinstance(event, BigStart):
                self._select(event.db)
                self._big = event
                kind = t.kind_of(event.type, self._dialect) or ""
                self._building = _Building(event.key, kind, self._product)
            elif isinstance(event, BigEnd):
                if self._building is not None and self._big is not None:
                    self._put(self._building.end(event.stream, self._big.expire_ms))
                self._building = self._big = None
            elif isinstance(event, Header):
                self._version, self._dialect = event.version, event.dialect
            elif isinstance(event, Function):
                self._put([command("FUNCTION", "LOAD", event.code)])
            elif isinstance(event, Aux) and event.key == b"lua":
                self._put([command("SCRIPT", "LOAD", event.value)])

    def _batch(self, batch: Batch) -> None:
        self._select(batch.db)
        buf = batch.buf
        for type_byte, key, start, end, _data, expire_ms, _hint in batch.entries:
            if t.kind_of(type_byte, self._dialect) == "module":
                self._put(self._restore(key, type_byte, buf[start:end], expire_ms))
                continue
            reader = element_reader(type_byte, self._dialect)
            elements, _pos, done = reader.feed(buf, start)
            if not done:
                raise CodecError("the value of key %r ends early" % key[:200], batch.base + start)
            building = _Building(key, t.kind_of(type_byte, self._dialect) or "", self._product)
            self._put(building.add(elements))
            self._put(building.end(getattr(reader, "stream", None), expire_ms))

    def _restore(self, key: bytes, type_byte: int, body: bytes, expire_ms: Optional[int]) -> Iterator[bytes]:
        yield command("RESTORE", key, 0, foot(type_byte, body, self._version))
        if expire_ms is not None:
            yield command("PEXPIREAT", key, expire_ms)

    def _select(self, db: int) -> None:
        if db != self._db:
            self._db = db
            self._put([command("SELECT", db)])

    def _put(self, commands: Iterable[bytes]) -> None:
        for one in commands:
            self._parts.append(one)
            self._size += len(one)
            if self._size >= _BUFFER:
                self._flush()

    def _flush(self) -> None:
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        self._output.write(data)


class _Building:
    """The commands for one key, as its elements come (in the forms of ``_codec/values.py``)."""

    def __init__(self, key: bytes, kind: str, product: Product) -> None:
        self._key = key
        self._kind = kind
        self._product = product
        self._begun = False

    def add(self, elements: List[Any]) -> Iterator[bytes]:
        key, kind = self._key, self._kind
        if kind == "string":
            for element in elements:
                yield command("APPEND" if self._begun else "SET", key, element)
                self._begun = True
        elif kind == "stream":
            for node in elements:
                for ms, seq, fields in streams.node_entries(*node):
                    self._begun = True
                    yield command("XADD", key, _id((ms, seq)), *_flat(fields))
        else:
            for first in range(0, len(elements), _ELEMENTS):
                yield from self._some(elements[first : first + _ELEMENTS])

    def _some(self, elements: List[Any]) -> Iterator[bytes]:
        """One command with elements of a collection."""
        key, kind = self._key, self._kind
        if kind == "list":
            yield command("RPUSH", key, *elements)
        elif kind == "set":
            yield command("SADD", key, *elements)
        elif kind == "zset":
            yield command("ZADD", key, *_flat((score, member) for member, score in elements))
        else:
            yield command("HMSET", key, *_flat((field, value) for field, value, _expire in elements))
            expiries: Dict[int, List[bytes]] = {}
            for field, _value, expire in elements:
                if expire:
                    expiries.setdefault(expire, []).append(field)
            for expire, fields in expiries.items():
                yield command("HPEXPIREAT", key, expire, "FIELDS", len(fields), *fields)

    def end(self, stream: Optional[streams.Stream], expire_ms: Optional[int]) -> Iterator[bytes]:
        if self._kind == "string" and not self._begun:
            yield command("SET", self._key, b"")
        if stream is not None:
            yield from self._stream(stream)
        if expire_ms is not None:
            yield command("PEXPIREAT", self._key, expire_ms)

    def _stream(self, stream: streams.Stream) -> Iterator[bytes]:
        """What a stream has beside its entries."""
        key = self._key
        counted = self._product.compatible >= (7, 0)
        if not self._begun:
            # An entry that is trimmed at once leaves the stream there, empty.
            yield command("XADD", key, "MAXLEN", 0, "0-1", "x", "y")
        words: Tuple[Argument, ...] = ("XSETID", key, _id(stream.last_id))
        if counted:
            words += ("ENTRIESADDED", stream.entries_added, "MAXDELETEDID", _id(stream.max_deleted_id))
        yield command(*words)
        for group in stream.groups:
            words = ("XGROUP", "CREATE", key, group.name, _id(group.last_id))
            if counted and group.entries_read != streams.UNKNOWN:
                words += ("ENTRIESREAD", group.entries_read)
            yield command(*words)
            details = {item: (delivered, times) for item, delivered, times in group.pel}
            for consumer in group.consumers:
                if self._product.compatible >= (6, 2):
                    yield command("XGROUP", "CREATECONSUMER", key, group.name, consumer.name)
                for item in consumer.pel:
                    delivered, times = details[item]
                    yield command(
                        "XCLAIM", key, group.name, consumer.name, 0, _id(item),
                        "TIME", delivered, "RETRYCOUNT", times, "JUSTID", "FORCE",
                    )  # fmt: skip


def _id(item: Tuple[int, int]) -> bytes:
    return b"%d-%d" % item


def _flat(pairs: Iterable[Tuple[Any, Any]]) -> List[Any]:
    return [part for pair in pairs for part in pair]
