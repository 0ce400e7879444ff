# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TCP proxy that misbehaves on demand: what a bad network does, at an exact byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from types import TracebackType

from .certificates import Certificates
from .process import Port

DOWN = "down"  # server -> client
UP = "up"  # client -> server
_CHUNK = 65536


class TcpProxy:
    """Forwards connections to ``target``, until told to cut, to fall silent or to be slow.

    ``tls`` makes it a TLS front for servers built without TLS.
    """

    def __init__(self, target: str, tls: Certificates | None = None) -> None:
        self.target = target
        self.connections = 0
        self.bytes = {DOWN: 0, UP: 0}
        self._context = tls.server_context() if tls else None
        self._lock = threading.Condition()
        self._limits: dict[str, int] = {}
        self._word = b""
        self._silent = False
        self._refusing = False
        self._closed = False
        self._rate: float | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> TcpProxy:
        self._port = Port()
        self.port = self._port.number
        self.address = "127.0.0.1:%d" % self.port
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._spawn(self._accept)
        return self

    def close(self) -> None:
        """End every connection and the proxy."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        self._port.release()

    def __enter__(self) -> TcpProxy:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- misbehaviour ----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Close every connection there is now. New ones are accepted."""
        with self._lock:
            ended = list(self._sockets)
        for sock in ended:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut_after(self, count: int, direction: str = DOWN) -> None:
        """Cut every connection once, when ``count`` more bytes have gone in that direction (not one byte more)."""
        with self._lock:
            self._limits[direction] = count

    def cut_at(self, word: bytes) -> None:
        """Cut every connection once, when the client sends this, which does not arrive."""
        with self._lock:
            self._word = word

    def black_hole(self) -> None:
        """Forward nothing, in silence; connections stay open and new ones are accepted."""
        with self._lock:
            self._silent = True

    def refuse(self) -> None:
        """Cut, and close new connections as soon as they are made."""
        with self._lock:
            self._refusing = True
        self.cut()

    def throttle(self, bytes_per_second: float | None) -> None:
        """Forward no faster than this; None for as fast as it goes."""
        with self._lock:
            self._rate = bytes_per_second

    def heal(self) -> None:
        """Behave from now on. Connections that were cut stay cut."""
        with self._lock:
            self._limits.clear()
            self._word = b""
            self._silent = self._refusing = False
            self._rate = None
            self._lock.notify_all()

    # -- forwarding ------------------------------------------------------------------------------------------

    def _spawn(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                refused = self._refusing or self._closed
                self.connections += not refused
            if refused:
                client.close()
            else:
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._context:
                client.settimeout(10)
                client = self._context.wrap_socket(client, server_side=True)
                client.settimeout(None)
            host, _colon, port = self.target.rpartition(":")
            server = socket.create_connection((host, int(port)), 10)
            server.settimeout(None)
        except (OSError, ssl.SSLError):
            client.close()
            return
        pair = (client, server)
        with self._lock:
            self._sockets.update(pair)
        back = threading.Thread(target=self._pump, args=(server, client, DOWN), daemon=True)
        back.start()
        self._pump(client, server, UP)
        back.join()
        with self._lock:
            self._sockets.difference_update(pair)
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        try:
            while self._forward(source, sink, direction):
                pass
        except (OSError, ssl.SSLError):
            pass
        for sock in (sink, source):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _forward(self, source: socket.socket, sink: socket.socket, direction: str) -> bool:
        """Move one chunk; False when this connection is over."""
        chunk = source.recv(_CHUNK)
        with self._lock:
            while self._silent and not self._closed:
                self._lock.wait()
            if self._word and direction == UP and self._word in chunk:
                self._limits[UP] = chunk.index(self._word)
                self._word = b""
            limit = self._limits.get(direction)
            if limit is not None:
                chunk = chunk[:limit]
                self._limits[direction] = limit - len(chunk)
            rate = self._rate
            self.bytes[direction] += len(chunk)
            over = limit is not None and limit == len(chunk)
            if over:
                del self._limits[direction]
        sink.sendall(chunk)
        if rate:
            time.sleep(len(chunk) / rate)
        if over:
            self.cut()
        return bool(chunk) and not over
