# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real Redis, Valkey or Redict on the loopback interface."""

from __future__ import annotations

import inspect
import shutil
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .certificates import Certificates, make_certificates
from .process import Port, Process, wait_until
from .provision import SERVERS, binary
from .tcp_proxy import TcpProxy

Config = Mapping[str, "str | int | Sequence[str]"]
_Self = TypeVar("_Self", bound="ServerHandle")

# A debugger or a loaded machine may take its time; redis-py's own default of five seconds does not allow for that.
CLIENT_SECONDS = 60
# Built with TLS. The others get a TLS front.
_NATIVE_TLS = ("redis-6.0", "redis-7.0", "redis-8.0", "redict-7.3", "valkey-8.0")
# What differs by version in how redis-py is told not to greet the server with CLIENT SETINFO, unknown to old ones.
_SILENT: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.Redis.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


def make_client(port: int, **options: Any) -> redis.Redis:
    """A redis-py client that works from Redis 2.8 on: bytes in and out, no greeting, no hidden retries."""
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": CLIENT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **_SILENT,
        **options,
    }
    return redis.Redis(**settings)


class ServerHandle(ABC):
    """Something with a temporary folder, processes and clients, all of which end with the ``with`` block."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._clients: list[redis.Redis] = []

    @property
    def folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="dcs-migration-test-"))
        return self._folder

    @abstractmethod
    def start(self: _Self) -> _Self:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it in good order; what it wrote stays until ``close``."""

    def close(self) -> None:
        """Stop it and remove what it wrote."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _keep(self, client: redis.Redis) -> redis.Redis:
        self._clients.append(client)
        return client

    def __enter__(self: _Self) -> _Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def answers(port: int, password: str | None = None) -> bool:
    """Whether a server on that port answers a PING with anything but "still loading".

    Not logged in it would say that it wants a password, and not that it is loading.
    """
    login = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(password), password.encode()) if password else b""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock, sock.makefile("rb") as replies:
            sock.sendall(login + b"*1\r\n$4\r\nPING\r\n")
            lines = [replies.readline() for _command in range(2 if login else 1)]
    except OSError:
        return False
    return all(lines) and not lines[-1].startswith(b"-LOADING")


class RedisServer(ServerHandle):
    """A server by its name in ``SERVERS``.

    ``config``: lines of its configuration file; a list gives the same word several times. ``users_acl``: ACL users,
    such as ``"alice on >pw ~* +@all"``. ``rename``: commands by their new names, "" to disable one. ``tls``: True, or
    certificates. ``clock``: seconds its clock is ahead of ours; then :meth:`set_clock` sets it.
    """

    def __init__(
        self,
        name: str,
        *,
        config: Config | None = None,
        password: str | None = None,
        users_acl: Sequence[str] = (),
        tls: bool | Certificates = False,
        replica_of: RedisServer | str | None = None,
        rename: Mapping[str, str] | None = None,
        cluster: bool = False,
        clock: int | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.product, self.version, self.rdb_version = SERVERS[name]
        self.password = password
        self.rename = {command.upper(): new for command, new in (rename or {}).items()}
        self.tls: Certificates | None = None
        self._config = dict(config or {})
        self._users_acl = users_acl
        self._replica_of = replica_of
        self._cluster = cluster
        self._wants_tls = tls
        self._clock = clock
        self._ports: list[Port] = []
        self._front: TcpProxy | None = None
        self._process: Process | None = None

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> RedisServer:
        if self._process is None:
            self._prepare()
        if self._process is not None:
            self._process.start(lambda: answers(self.plain_port, self.password))
        return self

    def _prepare(self) -> None:
        port = self._new_port()
        self.plain_port = self.port = port
        if self._wants_tls:
            made = self._wants_tls
            self.tls = made if isinstance(made, Certificates) else make_certificates(self.folder)
            if self.name in _NATIVE_TLS:
                self.port = self._new_port()
            else:
                self._front = TcpProxy("127.0.0.1:%d" % port, tls=self.tls).start()
                self.port = self._front.port
        self.address = "127.0.0.1:%d" % self.port
        path = self.folder / "server.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(self._config_lines()) + "\n", encoding="utf-8")
        self._process = Process([*binary(self.name), str(path)], self.folder / "server.log", self._environment())

    def _environment(self) -> dict[str, str]:
        if self._clock is None:
            return {}
        self.set_clock(self._clock)
        return {
            "LD_PRELOAD": binary("libfaketime")[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, ahead: int) -> None:
        """Set the clock of a server that was started with one, to so many seconds ahead of ours."""
        partial = self.folder / "clock.partial"
        partial.write_text("%+d\n" % ahead, encoding="ascii")
        partial.replace(self.folder / "clock")
        if self._process is not None:
            client = self.client()
            wait_until(lambda: abs(client.time()[0] - time.time() - ahead) < 2, "the server's clock is %+d s" % ahead)

    def _new_port(self) -> int:
        self._ports.append(Port())
        return self._ports[-1].number

    def _config_lines(self) -> list[str]:
        settings: dict[str, str | int | Sequence[str]] = {
            "bind": "127.0.0.1",
            "port": self.plain_port,
            "dir": str(self.folder),
            "dbfilename": "dump.rdb",
            "save": "",
            "daemonize": "no",
        }
        if self.version >= (3, 0):
            settings["repl-diskless-sync-delay"] = 0
        if self.version >= (7, 0):
            settings["enable-debug-command"] = "yes"
            settings["enable-module-command"] = "no"
        settings.update(self._tls_settings())
        settings.update(self._login_settings())
        if self._cluster:
            settings.update({"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"})
        settings.update(self._config)
        lines = []
        for word, value in settings.items():
            values = [value] if isinstance(value, (str, int)) else value
            lines += ["%s %s" % (word, '""' if one == "" else one) for one in values]
        lines += ["user " + user for user in self._users_acl]
        lines += ['rename-command %s "%s"' % item for item in self.rename.items()]
        return lines

    def _tls_settings(self) -> dict[str, str | int]:
        if self.tls is None or self._front is not None:
            return {}
        return {
            "tls-port": self.port,
            "tls-ca-cert-file": str(self.tls.ca),
            "tls-cert-file": str(self.tls.cert),
            "tls-key-file": str(self.tls.key),
            "tls-auth-clients": "optional",
        }

    def _login_settings(self) -> dict[str, str]:
        settings = {}
        if self.password is not None:
            settings.update({"requirepass": self.password, "masterauth": self.password})
        master = self._replica_of
        if isinstance(master, RedisServer):
            if master.password is not None:
                settings["masterauth"] = master.password
            master = "127.0.0.1:%d" % master.plain_port
        if master:
            settings["slaveof"] = master.replace(":", " ")
        return settings

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """End it as a crash would; ``start`` brings it back with what it had saved."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> RedisServer:
        """Stop it and start it again: same port, same folder, data from its last save."""
        self.stop()
        return self.start()

    def revive(self) -> None:
        """Start it if it does not run."""
        if not self.process.running:
            self.process.kill()
            self.start()

    def close(self) -> None:
        super().close()
        if self._front is not None:
            self._front.close()
            self._front = None
        for port in self._ports:
            port.release()
        self._ports.clear()
        self._process = None

    @property
    def process(self) -> Process:
        """The child process, to freeze or to look at."""
        if self._process is None:
            raise RuntimeError("%s was never started" % self.name)
        return self._process

    def log(self) -> str:
        """The end of its log."""
        return self.process.tail()

    # -- use -------------------------------------------------------------------------------------------------

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client, logged in and over TLS as the server demands; closed with the server."""
        settings: dict[str, Any] = {"password": self.password}
        if self.tls is not None:
            settings.update({"ssl": True, "ssl_ca_certs": str(self.tls.ca)})
        return self._keep(make_client(self.port, **{**settings, **options}))

    def _command(self, name: str) -> str:
        return self.rename.get(name, name)

    def execute(self, *words: Any) -> Any:
        """One command on a connection of its own, by the name it had before any renaming."""
        client = self.client()
        try:
            return client.execute_command(self._command(words[0]), *words[1:])
        finally:
            self._discard(client)

    def _discard(self, client: redis.Redis) -> None:
        client.close()
        self._clients.remove(client)

    def digest(self) -> bytes:
        """``DEBUG DIGEST``: 40 hex digits over all databases, keys, values and expiries."""
        if self.version < (5, 0):
            self._finish_rehashing()
        return bytes(self.execute("DEBUG", "DIGEST"))

    def _finish_rehashing(self) -> None:
        """Old servers (2.8.17, 3.0.5) crash when a digest meets a growing table; a look-up moves one bucket of it."""
        for name, numbers in self.info("keyspace").items():
            client = self.client(db=int(name[len("db") :]))
            pipeline = client.pipeline(transaction=False)
            for _key in range(numbers["keys"]):
                pipeline.exists(b"no such key")
            pipeline.execute()
            self._discard(client)

    def info(self, section: str = "all") -> dict[str, Any]:
        return dict(self.execute("INFO", section))

    def flush(self) -> None:
        """Empty it: every database, and the functions where it has them."""
        self.execute("FLUSHALL")
        if self.version >= (7, 0):
            self.execute("FUNCTION", "FLUSH")

    def save(self) -> Path:
        """Save now, and the file it was saved to."""
        self.execute("SAVE")
        return self.folder / str(self._config.get("dbfilename", "dump.rdb"))

    def wait_for_replicas(self, count: int = 1) -> None:
        """Wait until that many replicas have finished their full synchronisation."""

        def ready() -> bool:
            info = self.info("replication")
            slaves = [info.get("slave%d" % number) for number in range(int(info["connected_slaves"]))]
            return sum(1 for slave in slaves if slave and slave.get("state") == "online") >= count

        wait_until(ready, "%d replicas of %s online" % (count, self.address))

    def wait_for_link(self) -> None:
        """On a replica: wait until it has the data of its master."""
        wait_until(
            lambda: self.info("replication").get("master_link_status") == "up",
            "%s has its master's data" % self.address,
        )
