# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A bucket and how to talk to it: options -> boto3 client, and the service's errors -> BucketError.

Everything the SDK raises passes through ``explain``; no other file names an exception of botocore.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .._errors import BucketError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# Time limits of one request, in seconds: an answer that starts later than this is taken for lost and asked again.
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
# Attempts per request, counting the first. The SDK waits up to 20 s between them.
ATTEMPTS = 4
# Connections kept open: parts of an upload, downloads and their listings.
POOL = 16

_AWS = (".amazonaws.com", ".amazonaws.com.cn")
# Services that answer only to bucket.host, or prefer it. Everything else behind an endpoint_url (MinIO, Ceph, rclone, a
# private OBS) is asked by path, which needs no DNS name for each bucket.
_VIRTUAL_HOSTED = (
    ".myhuaweicloud.com",
    ".myhuaweicloud.eu",
    ".otc.t-systems.com",
    ".aliyuncs.com",
    ".myqcloud.com",
)
# A service asks for a region in the signature even where it ignores it.
_ANY_REGION = "us-east-1"

_CREDENTIALS = "Check access_key and secret_key (or the AWS_* environment variables or profile that stand in for them)"
_ENDPOINT = "Check endpoint_url, and that name resolution, routes, firewall and proxy let this host reach it"
# Error codes of the service -> (why, remedy). "%(bucket)s" and "%(region)s" are filled in.
_CODES: dict[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "the bucket %(bucket)s does not exist at this endpoint",
        "Create it in the target's region, or check bucket, endpoint_url and region",
    ),
    "NoSuchKey": ("there is no such object", "Check objects and prefix; upload it with dcs.migration.bucket_upload"),
    "InvalidAccessKeyId": ("the service does not know the access key", _CREDENTIALS),
    "SignatureDoesNotMatch": ("the service refuses the signature", _CREDENTIALS + "; the secret key does not match the access key"),
    "ExpiredToken": ("the temporary credentials have expired", "Get new ones"),
    "InvalidToken": ("the service refuses the session token", _CREDENTIALS),
    "RequestTimeTooSkewed": ("the clock of this host is too far off", "Synchronise its clock, for example with chrony"),
    "AccessDenied": (
        "the credentials are not allowed to do this",
        "Grant them s3:ListBucket and s3:GetObject (to upload also s3:PutObject and s3:AbortMultipartUpload) on the bucket",
    ),
    "InvalidObjectState": (
        "the object is archived and cannot be read as it is",
        "Restore it to standard storage first and wait until the service says it is restored",
    ),
    "PreconditionFailed": (
        "the object was replaced while it was being read",
        "Find out who writes to it, then run again",
    ),
    "AuthorizationHeaderMalformed": ("the bucket is in another region than %(region)s", "Set region to the bucket's"),
    "IllegalLocationConstraintException": ("the bucket is in another region than %(region)s", "Set region to the bucket's"),
    "PermanentRedirect": ("the bucket is served by another endpoint", "Set region and endpoint_url to those of the bucket"),
    "VirtualHostDomainRequired": (
        "the service does not answer to path-style addresses",
        "Set 's3 = addressing_style = virtual' in the profile of the AWS config file on this host",
    ),
    "EntityTooLarge": ("the service refuses an object of this size", "Split the backup by shard, or use another service"),
    "SlowDown": ("the service asks to slow down", "Run again later, with fewer hosts at once"),
    "QuotaExceeded": ("the bucket's quota is used up", "Raise the quota, or delete old backups"),
}
_SAME_AS = {
    "301": "PermanentRedirect",
    "307": "PermanentRedirect",
    "400": "AuthorizationHeaderMalformed",
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "AllAccessDisabled": "AccessDenied",
    "AccessForbidden": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "TemporaryRedirect": "PermanentRedirect",
    "PathStyleDomainForbidden": "VirtualHostDomainRequired",
    "SecondLevelDomainForbidden": "VirtualHostDomainRequired",
    "InsufficientStorageSpace": "QuotaExceeded",
    "XMinioStorageFull": "QuotaExceeded",
    "RequestLimitExceeded": "SlowDown",
}


class Bucket:
    """One bucket, the folder in it to work in, and the client that reaches it (safe to share between threads).

    ``prefix`` is empty or ends with a slash, whether or not the user wrote it.
    """

    def __init__(self, client: Any, name: str, prefix: str = "", region: str | None = None) -> None:
        self.client = client
        self.name = name
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.region = region

    def key(self, name: str) -> str:
        """The full key: ``name`` as it is when it begins with the prefix, else below the prefix. So a full key always stays what it is."""
        return name if name.startswith(self.prefix) else self.prefix + name.lstrip("/")

    def url(self, key: str = "") -> str:
        """For messages: ``s3://bucket/key``."""
        return "s3://%s/%s" % (self.name, key)

    @contextlib.contextmanager
    def errors(self, key: str = "", position: str = "") -> Iterator[None]:
        """Turn what the SDK raises inside into a BucketError that names the object (and the position in it)."""
        try:
            yield
        except Exception as exc:
            error = explain(exc, self, key, position)
            if error is None:
                raise
            raise error from exc


def open_bucket(options: Mapping[str, Any]) -> Bucket:
    """The bucket that a module's options name; nothing is asked of the service yet.

    Options left out (None) come from the AWS environment variables, profile and instance role, as boto3 finds them.

    :param options: ``bucket``, ``prefix``, ``endpoint_url``, ``region``, ``access_key``, ``secret_key``, ``session_token``,
        ``profile``, ``validate_certs``
    :raises UsageError: boto3 is missing, or only one of the two keys is given
    :raises BucketError: the profile, region or endpoint_url makes no sense
    """
    name = options.get("bucket") or ""
    if not name:
        raise UsageError("bucket", "is empty", "Name the bucket")
    access_key, secret_key = options.get("access_key"), options.get("secret_key")
    if bool(access_key) != bool(secret_key):
        raise UsageError("access_key and secret_key", "only one of the two is given", "Give both, or neither")
    try:
        import boto3
        from botocore.config import Config
    except ImportError as exc:
        raise UsageError(
            "s3://%s" % name,
            "the Python library boto3 is missing on the host where this task runs",
            "Install it (pip install boto3) for the Python that Ansible uses there",
        ) from exc
    bucket = Bucket(None, name, options.get("prefix") or "")
    with bucket.errors():
        session = boto3.session.Session(
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            aws_session_token=options.get("session_token") or None,
            profile_name=options.get("profile") or None,
            region_name=options.get("region") or None,
        )
        settings: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
            "max_pool_connections": POOL,
        }
        if "request_checksum_calculation" in Config.OPTION_DEFAULTS:
            # From 1.36 on the SDK adds checksum headers and trailers that OBS and others refuse. Bodies are signed with their
            # sha256 on the way up, and compared with the stored sha256 on the way down.
            settings["request_checksum_calculation"] = "when_required"
            settings["response_checksum_validation"] = "when_required"

        def client(style: str | None) -> Any:
            return session.client(
                "s3",
                endpoint_url=options.get("endpoint_url") or None,
                region_name=session.region_name or _ANY_REGION,
                verify=None if options.get("validate_certs", True) else False,
                config=Config(s3={"addressing_style": style} if style else None, **settings),
            )

        try:
            bucket.client = client(None)
        except ValueError as exc:
            raise BucketError(bucket.url(), str(exc), "Write endpoint_url like https://obs.example.com") from exc
        if not options.get("validate_certs", True):
            _expect_unverified()
        style = _addressing_style(session, bucket.client.meta.endpoint_url)
        if style:
            bucket.client = client(style)
    bucket.region = session.region_name
    return bucket


def _expect_unverified() -> None:
    """The user said so in the options: no warning at every request."""
    import urllib3

    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def _addressing_style(session: Any, endpoint_url: str) -> str | None:
    """``path``, ``virtual``, or None to leave the decision to the SDK and its config file.

    :param endpoint_url: where the client would go now, by the options, the environment or the profile
    """
    profile = session._session.get_scoped_config().get("s3")
    if isinstance(profile, dict) and profile.get("addressing_style"):
        return None
    host = endpoint_url.partition("://")[2].partition("/")[0].partition(":")[0].lower()
    if host.endswith(_AWS):
        return None
    return "virtual" if host.endswith(_VIRTUAL_HOSTED) else "path"


def explain(exc: BaseException, bucket: Bucket, key: str = "", position: str = "") -> BucketError | None:
    """The BucketError that says what the SDK's exception means, or None when it is not one of the SDK's.

    :param position: where in the object, for example ``at byte 4096``
    """
    from botocore import exceptions

    what = bucket.url(key) + (" " + position if position else "")
    if isinstance(exc, exceptions.ClientError):
        code = _error_code(exc)
        if not key and code == "NoSuchKey":
            code = "NoSuchBucket"
        if code in _CODES:
            why, remedy = _CODES[code]
            names = {"bucket": bucket.name, "region": bucket.region or "the default one"}
            return BucketError(what, why % names, remedy)
        message = exc.response.get("Error", {}).get("Message") or "no reason given"
        return BucketError(what, "the service answered %s: %s" % (code, message), "Look the code up in the service's manual")
    if isinstance(exc, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return BucketError(what, "there are no credentials", _CREDENTIALS)
    if isinstance(exc, exceptions.SSLError):
        return BucketError(
            what, "TLS failed: %s" % exc, "Install the authority's certificate (AWS_CA_BUNDLE), or set validate_certs to false"
        )
    if isinstance(exc, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        return BucketError(what, "the endpoint cannot be reached: %s" % exc, _ENDPOINT)
    if isinstance(exc, exceptions.ParamValidationError):
        return BucketError(what, "the name is not possible: %s" % str(exc).partition("\n")[2][:200], "Check bucket and prefix")
    if isinstance(exc, exceptions.BotoCoreError):
        return BucketError(what, str(exc), "Check the bucket options and the AWS profile")
    return None


def _error_code(exc: Any) -> str:
    code = str(exc.response.get("Error", {}).get("Code") or exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return _SAME_AS.get(code, code)
