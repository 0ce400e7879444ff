# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Commands of a newer server in words that an older target knows.

Only those that servers themselves write into an AOF, and only where the meaning stays the very same; everything else is refused by the
target, or before.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence

from .._codec import payload, types as t
from .._codec.errors import CodecError
from .frames import Dialect

Rewrite = Callable[[List[bytes], Dialect], Optional[List[List[bytes]]]]


def rewrites(target: Dialect) -> Dict[bytes, Rewrite]:
    """By name: what turns a command into the ones to send, None where it may stay as it is. Empty for a target that knows all."""
    caps = target.capabilities
    found: Dict[bytes, Rewrite] = {b"RESTORE": _restore, b"RESTORE-ASKING": _restore}
    if not caps.unlink:
        found[b"UNLINK"] = lambda args, _target: [[b"DEL", *args[1:]]]
    if not caps.set_pxat:
        found[b"SET"] = _set
    if not caps.functions:
        found[b"XSETID"] = lambda args, _target: [args[:3]] if len(args) > 3 else None
        found[b"XGROUP"] = _xgroup
    return found


def _set(args: List[bytes], _target: Dialect) -> Optional[List[List[bytes]]]:
    """SET ... PXAT ms (so it stands in the AOF of Redis 7) and EXAT s came with Redis 6.2."""
    for pos in range(3, len(args) - 1):
        word = args[pos].upper()
        if word in (b"PXAT", b"EXAT"):
            name = b"PEXPIREAT" if word == b"PXAT" else b"EXPIREAT"
            return [[*args[:pos], *args[pos + 2 :]], [name, args[1], args[pos + 1]]]
    return None


def _xgroup(args: List[bytes], _target: Dialect) -> Optional[List[List[bytes]]]:
    """ENTRIESREAD, a number that older servers do not keep, came with Redis 7.0."""
    for pos in range(5, len(args) - 1):
        if args[pos].upper() == b"ENTRIESREAD":
            return [[*args[:pos], *args[pos + 2 :]]]
    return None


def _restore(args: List[bytes], target: Dialect) -> Optional[List[List[bytes]]]:
    """A value in a type, or with a version, that the target refuses: in a type it has."""
    if len(args) < 4:
        return None
    try:
        kind, body, version = payload.split(args[3])
        source = t.dialect_of(version)
        if version == target.rdb_version or (version < target.rdb_version and source == target.name):
            return None
        value = payload.foot(*payload.convert(kind, body, target.rdb_version, target.name, source), target.rdb_version)
    except CodecError:
        return None  # the target says what is wrong with it
    return [[b"RESTORE", *args[1:3], value, *args[4:]]]


def sent_names(name: bytes, known: Dict[bytes, Rewrite]) -> Sequence[bytes]:
    """The names under which a command may reach the target."""
    if name == b"UNLINK" and name in known:
        return (b"DEL",)
    if name == b"RESTORE-ASKING":
        return (b"RESTORE",)
    return (name,)
