# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What was imported already: one receipt per file, target and choice of keys, in ``state_dir`` (mode 0600).

A receipt alone is not believed: a sample of the file's keys must still be in the target, or it was emptied since.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import time
from typing import Any, Dict, List, Optional, Tuple

from .._codec.events import Entry
from .._codec.flat import FlatLists
from .._errors import FileError, UsageError
from .._source.aof_file import Unit

# (database in the target, key, expiry in ms or None)
Sampled = Tuple[int, bytes, Optional[int]]

_SAMPLE_MAX = 256
_PER_BATCH = 16
# A sampled key that is about to expire proves nothing when it is gone.
_EXPIRY_MARGIN_MS = 60_000


class Sample:
    """A bounded number of keys, spread over all that pass by."""

    def __init__(self) -> None:
        self.keys: List[Sampled] = []
        self._stride = 1
        self._count = 0

    def add(self, db: int, entries: List[Entry], flat: Optional[FlatLists] = None) -> None:
        """Look at one batch."""
        self._count += 1
        if self._count % self._stride:
            return
        for entry in entries[:: max(1, len(entries) // _PER_BATCH)]:
            self.keys.append((db, entry[1], entry[5]))
        if flat:
            self.keys += [(db, key, expire) for key, expire in flat.sample(_PER_BATCH)]
        while len(self.keys) > _SAMPLE_MAX:
            self.keys = self.keys[::2]
            self._stride *= 2

    def add_key(self, db: int, key: bytes, expire_ms: Optional[int]) -> None:
        """One key that came alone."""
        self.keys.append((db, key, expire_ms))


class Receipts:
    """The receipts for one target, in a folder of its own; it is made by :meth:`prepare`.

    ``choice`` is what makes two imports of one file different ones (filters, conflict policy).
    """

    def __init__(self, state_dir: str, target: str, choice: Dict[str, Any]) -> None:
        self._target = target
        self._folder = os.path.join(os.path.expanduser(state_dir), "imports", _digest(target))
        self._choice = _digest(json.dumps(choice, sort_keys=True))

    @property
    def journal(self) -> str:
        """Where the name of a key under construction is kept."""
        return os.path.join(self._folder, "unfinished.json")

    def find(self, unit: Unit) -> Optional[Dict[str, Any]]:
        """The receipt of this content, None where there is none; FileError where the folder cannot be looked into.

        The file is only read for its checksum when a receipt of the same size makes it worth while. A receipt that cannot be
        read costs another import, no more.
        """
        if not any(self._size(name) == unit.size for name in self._names()):
            return None
        try:
            with open(self._path(unit), encoding="utf-8") as handle:
                receipt = json.load(handle)
            receipt["sample"] = [(db, base64.b64decode(key), expire) for db, key, expire in receipt["sample"]]
            return receipt
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, unit: Unit, receipt: Dict[str, Any], sample: List[Sampled]) -> None:
        """Keep a receipt; FileError."""
        stored = dict(receipt)
        stored["sample"] = [[db, base64.b64encode(key).decode("ascii"), expire] for db, key, expire in sample]
        write_private(self._path(unit), json.dumps(stored, indent=1))

    def remove(self, unit: Unit) -> None:
        """What the receipt said is about to change; FileError."""
        if not any(self._size(name) == unit.size for name in self._names()):
            return
        try:
            os.unlink(self._path(unit))
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise unwritable(self._folder, exc) from exc

    def prepare(self) -> Any:
        """Make the folder and take its lock: one import into a target at a time.

        The lock goes with the returned handle, or with the process. FileError, UsageError.
        """
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            handle = os.fdopen(os.open(os.path.join(self._folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as exc:
            raise unwritable(self._folder, exc) from exc
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise UsageError(
                self._target, "another import into it is running on this host", "Wait for it to end, then run again"
            ) from None
        return handle

    def _names(self) -> List[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.startswith(self._choice + "-")]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise FileError(self._folder, "cannot be read: %s" % exc.strerror, "Set state_dir to a folder that can be written to") from exc

    @staticmethod
    def _size(name: str) -> Optional[int]:
        """The size of the file that the receipt is of; None for what somebody else put there."""
        part = name.split("-")[1]
        return int(part) if part.isdigit() else None

    def _path(self, unit: Unit) -> str:
        return os.path.join(self._folder, "%s-%d-%s.json" % (self._choice, unit.size, _digest(" ".join(part.fingerprint() for part in unit.parts))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def write_private(path: str, content: str) -> None:
    """Replace a file of mode 0600 in one step; FileError."""
    partial = path + ".partial"
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as exc:
        raise unwritable(os.path.dirname(path), exc) from exc


def still_due(sample: List[Sampled]) -> List[Sampled]:
    """The sampled keys that cannot have expired by now."""
    now = int(time.time() * 1000) + _EXPIRY_MARGIN_MS
    return [item for item in sample if item[2] is None or item[2] > now]


def unreadable_journal(path: str, exc: Exception) -> FileError:
    """The error for a note of what an earlier run left unfinished."""
    return FileError(path, "cannot be read: %s" % exc, "Remove it; keys of the run that was cut off count as the target's own then")


def unwritable(folder: str, exc: OSError) -> FileError:
    return FileError(folder, "cannot be written: %s" % exc.strerror, "Set state_dir to a folder that can be written to")
