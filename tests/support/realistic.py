# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A data set as an application would leave it: many keys, all types, several databases, expiries, one big hash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any


from .access import Client, Identity, Writer, identify, nodes

_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Radia", "Leslie", "Margaret")
_CITIES = (b"Lisbon", b"Osaka", b"Bergen", b"Quito", b"Nairobi", b"Perth", b"Turin", b"Halifax")
_HOUR_MS = 3_600_000
_HASH_CHUNK = 500


class _Application:
    """Writes keys; ``cache`` and ``limits`` are the databases for what may be lost."""

    def __init__(self, writer: Writer, random: Random, databases: Sequence[int], streams: bool) -> None:
        self.writer = writer
        self.random = random
        self.main = databases[0]
        self.cache = databases[1 % len(databases)]
        self.limits = databases[2 % len(databases)]
        self.streams = streams
        self.now_ms = int(time.time() * 1000)

    def write(self, key: bytes, *words: Any, database: int | None = None) -> None:
        self.writer.write(self.main if database is None else database, key, *words)

    def token(self, length: int = 16) -> bytes:
        return b"%0*x" % (length * 2, self.random.getrandbits(length * 8))


def populate_realistic(
    client: Client,
    keys: int = 100_000,
    seed: int = 1,
    *,
    databases: Sequence[int] = (0, 1, 2),
    big_hash_fields: int = 200_000,
) -> None:
    """Write about ``keys`` keys. Only expiries depend on the clock: they begin an hour from now.

    For a cluster pass its cluster client and ``databases=(0,)``.
    """
    identity: Identity = identify(nodes(client)[0])
    with Writer(client) as writer:
        app = _Application(writer, Random(seed), databases, identity.streams)
        for number in range(keys):
            _KINDS[number % len(_KINDS)](app, number)
        for first in range(0, big_hash_fields, _HASH_CHUNK):
            fields = range(first, min(first + _HASH_CHUNK, big_hash_fields))
            words = [word for n in fields for word in (b"user:%d" % n, b"segment-%d" % (n * 7 % 97))]
            app.write(b"profile:segments", "HMSET", b"profile:segments", *words)


def _user(app: _Application, number: int) -> None:
    key = b"user:%d" % number
    name = _NAMES[number % len(_NAMES)]
    words = ("name", name, "email", "%s.%d@example.org" % (name.lower(), number), "visits", app.random.randrange(9999))
    app.write(key, "HMSET", key, *words)


def _session(app: _Application, number: int) -> None:
    key = b"session:" + app.token()
    body = json.dumps({"user": number, "csrf": app.token(8).decode(), "admin": number % 50 == 0})
    app.write(key, "SET", key, body, "PX", _HOUR_MS + app.random.randrange(24 * _HOUR_MS))


def _cart(app: _Application, number: int) -> None:
    key = b"cart:{user:%d}" % number
    for _item in range(app.random.randrange(1, 4)):
        app.write(key, "HSET", key, b"sku-%05d" % app.random.randrange(10_000), app.random.randrange(1, 5))


def _fragment(app: _Application, number: int) -> None:
    key = b"fragment:page:%d:en" % number
    html = b"<li class='product'>item %d</li>\n" % number * app.random.randrange(2, 40)
    app.write(key, "SET", key, html, "PX", 2 * _HOUR_MS + number, database=app.cache)


def _rate_limit(app: _Application, number: int) -> None:
    key = b"limit:10.%d.%d.%d" % (number >> 16 & 255, number >> 8 & 255, number & 255)
    app.write(key, "SET", key, app.random.randrange(1000), "PX", _HOUR_MS + number, database=app.limits)


def _followers(app: _Application, number: int) -> None:
    key = b"followers:%d" % number
    app.write(key, "SADD", key, *[app.random.randrange(100_000) for _member in range(app.random.randrange(1, 12))])


def _timeline(app: _Application, number: int) -> None:
    key = b"timeline:%d" % number
    app.write(key, "LPUSH", key, *[b"post:%d" % app.random.randrange(10**6) for _post in range(10)])


def _shared(app: _Application, number: int) -> None:
    """The few keys everybody writes to."""
    pick = number // len(_KINDS) % 8
    day = b"2026-01-%02d" % (number % 28 + 1)
    if pick == 0:
        key = b"leaderboard:%d" % (number % 5)
        app.write(key, "ZADD", key, round(app.random.gauss(1000, 200), 3), b"player:%d" % number)
    elif pick == 1:
        key = b"queue:mail"
        app.write(key, "RPUSH", key, json.dumps({"to": number, "template": "welcome"}))
    elif pick == 2:
        key = b"visitors:" + day
        app.write(key, "PFADD", key, number)
    elif pick == 3:
        key = b"active:" + day
        app.write(key, "SETBIT", key, number % 100_000, 1)
    elif pick == 4 and app.streams:
        key = b"orders"
        app.write(key, "XADD", key, "%d-1" % (number + 1), "user", number, "total", app.random.randrange(10_000))
    elif pick == 5:
        key = b"tags:" + _CITIES[number % len(_CITIES)]
        app.write(key, "SADD", key, b"article:%d" % number)
    elif pick == 6:
        key = b"flag:checkout-v%d" % (number % 40)
        app.write(key, "SET", key, number % 2)
    else:
        key = b"stock:%d" % (number % 500)
        app.write(key, "INCRBY", key, app.random.randrange(1, 9))


_KINDS: tuple[Callable[[_Application, int], None], ...] = (
    _user,
    _session,
    _cart,
    _fragment,
    _rate_limit,
    _followers,
    _timeline,
    _shared,
)
