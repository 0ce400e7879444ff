# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Whether a big key is in the target already with the value of the file: asked part by part, as it would be written.

Not looked at: expiries, and what a stream has beside its entries.
"""

from __future__ import annotations

from typing import Any, Iterable, List, Tuple

from .._codec.resp import arguments, command

_COUNT = {"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}


class Comparison:
    """Takes the commands that would build the key; ``ask(frames)`` sends some and returns their replies."""

    def __init__(self, key: bytes, kind: str, ask: Any) -> None:
        self._key = key
        self._kind = kind
        self._ask = ask
        self._count = 0
        self._same: bool = ask([command("TYPE", key)])[0] == kind.encode()

    def add(self, frames: Iterable[bytes]) -> None:
        """The next commands."""
        if not self._same:
            return
        asked = [pair for frame in frames for pair in self._questions(arguments(frame))]
        replies = self._ask([question for question, _expected in asked])
        self._same = all(_agree(reply, expected) for reply, (_question, expected) in zip(replies, asked))

    def end(self) -> bool:
        """Whether all of it is there, and nothing else."""
        return self._same and self._ask([command(_COUNT[self._kind], self._key)])[0] == self._count

    def _questions(self, args: List[bytes]) -> List[Tuple[bytes, Any]]:
        """What to ask about a command, and the answers that there are if it was done."""
        name, key, words = args[0], args[1], args[2:]
        first = self._count
        if name in (b"SET", b"SETRANGE"):
            self._count += len(words[-1])
            return [(command("GETRANGE", key, first, self._count - 1), words[-1])]
        if name == b"RPUSH":
            self._count += len(words)
            return [(command("LRANGE", key, first, self._count - 1), words)]
        if name == b"SADD":
            self._count += len(words)
            return [(command("SISMEMBER", key, word), 1) for word in words]
        if name == b"ZADD":
            self._count += len(words) // 2
            return [(command("ZSCORE", key, member), float(score)) for score, member in zip(words[0::2], words[1::2])]
        if name == b"HMSET":
            self._count += len(words) // 2
            return [(command("HMGET", key, *words[0::2]), words[1::2])]
        if name == b"XADD":
            self._count += 1
            return [(command("XRANGE", key, words[0], words[0]), [[words[0], words[1:]]])]
        return []


def _agree(reply: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return reply is not None and float(reply) == expected
    return bool(reply == expected)
