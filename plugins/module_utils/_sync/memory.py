# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What the applier must remember beside its checkpoints: ``applier.json``."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from .fences import Place
from .folder import TaskFolder

_FILE = "applier.json"
_LEFT_ALONE = "left_alone.json"
_STRANGERS = "strangers.json"


# Bytes of scripts that are kept.
_SCRIPTS_MAX = 16 << 20


class Scripts:
    """Scripts that the source has sent, by their checksum, for a target that has lost its own; of this process only."""

    def __init__(self) -> None:
        self._bodies: Dict[bytes, bytes] = {}
        self._size = 0

    def note(self, body: bytes) -> None:
        name = hashlib.sha1(body, usedforsecurity=False).hexdigest().encode("ascii")
        if name not in self._bodies and self._size + len(body) <= _SCRIPTS_MAX:
            self._bodies[name] = body
            self._size += len(body)

    def body(self, name: bytes) -> Optional[bytes]:
        return self._bodies.get(name.lower())


class Memory:
    """``token`` is part of the names in the target; ``names`` those under which checkpoints may be, ``confirmed``
    those under which there must be one; ``target`` is what kind of a deployment it is; ``boot`` is the host's boot in which streams
    were followed last, ``finishing`` true once all is done.

    ``left_alone`` are keys that the target had before (``on_conflict: skip``), with the database of the target. ``owners`` and ``moved`` are the
    streams by slot, see :mod:`.homes`.
    """

    def __init__(self, folder: TaskFolder) -> None:
        self._folder = folder
        self.scripts = Scripts()
        # Streams that were received damaged, and in which generation; of this process only.
        self.damaged: Dict[int, int] = {}
        stored: Dict[str, Any] = folder.read(_FILE) or {}
        self.token: str = stored.get("token") or os.urandom(8).hex()
        self.names: List[bytes] = [name.encode("ascii") for name in stored.get("names", ())]
        self.confirmed: List[bytes] = [name.encode("ascii") for name in stored.get("confirmed", ())]
        self.target: str = stored.get("target", "")
        self.boot: str = stored.get("boot_id", "")
        self.finishing: bool = stored.get("finishing", False)
        # The generation of each stream that was loaded, 0 where it was only begun.
        self._loaded: Dict[str, int] = stored.get("loaded", {})
        self.owners: Dict[int, int] = {
            slot: stream for first, last, stream in stored.get("owners", ()) for slot in range(first, last + 1)
        }
        self.moved: Dict[int, Optional[int]] = dict(stored.get("moved", ()))
        # Slots that came to rest, and where each stream was then.
        self.settled: List[Tuple[List[int], Dict[int, int]]] = [
            (slots, {int(stream): at for stream, at in positions.items()}) for slots, positions in stored.get("settled", ())
        ]
        strangers: Any = folder.read(_STRANGERS) or {}
        self.strangers: Dict[int, Set[Place]] = {int(stream): _places(rows) for stream, rows in strangers.items()}
        self.mistrusted: Dict[int, int] = {int(stream): offset for stream, offset in stored.get("mistrusted", {}).items()}
        alone: Any = folder.read(_LEFT_ALONE) or []
        self.left_alone: Set[Place] = _places(alone)

    def save(self, names: Sequence[bytes]) -> None:
        """FileError. It is on the disk when this returns."""
        self.names = list(names)
        content = {
            "token": self.token,
            "names": [name.decode("ascii") for name in self.names],
            "confirmed": [name.decode("ascii") for name in self.confirmed],
            "target": self.target,
            "boot_id": self.boot,
            "finishing": self.finishing,
            "loaded": self._loaded,
            "owners": _ranges(self.owners),
            "moved": sorted(self.moved.items()),
            "settled": self.settled,
            "mistrusted": self.mistrusted,
        }
        self._folder.write(_FILE, content, durable=True)

    def loaded(self, stream: int, generation: int) -> None:
        """That snapshot is in the target, and a checkpoint tells so."""
        self._loaded[str(stream)] = generation

    def is_loaded(self, stream: int, generation: int) -> bool:
        return self._loaded.get(str(stream)) == generation

    def begin(self, streams: Iterable[int]) -> None:
        """From now on snapshots of these may have changed the target."""
        for stream in streams:
            self._loaded.setdefault(str(stream), 0)

    @property
    def begun(self) -> bool:
        """Whether any snapshot may have changed the target."""
        return bool(self._loaded)

    def was_begun(self, stream: int) -> bool:
        """Whether any snapshot of the stream may have."""
        return str(stream) in self._loaded

    def finish(self) -> None:
        """From here on only checkpoints are left to be removed."""
        self.finishing = True
        self.save(self.names)

    def leave_alone(self, places: Set[Place]) -> None:
        """Only these from now on. FileError."""
        if places != self.left_alone:
            self.left_alone = places
            self._folder.write(_LEFT_ALONE, _rows(places), durable=True)

    def note_strangers(self, strangers: Dict[int, Set[Place]]) -> None:
        """Keys that only the target has, by the stream that may bring them one day. FileError."""
        self.strangers = strangers
        self._folder.write(_STRANGERS, {str(stream): _rows(places) for stream, places in strangers.items()}, durable=True)


def _places(rows: Any) -> Set[Place]:
    return {(db, base64.b64decode(key)) for db, key in rows}


def _rows(places: Set[Place]) -> List[List[Any]]:
    return [[db, base64.b64encode(key).decode("ascii")] for db, key in sorted(places)]


def _ranges(owners: Dict[int, int]) -> List[List[int]]:
    """Runs of slots with one owner: first, last, owner."""
    found: List[List[int]] = []
    for slot, owner in sorted(owners.items()):
        if found and found[-1][1] == slot - 1 and found[-1][2] == owner:
            found[-1][1] = slot
        else:
            found.append([slot, slot, owner])
    return found
