# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What real servers DUMP, read by us; what we write, RESTOREd by real servers. Their own commands are the judge."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from ansible_collections.dcs.migration.plugins.module_utils._codec import payload, stream, values
from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError, TruncatedError, UnsupportedError
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.params import server_params
from ansible_collections.dcs.migration.tests.support.servers import SERVERS, WHEEL_SERVERS, RedisServer
from ansible_collections.dcs.migration.tests.unit.codec.vectors import elements_of, read_in_pieces, vectors

# Values this long are read in pieces only once, and not truncated at each byte.
SMALL = 2000


def rdb_version(name: str) -> int:
    server = SERVERS[name]
    version = t.server_rdb_version(server.product, "%d.%d" % server.version)
    if version is None:
        raise ValueError(name)
    return version


def dialect(name: str) -> str:
    return t.VALKEY if SERVERS[name].product == "valkey" else t.REDIS


class Loaded:
    """A server with every type in every encoding in it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client = server.client()
        written = populate_every_type(self.client, server.version, server.product, databases=(0,), functions=False)
        self.keys = [key for _database, key in written if self.client.exists(key)]

    def dump(self, key: bytes) -> tuple[int, bytes, int]:
        return payload.split(self.client.dump(key))

    def value(self, key: bytes) -> values.Value:
        type_byte, body, version = self.dump(key)
        value, end = values.decode(type_byte, body, 0, t.dialect_of(version))
        assert end == len(body)
        return value


@pytest.fixture(scope="module", params=server_params())
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    with RedisServer(request.param) as server:
        yield Loaded(server)


def field_expiries(client: redis.Redis, key: bytes, fields: list[bytes]) -> list[int]:
    try:
        found = client.execute_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
    except redis.ResponseError:
        return [0] * len(fields)
    return [max(0, expire) for expire in found]


def as_commands_say(client: redis.Redis, key: bytes) -> Any:
    """The value in ordinary commands."""
    kind = client.type(key)
    if kind == b"string":
        return client.get(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"set":
        return set(client.execute_command("SMEMBERS", key))
    if kind == b"zset":
        words = client.execute_command("ZRANGE", key, 0, -1, "WITHSCORES")
        flat = [word for word in words for word in (word if isinstance(word, (list, tuple)) else [word])]
        return {member: float(score) for member, score in zip(flat[::2], flat[1::2])}
    if kind == b"hash":
        pairs = client.hgetall(key)
        return {name: (text, at) for (name, text), at in zip(pairs.items(), field_expiries(client, key, list(pairs)))}
    return [
        (name, [word for pair in (fields or {}).items() for word in pair]) for name, fields in client.xrange(key)
    ]


def as_decoded(value: values.Value) -> Any:
    if isinstance(value, values.Set):
        return set(value.members)
    if isinstance(value, values.ZSet):
        return dict(value.items)
    if isinstance(value, values.Hash):
        return {field: (text, expire) for field, text, expire in value.items}
    if isinstance(value, stream.Stream):
        # redis-py makes a dict of the fields, so a repeated name counts once here too.
        return [(b"%d-%d" % (ms, seq), [word for pair in dict(fields).items() for word in pair]) for ms, seq, fields in value.entries()]
    return elements_of(value)[0] if isinstance(value, values.String) else elements_of(value)


def test_decoded_values_are_what_the_server_answers(loaded: Loaded) -> None:
    kinds = set()
    for key in loaded.keys:
        value = loaded.value(key)
        kinds.add(value.kind)
        assert as_decoded(value) == as_commands_say(loaded.client, key), key
    assert kinds >= {"string", "list", "set", "zset", "hash"}


def test_stream_groups_are_what_the_server_answers(loaded: Loaded) -> None:
    found = 0
    for key in loaded.keys:
        value = loaded.value(key)
        if not isinstance(value, stream.Stream):
            continue
        info = loaded.client.xinfo_stream(key)
        assert (value.length, b"%d-%d" % value.last_id) == (info["length"], info["last-generated-id"])
        if "entries-added" in info:
            assert (value.entries_added, b"%d-%d" % value.max_deleted_id) == (
                info["entries-added"],
                info["max-deleted-entry-id"],
            )
        groups = {group["name"]: group for group in loaded.client.xinfo_groups(key)}
        assert {group.name for group in value.groups} == set(groups)
        for group in value.groups:
            found += 1
            said = groups[group.name]
            assert (b"%d-%d" % group.last_id, len(group.pel)) == (said["last-delivered-id"], said["pending"])
            if "entries-read" in said:
                assert group.entries_read == (stream.UNKNOWN if said["entries-read"] is None else said["entries-read"])
            consumers = {one["name"]: one["pending"] for one in loaded.client.xinfo_consumers(key, group.name)}
            assert {one.name: len(one.pel) for one in group.consumers} == consumers
            pending = loaded.client.xpending_range(key, group.name, "-", "+", 100000)
            said_pending = {(row["message_id"], row["consumer"], row["times_delivered"]) for row in pending}
            owners = {item: one.name for one in group.consumers for item in one.pel}
            assert {(b"%d-%d" % item, owners[item], times) for item, _at, times in group.pel} == said_pending
    assert found or rdb_version(loaded.server.name) < 9


def test_reading_in_pieces_and_truncated(loaded: Loaded) -> None:
    for key in loaded.keys:
        type_byte, body, version = loaded.dump(key)
        whole = elements_of(loaded.value(key))
        for size in (1, 100) if len(body) < SMALL else (4096,):
            assert read_in_pieces(type_byte, t.dialect_of(version), body + b"x", size)[:2] == (whole, len(body)), key
        for size in range(len(body) if len(body) < SMALL else 0):
            with pytest.raises(TruncatedError):
                values.decode(type_byte, body[:size], 0, t.dialect_of(version))


def test_damaged_payloads(loaded: Loaded) -> None:
    source = random.Random(7)
    for key in loaded.keys:
        type_byte, body, version = loaded.dump(key)
        for _unused in range(20):
            wrong = bytearray(body)
            for _again in range(source.randrange(1, 4)):
                wrong[source.randrange(len(wrong))] = source.randrange(256)
            try:
                values.canonical(values.decode(type_byte, bytes(wrong), 0, t.dialect_of(version))[0])
            except CodecError:
                continue


def digest(client: redis.Redis, key: bytes) -> bytes:
    """The server's own digest of a value, which this project did not write; empty where there is no such command."""
    try:
        return client.execute_command("DEBUG", "DIGEST-VALUE", key)[0]
    except redis.ResponseError:
        return b""


def test_what_we_encode_is_restored_to_the_same_value(loaded: Loaded) -> None:
    name = loaded.server.name
    for key in loaded.keys:
        value = loaded.value(key)
        before = digest(loaded.client, key)
        type_byte, body = payload.encode(value, rdb_version(name), dialect(name))
        loaded.client.delete(b"again")
        # Whether a key expires at all is part of its digest.
        ttl = 1000000 if loaded.client.pttl(key) > 0 else 0
        loaded.client.restore(b"again", ttl, payload.foot(type_byte, body, rdb_version(name)))
        assert values.canonical(loaded.value(b"again")) == values.canonical(value), key
        assert as_commands_say(loaded.client, b"again") == as_commands_say(loaded.client, key)
        assert digest(loaded.client, b"again") == before, key
    loaded.client.delete(b"again")


def test_loadable_is_what_the_server_loads(loaded: Loaded) -> None:
    name = loaded.server.name
    loaded.client.delete(b"again")
    for vector in vectors():
        if vector.dialect != dialect(name) and vector.type_byte > t.COMMON_TYPE_MAX:
            continue
        if "64-bit" in vector.name and rdb_version(name) < 8:
            # Before Redis 4.0 this length did not exist: the server reads other bytes for it.
            continue
        try:
            loaded.client.restore(b"again", 0, payload.foot(vector.type_byte, vector.body, rdb_version(name)))
            accepted = True
        except redis.ResponseError as exc:
            assert "data format" in str(exc), vector.name
            accepted = False
        assert accepted is t.loadable(vector.type_byte, rdb_version(name), dialect(name)), vector.name
        if accepted:
            made, _end = values.decode(vector.type_byte, vector.body, 0, vector.dialect)
            assert values.canonical(loaded.value(b"again")) == values.canonical(made)
            loaded.client.delete(b"again")


@functools.lru_cache(maxsize=None)
def dumped(name: str) -> list[tuple[bytes, int, bytes, values.Value]]:
    """(key, type, body, value) of everything in a server of that name."""
    with RedisServer(name) as server:
        loaded = Loaded(server)
        return [(key, *loaded.dump(key)[:2], loaded.value(key)) for key in loaded.keys]


PAIRS = [
    pytest.param(source, target, marks=() if {source, target} <= set(WHEEL_SERVERS) else pytest.mark.matrix)
    for source in SERVERS
    for target in SERVERS
    if source != target
]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_from_any_server_to_any_other(source: str, target: str) -> None:
    version = rdb_version(target)
    refused = set()
    with RedisServer(target) as server:
        client = server.client()
        for key, type_byte, body, value in dumped(source):
            try:
                made = payload.convert(type_byte, body, version, dialect(target), dialect(source))
            except UnsupportedError:
                refused.add(value.kind)
                continue
            client.restore(key, 0, payload.foot(*made, version))
            found_type, found_body, found_version = payload.split(client.dump(key))
            found, _end = values.decode(found_type, found_body, 0, t.dialect_of(found_version))
            assert values.canonical(found) == values.canonical(value), key
    streams = rdb_version(source) >= 9 > version
    expiries = rdb_version(source) >= 12 and version < 12
    assert refused == {kind for kind, expected in (("stream", streams), ("hash", expiries)) if expected}
