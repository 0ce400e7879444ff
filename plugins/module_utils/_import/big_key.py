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
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from .._codec import types as t
from .._codec.events import BigStart
from .._codec.resp import arguments, command, double
from .._codec.stream import Stream, node_entries
from .._errors import ConflictError, ReplyError, UnsupportedTypeError
from .._sink.frames import show
from .._sink.target import Target
from .big_same import Comparison
from .receipts import unreadable_journal, unwritable, write_private

# Bytes and arguments per command: about a millisecond of the target's time.
_BYTES = 256 << 10
_ARGUMENTS = 1024
# Pieces of a long string; larger ones than the target's query buffer likes gain nothing.
_PIECE = 1 << 20


class Journal:
    """The name of the key under construction, in a file of mode 0600 that survives a crash; ``path`` None keeps none. FileError."""

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
        try:
            with open(self._path, encoding="ascii") as handle:
                return {(db, base64.b64decode(key)) for db, key in json.load(handle)}
        except (OSError, ValueError, TypeError) as exc:
            raise unreadable_journal(self._path, exc) from exc

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
    """Writes one big key: ``begin`` says whether it is wanted at all, then ``add`` its elements, then ``end``.

    ``dropped`` counts pending entries of a stream whose messages were deleted: no command makes those.
    """

    def __init__(self, target: Target, journal: Journal, start: BigStart, db: int, kind: str) -> None:
        self._target = target
        self._journal = journal
        self._start = start
        self.key = start.key
        self.db = db
        self._kind = kind
        # What the target has by now: bytes of a string, items of a list.
        self._built = False
        self._size = 0
        self._comparison: Optional[Comparison] = None
        self.dropped = 0

    def begin(self) -> bool:
        """Make room for the key; False when the policy leaves an existing one alone. ConflictError, ServerError."""
        key = self._start.key
        if self._kind not in _WRITERS:
            raise self._unsupported("%s values cannot be written in parts" % self._kind)
        ours = self._journal.is_ours(self.db, key)
        if self._target.policy != "replace" and not ours:
            if self._target.call(key, self.db, [command("EXISTS", key)])[0]:
                if self._target.policy == "fail":
                    # It may be of a run that was cut off later: whether it is the same shows at its end.
                    self._comparison = Comparison(key, self._kind, lambda frames: self._target.call(key, self.db, frames))
                    return True
                self._target.skipped += 1
                return False
        self._journal.begin(self.db, key)
        # A proxy need not know what its nodes know.
        knows_unlink = self._target.dialect.capabilities.unlink and self._target.instance.topology.kind != "proxy_cluster"
        unlink = "UNLINK" if knows_unlink else "DEL"
        self._target.call(key, self.db, [command(unlink, key)])
        return True

    def add(self, elements: List[Any]) -> None:
        """Write the next elements and wait for the target."""
        for frames in _groups(_WRITERS[self._kind](self, elements)):
            if self._comparison is not None:
                self._comparison.add(frames)
                continue
            self._build(frames)
            if self._kind == "list":
                self._size += sum(map(_items, frames))

    def end(self, stream: Optional[Stream]) -> None:
        """Write what a stream has beside its nodes, set the expiry; from now on the key is complete."""
        key, expire = self._start.key, self._start.expire_ms
        if self._comparison is not None:
            if not self._comparison.end():
                raise ConflictError(
                    "%s, key %s in db %d" % (self._target.endpoint.label, show(key), self.db),
                    "exists already with another value, and on_conflict is fail",
                    "Set on_conflict to replace or skip, or empty the target",
                )
            self._target.skipped += 1
            return
        if stream is not None:
            for frames in _groups(self._stream_end(stream)):
                # XCLAIM tells the entries it made; for the one of a deleted message there is none.
                self.dropped += self._build(frames).count([])
        if not self._built and self._kind == "string":
            self._target.call(key, self.db, [command("SET", key, b"")])
        if expire is not None:
            self._target.call(key, self.db, [command("PEXPIREAT", key, expire)])
        self._journal.end(self.db, key)
        self._target.count_written(1)

    def _build(self, frames: List[bytes]) -> List[Any]:
        replies = self._target.build(self.key, self.db, frames, lambda: self._undo(frames))
        self._built = True
        return replies

    def _undo(self, frames: List[bytes]) -> List[bytes]:
        """Commands that take back ``frames``, none where doing them again comes to the same. ReplyError where that cannot be."""
        key = self._start.key
        if not self._built:
            return [command("DEL", key)]
        if self._kind == "list":
            return [command("LTRIM", key, 0, self._size - 1)]
        if self._kind != "stream":
            return []
        words = list(map(arguments, frames))
        if any(args[0] == b"XADD" for args in words):
            # No server takes an ID below one that it had, not even when that was deleted.
            raise ReplyError(
                "%s, key %s in db %d" % (self._target.endpoint.label, show(key), self.db),
                "the target refused a part of this stream for a while (BUSY), and took what comes after it",
                "Run again when no long scripts run there: the key is built anew",
            )
        return [command("XGROUP", "DESTROY", key, args[3]) for args in words if args[:2] == [b"XGROUP", b"CREATE"]]

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
                part = piece[pos : pos + _PIECE]
                # Done twice it comes to the same, unlike an APPEND.
                head: Tuple[Any, ...] = ("SETRANGE", self._start.key, self._size) if self._size else ("SET", self._start.key)
                yield command(*head, part)
                self._size += len(part)

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
        """Groups, consumers and pending entries, as the servers' own AOF rewrite puts them (``src/aof.c`` rewriteStreamObject)."""
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


def _items(frame: bytes) -> int:
    """How many there are in a command behind its name and key."""
    return int(frame[1 : frame.index(b"\r")]) - 2


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
