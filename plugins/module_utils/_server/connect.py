# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Connections: opened, TLS-wrapped, logged in.

Only AUTH is ever sent at connect, and only where a password is given: HELLO, CLIENT SETINFO and SELECT
make twemproxy and old servers drop the connection. Nothing is retried here and nothing reconnects by
itself: a connection that comes back silently would have forgotten its SELECT.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Optional, Union

from .._errors import ConnectError
from .endpoint import Address, Endpoint
from .replies import is_no_password_set, raw_text, reply_error, translate

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

CONNECT_TIMEOUT = 10.0  # seconds; a firewall that drops packets should not hold a preflight for minutes
REPLY_TIMEOUT = 60.0  # seconds; INFO on a server that forks or runs a slow script takes a while

Argument = Union[str, bytes, int]


def open_client(
    endpoint: Endpoint, address: Address, *, timeout: float = REPLY_TIMEOUT, connect_timeout: float = CONNECT_TIMEOUT
) -> redis.Redis:
    """Connect, log in and return a client that holds exactly this one connection.

    Replies are bytes (RESP2). ``timeout`` is seconds of silence before a reply counts as lost. Once the
    connection has ended the client is of no more use: open another. Errors: ConnectError, AuthError,
    ReplyError; errors of later calls are redis-py's own, for ``translate``.
    """
    login = _Login(endpoint, timeout)
    options = _options(endpoint, address, connect_timeout)
    try:
        pool = _OneConnection(connection_class=_connection_class(endpoint), redis_connect_func=login, **options)
        client = redis.Redis(connection_pool=pool, single_connection_client=True)
    except Exception as exc:  # every kind of failure has one translation
        raise translate(exc, address, tls=endpoint.tls) from exc
    client.auto_close_connection_pool = True
    login.done = True
    return client


def open_socket(endpoint: Endpoint, address: Address, timeout: float = REPLY_TIMEOUT) -> socket.socket:
    """Connect, log in and hand over the bare socket, nothing else sent or left unread.

    The caller owns it; its timeout is ``timeout`` seconds. Errors as in ``open_client``.
    """
    login = _Login(endpoint, timeout)
    options = _options(endpoint, address, CONNECT_TIMEOUT)
    connection = _connection_class(endpoint)(redis_connect_func=login, **options)
    try:
        connection.connect()
    except Exception as exc:
        raise translate(exc, address, tls=endpoint.tls) from exc
    sock = connection._sock
    connection._sock = None  # redis-py must not close what it no longer owns
    sock.settimeout(timeout)
    return sock


def call(client: redis.Redis, *args: Argument) -> Any:
    """Send one command, return the reply as the server sent it (no redis-py post-processing).

    redis-py picks its reply callback by the command's name as ``str``: as bytes it finds none.
    Raises redis-py's own errors.
    """
    name = args[0].encode() if isinstance(args[0], str) else args[0]
    return client.execute_command(name, *args[1:])


class _Login:
    """redis-py's connect hook: AUTH where a password is given, and nothing else."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self.done = False

    def __call__(self, connection: Any) -> None:
        if self.done:
            raise redis.ConnectionError("Connection closed by server.")
        connection.socket_timeout = self._timeout
        connection._parser.on_connect(connection)
        # Until here, and for AUTH, the shorter time limit of connecting holds: a port that expects TLS never answers.
        if self._endpoint.password is not None:
            self._log_in(connection)
        connection._sock.settimeout(self._timeout)

    def _log_in(self, connection: Any) -> None:
        error = self._auth(connection, self._endpoint.username, self._endpoint.password)
        if error is not None and self._endpoint.username == "default" and "wrong number of arguments" in error:
            error = self._auth(connection, None, self._endpoint.password)  # before Redis 6 that user had no name
        if error is None or (self._endpoint.shared_login and is_no_password_set(error)):
            return
        raise _Refused(error)

    @staticmethod
    def _auth(connection: Any, username: Optional[str], password: str) -> Optional[str]:
        """Send AUTH; return the server's error line or None. redis-py would hang up on some refusals: not here."""
        words = ("AUTH", username, password) if username else ("AUTH", password)
        connection.send_command(*words, check_health=False)
        try:
            connection.read_response(disconnect_on_error=False)
        except (redis.ResponseError, redis.AuthenticationError) as exc:
            return raw_text(exc)
        return None


if redis is not None:

    class _Refused(redis.AuthenticationError):
        """AUTH was answered with this error line."""

    class _OneConnection(redis.ConnectionPool):
        """A pool that connects and no more. redis-py's own looks for unread bytes, and TLS session tickets are such."""

        def get_connection(self, command_name: Optional[str] = None, *keys: Any, **options: Any) -> Any:
            connection = self.make_connection()
            self._in_use_connections.add(connection)
            connection.connect()
            return connection

else:
    _Refused = _OneConnection = Exception  # type: ignore[assignment,misc]


def _connection_class(endpoint: Endpoint) -> Any:
    return redis.SSLConnection if endpoint.tls else redis.Connection


def _options(endpoint: Endpoint, address: Address, connect_timeout: float) -> dict:
    """Keyword arguments of redis-py's connection classes."""
    options = {
        "host": address.host,
        "port": address.port,
        "socket_timeout": connect_timeout,
        "socket_connect_timeout": connect_timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if endpoint.tls:
        options.update(_tls_options(endpoint, address))
    return options


def _tls_options(endpoint: Endpoint, address: Address) -> dict:
    """The TLS part; raise ConnectError naming a certificate file that cannot be read."""
    for option in ("ca_certs", "client_cert", "client_key"):
        path = getattr(endpoint, option)
        if path and not os.access(path, os.R_OK):
            raise ConnectError(
                str(address), "%s file %s cannot be read" % (option, path), "The path is looked up where the module runs"
            )
    return {
        "ssl_cert_reqs": "required" if endpoint.validate_certs else "none",
        "ssl_check_hostname": endpoint.validate_certs,
        "ssl_ca_certs": endpoint.ca_certs,
        "ssl_certfile": endpoint.client_cert,
        "ssl_keyfile": endpoint.client_key or endpoint.client_cert,
    }


__all__ = ["CONNECT_TIMEOUT", "REPLY_TIMEOUT", "call", "open_client", "open_socket", "raw_text", "reply_error", "translate"]
