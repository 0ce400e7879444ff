# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Error lines as servers send them, and what an operator reads instead."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
import redis

from ansible_collections.dcs.migration.plugins.module_utils._errors import (
    AuthError,
    ConnectError,
    LostError,
    ReplyError,
    UsageError,
)
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Address
from ansible_collections.dcs.migration.plugins.module_utils._server.replies import reply_error, translate

HERE = Address("10.0.0.5", 6379)

LINES = [
    ("OOM command not allowed when used memory > 'maxmemory'.", ReplyError, "maxmemory"),
    ("READONLY You can't write against a read only replica.", ReplyError, "read-only replica"),
    ("MISCONF Redis is configured to save RDB snapshots", ReplyError, "stop-writes-on-bgsave-error"),
    ("LOADING Redis is loading the dataset in memory", ReplyError, "still loading"),
    ("MASTERDOWN Link with MASTER is down", ReplyError, "lost its master"),
    ("NOSCRIPT No matching script. Please use EVAL.", ReplyError, "script"),
    ("CLUSTERDOWN Hash slot not served", ReplyError, "every slot"),
    ("MOVED 3999 127.0.0.1:6381", ReplyError, "topology"),
    ("ERR unknown command `RESTORE`, with args beginning with: `k` `secret` ", ReplyError, "renamed"),
    ("ERR unknown command 'RESTORE'", ReplyError, "renamed"),
    ("ERR DUMP payload version or checksum are wrong", ReplyError, "newer server version"),
    ("ERR DB index is out of range", ReplyError, "db_map"),
    ("BUSYKEY Target key name already exists.", ReplyError, "on_conflict"),
    ("NOAUTH Authentication required.", AuthError, "Set password"),
    ("ERR operation not permitted", AuthError, "Set password"),
    ("NOPERM this user has no permissions to run the 'restore' command", AuthError, r"\+restore"),
    ("NOPERM No permissions to access a key", AuthError, "~"),
    ("DENIED Redis is running in protected mode because", ConnectError, "protected mode"),
    ("ERR max number of clients reached", ConnectError, "maxclients"),
    ("ERR something new", ReplyError, "something new"),
]


@pytest.mark.parametrize(("line", "kind", "words"), LINES)
def test_reply(line: str, kind: type, words: str) -> None:
    error = reply_error(line, HERE, "RESTORE", b"k\xff")
    assert error.__class__ is kind
    with pytest.raises(kind, match=words):
        raise error
    assert str(error).startswith("10.0.0.5:6379, RESTORE of key 'k\\xff': ")
    assert "secret" not in str(error) and error.remedy


@pytest.mark.parametrize("line", ["ERR new" * 1000, "WRONGTYPE Operation", "CROSSSLOT Keys", "EXECABORT Transaction", "OOM command"])
def test_a_message_stays_short_and_says_what_to_do(line: str) -> None:
    error = reply_error(line, HERE, "RESTORE", b"k" * 100_000)
    assert len(str(error)) < 1000 and error.remedy and "k...'" in error.what


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "refuses the username or password"),
        ("ERR invalid password", "refuses the username or password"),
        ("ERR Client sent AUTH, but no password is set", "none set"),
        ("ERR AUTH <password> called without any password configured for the default user.", "none set"),
        ("ERR wrong number of arguments for 'auth' command", "older than Redis 6"),
        ("ERR unknown command 'AUTH'", "does not know AUTH"),
    ],
)
def test_login(line: str, words: str) -> None:
    with pytest.raises(AuthError, match=words):
        raise reply_error(line, HERE, "AUTH")


def caused(outer: Exception, inner: Exception) -> Exception:
    """redis-py's error as it is raised: while another is being handled."""
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("exc", "kind", "words"),
    [
        (caused(redis.ConnectionError("x"), ConnectionRefusedError(111, "refused")), ConnectError, "refuses the connection"),
        (caused(redis.ConnectionError("x"), socket.gaierror(-2, "unknown")), ConnectError, "not known here"),
        (caused(redis.ConnectionError("x"), OSError(errno.ENETUNREACH, "Network is unreachable")), ConnectError, "unreachable"),
        (caused(redis.ConnectionError("x"), ssl.SSLCertVerificationError(1, "self-signed")), ConnectError, "not accepted"),
        (caused(redis.ConnectionError("x"), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x")), ConnectError, "set tls to false"),
        (caused(redis.ConnectionError("x"), ConnectionResetError(104, "reset")), LostError, "cut the connection"),
        (redis.TimeoutError("Timeout reading from socket"), ConnectError, "in time"),
        (socket.timeout("The handshake operation timed out"), ConnectError, "TLS"),
        (redis.ConnectionError("Connection closed by server."), LostError, "set tls to true"),
        (redis.InvalidResponse("Protocol Error"), ConnectError, "not answer like"),
        (redis.exceptions.BusyLoadingError("Redis is loading"), ReplyError, "still loading"),
        (redis.exceptions.ReadOnlyError("You can't write"), ReplyError, "read-only"),
        (redis.exceptions.OutOfMemoryError("command not allowed"), ReplyError, "maxmemory"),
    ],
)
def test_translate(exc: Exception, kind: type, words: str) -> None:
    error = translate(exc, HERE, "SET")
    assert error.__class__ is kind
    with pytest.raises(kind, match=words):
        raise error


def test_ours_pass_and_defects_stay_defects() -> None:
    ours = UsageError("a", "b")
    assert translate(ours, HERE) is ours
    with pytest.raises(KeyError):
        translate(KeyError("defect"), HERE)
