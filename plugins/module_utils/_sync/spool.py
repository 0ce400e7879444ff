# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A buffer on disk between a writer and a reader in different processes: bytes go in at its end and stay where they are.

It is a folder of segments. A segment's name is the position of its first byte in 20 digits; position p has p bytes before it. A segment
ends where the next one begins, and that one is made only where bytes are to go in. So a reader needs no word from the writer: what it
can read is there, and where it reads nothing a file of the name of its position is where it goes on.

Errors of everything here: FileError.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from typing import Callable, List, Optional, Set, Tuple, Union

from .._errors import FileError

# Bytes of a segment: the unit in which the disk is given back.
SEGMENT = 64 << 20
# What a spool keeps of its applied bytes, and how many free bytes are too few for that.
_KEPT = 256 << 20
_SHORT = 64 << 20

_NAME = re.compile(r"\d{20}")
_WRITE = os.O_WRONLY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC

Data = Union[bytes, bytearray, memoryview]


class SpoolWriter:
    """The only writer of ``folder``: continues a spool that ends at ``position``, else starts an empty one there.

    ``segment``: bytes after which the next one begins. One thread writes; another may call :meth:`sync`.
    """

    def __init__(self, folder: str, position: int, segment: int = SEGMENT) -> None:
        self.position = position
        self._folder = folder
        self._segment = segment
        self._lock = threading.Lock()
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            found = bounds(folder)
            if found is not None and found[1] == position:
                names = _segments(folder)
                self._base = names[-1]
                self._handle = os.open(_path(folder, self._base), _WRITE)
                # Whoever wrote them may have ended before it synced them.
                self._unsynced = set(names)
            else:
                _remove(folder, _segments(folder))
                self._base = position
                self._handle = self._create(position)
                self._unsynced = {position}
        except OSError as exc:
            raise _failed(folder, exc) from exc
        self._new_names = True

    def write(self, data: Data) -> None:
        """Append all of it. After an error the spool is as it was before."""
        end = self.position
        left = memoryview(data)
        begun: List[int] = []
        base, handle = self._base, self._handle
        try:
            while left:
                room = self._segment - (end - base)
                if room <= 0:
                    handle, base, room = self._create(end), end, self._segment
                    begun.append(handle)
                done = os.pwrite(handle, left[:room], end - base)
                end += done
                left = left[done:]
        except OSError as exc:
            for other in begun:
                os.close(other)
            self._cut_back()
            raise _failed(self._folder, exc) from exc
        if begun:
            self._move_to(base, begun)
        self.position = end

    def _move_to(self, base: int, begun: List[int]) -> None:
        """Go on in the last of the segments that one write began."""
        for handle in [self._handle, *begun[:-1]]:
            os.close(handle)
        self._handle = begun[-1]
        with self._lock:
            self._unsynced.update(name for name in _segments(self._folder) if name >= self._base)
            self._new_names = True
        self._base = base

    def turn(self, segment: int) -> None:
        """Segments are of so many bytes from now on: the last one ends here where it has more."""
        if self.position - self._base > segment:
            try:
                handle = self._create(self.position)
            except OSError as exc:
                raise _failed(self._folder, exc) from exc
            self._move_to(self.position, [handle])
        self._segment = segment

    def _cut_back(self) -> None:
        """Let nothing half written stay; where even that fails, the next write overwrites it."""
        try:
            _remove(self._folder, [name for name in _segments(self._folder) if name > self._base])
            os.ftruncate(self._handle, self.position - self._base)
        except OSError:
            pass

    def _create(self, position: int) -> int:
        return os.open(_path(self._folder, position), _WRITE | os.O_CREAT | os.O_TRUNC, 0o600)

    def sync(self) -> int:
        """Bring what was written to the disk itself; the position up to which it is there now."""
        with self._lock:
            position, current = self.position, self._base
            names: Set[int] = self._unsynced | {current}
            self._unsynced = set()
            new_names, self._new_names = self._new_names, False
        try:
            for name in sorted(names):
                _sync_file(_path(self._folder, name), os.fdatasync)
            if new_names:
                _sync_file(self._folder, os.fsync)
        except OSError as exc:
            with self._lock:
                self._unsynced |= names
                self._new_names = True
            raise _failed(self._folder, exc) from exc
        return position

    def close(self) -> None:
        """Let go of it; nothing is synced."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class SpoolReader:
    """Reads from ``position`` on. The spool need not be there yet."""

    def __init__(self, folder: str, position: int) -> None:
        self.position = position
        self._folder = folder
        self._base = 0
        self._handle = -1

    def read(self, limit: int) -> bytes:
        """The next bytes, at most ``limit`` of them; none while there are none. FileError where they were trimmed away."""
        if self._handle < 0 and not self._find():
            return b""
        while True:
            try:
                data = os.pread(self._handle, limit, self.position - self._base)
            except OSError as exc:
                raise _failed(self._folder, exc, "read") from exc
            if data:
                self.position += len(data)
                return data
            if self.position == self._base or not self._open(self.position):
                return b""

    def _open(self, base: int) -> bool:
        try:
            handle = os.open(_path(self._folder, base), _READ)
        except FileNotFoundError:
            if not os.path.isdir(self._folder):
                raise self._gone() from None
            return False
        except OSError as exc:
            raise _failed(self._folder, exc, "read") from exc
        self.close()
        self._handle, self._base = handle, base
        return True

    def _find(self) -> bool:
        """Open the segment that holds the position; False while there is none."""
        names = _segments(self._folder)
        if not names:
            return False
        if names[0] > self.position:
            raise self._gone()
        return self._open(max(name for name in names if name <= self.position))

    def _gone(self) -> FileError:
        return FileError(self._folder, "does not hold position %d any more" % self.position, "Start the task anew")

    def close(self) -> None:
        """Let go of it; a later ``read`` would open it again."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def bounds(folder: str) -> Optional[Tuple[int, int]]:
    """The first position and the end; None where there is no spool."""
    names = _segments(folder)
    if not names:
        return None
    try:
        return names[0], names[-1] + os.stat(_path(folder, names[-1])).st_size
    except OSError as exc:
        raise _failed(folder, exc, "read") from exc


def cut(folder: str, position: int) -> None:
    """Drop everything from ``position`` on."""
    names = _segments(folder)
    kept = [name for name in names if name <= position]
    try:
        _remove(folder, names[len(kept) :])
        if kept:
            last = _path(folder, kept[-1])
            if os.stat(last).st_size > position - kept[-1]:
                os.truncate(last, position - kept[-1])
            _sync_file(last, os.fsync)
    except OSError as exc:
        raise _failed(folder, exc) from exc


def trim(folder: str, position: int) -> None:
    """Remove the segments that end at or before ``position``, but never the last one."""
    names = _segments(folder)
    try:
        # The first ones first: a spool has no holes, whenever this ends.
        for name, following in zip(names, names[1:]):
            if following <= position:
                os.unlink(_path(folder, name))
    except OSError as exc:
        raise _failed(folder, exc) from exc


def to_keep(limit: int, streams: int, free: int) -> int:
    """Applied bytes that each of so many spools keeps: a target that fails over may go back behind them. None where the disk is nearly full."""
    return min(_KEPT, limit // (4 * max(1, streams))) if free >= _SHORT else 0


def free(folder: str) -> int:
    """Bytes that its disk can still take."""
    try:
        stat = os.statvfs(folder)
    except OSError as exc:
        raise _failed(folder, exc, "read") from exc
    return stat.f_bavail * stat.f_frsize


def size(folder: str) -> int:
    """Bytes in all spools at and below ``folder``."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += size(entry.path)
                else:
                    total += _size_of(entry.path)
    except FileNotFoundError:
        pass  # removed while we looked
    except OSError as exc:
        raise _failed(folder, exc, "read") from exc
    return total


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _segments(folder: str) -> List[int]:
    """First positions of the segments, in order."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise _failed(folder, exc, "read") from exc


def _path(folder: str, position: int) -> str:
    return os.path.join(folder, "%020d" % position)


def _remove(folder: str, names: List[int]) -> None:
    """Remove segments, the last ones first: what is left when this is interrupted has no holes."""
    for name in reversed(names):
        os.unlink(_path(folder, name))


def _sync_file(path: str, how: Callable[[int], None]) -> None:
    """Any descriptor will do: the kernel syncs the file. One that was trimmed away needs no sync."""
    try:
        handle = os.open(path, _READ)
    except FileNotFoundError:
        return
    try:
        how(handle)
    finally:
        os.close(handle)


def _failed(folder: str, exc: OSError, doing: str = "written") -> FileError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileError(folder, "the disk is full", "Make room there; the task goes on from where it was")
    why = "cannot be %s: %s" % (doing, exc.strerror)
    return FileError(folder, why, "Check the disk of state_dir; the task goes on from where it was")
