# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A replication stream cut into commands, many at a time and almost without a loop in Python.

hiredis finds the arguments; since servers write commands in one canonical form, their sizes follow from the arguments' lengths, and with
them the very bytes of every command and its position in the stream.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, List, NamedTuple

from .._codec.errors import CodecError

try:
    import hiredis
except ImportError:  # the modules' import guard (_deps) reports it
    hiredis = None  # type: ignore[assignment]

_MORE = object()
# Bytes of "$<length>\r\n<argument>\r\n" by the argument's length.
_SIZES = [len(b"$%d\r\n" % length) + length + 2 for length in range(1 << 14)]


def argument_size(length: int) -> int:
    """Bytes that an argument of ``length`` takes in a command."""
    return _SIZES[length] if length < len(_SIZES) else len(b"%d" % length) + length + 5


def command_size(args: List[bytes]) -> int:
    """Bytes of a command in canonical form."""
    return len(b"%d" % len(args)) + 3 + sum(argument_size(len(arg)) for arg in args)


def _total(commands: List[List[bytes]]) -> int:
    try:
        size = sum(map(_SIZES.__getitem__, map(len, chain.from_iterable(commands))))
    except IndexError:
        size = sum(argument_size(len(arg)) for args in commands for arg in args)
    counts = list(map(len, commands))
    if not all(counts) or not all(isinstance(args, list) for args in (commands[0], commands[-1])):
        raise ValueError("a command without a name")
    # "*" count CRLF: one digit up to nine arguments, which nearly all commands have.
    return size + 4 * len(counts) + (sum(len(b"%d" % count) - 1 for count in counts) if max(counts) > 9 else 0)


class Piece(NamedTuple):
    """Whole commands: their arguments, their bytes, the stream's position before and behind them."""

    commands: List[List[bytes]]
    raw: bytes
    start: int
    end: int


class StreamReader:
    """Feed it the bytes behind ``position``; ``position`` stands behind the last whole command."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._reader = hiredis.Reader(notEnoughData=_MORE, replyError=_not_a_command)
        self._rest: List[bytes] = []

    @property
    def waiting(self) -> int:
        """Bytes of a command that is not all there."""
        return sum(map(len, self._rest))

    def feed(self, data: bytes) -> Piece:
        """The commands that are complete now, maybe none. CodecError where the bytes are no commands."""
        reader = self._reader
        start = self.position
        try:
            reader.feed(data)
            commands: List[Any] = list(iter(reader.gets, _MORE))
        except (hiredis.ProtocolError, TypeError) as exc:
            raise CodecError("not a stream of commands: %s" % exc, start) from exc
        self._rest.append(data)
        if not commands:
            return Piece([], b"", start, start)
        raw = b"".join(self._rest) if len(self._rest) > 1 else data
        try:
            size = _total(commands)
        except (TypeError, ValueError):
            raise CodecError("not a stream of commands", start) from None
        if size > len(raw) or raw[size : size + 1] not in (b"", b"*"):
            raise CodecError("the commands are not in the form in which servers write them", start)
        self.position = start + size
        rest = raw[size:]
        self._rest = [rest] if rest else []
        return Piece(commands, raw[:size] if rest else raw, start, self.position)


def _not_a_command(text: str) -> Exception:
    return CodecError("an error stands where a command should: %s" % text[:200])
