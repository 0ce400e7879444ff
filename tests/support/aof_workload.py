# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A random mix of commands that change data, the same for the same seed: what an AOF consists of."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import redis

FAR = 4102444800  # 2100-01-01: absolute, so that two servers agree
_KEYS = 12

Words = list[Any]
Maker = Callable[["Workload"], "Words | list[Words]"]


class Workload:
    """``run(client, count)`` sends commands; ``used`` holds the names of those that were taken without an error."""

    def __init__(self, seed: int, *, cross_slot: bool = True, databases: int = 1, flush: bool = False) -> None:
        self.random = Random(seed)
        self.used: set[str] = set()
        self._cross_slot = cross_slot
        self._databases = databases
        self._flush = flush

    # -- parts -------------------------------------------------------------------------------------------------------

    def key(self, kind: str) -> str:
        """A key that holds this kind of value, if any."""
        tag = "{%s}" % kind if not self._cross_slot else kind
        return "%s:%d" % (tag, self.random.randrange(_KEYS))

    def queue(self) -> str:
        """A list from which blocking commands take."""
        return "{l}q"

    def word(self) -> bytes:
        random = self.random
        return random.choice((b"%d" % random.randrange(-50, 5000), random.randbytes(random.randrange(30)), b"word", b"x" * 200))

    def members(self) -> list[bytes]:
        return [b"m%d" % self.random.randrange(30) for _number in range(self.random.randrange(1, 5))]

    def number(self, top: int = 100) -> int:
        return self.random.randrange(1, top)

    def later(self) -> int:
        return FAR + self.random.randrange(1000)

    # -- use ---------------------------------------------------------------------------------------------------------

    def run(self, client: redis.Redis, count: int) -> None:
        """Send ``count`` steps in pipelines; errors (WRONGTYPE and the like) are part of the game."""
        makers = list(MAKERS.items())
        makers = [(name, make) for name, make in makers if self._cross_slot or name not in _NEEDS_OTHER_KINDS]
        done = 0
        while done < count:
            pipe = client.pipeline(transaction=False)
            sent: list[str] = []
            if self._databases > 1:
                pipe.execute_command(b"SELECT", self.random.randrange(self._databases))
                sent.append("SELECT")
            for _number in range(min(200, count - done)):
                name, make = self.random.choice(makers)
                for args in as_list(make(self)):
                    # As bytes the name finds no callback of redis-py's, which would want options.
                    pipe.execute_command(args[0].encode(), *args[1:])
                    sent.append(name)
                done += 1
            if self._flush and self.random.random() < 0.2:
                word = self.random.choice(("FLUSHDB", "FLUSHDB", "SWAPDB", "FLUSHALL"))
                numbers = [0, self._databases - 1] if word == "SWAPDB" else []
                pipe.execute_command(word.encode(), *numbers)
                sent.append(word)
            for name, reply in zip(sent, pipe.execute(raise_on_error=False)):
                if not isinstance(reply, redis.RedisError):
                    self.used.add(name)
        if self._databases > 1:
            client.execute_command(b"SELECT", 0)


def as_list(made: Any) -> list[Words]:
    """What a maker made, as a list of commands."""
    return made if made and isinstance(made[0], list) else [made]


def _transaction(w: Workload) -> list[Words]:
    return [["MULTI"], ["INCR", w.key("n")], ["RPUSH", w.key("l"), w.word()], ["DEL", w.key("s")], ["EXEC"]]


def _rename(w: Workload) -> list[Words]:
    kind = w.random.choice("slhtzx")
    return ["RENAME", w.key(kind), w.key(kind)]


def _copy(w: Workload) -> list[Words]:
    kind = w.random.choice("slhtzx")
    return ["COPY", w.key(kind), w.key(kind), "REPLACE"]


_SCRIPT = (
    "redis.call('APPEND', KEYS[1], ARGV[1]); redis.call('LPUSH', KEYS[2], ARGV[1]); "
    "if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('EXPIREAT', KEYS[3], ARGV[2]) end; return 1"
)

MAKERS: dict[str, Maker] = {
    "SET": lambda w: ["SET", w.key("s"), w.word()],
    "SET EX": lambda w: ["SET", w.key("s"), w.word(), "EX", 100_000 + w.number()],
    "SETEX": lambda w: ["SETEX", w.key("s"), 100_000, w.word()],
    "PSETEX": lambda w: ["PSETEX", w.key("s"), 100_000_000, w.word()],
    "SETNX": lambda w: ["SETNX", w.key("s"), w.word()],
    "GETSET": lambda w: ["GETSET", w.key("s"), w.word()],
    "GETDEL": lambda w: ["GETDEL", w.key("s")],
    "GETEX": lambda w: ["GETEX", w.key("s"), "EXAT", w.later()],
    "APPEND": lambda w: ["APPEND", w.key("s"), w.word()],
    "SETRANGE": lambda w: ["SETRANGE", w.key("s"), w.number(20), w.word()],
    "SETBIT": lambda w: ["SETBIT", w.key("s"), w.number(200), 1],
    "BITFIELD": lambda w: ["BITFIELD", w.key("s"), "INCRBY", "u8", w.number(50), 1],
    "BITOP": lambda w: ["BITOP", w.random.choice(("AND", "OR", "XOR")), w.key("s"), w.key("s"), w.key("s")],
    "MSET": lambda w: ["MSET", w.key("s"), w.word(), w.key("s"), w.word(), w.key("n"), w.number()],
    "MSETNX": lambda w: ["MSETNX", w.key("s"), w.word(), w.key("s"), w.word()],
    "INCR": lambda w: ["INCR", w.key("n")],
    "INCRBY": lambda w: ["INCRBY", w.key("n"), w.number()],
    "DECR": lambda w: ["DECR", w.key("n")],
    "DECRBY": lambda w: ["DECRBY", w.key("n"), w.number()],
    "INCRBYFLOAT": lambda w: ["INCRBYFLOAT", w.key("n"), "0.5"],
    "DEL": lambda w: ["DEL", w.key("s"), w.key("l"), w.key("z")],
    "UNLINK": lambda w: ["UNLINK", w.key("h"), w.key("t")],
    "RENAME": _rename,
    "RENAMENX": lambda w: ["RENAMENX", w.key("s"), w.key("s")],
    "COPY": _copy,
    "EXPIREAT": lambda w: ["EXPIREAT", w.key("s"), w.later()],
    "PEXPIREAT": lambda w: ["PEXPIREAT", w.key("l"), 1000 * w.later()],
    "EXPIRE": lambda w: ["EXPIRE", w.key("h"), 1_000_000],
    "PEXPIRE": lambda w: ["PEXPIRE", w.key("z"), 1_000_000_000],
    "EXPIRE past": lambda w: ["EXPIREAT", w.key("s"), 1],
    "PERSIST": lambda w: ["PERSIST", w.key("s")],
    "LPUSH": lambda w: ["LPUSH", w.key("l"), *w.members()],
    "RPUSH": lambda w: ["RPUSH", w.key("l"), *w.members()],
    "LPUSHX": lambda w: ["LPUSHX", w.key("l"), w.word()],
    "RPUSHX": lambda w: ["RPUSHX", w.key("l"), w.word()],
    "LPOP": lambda w: ["LPOP", w.key("l")],
    "RPOP": lambda w: ["RPOP", w.key("l")],
    "LINSERT": lambda w: ["LINSERT", w.key("l"), "BEFORE", "m1", w.word()],
    "LSET": lambda w: ["LSET", w.key("l"), 0, w.word()],
    "LREM": lambda w: ["LREM", w.key("l"), 1, "m2"],
    "LTRIM": lambda w: ["LTRIM", w.key("l"), 0, 20],
    "RPOPLPUSH": lambda w: ["RPOPLPUSH", w.key("l"), w.key("l")],
    "LMOVE": lambda w: ["LMOVE", w.key("l"), w.key("l"), "LEFT", "RIGHT"],
    "BLPOP": lambda w: [["RPUSH", w.queue(), "a", "b"], ["BLPOP", w.queue(), 1]],
    "BRPOPLPUSH": lambda w: [["RPUSH", w.queue(), "a", "b"], ["BRPOPLPUSH", w.queue(), w.key("l"), 1]],
    "SADD": lambda w: ["SADD", w.key("t"), *w.members()],
    "SREM": lambda w: ["SREM", w.key("t"), *w.members()],
    "SPOP": lambda w: ["SPOP", w.key("t")],
    "SPOP many": lambda w: ["SPOP", w.key("t"), 2],
    "SMOVE": lambda w: ["SMOVE", w.key("t"), w.key("t"), "m%d" % w.number(30)],
    "SUNIONSTORE": lambda w: ["SUNIONSTORE", w.key("t"), w.key("t"), w.key("t")],
    "SINTERSTORE": lambda w: ["SINTERSTORE", w.key("t"), w.key("t"), w.key("t")],
    "SDIFFSTORE": lambda w: ["SDIFFSTORE", w.key("t"), w.key("t"), w.key("t")],
    "SORT STORE": lambda w: ["SORT", w.key("t"), "ALPHA", "STORE", w.key("l")],
    "ZADD": lambda w: ["ZADD", w.key("z"), w.number(), "m%d" % w.number(30), "1.5", "m%d" % w.number(30)],
    "ZADD GT": lambda w: ["ZADD", w.key("z"), "GT", w.number(), "m%d" % w.number(30)],
    "ZINCRBY": lambda w: ["ZINCRBY", w.key("z"), "0.25", "m%d" % w.number(30)],
    "ZREM": lambda w: ["ZREM", w.key("z"), *w.members()],
    "ZPOPMIN": lambda w: ["ZPOPMIN", w.key("z")],
    "ZPOPMAX": lambda w: ["ZPOPMAX", w.key("z"), 2],
    "ZREMRANGEBYRANK": lambda w: ["ZREMRANGEBYRANK", w.key("z"), 10, -1],
    "ZREMRANGEBYSCORE": lambda w: ["ZREMRANGEBYSCORE", w.key("z"), 90, "+inf"],
    "ZREMRANGEBYLEX": lambda w: ["ZREMRANGEBYLEX", w.key("z"), "[m28", "+"],
    "ZUNIONSTORE": lambda w: ["ZUNIONSTORE", w.key("z"), 2, w.key("z"), w.key("z"), "WEIGHTS", 1, 2],
    "ZINTERSTORE": lambda w: ["ZINTERSTORE", w.key("z"), 2, w.key("z"), w.key("z")],
    "ZDIFFSTORE": lambda w: ["ZDIFFSTORE", w.key("z"), 2, w.key("z"), w.key("z")],
    "ZRANGESTORE": lambda w: ["ZRANGESTORE", w.key("z"), w.key("z"), 0, 5],
    "GEOADD": lambda w: ["GEOADD", w.key("g"), "13.361389", "38.115556", "m%d" % w.number(30)],
    "GEORADIUS STORE": lambda w: ["GEORADIUS", w.key("g"), 15, 37, 500, "km", "STORE", w.key("z")],
    "GEOSEARCHSTORE": lambda w: ["GEOSEARCHSTORE", w.key("z"), w.key("g"), "FROMLONLAT", 15, 37, "BYRADIUS", 500, "km"],
    "HSET": lambda w: ["HSET", w.key("h"), "f%d" % w.number(20), w.word(), "g", w.word()],
    "HMSET": lambda w: ["HMSET", w.key("h"), "f%d" % w.number(20), w.word()],
    "HSETNX": lambda w: ["HSETNX", w.key("h"), "f%d" % w.number(20), w.word()],
    "HINCRBY": lambda w: ["HINCRBY", w.key("h"), "count", w.number()],
    "HINCRBYFLOAT": lambda w: ["HINCRBYFLOAT", w.key("h"), "float", "0.1"],
    "HDEL": lambda w: ["HDEL", w.key("h"), "f%d" % w.number(20), "g"],
    "PFADD": lambda w: ["PFADD", w.key("p"), *w.members()],
    "PFCOUNT": lambda w: ["PFCOUNT", w.key("p")],
    "PFMERGE": lambda w: ["PFMERGE", w.key("p"), w.key("p"), w.key("p")],
    "XADD": lambda w: ["XADD", w.key("x"), "*", "f", w.word()],
    "XADD MAXLEN": lambda w: ["XADD", w.key("x"), "MAXLEN", "~", 20, "*", "f", w.word()],
    "XTRIM": lambda w: ["XTRIM", w.key("x"), "MAXLEN", 15],
    "XDEL": lambda w: [["XADD", w.key("x"), "1-1", "f", "v"], ["XDEL", w.key("x"), "1-1"]],
    "XGROUP": lambda w: ["XGROUP", "CREATE", w.key("x"), "grp", "0", "MKSTREAM"],
    "XGROUP more": lambda w: ["XGROUP", "CREATECONSUMER", w.key("x"), "grp", "other"],
    "XREADGROUP": lambda w: ["XREADGROUP", "GROUP", "grp", "me", "COUNT", 2, "STREAMS", w.key("x"), ">"],
    "XAUTOCLAIM": lambda w: ["XAUTOCLAIM", w.key("x"), "grp", "you", 0, "0-0", "COUNT", 2],
    "XSETID": lambda w: ["XSETID", w.key("x"), "9999999999999-0"],
    "EVAL": lambda w: ["EVAL", _SCRIPT, 3, w.key("s"), w.key("l"), w.key("t"), w.word(), FAR],
    "MULTI": _transaction,
}
# These would take keys of several slots even with a tag for each kind.
_NEEDS_OTHER_KINDS = {"DEL", "UNLINK", "MSET", "EVAL", "MULTI", "SORT STORE", "GEORADIUS STORE", "GEOSEARCHSTORE"}
