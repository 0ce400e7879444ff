# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The INFO reply, read leniently: proxies and managed services leave out, add and rename at will."""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .endpoint import Address


class Keyspace(NamedTuple):
    """One ``dbN:`` line."""

    db: int
    keys: int
    expires: int


class Info:
    """INFO as name -> text, with the readings this collection needs."""

    def __init__(self, fields: Dict[str, str], sections: Tuple[str, ...] = (), modules: Tuple[str, ...] = ()) -> None:
        self.fields = fields
        self.sections = sections
        self.modules = modules

    def text(self, name: str, default: str = "") -> str:
        return self.fields.get(name, default)

    def number(self, name: str) -> Optional[int]:
        """An integer field, None where it is missing or no number."""
        value = self.fields.get(name, "")
        return int(value) if re.match(r"^-?\d+$", value) else None

    def flag(self, name: str) -> bool:
        return self.fields.get(name) == "1"

    @property
    def is_proxy(self) -> bool:
        """Whether INFO itself says that a proxy speaks.

        predixy has a section Proxy, redis-cluster-proxy fields proxy_*, others a mode; twemproxy and envoy have no INFO.
        """
        if "proxy" in self.text("redis_mode").lower() or "proxy" in self.text("server_mode").lower():
            return True
        if "proxy" in self.sections:
            return True
        return any(name.startswith("proxy_") for name in self.fields)

    def keyspace(self) -> List[Keyspace]:
        """The databases that hold keys, by number."""
        found = []
        for name, value in self.fields.items():
            if not re.match(r"^db\d+$", name):
                continue
            counts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
            found.append(Keyspace(int(name[2:]), _int(counts.get("keys")), _int(counts.get("expires"))))
        return sorted(found)

    def replicas(self) -> Tuple[Address, ...]:
        """Connected replicas. (Redis 2.6 wrote ``ip,port,state`` without names; those lines are left out.)"""
        found = []
        for name, value in sorted(self.fields.items()):
            if not re.match(r"^slave\d+$", name):
                continue
            pairs = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
            if pairs.get("ip") and _int(pairs.get("port")):
                found.append(Address(pairs["ip"], _int(pairs["port"])))
        return tuple(found)


def parse_info(reply: Any) -> Info:
    """Read INFO's text (bytes); unknown lines are skipped."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, (bytes, bytearray)) else str(reply)
    fields: Dict[str, str] = {}
    sections: List[str] = []
    modules: List[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            sections.append(line[1:].strip().lower())
            continue
        name, colon, value = line.partition(":")
        if not colon:
            continue
        if name == "module":
            modules.append(value)
        else:
            fields[name.strip()] = value.strip()
    return Info(fields, tuple(sections), tuple(modules))


def _int(text: Optional[str]) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else 0
