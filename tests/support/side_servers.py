# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servers around Redis: Sentinel, twemproxy, and S3."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from .certificates import make_certificates
from .process import Port, Process, wait_until
from .provision import binary
from .redis_server import RedisServer, ServerHandle, answers, make_client


class Sentinel(ServerHandle):
    """One Sentinel, alone its own majority, that watches ``master`` as ``service``."""

    def __init__(
        self, name: str, master: RedisServer, *, service: str = "mymaster", password: str | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.master = master
        self.service = service
        self.password = password

    def start(self) -> Sentinel:
        self._port = Port()
        self.port = self._port.number
        self.address = "127.0.0.1:%d" % self.port
        path = self.folder / "sentinel.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(self._config_lines()) + "\n", encoding="utf-8")
        self.process = Process([*binary(self.name), str(path), "--sentinel"], self.folder / "sentinel.log")
        self.process.start(lambda: answers(self.port))
        return self

    def _config_lines(self) -> list[str]:
        lines = [
            "bind 127.0.0.1",
            "port %d" % self.port,
            "dir %s" % self.folder,
            "sentinel monitor %s 127.0.0.1 %d 1" % (self.service, self.master.plain_port),
            "sentinel down-after-milliseconds %s 1000" % self.service,
            "sentinel failover-timeout %s 5000" % self.service,
        ]
        if self.master.password is not None:
            lines.append("sentinel auth-pass %s %s" % (self.service, self.master.password))
        if self.password is not None:
            lines.append("requirepass %s" % self.password)
        return lines

    def stop(self) -> None:
        if hasattr(self, "process"):
            self.process.stop()
            self._port.release()

    def client(self, **options: Any) -> redis.Redis:
        return self._keep(make_client(self.port, **{"password": self.password, **options}))

    def master_address(self) -> str:
        """``host:port`` of the master as this Sentinel sees it."""
        host, port = self.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return "%s:%d" % (host.decode(), int(port))

    def wait_for_replicas(self, count: int = 1) -> None:
        """Wait until it has found that many replicas; without them there is nothing to fail over to."""
        client = self.client()
        wait_until(
            lambda: len(client.execute_command("SENTINEL", "SLAVES", self.service, NEVER_DECODE=True)) >= count,
            "%d replicas known to the Sentinel" % count,
        )

    def failover(self) -> str:
        """Make it promote a replica, and wait until it says that this is done; the new master's address."""
        before = self.master_address()
        client = self.client()

        def accepted() -> bool:
            try:
                client.execute_command("SENTINEL", "FAILOVER", self.service, NEVER_DECODE=True)
            except redis.ResponseError as exc:
                if "NOGOODSLAVE" in str(exc):  # It has not heard from the replica lately; it will.
                    return False
                raise
            return True

        wait_until(accepted, "the Sentinel agrees to fail over")
        wait_until(lambda: self.master_address() != before, "another master than " + before)
        return self.master_address()


class Twemproxy(ServerHandle):
    """twemproxy (``nutcracker``) in front of single servers: the classic proxy-based cluster.

    Its own default, fnv1a_64, puts short keys that look alike on one and the same server.
    """

    def __init__(
        self,
        backends: Sequence[RedisServer],
        *,
        password: str | None = None,
        hash_name: str = "murmur",
        distribution: str = "ketama",
        hash_tag: str | None = None,
    ) -> None:
        super().__init__()
        self.backends = backends
        self.password = password
        self._settings = {"hash": hash_name, "distribution": distribution}
        if hash_tag:
            self._settings["hash_tag"] = '"%s"' % hash_tag
        if password:
            self._settings["redis_auth"] = password

    def start(self) -> Twemproxy:
        self._ports = [Port(), Port()]
        self.port, statistics = (port.number for port in self._ports)
        self.address = "127.0.0.1:%d" % self.port
        path = self.folder / "nutcracker.yml"
        path.touch(mode=0o600)
        path.write_text(self._config(), encoding="utf-8")
        log = self.folder / "nutcracker.log"
        argv = [*binary("nutcracker"), "-a", "127.0.0.1", "-s", str(statistics), "-o", str(log)]
        argv += ["-p", str(self.folder / "nutcracker.pid"), "-c", str(path)]
        self.process = Process(argv, log)
        self.process.start(lambda: answers(self.port))
        return self

    def _config(self) -> str:
        settings = {
            "listen": self.address,
            "redis": "true",
            "auto_eject_hosts": "false",
            "preconnect": "true",
            **self._settings,
        }
        lines = ["pool:"] + ["  %s: %s" % item for item in settings.items()] + ["  servers:"]
        lines += ["    - 127.0.0.1:%d:1 shard%d" % (one.plain_port, number) for number, one in enumerate(self.backends)]
        return "\n".join(lines) + "\n"

    def stop(self) -> None:
        if hasattr(self, "process"):
            self.process.stop()
            for port in self._ports:
                port.release()

    def client(self, **options: Any) -> redis.Redis:
        return self._keep(make_client(self.port, **{"password": self.password, **options}))


class S3Server(ServerHandle):
    """``rclone serve s3`` over a folder: each folder inside it is a bucket. A real server, multipart included."""

    def __init__(self, root: Path | None = None, *, tls: bool = False) -> None:
        super().__init__()
        self.root = root or self.folder / "buckets"
        self.tls = make_certificates(self.folder) if tls else None
        self.region = "us-east-1"
        self.access_key = "test" + secrets.token_hex(8)
        self.secret_key = secrets.token_hex(20)

    def start(self) -> S3Server:
        self.root.mkdir(parents=True, exist_ok=True)
        self._port = Port()
        self.port = self._port.number
        self.endpoint_url = "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)
        argv = [*binary("rclone"), "serve", "s3", str(self.root), "--addr", "127.0.0.1:%d" % self.port]
        # Files that a test puts into the folder by hand are to be seen at once.
        argv += ["--dir-cache-time", "0s", "--cache-dir", str(self.folder / "cache")]
        if self.tls:
            argv += ["--cert", str(self.tls.cert), "--key", str(self.tls.key)]
        # In quotes, because rclone reads the variable as a list.
        login = {"RCLONE_AUTH_KEY": '"%s,%s"' % (self.access_key, self.secret_key), "RCLONE_CONFIG": "/dev/null"}
        self.process = Process(argv, self.folder / "rclone.log", login)
        self.process.start(self._listening)
        return self

    def _listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if hasattr(self, "process"):
            self.process.stop()
            self._port.release()

    def client(self, **options: Any) -> Any:
        """A boto3 client of it; close it yourself."""
        import boto3
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": "path"},
            retries={"max_attempts": 1},
            # Over TLS boto3 would send checksums as trailers of a chunked upload, which this server refuses.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        settings: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": self.region,
            "config": config,
        }
        if self.tls:
            settings["verify"] = str(self.tls.ca)
        return boto3.client("s3", **{**settings, **options})
