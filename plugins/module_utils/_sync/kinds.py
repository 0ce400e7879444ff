# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which commands depend on what a key held before, and what their replies must be.

A target expires keys on its own clock. A command that reached the source before an expiry may reach the target behind it, and would then
build on nothing. Commands that write a key whatever it held are safe; before the others the target is asked whether the key is there.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Sequence

from .._codec.commands import KEYED, Commands, Spec

# One key, written whatever it held before; they also settle what its expiry is.
OVERWRITES = 1
# One key, and the result depends on what is there; its expiry stays as it is.
BUILDS = 2
# As BUILDS, and the expiry changes; a reply of 0 says that the key was not there (or a condition was not met).
EXPIRES = 3
# As OVERWRITES, but a reply of 0 or nil says that it was not done.
CONDITIONAL = 4
# OVERWRITES for each of its keys.
MANY = 5
# A SET that may have been an INCRBYFLOAT at the source, where the key kept its expiry.
MAYBE_KEEPS = 6
# Several keys, a database, a transaction, every master, ...: to be looked at.
OTHER = 0

_MANY = "DEL UNLINK"
_OVERWRITES = "GETDEL GETSET SETEX PSETEX DELEX RESTORE RESTORE-ASKING"
_EXPIRES = "EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST"
_CONDITIONAL = "SETNX"
# Their expiry may change without a telling reply.
_RELEASES = frozenset(
    b"GETEX HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST HSETEX HGETEX EVAL EVALSHA FCALL MSETEX SORT INCREX GCRA".split()
)
# Commands on several keys that read none of those they write.
_WRITE_BLINDLY = frozenset((b"MSET", b"DEL", b"UNLINK", b"RENAME", b"RENAMENX", b"MSETNX", b"MSETEX"))
_FLOAT = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
# Replies of 0 to these mean that nothing was done, though the source did something.
ALL_OR_NOTHING = frozenset((b"RENAMENX", b"MSETNX", b"MSETEX", b"COPY", b"SMOVE", b"MOVE"))


def _names(text: str) -> List[bytes]:
    return text.encode("ascii").split()


class Kinds(Dict[bytes, int]):
    """The kind of a command by its name as it stands in the stream; unknown spellings are looked up once.

    ``float_sets``: before Redis 6.0 replicas are told of an INCRBYFLOAT by a plain SET (``src/t_string.c``; then KEEPTTL was added).
    """

    def __init__(self, commands: Commands, float_sets: bool = False) -> None:
        super().__init__()
        self.float_sets = float_sets
        self._commands = commands
        for kind, names in ((OVERWRITES, _OVERWRITES), (MANY, _MANY), (EXPIRES, _EXPIRES), (CONDITIONAL, _CONDITIONAL)):
            self.update(dict.fromkeys(_names(names), kind))
        # Told apart by its options.
        self[b"SET"] = OTHER

    def __missing__(self, name: bytes) -> int:
        upper = name.upper()
        if upper in self:
            kind = self[upper]
        else:
            spec = self._commands.spec(name)
            kind = BUILDS if spec.one_key and spec.scope == KEYED and spec.write else OTHER
        if len(self) < 4096:
            self[name] = kind
        return kind

    def of_set(self, args: Sequence[bytes]) -> int:
        """The kind of a SET by its options."""
        if len(args) == 3:
            return MAYBE_KEEPS if self.float_sets and _FLOAT.fullmatch(args[2]) else OVERWRITES
        kind = OVERWRITES
        for word in args[3:]:
            upper = word.upper()
            if upper == b"KEEPTTL":
                return BUILDS
            if upper in (b"NX", b"XX", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE", b"GET"):
                kind = CONDITIONAL
        return kind


def releases(name: bytes) -> bool:
    """Whether a BUILDS command may change when the key, or a part of it, expires."""
    return name in _RELEASES or name.upper() in _RELEASES


def read_positions(args: Sequence[bytes], spec: Spec, positions: List[int]) -> List[int]:
    """Of a command on several keys: positions of those that its result depends on."""
    if spec.name in _WRITE_BLINDLY:
        return []
    if spec.written is not None and spec.name != b"PFMERGE":
        return [pos for pos in positions if pos != spec.written]
    return positions


def was_not_done(reply: Any) -> bool:
    return reply is None or reply == 0


def expires(left: Any) -> bool:
    """By PTTL: what a SET may have left alone at the source."""
    return isinstance(left, int) and left >= 0


def lacks_a_field(reply: Any) -> bool:
    """HPEXPIREAT and its kin answer for each field: -2 for one that is not there."""
    return isinstance(reply, list) and -2 in reply
