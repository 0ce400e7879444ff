# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Type bytes and opcodes of RDB files and DUMP payloads, and who knows them.

Sources: ``src/rdb.h`` and ``src/rdb.c`` in redis/redis and valkey-io/valkey. The two projects parted after
RDB version 11: type bytes 22 and above and opcodes 242 and 243 mean different things in each *dialect*
(``REDIS`` or ``VALKEY``). Everything below 22 is common ground.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, NamedTuple, Optional, Tuple

REDIS = "redis"
VALKEY = "valkey"

STRING = 0
LIST = 1
SET = 2
ZSET = 3
HASH = 4
ZSET_2 = 5
MODULE_PRE_GA = 6
MODULE_2 = 7
HASH_ZIPMAP = 9
LIST_ZIPLIST = 10
SET_INTSET = 11
ZSET_ZIPLIST = 12
HASH_ZIPLIST = 13
LIST_QUICKLIST = 14
STREAM_LISTPACKS = 15
HASH_LISTPACK = 16
ZSET_LISTPACK = 17
LIST_QUICKLIST_2 = 18
STREAM_LISTPACKS_2 = 19
SET_LISTPACK = 20
STREAM_LISTPACKS_3 = 21
# Redis only
HASH_METADATA_PRE_GA = 22
HASH_LISTPACK_EX_PRE_GA = 23
HASH_METADATA = 24
HASH_LISTPACK_EX = 25
STREAM_LISTPACKS_4 = 26
STREAM_LISTPACKS_5 = 27
ARRAY = 28
HASH_TMPL_LP = 29
HASH_TMPL_LP_REF = 30
HASH_TMPL_ARRAY = 31
HASH_TMPL_ARRAY_REF = 32
# Valkey only
VALKEY_HASH_2 = 22
VALKEY_PATH_HASH = 23

OP_EOF = 255
OP_SELECTDB = 254
OP_EXPIRETIME = 253
OP_EXPIRETIME_MS = 252
OP_RESIZEDB = 251
OP_AUX = 250
OP_FREQ = 249
OP_IDLE = 248
OP_MODULE_AUX = 247
OP_FUNCTION_PRE_GA = 246
OP_FUNCTION2 = 245
OP_SLOT_INFO = 244
# Redis only
OP_KEY_META = 243
OP_HASH_TEMPLATE = 242
# Valkey only
VALKEY_OP_SLOT_IMPORT = 243
VALKEY_OP_UPDATE = 242

# Inside a module value (type 7) and after OP_MODULE_AUX.
MODULE_EOF = 0
MODULE_SINT = 1
MODULE_UINT = 2
MODULE_FLOAT = 3
MODULE_DOUBLE = 4
MODULE_STRING = 5

# RDB versions 12 to 79 belong to Redis alone, from 80 on to Valkey alone.
COMMON_VERSION_MAX = 11
VALKEY_VERSION_MIN = 80
# The last type byte and the first opcode on which the dialects agree.
COMMON_TYPE_MAX = 21
COMMON_OPCODE_MIN = 244


class TypeInfo(NamedTuple):
    """``name`` as in rdb.h (lower case), logical ``kind``, and the RDB version ``since`` which servers load it.

    ``kind`` is one of string, list, set, zset, hash, stream, module, array.
    """

    name: str
    kind: str
    since: int


_COMMON: Dict[int, TypeInfo] = {
    STRING: TypeInfo("string", "string", 1),
    LIST: TypeInfo("list", "list", 1),
    SET: TypeInfo("set", "set", 1),
    ZSET: TypeInfo("zset", "zset", 1),
    HASH: TypeInfo("hash", "hash", 1),
    ZSET_2: TypeInfo("zset_2", "zset", 8),
    MODULE_PRE_GA: TypeInfo("module_pre_ga", "module", 8),
    MODULE_2: TypeInfo("module_2", "module", 8),
    HASH_ZIPMAP: TypeInfo("hash_zipmap", "hash", 2),
    LIST_ZIPLIST: TypeInfo("list_ziplist", "list", 2),
    SET_INTSET: TypeInfo("set_intset", "set", 2),
    ZSET_ZIPLIST: TypeInfo("zset_ziplist", "zset", 2),
    HASH_ZIPLIST: TypeInfo("hash_ziplist", "hash", 4),
    LIST_QUICKLIST: TypeInfo("list_quicklist", "list", 7),
    STREAM_LISTPACKS: TypeInfo("stream_listpacks", "stream", 9),
    HASH_LISTPACK: TypeInfo("hash_listpack", "hash", 10),
    ZSET_LISTPACK: TypeInfo("zset_listpack", "zset", 10),
    LIST_QUICKLIST_2: TypeInfo("list_quicklist_2", "list", 10),
    STREAM_LISTPACKS_2: TypeInfo("stream_listpacks_2", "stream", 10),
    SET_LISTPACK: TypeInfo("set_listpack", "set", 11),
    STREAM_LISTPACKS_3: TypeInfo("stream_listpacks_3", "stream", 11),
}

_REDIS_ONLY: Dict[int, TypeInfo] = {
    HASH_METADATA_PRE_GA: TypeInfo("hash_metadata_pre_ga", "hash", 12),
    HASH_LISTPACK_EX_PRE_GA: TypeInfo("hash_listpack_ex_pre_ga", "hash", 12),
    HASH_METADATA: TypeInfo("hash_metadata", "hash", 12),
    HASH_LISTPACK_EX: TypeInfo("hash_listpack_ex", "hash", 12),
    STREAM_LISTPACKS_4: TypeInfo("stream_listpacks_4", "stream", 13),
    STREAM_LISTPACKS_5: TypeInfo("stream_listpacks_5", "stream", 14),
    ARRAY: TypeInfo("array", "array", 14),
    HASH_TMPL_LP: TypeInfo("hash_tmpl_lp", "hash", 15),
    HASH_TMPL_LP_REF: TypeInfo("hash_tmpl_lp_ref", "hash", 15),
    HASH_TMPL_ARRAY: TypeInfo("hash_tmpl_array", "hash", 15),
    HASH_TMPL_ARRAY_REF: TypeInfo("hash_tmpl_array_ref", "hash", 15),
}

_VALKEY_ONLY: Dict[int, TypeInfo] = {
    VALKEY_HASH_2: TypeInfo("hash_2", "hash", 80),
    VALKEY_PATH_HASH: TypeInfo("path_hash", "hash", 81),
}

TYPES: Dict[str, Dict[int, TypeInfo]] = {
    REDIS: {**_COMMON, **_REDIS_ONLY},
    VALKEY: {**_COMMON, **_VALKEY_ONLY},
}

_COMMON_OPCODES: Dict[int, str] = {
    OP_EOF: "eof",
    OP_SELECTDB: "selectdb",
    OP_EXPIRETIME: "expiretime",
    OP_EXPIRETIME_MS: "expiretime_ms",
    OP_RESIZEDB: "resizedb",
    OP_AUX: "aux",
    OP_FREQ: "freq",
    OP_IDLE: "idle",
    OP_MODULE_AUX: "module_aux",
    OP_FUNCTION_PRE_GA: "function_pre_ga",
    OP_FUNCTION2: "function2",
    OP_SLOT_INFO: "slot_info",
}

OPCODES: Dict[str, Dict[int, str]] = {
    REDIS: {**_COMMON_OPCODES, OP_KEY_META: "key_meta", OP_HASH_TEMPLATE: "hash_template"},
    VALKEY: {**_COMMON_OPCODES, VALKEY_OP_SLOT_IMPORT: "slot_import", VALKEY_OP_UPDATE: "update"},
}

# product -> (first server version, RDB version whose types it knows), newest first.
# Redict 7.3 writes 12 into its files and payloads, but knows no type above 21 and accepts payloads of version 11:
# as a target it is a server of version 11 (tried with Redict 7.3).
SERVER_RDB_VERSIONS: Dict[str, Tuple[Tuple[Tuple[int, int], int], ...]] = {
    "redis": (
        ((8, 10), 15),
        ((8, 8), 14),
        ((8, 6), 13),
        ((7, 4), 12),
        ((7, 2), 11),
        ((7, 0), 10),
        ((5, 0), 9),
        ((4, 0), 8),
        ((3, 2), 7),
        ((2, 6), 6),
    ),
    "valkey": (((9, 2), 81), ((9, 0), 80), ((7, 2), 11)),
    "redict": (((7, 3), 11),),
    "keydb": (((5, 0), 9),),
}


# Hashes with expiries of their fields.
FIELD_EXPIRY: Dict[str, FrozenSet[int]] = {
    REDIS: frozenset((HASH_METADATA_PRE_GA, HASH_LISTPACK_EX_PRE_GA, HASH_METADATA, HASH_LISTPACK_EX)),
    VALKEY: frozenset((VALKEY_HASH_2,)),
}


def type_name(type_byte: int, dialect: str) -> str:
    """The type's name as in rdb.h, or ``type <number>`` for one nobody knows."""
    info = TYPES[dialect].get(type_byte)
    return info.name if info else "type %d" % type_byte


def kind_of(type_byte: int, dialect: str) -> Optional[str]:
    """The logical kind behind a type byte (string, list, set, zset, hash, stream, module, array), or None."""
    info = TYPES[dialect].get(type_byte)
    return info.kind if info else None


def dialect_of(rdb_version: int, magic: Optional[bytes] = None) -> str:
    """Whose type bytes these are: by the file's magic (``b"REDIS"``, ``b"VALKEY"``), else by the version.

    A DUMP payload has no magic. Up to version 11 both dialects say the same and ``REDIS`` is returned.
    """
    if magic is not None:
        return VALKEY if magic[:6] == b"VALKEY" else REDIS
    return VALKEY if rdb_version >= VALKEY_VERSION_MIN else REDIS


def loadable(type_byte: int, rdb_version: int, dialect: str, source_dialect: Optional[str] = None) -> bool:
    """Whether a server that writes ``rdb_version`` in ``dialect`` loads this type byte as it stands.

    ``source_dialect`` says whose type byte it is (left out: the server's own). The footer is another matter: give
    the payload the server's own version, which every server accepts. A module value (7) is loadable only where
    that module is loaded too. The pre-release one (6) is refused, and Redis 5.0 and 6.0 crash on it (tried).
    """
    if type_byte == MODULE_PRE_GA:
        return False
    if type_byte > COMMON_TYPE_MAX and source_dialect is not None and source_dialect != dialect:
        return False
    info = TYPES[dialect].get(type_byte)
    return info is not None and info.since <= rdb_version


def server_rdb_version(product: str, version: str) -> Optional[int]:
    """The RDB version that ``product`` (``redis``, ``valkey``, ``redict``, ``keydb``) writes at ``version`` (``7.4.1``).

    None for an unknown product or one older than RDB version 6.
    """
    numbers = []
    for part in version.split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits) if digits else 0)
    wanted = (numbers[0], numbers[1] if len(numbers) > 1 else 0)
    for first, rdb_version in SERVER_RDB_VERSIONS.get(product.lower(), ()):
        if wanted >= first:
            return rdb_version
    return None


def first_server(rdb_version: int) -> str:
    """The first release that reads an RDB version, for messages: ``Redis 7.4``, ``Valkey 9.0``."""
    product = "valkey" if rdb_version >= VALKEY_VERSION_MIN else "redis"
    for first, known in reversed(SERVER_RDB_VERSIONS[product]):
        if known >= rdb_version:
            return "%s %d.%d" % (product.capitalize(), first[0], first[1])
    return "%s with RDB version %d" % (product.capitalize(), rdb_version)
