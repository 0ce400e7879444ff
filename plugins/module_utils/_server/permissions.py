# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which commands a login may use, found out without running one of them.

Two ways, both without effect on a real server:

* A command sent without its arguments. The server looks the name up before it counts arguments, so "wrong
  number of arguments" means it exists, "unknown command" that it was renamed or disabled. ACLs come later:
  they do not show.
* A command queued in a MULTI that is then discarded. ACLs are checked before queueing. Only used on real
  servers that have ACLs, and only with commands that would do no harm were they executed after all, since a
  proxy may not know MULTI.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from .._errors import ServerError
from .connect import call, open_client, raw_text
from .endpoint import Address, Endpoint
from .versions import RESERVED_PREFIX, Product

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

_KEY = RESERVED_PREFIX + b"probe:absent"

# Command -> the Redis version that brought it. All of them need at least one argument.
_COMMANDS: Dict[str, Tuple[int, ...]] = {
    "CONFIG": (2, 0),
    "CLIENT": (2, 4),
    "DEBUG": (1, 0),
    "DUMP": (2, 6),
    "EVAL": (2, 6),
    "FUNCTION": (7, 0),
    "KEYS": (1, 0),
    "MEMORY": (4, 0),
    "MIGRATE": (2, 6),
    "MOVE": (1, 0),
    "OBJECT": (2, 2),
    "PSYNC": (2, 8),
    "RESTORE": (2, 6),
    "SCAN": (2, 8),
    "SCRIPT": (2, 6),
    "SELECT": (1, 0),
    "SLAVEOF": (1, 0),
    "SWAPDB": (4, 0),
    "UNLINK": (4, 0),
    "WAIT": (3, 0),
    "XADD": (5, 0),
}

# What an ACL check is asked about; nothing here would change data if a server ran it.
_QUEUED: Dict[str, Tuple[object, ...]] = {
    "CONFIG": ("CONFIG", "GET", "maxmemory"),
    "DUMP": ("DUMP", _KEY),
    "EVAL": ("EVAL", "return 1", 0),
    "KEYS": ("KEYS", _KEY),
    "OBJECT": ("OBJECT", "ENCODING", _KEY),
    "RESTORE": ("RESTORE", _KEY, 0, b""),  # an empty payload is refused
    "SCAN": ("SCAN", 0),
    "DEL": ("DEL", _KEY),
    "PEXPIREAT": ("PEXPIREAT", _KEY, 1),
    "DBSIZE": ("DBSIZE",),
    "TIME": ("TIME",),
}

# A proxy's own list is found by using commands on a key that does not exist, one connection each.
_BEHIND_PROXY: Dict[str, Tuple[object, ...]] = {
    "CONFIG": ("CONFIG", "GET", "maxmemory"),
    "DBSIZE": ("DBSIZE",),
    "DUMP": ("DUMP", _KEY),
    "EVAL": ("EVAL", "return 1", 1, _KEY),
    "MULTI": ("MULTI",),
    "OBJECT": ("OBJECT", "ENCODING", _KEY),
    "RANDOMKEY": ("RANDOMKEY",),
    "RESTORE": ("RESTORE", _KEY, 0, b"x"),
    "SCAN": ("SCAN", 0),
    "SELECT": ("SELECT", 0),
    "TIME": ("TIME",),
    "XADD": ("XLEN", _KEY),
}

_UNKNOWN = ("unknown command", "unsupported command", "not allowed", "not supported", "disabled", "is forbidden", "unknown redis command")


class Psync(NamedTuple):
    """Whether a replication stream can be had, and if not why."""

    supported: Optional[bool]
    reason: str


def disabled_commands(endpoint: Endpoint, address: Address, product: Product) -> Tuple[str, ...]:
    """Commands that this version has but this login cannot use, sorted. Errors: ServerError while connecting."""
    client = open_client(endpoint, address)
    try:
        missing = {name for name, since in _COMMANDS.items() if product.compatible >= since and not _exists(client, name)}
        if product.compatible >= (6, 0):
            missing.update(_forbidden(client, [name for name in _QUEUED if name not in missing]))
        # Alone it would begin a synchronisation, so it is asked with one word too many.
        if _is_unknown(_answer(client, "SYNC", "x")):
            missing.add("SYNC")
    except (redis.ConnectionError, redis.TimeoutError):
        return ()  # a server that ends connections over questions gives no list
    finally:
        client.close()
    if "SLAVEOF" in missing:
        missing.add("REPLICAOF")
    missing.discard("SLAVEOF")
    return tuple(sorted(missing))


def disabled_by_proxy(endpoint: Endpoint, address: Address) -> Tuple[str, ...]:
    """The same for a proxy, which may end the connection over a command it does not know."""
    missing = []
    for name, words in _BEHIND_PROXY.items():
        try:
            client = open_client(endpoint, address)
        except ServerError:
            return ()
        try:
            call(client, *words)
        except redis.ResponseError as exc:
            if _is_unknown(raw_text(exc)):
                missing.append(name)
        except (redis.ConnectionError, redis.TimeoutError):
            missing.append(name)
        finally:
            client.close()
    return tuple(sorted(missing))


def is_read_only(endpoint: Endpoint, address: Address, product: Product) -> bool:
    """Whether writes are refused, by role or by ACL: asked with a SET that is queued and discarded."""
    client = open_client(endpoint, address)
    try:
        answers = _queue(client, [("SET", _KEY, b"1", "PX", 1)])
    except redis.RedisError:
        return False
    finally:
        client.close()
    return answers[0].startswith(("READONLY", "NOPERM"))


def psync(endpoint: Endpoint, address: Address, product: Product) -> Psync:
    """Whether this login may use PSYNC here, asked in a way that starts no BGSAVE. Errors: ServerError while connecting."""
    client = open_client(endpoint, address)
    try:
        return _psync(client, product)
    except (redis.ConnectionError, redis.TimeoutError):
        return Psync(False, "the server closed the connection over PSYNC")
    finally:
        client.close()


def _psync(client: redis.Redis, product: Product) -> Psync:
    answer = _answer(client, "PSYNC")
    if _is_unknown(answer):
        return Psync(False, "PSYNC is disabled or renamed")
    if "wrong number of arguments" not in answer:
        return Psync(False, "PSYNC is refused: %s" % answer)
    if product.compatible >= (7, 0):
        # From 7.0.0 on a bad offset is refused before anything else happens; older ones start a full sync over it.
        answer = _answer(client, "PSYNC", "?", "x")
        if "not an integer" in answer:
            answer = ""
    elif product.compatible >= (6, 0):
        answer = _queue(client, [("PSYNC", "?", "-1")])[0]
    else:
        answer = ""  # no ACLs: what exists is allowed
    if answer:
        reason = "this user may not use PSYNC" if answer.startswith("NOPERM") else "PSYNC is refused: %s" % answer
        return Psync(False, reason)
    answer = _answer(client, "REPLCONF", "capa", "eof")
    if answer.startswith("NOPERM"):
        return Psync(False, "this user may not use REPLCONF, which keeps a replication stream alive")
    return Psync(True, "PSYNC is allowed")


def _exists(client: redis.Redis, name: str) -> bool:
    return not _is_unknown(_answer(client, name))


def _forbidden(client: redis.Redis, names: Sequence[str]) -> List[str]:
    """Those of ``names`` that an ACL forbids as commands; keys out of reach are another matter."""
    answers = _queue(client, [_QUEUED[name] for name in names])
    return [name for name, text in zip(names, answers) if text.startswith("NOPERM") and " access " not in text]


def _queue(client: redis.Redis, commands: Sequence[Tuple[object, ...]]) -> List[str]:
    """Queue and discard; the error line of each, empty where it was queued."""
    if _answer(client, "MULTI"):
        return ["" for _command in commands]  # without MULTI nothing is known, and nothing must be run
    try:
        return [_answer(client, *words) for words in commands]
    finally:
        _answer(client, "DISCARD")


def _answer(client: redis.Redis, *words: object) -> str:
    """The error line that a command is answered with, empty for none."""
    try:
        call(client, *words)  # type: ignore[arg-type]
    except redis.ResponseError as exc:
        return raw_text(exc)
    return ""


def _is_unknown(text: str) -> bool:
    return any(part in text.lower() for part in _UNKNOWN)
