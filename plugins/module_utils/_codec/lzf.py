# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""LZF, the compression of strings in RDB files.

Source: ``src/lzf_d.c`` in redis/redis. A control byte below 32 is followed by that many plus one literal
bytes. Otherwise its upper three bits are a run length (7: add the next byte), plus 2, and its lower five
bits with the next byte are how far back the run begins, minus 1. A run may overlap what it is making.
"""

from __future__ import annotations

from typing import Tuple

from .errors import CodecError

# The best case is three bytes for a run of 7 + 255 + 2.
_RUN_BYTES = 3
_RUN_MAX = 264
# How far back a run may begin, how many bytes a control byte and what follows it take at most, and how much is made at a time.
_WINDOW = 1 << 13
_STEP_MAX = 33
_PIECE = 1 << 20


def check_ratio(packed: int, plain: int, offset: int = 0) -> None:
    """Refuse a declared length that ``packed`` bytes of LZF cannot reach, before any of it is made."""
    if plain * _RUN_BYTES > packed * _RUN_MAX or (plain == 0) != (packed == 0):
        raise CodecError("%d bytes of LZF cannot hold %d bytes" % (packed, plain), offset)


def decompress(data: bytes, length: int) -> bytes:
    """Unpack all of ``data``, which must come to exactly ``length`` bytes; CodecError otherwise."""
    check_ratio(len(data), length)
    out = bytearray()
    pos = 0
    end = len(data)
    try:
        while pos < end:
            control = data[pos]
            pos += 1
            if control < 32:
                stop = pos + control + 1
                if stop > end:
                    raise CodecError("LZF data ends inside a literal", pos)
                out += data[pos:stop]
                pos = stop
                continue
            run = control >> 5
            if run == 7:
                run += data[pos]
                pos += 1
            run += 2
            back = ((control & 31) << 8 | data[pos]) + 1
            pos += 1
            start = len(out) - back
            if start < 0:
                raise CodecError("an LZF run begins before the data", pos)
            if back >= run:
                out += out[start : start + run]
            else:
                # The run repeats the last `back` bytes over itself.
                piece = bytes(out[start:])
                out += (piece * (run // back + 1))[:run]
            if len(out) > length:
                break
    except IndexError:
        raise CodecError("LZF data ends inside a run", pos) from None
    if len(out) != length:
        raise CodecError("LZF data does not come to its declared %d bytes" % length, pos)
    return bytes(out)


class Unpacker:
    """Unpack ``packed`` bytes, which must come to ``plain``, as they arrive; no more than about a MiB is in memory."""

    def __init__(self, packed: int, plain: int, offset: int = 0) -> None:
        check_ratio(packed, plain, offset)
        self._packed = packed
        self._plain = plain
        self._window = b""

    def feed(self, data: bytes, pos: int) -> Tuple[bytes, int, bool]:
        """``(piece, pos, done)``: some of what ``data`` holds from ``pos`` on; call again until it gives nothing. CodecError."""
        first = pos
        end = min(len(data), pos + self._packed)
        last = end - pos == self._packed
        # Behind `sure` a step may run over the end of the data.
        sure = end if last else end - _STEP_MAX
        if pos >= sure and not last:
            return b"", pos, False
        out = bytearray(self._window)
        known = len(out)
        limit = known + _PIECE
        try:
            while pos < sure:
                control = data[pos]
                if control < 32:
                    stop = pos + control + 2
                    out += data[pos + 1 : stop]
                    pos = stop
                    continue
                run = control >> 5
                if run == 7:
                    pos += 1
                    run += data[pos]
                run += 2
                back = ((control & 31) << 8 | data[pos + 1]) + 1
                pos += 2
                size = len(out)
                start = size - back
                if start < 0:
                    raise CodecError("an LZF run begins before the data", pos)
                if back >= run:
                    out += out[start : start + run]
                else:
                    out += (bytes(out[start:]) * (run // back + 1))[:run]
                if size > limit:
                    break
        except IndexError:
            raise CodecError("LZF data ends inside a run", pos) from None
        if pos > end:
            raise CodecError("LZF data ends inside a literal or a run", end)
        self._packed -= pos - first
        self._plain -= len(out) - known
        if self._plain < 0 or not self._packed and self._plain:
            raise CodecError("LZF data does not come to its declared size", pos)
        self._window = bytes(out[-_WINDOW:])
        return bytes(memoryview(out)[known:]), pos, not self._packed
