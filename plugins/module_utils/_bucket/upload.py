# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Files into a bucket: whole or not at all, and only when they are not there already.

The sha256 of the content travels with the object as user metadata. It must be known when the upload begins, so a file is read
twice; the second reading, the one that is sent, is compared with it, so that a file that changes in between is noticed before
the upload is completed. A multipart upload is visible only once completed; on any failure, an interrupt included, it is aborted.

s3transfer does the parts. It gets the file as something that can only be read onwards, which makes it read the parts in
order, from one thread: what is sent is what is hashed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import BucketError
from .objects import SHA256_KEY, ObjectInfo, find, head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from .client import Bucket

    class Source(Protocol):
        """A file to send; ``BackupFile`` is one."""

        name: str
        size: int

        def identity(self) -> str: ...

        def chunks(self, size: int = ...) -> Iterator[bytes]: ...


# Bytes per part, and the size above which a file is sent in parts. S3 wants at least 5 MiB; 8 MiB keeps four requests busy on
# a fast line with little memory.
PART = 8 << 20
# S3 and OBS accept 10,000 parts: larger files get larger parts.
MAX_PARTS = 9_000
# Parts held in memory at once, one request each, as long as they fit into PARTS_MEMORY.
PARTS_IN_FLIGHT = 4
PARTS_MEMORY = 64 << 20


class Uploaded:
    """What is in the bucket now (or would be, in a dry run).

    key, size (bytes), sha256; etag (None when it would be sent only now); uploaded: it was (would be) sent;
    verified: the service kept the sha256 with the object, so that every later reading is compared with it.
    """

    def __init__(self, info: ObjectInfo, etag: str | None, sha256: str, uploaded: bool) -> None:
        self.key = info.key
        self.size = info.size
        self.etag = etag
        self.sha256 = sha256
        self.uploaded = uploaded
        self.verified = info.sha256 == sha256


def upload(bucket: Bucket, source: Source, key: str, force: bool = False, dry_run: bool = False) -> Uploaded:
    """Make the object ``key`` hold the content of ``source``; one with the same size and stored sha256 is left alone.

    :param force: send it even so
    :raises FileError: the file cannot be read, or changed meanwhile
    :raises BucketError: refused, not reachable, or not what was sent afterwards
    """
    present = find(bucket, key)
    sha256 = source.identity()
    same = present is not None and present.size == source.size and present.sha256 == sha256
    if present is not None and same and not force:
        return Uploaded(present, present.etag, sha256, False)
    if dry_run:
        return Uploaded(ObjectInfo(key, source.size, "", sha256), None, sha256, True)
    _send(bucket, source, key, sha256)
    return _check(bucket, source, key, sha256)


def part_size(size: int) -> int:
    """Bytes per part for a file of ``size`` bytes: whole MiB, and never more than ``MAX_PARTS`` of them."""
    needed = -(-size // MAX_PARTS)
    return max(PART, -(-needed // (1 << 20)) << 20)


class _Onwards:
    """The content of a source as a file that can only be read onwards."""

    def __init__(self, source: Source) -> None:
        self._blocks = source.chunks()
        self._rest = b""
        # One more than there should be: to read on to the end, where the source compares.
        self._size = source.size + 1

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end (after the source compared its sha256); all the rest when negative.

        s3transfer asks for the rest only of files smaller than one part, and a source never gives more than its size.
        """
        parts = []
        missing = size if size >= 0 else self._size
        while missing:
            if not self._rest:
                self._rest = next(self._blocks, b"")
                if not self._rest:
                    break
            parts.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()


def _send(bucket: Bucket, source: Source, key: str, sha256: str) -> None:
    from s3transfer.manager import TransferConfig, TransferManager

    part = part_size(source.size)
    in_flight = max(1, min(PARTS_IN_FLIGHT, PARTS_MEMORY // part))
    config = TransferConfig(
        multipart_threshold=part,
        multipart_chunksize=part,
        max_request_concurrency=in_flight,
        max_submission_concurrency=1,
        max_in_memory_upload_chunks=in_flight,
    )
    extra: dict[str, Any] = {"Metadata": {SHA256_KEY: sha256}, "ContentType": "application/octet-stream"}
    stream = _Onwards(source)
    try:
        # Leaving the block by an exception, KeyboardInterrupt included, cancels the transfer and waits until it is aborted.
        with bucket.errors(key), TransferManager(bucket.client, config) as manager:
            manager.upload(stream, bucket.name, key, extra_args=extra).result()
    finally:
        stream.close()


def _check(bucket: Bucket, source: Source, key: str, sha256: str) -> Uploaded:
    """Look at the object that should be there now."""
    info = head(bucket, key)
    if info.size != source.size or info.sha256 not in (None, sha256):
        raise BucketError(
            bucket.url(key),
            "the service holds %d bytes with sha256 %s where %d bytes with %s were sent"
            % (info.size, info.sha256, source.size, sha256),
            "Find out who else writes this object, then upload it again",
        )
    return Uploaded(info, info.etag, sha256, True)
