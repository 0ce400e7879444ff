# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which keys and databases of a source are taken, and where they go."""

from __future__ import annotations

import re
from typing import Callable, Iterable, List, Mapping, Optional

from .._errors import UsageError


def glob(pattern: bytes) -> Callable[[bytes], Optional[re.Match]]:
    """A matcher with the meaning of Redis's patterns (``src/util.c`` stringmatchlen): ``* ? [a-c] [^x] \\x``."""
    out: List[bytes] = []
    pos = 0
    while pos < len(pattern):
        char = pattern[pos : pos + 1]
        pos += 1
        if char == b"*":
            out.append(b".*")
        elif char == b"?":
            out.append(b".")
        elif char == b"[":
            end = pattern.find(b"]", pos + 1)
            if end < 0:
                raise UsageError("pattern %r" % pattern.decode("utf-8", "replace"), "has a [ without ]", "Escape it as \\[")
            inner = pattern[pos:end].replace(b"\\", b"\\\\")
            out.append(b"[%b]" % (b"^" + inner[1:] if inner[:1] == b"^" else inner))
            pos = end + 1
        elif char == b"\\" and pos < len(pattern):
            out.append(re.escape(pattern[pos : pos + 1]))
            pos += 1
        else:
            out.append(re.escape(char))
    return re.compile(b"".join(out), re.DOTALL).fullmatch


class Selection:
    """The filters of a migration.

    ``databases`` limits the source databases (None: all), ``db_map`` says where each goes (left out: to the same number). A key is
    taken when it matches one of ``include`` (empty: any) and none of ``exclude``.
    """

    def __init__(
        self,
        databases: Optional[Iterable[int]] = None,
        db_map: Optional[Mapping[int, int]] = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        self._databases = None if databases is None else frozenset(databases)
        self._map = dict(db_map or {})
        self._include = [glob(text.encode("utf-8", "surrogateescape")) for text in include]
        self._exclude = [glob(text.encode("utf-8", "surrogateescape")) for text in exclude]
        self.all_keys = not self._include and not self._exclude

    def db_of(self, db: int) -> Optional[int]:
        """The target database, None for one that is not taken."""
        if self._databases is not None and db not in self._databases:
            return None
        return self._map.get(db, db)

    def keep(self, key: bytes) -> bool:
        """Whether this key is taken."""
        if self._include and not any(match(key) for match in self._include):
            return False
        return not any(match(key) for match in self._exclude)

    def only_db_0(self) -> bool:
        """Whether nothing can end in another database than 0, whatever the source holds."""
        return self._databases is not None and all(self._map.get(db, db) == 0 for db in self._databases)
