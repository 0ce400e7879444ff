# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a failed connection or an error reply means to an operator: one table, one translation.

Never puts an argument of a command into a message: AUTH's are secrets, a value may be anything.
"""

from __future__ import annotations

import socket
import ssl
from typing import Dict, Iterator, NamedTuple, Optional, Type

from .._errors import AuthError, ConnectError, LostError, MigrationError, ReplyError, ServerError
from .endpoint import Address

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]


class _Meaning(NamedTuple):
    """What the first word of an error line stands for; ``why`` empty means: the server's own words."""

    kind: Type[ServerError]
    why: str
    remedy: str


# For an answer that nobody has explained here.
_LOOK = "Look the answer up in the server's documentation and log"
# A key may be as long as a value; a message may not.
_KEY_SHOWN = 120

_MEANINGS: Dict[str, _Meaning] = {
    "WRONGPASS": _Meaning(AuthError, "refuses the username or password", "Check username and password of this endpoint"),
    "NOAUTH": _Meaning(AuthError, "asks for a password and none was given", "Set password (and username for an ACL user)"),
    "DENIED": _Meaning(
        ConnectError,
        "runs in protected mode and only answers its own host",
        "Set a password on the server (requirepass) or turn protected-mode off",
    ),
    "OOM": _Meaning(
        ReplyError,
        "is full: its memory reached maxmemory and its eviction policy frees nothing",
        "Give the instance more memory (raise maxmemory) and run again",
    ),
    "READONLY": _Meaning(
        ReplyError,
        "is a read-only replica",
        "Give the address of the master, or of Sentinel with sentinel_service; after a failover run again",
    ),
    "MISCONF": _Meaning(
        ReplyError,
        "stopped taking writes because it cannot save its RDB file",
        "Free disk space on the server, or set stop-writes-on-bgsave-error to no there",
    ),
    "LOADING": _Meaning(ReplyError, "is still loading its data set", "Wait until it is up and run again"),
    "MASTERDOWN": _Meaning(
        ReplyError,
        "is a replica that lost its master and serves no stale data",
        "Restore the replication, or give the address of a master",
    ),
    "NOMASTERLINK": _Meaning(ReplyError, "is a replica without a link to its master", "Wait for the link, or give the master"),
    "NOREPLICAS": _Meaning(
        ReplyError,
        "takes no writes because too few replicas are connected (min-replicas-to-write)",
        "Bring the replicas back, or set min-replicas-to-write to 0 during the migration",
    ),
    "NOSCRIPT": _Meaning(ReplyError, "does not have the script that was called by its hash", "Run again: it is loaded anew"),
    "BUSY": _Meaning(ReplyError, "is blocked by a running script", "End the script (SCRIPT KILL) and run again"),
    "BUSYKEY": _Meaning(ReplyError, "holds a key of this name already", "Set on_conflict to replace or skip"),
    "CLUSTERDOWN": _Meaning(
        ReplyError,
        "says the cluster is down",
        "Look at CLUSTER INFO: every slot must have a master that is up",
    ),
    "MOVED": _Meaning(
        ReplyError,
        "does not own the slot of this key",
        "It is a Redis Cluster whose slots moved, or that was addressed as a single instance: set topology to redis_cluster or auto",
    ),
    "ASK": _Meaning(ReplyError, "is moving the slot of this key to another node", "Finish the resharding and run again"),
    "TRYAGAIN": _Meaning(ReplyError, "is moving keys of this slot to another node", "Finish the resharding and run again"),
    "CROSSSLOT": _Meaning(ReplyError, "refuses one command over keys of several slots", "Set topology to redis_cluster or auto"),
    "WRONGTYPE": _Meaning(
        ReplyError, "holds a value of another type under this key", "Find out who else writes to it, delete the key there and run again"
    ),
    "EXECABORT": _Meaning(ReplyError, "discarded a transaction because a command in it was refused", _LOOK),
}

# Lower-case parts of "ERR ..." lines, first match wins.
_ERR_MEANINGS = (
    (
        "max number of clients reached",
        _Meaning(ConnectError, "has no free connection left (maxclients)", "Raise maxclients or end idle clients"),
    ),
    ("invalid password", _MEANINGS["WRONGPASS"]),
    ("invalid username-password", _MEANINGS["WRONGPASS"]),
    ("operation not permitted", _MEANINGS["NOAUTH"]),
    (
        "unknown command",
        _Meaning(ReplyError, "does not know the command", "It is newer than the server, renamed, or disabled by the provider or proxy"),
    ),
    (
        "unsupported command",
        _Meaning(ReplyError, "does not offer the command", "The proxy or provider disabled it"),
    ),
    (
        "unknown subcommand",
        _Meaning(ReplyError, "does not know the subcommand", "It is newer than the server, or disabled by the provider"),
    ),
    (
        "dump payload version or checksum are wrong",
        _Meaning(ReplyError, "refuses the serialized value", "The value was made for a newer server version"),
    ),
    ("bad data format", _Meaning(ReplyError, "refuses the serialized value", "The value is corrupt or its type unknown to this version")),
    ("cluster support disabled", _Meaning(ReplyError, "is not a Redis Cluster", "Set topology to auto")),
    ("db index is out of range", _Meaning(ReplyError, "does not have that many databases", "Set db_map, or raise databases on the server")),
    ("invalid db index", _Meaning(ReplyError, "does not have that many databases", "Set db_map, or raise databases on the server")),
    ("select is not allowed in cluster mode", _Meaning(ReplyError, "is a Redis Cluster and has database 0 only", "Set db_map")),
)

_NO_PASSWORD_SET = ("no password is set", "without any password configured")
_TLS_HINT = "If the port does not speak TLS set tls to false"
_PLAIN_HINT = "If the port speaks TLS set tls to true"


def is_no_password_set(line: str) -> bool:
    """Whether an error line says: AUTH came, but this server wants no password."""
    return any(part in line.lower() for part in _NO_PASSWORD_SET)


def reply_error(text: str, address: Address, command: str, key: Optional[bytes] = None) -> ServerError:
    """Turn an error line (without ``-`` and CRLF) that answered ``command`` into an error with a remedy.

    ``command`` is the bare name (``RESTORE``, ``CONFIG GET``), never its arguments.
    """
    what = "%s, %s" % (address, command) if command else str(address)
    if key is not None:
        what += " of key '%s%s'" % (key[:_KEY_SHOWN].decode("utf-8", "backslashreplace"), "..." if len(key) > _KEY_SHOWN else "")
    if command == "AUTH":
        return _auth_error(text, address)
    code, _space, rest = text.partition(" ")
    if code == "NOPERM":
        return AuthError(what, "this user lacks a permission: %s" % (rest or text), _noperm_remedy(command, rest))
    meaning = _MEANINGS.get(code)
    if meaning is None:
        lower = text.lower()
        meaning = next((m for part, m in _ERR_MEANINGS if part in lower), None)
    if meaning is None:
        return ReplyError(what, "answered %s" % _short(text), _LOOK)
    return meaning.kind(what, "%s (%s)" % (meaning.why, _short(text)), meaning.remedy)


def translate(exc: BaseException, address: Address, command: str = "", *, tls: Optional[bool] = None) -> MigrationError:
    """Turn what redis-py or the socket raised into one of our errors; ours pass through.

    ``tls`` (where known) decides which hint a silently closed connection gets. A programming error is
    not swallowed: anything that is neither redis-py's nor the operating system's is raised as it is.
    """
    if isinstance(exc, MigrationError):
        return exc
    for link in _chain(exc):
        error = _translate_os(link, address)
        if error is not None:
            return error
    if not isinstance(exc, redis.RedisError):
        raise exc
    if isinstance(exc, (redis.AuthenticationError, redis.ResponseError, redis.BusyLoadingError)) or _is_reply(exc):
        name = "AUTH" if isinstance(exc, redis.AuthenticationError) and _is_login(exc) else command
        return reply_error(raw_text(exc), address, name)
    if isinstance(exc, redis.TimeoutError):
        return _timeout(address)
    if isinstance(exc, redis.InvalidResponse):
        return ConnectError(str(address), "does not answer like a Redis server", _PLAIN_HINT if not tls else "Check host and port")
    text = str(exc)
    if "Connection has data" in text or "Connection not ready" in text:
        return ConnectError(
            str(address),
            "turned the connection down at once",
            "It runs in protected mode or has no free connection left (maxclients)",
        )
    hint = "See the server's log" if tls else _PLAIN_HINT
    return LostError(str(address), "closed the connection", hint)


def raw_text(exc: BaseException) -> str:
    """The server's error line; redis-py strips the code off those it knows."""
    text = str(exc)
    code = getattr(exc, "status_code", None) or _CODES.get(type(exc).__name__, "")
    if code and code != "ERR" and not text.startswith(code + " "):
        return "%s %s" % (code, text)
    return text


_CODES = {  # for redis-py versions without status_code
    "AuthenticationError": "",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "NoScriptError": "NOSCRIPT",
    "ExecAbortError": "EXECABORT",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "ClusterCrossSlotError": "CROSSSLOT",
    "MasterDownError": "MASTERDOWN",
}


def _auth_error(text: str, address: Address) -> ServerError:
    """The answers to AUTH, of which 'wrong number of arguments' means: no users before Redis 6."""
    what = str(address)
    lower = text.lower()
    if is_no_password_set(text):
        return AuthError(what, "a password was given but the server has none set", "Leave password out for this endpoint")
    if "wrong number of arguments" in lower:
        return AuthError(what, "knows no users: it is older than Redis 6", "Leave username out for this endpoint")
    if "unknown command" in lower or "unsupported command" in lower:
        return AuthError(what, "does not know AUTH (%s)" % _short(text), "The proxy or provider disabled it: leave password out")
    if text.startswith(("LOADING", "DENIED", "ERR max number of clients")):
        return reply_error(text, address, "")
    meaning = _MEANINGS["WRONGPASS"]
    return AuthError(what, "%s (%s)" % (meaning.why, _short(text)), meaning.remedy)


def _noperm_remedy(command: str, rest: str) -> str:
    if "key" in rest and "command" not in rest:
        return "Grant the user the keys, for example with ACL SETUSER <user> ~*"
    if command:
        return "Grant it with ACL SETUSER <user> +%s" % command.lower().replace(" ", "|")
    return "Grant it with ACL SETUSER"


def _short(text: str) -> str:
    """An error line cut to a length that still fits a message; unknown-command lines quote arguments: drop them."""
    text = text.split(", with args beginning with")[0]
    return text if len(text) <= 160 else text[:157] + "..."


def _chain(exc: Optional[BaseException]) -> Iterator[BaseException]:
    """The exception and what caused it."""
    seen = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def _is_reply(exc: BaseException) -> bool:
    """redis-py makes 'max number of clients' a ConnectionError although the server said it."""
    return "max number of clients" in str(exc)


def _is_login(exc: BaseException) -> bool:
    """AuthenticationError is also raised for NOAUTH on any command."""
    return getattr(exc, "status_code", None) != "NOAUTH" and not str(exc).startswith(("NOAUTH", "Authentication required"))


def _timeout(address: Address) -> ConnectError:
    return ConnectError(
        str(address), "did not answer in time", "Check that a firewall or security group lets this host reach the port"
    )


def _translate_os(exc: BaseException, address: Address) -> Optional[MigrationError]:
    """Errors of the operating system and of TLS; None for everything else."""
    what = str(address)
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = getattr(exc, "verify_message", "") or str(exc)
        return ConnectError(
            what,
            "its TLS certificate was not accepted: %s" % reason,
            "Set ca_certs to the CA that signed it, or validate_certs to false",
        )
    if isinstance(exc, ssl.SSLError):
        reason = getattr(exc, "reason", None) or str(exc)
        if "CERTIFICATE" in reason.upper() and "ALERT" in reason.upper():
            return ConnectError(what, "wants a client certificate (%s)" % reason, "Set client_cert and client_key")
        return ConnectError(what, "TLS failed: %s" % reason.replace("_", " ").lower(), _TLS_HINT)
    if isinstance(exc, socket.gaierror):
        return ConnectError(what, "the host name is not known here", "Check the spelling and the DNS of this host")
    if isinstance(exc, ConnectionRefusedError):
        return ConnectError(what, "refuses the connection", "Check host and port, and that the server listens on this address")
    if isinstance(exc, socket.timeout):
        if "handshake" in str(exc):
            return ConnectError(what, "does not answer the TLS greeting", _TLS_HINT)
        return _timeout(address)
    if isinstance(exc, (ConnectionResetError, BrokenPipeError)):
        return LostError(what, "cut the connection", _PLAIN_HINT)
    if isinstance(exc, OSError) and not isinstance(exc, FileNotFoundError):
        return ConnectError(what, exc.strerror or str(exc), "Check the network between this host and the server")
    return None
