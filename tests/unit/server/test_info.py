# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""INFO and CLUSTER SLOTS as different products and proxies answer them."""

from __future__ import annotations

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Address
from ansible_collections.dcs.migration.plugins.module_utils._server.info import parse_info
from ansible_collections.dcs.migration.plugins.module_utils._server.probe import output_buffer_limit
from ansible_collections.dcs.migration.plugins.module_utils._server.topology import shards_from_slots
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import (
    capabilities,
    described_product,
    product_of,
    product_of_rdb,
)

ASKED = Address("10.0.0.1", 7000)


@pytest.mark.parametrize(
    ("text", "name", "version", "compatible"),
    [
        (b"# Server\r\nredis_version:7.0.15\r\n", "redis", "7.0.15", (7, 0, 15)),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.0\r\n", "valkey", "9.1.0", (7, 2, 4)),
        (b"redis_version:7.2.4\r\nredict_version:7.3.0\r\n", "redict", "7.3.0", (7, 2, 4)),
        (b"redis_version:6.3.4\r\n# KeyDB\r\nmvcc_depth:0\r\n", "keydb", "6.3.4", (6, 3, 4)),
        (b"redis_version:7.4.0\r\ndragonfly_version:df-v1.23.1\r\n", "dragonfly", "1.23.1", (7, 4, 0)),
        (b"# Proxy\r\nVersion:1.0.5\r\n", "unknown", "", ()),
    ],
)
def test_product(text: bytes, name: str, version: str, compatible: tuple) -> None:
    product = product_of(parse_info(text))
    assert (product.name, product.version, product.compatible) == (name, version, compatible)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"# Proxy\r\nVersion:1.0.5\r\n", True),
        (b"redis_version:5.0\r\nredis_mode:proxy\r\n", True),
        (b"proxy_version:0.0.1\r\n", True),
        (b"redis_version:5.0\r\nredis_mode:standalone\r\n", False),
    ],
)
def test_proxy(text: bytes, expected: bool) -> None:
    assert parse_info(text).is_proxy is expected


def test_keyspace_and_replicas() -> None:
    info = parse_info(
        b"db0:keys=2,expires=1,avg_ttl=5\r\ndb10:keys=7,expires=0\r\ndbfilename:x\r\n"
        b"slave0:ip=10.0.0.2,port=6379,state=online,offset=1\r\nslave1:10.0.0.3,6379,online\r\n"
    )
    assert [tuple(item) for item in info.keyspace()] == [(0, 2, 1), (10, 7, 0)]
    assert info.replicas() == (Address("10.0.0.2", 6379),)


def test_cluster_slots() -> None:
    rows = [
        [8192, 16383, [b"10.0.0.2", 7000, b"id2"]],
        [0, 100, [b"", 7000, b"id1"], [b"10.0.0.3", 7000, b"id3"]],
        [101, 8191, [None, 7000, b"id1"], [b"?", 7001, b"id4", [b"ip", b"10.0.0.4"]]],
    ]
    first, second = shards_from_slots(rows, ASKED)
    assert first.master == ASKED and first.slots == ((0, 100), (101, 8191))
    assert first.replicas == (Address("10.0.0.3", 7000), Address("10.0.0.4", 7001))
    assert second.slots == ((8192, 16383),)


@pytest.mark.parametrize(
    ("version", "name", "rdb"), [("7.2", "redis", 11), ("Valkey 9.0.1", "valkey", 80), ("4.0", "redis", 8), ("8.10", "redis", 15)]
)
def test_described(version: str, name: str, rdb: int) -> None:
    product = described_product(version)
    assert (product.name, product.rdb_version) == (name, rdb)


def test_product_behind_a_dump_footer() -> None:
    assert product_of_rdb(9).compatible == (5, 0)
    assert product_of_rdb(80).name == "valkey" and capabilities(product_of_rdb(80)).hash_field_ttl
    assert not capabilities(product_of_rdb(None)).restore_replace


def test_output_buffer_limit() -> None:
    text = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    assert output_buffer_limit(text) == {"hard": 268435456, "soft": 67108864, "seconds": 60}
    assert output_buffer_limit(text.replace("slave", "replica")) == {"hard": 268435456, "soft": 67108864, "seconds": 60}
    assert output_buffer_limit(None) is None
