# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A command on keys of several slots, on a target that refuses those.

Its keys are copied under names of ours that share one slot, the command is run on the copies, and what became of them is put under the
real names. Our names are removed in any case, and once more at the start of the next import of the same file, should this one be cut off.
"""

from __future__ import annotations

import hashlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .._codec import payload, values
from .._codec.commands import Commands
from .._codec.errors import CodecError
from .._codec.resp import ErrorReply, command
from .._errors import MigrationError, ReplyError, ServerError
from .._server.versions import RESERVED_PREFIX
from .._sink.frames import show
from .._sink.target import Target

# So many of our names are removed at the start; a cut-off run has left at most as many as one command had keys.
_SWEPT = 256
# Since when a server tells the moment of an expiry, and not only how far away it is.
_PEXPIRETIME_SINCE = (7, 0)

_SCRIPTS = (b"EVAL", b"EVALSHA", b"FCALL")

_Copy = Tuple[Optional[bytes], int]


class Transplant:
    """Runs such commands one by one, ``count`` so far; everything sent before must have been answered (the caller's part)."""

    def __init__(self, target: Target, commands: Commands, where: Callable[[int], str]) -> None:
        self.count = 0
        self._target = target
        self._commands = commands
        self._where = where
        token = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        # The braces are a hash tag: all these names are in one slot.
        self._stem = b"%b{%b}" % (RESERVED_PREFIX, token.encode("ascii"))
        caps = target.dialect.capabilities
        self._absolute = caps.restore_absttl
        self._exact = target.instance.product.compatible >= _PEXPIRETIME_SINCE

    def _name(self, number: int) -> bytes:
        return b"%b:%d" % (self._stem, number)

    def sweep(self) -> None:
        """Remove what an earlier run of the same import may have left behind."""
        names = [self._name(number) for number in range(_SWEPT)]
        self._target.call(names[0], 0, [command("DEL", *names)])

    def run(self, args: Sequence[bytes], offset: int, db: int = 0) -> None:
        """Do as if the target had run ``args``. ServerError with the command's position."""
        self.count += 1
        positions = self._commands.keys(args)
        keys = list(dict.fromkeys(args[pos] for pos in positions))
        names = {key: self._name(number) for number, key in enumerate(keys)}
        script = args[0].upper() in _SCRIPTS
        written = list(dict.fromkeys(args[pos] for pos in self._commands.written(args)))
        try:
            before = self._copy_in(names, db)
            moved = list(args)
            for pos in positions:
                moved[pos] = names[args[pos]]
            self._send(names[keys[0]], db, command(*moved))
            for key in written:
                self._copy_out(key, names[key], before[key], offset, db, script)
        except ServerError as exc:
            raise type(exc)(
                "%s, %s of %s" % (self._where(offset), args[0].decode("ascii", "replace").upper(), show(keys[0])),
                exc.why,
                exc.remedy,
            ) from exc
        finally:
            self._remove(list(names.values()), db)

    def _send(self, key: bytes, db: int, frame: bytes) -> Any:
        reply = self._target.call(key, db, [frame])[0]
        if isinstance(reply, ErrorReply):
            raise ReplyError(self._target.endpoint.label, "answered %s" % reply.decode("utf-8", "replace"))
        return reply

    def _read(self, key: bytes, db: int) -> _Copy:
        """The value as DUMP gives it (None: no such key), and its expiry in ms since 1970, 0 for none."""
        time_of = command("PEXPIRETIME" if self._exact else "PTTL", key)
        now = self._target.now_ms()
        expiry, value = self._target.call(key, db, [time_of, command("DUMP", key)])
        if value is None or isinstance(value, ErrorReply):
            return None, 0
        if expiry < 0:
            return value, 0
        return value, expiry if self._exact else now + expiry

    def _write(self, key: bytes, copy: _Copy, db: int) -> None:
        value, expiry = copy
        if value is None:
            self._send(key, db, command("DEL", key))
            return
        ttl = expiry if self._absolute or not expiry else max(1, expiry - self._target.now_ms())
        words: List[Any] = ["RESTORE", key, ttl, value, "REPLACE"]
        if self._absolute and expiry:
            words.append("ABSTTL")
        self._send(key, db, command(*words))

    def _copy_in(self, names: Dict[bytes, bytes], db: int) -> Dict[bytes, _Copy]:
        found = {}
        for key, name in names.items():
            found[key] = self._read(key, db)
            if found[key][0] is not None:
                self._write(name, found[key], db)
        return found

    def _copy_out(self, key: bytes, name: bytes, before: _Copy, offset: int, db: int, script: bool) -> None:
        after = self._read(name, db)
        if after[0] is not None and script:
            self._refuse_names_inside(key, after[0], offset)
        # Without PEXPIRETIME the moment is computed, and differs by a few ms each time.
        same_time = after[1] == before[1] if self._exact else bool(after[1]) == bool(before[1]) and abs(after[1] - before[1]) < 1000
        if after[0] == before[0] and same_time:
            return
        self._write(key, after, db)

    def _refuse_names_inside(self, key: bytes, dumped: bytes, offset: int) -> None:
        """A script may store the names of its keys, and has been given ours: that would stay in the data."""
        try:
            kind, body, _version = payload.split(dumped)
            value, _end = values.decode(kind, body, 0, self._target.dialect.name)
        except CodecError:
            found = self._stem in dumped
        else:
            found = _holds(values.canonical(value), self._stem)
        if found:
            raise ReplyError(
                "%s, key %s" % (self._where(offset), show(key)),
                "a script stores the names of its keys as data, and its keys are in several slots",
                "Let the source rewrite its AOF (BGREWRITEAOF), or take an RDB file, and import that",
            )

    def _remove(self, names: List[bytes], db: int) -> None:
        """Never raises: what led here matters more, and the next run sweeps."""
        try:
            self._target.call(names[0], db, [command("DEL", *names)])
        except MigrationError:
            pass


def _holds(value: Any, part: bytes) -> bool:
    """Whether ``part`` is in any of the bytes of a canonical value."""
    if isinstance(value, bytes):
        return part in value
    return isinstance(value, (tuple, frozenset)) and any(_holds(item, part) for item in value)
