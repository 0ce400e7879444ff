# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Backups inside .zip and .tar.gz, read as streams.

Nothing is extracted to disk, so names like ``../../etc/passwd`` are only names. What a hostile archive can claim is limited: headers
and directories are read up to ``MAX_HEADER`` bytes, members up to ``MAX_MEMBERS``, and content only block by block.

A member of a ``.zip`` starts at once. A member of a ``.tar.gz`` is reached by decompressing everything before it, on every pass,
so archives of many large shards are better zipped, or left unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

from .._errors import FileError
from .files import BLOCK, BackupFile, LocalFile, may_be_empty
from .readahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO, Union

    from .files import ObjectFile

    Container = Union[LocalFile, ObjectFile]

# One header, or the whole directory of a .zip, may have this many bytes: 100,000 members with long names fit.
MAX_HEADER = 32 << 20
MAX_MEMBERS = 100_000
# Compressed bytes given to zlib at a time. With a limited output per call it copies what it did not use.
_PACKED_BLOCK = 256 << 10
_SUFFIXES = (".rdb", ".aof", ".manifest")
_REPACK = "Pack the .rdb or .aof files again with zip (deflate) or tar -z, or name them unpacked"
_DAMAGED = "Copy or upload the archive again, and compare its checksum with the original's"
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, struct.error, LookupError)


class Member(BackupFile):
    """A backup inside an archive."""

    def __init__(self, container: Container, path: str, size: int, sha256: str | None = None) -> None:
        name = "%s!%s" % (container.name, path)
        folder = path.rpartition("/")[0]
        super().__init__(name, size, "%s!%s" % (container.name, folder), sha256)
        self.member = path
        self.container = container.name
        self.region = container.region
        self._container = container

    @property
    def retries(self) -> int:
        return self._container.retries

    def _remedy(self) -> str:
        return _DAMAGED


class ZipMember(Member):
    """A backup in a .zip; its CRC is compared behind the last byte."""

    def identity(self) -> str:
        """As of every file; inside an object ``<identity of the archive>!<path>``, so that nothing is downloaded for it."""
        if isinstance(self._container, LocalFile):
            return super().identity()
        return "%s!%s" % (self._container.identity(), self.member)

    def _read(self, size: int) -> Iterator[bytes]:
        with _zip(self._container) as archive, archive.open(self.member or "") as stream:
            while True:
                block = stream.read(size)
                if not block:
                    return
                yield block


class TarMember(Member):
    """A backup in a .tar.gz; sha256 is known from the pass that listed the archive."""

    def _read(self, size: int) -> Iterator[bytes]:
        packed = read_ahead(lambda: self._container._read(_PACKED_BLOCK), name="read " + self._container.name)
        with contextlib.closing(packed), _tar_faults(self._container.name):
            for path, _length, content in _tar_contents(gunzip(packed, size), size, self._container.name):
                if path == self.member:
                    yield from content
                    return


def zip_members(container: Container) -> list[BackupFile]:
    """The backups in a .zip.

    :raises FileError: damaged, encrypted, packed by another method than deflate, or without a backup
    """
    with _zip(container) as archive:
        entries = archive.infolist()
    members: list[BackupFile] = []
    ignored = []
    for entry in entries:
        if entry.is_dir():
            continue
        if not _wanted(entry.filename):
            ignored.append(entry.filename)
            continue
        member = ZipMember(container, entry.filename, entry.file_size)
        if entry.flag_bits & 1:
            raise FileError(member.name, "is encrypted", "Unpack it with its password and name the unpacked files")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileError(member.name, "is packed by method %d, which is not read" % entry.compress_type, _REPACK)
        members.append(member)
    return _checked(container.name, members, ignored)


def tar_members(container: Container) -> list[BackupFile]:
    """The backups in a .tar.gz; reads it once to its end, and knows every member's sha256 then.

    :raises FileError: damaged, truncated, or without a backup
    """
    members: list[BackupFile] = []
    ignored: list[str] = []
    with contextlib.closing(container.chunks(_PACKED_BLOCK)) as packed, _tar_faults(container.name):
        for path, length, content in _tar_contents(gunzip(packed, BLOCK), BLOCK, container.name, ignored):
            digest = hashlib.sha256()
            for block in content:
                digest.update(block)
            members.append(TarMember(container, path, length, digest.hexdigest()))
    return _checked(container.name, members, ignored)


def _wanted(path: str) -> bool:
    base = path.rpartition("/")[2].lower()
    return base.endswith(_SUFFIXES) and not base.startswith("._")


def _checked(archive: str, members: list[BackupFile], ignored: Sequence[str]) -> list[BackupFile]:
    """The members, once it is sure that there is a usable backup among them and every name is there once."""
    if not any(not member.is_manifest for member in members):
        held = ", ".join(ignored[:5]) or "nothing"
        if len(ignored) > 5:
            held += " and %d more" % (len(ignored) - 5)
        raise FileError(archive, "there is no .rdb or .aof file in it, but %s" % held, _REPACK)
    seen = set()
    for member in members:
        if member.name in seen:
            raise FileError(member.name, "is in the archive twice", _REPACK)
        seen.add(member.name)
        if not member.size and not may_be_empty(member.name):
            raise FileError(member.name, "is empty", "Take the backup again")
        member.ignored = tuple(ignored)
    return members


# --- .zip --------------------------------------------------------------------------------------------------------------


class _Capped:
    """A file that refuses to read absurd amounts at once: a size that a hostile header claims."""

    def __init__(self, handle: io.BufferedReader, name: str) -> None:
        self._handle = handle
        self._name = name
        self.seek = handle.seek
        self.tell = handle.tell
        self.seekable = handle.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_HEADER:
            raise FileError(self._name, "a header in it claims %d bytes" % size, _DAMAGED)
        return self._handle.read(size)


@contextlib.contextmanager
def _zip(container: Container) -> Iterator[zipfile.ZipFile]:
    """The opened archive; what zipfile raises inside becomes a FileError."""
    raw: BinaryIO = container.open()
    with raw, io.BufferedReader(raw, _PACKED_BLOCK) as handle:  # type: ignore[type-var]
        try:
            archive = zipfile.ZipFile(_Capped(handle, container.name))  # type: ignore[arg-type]
            if len(archive.infolist()) > MAX_MEMBERS:
                raise FileError(container.name, "it has more than %d members" % MAX_MEMBERS, _REPACK)
            with archive:
                yield archive
        except (NotImplementedError, RuntimeError) as exc:
            raise FileError(container.name, "it uses something that is not read: %s" % exc, _REPACK) from exc
        except _ZIP_FAULTS as exc:
            raise FileError(container.name, "the archive is damaged: %s" % exc, _DAMAGED) from exc
        except OSError as exc:
            raise FileError(container.name, "the archive cannot be read: %s" % exc, _DAMAGED) from exc


# --- .tar.gz -----------------------------------------------------------------------------------------------------------


def gunzip(packed: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Decompressed blocks of up to ``size`` bytes; several gzip members in a row and zero padding are accepted.

    :raises zlib.error: not gzip, or its CRC or length is wrong
    :raises EOFError: ends in the middle
    """
    inflate = zlib.decompressobj(31)
    for block in packed:
        while block:
            if inflate.eof:
                block = block.lstrip(b"\0")
                if not block:
                    break
                inflate = zlib.decompressobj(31)
            plain = inflate.decompress(block, size)
            block = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if plain:
                yield plain
    while not inflate.eof:
        plain = inflate.decompress(b"", size)
        if not plain:
            raise EOFError("the compressed data ends too early")
        yield plain


class _Forward:
    """What tarfile needs of a file, over blocks: read, tell, and seeking forward."""

    def __init__(self, blocks: Iterator[bytes], name: str) -> None:
        self._blocks = blocks
        self._name = name
        self._rest = memoryview(b"")
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        return self._position

    def some(self, limit: int) -> bytes:
        """Up to ``limit`` bytes, empty at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = memoryview(block)
        part = bytes(self._rest[:limit])
        self._rest = self._rest[limit:]
        self._position += len(part)
        return part

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise FileError(self._name, "a header in it claims %d bytes" % size, _DAMAGED)
        parts = []
        missing = size
        while missing:
            part = self.some(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        self.last = b"".join(parts)
        return self.last

    def seek(self, offset: int) -> None:
        while self._position < offset and self.some(offset - self._position):
            pass


def _tar_contents(
    plain: Iterator[bytes], size: int, name: str, ignored: list[str] | None = None
) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """``(path, bytes, blocks)`` of each backup in the archive, in order; read the blocks before going on.

    Reads to the very end, so that the sums behind it are compared. tarfile takes a damaged header in the middle, or a missing
    end, for the end: here the end must be the block of zeros that ends an archive.
    """
    stream = _Forward(plain, name)
    with contextlib.closing(tarfile.TarFile(fileobj=stream, mode="r")) as archive:  # type: ignore[arg-type]
        count = 0
        while True:
            entry = archive.next()
            if entry is None:
                break
            archive.members = []
            count += 1
            if count > MAX_MEMBERS:
                raise FileError(name, "it has more than %d members" % MAX_MEMBERS, _REPACK)
            if entry.isdir():
                continue
            path = entry.name[2:] if entry.name.startswith("./") else entry.name
            if not entry.isreg() or not _wanted(path):
                if ignored is not None:
                    ignored.append(path)
                continue
            if entry.issparse():
                raise FileError("%s!%s" % (name, path), "is stored as a sparse file, which is not read", _REPACK)
            yield path, entry.size, _content(stream, entry.size, size)
    if len(stream.last) != tarfile.BLOCKSIZE or any(stream.last):
        raise tarfile.ReadError("a header is wrong or the end is missing, at byte %d" % stream.tell())
    while stream.some(size):
        pass


def _content(stream: _Forward, length: int, size: int) -> Iterator[bytes]:
    while length:
        block = stream.some(min(size, length))
        if not block:
            raise EOFError("the archive ends inside a member")
        length -= len(block)
        yield block


@contextlib.contextmanager
def _tar_faults(name: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, struct.error) as exc:
        raise FileError(name, "the archive is damaged: %s" % exc, _DAMAGED) from exc
