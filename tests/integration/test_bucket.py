# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Buckets against a real S3 server (rclone), through a network that breaks on demand.

What ``rclone serve s3`` (1.75) does otherwise than S3, measured: ETags are the MD5 of the whole content also after a multipart upload,
and are computed from the file when asked; ``If-Match`` is ignored; a range is answered with status 200; user metadata is kept in
memory only, comes back with a capital letter, and is lost when the file changes behind its back (other modification time).
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._bucket import client, objects
from ansible_collections.dcs.migration.plugins.module_utils._bucket.client import Bucket
from ansible_collections.dcs.migration.plugins.module_utils._bucket.objects import list_objects
from ansible_collections.dcs.migration.plugins.module_utils._bucket.upload import PART, Uploaded, upload
from ansible_collections.dcs.migration.plugins.module_utils._errors import BucketError, FileError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._source.files import BackupFile, local_files, open_objects
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.servers import UP, S3Server, TcpProxy, wait_until

MIB = 1 << 20
SMALL = random.Random(2).randbytes(100_003)
# Two full parts and one byte.
LARGE = random.Random(3).randbytes(16 * MIB + 1)


_opened: list[Bucket] = []


def open_bucket(options: dict[str, Any]) -> Bucket:
    """As the engine does; closed after the test."""
    _opened.append(client.open_bucket(options))
    return _opened[-1]


@pytest.fixture(autouse=True)
def connections_are_closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def options(server: S3Server, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A fresh bucket of its own, as the options of a module."""
    name = "b" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    admin = server.client()
    admin.create_bucket(Bucket=name)
    admin.close()
    return {
        "bucket": name,
        "endpoint_url": server.endpoint_url,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


@pytest.fixture
def bucket(options: dict[str, Any]) -> Bucket:
    return open_bucket(options)


@pytest.fixture
def folder(server: S3Server, options: dict[str, Any]) -> Path:
    """Where the server keeps the bucket's objects."""
    return Path(server.root) / options["bucket"]


@pytest.fixture
def proxy(server: S3Server) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1:%d" % server.port) as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries are few and do not wait."""
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    monkeypatch.setattr(objects, "RESUME_WAITS_S", (0.01,))


def through(options: dict[str, Any], proxy: TcpProxy) -> Bucket:
    return open_bucket({**options, "endpoint_url": "http://%s" % proxy.address})


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def send(bucket: Bucket, path: Path, key: str = "", **options: bool) -> Uploaded:
    (local,) = local_files([str(path)])
    return upload(bucket, local, bucket.key(key or path.name), **options)


def content(backup: BackupFile, **options: int) -> bytes:
    return b"".join(backup.chunks(**options))


def keys(bucket: Bucket) -> list[str]:
    return [entry.key for entry in list_objects(bucket)]


# --- upload ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SMALL, LARGE, LARGE[: 2 * PART]], ids=["small", "parts", "whole-parts"])
def test_a_file_comes_back_as_it_was(bucket: Bucket, tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "dump.rdb", data)
    first = send(bucket, path)
    sha256 = hashlib.sha256(data).hexdigest()
    assert (first.key, first.size, first.sha256, first.uploaded, first.verified) == ("dump.rdb", len(data), sha256, True, True)
    (backup,) = open_objects(bucket, ["dump.rdb"])
    assert (backup.size, backup.identity()) == (len(data), sha256)
    assert backup.name == "s3://%s/dump.rdb" % bucket.name
    assert content(backup) == content(backup, size=12345) == data
    assert backup.retries == 0


def test_only_what_changed_is_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    path = write(tmp_path / "dump.rdb", LARGE)
    first = send(bucket, path)
    again = send(bucket, path)
    assert (again.uploaded, again.etag, again.sha256) == (False, first.etag, first.sha256)
    assert send(bucket, path, force=True).uploaded
    write(path, LARGE[:-1] + b"!")
    assert send(bucket, path, dry_run=True).uploaded
    assert content(open_objects(bucket, ["dump.rdb"])[0]) == LARGE
    changed = send(bucket, path)
    assert changed.uploaded
    assert changed.etag != first.etag
    assert content(open_objects(bucket, ["dump.rdb"])[0]) == path.read_bytes()


def test_the_prefix_is_a_folder(options: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "ab.rdb", SMALL)
    for prefix in ("a", "a/", "/a"):
        bucket = open_bucket({**options, "prefix": prefix})
        assert send(bucket, path).key == "a/ab.rdb"
        for name in ("ab.rdb", "a/ab.rdb"):
            assert open_objects(bucket, [name])[0].directory == "s3://%s/a" % bucket.name
    assert keys(open_bucket(options)) == keys(bucket) == ["a/ab.rdb"]
    with pytest.raises(UsageError, match="more than once"):
        open_objects(bucket, ["ab.rdb", "a/ab.rdb"])


def test_listing_goes_through_all_pages(bucket: Bucket, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    names = ["shard-%04d.rdb" % number for number in range(1005)]
    for name in names:
        (folder / name).touch()
    assert keys(bucket) == names


class Changing:
    """A file that another process writes to between hashing and sending."""

    def __init__(self, path: Path) -> None:
        (self._local,) = local_files([str(path)])
        self._path = path
        self.name, self.size = self._local.name, self._local.size

    def identity(self) -> str:
        return self._local.identity()

    def chunks(self, size: int = MIB) -> Iterator[bytes]:
        with open(self._path, "r+b") as handle:
            handle.seek(self.size // 2)
            handle.write(b"changed")
        return self._local.chunks(size)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "parts"])
def test_a_file_that_changes_while_it_is_sent_never_appears(bucket: Bucket, folder: Path, tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "dump.rdb", data)
    with pytest.raises(FileError, match="not what it was"):
        upload(bucket, Changing(path), "dump.rdb")
    assert keys(bucket) == []
    assert unfinished(bucket) == []


def unfinished(bucket: Bucket) -> list[str]:
    try:
        return [entry["Key"] for entry in bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])]
    except bucket.client.exceptions.NoSuchUpload:  # rclone's way to say that this bucket never had one
        return []


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "parts"])
def test_a_cut_connection_is_retried(options: dict[str, Any], proxy: TcpProxy, tmp_path: Path, size: bytes) -> None:
    path = write(tmp_path / "dump.rdb", size)
    bucket = through(options, proxy)
    proxy.cut_after(len(size) // 2, UP)
    assert send(bucket, path).uploaded
    assert content(open_objects(bucket, ["dump.rdb"])[0]) == size


def test_an_upload_over_a_network_that_dies_leaves_nothing_visible(
    options: dict[str, Any], bucket: Bucket, proxy: TcpProxy, tmp_path: Path, quick: None
) -> None:
    path = write(tmp_path / "dump.rdb", LARGE)
    broken = through(options, proxy)
    proxy.throttle(4 * MIB)

    def die() -> None:
        wait_until(lambda: proxy.bytes[UP] > 3 * MIB, "the upload is under way")
        proxy.refuse()

    death = threading.Thread(target=die)
    death.start()
    with pytest.raises(BucketError, match="cannot be reached") as caught:
        send(broken, path)
    death.join()
    assert "dump.rdb" in caught.value.what
    assert keys(bucket) == []
    proxy.heal()
    assert send(broken, path).uploaded


SENDER = """
import sys
from ansible_collections.dcs.migration.plugins.module_utils._bucket.client import open_bucket
from ansible_collections.dcs.migration.plugins.module_utils._bucket.upload import upload
from ansible_collections.dcs.migration.plugins.module_utils._source.files import local_files
url, bucket, access, secret, path = sys.argv[1:]
bucket = open_bucket({"endpoint_url": url, "bucket": bucket, "access_key": access, "secret_key": secret, "region": "us-east-1"})
upload(bucket, local_files([path])[0], "dump.rdb")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_process_leaves_nothing_visible(
    options: dict[str, Any], bucket: Bucket, proxy: TcpProxy, tmp_path: Path, number: signal.Signals
) -> None:
    path = write(tmp_path / "dump.rdb", LARGE)
    proxy.throttle(4 * MIB)
    argv = ["http://%s" % proxy.address, options["bucket"], options["access_key"], options["secret_key"], str(path)]
    child = subprocess.Popen([sys.executable, "-c", SENDER, *argv], stderr=subprocess.DEVNULL)
    wait_until(lambda: proxy.bytes[UP] > 3 * MIB, "the upload is under way")
    child.send_signal(number)
    assert child.wait(30) != 0
    assert keys(bucket) == []
    if number == signal.SIGINT:
        assert unfinished(bucket) == []
    proxy.throttle(None)
    assert send(bucket, path).uploaded
    assert content(open_objects(bucket, ["dump.rdb"])[0]) == LARGE


# --- reading -----------------------------------------------------------------------------------------------------------


def test_an_archive_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    members = {"one.rdb": LARGE[:10_000_000], "dir/two.aof": SMALL}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
            write(tmp_path / Path(name).name, data)
    subprocess.run(["tar", "-czf", "a.tgz", "one.rdb", "two.aof"], cwd=tmp_path, check=True)
    for name in ("a.zip", "a.tgz"):
        send(bucket, tmp_path / name)
    backups = open_objects(bucket, ["a.zip", "a.tgz"])
    assert [content(backup) for backup in backups] == list(members.values()) * 2
    zipped, tarred = backups[0], backups[2]
    assert zipped.identity() == hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest() + "!one.rdb"
    assert tarred.identity() == hashlib.sha256(members["one.rdb"]).hexdigest()
    assert zipped.name == "s3://%s/a.zip!one.rdb" % bucket.name


def tamper(path: Path) -> None:
    """Change the middle of a stored file; the same modification time, so that the server keeps its metadata."""
    status = path.stat()
    with open(path, "r+b") as handle:
        handle.seek(status.st_size // 2)
        handle.write(b"tampered")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_tampered_object_is_detected(bucket: Bucket, folder: Path, tmp_path: Path) -> None:
    send(bucket, write(tmp_path / "dump.rdb", LARGE))
    tamper(folder / "dump.rdb")
    (backup,) = open_objects(bucket, ["dump.rdb"])
    with pytest.raises(FileError, match="sha256") as caught:
        content(backup)
    assert hashlib.sha256(LARGE).hexdigest() in caught.value.why
    assert hashlib.sha256((folder / "dump.rdb").read_bytes()).hexdigest() in caught.value.why
    assert "bucket_upload" in caught.value.remedy


def test_an_object_replaced_while_it_is_read_is_an_error(bucket: Bucket, tmp_path: Path) -> None:
    send(bucket, write(tmp_path / "dump.rdb", LARGE))
    (backup,) = open_objects(bucket, ["dump.rdb"])
    send(bucket, write(tmp_path / "dump.rdb", LARGE[::-1]))
    with pytest.raises(BucketError, match="replaced"):
        content(backup)


def test_an_object_without_a_stored_sum_is_named_by_its_etag(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="foreign.rdb", Body=SMALL)
    (backup,) = open_objects(bucket, ["foreign.rdb"])
    assert backup.identity() == "etag:%s-%d" % (hashlib.md5(SMALL).hexdigest(), len(SMALL))
    assert content(backup) == SMALL
    assert backup.identity().startswith("etag:")


@pytest.mark.parametrize("kind", ["raw", "zip"])
def test_a_broken_stream_resumes_where_it_broke(
    options: dict[str, Any], proxy: TcpProxy, tmp_path: Path, quick: None, kind: str
) -> None:
    path = tmp_path / "dump.rdb"
    write(path, LARGE)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "dump.zip", "w", zipfile.ZIP_STORED) as archive:
            archive.write(path, "dump.rdb")
        path = tmp_path / "dump.zip"
    bucket = through(options, proxy)
    send(bucket, path)
    (backup,) = open_objects(bucket, [path.name])
    blocks = backup.chunks(size=MIB)
    read = next(blocks)
    for cut in range(4):
        proxy.cut_after(MIB + 4321 * cut)
        read += next(blocks)
        read += next(blocks)
    proxy.cut()
    read += b"".join(blocks)
    assert read == LARGE
    assert backup.retries >= 1


def test_a_stream_that_does_not_come_back_is_given_up(options: dict[str, Any], proxy: TcpProxy, tmp_path: Path, quick: None) -> None:
    bucket = through(options, proxy)
    send(bucket, write(tmp_path / "dump.rdb", LARGE))
    (backup,) = open_objects(bucket, ["dump.rdb"])
    proxy.throttle(20 * MIB)
    blocks = backup.chunks(size=MIB)
    next(blocks)
    proxy.refuse()
    with pytest.raises(BucketError, match=r"dump\.rdb at byte [1-9]\d* of %d.*broke off.*6 attempts" % len(LARGE)):
        list(blocks)
    assert backup.retries == objects.RESUME_ATTEMPTS - 1


def test_closing_early_frees_the_connection(bucket: Bucket, tmp_path: Path) -> None:
    send(bucket, write(tmp_path / "dump.rdb", LARGE))
    (backup,) = open_objects(bucket, ["dump.rdb"])
    for _round in range(40):  # more than the pool holds
        blocks = backup.chunks(size=1000)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]
    assert content(backup) == LARGE


# --- what goes wrong ---------------------------------------------------------------------------------------------------

WRONG = {
    "bucket": ({"bucket": "no-such-bucket"}, "the bucket no-such-bucket does not exist"),
    "secret": ({"secret_key": "x" * 40}, "refuses the signature"),
    "access": ({"access_key": "nobody12345"}, "does not know the access key"),
    "endpoint": ({"endpoint_url": "http://127.0.0.1:1"}, "cannot be reached"),
    "bucket name": ({"bucket": "Not A Bucket"}, "not possible"),
    "url": ({"endpoint_url": "nonsense"}, "endpoint"),
    "name": ({"prefix": "a//b"}, "refuses this name"),
    "profile": ({"profile": "no-such-profile"}, "profile"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_named_with_a_remedy(options: dict[str, Any], tmp_path: Path, case: str) -> None:
    change, why = WRONG[case]
    path = write(tmp_path / "dump.rdb", SMALL)
    with pytest.raises(BucketError, match=why) as reading:
        open_objects(open_bucket({**options, **change}), ["dump.rdb"])
    with pytest.raises(BucketError, match=why) as writing:
        send(open_bucket({**options, **change}), path)
    for caught in (reading, writing):
        assert caught.value.what.startswith("s3://")
        assert caught.value.remedy
        assert options["secret_key"] not in str(caught.value)


def test_a_missing_object_is_named(bucket: Bucket) -> None:
    with pytest.raises(BucketError, match=r"s3://.*/none\.rdb: there is no such object"):
        open_objects(bucket, ["none.rdb"])


def test_an_empty_object_is_refused(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="dump.rdb", Body=b"")
    with pytest.raises(FileError, match="is empty"):
        open_objects(bucket, ["dump.rdb"])


def test_the_environment_stands_in_for_options(
    options: dict[str, Any], bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_key"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    assert send(open_bucket({"bucket": options["bucket"]}), write(tmp_path / "dump.rdb", SMALL)).uploaded
    assert keys(bucket) == ["dump.rdb"]


def test_tls_is_verified_unless_told_otherwise(tmp_path: Path) -> None:
    with S3Server(tls=True) as server:
        admin = server.client()
        admin.create_bucket(Bucket="secure")
        admin.close()
        options = {"bucket": "secure", "endpoint_url": server.endpoint_url, "region": server.region}
        options |= {"access_key": server.access_key, "secret_key": server.secret_key}
        path = write(tmp_path / "dump.rdb", LARGE)
        with pytest.raises(BucketError, match="TLS failed"):
            send(open_bucket(options), path)
        unverified = open_bucket({**options, "validate_certs": False})
        assert send(unverified, path).uploaded
        assert content(open_objects(unverified, ["dump.rdb"])[0]) == LARGE


# --- the module --------------------------------------------------------------------------------------------------------


def test_module_predicts_uploads_and_rests(options: dict[str, Any], bucket: Bucket, tmp_path: Path) -> None:
    files = [str(write(tmp_path / "one.rdb", LARGE)), str(write(tmp_path / "two.rdb", SMALL))]
    arguments = {**options, "prefix": "orders", "files": files}
    expected = [
        {"key": "orders/one.rdb", "size": len(LARGE), "sha256": hashlib.sha256(LARGE).hexdigest(), "uploaded": True},
        {"key": "orders/two.rdb", "size": len(SMALL), "sha256": hashlib.sha256(SMALL).hexdigest(), "uploaded": True},
    ]

    predicted = run_module("bucket_upload", arguments, check=True)
    assert predicted["changed"]
    assert predicted["objects"] == [{**entry, "etag": None} for entry in expected]
    assert keys(bucket) == []

    done = run_module("bucket_upload", arguments)
    assert done["changed"]
    assert [{**entry, "etag": None} for entry in done["objects"]] == predicted["objects"]
    assert all(entry["etag"] for entry in done["objects"])
    assert keys(bucket) == ["orders/one.rdb", "orders/two.rdb"]

    again = run_module("bucket_upload", arguments)
    assert not again["changed"]
    assert again["objects"] == [{**entry, "uploaded": False} for entry in done["objects"]]

    write(tmp_path / "two.rdb", SMALL + b"more")
    partly = run_module("bucket_upload", arguments)
    assert partly["changed"]
    assert [entry["uploaded"] for entry in partly["objects"]] == [False, True]


def test_module_errors(options: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "dump.rdb", SMALL)
    (tmp_path / "other").mkdir()
    shutil.copy(path, tmp_path / "other")
    cases: list[tuple[dict[str, Any], str, bool]] = [
        ({"files": [str(path), str(tmp_path / "other" / "dump.rdb")]}, "have the same name", False),
        ({"files": [str(tmp_path / "none.rdb")]}, "does not exist on this host", True),
        ({"files": [str(path)], "bucket": "no-such-bucket"}, "Create it in the target's region", True),
    ]
    for change, message, check in cases:
        failed = run_module("bucket_upload", {**options, **change}, check=check)
        assert failed["failed"]
        assert message in failed["msg"]
        assert failed["remedy"]
        assert not failed.get("changed")
        assert options["secret_key"] not in failed["_output"]


def test_module_reports_what_was_sent_before_it_failed(options: dict[str, Any], bucket: Bucket, tmp_path: Path) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="bad.rdb/in-the-way", Body=SMALL)
    files = [str(write(tmp_path / name, SMALL)) for name in ("good.rdb", "bad.rdb", "later.rdb")]
    failed = run_module("bucket_upload", {**options, "files": files})
    assert failed["failed"]
    assert "bad.rdb" in failed["msg"]
    assert failed["changed"]
    assert [entry["key"] for entry in failed["objects"]] == ["good.rdb"]
