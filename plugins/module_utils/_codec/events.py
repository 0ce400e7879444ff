# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a snapshot consists of: the events that :class:`.rdb.RdbScanner` gives."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Tuple, Union

from .flat import FlatLists
from .stream import Stream

# type, key, value start, value end, start of a plain string's own bytes (else 0), expiry (ms since 1970) or None,
# (b"IDLETIME", seconds) or (b"FREQ", counter) or None
Entry = Tuple[int, bytes, int, int, int, Optional[int], Optional[Tuple[bytes, int]]]


class Header(NamedTuple):
    """The file's RDB version and whose dialect it is written in."""

    version: int
    dialect: str


class Aux(NamedTuple):
    """A fact about the file: ``redis-ver``, ``repl-stream-db``, ``lua`` (a script), ..."""

    key: bytes
    value: bytes


class Function(NamedTuple):
    """The source text of one library of functions."""

    code: bytes


class ModuleAux(NamedTuple):
    """Data that a module keeps beside the keys."""

    module: str


class Batch(NamedTuple):
    """Entries of one database whose values are slices of ``buf``; ``base`` is the position of ``buf`` in the file.

    Where the scanner was asked for it, most come in ``flat`` lists instead.
    """

    db: int
    buf: bytes
    base: int
    entries: List[Entry]
    flat: Optional[FlatLists] = None


class BigStart(NamedTuple):
    """A value that comes in parts; ``length`` is known for strings only (bytes, of a compressed one when it is unpacked), else 0."""

    db: int
    type: int
    key: bytes
    length: int
    expire_ms: Optional[int]
    hint: Optional[Tuple[bytes, int]]
    offset: int


class BigPart(NamedTuple):
    """The next elements (as the type's :func:`element_reader` gives them), or ``[bytes]`` of a string."""

    elements: List[Any]


class BigEnd(NamedTuple):
    """The value is complete; ``size`` is its serialized size in bytes, ``stream`` what a stream has beside its nodes."""

    size: int
    stream: Optional[Stream]


Event = Union[Header, Aux, Function, ModuleAux, Batch, BigStart, BigPart, BigEnd]
