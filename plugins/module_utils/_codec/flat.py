# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Entries of a snapshot as flat lists, on which C loops can work without an object for each entry."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import Any, Callable, List, NamedTuple, Sequence

from . import types as t

_TYPE_OF = itemgetter(0)
_TYPE_BYTES = [bytes((number,)) for number in range(256)]


class FlatFormat(NamedTuple):
    """How a scanner is to give flat lists.

    ``types(dialect)`` tells by type byte which values may come so; ``expiring`` whether those with an expiry may, too. ``footer`` is
    what is to stand behind each value.
    """

    types: Callable[[str], Sequence[bool]]
    expiring: bool
    footer: bytes

    def type_bytes(self, dialect: str) -> List[bytes]:
        """The type byte of those that come flat, empty for any other."""
        return [_TYPE_BYTES[number] if wanted else b"" for number, wanted in enumerate(self.types(dialect))]


class FlatLists:
    """``pairs`` is key, value, ... of plain strings, ``values`` is key, body, ... of all else, where a body is type byte, serialized value
    and the footer. The expiring ones have the expiry (ms since 1970) as a third: key, value, expiry, ... None of them has a hint.
    """

    __slots__ = ("pairs", "values", "expiring_pairs", "expiring_values")

    def __init__(
        self, pairs: Sequence[bytes] = (), values: Sequence[bytes] = (), expiring_pairs: Sequence[Any] = (), expiring_values: Sequence[Any] = ()
    ) -> None:
        self.pairs = list(pairs)
        self.values = list(values)
        self.expiring_pairs = list(expiring_pairs)
        self.expiring_values = list(expiring_values)

    def __bool__(self) -> bool:
        return bool(self.pairs or self.values or self.expiring_pairs or self.expiring_values)

    def only(self, keep: Callable[[bytes], bool]) -> FlatLists:
        """Those whose key is to be kept."""
        return FlatLists(
            _only(keep, self.pairs, 2), _only(keep, self.values, 2), _only(keep, self.expiring_pairs, 3), _only(keep, self.expiring_values, 3)
        )

    def drop_expired(self, now_ms: int) -> int:
        """Drop what has expired by ``now_ms``; how many that were."""
        dropped = 0
        for name in ("expiring_pairs", "expiring_values"):
            items = getattr(self, name)
            if items and min(items[2::3]) <= now_ms:
                left = [item for at in range(0, len(items), 3) if items[at + 2] > now_ms for item in items[at : at + 3]]
                dropped += (len(items) - len(left)) // 3
                setattr(self, name, left)
        return dropped

    def count_types(self, counter: Counter) -> None:
        """Count entries by their type byte."""
        counter[t.STRING] += len(self.pairs) // 2 + len(self.expiring_pairs) // 3
        counter.update(map(_TYPE_OF, self.values[1::2]))
        counter.update(map(_TYPE_OF, self.expiring_values[1::3]))

    def sample(self, about: int) -> List[Any]:
        """``(key, expiry or None)`` of about so many entries out of each list."""
        found: List[Any] = []
        for items in (self.pairs, self.values):
            step = 2 * max(1, len(items) // 2 // about)
            found += [(key, None) for key in items[::step]]
        for items in (self.expiring_pairs, self.expiring_values):
            step = 3 * max(1, len(items) // 3 // about)
            found += zip(items[::step], items[2::step])
        return found


def _only(keep: Callable[[bytes], bool], items: List[Any], width: int) -> List[Any]:
    return [item for at in range(0, len(items), width) if keep(items[at]) for item in items[at : at + width]]
