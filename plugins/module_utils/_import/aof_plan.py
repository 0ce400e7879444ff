# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The first pass over an AOF: what would not work is refused before anything is written, and what has no effect is found.

A FLUSHDB or FLUSHALL of the log never reaches the target, whose other keys would go with it. Instead everything before the last one is left
out, as it left no trace. SWAPDB is not sent either: what is written before a swap is written to where it ends up.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from .._codec.aof import Command
from .._codec.commands import DATABASE, EVERY_MASTER, KEYED, Commands, Spec, UnknownCommandError, flushes_slot
from .._codec.errors import CodecError
from .._errors import FileError, MigrationError, ServerError, UnsupportedTypeError, UsageError
from .._server.connect import call as ask, open_client
from .._sink.frames import show
from .._sink.target import Target
from .._sink.downgrade import rewrites, sent_names

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

DbOf = Callable[[int], Optional[int]]
Keep = Callable[[bytes], bool]
Where = Callable[[int], str]

_REWRITE = "Let the source rewrite its AOF (BGREWRITEAOF), or take an RDB file, and import that"


class Plan:
    """What the first pass found; the second one goes by it.

    Databases are counted as they are at the end of the log: ``final(db, swaps)`` is where the content of ``db`` is then, when ``swaps`` of
    all swaps have passed. ``used`` has the databases that commands write to, each with the position of the first one, ``snapshot``
    those of the snapshot before the commands (under the numbers that stand in it). Commands are counted from 1; those up to
    ``floor(db)`` have no effect on the database ``db``.
    """

    def __init__(self, commands: Commands, db_of: DbOf, keep: Optional[Keep], where: Where) -> None:
        self.commands = commands
        self.db_of = db_of
        self.keep = keep
        self.where = where
        self.count = 0
        self.used: Dict[int, int] = {}
        self.snapshot: Set[int] = set()
        self._floors: Dict[int, int] = {}
        self._floor = 0
        self._swaps: List[Tuple[int, int]] = []
        self._maps: List[Dict[int, int]] = [{}]

    def floor(self, db: int) -> int:
        """The number of the last command that emptied ``db``, 0 when none did."""
        return max(self._floor, self._floors.get(db, 0))

    def final(self, db: int, swaps: int) -> int:
        """The number under which the content of ``db`` is found at the end."""
        return self._maps[swaps].get(db, db)

    def db_of_entry(self, number: int) -> Optional[int]:
        """Where a snapshot's entry goes that stands under ``number`` in it; None where it is left out or emptied later."""
        final = self.final(number, 0)
        return None if self.floor(final) else self.db_of(final)

    @property
    def merged(self) -> bool:
        """Whether commands of two databases go to one."""
        targets = [self.db_of(db) for db in self.used if self.db_of(db) is not None]
        return len(targets) != len(set(targets))

    def target_dbs(self) -> Set[int]:
        """The target's databases that are written to."""
        return {db for db in map(self.db_of, self.used) if db is not None}

    def finish(self, swaps: Sequence[Tuple[int, int]], floors: Dict[int, int], floor: int) -> None:
        """Take over what the pass found."""
        self._floors, self._floor = floors, floor
        maps: List[Dict[int, int]] = [{}]
        for first, second in reversed(swaps):
            later = maps[-1]
            earlier = dict(later)
            earlier[first], earlier[second] = later.get(second, second), later.get(first, first)
            maps.append(earlier)
        self._maps = maps[::-1]


class _Db:
    """One database during the pass, under its number of the moment."""

    __slots__ = ("floor", "used", "problem", "entangled")

    def __init__(self) -> None:
        self.floor = 0
        self.used: Optional[int] = None
        self.problem: Optional[MigrationError] = None
        self.entangled = False


def check(
    commands: Iterable[Command], target: Target, db_of: DbOf, keep: Optional[Keep] = None, where: Where = str
) -> Plan:
    """Look at every command; nothing is written.

    :raises FileError: the file is damaged
    :raises UnsupportedTypeError: a command that the target does not know, or whose keys cannot be told
    :raises UsageError: databases or keys of one command that do not go together
    """
    known = Commands()
    offered = _offered(target, known)
    plan = Plan(known, db_of, keep, where)
    pass_ = _Check(plan, target, offered)
    pass_.run(commands)
    return plan


def _offered(target: Target, known: Commands) -> Optional[Set[bytes]]:
    """Names of the target's commands, upper case; None where it does not say. ``known`` learns those of its modules."""
    address = target.instance.topology.entry
    if target.instance.topology.masters:
        address = target.instance.topology.masters[0]
    try:
        client = open_client(target.endpoint, address)
    except ServerError:
        return None
    try:
        rows = ask(client, "COMMAND")
    except redis.RedisError:
        return None
    finally:
        client.close()
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and len(row) >= 6 for row in rows):
        return None
    known.learn(rows)
    refused = {name.upper().encode() for name in target.instance.disabled_commands}
    return {bytes(row[0]).upper() for row in rows} - refused


class _Check:
    """The pass itself; what it finds is handed to the plan at the end."""

    def __init__(self, plan: Plan, target: Target, offered: Optional[Set[bytes]]) -> None:
        self._plan = plan
        self._target = target
        self._offered = offered
        self._rewrites = rewrites(target.dialect)
        self._dbs: Dict[int, _Db] = {}
        self._db = self._state(0)
        self._number = 0
        self._floor = 0
        self._swaps: List[Tuple[int, int]] = []
        self._fine: Set[bytes] = set()

    def _state(self, number: int) -> _Db:
        state = self._dbs.get(number)
        if state is None:
            state = self._dbs[number] = _Db()
        return state

    def run(self, commands: Iterable[Command]) -> None:
        plan = self._plan
        fine = self._fine
        simple = plan.keep is None
        count = 0
        for args, _frame, offset in commands:
            count += 1
            # Nearly all of them: a command on one key whose name was looked at before.
            if simple and args[0] in fine and len(args) > 1:
                if self._db.used is None:
                    self._db.used = offset
                continue
            plan.count = count
            try:
                self._one(args, offset)
            except UnknownCommandError as exc:
                self._problem(self._unknown(exc, offset))
            except CodecError as exc:
                raise FileError(plan.where(offset), "damaged: %s" % exc.reason, "Copy it again, or make a new backup") from exc
        plan.count = count
        self._finish()

    def _one(self, args: List[bytes], offset: int) -> None:
        spec = self._plan.commands.spec(args[0])
        if spec.scope == KEYED:
            if spec.write:
                self._keyed(spec, args, offset)
        elif spec.scope == DATABASE:
            if spec.name == b"SELECT":
                self._number = _database(args, 1)
                self._db = self._state(self._number)
            else:
                self._offered_or_problem(spec, offset)
                self._across(args, offset, _database(args, 2), [1])
        elif spec.scope == EVERY_MASTER:
            self._whole(spec, args, offset)
        elif spec.name == b"CLUSTER" and flushes_slot(args):
            self._problem(UsageError(self._plan.where(offset), "CLUSTER FLUSHSLOT cannot be followed", _REWRITE))

    def _keyed(self, spec: Spec, args: List[bytes], offset: int) -> None:
        positions = spec.find(args)
        if not self._offered_or_problem(spec, offset):
            return
        if spec.name == b"COPY":
            number = copy_db(args)
            if number is not None and number != self._number:
                self._across(args, offset, number, positions)
                return
        if spec.one_key and spec.name not in self._rewrites:
            self._fine.add(args[0])
        if not positions and self._target.one_db:
            self._problem(
                UsageError(
                    self._plan.where(offset),
                    "%s without keys cannot be sent to the right master" % _text(spec.name),
                    "Name the script's keys at the source, or %s" % _lower(_REWRITE),
                )
            )
        self._use(spec, args, positions, offset)

    def _use(self, spec: Spec, args: List[bytes], positions: List[int], offset: int) -> None:
        keep = self._plan.keep
        if keep is not None and positions:
            kept = [pos for pos in positions if keep(args[pos])]
            if not kept:
                return
            if len(kept) < len(positions) and not spec.per_key:
                out = next(pos for pos in positions if pos not in kept)
                self._problem(
                    UsageError(
                        self._plan.where(offset),
                        "%s combines keys of which some are left out: %s is taken, %s is not"
                        % (_text(spec.name), show(args[kept[0]]), show(args[out])),
                        "Change include_keys or exclude_keys so that they agree; or %s" % _lower(_REWRITE),
                    )
                )
        if self._db.used is None:
            self._db.used = offset

    def _across(self, args: List[bytes], offset: int, number: int, positions: List[int]) -> None:
        """A command that takes a key into another database."""
        keep = self._plan.keep
        if keep is not None and not any(keep(args[pos]) for pos in positions):
            return
        other = self._state(number)
        for state in (self._db, other):
            state.entangled = True
            if state.used is None:
                state.used = offset

    def _whole(self, spec: Spec, args: List[bytes], offset: int) -> None:
        if spec.name == b"SWAPDB":
            first, second = _database(args, 1), _database(args, 2)
            one, two = self._state(first), self._state(second)
            self._dbs[first], self._dbs[second] = two, one
            self._swaps.append((first, second))
            self._db = self._state(self._number)
        elif spec.name == b"FLUSHALL":
            self._dbs.clear()
            self._db = self._state(self._number)
            self._floor = self._plan.count
        elif spec.name == b"FLUSHDB":
            self._flush_one(offset)
        elif spec.name == b"FUNCTION":
            self._offered_or_problem(spec, offset)

    def _flush_one(self, offset: int) -> None:
        if self._db.entangled:
            self._problem(
                UsageError(
                    self._plan.where(offset),
                    "FLUSHDB of database %d after MOVE or COPY between databases cannot be followed" % self._number,
                    _REWRITE,
                )
            )
            return
        self._db = self._dbs[self._number] = _Db()
        self._db.floor = self._plan.count

    def _offered_or_problem(self, spec: Spec, offset: int) -> bool:
        if self._offered is None or any(name in self._offered for name in sent_names(spec.name, self._rewrites)):
            return True
        product = self._target.instance.product
        self._problem(
            UnsupportedTypeError(
                self._plan.where(offset),
                "the target (%s %s) does not offer the command %s" % (product.name, product.version, _text(spec.name)),
                "Migrate to a newer target; or %s" % _lower(_REWRITE),
            )
        )
        return False

    def _unknown(self, exc: UnknownCommandError, offset: int) -> MigrationError:
        return UnsupportedTypeError(
            self._plan.where(offset),
            "%s, neither here nor to the target: of a module, or of a later version" % exc.reason,
            "Load the module into the target, or %s" % _lower(_REWRITE),
        )

    def _problem(self, error: MigrationError) -> None:
        """Keep the first one: a FLUSHDB may still make it pointless."""
        if self._db.problem is None:
            self._db.problem = error

    def _finish(self) -> None:
        plan = self._plan
        plan.finish(self._swaps, {number: state.floor for number, state in self._dbs.items() if state.floor}, self._floor)
        plan.used = {number: state.used for number, state in self._dbs.items() if state.used is not None}
        for number, state in sorted(self._dbs.items()):
            db = plan.db_of(number)
            if db is None:
                continue
            if state.problem is not None:
                raise state.problem
            if state.used is not None:
                refuse_db(self._target, number, db, plan.where(state.used))


def refuse_db(target: Target, number: int, db: int, where: str) -> None:
    """UsageError where the target has no database ``db``, to which the source's database ``number`` would go."""
    most = 1 if target.one_db else target.instance.databases_max
    if most is None or db < most:
        return
    raise UsageError(
        where,
        "database %d goes to database %d, and the target has %d database%s only; nothing was written"
        % (number, db, most, "s" if most > 1 else ""),
        "Set db_map to {%d: 0} (or another one that is free), or databases to those you want" % number,
    )


def copy_db(args: Sequence[bytes]) -> Optional[int]:
    """The database that COPY source destination [DB number] [REPLACE] names, None when it names none."""
    for pos in range(3, len(args) - 1):
        if args[pos].upper() == b"DB":
            return _database(args, pos + 1)
    return None


def _database(args: Sequence[bytes], pos: int) -> int:
    if len(args) <= pos or not args[pos].isdigit() or len(args[pos]) > 9:
        raise CodecError("%s without the number of a database" % _text(args[0]))
    return int(args[pos])


def _text(name: bytes) -> str:
    return name[:60].decode("ascii", "backslashreplace").upper()


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


__all__ = ["DbOf", "Keep", "Plan", "Where", "check", "copy_db", "refuse_db"]
