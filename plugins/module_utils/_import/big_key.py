# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One big key in parts: built from nothing by commands that each hold the target for a moment only.

A reader of the target can see the key grow. A run that dies meanwhile leaves an unfinished key, so its name is in a journal
from before the first command until after the last: the next run knows that this key is its own to build again.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Dict, Iterable, Iterator, List, Optional

from .._codec import types as t
from .._codec.rdb import BigStart
from .._codec.resp import command, double
from .._codec.stream import Stream, node_entries
from .._errors import ConflictError, UnsupportedTypeError
from .._sink.frames import show
from .._sink.target import Target
from .receipts import unwritable, write_private

# Bytes and arguments per command: about a millisecond of the target's time.
_BYTES = 256 << 10
_ARGUMENTS = 1024
# Pieces of a long string; larger ones than the target's query buffer likes gain nothing.
_PIECE = 1 << 20


class Journal:
    """The name of the key under construction, in a file of mode 0600 that survives a crash; ``path`` None keeps none."""

    def __init__(self, path: Optional[str]) -> None:
        self._path = path
        self._left = self._read()

    def is_ours(self, db: int, key: bytes) -> bool:
        """Whether an earlier run left this key unfinished."""
        return (db, key) in self._left

    def begin(self, db: int, key: bytes) -> None:
        """Note the key before its first command."""
        self._left.add((db, key))
        self._write()

    def end(self, db: int, key: bytes) -> None:
        """The key is complete."""
        self._left.discard((db, key))
        self._write()

    def _read(self) -> set:
        if self._path is None or not os.path.exists(self._path):
            return set()
        with open(self._path, encoding="ascii") as handle:
            return {(db, base64.b64decode(key)) for db, key in json.load(handle)}

    def _write(self) -> None:
        if self._path is None:
            return
        if self._left:
            names = [[db, base64.b64encode(key).decode("ascii")] for db, key in sorted(self._left)]
            write_private(self._path, json.dumps(names))
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise unwritable(self._path, exc) from exc


class BigKey:
    """Writes one big key: ``begin`` says whether it is wanted at all, then ``add`` its elements, then ``end``."""

    def __init__(self, target: Target, journal: Journal, start: BigStart, db: int, kind: str) -> None:
        self._target = target
        self._journal = journal
        self._start = start
        self._db = db
        self._kind = kind
        self._first = True

    def begin(self) -> bool:
        """Make room for the key; False when the policy leaves an existing one alone. ConflictError, ServerError."""
        key = self._start.key
        if self._kind not in _WRITERS:
            raise self._unsupported("%s values cannot be written in parts" % self._kind)
        ours = self._journal.is_ours(self._db, key)
        if self._target.policy != "replace" and not ours:
            if self._target.call(key, self._db, [command("EXISTS", key)])[0]:
                if self._target.policy == "fail":
                    raise ConflictError(
                        "%s, key %s in db %d" % (self._target.endpoint.label, show(key), self._db),
                        "exists already, and on_conflict is fail",
                        "Set on_conflict to replace or skip, or empty the target",
                    )
                self._target.skipped += 1
                return False
        self._journal.begin(self._db, key)
        # A proxy need not know what its nodes know.
        knows_unlink = self._target.dialect.capabilities.unlink and self._target.instance.topology.kind != "proxy_cluster"
        unlink = "UNLINK" if knows_unlink else "DEL"
        self._target.call(key, self._db, [command(unlink, key)])
        return True

    def add(self, elements: List[Any]) -> None:
        """Write the next elements and wait for the target."""
        for frames in _groups(_WRITERS[self._kind](self, elements)):
            self._target.call(self._start.key, self._db, frames)

    def end(self, stream: Optional[Stream]) -> None:
        """Write what a stream has beside its nodes, set the expiry; from now on the key is complete."""
        key, expire = self._start.key, self._start.expire_ms
        if stream is not None:
            for frames in _groups(self._stream_end(stream)):
                self._target.call(key, self._db, frames)
        if self._first and self._kind == "string":
            self._target.call(key, self._db, [command("SET", key, b"")])
        if expire is not None:
            self._target.call(key, self._db, [command("PEXPIREAT", key, expire)])
        self._journal.end(self._db, key)
        self._target.count_written(1)

    def _unsupported(self, why: str) -> UnsupportedTypeError:
        return UnsupportedTypeError(
            "%s, key %s in db %d" % (self._target.name, show(self._start.key), self._start.db),
            why,
            "Migrate to a target that has this type, or leave the key out with exclude_keys",
        )

    # -- commands by kind ------------------------------------------------------------------------------------------

    def _string(self, pieces: List[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for pos in range(0, len(piece), _PIECE):
                yield command("SET" if self._first else "APPEND", self._start.key, piece[pos : pos + _PIECE])
                self._first = False

    def _list(self, items: List[bytes]) -> Iterator[bytes]:
        return self._series("RPUSH", ([item] for item in items))

    def _set(self, members: List[bytes]) -> Iterator[bytes]:
        return self._series("SADD", ([member] for member in members))

    def _zset(self, items: List[Any]) -> Iterator[bytes]:
        return self._series("ZADD", ([double(score), member] for member, score in items))

    def _hash(self, items: List[Any]) -> Iterator[bytes]:
        yield from self._series("HMSET", ([item[0], item[1]] for item in items))
        expiring: Dict[int, List[bytes]] = {}
        for field, _value, expire in items:
            if expire:
                expiring.setdefault(expire, []).append(field)
        if expiring and not self._target.dialect.capabilities.hash_field_ttl:
            raise self._unsupported("the target has no expiry of hash fields (it came with Redis 7.4 and Valkey 9.0)")
        for expire, fields in expiring.items():
            for pos in range(0, len(fields), _ARGUMENTS):
                part = fields[pos : pos + _ARGUMENTS]
                yield command("HPEXPIREAT", self._start.key, expire, "FIELDS", len(part), *part)

    def _stream(self, nodes: List[Any]) -> Iterator[bytes]:
        for node in nodes:
            for ms, seq, fields in node_entries(*node):
                yield command("XADD", self._start.key, b"%d-%d" % (ms, seq), *(word for pair in fields for word in pair))

    def _stream_end(self, stream: Stream) -> Iterator[bytes]:
        """Groups, consumers and pending entries, as the servers' own AOF rewrite puts them (``src/aof.c`` rewriteStreamObject).

        Like there, a pending entry whose message was deleted since does not come along.
        """
        key = self._start.key
        counts = self._target.dialect.rdb_version >= 10
        for group in stream.groups:
            args = [b"XGROUP", b"CREATE", key, group.name, b"%d-%d" % group.last_id, b"MKSTREAM"]
            if counts and group.entries_read >= 0:
                args += (b"ENTRIESREAD", b"%d" % group.entries_read)
            yield command(*args)
            pending = {item: (delivered, times) for item, delivered, times in group.pel}
            for consumer in group.consumers:
                if self._target.dialect.capabilities.set_pxat:  # XGROUP CREATECONSUMER came with 6.2, too
                    yield command("XGROUP", "CREATECONSUMER", key, group.name, consumer.name)
                for item in consumer.pel:
                    delivered, times = pending[item]
                    yield command(
                        "XCLAIM", key, group.name, consumer.name, 0, b"%d-%d" % item,
                        "TIME", delivered, "RETRYCOUNT", times, "JUSTID", "FORCE",
                    )  # fmt: skip
        args = [b"XSETID", key, b"%d-%d" % stream.last_id]
        if counts:
            args += (b"ENTRIESADDED", b"%d" % stream.entries_added, b"MAXDELETEDID", b"%d-%d" % stream.max_deleted_id)
        yield command(*args)

    def _series(self, name: str, items: Iterable[List[bytes]]) -> Iterator[bytes]:
        args: List[bytes] = []
        size = 0
        for item in items:
            args += item
            size += sum(map(len, item))
            if size >= _BYTES or len(args) >= _ARGUMENTS:
                yield command(name, self._start.key, *args)
                args, size = [], 0
        if args:
            yield command(name, self._start.key, *args)


_WRITERS = {
    "string": BigKey._string,
    "list": BigKey._list,
    "set": BigKey._set,
    "zset": BigKey._zset,
    "hash": BigKey._hash,
    "stream": BigKey._stream,
}


def _groups(frames: Iterable[bytes]) -> Iterator[List[bytes]]:
    """Frames in lists that are worth a round trip."""
    group: List[bytes] = []
    size = 0
    for frame in frames:
        group.append(frame)
        size += len(frame)
        if size >= _BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def kind_of(start: BigStart, dialect: str) -> str:
    """string, list, set, zset, hash or stream."""
    return t.kind_of(start.type, dialect) or "unknown"
