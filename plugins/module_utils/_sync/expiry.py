# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Expiries that count from when a command is done.

Up to Redis 6.2 EXPIRE, SETEX and their kin reach replicas as the application wrote them (``src/expire.c``, ``src/t_string.c``; since 7.0 as
PEXPIREAT and PXAT). A command that has waited in the spool for an hour would give its key an hour more. So when it has waited, the moment
of its arrival takes part.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

# Milliseconds in a unit, by the name of the command; the position of the number.
_PLAIN = {b"EXPIRE": 1000, b"PEXPIRE": 1}
_WITH_VALUE = {b"SETEX": 1000, b"PSETEX": 1}
_OPTIONS = {b"EX": 1000, b"PX": 1}
_WITH_OPTIONS = frozenset((b"SET", b"GETEX"))
# Before Redis 5 with a time to live only; the key is better copied.
RESTORES = frozenset((b"RESTORE", b"RESTORE-ASKING"))
NAMES = frozenset((*_PLAIN, *_WITH_VALUE, *_WITH_OPTIONS, *RESTORES))


def is_relative(args: Sequence[bytes]) -> bool:
    """Whether the command sets an expiry that counts from now on."""
    name = args[0].upper()
    if name in _WITH_OPTIONS:
        return _option(args) > 0
    if name in RESTORES:
        return args[2:3] != [b"0"] and not any(word.upper() == b"ABSTTL" for word in args[4:])
    return name in _PLAIN or name in _WITH_VALUE


def absolute(args: List[bytes], arrived_ms: int, pxat: bool) -> Optional[List[List[bytes]]]:
    """The command as one or two with the expiry as a moment, for a command that came at ``arrived_ms`` (since 1970).

    ``pxat``: the target knows SET ... PXAT. None where the number is none, which the target may say itself.
    """
    name = args[0].upper()
    try:
        if name in _PLAIN:
            moment = b"%d" % (arrived_ms + int(args[2]) * _PLAIN[name])
            return [[b"PEXPIREAT", args[1], moment, *args[3:]]]
        if name in _WITH_VALUE:
            return _set([b"SET", args[1], args[3]], b"%d" % (arrived_ms + int(args[2]) * _WITH_VALUE[name]), pxat)
        at = _option(args)
        moment = b"%d" % (arrived_ms + int(args[at + 1]) * _OPTIONS[args[at].upper()])
    except (ValueError, IndexError):
        return None
    if name == b"GETEX":
        return [[b"PEXPIREAT", args[1], moment]]
    return _set([*args[:at], *args[at + 2 :]], moment, pxat)


def _set(words: List[bytes], moment: bytes, pxat: bool) -> List[List[bytes]]:
    if pxat:
        return [[*words, b"PXAT", moment]]
    return [words, [b"PEXPIREAT", words[1], moment]]


def _option(args: Sequence[bytes]) -> int:
    """Where EX or PX stands; 0 for nowhere."""
    for pos in range(3 if args[0].upper() == b"SET" else 2, len(args) - 1):
        if args[pos].upper() in _OPTIONS:
            return pos
    return 0
