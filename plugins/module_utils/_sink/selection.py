# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which keys and databases of a source are taken, and where they go."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from .._errors import UsageError

_CLASS_END, _ESCAPE = b"]\\"


def glob(pattern: bytes) -> Callable[[bytes], Optional[re.Match]]:
    """A matcher with the meaning of Redis's patterns (``src/util.c`` stringmatchlen): ``* ? [a-c] [^x] \\x``. UsageError."""
    out: List[bytes] = []
    pos = 0
    while pos < len(pattern):
        char = pattern[pos : pos + 1]
        pos += 1
        if char == b"*":
            if out[-1:] != [b".*"]:  # several in a row mean the same, and would cost the power of their number
                out.append(b".*")
        elif char == b"?":
            out.append(b".")
        elif char == b"[":
            text, pos = _class(pattern, pos)
            out.append(text)
        elif char == b"\\" and pos < len(pattern):
            out.append(re.escape(pattern[pos : pos + 1]))
            pos += 1
        else:
            out.append(re.escape(char))
    return re.compile(b"".join(out), re.DOTALL).fullmatch


def _class(pattern: bytes, pos: int) -> Tuple[bytes, int]:
    """What stands between brackets, from behind the ``[`` on, as a regular expression; and where it ends.

    A ``]`` always ends it unless escaped or the end of a range; an escape cannot be part of a range; a range may be reversed.
    """
    negated = pattern[pos : pos + 1] == b"^"
    pos += negated
    members: Set[int] = set()
    while pos < len(pattern) and pattern[pos] != _CLASS_END:
        if pattern[pos] == _ESCAPE and pos + 1 < len(pattern):
            members.add(pattern[pos + 1])
            pos += 2
        elif pattern[pos + 1 : pos + 2] == b"-" and pos + 2 < len(pattern):
            low, high = sorted((_signed(pattern[pos]), _signed(pattern[pos + 2])))
            members.update(byte & 0xFF for byte in range(low, high + 1))
            pos += 3
        else:
            members.add(pattern[pos])
            pos += 1
    if pos >= len(pattern):
        raise UsageError("pattern %r" % pattern.decode("utf-8", "replace"), "has a [ without ]", "Escape it as \\[")
    if not members:
        return (b"." if negated else b"(?!)"), pos + 1
    return b"[%b%b]" % (b"^" if negated else b"", re.escape(bytes(sorted(members)))), pos + 1


def _signed(byte: int) -> int:
    """Servers compare bytes as C's ``char``, which has a sign on most machines."""
    return byte - 256 if byte > 127 else byte


def database_map(option: Any) -> Dict[int, int]:
    """The option ``db_map`` with numbers for keys: YAML and JSON give text. UsageError."""
    try:
        numbers = {int(source): int(target) for source, target in (option or {}).items()}
    except (TypeError, ValueError):
        raise UsageError("db_map", "holds something that is not a number", "Write it like {3: 0}") from None
    if any(number < 0 for pair in numbers.items() for number in pair):
        raise UsageError("db_map", "holds a negative number", "Databases count from 0")
    return numbers


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

    @property
    def is_partial(self) -> bool:
        """Whether databases are left out, or go elsewhere."""
        return self._databases is not None or any(db != other for db, other in self._map.items())

    def only_db_0(self) -> bool:
        """Whether nothing can end in another database than 0, whatever the source holds."""
        return self._databases is not None and all(self._map.get(db, db) == 0 for db in self._databases)
