# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Backup files on this host's disk: nothing of them is visible under its final name before it is complete and on the disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from contextlib import suppress
from typing import BinaryIO, Iterator, List, NoReturn, Optional, Protocol, Tuple

from .._codec import types as t
from .._codec.rdb_writer import RdbWriter
from .._errors import FileError
from .._server.versions import Product

PARTIAL = ".partial"
# Bytes collected before a write: entries of some hundred bytes each would cost more in calls than in writing.
_BUFFER = 1 << 20
# After this many bytes they are sent towards the disk, so that the last fsync does not have to wait for gigabytes.
_SYNC_EVERY = 64 << 20
_NO_AUX_BEFORE = 7  # the RDB version that brought facts about the file

_DISK_REMEDIES = {
    errno.ENOSPC: "Free space, or choose a dest on a larger disk",
    errno.EDQUOT: "Raise the quota, or choose another dest",
    errno.EACCES: "Give the user that runs the task the right to write there, or choose another dest",
    errno.EPERM: "Give the user that runs the task the right to write there, or choose another dest",
    errno.EROFS: "The file system is mounted read-only: choose another dest",
    errno.ENOTDIR: "dest is a folder: name one, or leave it to be made",
}


def disk_error(path: str, exc: OSError, doing: str = "cannot be written") -> FileError:
    """An error of the operating system in words, with what to do about it."""
    why = "%s: %s" % (doing, exc.strerror or exc)
    return FileError(path, why, _DISK_REMEDIES.get(exc.errno or 0, "Check the disk and the path"))


class PartialFile:
    """A file that grows under ``<path>.partial`` (mode 0600) until ``finish`` and ``publish``; a context manager that removes it
    on the way out unless it was published.

    ``size`` and ``sha256`` are those of what was written. Two runs that write the same file at once are told apart by a lock; a crash
    leaves a ``.partial`` behind that the next run overwrites. Errors: FileError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self._partial = path + PARTIAL
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._finished = False
        self._published = False
        try:
            self._file = self._open()
        except BlockingIOError as exc:
            raise FileError(path, "another run writes this file right now", "Wait for it, or choose another dest or name") from exc
        except OSError as exc:
            raise disk_error(path, exc) from exc

    def _open(self) -> BinaryIO:
        """Create or take over the partial file, locked and empty."""
        while True:
            descriptor = os.open(self._partial, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_named(descriptor, self._partial):
                    os.fchmod(descriptor, 0o600)
                    os.ftruncate(descriptor, 0)
                    return os.fdopen(descriptor, "wb", buffering=0)
                os.close(descriptor)  # another run gave it its final name between our open and our lock
            except BaseException:
                os.close(descriptor)
                raise

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self._published:
            with suppress(OSError):
                os.unlink(self._partial)
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
            self._hash.update(data)
            self.size += len(data)
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_EVERY:
                os.fdatasync(self._file.fileno())
                self._unsynced = 0
        except OSError as exc:
            self._fail(exc)

    def restart(self) -> None:
        """Forget what was written: the source is read again."""
        try:
            os.ftruncate(self._file.fileno(), 0)
            self._file.seek(0)
        except OSError as exc:
            self._fail(exc)
        self.size = self._unsynced = 0
        self._hash = hashlib.sha256()

    def finish(self) -> None:
        """All is written: get it onto the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as exc:
            self._fail(exc)
        self._finished = True

    def publish(self) -> None:
        """Give it its name, in place of what had it before."""
        if not self._finished:
            self.finish()
        try:
            os.rename(self._partial, self.path)
            self._published = True
            sync_folder(os.path.dirname(self.path))
        except OSError as exc:
            self._fail(exc)

    def _fail(self, exc: OSError) -> NoReturn:
        raise disk_error(self.path, exc, "cannot be written beyond byte %d" % self.size) from exc


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def sync_folder(folder: str) -> None:
    """Make names in a folder lasting; OSError."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Output(Protocol):
    """What takes the file's bytes: a PartialFile, or what makes something else of them."""

    def write(self, data: bytes) -> None: ...


class _Writer(RdbWriter):
    """Also writes an entry whose body comes in parts."""

    def more(self, data: bytes) -> bytes:
        """The next part of the body that the last entry began."""
        return self._out(data)


class RdbFileSink:
    """Entries into an RDB file. The version has to be known at the first of them: a server writes the same into all payloads."""

    def __init__(self, file: Output, product: Product, functions: Tuple[bytes, ...] = ()) -> None:
        self.version: Optional[int] = None
        self._file = file
        self._product = product
        self._functions = functions
        self._writer: Optional[_Writer] = None
        self._buffer: List[bytes] = []
        self._buffered = 0

    def add(self, db: int, key: bytes, type_byte: int, body: bytes, expire_ms: Optional[int], rdb_version: int) -> None:
        """One whole key; ``rdb_version`` as its payload says."""
        self._put(self._begin(rdb_version).entry(db, type_byte, key, body, expire_ms))

    def add_parts(
        self, db: int, key: bytes, type_byte: int, parts: Iterator[bytes], expire_ms: Optional[int], rdb_version: int
    ) -> None:
        """One key whose body is too large to be held."""
        writer = self._begin(rdb_version)
        self._put(writer.entry(db, type_byte, key, b"", expire_ms))
        for part in parts:
            self._put(writer.more(part))

    def close(self, rdb_version: int) -> None:
        """The end of the file; ``rdb_version`` counts where it has no key."""
        self._put(self._begin(self.version or rdb_version).trailer())
        self._flush()

    def _begin(self, rdb_version: int) -> _Writer:
        if self._writer is None:
            self.version = rdb_version
            self._writer = _Writer(rdb_version, t.dialect_of(rdb_version))
            self._put(self._writer.header(self._facts() if rdb_version >= _NO_AUX_BEFORE else ()))
            for code in self._functions:
                self._put(self._writer.function(code))
        elif rdb_version > (self.version or 0):
            raise FileError(
                "RDB file of %s %s" % (self._product.name, self._product.version),
                "a value has RDB version %d, but the file was begun with %d" % (rdb_version, self.version or 0),
                "The server was replaced meanwhile: run again",
            )
        return self._writer

    def _facts(self) -> Tuple[Tuple[bytes, bytes], ...]:
        name = self._product.name if self._product.name == "valkey" else "redis"
        return (
            (name.encode() + b"-ver", self._product.version.encode()),
            (b"redis-bits", b"64"),
            (b"ctime", b"%d" % time.time()),
        )

    def _put(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer) if len(self._buffer) > 1 else self._buffer[0] if self._buffer else b""
        self._buffer, self._buffered = [], 0
        self._file.write(data)
