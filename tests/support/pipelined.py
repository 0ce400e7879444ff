# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands framed beforehand, as fast as a server takes them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable

_OK = len(b"+OK\r\n")


def send(port: int, blobs: Iterable[bytes], commands: int) -> float:
    """Write them on one connection while a thread reads the replies, each of which is to be OK; seconds until the last one."""
    sock = socket.create_connection(("127.0.0.1", port))

    left = _OK * commands

    def read() -> None:
        nonlocal left
        while left > 0:
            data = sock.recv(1 << 18)
            if not data:
                return
            left -= len(data)

    reader = threading.Thread(target=read)
    started = time.perf_counter()
    reader.start()
    for blob in blobs:
        sock.sendall(blob)
    reader.join()
    seconds = time.perf_counter() - started
    sock.close()
    if left:
        raise ConnectionError("the server ended the connection, or answered otherwise, %d bytes before the last reply" % left)
    return seconds
