# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Backup files as streams of bytes, wherever they are: local, in a bucket, inside a .zip or .tar.gz.

``open_files(paths)`` and ``open_objects(bucket, keys)`` look at everything named at once and return ``BackupFile`` objects; no
content stays in memory and nothing is written to disk. A ``.zip``, ``.tar.gz`` or ``.tgz`` yields one ``BackupFile`` for each backup in it;
everything else is one raw file, and its content decides what it is.

Reading one file holds at most ``readahead.DEPTH + 2`` blocks (8 MiB at the default block size).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from .._codec.crc64 import fingerprint
from .._errors import FileError, UsageError
from .readahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, BinaryIO

    from .._bucket.client import Bucket
    from .._bucket.objects import ObjectInfo

# Bytes per block. Smaller ones cost a thread switch more often, larger ones only memory.
BLOCK = 2 << 20
_CHANGED = "Do not write to backup files while they are read; take a new backup, or name a finished one"


class BackupFile:
    """One backup as bytes.

    ========== =================================================================================================
    name       for messages: ``/data/dump.rdb``, ``s3://bucket/key``, ``/data/a.zip!dir/dump.rdb``
    size       bytes of the decompressed content
    directory  the folder that holds it, in the same spelling as ``name``: members of one multi-part AOF share it
    basename   the last part of the path: ``appendonly.aof.1.incr.aof``
    member     path inside the archive, None outside of one
    container  the archive's name, None outside of one
    ignored    other things the archive holds and nobody reads (paths)
    region     of the bucket, None for local files and where the service does not say
    retries    how often a broken download was taken up again so far
    ========== =================================================================================================
    """

    def __init__(self, name: str, size: int, directory: str, sha256: str | None = None) -> None:
        self.name = name
        self.size = size
        self.directory = directory
        self.member: str | None = None
        self.container: str | None = None
        self.ignored: Sequence[str] = ()
        self.region: str | None = None
        self._sha256 = sha256

    def __repr__(self) -> str:
        return "<%s %s, %d bytes>" % (type(self).__name__, self.name, self.size)

    @property
    def basename(self) -> str:
        return (self.member or self.name).rpartition("/")[2]

    @property
    def is_manifest(self) -> bool:
        """It lists the parts of a Redis 7 AOF and holds no data itself."""
        return self.basename.lower().endswith(".manifest")

    @property
    def retries(self) -> int:
        return 0

    def identity(self) -> str:
        """Names the content: the sha256 in hex where it is known or can be had locally, else ``etag:<etag>-<size>``.

        A local file is read once for it.
        """
        if self._sha256 is None:
            for _block in read_ahead(lambda: self._verified(BLOCK, hashlib.sha256()), name="read " + self.name):
                pass
        return self._sha256 or ""

    def fingerprint(self) -> str:
        """Tells this content from others on this host, at the least cost; a local file that was read to its end knows it."""
        return self.identity()

    def chunks(self, size: int = BLOCK) -> Iterator[bytes]:
        """The content from its start, in blocks of up to ``size`` bytes, at every call anew.

        Exhaust it: the length and the sha256 (when known) are compared behind the last block.

        :raises FileError: unreadable, of another length or another sha256 than stated, damaged archive
        :raises BucketError: the download failed, beyond the retries
        """
        return read_ahead(lambda: self._verified(size), name="read " + self.name)

    def head(self, size: int) -> bytes:
        """The first ``size`` bytes, or all where there are fewer; FileError, BucketError."""
        with contextlib.closing(self._read(size)) as blocks:
            return next(blocks, b"")

    def _verified(self, size: int, digest: Any = None) -> Iterator[bytes]:
        expected = self._sha256
        if expected is not None:
            digest = hashlib.sha256()
        seen = 0
        for block in self._read(size):
            seen += len(block)
            if seen > self.size:
                raise FileError(self.name, "it holds more than the %d bytes stated" % self.size, self._remedy())
            if digest is not None:
                digest.update(block)
            yield block
        if seen != self.size:
            raise FileError(self.name, "it holds %d bytes where %d were stated" % (seen, self.size), self._remedy())
        if digest is None:
            return
        actual = digest.hexdigest()
        if expected is not None and actual != expected:
            raise FileError(
                self.name,
                "its content is not what it was: sha256 is %s, but %s was recorded" % (actual, expected),
                self._remedy(),
            )
        self._sha256 = actual

    def _remedy(self) -> str:
        return _CHANGED

    def _read(self, size: int) -> Iterator[bytes]:
        raise NotImplementedError


class LocalFile(BackupFile):
    """A file on this host."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__(path, size, os.path.dirname(path) or ".")
        self._fingerprint = ""

    def open(self) -> BinaryIO:
        """The file for reading with seeks; unbuffered."""
        try:
            return open(self.name, "rb", buffering=0)
        except OSError as exc:
            raise _unreadable(self.name, exc) from exc

    def fingerprint(self) -> str:
        if not self._fingerprint:
            for _block in self.chunks():
                pass
        return self._fingerprint

    def _verified(self, size: int, digest: Any = None) -> Iterator[bytes]:
        crc = 0
        for block in super()._verified(size, digest):
            crc = fingerprint(block, crc)
            yield block
        self._fingerprint = "crc64:%016x-%d" % (crc, self.size)

    def _read(self, size: int) -> Iterator[bytes]:
        with self.open() as handle:
            while True:
                try:
                    block = handle.read(size)
                except OSError as exc:
                    raise _unreadable(self.name, exc) from exc
                if not block:
                    return
                yield block


class ObjectFile(BackupFile):
    """An object in a bucket."""

    def __init__(self, bucket: Bucket, info: ObjectInfo) -> None:
        super().__init__(bucket.url(info.key), info.size, bucket.url(info.key).rpartition("/")[0], info.sha256)
        self.region = bucket.region
        self._bucket = bucket
        self._info = info
        self._resumed = 0

    @property
    def retries(self) -> int:
        return self._resumed

    def identity(self) -> str:
        """The sha256 stored with the object, else ``etag:<etag>-<size>``; the object is not read for it."""
        return self._info.sha256 or "etag:%s-%d" % (self._info.etag, self._info.size)

    def open(self) -> BinaryIO:
        """The object for reading with seeks: each seek is a ranged request, reading on from there is a stream."""
        from .._bucket.objects import ObjectReader

        return ObjectReader(self._bucket, self._info, self._count)

    def _count(self) -> None:
        self._resumed += 1

    def head(self, size: int) -> bytes:
        from .._bucket.objects import read_object

        # By a range: a service goes on reading for a while when a whole object was asked for and the connection is closed.
        return b"".join(read_object(self._bucket, self._info, size, on_resume=self._count, stop=size))

    def _read(self, size: int) -> Iterator[bytes]:
        from .._bucket.objects import read_object

        return read_object(self._bucket, self._info, size, on_resume=self._count)

    def _remedy(self) -> str:
        return "Upload the file again (dcs.migration.bucket_upload with force=true), and find out who else writes to the bucket"


def open_files(paths: Iterable[str]) -> list[BackupFile]:
    """Local backup files and the members of local archives, in the order named.

    :raises FileError: missing, not readable, a directory, empty, or an archive that is damaged or holds no backup
    :raises UsageError: no path, or the same one twice
    """
    found: list[BackupFile] = []
    for local in local_files(paths):
        found += _expand(local)
    return found


def local_files(paths: Iterable[str]) -> list[LocalFile]:
    """As ``open_files``, but archives stay what they are: files.

    :raises FileError: missing, not readable, a directory, empty
    :raises UsageError: no path, or the same one twice
    """
    names = [os.path.expanduser(path) for path in paths]
    _refuse_none_or_twice(names, "files")
    return [LocalFile(path, _usable_size(path)) for path in names]


def open_objects(bucket: Bucket, keys: Iterable[str]) -> list[BackupFile]:
    """Backup objects and the members of archives in the bucket, in the order named.

    A key that does not begin with the bucket's prefix is taken as relative to it. ``.zip`` is read by ranges; ``.tar.gz`` must
    be read to its end once to know what is in it (its members' sha256 come out of the same pass).

    :raises BucketError: no such bucket or object, no access, an archived object
    :raises FileError: empty, or an archive that is damaged or holds no backup
    :raises UsageError: no key, or the same one twice
    """
    from .._bucket.objects import head

    names = [bucket.key(key) for key in keys]
    _refuse_none_or_twice(names, "objects")
    found: list[BackupFile] = []
    for key in names:
        info = head(bucket, key)
        if not info.size and not may_be_empty(key):
            raise _empty(bucket.url(key))
        found += _expand(ObjectFile(bucket, info))
    return found


def may_be_empty(path: str) -> bool:
    """The incremental part of a multi-part AOF is empty until the first write after a rewrite."""
    return path.lower().endswith(".incr.aof")


def _expand(backup: LocalFile | ObjectFile) -> list[BackupFile]:
    """The file itself, or the backups in it when its name says that it is an archive."""
    from . import archives

    lower = backup.name.lower()
    if lower.endswith(".zip"):
        return archives.zip_members(backup)
    if lower.endswith((".tar.gz", ".tgz")):
        return archives.tar_members(backup)
    return [backup]


def _refuse_none_or_twice(names: Sequence[str], option: str) -> None:
    if not names:
        raise UsageError(option, "is empty", "Name at least one backup")
    seen = set()
    for name in names:
        if name in seen:
            raise UsageError(option, "names %s more than once" % name, "Name every backup once")
        seen.add(name)


def _usable_size(path: str) -> int:
    """Bytes in the file, once it is sure that it can be read."""
    if "\0" in path:
        raise FileError(repr(path), "holds a NUL character, as no path does", "Check the path")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise FileError(path, "is a directory", "Name the backup files in it, one by one")
        if not stat.S_ISREG(status.st_mode):
            raise FileError(path, "is not a regular file", "A backup is read more than once: write it into a file first")
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    if not status.st_size and not may_be_empty(path):
        raise _empty(path)
    return status.st_size


def _empty(name: str) -> FileError:
    return FileError(name, "is empty", "Take the backup again; check that the disk was not full and the copy had ended")


def _unreadable(path: str, exc: OSError) -> FileError:
    if exc.errno == errno.ENOENT:
        return FileError(path, "does not exist on this host", "Check the path, and that the task runs where the file is")
    if exc.errno in (errno.EACCES, errno.EPERM):
        return FileError(path, "may not be read by this user", "Give the user read access to the file and its folders, or use become")
    return FileError(path, "cannot be read: %s" % (exc.strerror or exc), "Check the disk or the file system it is on")
