# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A connection that sends many commands and takes their replies one by one, large ones in pieces."""

from __future__ import annotations

import socket
from typing import Any

from .._codec.errors import CodecError, TruncatedError
from .._codec.resp import Argument, ErrorReply, command, read_reply
from .._errors import LostError, MigrationError, ReplyError
from .._server.connect import open_socket, translate
from .._server.endpoint import Address, Endpoint

_RECV = 256 << 10


class Pipe:
    """A connection for pipelines: send anything, then take the replies in order. Errors: LostError."""

    def __init__(self, endpoint: Endpoint, address: Address) -> None:
        self.address = address
        self._buf = b""
        self._pos = 0
        self._sock = open_socket(endpoint, address)

    def close(self) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as exc:
            raise self._lost(exc) from exc

    def ask(self, *words: Argument) -> Any:
        """One command and its reply."""
        self.send(command(*words))
        return self.reply()

    def reply(self) -> Any:
        """The next reply: bytes, int, None, list or ErrorReply."""
        while True:
            try:
                found, self._pos = read_reply(self._buf, self._pos)
                return found
            except TruncatedError:
                self._fill()
            except CodecError as exc:
                raise ReplyError(str(self.address), exc.reason) from exc

    def bulk_size(self) -> Any:
        """The size of the next reply, whose bytes are left to ``take``; None for a null, an ErrorReply for an error."""
        while True:
            end = self._buf.find(b"\r\n", self._pos)
            if end >= 0:
                break
            self._fill()
        if self._buf[self._pos : self._pos + 1] != b"$":
            found = self.reply()
            return found if isinstance(found, ErrorReply) else ErrorReply(b"ERR a value was expected")
        size = int(self._buf[self._pos + 1 : end])
        self._pos = end + 2
        return None if size < 0 else size

    def take(self, size: int) -> bytes:
        """Exactly that many bytes."""
        end = self._pos + size
        if end <= len(self._buf):
            data = self._buf[self._pos : end]
            self._pos = end
            return data
        parts = [self._buf[self._pos :]]
        left = size - len(parts[0])
        while left > 0:
            parts.append(self._receive())
            left -= len(parts[-1])
        if left:
            self._buf = parts[-1][left:]
            parts[-1] = parts[-1][:left]
        else:
            self._buf = b""
        self._pos = 0
        return b"".join(parts)

    def _fill(self) -> None:
        data = self._receive()
        self._buf = self._buf[self._pos :] + data
        self._pos = 0

    def _receive(self) -> bytes:
        try:
            data = self._sock.recv(_RECV)
        except OSError as exc:
            raise self._lost(exc) from exc
        if not data:
            raise LostError(str(self.address), "closed the connection while its keys were read", "Look at its log and run again")
        return data

    def _lost(self, exc: OSError) -> MigrationError:
        if isinstance(exc, socket.timeout):
            return LostError(str(self.address), "stopped answering while its keys were read", "Look at its load and run again")
        error = translate(exc, self.address)
        return LostError(error.what, error.why, "Look at its log and run again")
