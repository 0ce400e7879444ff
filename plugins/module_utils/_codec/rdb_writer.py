# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The bytes of an RDB file, the counterpart of :mod:`.rdb` (``src/rdb.c`` rdbSaveRio in redis/redis and valkey-io/valkey)."""

from __future__ import annotations

import struct
from typing import Optional, Tuple

from . import types as t, wire
from .crc64 import crc64

_MAGIC = {t.REDIS: b"REDIS%04d", t.VALKEY: b"VALKEY%03d"}


class RdbWriter:
    """The bytes of an RDB file, piece by piece: ``header``, any mix of the others, ``trailer``.

    Bodies are written as they are, so their types must be ones that ``version`` has.
    """

    def __init__(self, version: int, dialect: str = t.REDIS) -> None:
        self._crc = 0
        self._db: Optional[int] = None
        self._head = _MAGIC[dialect] % version

    def _out(self, data: bytes) -> bytes:
        self._crc = crc64(data, self._crc)
        return data

    def header(self, aux: Tuple[Tuple[bytes, bytes], ...] = ()) -> bytes:
        """Magic, version and facts about the file."""
        parts = [self._head]
        for key, value in aux:
            parts.append(b"%c%b%b" % (t.OP_AUX, wire.write_string(key), wire.write_string(value)))
        return self._out(b"".join(parts))

    def function(self, code: bytes) -> bytes:
        """One library of functions; they stand before the first key."""
        return self._out(b"%c%b" % (t.OP_FUNCTION2, wire.write_string(code)))

    def entry(
        self,
        db: int,
        type_byte: int,
        key: bytes,
        body: bytes,
        expire_ms: Optional[int] = None,
        hint: Optional[Tuple[bytes, int]] = None,
    ) -> bytes:
        """One key; the database is named when it changes."""
        parts = []
        if db != self._db:
            self._db = db
            parts.append(b"%c%b" % (t.OP_SELECTDB, wire.write_length(db)))
        if expire_ms is not None:
            parts.append(struct.pack("<Bq", t.OP_EXPIRETIME_MS, expire_ms))
        if hint is not None:
            name, number = hint
            parts.append(
                b"%c%c" % (t.OP_FREQ, number) if name == b"FREQ" else b"%c%b" % (t.OP_IDLE, wire.write_length(number))
            )
        parts.append(b"%c%b" % (type_byte, wire.write_string(key)))
        parts.append(body)
        return self._out(b"".join(parts))

    def trailer(self) -> bytes:
        """The end mark and the checksum."""
        self._out(b"%c" % t.OP_EOF)
        return b"%c%b" % (t.OP_EOF, struct.pack("<Q", self._crc))
