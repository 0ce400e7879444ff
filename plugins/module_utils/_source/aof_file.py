# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Backup files put together to what is imported as one: a snapshot, an AOF, or an AOF in several parts.

``group(files)`` sorts what the user named by content and by manifests; ``AofStream(unit)`` reads one of the results from its start: first the
snapshot in it, if there is one, then the commands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .._codec.aof import HISTORY, INCREMENT, AofReader, Command, parse_manifest
from .._codec.errors import CodecError, TruncatedError
from .._codec.events import Aux, Event
from .._codec.rdb import RdbScanner
from .._errors import FileError
from .rdb_file import CHUNK, Rest, events_of, header_of, looks_like, not_a_backup

if TYPE_CHECKING:
    from .files import BackupFile

# What one unit is.
RDB, AOF, MULTI_PART = "rdb", "aof", "multi_part_aof"

# The AUX fields that tell whether commands follow a snapshot stand within the first few hundred bytes.
_HEAD = 2048
_MANIFEST_MAX = 1 << 20
_PART = re.compile(r"(?P<stem>.+)\.(?P<seq>\d+)\.(?P<kind>base|incr)\.(?:aof|rdb)$", re.IGNORECASE)
_ALL_PARTS = "Name the manifest and every file it lists, all from one folder or archive (appendonlydir)"


class Unit(NamedTuple):
    """Files that are imported as one. ``kind`` is RDB, AOF or MULTI_PART; ``parts`` are in the order they are read.

    ``name`` stands in messages; of a multi-part AOF it is the manifest's. ``ignored`` are files that lie beside and are not read (history).
    """

    kind: str
    name: str
    parts: Tuple[BackupFile, ...]
    manifest: Optional[BackupFile] = None
    ignored: Tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(part.size for part in self.parts)


def group(files: Sequence[BackupFile]) -> List[Unit]:
    """The units, in the order in which their first file was named.

    :raises FileError: a part that the manifest lists is missing, parts without a manifest, a damaged manifest, no backup at all
    :raises BucketError: a download failed
    """
    heads = {file.name: _head(file) for file in files}
    folders: Dict[str, Dict[str, BackupFile]] = {}
    for file in files:
        folders.setdefault(file.directory, {})[file.basename] = file
    units: Dict[str, Unit] = {}
    taken: Set[str] = set()
    for file in files:
        if _is_manifest(file, heads[file.name]):
            unit = _multi_part(file, folders[file.directory])
            taken.add(file.name)
            taken.update(part.name for part in unit.parts)
            taken.update(unit.ignored)
            first = next(other.name for other in files if other is file or other in unit.parts)
            units[first] = unit
    for file in files:
        if file.name not in taken:
            _refuse_lost_part(file)
            units[file.name] = Unit(_kind(file, heads[file.name]), file.name, (file,))
    return [units[file.name] for file in files if file.name in units]


def _head(file: BackupFile) -> bytes:
    """The first bytes; for an empty file none."""
    if not file.size:
        return b""
    return file.head(_HEAD)


def _is_manifest(file: BackupFile, head: bytes) -> bool:
    return file.is_manifest or bool(re.match(rb"file \S.* seq \d+ type [bhi]\s", head))


def _kind(file: BackupFile, head: bytes) -> str:
    """RDB or AOF, by content; a snapshot is an AOF's when the server that wrote it said so."""
    if not head or head[:1] in (b"*", b"#"):
        return AOF
    if not header_of(head).version:
        raise not_a_backup(file, head)
    scanner = RdbScanner()
    try:
        for event in scanner.feed(head):
            if isinstance(event, Aux) and event.key in (b"aof-preamble", b"aof-base"):
                return AOF if event.value == b"1" else RDB
    except CodecError:
        pass  # whoever reads it says so, with all there is to say
    return RDB


def _multi_part(manifest: BackupFile, beside: Dict[str, BackupFile]) -> Unit:
    if manifest.size > _MANIFEST_MAX:
        raise FileError(manifest.name, "is %d bytes long, which is no manifest" % manifest.size, _ALL_PARTS)
    try:
        listed = parse_manifest(b"".join(manifest.chunks()))
    except CodecError as exc:
        raise FileError(
            "%s at byte %d" % (manifest.name, exc.offset or 0), exc.reason, "Copy the folder again while the server does not rewrite"
        ) from exc
    parts = []
    for part in listed:
        if part.type == HISTORY:
            continue
        file = beside.get(part.name)
        if file is None:
            raise FileError(
                "%s/%s" % (manifest.directory, part.name), "is listed in %s but was not named" % manifest.name, _ALL_PARTS
            )
        parts.append(file)
    stem = re.sub(r"\.manifest$", "", manifest.basename, flags=re.IGNORECASE)
    ignored = [
        file.name for file in beside.values() if file not in parts and file is not manifest and _is_part_of(file.basename, stem)
    ]
    return Unit(MULTI_PART, manifest.name, tuple(parts), manifest, tuple(ignored))


def _is_part_of(basename: str, stem: str) -> bool:
    match = _PART.match(basename)
    return match is not None and match.group("stem") == stem


def _refuse_lost_part(file: BackupFile) -> None:
    """A part by itself would be imported without the rest, and nobody would know."""
    match = _PART.match(file.basename)
    if match is not None:
        raise FileError(
            file.name,
            "is one part of an AOF, and %s.manifest, which lists all of them, was not named" % match.group("stem"),
            "%s; to import this one file all the same, copy it under another name" % _ALL_PARTS,
        )


class AofStream:
    """One pass over a unit: exhaust :meth:`events` (the snapshot, where it is wanted), then :meth:`commands`.

    Positions of commands count through all parts; :meth:`where` turns one into the part's name and the position in it.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._starts: List[int] = []
        start = 0
        for part in unit.parts:
            self._starts.append(start)
            start += part.size
        self._chunks: Optional[Iterator[bytes]] = None
        self._snapshot: Optional[Iterator[object]] = None
        self._rest: Optional[Rest] = None
        self._head = b""
        self._begun = False

    def where(self, offset: int) -> str:
        """``<name> at byte <n>`` of a position that a command came with."""
        index = max(number for number, start in enumerate(self._starts) if start <= offset)
        return "%s at byte %d" % (self.unit.parts[index].name, offset - self._starts[index])

    def close(self) -> None:
        """Stop reading; needed only where the pass does not come to its end."""
        for source in (self._snapshot, self._chunks):
            if source is not None and hasattr(source, "close"):
                source.close()

    def events(self, unpack: bool = True) -> Iterator[Event]:
        """The events of the snapshot with which the unit begins; none where it begins with commands. ``unpack`` as for the scanner.

        :raises FileError: truncated, damaged or of an unknown kind
        :raises BucketError: the download failed
        """
        self._begun = True
        if not self.unit.parts:
            return
        file = self.unit.parts[0]
        self._chunks = file.chunks(CHUNK)
        self._head = next(self._chunks, b"")
        if not header_of(self._head).version:
            return
        self._snapshot = events_of(file, _again(self._head, self._chunks), unpack=unpack)
        self._head = b""
        for event in self._snapshot:
            if isinstance(event, Rest):
                self._rest = event
                return
            yield event
        self._chunks = None

    def commands(self) -> Iterator[Command]:
        """The commands behind the snapshot, through all parts; the snapshot is passed over if nobody asked for it.

        :raises FileError: truncated (with the position of the first incomplete command or MULTI), damaged, no AOF
        :raises BucketError: the download failed
        """
        if not self._begun:
            for _event in self.events(unpack=False):
                pass
        for index, file in enumerate(self.unit.parts):
            if index:
                self._chunks = file.chunks(CHUNK)
                yield from self._part(file, self._chunks, self._starts[index], self._starts[index] + file.size)
            elif self._rest is not None:
                yield from self._part(file, self._rest.chunks, self._rest.offset, file.size)
                for _nothing in self._snapshot or ():
                    pass
            elif self._chunks is not None:
                yield from self._part(file, _again(self._head, self._chunks), 0, file.size)
            self._chunks = None

    def _part(self, file: BackupFile, chunks: Iterator[bytes], base: int, end: int) -> Iterator[Command]:
        reader = AofReader(base, end)
        first = True
        try:
            for chunk in chunks:
                if first and chunk[:1] not in (b"*", b"#"):
                    raise self._no_commands(file, chunk)
                first = False
                yield from reader.feed(chunk)
            yield from reader.close()
        except CodecError as exc:
            raise self._explain(exc) from exc

    def _no_commands(self, file: BackupFile, head: bytes) -> FileError:
        if header_of(head).version:
            return FileError(file.name, "is a snapshot, but only the base of an AOF may be one", _ALL_PARTS)
        if file is self.unit.parts[0]:
            return not_a_backup(file, head)
        return FileError(file.name, "is not an AOF: it is %s" % looks_like(head), "Copy the folder again")

    def _explain(self, exc: CodecError) -> FileError:
        what = self.where(exc.offset or 0)
        if isinstance(exc, TruncatedError):
            return FileError(
                what,
                "truncated: %s" % self._local(exc.reason),
                "Copy it again; if the original ends there too, cut a copy with redis-check-aof --fix and import that",
            )
        return FileError(
            what, "damaged: %s" % self._local(exc.reason), "Copy it again; if that does not help, make a new backup"
        )

    def _local(self, reason: str) -> str:
        """A reason names positions as they count through all parts; in a message they are those of the part."""
        return re.sub(r"\bbyte (\d+)", lambda match: self.where(int(match.group(1))).rpartition(" at ")[2], reason)


def _again(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """``rest`` with what was read before put back in front."""
    if head:
        yield head
    yield from rest


__all__ = ["AOF", "INCREMENT", "MULTI_PART", "RDB", "AofStream", "Unit", "group"]
