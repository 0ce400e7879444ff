# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a deployment holds, read through ordinary commands: an oracle that shares no code with the engine.

before = snapshot(source.client())
assert_same_data(before, snapshot(target.clients()))
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Union

import redis

from .access import Identity, identify, raw_client

# How far two readings of one expiry may be apart. Servers before 7.0 tell only what is left of it.
TTL_TOLERANCE_MS = 50
_CHUNK = 200
_SHOWN = 10


class Unknown:
    """What a server cannot tell, because its version does not have it: equal to whatever the other one says."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()


class Milliseconds(NamedTuple):
    """A point in time, compared within the tolerance."""

    at: int


class Entry(NamedTuple):
    """One key."""

    type: str
    value: Any
    expire_ms: int | None


Snapshot = dict[tuple[int, bytes], Entry]
Clients = Union[redis.Redis, redis.RedisCluster, Sequence[redis.Redis]]


def snapshot(clients: Clients, databases: Iterable[int] | None = None, keys: Iterable[bytes] | None = None) -> Snapshot:
    """Read everything. ``clients``: one client, a cluster client, or a client of each master.

    ``databases``: all that hold keys unless given. ``keys``: these instead of all, for a proxy that has no SCAN.
    """
    found: Snapshot = {}
    for client in _masters(clients):
        one = _read_keys(client, list(keys)) if keys is not None else _read_node(client, databases)
        twice = found.keys() & one.keys()
        if twice:
            raise AssertionError("keys on two masters at once: %r" % sorted(twice)[:_SHOWN])
        found.update(one)
    return found


def functions(clients: Clients) -> dict[bytes, bytes]:
    """The code of every function library, which all masters must agree on."""
    agreed: dict[bytes, bytes] | None = None
    for client in _masters(clients):
        with raw_client(client) as raw:
            libraries = [_pairs(library) for library in raw.execute_command("FUNCTION", "LIST", "WITHCODE")]
        held = {library[b"library_name"]: library[b"library_code"] for library in libraries}
        if agreed is not None and held != agreed:
            raise AssertionError("masters hold different functions: %r, %r" % (sorted(agreed), sorted(held)))
        agreed = held
    return agreed or {}


def assert_same_data(
    a: Snapshot, b: Snapshot, ttl_tolerance_ms: int = TTL_TOLERANCE_MS, names: tuple[str, str] = ("first", "second")
) -> None:
    """Fail with the first few differences between two snapshots."""
    problems = list(differences(a, b, ttl_tolerance_ms, names))
    if problems:
        shown = "\n  ".join(problems[:_SHOWN])
        raise AssertionError("%d of %d keys differ:\n  %s" % (len(problems), len(a.keys() | b.keys()), shown))


def differences(a: Snapshot, b: Snapshot, tolerance_ms: int, names: tuple[str, str]) -> Iterator[str]:
    """One line for each key that is not the same on both sides."""
    for place in sorted(a.keys() | b.keys()):
        label = "db %d key %s" % (place[0], _short(place[1]))
        if place not in b:
            yield "%s: %s, only in the %s" % (label, a[place].type, names[0])
        elif place not in a:
            yield "%s: %s, only in the %s" % (label, b[place].type, names[1])
        else:
            problem = _difference(a[place], b[place], tolerance_ms)
            if problem:
                yield "%s: %s" % (label, problem)


def _difference(a: Entry, b: Entry, tolerance_ms: int) -> str | None:
    if a.type != b.type:
        return "type %s, %s" % (a.type, b.type)
    times = [None if one.expire_ms is None else Milliseconds(one.expire_ms) for one in (a, b)]
    if not _same(times[0], times[1], tolerance_ms):
        return "expires at %s, %s" % (a.expire_ms, b.expire_ms)
    if _same(a.value, b.value, tolerance_ms):
        return None
    return "%s %s" % (a.type, _where(a.value, b.value, tolerance_ms))


def _same(a: Any, b: Any, tolerance_ms: int) -> bool:
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return True
    if isinstance(a, Milliseconds) and isinstance(b, Milliseconds):
        return abs(a.at - b.at) <= tolerance_ms
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key], tolerance_ms) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(one, two, tolerance_ms) for one, two in zip(a, b))
    return bool(a == b)


def _where(a: Any, b: Any, tolerance_ms: int) -> str:
    """The first place where two values part."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys(), key=repr):
            if key not in a or key not in b:
                return "%s is on one side only (%d, %d members)" % (_short(key), len(a), len(b))
            if not _same(a[key], b[key], tolerance_ms):
                return "%s: %s" % (_short(key), _where(a[key], b[key], tolerance_ms))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        for number, (one, two) in enumerate(zip(a, b)):
            if not _same(one, two, tolerance_ms):
                return "[%d] %s" % (number, _where(one, two, tolerance_ms))
        return "has %d, %d elements" % (len(a), len(b))
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return "members on one side only: %s" % _short(sorted(a ^ b)[:3])
    return "%s, %s" % (_short(a), _short(b))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else "%s... (%d characters)" % (text[:77], len(text))


# -- reading -------------------------------------------------------------------------------------------------


def _masters(clients: Clients) -> list[redis.Redis]:
    if isinstance(clients, redis.RedisCluster):
        return [clients.get_redis_connection(node) for node in clients.get_primaries()]
    return [clients] if isinstance(clients, redis.Redis) else list(clients)


def _read_node(client: redis.Redis, databases: Iterable[int] | None) -> Snapshot:
    identity = identify(client)
    if databases is None:
        databases = sorted(int(name[len("db") :]) for name in client.info("keyspace"))
    found: Snapshot = {}
    for database in databases:
        with raw_client(client, database) as raw:
            for chunk in _scan(raw):
                found.update({(database, key): entry for key, entry in _read(raw, chunk, identity)})
    return found


def _scan(raw: redis.Redis) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, keys = raw.execute_command("SCAN", cursor, "COUNT", _CHUNK)
        if keys:
            yield keys
        if cursor == b"0":
            return


def _read_keys(client: redis.Redis, keys: list[bytes]) -> Snapshot:
    """Through a proxy: one key at a time, no transactions, nothing that needs to know the version."""
    found: Snapshot = {}
    with raw_client(client) as raw:
        for key in keys:
            type_ = raw.execute_command("TYPE", key)
            if type_ != b"none":
                left = raw.execute_command("PTTL", key)
                expire_ms = None if left < 0 else int(time.time() * 1000) + left
                value = _value(raw, key, type_, Identity("redis", (2, 8)))
                found[(0, key)] = Entry(type_.decode(), value, expire_ms)
    return found


def _read(raw: redis.Redis, keys: list[bytes], identity: Identity) -> Iterator[tuple[bytes, Entry]]:
    exact = identity.version >= (7, 0)
    # Not in a transaction: in a cluster the keys are of many slots. So the clock is read beside each key.
    pipeline = raw.pipeline(transaction=False)
    for key in keys:
        pipeline.execute_command("TYPE", key)
        pipeline.execute_command("PEXPIRETIME" if exact else "PTTL", key)
        pipeline.execute_command("TIME")
    replies = pipeline.execute()
    for key, type_, left, (seconds, micros) in zip(keys, replies[::3], replies[1::3], replies[2::3]):
        if type_ != b"none":
            now = 0 if exact else int(seconds) * 1000 + int(micros) // 1000
            value = _value(raw, key, type_, identity)
            yield key, Entry(type_.decode(), value, None if left < 0 else now + left)


def _value(raw: redis.Redis, key: bytes, type_: bytes, identity: Identity) -> Any:
    if type_ == b"string":
        return raw.execute_command("GET", key)
    if type_ == b"list":
        return raw.execute_command("LRANGE", key, 0, -1)
    if type_ == b"set":
        return frozenset(raw.execute_command("SMEMBERS", key))
    if type_ == b"zset":
        pairs = _pairs(raw.execute_command("ZRANGE", key, 0, -1, "WITHSCORES"))
        return {member: float(score) for member, score in pairs.items()}
    if type_ == b"hash":
        return _hash(raw, key, identity)
    if type_ == b"stream":
        return _stream(raw, key, identity)
    raise AssertionError("a type this oracle does not know: %r of %r" % (type_, key))


def _hash(raw: redis.Redis, key: bytes, identity: Identity) -> dict[bytes, Any]:
    """Field -> (value, expiry)."""
    pairs = _pairs(raw.execute_command("HGETALL", key))
    if not pairs or not identity.field_expiry:
        return {field: (value, None) for field, value in pairs.items()}
    fields = list(pairs)
    times: list[int] = []
    for first in range(0, len(fields), 10_000):
        some = fields[first : first + 10_000]
        times += raw.execute_command("HPEXPIRETIME", key, "FIELDS", len(some), *some)
    return {field: (pairs[field], None if when < 0 else Milliseconds(when)) for field, when in zip(fields, times)}


def _stream(raw: redis.Redis, key: bytes, identity: Identity) -> dict[str, Any]:
    info = _pairs(raw.execute_command("XINFO", "STREAM", key))
    entries = raw.execute_command("XRANGE", key, "-", "+")
    return {
        "entries": [(entry[0], tuple(entry[1])) for entry in entries],
        "last-id": info[b"last-generated-id"],
        "entries-added": info.get(b"entries-added", UNKNOWN),
        "max-deleted-id": info.get(b"max-deleted-entry-id", UNKNOWN),
        "groups": {
            group[b"name"]: _group(raw, key, group, identity)
            for group in map(_pairs, raw.execute_command("XINFO", "GROUPS", key))
        },
    }


def _group(raw: redis.Redis, key: bytes, group: dict[bytes, Any], identity: Identity) -> dict[str, Any]:
    name = group[b"name"]
    consumers = [_pairs(one)[b"name"] for one in raw.execute_command("XINFO", "CONSUMERS", key, name)]
    return {
        "last-delivered": group[b"last-delivered-id"],
        "entries-read": group.get(b"entries-read", UNKNOWN),
        "consumers": frozenset(consumers),
        "pending": _pending(raw, key, name, identity),
    }


def _pending(raw: redis.Redis, key: bytes, group: bytes, identity: Identity) -> dict[bytes, Any]:
    """ID -> (consumer, delivered at, deliveries). Where the time itself cannot be read it is counted back from now."""
    if identity.version >= (6, 0):
        whole = _pairs(raw.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0))
        held = next(one for one in map(_pairs, whole[b"groups"]) if one[b"name"] == group)
        entries = held[b"pel"] if b"pel" in held else held[b"pending"]
        return {entry[0]: (entry[1], Milliseconds(entry[2]), entry[3]) for entry in entries}
    pipeline = raw.pipeline(transaction=True)
    pipeline.execute_command("TIME")
    pipeline.execute_command("XPENDING", key, group, "-", "+", 1_000_000)
    (seconds, micros), rows = pipeline.execute()
    now = int(seconds) * 1000 + int(micros) // 1000
    return {row[0]: (row[1], Milliseconds(now - row[2]), row[3]) for row in rows}


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2]))
