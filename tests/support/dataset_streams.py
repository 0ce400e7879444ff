# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Streams in every condition a stream can be in, with times and IDs that do not depend on the clock."""

from __future__ import annotations

from typing import Any, Protocol

from .access import Identity

# Delivery times of pending entries: 2023-11-14.
_DELIVERED_MS = 1_700_000_000_000


class Write(Protocol):
    def __call__(self, command: str, key: bytes, *words: Any) -> None: ...


def write_streams(write: Write, identity: Identity) -> None:
    """Write them; ``write`` takes a command, a key and what follows the key."""
    _entries(write)
    _trimmed(write, identity)
    _groups(write, identity)
    _pending(write, identity)
    _empty(write, identity)


def _entries(write: Write) -> None:
    write("XADD", b"stream:one", "1-1", b"field", b"value")
    for number in range(1, 500):
        # The same fields let the server leave out the names, other fields do not.
        extra = (b"odd", b"x" * (number % 200)) if number % 7 == 0 else ()
        write(
            "XADD",
            b"stream:many",
            "%d-%d" % (1000 + number // 3, number),
            b"n",
            number,
            b"text",
            b"t%d" % number,
            *extra,
        )
    for number in (3, 4, 5, 100, 101, 499):
        write("XDEL", b"stream:many", "%d-%d" % (1000 + number // 3, number))
    write("XADD", b"stream:big-ids", "18446744073709551614-18446744073709551615", b"", b"")
    write("XADD", b"stream:big-ids", "18446744073709551615-0", b"a", b"b" * 5000)


def _trimmed(write: Write, identity: Identity) -> None:
    for number in range(1, 301):
        write("XADD", b"stream:trimmed", "%d-0" % number, b"n", number)
    write("XTRIM", b"stream:trimmed", "MAXLEN", 50)
    write("XADD", b"stream:last-deleted", "5-0", b"a", 1)
    write("XADD", b"stream:last-deleted", "6-0", b"a", 2)
    write("XDEL", b"stream:last-deleted", "6-0")
    write("XADD", b"stream:set-id", "5-0", b"a", 1)
    if identity.version >= (7, 0):
        write("XSETID", b"stream:set-id", "99-9", "ENTRIESADDED", 77, "MAXDELETEDID", "50-1")
    else:
        write("XSETID", b"stream:set-id", "99-9")


def _groups(write: Write, identity: Identity) -> None:
    key = b"stream:groups"
    for number in range(1, 41):
        write("XADD", key, "%d-0" % number, b"job", number)
    write("XGROUP CREATE", key, b"from-start", "0")
    write("XGROUP CREATE", key, b"from-end", "$")
    write("XGROUP CREATE", key, b"from-middle", "20-0")
    write("XGROUP CREATE", key, b"binary\x00\n\xff", "0")
    if identity.version >= (7, 0):
        write("XGROUP CREATE", key, b"entries-read", "10-0", "ENTRIESREAD", 10)
    if identity.version >= (6, 2):
        write("XGROUP CREATECONSUMER", key, b"from-start", b"idle-consumer")


def _pending(write: Write, identity: Identity) -> None:
    key = b"stream:pending"
    for number in range(1, 61):
        write("XADD", key, "%d-0" % number, b"job", number)
    write("XGROUP CREATE", key, b"workers", "40-0")
    write("XGROUP CREATE", key, b"auditors", "60-0")
    for number in range(1, 41):
        _deliver(write, key, b"workers", b"worker-%d" % (number % 3), number)
    _deliver(write, key, b"auditors", b"worker-1", 7)
    write("XACK", key, b"workers", "1-0", "2-0", "9-0")
    if identity.version < (7, 0):
        # A pending entry whose message is gone; later servers drop it when somebody claims it.
        write("XDEL", key, "12-0")


def _deliver(write: Write, key: bytes, group: bytes, consumer: bytes, number: int) -> None:
    """Make an entry pending, at a time and count of our choosing, which reading it could not do."""
    when = _DELIVERED_MS + number * 1000
    write(
        "XCLAIM",
        key,
        group,
        consumer,
        0,
        "%d-0" % number,
        "TIME",
        when,
        "RETRYCOUNT",
        number % 5 + 1,
        "FORCE",
        "JUSTID",
    )


def _empty(write: Write, identity: Identity) -> None:
    write("XGROUP CREATE", b"stream:never-written", b"waiting", "$", "MKSTREAM")
    write("XADD", b"stream:emptied", "5-5", b"a", 1)
    write("XGROUP CREATE", b"stream:emptied", b"group", "0")
    write("XDEL", b"stream:emptied", "5-5")
    write("XADD", b"stream:expiring", "1-0", b"a", 1)
    write("PEXPIREAT", b"stream:expiring", 4102444800777)
