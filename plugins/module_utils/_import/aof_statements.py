# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""An AOF by its plan: the commands that have an effect on what is taken, each with the database of the target it goes to.

SELECT, MULTI and EXEC are taken out of the stream here, filters are applied, and commands are put into words the target knows.
"""

from __future__ import annotations

from typing import Dict, Hashable, Iterable, Iterator, List, Optional, Tuple

from .._codec.aof import Command
from .._codec.commands import DATABASE, EVERY_MASTER, KEYED, TRANSACTION, Spec, UnknownCommandError
from .._codec.resp import command
from .._errors import UsageError
from .._sink.frames import Dialect
from .._sink.downgrade import rewrites
from .aof_plan import Plan, copy_db

# Database of the target, database of the source, arguments, bytes, position in the file, what is known of the command, and the number of the
# transaction it belongs to (0: none). Commands for every master come with their own spec and database 0.
Statement = Tuple[int, int, List[bytes], bytes, int, Spec, int]


class Statements:
    """Iterate over it once; ``dropped`` counts commands that were left out."""

    def __init__(self, commands: Iterable[Command], plan: Plan, target: Dialect) -> None:
        self.dropped = 0
        self._commands = commands
        self._plan = plan
        self._target = target
        self._rewrites = rewrites(target)
        self._swaps = 0
        self._number = 0
        self._final = 0
        self._db: Optional[int] = None
        self._floor = 0
        self._units = 0

    def __iter__(self) -> Iterator[Statement]:
        plan = self._plan
        known = plan.commands.known
        plain = plan.keep is None
        rewriting = self._rewrites
        held: Optional[List[Statement]] = None
        self._select(0)
        count = 0
        unit = 0
        for args, frame, offset in self._commands:
            count += 1
            spec = known.get(args[0])
            if spec is None:
                try:
                    spec = plan.commands.spec(args[0])
                except UnknownCommandError:
                    # The first pass would have refused it, did it not stand where nothing has an effect.
                    self.dropped += 1
                    continue
            if spec.scope == KEYED:
                if not spec.write or self._db is None or count <= self._floor:
                    self.dropped += 1
                elif plain and spec.name not in rewriting and spec.name != b"COPY":
                    statement = (self._db, self._final, args, frame, offset, spec, unit)
                    if held is None:
                        yield statement
                    else:
                        held.append(statement)
                else:
                    made = self._made(args, frame, offset, spec, unit)
                    if held is None:
                        yield from made
                    else:
                        held.extend(made)
            elif spec.scope == TRANSACTION:
                if spec.name == b"MULTI":
                    self._units += 1
                    unit = self._units
                    held = []
                else:
                    if held and spec.name == b"EXEC":
                        yield from held
                    held = None
                    unit = 0
            elif spec.scope == DATABASE:
                if spec.name == b"SELECT":
                    self._select(int(args[1]))
                elif count > self._floor:
                    moved = self._move(args, offset, spec, unit)
                    if held is None:
                        yield from moved
                    else:
                        held.extend(moved)
            elif spec.scope == EVERY_MASTER:
                if spec.name == b"SWAPDB":
                    self._swaps += 1
                    self._select(self._number)
                elif spec.name in (b"SCRIPT", b"FUNCTION"):
                    yield 0, 0, args, frame, offset, spec, 0
            else:
                self.dropped += 1

    def _select(self, number: int) -> None:
        self._number = number
        self._final = self._plan.final(number, self._swaps)
        self._floor = self._plan.floor(self._final)
        self._db = self._plan.db_of(self._final)

    def _made(self, args: List[bytes], frame: bytes, offset: int, spec: Spec, unit: int) -> Iterator[Statement]:
        """A keyed command after filter and rewriting: none, one, or several."""
        db = self._db or 0
        keep = self._plan.keep
        if keep is not None:
            positions = spec.find(args)
            kept = [pos for pos in positions if keep(args[pos])]
            if positions and not kept:
                self.dropped += 1
                return
            if len(kept) < len(positions):
                # Only commands that can be cut come here: the others were refused by the first pass.
                parts: Dict[Hashable, List[bytes]] = self._plan.commands.split(args, keep)
                args = parts[True]
                frame = command(*args)
        if spec.name == b"COPY":
            yield from self._copy(args, frame, offset, spec, unit)
            return
        rewrite = self._rewrites.get(spec.name)
        made = rewrite(args, self._target) if rewrite is not None else None
        if made is None:
            yield db, self._final, args, frame, offset, spec, unit
            return
        for words in made:
            yield db, self._final, words, command(*words), offset, self._plan.commands.spec(words[0]), unit

    def _copy(self, args: List[bytes], frame: bytes, offset: int, spec: Spec, unit: int) -> Iterator[Statement]:
        number = copy_db(args)
        if number is None:
            yield self._db or 0, self._final, args, frame, offset, spec, unit
            return
        pos = [word.upper() for word in args].index(b"DB", 3)
        rest = args[:pos] + args[pos + 2 :]
        other = self._plan.db_of(self._plan.final(number, self._swaps))
        if other is None:
            self.dropped += 1
            return
        if number != self._number:
            if other == self._db:
                raise self._merged(args, offset)
            rest = [*rest[:3], b"DB", b"%d" % other, *rest[3:]]
        yield self._db or 0, self._final, rest, command(*rest), offset, spec, unit

    def _move(self, args: List[bytes], offset: int, spec: Spec, unit: int) -> Iterator[Statement]:
        keep = self._plan.keep
        if keep is not None and not keep(args[1]):
            self.dropped += 1
            return
        number = int(args[2])
        other = self._plan.db_of(self._plan.final(number, self._swaps))
        if self._db is None:
            if other is not None:
                raise UsageError(
                    self._plan.where(offset),
                    "MOVE takes a key out of database %d, which is left out, into database %d, which is not"
                    % (self._number, number),
                    "Take both databases, or import an RDB file",
                )
            self.dropped += 1
            return
        if other is None:
            gone = [b"DEL", args[1]]
            yield self._db, self._final, gone, command(*gone), offset, self._plan.commands.spec(b"DEL"), unit
            return
        if other == self._db:
            raise self._merged(args, offset)
        moved = [args[0], args[1], b"%d" % other]
        yield self._db, self._final, moved, command(*moved), offset, spec, unit

    def _merged(self, args: List[bytes], offset: int) -> UsageError:
        return UsageError(
            self._plan.where(offset),
            "%s takes a key from one database to another, and db_map makes one of the two"
            % args[0].decode("ascii", "replace").upper(),
            "Map the databases to different ones; or let the source rewrite its AOF (BGREWRITEAOF) and import that",
        )
