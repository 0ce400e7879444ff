# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""How far the target is, kept in the target itself, so that it goes back when the target goes back.

A checkpoint holds two offsets of each stream. ``at``: everything up to there is done, on every master. ``until``: nothing behind it has
been sent. Both hold for whatever is left of the target after any crash, because a master executes what one connection sends in order, and
because nothing behind ``until`` is sent before the checkpoint that allows it is acknowledged by every master. What lies between the two
is unknown after a crash, and is copied afresh (see :mod:`.fences`).

Each master has a checkpoint of its own, a hash under a name of ours in a slot of that master. A proxy hides its masters: there a file
takes their place.
"""

from __future__ import annotations

import base64
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from .._codec.resp import ErrorReply, command
from .._codec.slots import key_slot
from .._errors import FileError, LostError, ReplyError
from .._server.endpoint import Address
from .._server.versions import RESERVED_PREFIX
from .._sink.target import Target
from .fences import Place
from .folder import TaskFolder

_FILE = "checkpoint.json"
# A field of the first write only: what the next one makes where somebody has emptied the target is no checkpoint.
WHOLE = b"whole"
# Fields per HMSET and HDEL: a few hundred KB at most.
_FIELDS = 2000


class State(NamedTuple):
    """One stream: its snapshot's number, its history, ``at`` and ``until``, and the database it has selected at ``at``."""

    generation: int
    replication_id: str
    at: int
    until: int
    db: int


Fields = Dict[bytes, bytes]


def state_fields(stream: int, state: State) -> Fields:
    text = "%d %s %d %d %d" % (state.generation, state.replication_id or "-", state.at, state.until, state.db)
    return {b"at:%d" % stream: text.encode("ascii")}


def fence_fields(stream: int, fences: Mapping[Place, float]) -> Fields:
    return {fence_name(stream, place): b"%d" % int(offset) for place, offset in fences.items()}


def fence_name(stream: int, place: Place) -> bytes:
    return b"f:%d:%d:%b" % (stream, place[0], place[1])


class Recovered(NamedTuple):
    """What the checkpoints of all masters say together.

    Of each stream the lowest generation, of that the lowest ``at`` and the highest ``until``; and every fence.
    """

    states: Dict[int, State]
    fences: Dict[int, Dict[Place, int]]
    disputed: List[int]


def combine(hashes: Iterable[Fields]) -> Recovered:
    """Bring the checkpoints of several masters together. FileError for one that cannot be read."""
    states: Dict[int, State] = {}
    fences: Dict[int, Dict[Place, int]] = {}
    disputed: List[int] = []
    try:
        for fields in hashes:
            for name, value in fields.items():
                if name.startswith(b"at:"):
                    number = int(name[3:])
                    generation, replication_id, at, until, db = value.decode("ascii").split()
                    found = State(int(generation), "" if replication_id == "-" else replication_id, int(at), int(until), int(db))
                    states[number] = _lower(states.get(number), found)
                elif name.startswith(b"f:"):
                    _f, stream, source_db, key = name.split(b":", 3)
                    fences.setdefault(int(stream), {})[int(source_db), key] = int(value)
                elif name == b"disputed":
                    disputed += map(int, value.split())
    except ValueError as exc:
        raise FileError("the checkpoint in the target", "cannot be read: %s" % exc, "Remove the task (state absent) and start again") from exc
    return Recovered(states, fences, sorted(set(disputed)))


def _lower(one: Optional[State], other: State) -> State:
    if one is None or other.generation < one.generation:
        return other
    if one.generation < other.generation:
        # One master has gone back behind a whole snapshot, or not come to it yet.
        return one
    lower = one if one.at <= other.at else other
    return lower._replace(until=max(one.until, other.until))


class MissingError(LostError):
    """Checkpoints that were confirmed are gone, and with them what their masters held."""


class TargetCheckpoints:
    """Checkpoints in the masters of a target. ``names`` are those in use, by master."""

    def __init__(self, token: str, clustered: bool) -> None:
        self._stem = RESERVED_PREFIX + b"checkpoint:" + token.encode("ascii")
        self._clustered = clustered
        self.names: Dict[Address, bytes] = {}

    def choose(self, slots_of: Mapping[Address, List[Tuple[int, int]]]) -> None:
        """Find a name in a slot of each master; one that still is in such a slot stays."""
        chosen = {}
        for address, slots in slots_of.items():
            name = self.names.get(address)
            if name is None or (self._clustered and not _owned(name, slots)):
                name = self._name(slots)
            chosen[address] = name
        self.names = chosen

    def _name(self, slots: List[Tuple[int, int]]) -> bytes:
        if not self._clustered:
            return self._stem
        number = 0
        while True:
            name = b"%b:{%d}" % (self._stem, number)
            if _owned(name, slots):
                return name
            number += 1

    @staticmethod
    def frames(name: bytes, fields: Fields, fences: Fields, gone: List[bytes]) -> List[bytes]:
        """Commands that write a checkpoint: first the fences, a fence too early does no harm, then the positions, then what is past."""
        frames = []
        names = list(fences)
        for first in range(0, len(names), _FIELDS):
            words = [word for field in names[first : first + _FIELDS] for word in (field, fences[field])]
            frames.append(command("HMSET", name, *words))
        frames.append(command("HMSET", name, *(word for pair in fields.items() for word in pair)))
        for first in range(0, len(gone), _FIELDS):
            frames.append(command("HDEL", name, *gone[first : first + _FIELDS]))
        return frames

    @staticmethod
    def read(target: Target, names: Iterable[bytes]) -> Dict[bytes, Fields]:
        """The checkpoints under these names that are there. ServerError."""
        found = {}
        for name in names:
            reply = target.call(name, 0, [command("HGETALL", name)])[0]
            if isinstance(reply, ErrorReply):
                raise ReplyError(target.endpoint.label, "answered %s over our checkpoint" % reply.decode("utf-8", "replace"))
            fields = dict(zip(reply[::2], reply[1::2]))
            if fields.pop(WHOLE, None):
                found[name] = fields
        return found

    @staticmethod
    def remove(target: Target, names: Iterable[bytes]) -> None:
        for name in names:
            target.call(name, 0, [command("DEL", name)])


class FileCheckpoints:
    """The checkpoint of a target behind a proxy, in the task's folder."""

    def __init__(self, folder: TaskFolder) -> None:
        self._folder = folder
        self._fields: Fields = {}

    def write(self, fields: Fields, gone: List[bytes]) -> None:
        """Replace what is known; it is on the disk when this returns. FileError."""
        self._fields.update(fields)
        for name in gone:
            self._fields.pop(name, None)
        stored = [[_text(name), _text(value)] for name, value in self._fields.items()]
        self._folder.write(_FILE, stored, durable=True)

    def read(self) -> List[Fields]:
        stored: Any = self._folder.read(_FILE) or []
        try:
            self._fields = {base64.b64decode(name): base64.b64decode(value) for name, value in stored}
        except (TypeError, ValueError) as exc:
            raise FileError(self._folder.file(_FILE), "cannot be read: %s" % exc, "Remove the task (state absent) and start again") from exc
        return [self._fields] if self._fields else []

    def remove(self) -> None:
        self._fields = {}
        self._folder.remove(_FILE)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _owned(name: bytes, slots: List[Tuple[int, int]]) -> bool:
    slot = key_slot(name)
    return any(first <= slot <= last for first, last in slots)
