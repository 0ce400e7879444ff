# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A backup file as the events of a snapshot, and what is wrong with it in words.

``events(file)`` gives what :class:`.rdb.RdbScanner` finds. Where an AOF follows the snapshot (the RDB preamble of Redis 4 to 6) the last
event is a :class:`Rest` with which to go on reading.
"""

from __future__ import annotations

import codecs
import re
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Iterator, NamedTuple, Optional, Tuple, Union

from .._codec import types as t
from .._codec.errors import ChecksumError, CodecError, TruncatedError, UnsupportedError
from .._codec.events import Aux, Event, Header
from .._codec.flat import FlatFormat
from .._codec.rdb import BIG_VALUE, RdbScanner
from .._errors import FileError

if TYPE_CHECKING:
    from .files import BackupFile

# Bytes given to the scanner at a time: few enough for the processor's cache, which is a tenth faster than a whole MiB.
CHUNK = 1 << 18
# Enough to tell what a file is.
_HEAD = 512
_AOF_MARKS = (b"*", b"#")

_COPY_AGAIN = "Copy or upload it again and compare size and checksum with the original; if they agree, make a new backup"
_NEWER_TOOL = "Update this collection, or migrate online, or make the backup with method=scan"
_NOT_RDB = "Name the .rdb or .aof file that the server wrote"


class Rest(NamedTuple):
    """What follows the snapshot: commands that begin at byte ``offset``. Exhaust ``chunks`` before the next event is asked for."""

    offset: int
    chunks: Iterator[bytes]


FileEvent = Union[Event, Rest]


def events(file: BackupFile, big: int = BIG_VALUE, flat: Optional[FlatFormat] = None, unpack: bool = True) -> Iterator[FileEvent]:
    """The events of the file's snapshot, from its start; a :class:`Rest` comes last where commands follow.

    Values of more than ``big`` bytes come in parts; ``flat`` and ``unpack`` are the scanner's.
    At most a few chunks, or one entry that has to be whole, are in memory.

    :raises FileError: not a snapshot, truncated, damaged or of an unknown kind, and as ``file.chunks``; events before it are valid
    :raises BucketError: the download failed
    """
    with closing(file.chunks(CHUNK)) as chunks:
        yield from events_of(file, chunks, big, flat, unpack)


def events_of(
    file: BackupFile, chunks: Iterator[bytes], big: int = BIG_VALUE, flat: Optional[FlatFormat] = None, unpack: bool = True
) -> Iterator[FileEvent]:
    """As :func:`events`, for whoever has read into the file already; ``chunks`` are its bytes from the start."""
    scanner = RdbScanner(file.size, big, flat, unpack)
    writer = _Writer()
    head = b""
    try:
        for chunk in chunks:
            if len(head) < _HEAD:
                head += chunk[: _HEAD - len(head)]
            for event in scanner.feed(chunk):
                if isinstance(event, Aux):
                    writer.note(event)
                yield event
            if scanner.done:
                break
        else:
            yield from scanner.close()
    except CodecError as exc:
        raise _explain(file, exc, head, scanner, writer) from exc
    yield from _behind(file, scanner, chunks)


def header(file: BackupFile) -> Header:
    """Version and dialect of the snapshot the file begins with; version 0 where it does not begin with one.

    :raises FileError: not readable
    :raises BucketError: the download failed
    """
    return header_of(file.head(_HEAD))


def header_of(head: bytes) -> Header:
    """As :func:`header`, for the first bytes of a file; an unknown version is told as it is."""
    magic = next((magic for magic in (b"REDIS", b"VALKEY") if head.startswith(magic)), None)
    digits = head[len(magic) : 9] if magic else b""
    if magic is None or not digits.isdigit() or len(head) < 9:
        return Header(0, t.REDIS)
    version = int(digits)
    return Header(version, t.dialect_of(version, magic))


class _Writer:
    """Who wrote the file, as its AUX fields tell."""

    def __init__(self) -> None:
        self.name = ""

    def note(self, aux: Aux) -> None:
        if aux.key.endswith(b"-ver") and (not self.name or aux.key != b"redis-ver"):
            product = aux.key[:-4].decode("utf-8", "backslashreplace").capitalize()
            self.name = "%s %s" % (product, aux.value[:40].decode("utf-8", "backslashreplace"))


def _behind(file: BackupFile, scanner: RdbScanner, chunks: Iterator[bytes]) -> Iterator[FileEvent]:
    """Read on behind the snapshot: nothing may follow, or an AOF."""
    tail = scanner.rest
    while not tail:
        chunk = next(chunks, None)
        if chunk is None:
            return
        tail = chunk
    if not tail.startswith(_AOF_MARKS):
        raise FileError(
            "%s at byte %d" % (file.name, scanner.offset),
            "%d bytes follow the end of the snapshot, and they are %s" % (file.size - scanner.offset, looks_like(tail)),
            "Find out who appended them; copy the original again",
        )
    reader = _Once(chain((tail,), chunks))
    yield Rest(scanner.offset, reader)
    if not reader.exhausted:
        # Left unread they would be lost without a word.
        raise FileError(
            "%s at byte %d" % (file.name, scanner.offset),
            "commands follow the snapshot, and they were not read",
            "Report this: it is a defect of this collection",
        )


class _Once:
    """An iterator that knows whether it was read to its end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.exhausted = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            self.exhausted = True
            raise


def _explain(file: BackupFile, exc: CodecError, head: bytes, scanner: RdbScanner, writer: _Writer) -> FileError:
    """A scanner's complaint as an error that names file, position, reason and what to do."""
    if not scanner.version and not header_of(head).version:
        return not_a_backup(file, head)
    what = "%s at byte %d" % (file.name, exc.offset or 0)
    why, remedy = exc.reason, _COPY_AGAIN
    if isinstance(exc, TruncatedError):
        why = "truncated: %s" % exc.reason
    elif isinstance(exc, ChecksumError):
        why = "damaged: %s" % exc.reason
    elif isinstance(exc, UnsupportedError):
        remedy = _NEWER_TOOL
    else:
        why = "damaged, or written by a server with a format of its own: %s" % exc.reason
    if writer.name and not isinstance(exc, (TruncatedError, ChecksumError)):
        why += " (it was written by %s)" % writer.name
    return FileError(what, why, remedy)


def not_a_backup(file: BackupFile, head: bytes) -> FileError:
    """The error for a file that is neither RDB nor AOF; ``head`` are its first bytes."""
    found, remedy = _identify(head)
    return FileError(file.name, "is not an RDB or AOF file: it is %s" % found, remedy)


def looks_like(head: bytes) -> str:
    """What bytes seem to be, in words: ``a gzip file``, ``commands of an AOF``, ``text``, ..."""
    return _identify(head)[0]


_UNPACK = "Unpack it first; archives are read only when they are named .zip, .tar.gz or .tgz"
_MAGICS: Tuple[Tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (b"\x04\x22\x4d\x18", "an lz4 file", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"REDIS", "a snapshot whose version cannot be read", _COPY_AGAIN),
    (b"VALKEY", "a snapshot whose version cannot be read", _COPY_AGAIN),
    (b"#TS:", "an AOF with timestamps", _NOT_RDB),
    (b"file ", "the manifest of a multi-part AOF", "Name the files it lists together with it"),
    (b"<?xml", "an XML text, perhaps the error page of a bucket", "Look at the text in it, and download the file again"),
    (b"<", "an HTML text, perhaps an error page", "Look at the text in it, and download the file again"),
    (b"{", "a JSON text", _NOT_RDB),
    (b"[", "a JSON text", _NOT_RDB),
    (b"SQLite format 3", "an SQLite database", _NOT_RDB),
    (b"\x7fELF", "a program", _NOT_RDB),
)
_RESP = re.compile(rb"\*\d+\r\n")
_ERROR = re.compile(rb"-[A-Z]+ [^\r]*\r?\n")
_PAYLOAD = re.compile(rb"\$(\d+|EOF:[0-9a-f]{40})\r\n")


def _identify(head: bytes) -> Tuple[str, str]:
    """What the bytes seem to be, and what to do about it."""
    if not head:
        return "empty", "Make the backup again; check that the disk was not full and the copy had ended"
    if _RESP.match(head):
        return "commands of an AOF", _NOT_RDB
    if _PAYLOAD.match(head):
        return "the raw reply to SYNC, not a file a server wrote", "Make the backup with redis-cli --rdb or dcs.migration.backup"
    if _ERROR.match(head):
        return "an error reply of a server", "Look at the text in it, and make the backup again"
    for magic, name, remedy in _MAGICS:
        if head.startswith(magic):
            return name, remedy
    head = head[:_HEAD]
    if not head.strip(b"\0"):
        return "zeros", "A copy was interrupted or a disk is damaged: copy it again"
    if _is_text(head):
        return "text", _NOT_RDB
    return "unknown data that begins with %r" % bytes(head[:12]), "%s; if it is encrypted, decrypt it first" % _NOT_RDB


def _is_text(data: bytes) -> bool:
    if any(byte < 32 and byte not in b"\t\r\n" for byte in data):
        return False
    try:
        # Not final: the cut may go through a character.
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True
