# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Objects: list, head, and reading that survives broken connections.

Reading keeps nothing but the block in hand. Services differ in what they honour: ``If-Match`` may be ignored and a range may be
answered with status 200, so the ETag and the range of every answer are compared here.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from .._errors import BucketError
from .client import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .client import Bucket

# Attempts in a row that bring no byte before a download is given up, and the waits between them: about 30 s in all, enough
# for a service to fail over. Progress starts the count anew, so that a long download over a bad line gets through.
RESUME_ATTEMPTS = 6
RESUME_WAITS_S = (0.5, 1.0, 3.0, 8.0, 16.0)
SHA256_KEY = "sha256"
_ARCHIVED = frozenset(("GLACIER", "DEEP_ARCHIVE", "COLD", "ARCHIVE", "COLDARCHIVE", "DEEPCOLDARCHIVE"))


class ObjectInfo:
    """What the service says about an object: key, size (bytes), etag (without quotes), sha256 (stored by the upload, or None)."""

    __slots__ = ("key", "size", "etag", "sha256")

    def __init__(self, key: str, size: int, etag: str, sha256: str | None = None) -> None:
        self.key = key
        self.size = size
        self.etag = etag
        self.sha256 = sha256


def list_objects(bucket: Bucket, prefix: str | None = None) -> Iterator[ObjectInfo]:
    """Every object whose key begins with ``prefix`` (default: the bucket's), page by page; sha256 is not known here."""
    with bucket.errors():
        pages = bucket.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket.name, Prefix=bucket.prefix if prefix is None else prefix
        )
        for page in pages:
            for item in page.get("Contents", ()):
                yield ObjectInfo(item["Key"], item["Size"], item["ETag"].strip('"'))


def find(bucket: Bucket, key: str) -> ObjectInfo | None:
    """The object, or None when there is none. A missing bucket, refused credentials and the like are errors.

    A HEAD answer carries no reason, so a refusal is followed by a listing, whose answer does.

    :raises BucketError: also for an object in archive storage
    """
    from botocore.exceptions import ClientError

    with bucket.errors(key):
        try:
            answer = bucket.client.head_object(Bucket=bucket.name, Key=key)
        except ClientError as exc:
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            with bucket.errors():
                # No permission to list means that a missing object and a missing permission look alike.
                bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=key, MaxKeys=1)
            if status == 404:
                return None
            if status == 400:
                # Were it the region, the listing would have said so.
                remedy = "Check prefix and the name: no part between slashes may be empty, . or .."
                raise BucketError(bucket.url(key), "the service refuses this name", remedy) from exc
            raise
    _refuse_archived(bucket, key, answer)
    # Some services (rclone) give the names of user metadata back with a capital letter.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    return ObjectInfo(key, answer["ContentLength"], answer.get("ETag", "").strip('"'), metadata.get(SHA256_KEY))


def head(bucket: Bucket, key: str) -> ObjectInfo:
    """The object; one that does not exist is an error.

    :raises BucketError: not there, archived, not allowed, not reachable
    """
    info = find(bucket, key)
    if info is None:
        raise BucketError(
            bucket.url(key),
            "there is no such object",
            "Check objects and prefix; upload the file with dcs.migration.bucket_upload",
        )
    return info


def read_object(
    bucket: Bucket,
    info: ObjectInfo,
    size: int,
    start: int = 0,
    on_resume: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    stop: int | None = None,
) -> Iterator[bytes]:
    """The object's bytes from ``start`` to its end (or to ``stop``), in blocks of up to ``size``.

    A stream that breaks is taken up again at the byte where it broke.

    :param on_resume: called each time that happens
    :raises BucketError: replaced meanwhile, or ``RESUME_ATTEMPTS`` in a row brought nothing; names the byte reached
    """
    position = start
    end = info.size if stop is None else min(stop, info.size)
    failures = 0
    while position < end:
        body = None
        try:
            body = _get(bucket, info, position, end)
            while position < end:
                block = body.read(min(size, end - position))
                if not block:
                    raise OSError("the connection ended early")
                position += len(block)
                failures = 0
                yield block
        except Exception as exc:
            failures += 1
            if failures >= RESUME_ATTEMPTS or not _worth_another(exc):
                raise _download_error(exc, bucket, info, position, failures) from exc
            if on_resume is not None:
                on_resume()
            sleep(RESUME_WAITS_S[min(failures, len(RESUME_WAITS_S)) - 1])
        finally:
            if body is not None:
                body.close()


def _get(bucket: Bucket, info: ObjectInfo, position: int, end: int) -> Any:
    """An open body of the bytes from ``position`` to ``end``, which belongs to the object described.

    :raises BucketError: another object is there now, or the service ignores ranges
    """
    request = {"Bucket": bucket.name, "Key": info.key}
    if info.etag:
        request["IfMatch"] = '"%s"' % info.etag
    if position or end < info.size:
        request["Range"] = "bytes=%d-%d" % (position, end - 1)
    answer = bucket.client.get_object(**request)
    what = "%s at byte %d" % (bucket.url(info.key), position)
    etag = answer.get("ETag", "").strip('"')
    problem = None
    if info.etag and etag and etag != info.etag:
        problem = ("the object was replaced while it was being read", "Find out who writes to it, then run again")
    elif position and not str(answer.get("ContentRange", "")).startswith("bytes %d-" % position):
        problem = ("the service does not answer requests for a part of an object", "Copy the file to this host and import it there")
    if problem is not None:
        answer["Body"].close()
        raise BucketError(what, *problem)
    return answer["Body"]


def _worth_another(exc: BaseException) -> bool:
    """Broken connections and overloaded services are; refusals and our own findings are not."""
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    if isinstance(exc, exceptions.ClientError):
        return exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    broken = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError, HTTPError, OSError)
    return isinstance(exc, broken) and not isinstance(exc, exceptions.SSLError)


def _download_error(exc: Exception, bucket: Bucket, info: ObjectInfo, position: int, failures: int) -> BaseException:
    from botocore.exceptions import ClientError

    if isinstance(exc, BucketError):
        return exc
    where = "at byte %d of %d" % (position, info.size)
    if isinstance(exc, ClientError) and not _worth_another(exc):
        return explain(exc, bucket, info.key, where) or exc
    if not _worth_another(exc):
        return exc
    return BucketError(
        "%s %s" % (bucket.url(info.key), where),
        "the download broke off, and %d attempts in a row brought nothing: %s" % (failures, exc),
        "Check the network between this host and the service, then run again",
    )


def _refuse_archived(bucket: Bucket, key: str, answer: dict[str, Any]) -> None:
    storage = answer.get("StorageClass") or "STANDARD"
    if storage.upper() not in _ARCHIVED and not answer.get("ArchiveStatus"):
        return
    restore = answer.get("Restore") or ""
    if 'ongoing-request="false"' in restore:
        return
    why = "its storage class is %s, which cannot be read as it is" % storage
    if restore:
        why += "; a restore is under way"
    raise BucketError(bucket.url(key), why, "Restore the object to standard storage first and wait until that is done")


class ObjectReader(io.RawIOBase):
    """An object as a raw file with seeks. Reading on from where it stands continues one open stream."""

    def __init__(self, bucket: Bucket, info: ObjectInfo, on_resume: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._bucket = bucket
        self._info = info
        self._on_resume = on_resume
        self._position = 0
        self._stream: Iterator[bytes] | None = None
        self._rest = b""

    # Bytes asked of the stream at a time.
    BLOCK = 256 << 10

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._info.size)[whence]
        target = max(0, base + offset)
        if target != self._position:
            self._drop_stream()
            self._position = target
        return target

    def readinto(self, buffer: Any) -> int:
        """Fill up to ``len(buffer)`` bytes; 0 at the end."""
        if not self._rest:
            if self._stream is None:
                self._stream = read_object(self._bucket, self._info, self.BLOCK, self._position, self._on_resume)
            self._rest = next(self._stream, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._position += count
        return count

    def close(self) -> None:
        self._drop_stream()
        super().close()

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._rest = b""
