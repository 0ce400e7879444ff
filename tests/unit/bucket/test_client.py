# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no local S3 server does: other clouds' addresses, archived objects, services that ignore what they are asked."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from ansible_collections.dcs.migration.plugins.module_utils._bucket.client import Bucket, explain, open_bucket
from ansible_collections.dcs.migration.plugins.module_utils._bucket.objects import ObjectInfo, find, read_object
from ansible_collections.dcs.migration.plugins.module_utils._bucket.upload import PART, part_size
from ansible_collections.dcs.migration.plugins.module_utils._errors import BucketError, UsageError

OPTIONS = {"bucket": "backups", "access_key": "id", "secret_key": "secret", "endpoint_url": "https://s3.example.com"}
CONTENT = b"0123456789"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    opened = open_bucket(OPTIONS)
    yield opened
    opened.client.close()


class Sent(Exception):
    """Instead of sending a request: where it would have gone."""


def address(options: dict[str, Any]) -> str:
    opened = open_bucket({**OPTIONS, **options})

    def instead(request: Any, **_fields: Any) -> None:
        raise Sent(request.url)

    opened.client.meta.events.register("before-send", instead)
    with pytest.raises(Sent) as caught:
        opened.client.get_object(Bucket=opened.name, Key="k")
    opened.client.close()
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"endpoint_url": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/backups/k"),
        ({"endpoint_url": "https://minio.example.com"}, "https://minio.example.com/backups/k"),
        ({"endpoint_url": "https://obs.eu-west-101.myhuaweicloud.eu"}, "https://backups.obs.eu-west-101.myhuaweicloud.eu/k"),
        ({"endpoint_url": "https://obs.cn-north-4.myhuaweicloud.com:443"}, "https://backups.obs.cn-north-4.myhuaweicloud.com:443/k"),
        ({"endpoint_url": "https://oss-cn-beijing.aliyuncs.com"}, "https://backups.oss-cn-beijing.aliyuncs.com/k"),
        # A certificate for *.host does not cover a name with dots.
        ({"endpoint_url": "https://obs.x.myhuaweicloud.com", "bucket": "a.b"}, "https://obs.x.myhuaweicloud.com/a.b/k"),
        ({"endpoint_url": None, "region": "eu-central-1"}, "https://backups.s3.eu-central-1.amazonaws.com/k"),
    ],
)
def test_addresses(options: dict[str, Any], expected: str) -> None:
    assert address(options) == expected


def test_the_environments_endpoint_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://obs.x.myhuaweicloud.com")
    assert address({"endpoint_url": None}) == "https://backups.obs.x.myhuaweicloud.com/k"


def test_the_profile_decides_about_addresses(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[profile other]\nregion = eu-north-1\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert address({"profile": "other"}) == "https://backups.s3.example.com/k"
    opened = open_bucket({**OPTIONS, "profile": "other"})
    assert opened.region == "eu-north-1"
    opened.client.close()


def head_answer(**fields: Any) -> dict[str, Any]:
    return {"ContentLength": 10, "ETag": '"e"', "Metadata": {}, **fields}


@pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE", "COLD"])
def test_an_archived_object_is_refused_until_it_is_restored(bucket: Bucket, storage: str) -> None:
    with Stubber(bucket.client) as stub:
        stub.add_response("head_object", head_answer(StorageClass=storage))
        with pytest.raises(BucketError, match="storage class is %s.*Restore" % storage):
            find(bucket, "k")
        stub.add_response("head_object", head_answer(StorageClass=storage, Restore='ongoing-request="true"'))
        with pytest.raises(BucketError, match="under way"):
            find(bucket, "k")
        stub.add_response("head_object", head_answer(StorageClass=storage, Restore='ongoing-request="false", expiry-date="x"'))
        assert find(bucket, "k") is not None


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("NoSuchBucket", "does not exist"),
        ("AllAccessDisabled", "not allowed"),
        ("InvalidObjectState", "archived"),
        ("IllegalLocationConstraintException", "another region than the default one"),
        ("301", "another endpoint"),
        ("RequestTimeTooSkewed", "clock"),
        ("SecondLevelDomainForbidden", "path-style"),
        ("Brandnew", "answered Brandnew: because"),
    ],
)
def test_codes_become_reasons_with_a_remedy(bucket: Bucket, code: str, why: str) -> None:
    error = explain(ClientError({"Error": {"Code": code, "Message": "because"}}, "GetObject"), bucket, "k")
    assert error is not None
    assert why in error.why
    assert error.what == "s3://backups/k"
    assert error.remedy


def test_a_defect_of_ours_is_no_bucket_error(bucket: Bucket) -> None:
    assert explain(KeyError("x"), bucket) is None


class Breaking(io.BytesIO):
    """A body that fails once its bytes are used up."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            raise ReadTimeoutError(endpoint_url="there")
        return data


def body(data: bytes, breaks: bool = False) -> StreamingBody:
    return StreamingBody(Breaking(data) if breaks else io.BytesIO(data), None)


def read(bucket: Bucket, waits: list[float] | None = None) -> bytes:
    waits = [] if waits is None else waits
    return b"".join(read_object(bucket, ObjectInfo("k", 10, "e"), 4, sleep=waits.append))


def test_resuming_asks_for_the_rest_of_the_same_object(bucket: Bucket) -> None:
    asked = {"Bucket": "backups", "Key": "k", "IfMatch": '"e"'}
    waits: list[float] = []
    with Stubber(bucket.client) as stub:
        stub.add_response("get_object", {"Body": body(CONTENT[:6], True), "ETag": '"e"'}, asked)
        stub.add_client_error("get_object", "InternalError", http_status_code=500, expected_params={**asked, "Range": "bytes=6-9"})
        rest = {"Body": body(CONTENT[6:]), "ETag": '"e"', "ContentRange": "bytes 6-9/10"}
        stub.add_response("get_object", rest, {**asked, "Range": "bytes=6-9"})
        assert read(bucket, waits) == CONTENT
        stub.assert_no_pending_responses()
    assert waits == [0.5, 1.0]


def test_progress_starts_the_count_of_attempts_anew(bucket: Bucket) -> None:
    waits: list[float] = []
    with Stubber(bucket.client) as stub:
        for at in range(10):
            stub.add_response("get_object", {"Body": body(CONTENT[at : at + 1], True), "ETag": '"e"', "ContentRange": "bytes %d-9/10" % at})
        assert read(bucket, waits) == CONTENT
    assert waits == [0.5] * 9


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"ETag": '"other"', "ContentRange": "bytes 6-9/10"}, "replaced"),
        ({"ETag": '"e"'}, "part of an object"),
        ({"ETag": '"e"', "ContentRange": "bytes 0-9/10"}, "part of an object"),
    ],
)
def test_a_wrong_rest_is_never_taken(bucket: Bucket, answer: dict[str, Any], why: str) -> None:
    with Stubber(bucket.client) as stub:
        stub.add_response("get_object", {"Body": body(CONTENT[:6], True), "ETag": '"e"'})
        stub.add_response("get_object", {"Body": body(CONTENT[6:]), **answer})
        with pytest.raises(BucketError, match=why) as caught:
            read(bucket)
    assert "at byte 6" in caught.value.what


def test_a_refusal_is_not_tried_again(bucket: Bucket) -> None:
    with Stubber(bucket.client) as stub:
        stub.add_client_error("get_object", "PreconditionFailed", http_status_code=412)
        with pytest.raises(BucketError, match="replaced"):
            read(bucket)


def test_a_service_that_stays_broken_is_given_up(bucket: Bucket) -> None:
    waits: list[float] = []
    with Stubber(bucket.client) as stub:
        for _attempt in range(6):
            stub.add_client_error("get_object", "SlowDown", http_status_code=503)
        with pytest.raises(BucketError, match="6 attempts in a row"):
            read(bucket, waits)
    assert waits == [0.5, 1.0, 3.0, 8.0, 16.0]


def test_parts_stay_under_the_services_limit() -> None:
    assert part_size(0) == part_size(9000 * PART) == PART
    for size in (9000 * PART + 1, 10**12, 5 << 40):
        assert part_size(size) > PART
        assert -(-size // part_size(size)) <= 9000
        assert part_size(size) % (1 << 20) == 0


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    opened = open_bucket({**OPTIONS, "access_key": None, "secret_key": None})
    with pytest.raises(BucketError, match="no credentials"):
        find(opened, "dump.rdb")
    opened.client.close()
    with pytest.raises(UsageError, match="only one of the two"):
        open_bucket({**OPTIONS, "access_key": None})


def test_a_whole_key_stays_what_it_is() -> None:
    bucket = Bucket(None, "b", "/orders")
    names = ["x", "/x", "orders/x", "orders/orders/x"]
    found = [bucket.key(name) for name in names]
    assert found == ["orders/x", "orders/x", "orders/x", "orders/orders/x"]
    assert [bucket.key(key) for key in found] == found
    assert Bucket(None, "b").key("orders/x") == "orders/x"
