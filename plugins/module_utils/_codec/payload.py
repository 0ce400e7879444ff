# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What DUMP returns and RESTORE takes.

Source: ``src/cluster.c`` (createDumpPayload, verifyDumpPayload) in redis/redis. A type byte and the value as in an RDB file, then the RDB
version (2 bytes) and the CRC64 of all before it (8 bytes), both little endian.
"""

from __future__ import annotations

import struct
from typing import List, Tuple

from . import stream, types as t, values, wire
from .crc64 import crc64
from .errors import ChecksumError, CodecError, TruncatedError, UnsupportedError

_VERSION = struct.Struct("<H")
_CRC = struct.Struct("<Q")
_FOOT = _VERSION.size + _CRC.size

# The first versions that keep an expiry for each field of a hash.
_FIELD_EXPIRY_SINCE = {t.REDIS: 12, t.VALKEY: t.VALKEY_VERSION_MIN}


def split(payload: bytes) -> Tuple[int, bytes, int]:
    """``(type byte, body, RDB version)``; TruncatedError when it is too short, ChecksumError when it was changed."""
    end = len(payload) - _FOOT
    if end < 1:
        raise TruncatedError("a DUMP payload of %d bytes" % len(payload), 0)
    (version,) = _VERSION.unpack_from(payload, end)
    (stored,) = _CRC.unpack_from(payload, end + _VERSION.size)
    computed = crc64(payload[: end + _VERSION.size])
    if stored != computed:
        raise ChecksumError("the payload's checksum is %016x, its bytes give %016x" % (stored, computed), end + _VERSION.size)
    return payload[0], payload[1:end], version


def foot(type_byte: int, body: bytes, rdb_version: int) -> bytes:
    """The payload: ``rdb_version`` is the target's own (it accepts no higher one, up to Redis 3.2.0 no lower one either)."""
    text = b"%c%b%b" % (type_byte, body, _VERSION.pack(rdb_version))
    return text + _CRC.pack(crc64(text))


def encode(value: values.Value, rdb_version: int, dialect: str) -> Tuple[int, bytes]:
    """``(type byte, body)`` in a plain type that every server of ``dialect`` from ``rdb_version`` on loads.

    UnsupportedError names what such a server does not have (streams, field expiries, modules) and who has it first.
    CodecError for an empty collection: servers keep none.
    """
    if isinstance(value, values.String):
        return t.STRING, wire.write_string(value.value)
    if isinstance(value, values.Stream):
        type_byte = stream.type_for(rdb_version)
        return type_byte, stream.encode(value, type_byte)
    if isinstance(value, values.Module):
        if rdb_version < t.TYPES[dialect][t.MODULE_2].since:
            raise UnsupportedError("module values (here of %s) need %s or later" % (value.name, t.first_server(8)))
        return t.MODULE_2, value.raw
    if isinstance(value, values.List):
        return t.LIST, _series("list", len(value.items), [wire.write_string(item) for item in value.items])
    if isinstance(value, values.Set):
        return t.SET, _series("set", len(value.members), [wire.write_string(item) for item in value.members])
    if isinstance(value, values.ZSet):
        write = wire.write_double if rdb_version >= t.TYPES[dialect][t.ZSET_2].since else wire.write_old_double
        parts = [part for member, score in value.items for part in (wire.write_string(member), write(score))]
        return (t.ZSET_2 if write is wire.write_double else t.ZSET), _series("zset", len(value.items), parts)
    return _encode_hash(value, rdb_version, dialect)


def _series(kind: str, count: int, parts: List[bytes]) -> bytes:
    if not count:
        raise CodecError("an empty %s cannot be stored" % kind)
    return wire.write_length(count) + b"".join(parts)


def _encode_hash(value: values.Hash, rdb_version: int, dialect: str) -> Tuple[int, bytes]:
    string = wire.write_string
    items = value.items
    parts: List[bytes] = []
    expiries = [expire for _field, _value, expire in items if expire]
    if not expiries:
        for field, text, _expire in items:
            parts += [string(field), string(text)]
        return t.HASH, _series("hash", len(items), parts)
    since = _FIELD_EXPIRY_SINCE[dialect]
    if rdb_version < since:
        raise UnsupportedError("hash fields that expire need %s or later" % t.first_server(since))
    if dialect == t.VALKEY:
        for field, text, expire in items:
            parts += [string(field), string(text), wire.write_ms(expire or -1)]
        return t.VALKEY_HASH_2, _series("hash", len(items), parts)
    if max(expiries) > values.FIELD_EXPIRE_MAX:
        raise UnsupportedError("a hash field expires at %d ms, later than Redis can keep" % max(expiries))
    base = min(expiries)
    for field, text, expire in items:
        parts += [wire.write_length(expire - base + 1 if expire else 0), string(field), string(text)]
    return t.HASH_METADATA, wire.write_ms(base) + _series("hash", len(items), parts)


def convert(type_byte: int, body: bytes, rdb_version: int, dialect: str, source_dialect: str) -> Tuple[int, bytes]:
    """``(type byte, body)`` that a target of ``rdb_version`` and ``dialect`` loads: unchanged if it can, else decoded and encoded."""
    if t.loadable(type_byte, rdb_version, dialect, source_dialect):
        return type_byte, body
    value, end = values.decode(type_byte, body, 0, source_dialect)
    if end != len(body):
        raise CodecError("%d bytes are left after the value" % (len(body) - end), end)
    return encode(value, rdb_version, dialect)
