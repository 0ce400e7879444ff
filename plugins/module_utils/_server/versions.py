# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which server this is, and what it can therefore do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from typing import Any, Dict, Optional, Tuple

from .._codec.types import REDIS, SERVER_RDB_VERSIONS, VALKEY, VALKEY_VERSION_MIN, dialect_of, server_rdb_version
from .._errors import ServerError
from .connect import call, open_client
from .endpoint import Address, Endpoint
from .info import Info

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

# Keys of ours that live for a moment in a user's instance; everything that lists or compares keys leaves them out.
RESERVED_PREFIX = b"__dcs_migration__:"

_PROBE_SECONDS = 60  # a probe key that we could not delete goes by itself
_DUMP_FOOTER = 10  # 2 bytes RDB version, 8 bytes CRC64

# INFO fields that give a product away; all of them also report a redis_version they are compatible with.
_VERSION_FIELDS = ("valkey", "redict", "keydb", "dragonfly", "garnet", "kvrocks", "pika")

Version = Tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """``name`` redis, valkey, redict, ...; ``version`` its own; ``compatible`` the Redis version it stands for."""

    name: str
    version: str
    compatible: Version
    rdb_version: Optional[int]

    @property
    def dialect(self) -> str:
        """Whose type bytes it speaks, as in ``_codec.types``."""
        return VALKEY if self.name == "valkey" else dialect_of(self.rdb_version or 0)


@dataclass(frozen=True)
class Capabilities:
    """What a server of this version understands; says nothing about commands its owner disabled."""

    restore_replace: bool = False  # RESTORE ... REPLACE
    restore_absttl: bool = False  # RESTORE ... ABSTTL
    restore_idle_freq: bool = False  # RESTORE ... IDLETIME / FREQ
    set_pxat: bool = False  # SET ... PXAT
    unlink: bool = False
    swapdb: bool = False
    streams: bool = False
    functions: bool = False
    hash_field_ttl: bool = False
    acl: bool = False
    acl_dryrun: bool = False
    cluster: bool = False
    psync: bool = False
    psync2: bool = False
    import_mode: bool = False  # Valkey: CLIENT IMPORT-SOURCE

    def as_dict(self) -> Dict[str, bool]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


def parse_version(text: str) -> Version:
    """``7.0.15-rc1`` -> (7, 0, 15); empty for no number."""
    match = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def product_of(info: Info) -> Product:
    """Read product and versions from INFO. A server with no version at all is ``unknown``."""
    compatible = parse_version(info.text("redis_version"))
    for name in _VERSION_FIELDS:
        version = info.text(name + "_version")
        if version:
            return _product(name, ".".join(map(str, parse_version(version))) or version, compatible)
    if "keydb" in info.sections or "mvcc_depth" in info.fields:
        return _product("keydb", info.text("redis_version"), compatible)
    if not compatible:
        return Product("unknown", "", (), None)
    return _product("redis", info.text("redis_version"), compatible)


def described_product(version: str, name: str = "") -> Product:
    """The product behind a version that a person wrote down: ``7.2``, ``valkey 8.0``."""
    words = version.lower().split()
    if not name:
        name = next((word for word in words if word in SERVER_RDB_VERSIONS), "redis")
    number = parse_version(version)
    compatible = number if name in ("redis", "keydb") else (7, 2)
    return _product(name, ".".join(map(str, number)), compatible if number else ())


def product_of_rdb(rdb_version: Optional[int]) -> Product:
    """All that a DUMP footer tells: the oldest server that writes this RDB version, its own version unknown."""
    if rdb_version is None:
        return Product("unknown", "", (), None)
    name = "valkey" if rdb_version >= VALKEY_VERSION_MIN else "redis"
    oldest = [first for first, known in SERVER_RDB_VERSIONS[name] if known <= rdb_version]
    compatible: Version = (7, 2) if name == "valkey" else (max(oldest) if oldest else ())
    return Product(name if name == "valkey" else "unknown", "", compatible, rdb_version)


def capabilities(product: Product) -> Capabilities:
    """What the version implies. An unknown version can do nothing but the basics."""
    v = product.compatible
    own = parse_version(product.version)
    valkey = product.name == "valkey"
    field_ttl = (valkey and (own or _valkey_floor(product)) >= (9, 0)) or (product.name == "redis" and v >= (7, 4))
    return Capabilities(
        restore_replace=v >= (3, 0),
        restore_absttl=v >= (5, 0),
        restore_idle_freq=v >= (5, 0),
        set_pxat=v >= (6, 2),
        unlink=v >= (4, 0),
        swapdb=v >= (4, 0),
        streams=v >= (5, 0),
        functions=v >= (7, 0),
        hash_field_ttl=field_ttl,
        acl=v >= (6, 0),
        acl_dryrun=v >= (7, 0),
        cluster=v >= (3, 0),
        psync=v >= (2, 8),
        psync2=v >= (4, 0),
        import_mode=valkey and own >= (8, 1),
    )


def rdb_version_by_dump(endpoint: Endpoint, address: Address) -> Optional[int]:
    """Read the RDB version off a DUMP payload: of any key, else of a probe key written for a moment.

    None where neither can be done (DUMP disabled, read-only login). Each try has a connection of its own,
    since a proxy ends the connection over a command it does not know.
    """
    for attempt in (_dump_any_key, _dump_probe_key):
        try:
            client = open_client(endpoint, address)
        except ServerError:
            return None
        try:
            payload = attempt(client)
        except redis.RedisError:
            payload = None
        finally:
            client.close()
        if payload is not None and len(payload) > _DUMP_FOOTER:
            return int.from_bytes(payload[-_DUMP_FOOTER : -_DUMP_FOOTER + 2], "little")
    return None


def _dump_any_key(client: redis.Redis) -> Optional[bytes]:
    key = call(client, "RANDOMKEY")
    return call(client, "DUMP", key) if key is not None else None


def _dump_probe_key(client: redis.Redis) -> Optional[bytes]:
    key = RESERVED_PREFIX + b"probe:" + os.urandom(8).hex().encode()
    call(client, "SET", key, b"1", "EX", _PROBE_SECONDS)
    try:
        return call(client, "DUMP", key)
    finally:
        try:
            call(client, "DEL", key)
        except redis.RedisError:
            pass  # its expiry removes it


def _product(name: str, version: str, compatible: Version) -> Product:
    return Product(name, version, compatible, server_rdb_version(name, version))


def _valkey_floor(product: Product) -> Version:
    """The oldest Valkey that writes this RDB version."""
    known: Dict[Any, Any] = {rdb: first for first, rdb in SERVER_RDB_VERSIONS["valkey"]}
    return known.get(product.rdb_version, ())


__all__ = [
    "Capabilities",
    "Product",
    "REDIS",
    "RESERVED_PREFIX",
    "capabilities",
    "described_product",
    "parse_version",
    "product_of",
    "product_of_rdb",
    "rdb_version_by_dump",
]
