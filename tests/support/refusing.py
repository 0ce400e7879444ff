# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that now and then answers BUSY: a real one, behind a man in the middle that refuses the commands it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import TruncatedError
from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import read_command, read_reply

from .redis_server import RedisServer

_BUSY = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"


class Refusing:
    """In front of ``server``; of each command in ``every`` (in upper case) it refuses one of so many. ``refused`` counts them."""

    def __init__(self, server: RedisServer, every: Mapping[bytes, int]) -> None:
        self.refused: Counter[bytes] = Counter()
        self._seen: Counter[bytes] = Counter()
        self._every = every
        self._server = server
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Refusing:
        return self

    def __exit__(self, *_exc: Any) -> None:
        # A thread in accept() would keep a socket that is only closed.
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._door.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server.plain_port)) as server, contextlib.suppress(OSError):
            rest = b""
            while True:
                data = client.recv(1 << 20)
                if not data:
                    return
                rest += data
                pos, replies = 0, []
                with contextlib.suppress(TruncatedError):
                    while pos < len(rest):
                        args, end = read_command(rest, pos)
                        replies.append(_BUSY if self._refuses(args[0].upper()) else _ask(server, rest[pos:end]))
                        pos = end
                rest = rest[pos:]
                client.sendall(b"".join(replies))

    def _refuses(self, name: bytes) -> bool:
        if name not in self._every:
            return False
        self._seen[name] += 1
        refuses = not self._seen[name] % self._every[name]
        self.refused[name] += refuses
        return refuses


def _ask(server: socket.socket, frame: bytes) -> bytes:
    server.sendall(frame)
    reply = b""
    while True:
        data = server.recv(1 << 20)
        if not data:
            raise ConnectionError
        reply += data
        with contextlib.suppress(TruncatedError):
            read_reply(reply, 0)
            return reply
