# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The events of a snapshot into a target: entries through the lanes, big keys in parts, functions to every master."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import Any, Callable, Dict, Iterable, Optional, Set

from .._codec import types as t
from .._codec.events import Aux, Batch, BigEnd, BigPart, BigStart, Function, Header, ModuleAux
from .._codec.resp import ErrorReply, command
from .._codec.stream import Stream
from .._errors import ConflictError
from .._server.connect import reply_error
from .._sink.frames import show
from .._sink.target import Target
from .big_key import BigKey, Journal, kind_of
from .receipts import Sample
from .._sink.selection import Selection
from .survey import no_functions

_TYPE_OF = itemgetter(0)


class SnapshotImport:
    """Feed it events; ``types`` counts the keys that were taken, by kind, ``functions`` the libraries."""

    def __init__(self, target: Target, selection: Selection, journal: Journal, sample: Sample, warn: Callable[[str], None]) -> None:
        self.functions = 0
        self._target = target
        self._selection = selection
        self._journal = journal
        self._sample = sample
        self._warn = warn
        self._types: Counter = Counter()
        self._kinds: Counter = Counter()
        self._dialect = t.REDIS
        self._big: Optional[BigKey] = None
        # Databases of the target, and those of the source that went there.
        self._sources: Dict[int, Set[int]] = {}

    @property
    def types(self) -> Counter:
        """Keys by kind (string, list, ...)."""
        kinds = Counter(self._kinds)
        for type_byte, count in self._types.items():
            kinds[t.kind_of(type_byte, self._dialect) or "unknown"] += count
        return +kinds

    def run(self, events: Iterable[Any]) -> None:
        """Write everything; MigrationError. What follows the snapshot (an AOF) is the caller's."""
        for event in events:
            kind = type(event)
            if kind is Batch:
                self._batch(event)
            elif kind is BigPart:
                if self._big is not None:
                    self._big.add(event.elements)
            elif kind is BigStart:
                self._begin(event)
            elif kind is BigEnd:
                if self._big is not None:
                    self._end(self._big, event.stream)
                    self._big = None
            elif kind is Header:
                self._dialect = event.dialect
                self._target.framer.set_source(event.dialect)
            elif kind is Function:
                self._function(event.code)
            elif kind is ModuleAux:
                self._warn(
                    "%s: data that the module %s keeps beside the keys is left out" % (self._target.name, event.module)
                )
            elif kind is Aux and event.key == b"lua":
                self._script(event.value)
        self._target.flush()
        self._tell_merged()

    def _tell_merged(self) -> None:
        """With any other policy the second of two keys is counted as skipped, or ends the import."""
        for db, sources in sorted(self._sources.items()):
            if len(sources) > 1 and self._target.policy == "replace":
                self._warn(
                    "%s: databases %s went to the same database %d; of keys with the same name only the one of the last of them is there"
                    % (self._target.name, ", ".join(map(str, sorted(sources))), db)
                )

    def _batch(self, batch: Batch) -> None:
        selection = self._selection
        db = selection.db_of(batch.db)
        if db is None:
            return
        entries = batch.entries
        flat = batch.flat
        if not selection.all_keys:
            keep = selection.keep
            entries = [entry for entry in entries if keep(entry[1])]
            flat = flat.only(keep) if flat else None
        if entries or flat:
            self._sources.setdefault(db, set()).add(batch.db)
        self._types.update(map(_TYPE_OF, entries))
        if flat:
            flat.count_types(self._types)
        self._sample.add(db, entries, flat)
        self._target.write(batch, entries, db, flat)

    def _begin(self, start: BigStart) -> None:
        db = self._selection.db_of(start.db)
        if db is None or not self._selection.keep(start.key):
            return
        if start.expire_ms is not None and start.expire_ms <= self._target.now_ms():
            self._target.expired += 1
            return
        self._sources.setdefault(db, set()).add(start.db)
        kind = kind_of(start, self._dialect)
        self._kinds[kind] += 1
        self._sample.add_key(db, start.key, start.expire_ms)
        big = BigKey(self._target, self._journal, start, db, kind)
        if big.begin():
            self._big = big

    def _end(self, big: BigKey, stream: Optional[Stream]) -> None:
        big.end(stream)
        if big.dropped:
            self._warn(
                "%s, key %s in db %d: %d pending entries of messages that were deleted since are left out, as the stream is too large"
                " to be written whole" % (self._target.name, show(big.key), big.db, big.dropped)
            )

    def _function(self, code: bytes) -> None:
        """Load one library on every master, under the policy for keys."""
        target = self._target
        if not target.dialect.capabilities.functions:
            raise no_functions(target.name)
        words = ["FUNCTION", "LOAD"] + ["REPLACE"] * (target.policy == "replace") + [code]
        loaded = False
        for address, reply in target.call_all(command(*words)):
            if not isinstance(reply, ErrorReply):
                loaded = True
                continue
            if b"already exists" not in reply:
                raise reply_error(reply.decode("utf-8", "replace"), address, "FUNCTION LOAD")
            # REPLACE replaces a library, not one that has a function of the same name under another.
            if target.policy == "replace" or (target.policy == "fail" and not self._has_function(code)):
                raise ConflictError(
                    "%s, a library of functions of %s" % (address, target.name),
                    reply.decode("utf-8", "replace"),
                    "Set on_conflict to %s, or delete the library that has it there (FUNCTION LIST, FUNCTION DELETE)"
                    % ("skip" if target.policy == "replace" else "replace or skip"),
                )
        self.functions += loaded

    def _has_function(self, code: bytes) -> bool:
        """Whether every master has this very library."""
        return all(_holds(reply, code) for _address, reply in self._target.call_all(command("FUNCTION", "LIST", "WITHCODE")))

    def _script(self, body: bytes) -> None:
        """A script of the source's cache: not data, but EVALSHA of an application would miss it."""
        if self._target.instance.topology.kind != "proxy_cluster":
            self._target.call_all(command("SCRIPT", "LOAD", body))


def _holds(reply: Any, code: bytes) -> bool:
    if isinstance(reply, list):
        return any(_holds(item, code) for item in reply)
    return reply == code
