# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What is in one backup file, found by reading it once from start to end.

``take(file)`` answers for a damaged file too: with what was understood before the damage, ``complete`` false and ``error``.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Any, Counter as CounterType, Dict, List, Optional

from .._codec import types as t, wire
from .._codec.events import Aux, Batch, BigEnd, BigPart, BigStart, Function, Header, ModuleAux
from .._codec.values import module_name
from .._errors import FileError
from .aof_file import AofStream, Unit
from .big_keys import ELEMENTS, LIMIT, BigKey, BigKeys
from .rdb_file import header

if TYPE_CHECKING:
    from .files import BackupFile

RDB = "rdb"
AOF = "aof"
UNKNOWN = "unknown"

_AOF_MARKS = (b"*", b"#")
_HEAD = 512
_FRAMING = (b"SELECT", b"MULTI", b"EXEC")
_NAMES_MAX = 2000
_TYPE_OF = itemgetter(0)
_START_OF = itemgetter(2)
_END_OF = itemgetter(3)
_EXPIRY_OF = itemgetter(5)
_SHEBANG = re.compile(rb"#!\S+[^\n]*?\sname=(\S+)")


@dataclass
class Inventory:
    """What :func:`take` found. Sizes are bytes, times as named; None means that the file does not tell.

    ================= ====================================================================================================
    path, size        name for messages, bytes of the (unpacked) file
    format            ``rdb``, ``aof`` or ``unknown``
    parts             of a multi-part AOF: the manifest and the files, in the order they are read; else empty
    preamble          an AOF that begins with a snapshot; what is said of types, sizes and big keys is about that part
    rdb_version       of the snapshot, with ``dialect`` ``redis`` or ``valkey``
    product, version  of the server that wrote it: ``redis``, ``7.2.4``
    created           seconds since 1970
    used_memory       of the server when it wrote the snapshot
    keys              None where commands would have to be executed to know
    expires, expired  keys with an expiry, and those of them that are due by now
    snapshot_keys     in the snapshot, also where commands follow it
    databases         ``[{db, keys, expires}]``, of an AOF with ``commands``, and ``keys`` and ``expires`` None where these count
    types             ``{kind: keys}`` with kinds string, list, set, zset, hash, stream, module, array
    type_bytes        ``{RDB type byte: keys}``
    value_bytes       ``{kind: bytes}``, serialized values without keys
    hash_field_ttls   hashes with fields that expire
    compressed        strings that are stored compressed
    functions         names of libraries; ``?`` where the code does not tell
    scripts           Lua scripts of the script cache
    modules           names of the modules whose values or data are in it
    big_keys          the largest, ``big_keys_total`` counts all
    commands          ``{name: count}`` of an AOF, names in upper case
    complete, error   whether the file was understood to its end, or else why not
    aux               other facts of the file's head, bytes to bytes
    ================= ====================================================================================================
    """

    path: str
    size: int
    format: str = UNKNOWN
    parts: List[str] = field(default_factory=list)
    preamble: bool = False
    rdb_version: Optional[int] = None
    dialect: Optional[str] = None
    product: Optional[str] = None
    version: Optional[str] = None
    created: Optional[int] = None
    used_memory: Optional[int] = None
    keys: Optional[int] = None
    snapshot_keys: Optional[int] = None
    expires: Optional[int] = None
    expired: Optional[int] = None
    databases: List[Dict[str, Any]] = field(default_factory=list)
    types: Dict[str, int] = field(default_factory=dict)
    type_bytes: Dict[int, int] = field(default_factory=dict)
    value_bytes: Dict[str, int] = field(default_factory=dict)
    hash_field_ttls: int = 0
    compressed: int = 0
    functions: List[str] = field(default_factory=list)
    scripts: int = 0
    modules: List[str] = field(default_factory=list)
    big_keys: List[BigKey] = field(default_factory=list)
    big_keys_total: int = 0
    commands: Dict[str, int] = field(default_factory=dict)
    complete: bool = False
    error: Optional[str] = None
    aux: Dict[bytes, bytes] = field(default_factory=dict)


def take(
    file: BackupFile,
    *,
    big_key_bytes: Optional[int] = None,
    big_key_elements: int = ELEMENTS,
    limit: int = LIMIT,
) -> Inventory:
    """Read the file and say what is in it; ``limit`` is how many big keys are named.

    A key is big above ``big_key_bytes`` (None: 10 KiB for a string, 50 MiB for anything else) or ``big_key_elements``.

    :raises BucketError: the download failed, beyond the retries
    """
    return take_unit(Unit(AOF, file.name, (file,)), BigKeys(big_key_bytes, big_key_elements, limit))


def take_unit(unit: Unit, big: BigKeys) -> Inventory:
    """As :func:`take`, for what is imported as one: a file, or an AOF in several parts. ``unit.kind`` is found out anew."""
    found = Inventory(unit.name, unit.size)
    if unit.manifest is not None:
        found.format = AOF
        found.parts = [unit.manifest.name, *(part.name for part in unit.parts)]
    stream = AofStream(unit)
    try:
        _read(stream, found, big)
        found.complete = True
    except FileError as exc:
        found.error = str(exc)
        if found.format == UNKNOWN and unit.parts[0].size:
            _name_unknown_version(unit.parts[0], found)
    finally:
        stream.close()
    return found


def _name_unknown_version(file: BackupFile, found: Inventory) -> None:
    """A snapshot of a version that cannot be read is still one."""
    try:
        version, dialect = header(file)
    except FileError:
        return
    if version:
        found.format, found.rdb_version, found.dialect = RDB, version, dialect


def _read(stream: AofStream, found: Inventory, big: BigKeys) -> None:
    """Read it into ``found``; FileError where it is damaged, and then ``found`` has what came before."""
    tally = _Tally(found, big)
    try:
        for event in stream.events(unpack=False):
            tally.add(event)
    finally:
        tally.finish()
    if found.rdb_version is None and found.format == UNKNOWN and begins_as_aof(stream.unit.parts[0]):
        found.format = AOF
    commands = _Commands()
    try:
        for args, _frame, _offset in stream.commands():
            commands.add(args)
    finally:
        commands.finish(found)


def begins_as_aof(file: BackupFile) -> bool:
    """Whether the file is an AOF without a snapshot, as its first byte says; an empty part of one is."""
    if not file.size:
        return True
    return file.head(1).startswith(_AOF_MARKS)


class _Commands:
    """Counts the commands of an AOF, in all and by database."""

    def __init__(self) -> None:
        self._db = 0
        self._names: CounterType[bytes] = Counter()
        self._by_db: Dict[int, CounterType[bytes]] = {0: self._names}

    def add(self, args: List[bytes]) -> None:
        """Count one command; SELECT and MULTI are counted, but not as commands of a database."""
        name = args[0]
        self._names[name] += 1
        if len(name) == 6 and len(args) == 2 and name.upper() == b"SELECT" and args[1].isdigit() and len(args[1]) < 10:
            self._db = int(args[1])
            self._names = self._by_db.setdefault(self._db, Counter())
        elif len(self._names) > _NAMES_MAX:
            # Thousands of names are no names: the file is damaged in a way that still looks like commands.
            del self._names[name]
            self._names[b"..."] += 1

    def finish(self, found: Inventory) -> None:
        """Write what was counted into the inventory."""
        names: CounterType[str] = Counter()
        rows = {row["db"]: row for row in found.databases}
        for db, counted in sorted(self._by_db.items()):
            for name, number in counted.items():
                names[_text(name[:64]).upper()] += number
            writes = sum(number for name, number in counted.items() if name.upper() not in _FRAMING)
            if writes:
                rows.setdefault(db, {"db": db, "keys": None, "expires": None})["commands"] = writes
        if not names and found.format != AOF and found.aux.get(b"aof-preamble") != b"1":
            return
        found.preamble = found.rdb_version is not None
        found.format = AOF
        found.commands = dict(names.most_common())
        if names or not found.preamble:
            # What the commands leave of the keys is not known without executing them.
            found.keys = found.expires = found.expired = None
            for row in rows.values():
                row["keys"] = row["expires"] = None
        for row in rows.values():
            row.setdefault("commands", 0)
        found.databases = [rows[db] for db in sorted(rows)]


class _Tally:
    """Counts the events of a snapshot into an inventory."""

    def __init__(self, found: Inventory, big: BigKeys) -> None:
        self._found = found
        self._big = big
        self._now_ms = int(time.time() * 1000)
        self._type_bytes: CounterType[int] = Counter()
        self._value_bytes: CounterType[int] = Counter()
        self._keys: CounterType[int] = Counter()
        self._expires: CounterType[int] = Counter()
        self._expired = 0
        self._compressed = 0
        self._modules: Dict[str, None] = {}
        self._start: Optional[BigStart] = None
        self._elements: Optional[int] = 0

    def add(self, event: Any) -> None:
        """Count one event."""
        _HANDLERS[type(event)](self, event)

    def _batch(self, batch: Batch) -> None:
        # Whole columns at a time: 0.2 us a key, where a loop over the entries took 0.6.
        entries, buf = batch.entries, batch.buf
        kinds = list(map(_TYPE_OF, entries))
        sizes = list(map(sub, map(_END_OF, entries), map(_START_OF, entries)))
        self._type_bytes.update(kinds)
        self._keys[batch.db] += len(entries)
        if kinds.count(kinds[0]) == len(kinds):
            self._value_bytes[kinds[0]] += sum(sizes)
        else:
            value_bytes = self._value_bytes
            for kind, size in zip(kinds, sizes):
                value_bytes[kind] += size
        expiries = list(map(_EXPIRY_OF, entries))
        expires = len(entries) - expiries.count(None)
        if expires:
            now = self._now_ms
            self._expires[batch.db] += expires
            self._expired += sum(1 for when in expiries if when is not None and when <= now)
        # entry[4] is 0 for what is not a plain string.
        self._compressed += sum([1 for entry in entries if not entry[4] and not entry[0] and buf[entry[2]] == 0xC3])
        if t.MODULE_2 in kinds:
            for entry in entries:
                if entry[0] == t.MODULE_2:
                    self._modules[module_name(wire.read_length(buf, entry[2])[0])] = None
        self._big.scan(batch, sizes)

    def _begin(self, start: BigStart) -> None:
        self._start = start
        self._elements = None if start.type == t.STRING else 0
        self._type_bytes[start.type] += 1
        self._keys[start.db] += 1
        if start.expire_ms is not None:
            self._expires[start.db] += 1
            self._expired += start.expire_ms <= self._now_ms

    def _part(self, part: BigPart) -> None:
        if self._start is None or self._elements is None:
            return
        if t.kind_of(self._start.type, self._big.dialect) == "stream":
            self._elements += sum(_node_entries(blob) for _id, blob in part.elements)
        else:
            self._elements += len(part.elements)

    def _end(self, end: BigEnd) -> None:
        start, self._start = self._start, None
        if start is None:
            return
        self._value_bytes[start.type] += end.size
        self._big.add(start, start.length if self._elements is None else end.size, self._elements)

    def _header(self, header: Header) -> None:
        self._found.rdb_version, self._found.dialect = header
        if self._found.format == UNKNOWN:
            self._found.format = RDB
        self._big.dialect = header.dialect

    def _function(self, function: Function) -> None:
        name = _SHEBANG.match(function.code)
        self._found.functions.append(_text(name.group(1)) if name else "?")

    def _module(self, data: ModuleAux) -> None:
        self._modules[data.module] = None

    def _aux(self, aux: Aux) -> None:
        found = self._found
        if aux.key == b"lua":
            found.scripts += 1
        elif aux.key.endswith(b"-ver"):
            if found.product in (None, "redis"):
                found.product, found.version = _text(aux.key[:-4]), _text(aux.value)
        elif aux.key == b"mvcc-tstamp":
            # KeyDB calls itself redis in redis-ver, and gives every key this.
            found.product = "keydb"
        elif aux.key == b"ctime":
            found.created = _number(aux.value)
        elif aux.key == b"used-mem":
            found.used_memory = _number(aux.value)
        if len(found.aux) < _AUX_MAX and len(aux.value) < _AUX_MAX:
            found.aux.setdefault(aux.key[:_AUX_MAX], aux.value)

    def finish(self) -> None:
        """Write what was counted into the inventory."""
        found = self._found
        if found.rdb_version is None:
            return
        dialect = found.dialect or t.REDIS
        found.keys = found.snapshot_keys = sum(self._keys.values())
        found.expires = sum(self._expires.values())
        found.expired = self._expired
        found.databases = [
            {"db": db, "keys": keys, "expires": self._expires[db]} for db, keys in sorted(self._keys.items())
        ]
        found.type_bytes = dict(sorted(self._type_bytes.items()))
        found.types = _by_kind(self._type_bytes, dialect)
        found.value_bytes = _by_kind(self._value_bytes, dialect)
        found.hash_field_ttls = sum(self._type_bytes[number] for number in t.FIELD_EXPIRY[dialect])
        found.compressed = self._compressed
        found.modules = sorted(self._modules)
        found.big_keys = self._big.largest()
        found.big_keys_total = self._big.total


_AUX_MAX = 64
_HANDLERS = {
    Batch: _Tally._batch,
    BigStart: _Tally._begin,
    BigPart: _Tally._part,
    BigEnd: _Tally._end,
    Header: _Tally._header,
    Aux: _Tally._aux,
    Function: _Tally._function,
    ModuleAux: _Tally._module,
}


def _by_kind(counts: CounterType[int], dialect: str) -> Dict[str, int]:
    kinds: Dict[str, int] = {}
    for type_byte, number in sorted(counts.items()):
        kind = t.kind_of(type_byte, dialect) or "unknown"
        kinds[kind] = kinds.get(kind, 0) + number
    return kinds


def _text(data: bytes) -> str:
    return data[:200].decode("utf-8", "backslashreplace")


def _number(data: bytes) -> Optional[int]:
    return int(data) if data.isdigit() and len(data) < 20 else None


def _node_entries(blob: bytes) -> int:
    """Entries in one node of a stream: the first element of its listpack, an integer in 7, 13 or 16 bits; 0 if it is none of these."""
    if len(blob) < 10:
        return 0
    first = blob[6]
    if first < 0x80:
        return first
    if 0xC0 <= first < 0xE0:
        return (first & 0x1F) << 8 | blob[7]
    return int.from_bytes(blob[7:9], "little") if first == 0xF1 else 0
