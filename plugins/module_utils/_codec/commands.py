# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a command of a stream or an AOF means for routing: its keys, its scope, how it may be cut.

Commands of modules are not known here. A server that has them tells where their keys are: :meth:`Commands.learn`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Hashable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from . import command_table as table
from .errors import CodecError, UnsupportedError
from .slots import key_slot

# Scopes.
KEYED = "keyed"  # belongs to its keys
EVERY_MASTER = "every_master"  # goes to each master, or to the database as a whole
DATABASE = "database"  # names a database by number
TRANSACTION = "transaction"
DROPPED = "dropped"  # says nothing about data

Finder = Callable[[Sequence[bytes]], List[int]]


class UnknownCommandError(UnsupportedError):
    """Nobody has said where this command's keys are: one of a module, of another product or of a later version."""

    def __init__(self, name: bytes) -> None:
        super().__init__("the command %s is not known" % name[:60].decode("ascii", "backslashreplace").upper())
        self.name = name


class Spec(NamedTuple):
    """One command: ``find(args)`` gives the positions of its keys; ``one_key`` says that it is always position 1 alone.

    ``written`` is the position of the only key it writes (None: any of them may be); ``per_key`` how many arguments belong to each key of
    a command that may be cut, 0 for one that may not.
    """

    name: bytes
    scope: str
    write: bool
    find: Finder
    one_key: bool = False
    written: Optional[int] = None
    per_key: int = 0


class Commands:
    """The table, and what a server told in addition. ``known`` maps names as they are written in a stream to their specs."""

    def __init__(self) -> None:
        self.known: Dict[bytes, Spec] = dict(_TABLE)

    def spec(self, name: bytes) -> Spec:
        """What is known of a command, whatever the case of its name; UnknownCommandError."""
        found = self.known.get(name)
        if found is None:
            found = self.known.get(name.upper())
            if found is None:
                raise UnknownCommandError(name)
            if len(self.known) < _SPELLINGS_MAX:
                self.known[name] = found
        return found

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take over commands that the table lacks from a server's reply to ``COMMAND``.

        Those whose keys cannot be told from positions alone (``movablekeys``) stay unknown; those without keys too, as it
        cannot be told what they do.
        """
        for row in rows:
            name, _arity, flags, first, last, step = row[:6]
            upper = bytes(name).upper()
            if upper not in self.known and first > 0 and b"movablekeys" not in flags:
                write = b"write" in flags
                self.known[upper] = Spec(
                    upper, KEYED, write, _by_range((first, last, step)), (first, last) == (1, 1)
                )

    def scope(self, name: bytes) -> str:
        """KEYED, EVERY_MASTER, DATABASE, TRANSACTION or DROPPED; UnknownCommandError."""
        return self.spec(name).scope

    def keys(self, args: Sequence[bytes]) -> List[int]:
        """Positions of the keys in ``args`` (the name is position 0). UnknownCommandError; CodecError for arguments that cannot be."""
        return self.spec(args[0]).find(args)

    def written(self, args: Sequence[bytes]) -> List[int]:
        """Positions of the keys that may be changed; the others are only read."""
        spec = self.spec(args[0])
        if not spec.write:
            return []
        if spec.written is not None:
            return [spec.written]
        positions = spec.find(args)
        return positions[1:] or positions if spec.name in _READ_FIRST else positions

    def split(self, args: Sequence[bytes], group: Callable[[bytes], Hashable] = key_slot) -> Dict[Hashable, List[bytes]]:
        """The command as one for each group of keys (by default each slot), in the order of their first keys.

        CodecError for a command that cannot be cut.
        """
        spec = self.spec(args[0])
        if not spec.per_key or (len(args) - 1) % spec.per_key:
            raise CodecError("%s cannot be split by key" % spec.name.decode("ascii"))
        parts: Dict[Hashable, List[bytes]] = {}
        for pos in range(1, len(args), spec.per_key):
            parts.setdefault(group(args[pos]), [args[0]]).extend(args[pos : pos + spec.per_key])
        return parts


def flushes_slot(args: Sequence[bytes]) -> bool:
    """Whether a CLUSTER deletes keys (Valkey 9); whatever else it does is no data."""
    return len(args) > 2 and args[1].upper() == b"FLUSHSLOT"


# Names come in few spellings; a hostile file may have many.
_SPELLINGS_MAX = 4096
# SORT and GEORADIUS read their first key and write the one behind STORE.
_READ_FIRST = (b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER")


# -- finders -------------------------------------------------------------------------------------------------------------


def _first(args: Sequence[bytes]) -> List[int]:
    if len(args) < 2:
        raise _too_short(args)
    return [1]


def _none(args: Sequence[bytes]) -> List[int]:
    return []


def _by_range(place: table.Range) -> Finder:
    first, last, step = place
    if (first, last) == (1, 1):
        return _first

    def find(args: Sequence[bytes]) -> List[int]:
        end = last if last >= 0 else len(args) + last
        if end >= len(args) or end < first:
            raise _too_short(args)
        return list(range(first, end + 1, step))

    return find


def _by_count(place: table.NumKeys) -> Finder:
    counted, fixed, step = place

    def find(args: Sequence[bytes]) -> List[int]:
        if len(args) <= counted:
            raise _too_short(args)
        if not args[counted].isdigit() or len(args[counted]) > 9:
            raise CodecError("%s has no number of keys at argument %d" % (_shown(args), counted))
        first = counted + 1
        end = first + int(args[counted]) * step
        if end > len(args):
            raise _too_short(args)
        return [*fixed, *range(first, end, step)]

    return find


def _by_subcommand(names: str) -> Finder:
    known = frozenset(names.upper().encode("ascii").split())

    def find(args: Sequence[bytes]) -> List[int]:
        return [2] if len(args) > 2 and args[1].upper() in known else []

    return find


def _streams(args: Sequence[bytes]) -> List[int]:
    """XREAD, XREADGROUP: behind STREAMS come as many keys as IDs."""
    pos = 1
    while pos < len(args):
        word = args[pos].upper()
        if word == b"STREAMS":
            count = len(args) - pos - 1
            if count < 2 or count % 2:
                raise _too_short(args)
            return list(range(pos + 1, pos + 1 + count // 2))
        # A group or consumer may be called STREAMS.
        pos += 3 if word == b"GROUP" else 2 if word in (b"BLOCK", b"COUNT", b"CLAIM", b"MAXCOUNT", b"MAXSIZE") else 1
    raise _too_short(args)


def _sort(args: Sequence[bytes]) -> List[int]:
    """SORT: the last STORE counts. Keys that BY and GET lead to cannot be named."""
    found = _first(args)
    pos = 2
    while pos < len(args):
        word = args[pos].upper()
        if word == b"LIMIT":
            pos += 2
        elif word in (b"GET", b"BY"):
            pos += 1
        elif word == b"STORE" and pos + 1 < len(args):
            found = [1, pos + 1]
            pos += 1
        pos += 1
    return found


def _georadius(first_option: int) -> Finder:
    def find(args: Sequence[bytes]) -> List[int]:
        found = _first(args)
        pos = first_option
        while pos < len(args):
            if args[pos].upper() in (b"STORE", b"STOREDIST") and pos + 1 < len(args):
                found = [1, pos + 1]
                pos += 1
            pos += 1
        return found

    return find


def _migrate(args: Sequence[bytes]) -> List[int]:
    """MIGRATE host port key db timeout [...]: the key, or those behind KEYS when it is empty."""
    if len(args) < 6:
        raise _too_short(args)
    if args[3]:
        return [3]
    for pos in range(6, len(args)):
        if args[pos].upper() == b"KEYS":
            return list(range(pos + 1, len(args)))
    raise _too_short(args)


def _too_short(args: Sequence[bytes]) -> CodecError:
    return CodecError("%s has only %d arguments" % (_shown(args), len(args) - 1))


def _shown(args: Sequence[bytes]) -> str:
    return args[0][:60].decode("ascii", "backslashreplace").upper() if args else "a command"


# -- the table -----------------------------------------------------------------------------------------------------------


def _names(text: str) -> List[bytes]:
    return text.upper().encode("ascii").split()


def _build() -> Dict[bytes, Spec]:
    written = {name: pos for pos, names in table.WRITTEN.items() for name in _names(names)}
    per_key = {name: count for count, names in table.SPLITTABLE.items() for name in _names(names)}
    specs: Dict[bytes, Spec] = {}

    def add(name: bytes, scope: str, write: bool, find: Finder, one_key: bool = False) -> None:
        specs[name] = Spec(name, scope, write, find, one_key, written.get(name), per_key.get(name, 0))

    for write, ranges in ((True, table.WRITES), (False, table.READS)):
        for place, names in ranges.items():
            for name in _names(names):
                add(name, KEYED, write, _by_range(place), place == (1, 1, 1))
    for write, counts in ((True, table.NUMKEYS_WRITES), (False, table.NUMKEYS_READS)):
        for count, names in counts.items():
            for name in _names(names):
                add(name, KEYED, write, _by_count(count))
    for write, containers in ((True, table.SUBCOMMAND_WRITES), (False, table.SUBCOMMAND_READS)):
        for container, names in containers.items():
            add(container.upper().encode("ascii"), KEYED, write, _by_subcommand(names))
    special: Tuple[Tuple[bytes, bool, Finder], ...] = (
        (b"XREADGROUP", True, _streams),
        (b"XREAD", False, _streams),
        (b"SORT", True, _sort),
        (b"GEORADIUS", True, _georadius(6)),
        (b"GEORADIUSBYMEMBER", True, _georadius(5)),
        (b"MIGRATE", True, _migrate),
    )
    for name, write, find in special:
        add(name, KEYED, write, find)
    for scope, names, write in (
        (EVERY_MASTER, table.EVERY_MASTER, True),
        (DATABASE, table.DATABASE, True),
        (TRANSACTION, table.TRANSACTION, False),
        (DROPPED, table.DROPPED, False),
    ):
        for name in _names(names):
            add(name, scope, write, _first if name == b"MOVE" else _none, name == b"MOVE")
    return specs


_TABLE = _build()
