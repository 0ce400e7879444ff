# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Expiries while an AOF is replayed: a server expires nothing while it loads one, but the target is a master and always does.

A key whose time passed after the snapshot or the command that set it may have been prolonged by a later command. So every moment of expiry
goes out put off by ``PUT_OFF``, about eleven hundred years. Its order among the others stays, and with it what GT and LT do; RENAME,
COPY and KEEPTTL carry it along as it is. At the end the true moment is computed back for every key, and hash field, that still bears one
that was put off; PEXPIREAT then deletes what has really expired.

Which keys may bear one is noted: up to ``_HELD`` in memory, more of them in a temporary file without a name. Nothing has to outlast the run: one
that was cut off is done again from the start, and sets the same times, of the same keys, again.

Times to live (EXPIRE, SETEX) stay as they are. Servers log moments; in the commands of a script, which may hold others, nothing is put off.
"""

from __future__ import annotations

import struct
import tempfile
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Tuple

from .._codec import types as t, values
from .._codec.commands import Spec
from .._codec.errors import CodecError
from .._codec.events import Batch, BigEnd, BigPart, BigStart, Entry, Event
from .._codec.resp import command
from .._sink.commands import ask_each
from .._sink.target import Target
from .aof_conflicts import other_db
from .receipts import unwritable

# Hash fields take no moment from 2**46 on (``src/ebuckets.h`` in redis/redis), so there is room for this one and any up to the year 2527.
PUT_OFF = 1 << 45
_LATEST = 1 << 44
# Keys noted in memory: some MiB; with as many more for each question to the target.
_HELD = 20_000
# Since when a server tells the moment of an expiry, and not only how far away it is.
_PEXPIRETIME_SINCE = (7, 0)
# Between the question for a time to live and its answer (ms), so much may pass at most.
_ASKING_MS = 10_000
# A hash of the snapshot is written in commands, more slowly, if a field expires as soon as this: longer than any import takes.
_SOON_MS = 7 * 86_400_000
_FIELDS = 1000

# What is noted of a key: it is from the snapshot, fields of it may expire.
_SNAPSHOT, _WITH_FIELDS = 1, 2
_RECORD = struct.Struct("<BqII")

# Where a command has its moment: position, whether in seconds, and the position of the word that says so. None: it has none.
_Place = Optional[Tuple[int, bool, int]]
_Noted = Dict[Tuple[int, bytes], Tuple[int, int]]


def put_off(moment: int) -> int:
    """The moment (ms since 1970) to send instead."""
    return moment if moment >= _LATEST else max(moment, 0) + PUT_OFF


def true_moment(moment: int) -> int:
    """The counterpart of :func:`put_off`; a moment that was not put off stays."""
    return moment - PUT_OFF if PUT_OFF - _ASKING_MS <= moment < PUT_OFF + _LATEST else moment


# -- where moments stand -------------------------------------------------------------------------------------------------------


def _second(seconds: bool) -> Callable[[List[bytes]], _Place]:
    return lambda args: (2, seconds, 0) if len(args) > 2 else None


def _option(first: int) -> Callable[[List[bytes]], _Place]:
    """PXAT ms or EXAT s among the options from position ``first`` on, and before FIELDS."""

    def find(args: List[bytes]) -> _Place:
        for pos in range(first, len(args) - 1):
            word = args[pos].upper()
            if word in (b"PXAT", b"EXAT"):
                return pos + 1, word == b"EXAT", pos
            if word == b"FIELDS":
                break
        return None

    return find


def _msetex(args: List[bytes]) -> _Place:
    if len(args) < 2 or not args[1].isdigit():
        return None
    return _option(2 + 2 * int(args[1]))(args)


def _restore(args: List[bytes]) -> _Place:
    if len(args) < 5 or args[2] == b"0" or b"ABSTTL" not in map(bytes.upper, args[4:]):
        return None
    return 2, False, 0


_PLACES: Dict[bytes, Callable[[List[bytes]], _Place]] = {
    b"PEXPIREAT": _second(False),
    b"EXPIREAT": _second(True),
    b"SET": _option(3),
    b"GETEX": _option(2),
    b"MSETEX": _msetex,
    b"RESTORE": _restore,
    b"RESTORE-ASKING": _restore,
    b"HPEXPIREAT": _second(False),
    b"HEXPIREAT": _second(True),
    b"HSETEX": _option(2),
    b"HGETEX": _option(2),
}
_OF_FIELDS = frozenset((b"HPEXPIREAT", b"HEXPIREAT", b"HSETEX", b"HGETEX"))
_IN_MS = {b"EXPIREAT": b"PEXPIREAT", b"HEXPIREAT": b"HPEXPIREAT", b"EXAT": b"PXAT"}
# Commands by which a key gets the expiry of another one.
_CARRIERS = frozenset((b"RENAME", b"RENAMENX", b"COPY", b"MOVE", b"EVAL", b"EVALSHA", b"FCALL"))

TOUCHED = _CARRIERS | frozenset(_PLACES)


class Expiries:
    """Puts off expiries (:meth:`hold`, :meth:`events`) and sets them right at the end (:meth:`settle`).

    ``folder`` is where the temporary file goes (None: where the system has them).
    """

    def __init__(self, target: Target, folder: Optional[str] = None) -> None:
        self._target = target
        self._folder = folder
        self._noted: _Noted = {}
        self._file: Optional[IO[bytes]] = None
        self._fields = False
        self._exact = (
            target.instance.product.compatible >= _PEXPIRETIME_SINCE and target.instance.topology.kind != "proxy_cluster"
        )

    def hold(self, db: int, args: List[bytes], spec: Spec) -> List[bytes]:
        """The arguments to send instead of ``args``, a command of ``TOUCHED``. FileError where the temporary file cannot be written."""
        find = _PLACES.get(spec.name)
        if find is None:
            self._carry(db, args, spec)
            return args
        place = find(args)
        if place is None:
            return args
        pos, seconds, word = place
        try:
            moment = int(args[pos][:21]) * (1000 if seconds else 1)
        except ValueError:
            return args  # the target says what is wrong with it
        if moment >= _LATEST:
            return args
        held = list(args)
        held[pos] = b"%d" % put_off(moment)
        if seconds:
            held[word] = _IN_MS[args[word].upper()]
        of_fields = spec.name in _OF_FIELDS
        self._fields = self._fields or of_fields
        for key_pos in spec.find(args):
            self._note(db, args[key_pos], 0 if of_fields else moment, _WITH_FIELDS if of_fields else 0)
        return held

    def entries(self, db: int, entries: List[Entry]) -> List[Entry]:
        """Entries of the snapshot that go to ``db``, with their expiries put off."""
        held = []
        for entry in entries:
            expire = entry[5]
            if expire is not None:
                self._note(db, entry[1], expire, _SNAPSHOT)
                entry = (*entry[:5], put_off(expire), entry[6])
            held.append(entry)
        return held

    def start(self, db: int, start: BigStart) -> BigStart:
        """The same for a big key."""
        if start.expire_ms is None:
            return start
        self._note(db, start.key, start.expire_ms, _SNAPSHOT)
        return start._replace(expire_ms=put_off(start.expire_ms))

    def part(self, db: int, start: BigStart, part: BigPart, dialect: str) -> BigPart:
        """The same for the fields of a big hash."""
        if start.type not in t.FIELD_EXPIRY[dialect]:
            return part
        self._fields = True
        self._note(db, start.key, 0, _WITH_FIELDS)
        return BigPart([(field, value, put_off(expire) if expire else 0) for field, value, expire in part.elements])

    def with_fields(self, db: int, batch: Batch, dialect: str) -> Iterator[Event]:
        """The batch, which goes to ``db``; hashes with fields that expire soon, or did, as if they were big keys: their payload holds the moments."""
        kinds = t.FIELD_EXPIRY[dialect]
        if not self._target.dialect.capabilities.hash_field_ttl or not any(entry[0] in kinds for entry in batch.entries):
            yield batch
            return
        rest = []
        soon = self._target.now_ms() + _SOON_MS
        for entry in batch.entries:
            items = _items(entry, batch.buf, dialect) if entry[0] in kinds else []
            if not any(0 < item[2] <= soon for item in items):
                rest.append(entry)
                continue
            kind, key, pos, end, _data, expire, hint = entry
            start = BigStart(batch.db, kind, key, 0, expire, hint, batch.base + pos)
            yield start
            yield self.part(db, start, BigPart(items), dialect)
            yield BigEnd(end - pos, None)
        yield batch._replace(entries=rest)

    # -- notes -----------------------------------------------------------------------------------------------------

    def _carry(self, db: int, args: List[bytes], spec: Spec) -> None:
        keys = [args[pos] for pos in spec.find(args)]
        other = other_db(args, spec)
        moment = self._noted.get((db, keys[0]), (0, 0))[1] if keys and spec.name not in (b"EVAL", b"EVALSHA", b"FCALL") else 0
        for key in keys:
            self._note(db, key, moment, _WITH_FIELDS)
        if other is not None and keys:
            self._note(other, keys[-1], moment, _WITH_FIELDS)

    def _note(self, db: int, key: bytes, moment: int, flags: int) -> None:
        noted = self._noted
        before = noted.get((db, key))
        if before is not None:
            noted[db, key] = (flags | before[0], moment or before[1])
            return
        if len(noted) >= _HELD:
            self._spill()
        noted[db, key] = (flags, moment)

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)
            self._file.write(
                b"".join(_RECORD.pack(flags, moment, db, len(key)) + key for (db, key), (flags, moment) in self._noted.items())
            )
        except OSError as exc:
            raise unwritable(self._folder or tempfile.gettempdir(), exc) from exc
        self._noted.clear()

    def _batches(self) -> Iterator[_Noted]:
        """What was noted, in the order it was, in groups of a bounded size."""
        if self._file is not None:
            try:
                self._file.seek(0)
                group: _Noted = {}
                while True:
                    head = self._file.read(_RECORD.size)
                    if not head:
                        break
                    flags, moment, db, size = _RECORD.unpack(head)
                    group[db, self._file.read(size)] = (flags, moment)
                    if len(group) >= _HELD:
                        yield group
                        group = {}
                yield group
            except OSError as exc:
                raise unwritable(self._folder or tempfile.gettempdir(), exc) from exc
            finally:
                self._file.close()
                self._file = None
        noted, self._noted = self._noted, {}
        yield noted

    # -- the end ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Give every key its true expiry; once all commands are answered. Keys that it ends are counted by the target. MigrationError."""
        for noted in self._batches():
            for db in sorted({db for db, _key in noted}):
                self._settle(db, {key: what for (other, key), what in noted.items() if other == db})

    def _settle(self, db: int, noted: Dict[bytes, Tuple[int, int]]) -> None:
        target = self._target
        if self._fields:
            keys = [key for key, (flags, _moment) in noted.items() if flags & _WITH_FIELDS]
            for key, kind in zip(keys, ask_each(target, db, keys, b"TYPE")):
                if kind == b"hash":
                    self._settle_fields(db, key)
        now = target.now_ms()
        times = ask_each(target, db, list(noted), b"PEXPIRETIME" if self._exact else b"PTTL")
        frames = []
        for (key, (flags, moment)), time in zip(noted.items(), times):
            held = time if self._exact or time < 0 else now + time
            true = true_moment(held)
            if true == held:
                continue
            if not self._exact:
                true = moment if abs(true - moment) < _ASKING_MS else self._ask_again(db, key)
            frames.append((key, [command("PEXPIREAT", key, max(true, 1))]))
            if true <= now:
                target.expired += 1
                if flags & _SNAPSHOT:
                    target.count_written(-1)
        target.send(frames, db)

    def _ask_again(self, db: int, key: bytes) -> int:
        """The true moment of a key of which nobody knows it, on a server that tells only how far away it is: to a few ms."""
        now = self._target.now_ms()
        return true_moment(now + self._target.call(key, db, [command("PTTL", key)])[0])

    def _settle_fields(self, db: int, key: bytes) -> None:
        cursor: Any = b"0"
        while True:
            cursor, fields = self._target.call(key, db, [command("HSCAN", key, cursor, "COUNT", _FIELDS, "NOVALUES")])[0]
            if fields:
                times = self._target.call(key, db, [command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)])[0]
                held: Dict[int, List[bytes]] = {}
                for field, time in zip(fields, times):
                    if true_moment(time) != time:
                        held.setdefault(true_moment(time), []).append(field)
                frames = [command("HPEXPIREAT", key, max(true, 1), "FIELDS", len(part), *part) for true, part in held.items()]
                self._target.call(key, db, frames)
            if cursor == b"0":
                return


def _items(entry: Entry, buf: bytes, dialect: str) -> List[Any]:
    """The fields of a hash of the snapshot; none for one that cannot be read, of which the target says what is wrong."""
    try:
        value, _end = values.decode(entry[0], buf, entry[2], dialect)
    except CodecError:
        return []
    return value.items if isinstance(value, values.Hash) else []
