# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a snapshot could hold that a target cannot, and whether it does."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import Any, Dict, Iterable, Tuple

from .._codec import types as t
from .._codec.events import Batch, BigStart, Function, Header
from .._errors import UnsupportedTypeError, UsageError
from .._sink.frames import show
from .._sink.target import Target
from .._sink.selection import Selection

_TYPE_OF = itemgetter(0)


class Survey:
    """Judges files for one target before anything is written."""

    def __init__(self, target: Target, selection: Selection) -> None:
        self._target = target
        self._selection = selection

    def is_needed(self, header: Header) -> bool:
        """Whether a snapshot of this version could hold what the target cannot; most cannot, and need no second reading.

        Module values are left out of the question: any snapshot since 4.0 could hold one.
        """
        if self._target.one_db and not self._selection.only_db_0():
            return True
        return any(
            info.since <= header.version and self.obstacle(number, header.dialect)
            for number, info in t.TYPES[header.dialect].items()
            if info.kind != "module"
        )

    def obstacle(self, type_byte: int, dialect: str) -> str:
        """Why the target cannot hold this type in any form; empty when it can."""
        target = self._target.dialect
        if t.loadable(type_byte, target.rdb_version, target.name, dialect):
            return ""
        kind = t.kind_of(type_byte, dialect)
        if kind == "stream":
            return "" if target.capabilities.streams else "streams came with Redis 5.0"
        if type_byte in t.FIELD_EXPIRY[dialect]:
            return "" if target.capabilities.hash_field_ttl else "expiring hash fields came with Redis 7.4 and Valkey 9.0"
        return "it has no such type" if kind in ("module", "array", None) else ""

    def refuse(self, name: str, events: Iterable[Any]) -> None:
        """Look through a whole snapshot; UnsupportedTypeError, UsageError, FileError or ServerError for what must not be begun."""
        counts: Counter = Counter()
        examples: Dict[int, Tuple[int, bytes]] = {}
        keys_of: Counter = Counter()
        dialect = t.REDIS
        whys: Dict[int, str] = {}
        for event in events:
            kind = type(event)
            if kind is Batch:
                db = self._selection.db_of(event.db)
                if db is None:
                    continue
                entries = [entry for entry in event.entries if self._selection.keep(entry[1])]
                keys_of[event.db, db] += len(entries)
                found = Counter(map(_TYPE_OF, entries))
                for type_byte in found.keys() & whys.keys():
                    counts[type_byte] += found[type_byte]
                    if type_byte not in examples:
                        examples[type_byte] = next((event.db, entry[1]) for entry in entries if entry[0] == type_byte)
            elif kind is BigStart:
                db = self._selection.db_of(event.db)
                if db is None or not self._selection.keep(event.key):
                    continue
                keys_of[event.db, db] += 1
                if event.type in whys:
                    counts[event.type] += 1
                    examples.setdefault(event.type, (event.db, event.key))
            elif kind is Header:
                dialect = event.dialect
                reasons = {number: self.obstacle(number, dialect) for number in range(256)}
                whys = {number: why for number, why in reasons.items() if why}
            elif kind is Function and not self._target.dialect.capabilities.functions:
                raise no_functions(name)
        if counts:
            raise UnsupportedTypeError(
                name,
                "the target (%s) cannot hold %s; nothing was written"
                % (
                    self._product(),
                    ", ".join(
                        "%d keys of type %s, such as %s in db %d (%s)"
                        % (count, t.type_name(number, dialect), show(examples[number][1]), examples[number][0], whys[number])
                        for number, count in sorted(counts.items())
                    ),
                ),
                "Migrate to a target that has these types, or leave the keys out with exclude_keys",
            )
        self._refuse_dbs(name, +keys_of)

    def refuse_functions(self, name: str, events: Iterable[Any]) -> None:
        """As :meth:`refuse` for functions only, which stand before all keys: hardly anything is read."""
        if self._target.dialect.capabilities.functions:
            return
        for event in events:
            if isinstance(event, Function):
                raise no_functions(name)
            if isinstance(event, (Batch, BigStart)):
                return

    def _refuse_dbs(self, name: str, keys_of: Dict[Tuple[int, int], int]) -> None:
        """``keys_of`` counts keys by their database in the source and in the target."""
        most = 1 if self._target.one_db else self._target.instance.databases_max
        for (number, db), count in sorted(keys_of.items()):
            if most is not None and db >= most:
                has = "database 0 only" if most == 1 else "%d databases only" % most
                raise UsageError(
                    name,
                    "%d keys are in database %d%s, and the target has %s; nothing was written"
                    % (count, number, "" if db == number else " and go to database %d" % db, has),
                    "Set db_map to {%d: 0}, or databases to those you want" % number,
                )
        self._target.enter({db for _number, db in keys_of})

    def _product(self) -> str:
        product = self._target.instance.product
        return "%s %s" % (product.name, product.version)


def no_functions(name: str) -> UnsupportedTypeError:
    """The error for a library of functions on its way to a target without."""
    return UnsupportedTypeError(
        name,
        "it holds functions, and the target has none (they came with Redis 7.0)",
        "Migrate to a newer target, or delete the functions at the source (FUNCTION DELETE) and make a new backup",
    )
