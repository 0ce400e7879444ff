# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""First facts of a backup file: from its head alone, or from what ``backup_file_info`` found out."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional

from .facts import FileFacts

_HEAD = 4096  # bytes: magic and the AUX fields fit in
_ARCHIVES = ((b"PK\x03\x04", ".zip"), (b"\x1f\x8b", ".gz"))


def file_facts(item: Any) -> FileFacts:
    """Facts of one element of ``backup_files``: a path, or an element of ``files`` of ``backup_file_info``."""
    if isinstance(item, Mapping):
        return _from_info(item)
    path = str(item)
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
    except OSError as exc:
        return FileFacts(path, format=_by_name(path), error=exc.strerror or "cannot be read")
    found = _by_content(head)
    if not found:
        return FileFacts(path, format="" if head else _by_name(path), size=size, error="" if head else "is empty")
    version = _rdb_version(head) if head.startswith((b"REDIS", b"VALKEY")) else None
    return FileFacts(path, format=_preamble(found, path), size=size, rdb_version=version, version=_aux(head, b"redis-ver"))


def _from_info(info: Mapping[str, Any]) -> FileFacts:
    big = info.get("big_keys")
    types = info.get("types")
    return FileFacts(
        path=str(info.get("path") or ""),
        format=str(info.get("format") or ""),
        size=info.get("size"),
        rdb_version=info.get("rdb_version"),
        databases=_databases(info.get("databases")),
        types=None if types is None else frozenset(types),
        memory=info.get("memory"),
        big_keys=len(big) if isinstance(big, (list, tuple)) else big,
        functions=_functions(info),
        hash_field_ttls=info.get("hash_field_ttls"),
        compressed=True if info.get("compressed") else None,  # none may be for want of anything to compress
        complete=info.get("complete"),
        error=str(info.get("error") or ""),
        version=str(info.get("version") or ""),
    )


def _functions(info: Mapping[str, Any]) -> Optional[bool]:
    """Whether libraries are in a snapshot or loaded by the commands of an AOF."""
    if info.get("functions") is None:
        return None
    return bool(info["functions"]) or "FUNCTION" in (info.get("commands") or {})


def _databases(found: Any) -> Optional[tuple]:
    """Database numbers from ``[{db, keys}]``, ``{db: keys}`` or ``[db]``."""
    if found is None:
        return None
    if isinstance(found, Mapping):
        return tuple(sorted(int(db) for db in found))
    return tuple(sorted(int(item["db"] if isinstance(item, Mapping) else item) for item in found))


def _by_content(head: bytes) -> str:
    if head.startswith((b"REDIS0", b"VALKEY0")):
        return "rdb"
    if any(head.startswith(magic) for magic, _ending in _ARCHIVES):
        return "archive"
    if head.startswith((b"*", b"#TS:", b"file ")):  # commands, annotated commands, manifest of a multi-part AOF
        return "aof"
    return ""


def _by_name(path: str) -> str:
    endings: Dict[str, str] = {".rdb": "rdb", ".aof": "aof", ".zip": "archive", ".tar.gz": "archive"}
    return next((kind for ending, kind in endings.items() if path.lower().endswith(ending)), "")


def _preamble(found: str, path: str) -> str:
    """An AOF may begin with an RDB: its name tells."""
    return "aof" if found == "rdb" and path.lower().endswith(".aof") else found


def _rdb_version(head: bytes) -> Optional[int]:
    digits = head[6:9] if head.startswith(b"VALKEY") else head[5:9]
    return int(digits) if digits.isdigit() else None


def _aux(head: bytes, name: bytes) -> str:
    """A short AUX string: 250, length, name, length, value."""
    at = head.find(bytes([250, len(name)]) + name)
    if at < 0:
        return ""
    start = at + 2 + len(name)
    if start >= len(head) or head[start] >= 64:
        return ""
    return head[start + 1 : start + 1 + head[start]].decode("ascii", "replace")
