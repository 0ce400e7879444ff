# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""RESP2: commands into bytes, bytes into replies.

Source: the protocol specification of Redis ("RESP protocol spec"), and ``src/networking.c`` for inline limits.
"""

from __future__ import annotations

import math
from typing import Any, List, Optional, Sequence, Tuple, Union

from .errors import CodecError, TruncatedError

Argument = Union[bytes, str, int, float]

# A reply line is a status, an error or a number; a server that sends more without CRLF speaks something else.
_LINE_MAX = 64 << 10


class ErrorReply(bytes):
    """An error line without its ``-``: ``b"OOM command not allowed ..."``."""

    @property
    def code(self) -> bytes:
        """The first word, in upper case by convention."""
        return self.split(b" ", 1)[0]


def command(*args: Argument) -> bytes:
    """One command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        if isinstance(arg, str):
            arg = arg.encode()
        elif isinstance(arg, float):
            arg = double(arg)
        elif not isinstance(arg, bytes):
            arg = b"%d" % arg
        parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)


def double(value: float) -> bytes:
    """A score as text that reads back as the same double."""
    if math.isnan(value):
        return b"nan"
    if value in (float("inf"), float("-inf")):
        return b"inf" if value > 0 else b"-inf"
    return repr(value).encode()


class Block(Sequence[bytes]):
    """``count`` complete commands in one piece, ``raw``: a sequence of frames that is only taken apart when one of them is asked for."""

    __slots__ = ("raw", "_count", "_frames")

    def __init__(self, raw: bytes, count: int) -> None:
        self.raw = raw
        self._count = count
        self._frames: Optional[List[bytes]] = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if self._frames is None:
            self._frames = []
            pos = 0
            while pos < len(self.raw):
                _args, end = read_command(self.raw, pos)
                self._frames.append(self.raw[pos:end])
                pos = end
        return self._frames[index]


def arguments(frame: bytes) -> List[bytes]:
    """The arguments of one complete command."""
    args, _end = read_command(frame, 0)
    return args


def read_command(buf: bytes, pos: int) -> Tuple[List[bytes], int]:
    """``(arguments, end)`` of the command (an array of bulk strings) at ``pos``; TruncatedError when it is not all there."""
    count, pos = _number_line(buf, pos, b"*")
    if count < 0:
        raise CodecError("a command has %d arguments" % count, pos)
    args = []
    for _unused in range(count):
        size, start = _number_line(buf, pos, b"$")
        if size < 0:
            raise CodecError("an argument has the length %d" % size, pos)
        end = start + size
        if end + 2 > len(buf):
            raise TruncatedError("the data ends inside an argument of %d bytes" % size, pos)
        if buf[end : end + 2] != b"\r\n":
            raise CodecError("an argument does not end with CRLF", end)
        args.append(bytes(buf[start:end]))
        pos = end + 2
    return args, pos


def _number_line(buf: bytes, pos: int, mark: bytes) -> Tuple[int, int]:
    if pos >= len(buf):
        raise TruncatedError("the data ends before a command does", pos)
    if buf[pos : pos + 1] != mark:
        raise CodecError("expected %r, found %r" % (mark, bytes(buf[pos : pos + 1])), pos)
    end = buf.find(b"\r\n", pos, pos + 32)
    if end < 0:
        if len(buf) - pos < 32:
            raise TruncatedError("the data ends inside a length", pos)
        raise CodecError("a length does not end", pos)
    try:
        return int(buf[pos + 1 : end]), end + 2
    except ValueError:
        raise CodecError("a length is not a number", pos) from None


def read_reply(buf: bytes, pos: int) -> Tuple[Any, int]:
    """``(reply, end)``: bytes, int, None, list or :class:`ErrorReply`; TruncatedError when it is not all there."""
    end = buf.find(b"\r\n", pos, pos + _LINE_MAX)
    if end < 0:
        if len(buf) - pos >= _LINE_MAX:
            raise CodecError("a reply line does not end", pos)
        raise TruncatedError("the data ends inside a reply", pos)
    mark = buf[pos]
    line = bytes(buf[pos + 1 : end])
    end += 2
    if mark == 0x2B:  # +
        return line, end
    if mark == 0x2D:  # -
        return ErrorReply(line), end
    try:
        number = int(line)
    except ValueError:
        raise CodecError("not a Redis reply: it begins with %r" % bytes(buf[pos : pos + 16]), pos) from None
    if mark == 0x3A:  # :
        return number, end
    if mark == 0x24:  # $
        if number < 0:
            return None, end
        if end + number + 2 > len(buf):
            raise TruncatedError("the data ends inside a reply of %d bytes" % number, pos)
        return bytes(buf[end : end + number]), end + number + 2
    if mark == 0x2A:  # *
        if number < 0:
            return None, end
        items = []
        for _unused in range(number):
            item, end = read_reply(buf, end)
            items.append(item)
        return items, end
    raise CodecError("not a Redis reply: it begins with %r" % bytes(buf[pos : pos + 16]), pos)
