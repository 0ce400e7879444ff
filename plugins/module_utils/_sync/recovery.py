# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""After a crash: which keys may or may not have been written."""

from __future__ import annotations

from typing import Callable, Dict, List

from .._codec.commands import DATABASE, KEYED, Commands, UnknownCommandError
from .._codec.errors import CodecError
from .checkpoints import State
from .fences import Place
from .spool import SpoolReader
from .stream import StreamReader

_CHUNK = 256 << 10


def touched(spool: str, state: State, until: int, commands: Commands, wanted: Callable[[int, bytes], bool]) -> List[Place]:
    """Keys that commands between ``state.at`` and ``until`` write, in the order of the first. FileError."""
    found: Dict[Place, None] = {}
    db = state.db
    reader = SpoolReader(spool, state.at)
    parser = StreamReader(state.at)
    try:
        # A command that begins before ``until`` and ends behind it was not sent.
        while parser.position < until:
            data = reader.read(min(_CHUNK, until - reader.position))
            if not data:
                break
            for args in parser.feed(data).commands:
                db = _note(found, db, args, commands, wanted)
    finally:
        reader.close()
    return list(found)


def _note(found: Dict[Place, None], db: int, args: List[bytes], commands: Commands, wanted: Callable[[int, bytes], bool]) -> int:
    """Note the keys of one command; the database that is selected behind it."""
    try:
        spec = commands.spec(args[0])
        if spec.scope == KEYED and spec.write:
            for pos in commands.written(args):
                if wanted(db, args[pos]):
                    found[db, args[pos]] = None
            if spec.name == b"COPY":
                words = [word.upper() for word in args]
                if b"DB" in words[3:-1]:
                    other = int(args[words.index(b"DB", 3) + 1])
                    if wanted(other, args[2]):
                        found[other, args[2]] = None
        elif spec.scope == DATABASE:
            if spec.name == b"SELECT":
                return int(args[1])
            for number in (db, int(args[2])):
                if wanted(number, args[1]):
                    found[number, args[1]] = None
    except (UnknownCommandError, CodecError):
        pass  # without keys there is nothing to copy
    return db
