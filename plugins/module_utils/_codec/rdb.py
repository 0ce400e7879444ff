# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A snapshot (RDB file) as a stream of events, fed in any chunking.

Source: ``src/rdb.c`` (rdbLoadRioWithLoadingCtx, rdbSaveRio) in redis/redis and valkey-io/valkey.

The scanner finds where values end and never decodes them; an entry is a tuple of slices over its batch's
buffer (see :class:`Batch`). A value larger than ``big`` bytes does not have to be in memory at once: it comes
as :class:`BigStart`, any number of :class:`BigPart`, :class:`BigEnd`.
"""

from __future__ import annotations

import struct
from typing import Any, Iterator, List, Optional, Tuple

from . import claims, skip, types as t, wire
from .crc64 import crc64
from .errors import ChecksumError, CodecError, TruncatedError, UnsupportedError
from .events import Aux, Batch, BigEnd, BigPart, BigStart, Entry, Event, Function, Header, ModuleAux
from .flat import FlatLists, FlatFormat
from .values import PackedReader, StringReader, element_reader, module_name

BIG_VALUE = 4 << 20
# A stream stays whole up to so many times the size of other values: commands cannot make all that is in it.
_STREAM_WHOLE = 4
# What a reader leaves unread beyond this is one long string, not a number or an ID.
_LONG = 4096
# The first byte of a compressed string.
_LZF = 0xC0 | wire.ENC_LZF
_HEADER = 9
_CHECKSUM_SINCE = 5
# Of strings that are stored as integers, by their encoding (0xC0 to 0xC2).
_INTEGERS = [struct.Struct(code).unpack_from for code in ("<b", "<h", "<i")]


class _TooLong(TruncatedError):
    """An item that cannot end within the file: no further bytes will help."""


class RdbScanner:
    """Feed it the bytes of an RDB file; ``total`` is the file's size where it is known.

    With ``flat`` most keys come in ``Batch.flat``; what has a hint, and plain strings from 16 KiB on, stay entries.
    ``unpack`` False is for whoever only counts: compressed strings that come in parts come without any, and take no time.

    After the last chunk call :meth:`close`. ``version``, ``dialect`` are set by the header, ``offset`` is the position
    up to which the file is understood, ``done`` tells that the end mark and the checksum were read, ``rest`` holds what
    came after them (an AOF with an RDB preamble goes on there). Errors carry positions in the file.
    """

    def __init__(self, total: Optional[int] = None, big: int = BIG_VALUE, flat: Optional[FlatFormat] = None, unpack: bool = True) -> None:
        self.version = 0
        self.dialect = t.REDIS
        self.done = False
        self.rest = b""
        self.offset = 0
        self.db = 0
        self._total = total
        self._big = big
        self._format = flat
        self._flat = FlatLists()
        self._type_bytes: List[bytes] = []
        self._unpack = unpack
        self._pieces: List[bytes] = []
        self._have = 0
        self._need = _HEADER
        self._crc = 0
        self._skippers: List[Optional[skip.Skipper]] = []
        self._reader: Any = None
        self._reader_type = t.STRING
        self._value_start = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that ``data`` completes. Exhaust the iterator before the next call."""
        if self.done:
            self.rest += data
            return
        self._pieces.append(data)
        self._have += len(data)
        if self._have >= self._need:
            yield from self._events()

    def close(self) -> Iterator[Event]:
        """No more bytes come: the last events, then TruncatedError unless the file is complete."""
        if self._have and not self.done:
            yield from self._events()
        if self.done:
            return
        if not self.version:
            head = b"".join(self._pieces)
            if not b"REDIS".startswith(head[:5]) and not b"VALKEY".startswith(head[:6]):
                raise CodecError("not an RDB file: it begins with %r" % head, 0)
        where = self.offset + self._have
        if self._reader is not None:
            raise TruncatedError("the file ends inside the value that starts at byte %d" % self._value_start, where)
        if self._have:
            raise TruncatedError("the file ends inside the item that starts at byte %d" % self.offset, where)
        raise TruncatedError("the file ends without its end mark", where)

    def _events(self) -> Iterator[Event]:
        buf = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
        # The old pieces go now: a large chunk would otherwise be held twice while its events are consumed.
        self._pieces.clear()
        base = self.offset
        out: List[Entry] = []
        pos = sure = 0
        try:
            while not self.done:
                sure = pos
                if not self.version:
                    pos = self._read_header(buf)
                    yield Header(self.version, self.dialect)
                elif self._reader is not None:
                    elements, pos, complete = self._reader.feed(buf, pos)
                    if elements:
                        yield BigPart(elements)
                    if complete:
                        stream = getattr(self._reader, "stream", None)
                        self._reader = None
                        yield BigEnd(base + pos - self._value_start, stream)
                    elif not elements:
                        if len(buf) - pos >= max(self._big, _LONG):
                            reach = claims.element_reach(self._reader_type, self.dialect, buf, pos)
                            self._check_total(reach - pos, pos, base)
                        break
                else:
                    pos, opcode = self._scan(buf, pos, out)
                    if out or self._flat:
                        yield self._batch(buf, base, out)
                        out = []
                    if opcode == t.OP_EOF:
                        sure = pos - 1
                        pos = self._finish(buf, pos, base)
                    elif opcode:
                        sure = pos - 1
                        pos, event = self._opcode(buf, pos, opcode)
                        if event:
                            yield event
                    else:
                        start = self._begin_big(buf, pos, base) if len(buf) - pos >= self._big else None
                        if start is None:
                            break
                        pos = start[1]
                        yield start[0]
        except (IndexError, TruncatedError) as exc:
            if isinstance(exc, _TooLong):
                raise exc.shift(base) from None
            # An opcode that is not all there yet: it is read again with more bytes behind it.
            pos = sure
        except CodecError as exc:
            if out or self._flat:
                yield self._batch(buf, base, out)
            raise exc.shift(base) from None
        if not self.done:
            self._keep(buf, pos)

    def _batch(self, buf: bytes, base: int, out: List[Entry]) -> Batch:
        flat, self._flat = self._flat, FlatLists()
        return Batch(self.db, buf, base, out, flat)

    def _keep(self, buf: bytes, pos: int) -> None:
        if pos:
            self._crc = crc64(memoryview(buf)[:pos], self._crc)
            self.offset += pos
        tail = buf[pos:]
        self._pieces = [tail] if tail else []
        self._have = len(tail)
        # Twice as much each time keeps reading an unfinished entry again linear in its size.
        self._need = min(2 * self._have, self._have + (64 << 20)) if self._have > 4096 else self._have + 1
        if self._have < self._big:
            self._need = min(self._need, self._big)
        if self._total is not None:
            self._need = min(self._need, self._total - self.offset)

    def _read_header(self, buf: bytes) -> int:
        if len(buf) < _HEADER:
            raise IndexError
        size = 6 if buf.startswith(b"VALKEY") else 5
        magic, digits = buf[:size], buf[size:_HEADER]
        if magic not in (b"REDIS", b"VALKEY") or not digits.isdigit():
            raise CodecError("not an RDB file: it begins with %r" % buf[:_HEADER], 0)
        version = int(digits)
        self.dialect = t.dialect_of(version, magic)
        known = [wrote for _first, wrote in t.SERVER_RDB_VERSIONS[self.dialect]]
        if not 1 <= version <= max(known):
            raise UnsupportedError(
                "RDB version %d of %s is not known (the newest known is %d)"
                % (version, self.dialect.capitalize(), max(known)),
                size,
            )
        self.version = version
        table = skip.SKIPPERS[self.dialect]
        self._skippers = [table.get(number) for number in range(256)]
        if self._format is not None:
            self._type_bytes = self._format.type_bytes(self.dialect)
        return _HEADER

    def _scan(self, buf: bytes, pos: int, out: List[Entry]) -> Tuple[int, int]:
        """Append complete entries to ``out``; ``(position, opcode)`` of what stopped it, opcode 0 for lack of bytes."""
        # The innermost loop of the collection: everything is spelled out, measured at about 0.5 us an entry.
        skippers = self._skippers
        string_end = skip.string_end
        from_bytes = int.from_bytes
        append = out.append
        form = self._format
        flat = form is not None
        expiring = form is not None and form.expiring
        footer = form.footer if form is not None else b""
        type_bytes = self._type_bytes
        pairs = self._flat.pairs
        values = self._flat.values
        expiring_pairs = self._flat.expiring_pairs
        expiring_values = self._flat.expiring_values
        size = len(buf)
        # Neither expiry nor hint so far, and asked for in flat lists.
        plain = flat
        expire: Optional[int] = None
        hint: Optional[Tuple[bytes, int]] = None
        entry = pos
        try:
            while True:
                kind = buf[pos]
                if kind > 240:
                    pos += 1
                    if kind == 252:
                        expire = from_bytes(buf[pos : pos + 8], "little", signed=True)
                        pos += 8
                    elif kind == 253:
                        expire = 1000 * _from_signed(buf[pos : pos + 4])
                        pos += 4
                    elif kind == 249:
                        hint = (b"FREQ", buf[pos])
                        pos += 1
                    elif kind == 248:
                        hint = (b"IDLETIME", skip.number(buf, pos))
                        pos = skip.length_end(buf, pos)
                    else:
                        return (pos, kind) if entry == pos - 1 else self._misplaced(kind, pos - 1)
                    plain = False
                    continue
                first = buf[pos + 1]
                pos += 2
                if first < 0x40:
                    start = pos + first
                    key = buf[pos:start]
                elif first < 0x80:
                    start = pos + 1 + ((first & 0x3F) << 8 | buf[pos])
                    key = buf[pos + 1 : start]
                else:
                    start = string_end(buf, pos - 1)
                    if start > size:
                        return entry, 0
                    key = wire.read_string(buf, pos - 1)[0]
                data = 0
                if not kind:
                    first = buf[start]
                    if first < 0x40:
                        data = start + 1
                        pos = data + first
                    elif first < 0x80:
                        data = start + 2
                        pos = data + ((first & 0x3F) << 8 | buf[start + 1])
                    elif 0xC0 <= first < 0xC3:
                        pos = start + 1 + (1 << (first & 3))
                    else:
                        pos = string_end(buf, start)
                        if first < 0xC0:
                            data = skip.length_end(buf, start)
                    if pos > size:
                        return entry, 0
                    if plain:
                        if first < 0x80:
                            pairs.append(key)
                            pairs.append(buf[data:pos])
                            entry = pos
                            continue
                        if 0xC0 <= first < 0xC3:
                            pairs += (key, b"%d" % _INTEGERS[first & 3](buf, start + 1))
                            entry = pos
                            continue
                    elif expiring and first < 0x80 and hint is None:
                        expiring_pairs += (key, buf[data:pos], expire)
                        entry = pos
                        plain = flat
                        expire = None
                        continue
                else:
                    skipper = skippers[kind]
                    if skipper is string_end:
                        first = buf[start]
                        if first < 0x40:
                            pos = start + 1 + first
                        elif first < 0x80:
                            pos = start + 2 + ((first & 0x3F) << 8 | buf[start + 1])
                        else:
                            pos = string_end(buf, start)
                    elif skipper is None:
                        if start > size:
                            return entry, 0
                        raise self._unknown(kind, key, entry)
                    else:
                        pos = skipper(buf, start)
                    if pos > size:
                        return entry, 0
                if flat and not data and type_bytes[kind]:
                    if plain:
                        values.append(key)
                        values.append(type_bytes[kind] + buf[start:pos] + footer)
                        entry = pos
                        continue
                    if expiring and hint is None:
                        expiring_values += (key, type_bytes[kind] + buf[start:pos] + footer, expire)
                        entry = pos
                        plain = flat
                        expire = None
                        continue
                append((kind, key, start, pos, data, expire, hint))
                entry = pos
                plain = flat
                expire = hint = None
        except IndexError:
            return entry, 0

    def _misplaced(self, opcode: int, pos: int) -> Tuple[int, int]:
        raise CodecError("opcode %d stands between an entry's expiry and its key" % opcode, pos)

    def _unknown(self, kind: int, key: bytes, pos: int) -> CodecError:
        info = t.TYPES[self.dialect].get(kind)
        if info is None:
            return CodecError("key %r has the unknown type %d" % (key[:200], kind), pos)
        return UnsupportedError(
            "key %r is of type %s (%d), which came with %s and cannot be read here"
            % (key[:200], info.name, kind, t.first_server(info.since)),
            pos,
        )

    def _opcode(self, buf: bytes, pos: int, opcode: int) -> Tuple[int, Optional[Event]]:
        """Handle what stands between entries; IndexError or TruncatedError when it is not all there."""
        if opcode == t.OP_SELECTDB:
            self.db, pos = wire.read_length(buf, pos)
        elif opcode == t.OP_AUX:
            key, pos = self._string(buf, pos)
            value, pos = self._string(buf, pos)
            return pos, Aux(key, value)
        elif opcode == t.OP_FUNCTION2:
            code, pos = self._string(buf, pos)
            return pos, Function(code)
        elif opcode == t.OP_RESIZEDB:
            pos = skip.length_end(buf, skip.length_end(buf, pos))
        elif opcode == t.OP_SLOT_INFO:
            pos = skip.length_end(buf, skip.length_end(buf, skip.length_end(buf, pos)))
        elif opcode == t.OP_MODULE_AUX:
            module, pos = wire.read_length(buf, pos)
            self._check_total(claims.module_reach(buf, pos) - pos, pos, self.offset)
            pos = skip.module_values_end(buf, pos)
            self._check_end(buf, pos)
            return pos, ModuleAux(module_name(module))
        else:
            name = t.OPCODES[self.dialect].get(opcode)
            if name is None:
                raise CodecError("unknown opcode %d" % opcode, pos - 1)
            raise UnsupportedError("opcode %s (%d) cannot be read here" % (name, opcode), pos - 1)
        self._check_end(buf, pos)
        return pos, None

    @staticmethod
    def _check_end(buf: bytes, pos: int) -> None:
        if pos > len(buf):
            raise IndexError

    def _finish(self, buf: bytes, pos: int, base: int) -> int:
        """Check the checksum behind the end mark (``pos`` is just after that); 0 means that none was made."""
        end = pos + 8 if self.version >= _CHECKSUM_SINCE else pos
        if end > len(buf):
            raise IndexError
        computed = crc64(memoryview(buf)[:pos], self._crc)
        stored = int.from_bytes(buf[pos:end], "little")
        if stored and stored != computed:
            raise ChecksumError(
                "the file's checksum is %016x, its bytes have %016x: it was damaged after it was written"
                % (stored, computed),
                pos,
            )
        self.done = True
        self.offset = base + end
        self.rest = buf[end:]
        return end

    def _begin_big(self, buf: bytes, pos: int, base: int) -> Optional[Tuple[BigStart, int]]:
        """Turn the unfinished entry at ``pos`` into one that comes in parts; None when its kind has to be whole."""
        entry = pos
        expire: Optional[int] = None
        hint: Optional[Tuple[bytes, int]] = None
        try:
            kind = buf[pos]
            while kind > 240:
                if kind == t.OP_EXPIRETIME_MS:
                    expire = _from_signed(buf[pos + 1 : pos + 9])
                    pos += 9
                elif kind == t.OP_EXPIRETIME:
                    expire = 1000 * _from_signed(buf[pos + 1 : pos + 5])
                    pos += 5
                elif kind == t.OP_FREQ:
                    hint = (b"FREQ", buf[pos + 1])
                    pos += 2
                elif kind == t.OP_IDLE:
                    hint = (b"IDLETIME", skip.number(buf, pos + 1))
                    pos = skip.length_end(buf, pos + 1)
                else:
                    return None
                kind = buf[pos]
            key, pos = self._string(buf, pos + 1)
            value = pos
            length = 0
            if kind == t.STRING and buf[pos] < 0xC0:
                length, pos = wire.read_length(buf, pos)
                self._check_total(length, pos, base)
                reader: Any = StringReader(length)
            elif kind == t.STRING and buf[pos] == _LZF:
                packed, pos = wire.read_length(buf, pos + 1)
                length, pos = wire.read_length(buf, pos)
                reader = PackedReader(packed, length, self._unpack, pos)
                self._check_total(packed, pos, base)
            else:
                self._check_total(claims.value_reach(kind, buf, pos) - pos, pos, base)
                if kind == t.MODULE_2:
                    return None
                if t.kind_of(kind, self.dialect) == "stream" and len(buf) - entry < _STREAM_WHOLE * self._big:
                    return None
                reader = element_reader(kind, self.dialect)
        except _TooLong:
            raise
        except (IndexError, TruncatedError):
            return None
        self._reader = reader
        self._reader_type = kind
        self._value_start = base + value
        return BigStart(self.db, kind, key, length, expire, hint, base + entry), pos

    def _string(self, buf: bytes, pos: int) -> Tuple[bytes, int]:
        """As ``wire.read_string``; one that cannot end within the file is refused before its bytes are collected."""
        try:
            return wire.read_string(buf, pos)
        except TruncatedError:
            self._check_total(skip.string_end(buf, pos) - pos, pos, self.offset)
            raise

    def _check_total(self, length: int, pos: int, base: int) -> None:
        if self._total is not None and base + pos + length > self._total:
            raise _TooLong(
                "a value of %d bytes starts here, but the file has only %d more"
                % (length, self._total - base - pos),
                pos,
            )


def _from_signed(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)
