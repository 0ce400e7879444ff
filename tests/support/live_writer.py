# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An application that goes on writing while its source is migrated: every write command there is, on keys that expire and collide.

    with LiveWriter(source, databases=3) as writer:
        ...
        writer.stop()
    assert len(writer.used) >= 60

Beside the random mix, in which later commands hide what went wrong with earlier ones, it leaves evidence that nothing overwrites:

* a journal that shows what was lost or applied twice: ``ctr:<n>`` and the less busy ``cold:<n>`` by INCR, ``log:<n>`` (RPUSH) and
  ``app:<n>`` (APPEND) of a running number, ``xs:<n>`` by XADD. ``journal_problems`` reads it.
* races with the clock: ``race:<letter>:<n>``, keys of one use that are about to expire when something is made of them.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Union

import redis

from .access import identify
from .aof_workload import FAR, MAKERS, Maker, Words, Workload, as_list
from .cluster_server import RedisCluster
from .logical import Snapshot
from .redis_server import RedisServer

Deployment = Union[RedisServer, RedisCluster]

# What one pipeline holds at most: small, so that the streams of several writers interleave.
_BATCH = 12
# One step in this many empties or swaps databases.
_FLUSH_STEPS = 15_000
_JOURNALS = 3
_COLD = 300
_RACE_BATCHES = 3
_RETRY_SECONDS = 0.05
# Few enough that keys collide all the time, enough that every node of a small cluster owns several.
_TAGS = 16
_KINDS = "snlhtzxgp"

_MANY_KEYS = (
    "redis.call('APPEND', KEYS[1], ARGV[1]); redis.call('LPUSH', KEYS[2], ARGV[1]); "
    "if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end; redis.call('INCR', KEYS[4]); return 1"
)
_THREE_KEYS = "redis.call('SET', KEYS[2], redis.call('GET', KEYS[1]) or 'none'); redis.call('APPEND', KEYS[3], redis.call('GET', KEYS[2])); return 1"
_TWO_DATABASES = "redis.call('INCR', KEYS[1]); redis.call('SELECT', ARGV[1]); redis.call('INCR', KEYS[1]); return 1"
_LIBRARY = """#!lua name=live
redis.register_function('live_push', function(keys, args)
  redis.call('RPUSH', keys[1], args[1])
  redis.call('INCR', keys[2])
  if redis.call('EXISTS', keys[3]) == 1 then redis.call('PEXPIRE', keys[3], args[2]) end
  return redis.call('SPOP', keys[4])
end)"""


class Mix(Workload):
    """The commands of one writer: those of an AOF, and what only time and other clients bring about.

    ``tag`` goes before each key: a hash tag, which keeps the commands on several keys in one slot.
    """

    def __init__(self, seed: int, databases: int) -> None:
        super().__init__(seed, databases=databases)
        self.databases = databases
        self.tag = ""
        self.sha = ""
        # What the source answered, for commands that need to know: entry IDs by stream, payloads.
        self.entries: dict[str, deque[bytes]] = {}
        self.payloads: deque[bytes] = deque([b""], maxlen=20)

    def key(self, kind: str) -> str:
        return self.tag + super().key(kind)

    def any(self) -> str:
        """A key of any type."""
        return self.key(self.random.choice(_KINDS))

    def queue(self) -> str:
        return self.tag + "q"

    def short(self) -> int:
        """Milliseconds after which a key is gone before long."""
        return self.random.choice((self.random.randrange(10, 100), self.random.randrange(10, 2000)))

    def soon(self) -> int:
        """The time at which it will be gone."""
        return int(time.time() * 1000) + self.short()

    def database(self) -> int:
        return self.random.randrange(self.databases)

    def entry(self, stream: str) -> bytes:
        """The ID of an entry that the stream has or had."""
        known = self.entries.get(stream)
        return self.random.choice(known) if known else b"1-1"

    def take(self, args: Words, reply: Any) -> None:
        """Remember from a reply what later commands refer to."""
        if args[0] == "XADD" and isinstance(reply, bytes):
            self.entries.setdefault(args[1], deque(maxlen=30)).append(reply)
        elif args[0] == "DUMP" and isinstance(reply, bytes):
            self.payloads.append(reply)


def _race(w: Mix) -> list[Words]:
    """A key about to expire that is changed, and maybe kept after all."""
    key = w.key("n")
    made: list[Words] = [["SET", key, 1, "PX", w.random.randrange(5, 60)], ["INCR", key]]
    made += w.random.sample([["PEXPIRE", key, 300], ["INCRBY", key, 3], ["PERSIST", key], ["EXPIRE", key, 1], ["GETSET", key, 7]], 3)
    return made


def _keep(w: Mix) -> list[Words]:
    """Extend or keep a key that an earlier command let expire."""
    key = w.any()
    return [w.random.choice((["PERSIST", key], ["PEXPIRE", key, 2000], ["EXPIRE", key, 100_000], ["EXPIREAT", key, w.later()]))]


def _evidence(w: Mix, number: int) -> list[Words]:
    """What the source does within one millisecond, and a target that is late must do, too, although the key is dead there by then."""
    a, b, c = ("%srace:%s:%d" % (w.tag, letter, number) for letter in "abc")
    soon = w.random.choice((w.random.randrange(3, 30), w.random.randrange(30, 300)))
    made = w.random.choice(
        (
            [["SET", a, number, "PX", soon], ["SET", b, "old"]],
            [["SET", a, number], ["PEXPIRE", a, soon], ["SET", b, "old"]],
            [["SET", a, number], ["EXPIREAT", a, int(time.time()) + 1], ["SET", b, "old"]],
        )
    )
    return made + w.random.choice(
        (
            [["PERSIST", a]],
            [["INCR", a], ["PERSIST", a]],
            [["PEXPIRE", a, 100_000_000], ["APPEND", a, "more"]],
            [["GETSET", a, "new"], ["SETRANGE", a, 5, "x"]],
            [["DECRBY", a, 3], ["EXPIRE", a, 100_000], ["INCRBYFLOAT", a, "0.5"]],
            [["INCR", a]],
            # Of b another key is made, which is wrong where b still is the old one.
            [["RENAME", a, b], ["PERSIST", b], ["BITOP", "OR", c, b]],
            [["BITOP", "OR", b, a], ["BITOP", "OR", c, b, b]],
            [["COPY", a, b, "REPLACE"], ["PERSIST", b], ["COPY", b, c, "REPLACE"]],
            [["MULTI"], ["INCR", a], ["BITOP", "OR", b, a], ["EXEC"], ["BITOP", "OR", c, b]],
            [["EVAL", _THREE_KEYS, 3, a, b, c]],
            [["SET", a, "again", "XX", "KEEPTTL"], ["PERSIST", a], ["RENAMENX", a, c]],
        )
    )


# Beyond those of MAKERS. Commands that a server does not know are errors there, and errors are part of the game.
_LIVE: dict[str, Any] = {
    "SET PX": lambda w: ["SET", w.key("s"), w.word(), "PX", w.short()],
    "SET PXAT": lambda w: ["SET", w.key("s"), w.word(), "PXAT", w.soon()],
    "SET KEEPTTL": lambda w: ["SET", w.key("s"), w.word(), "KEEPTTL"],
    "SET NX": lambda w: ["SET", w.key("s"), w.word(), "NX", "PX", w.short()],
    "SET XX": lambda w: ["SET", w.key("s"), w.word(), "XX", "GET"],
    "SET NX GET": lambda w: ["SET", w.key("s"), w.word(), "NX", "GET", "EX", 1],
    "SET IFEQ": lambda w: ["SET", w.key("s"), w.word(), "IFEQ", "word"],
    "DELIFEQ": lambda w: ["DELIFEQ", w.key("s"), "word"],
    "SETEX short": lambda w: ["SETEX", w.key("s"), 1, w.word()],
    "PSETEX short": lambda w: ["PSETEX", w.key("s"), w.short(), w.word()],
    "GETEX short": lambda w: ["GETEX", w.key("s"), "PX", w.short()],
    "GETEX PERSIST": lambda w: ["GETEX", w.key("s"), "PERSIST"],
    "EXPIRE short": lambda w: ["EXPIRE", w.any(), w.number(3)],
    "EXPIREAT short": lambda w: ["EXPIREAT", w.any(), w.soon() // 1000 + 1],
    "PEXPIRE short": lambda w: ["PEXPIRE", w.any(), w.short()],
    "PEXPIREAT short": lambda w: ["PEXPIREAT", w.any(), w.soon()],
    "PEXPIRE if": lambda w: ["PEXPIRE", w.any(), w.short(), w.random.choice(("NX", "XX", "GT", "LT"))],
    "keep": _keep,
    "race": _race,
    "EXPIRE renamed": lambda w: [["PEXPIRE", w.key("s"), w.short()], ["RENAME", w.key("s"), w.key("s")]],
    "BITFIELD many": lambda w: ["BITFIELD", w.key("s"), "SET", "u8", 3, w.number(), "OVERFLOW", "SAT", "INCRBY", "i5", 8, 3],
    "MOVE": lambda w: ["MOVE", w.any(), w.database()],
    "COPY DB": lambda w: ["COPY", w.key("l"), w.key("l"), "DB", w.database(), "REPLACE"],
    "DUMP": lambda w: ["DUMP", w.any()],
    "RESTORE": lambda w: ["RESTORE", w.any(), w.random.choice((0, w.short())), w.random.choice(w.payloads), "REPLACE"],
    "BLPOP wait": lambda w: ["BLPOP", w.queue(), "0.02"],
    "BLMOVE": lambda w: ["BLMOVE", w.queue(), w.key("l"), "LEFT", "RIGHT", "0.02"],
    "LMPOP": lambda w: ["LMPOP", 2, w.key("l"), w.key("l"), "LEFT", "COUNT", 2],
    "ZMPOP": lambda w: ["ZMPOP", 2, w.key("z"), w.key("z"), "MIN", "COUNT", 2],
    "BZPOPMIN": lambda w: [["ZADD", w.key("z"), 1, "m1"], ["BZPOPMIN", w.key("z"), "0.02"]],
    "LPUSH queue": lambda w: ["LPUSH", w.queue(), w.word()],
    "ZADD options": lambda w: ["ZADD", w.key("z"), w.random.choice(("NX", "XX", "CH")), w.number(), "m%d" % w.number(30)],
    "ZADD INCR": lambda w: ["ZADD", w.key("z"), "INCR", "0.1", "m%d" % w.number(30)],
    "XADD MINID": lambda w: ["XADD", w.key("x"), "MINID", "~", w.entry(w.key("x")), "*", "f", w.word()],
    "XADD NOMKSTREAM": lambda w: ["XADD", w.key("x"), "NOMKSTREAM", "*", "f", w.word()],
    "XDEL real": lambda w: [["XDEL", key := w.key("x"), w.entry(key)]],
    "XACK": lambda w: [["XACK", key := w.key("x"), "grp", w.entry(key), w.entry(key)]],
    "XCLAIM": lambda w: [["XCLAIM", key := w.key("x"), "grp", "you", 0, w.entry(key)]],
    "XCLAIM JUSTID": lambda w: [["XCLAIM", key := w.key("x"), "grp", "me", 0, w.entry(key), "JUSTID"]],
    "XCLAIM FORCE": lambda w: [["XCLAIM", key := w.key("x"), "grp", "you", 0, w.entry(key), "TIME", w.soon(), "RETRYCOUNT", 3, "FORCE"]],
    "XGROUP SETID": lambda w: [["XGROUP", "SETID", key := w.key("x"), "grp", w.entry(key)]],
    "XGROUP DELCONSUMER": lambda w: ["XGROUP", "DELCONSUMER", w.key("x"), "grp", "other"],
    "XREADGROUP NOACK": lambda w: ["XREADGROUP", "GROUP", "grp", "fast", "COUNT", 1, "NOACK", "STREAMS", w.key("x"), ">"],
    "XTRIM MINID": lambda w: [["XTRIM", key := w.key("x"), "MINID", w.entry(key)]],
    "HPEXPIRE": lambda w: ["HPEXPIRE", w.key("h"), w.short(), "FIELDS", 2, "f%d" % w.number(20), "g"],
    "HEXPIREAT": lambda w: ["HEXPIREAT", w.key("h"), w.later(), "FIELDS", 1, "f%d" % w.number(20)],
    "HPERSIST": lambda w: ["HPERSIST", w.key("h"), "FIELDS", 2, "f%d" % w.number(20), "g"],
    "HGETEX": lambda w: ["HGETEX", w.key("h"), "PX", w.short(), "FIELDS", 1, "f%d" % w.number(20)],
    "HSETEX": lambda w: ["HSETEX", w.key("h"), "PX", w.short(), "FIELDS", 1, "f%d" % w.number(20), w.word()],
    "HGETDEL": lambda w: ["HGETDEL", w.key("h"), "FIELDS", 1, "f%d" % w.number(20)],
    "EVALSHA": lambda w: ["EVALSHA", w.sha, 4, w.key("s"), w.key("l"), w.any(), w.key("n"), w.word(), w.short()],
    "EVAL short": lambda w: ["EVAL", _MANY_KEYS, 4, w.key("s"), w.key("l"), w.any(), w.key("n"), w.word(), w.short()],
    "FCALL": lambda w: ["FCALL", "live_push", 4, w.key("l"), w.key("n"), w.any(), w.key("t"), w.word(), w.short()],
    "MULTI short": lambda w: [["MULTI"], ["SET", w.key("s"), 1, "PX", w.short()], ["PEXPIRE", w.any(), 1000], ["SPOP", w.key("t")], ["EXEC"]],
    "PUBLISH": lambda w: ["PUBLISH", "channel", w.word()],
}
# More than one database.
_DATABASES: dict[str, Any] = {
    "MULTI SELECT": lambda w: [
        ["MULTI"], ["INCR", w.key("n")], ["SELECT", w.database()], ["INCR", w.key("n")], ["RPUSH", w.key("l"), w.word()], ["EXEC"],
    ],  # fmt: skip
    "EVAL SELECT": lambda w: ["EVAL", _TWO_DATABASES, 1, w.key("n"), w.database()],
    "SELECT": lambda w: ["SELECT", w.database()],
}


class LiveWriter:
    """Writes from ``threads`` threads until ``stop``; ``rate``: commands per second, all threads together.

    ``flush``: with FLUSHDB, FLUSHALL and, on several databases, SWAPDB, once in a long while; may be changed meanwhile.
    ``filler``: bytes beside each batch, so that there is more to be caught up with; may be changed, too. A cluster is written to by way of
    hash tags and has one database. A source that cannot be reached or refuses is tried again; ``errors`` counts what it said.
    """

    def __init__(
        self, source: Deployment, *, seed: int = 1, rate: float = 1500, threads: int = 2, databases: int = 1, flush: bool = True
    ) -> None:
        self.used: set[str] = set()
        self.errors: Counter[str] = Counter()
        self.sent = 0
        self.source = source
        self._rate = rate / threads
        self.flush = flush
        self.filler = 0
        self._ended = threading.Event()
        self._broken: BaseException | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        mixes = [Mix(seed * 1000 + number, databases) for number in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(mix,), daemon=True) for mix in mixes]

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> LiveWriter:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End it, and raise what broke it if anything did."""
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(30)
        broken, self._broken = self._broken, None
        if broken is not None:
            raise broken

    def retarget(self, source: Deployment) -> None:
        """Go on writing to this one: what an application does after a failover."""
        self.source = source

    def __enter__(self) -> LiveWriter:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    # -- a thread ----------------------------------------------------------------------------------------------------

    def _run(self, mix: Mix) -> None:
        try:
            while not self._ended.is_set():
                source = self.source
                try:
                    route = _ClusterRoute(source) if isinstance(source, RedisCluster) else _Route(source)
                    try:
                        self._write(mix, source, route)
                    finally:
                        route.close()
                # A cluster client says by other errors that it finds no node.
                except (redis.ConnectionError, redis.TimeoutError, redis.RedisError, OSError) as exc:
                    self._count(exc)
                    self._ended.wait(_RETRY_SECONDS)
        except BaseException as exc:
            self._broken = exc

    def _write(self, mix: Mix, source: Deployment, route: _Route) -> None:
        route.prepare(mix)
        makers = list({**MAKERS, **_LIVE, **(_DATABASES if mix.databases > 1 else {})}.items())
        due = time.monotonic()
        while not self._ended.is_set() and self.source is source:
            mix.tag = route.next_tag(mix)
            steps = self._steps(mix, makers)
            for name, args, reply in route.send(steps):
                if isinstance(reply, redis.RedisError):
                    self._count(reply)
                    if isinstance(reply, redis.ReadOnlyError):
                        raise reply
                else:
                    mix.take(args, reply)
                    self.used.add(name)
            with self._lock:
                self.sent += len(steps)
            due = max(due + len(steps) / self._rate, time.monotonic() - 1)
            self._ended.wait(max(0.0, due - time.monotonic()))

    def _steps(self, mix: Mix, makers: list[tuple[str, Maker]]) -> list[tuple[str, Words]]:
        number = next(self._numbers)
        journal = mix.random.randrange(_JOURNALS)
        steps: list[tuple[str, Words]] = []
        if mix.databases > 1:
            steps.append(("SELECT", ["SELECT", mix.database()]))
        place = mix.tag, journal
        steps.append(("INCR", ["INCR", "%sctr:%d" % place]))
        steps.append(("INCR", ["INCR", "%scold:%d" % (mix.tag, mix.random.randrange(_COLD))]))
        steps.append(("RPUSH", ["RPUSH", "%slog:%d" % place, number]))
        for _step in range(mix.random.randrange(_BATCH)):
            _name, make = mix.random.choice(makers)
            # Of commands that have parts, each part counts: a transaction's INCR is an INCR.
            steps += [(str(args[0]), args) for args in as_list(make(mix))]
        if self.flush and mix.random.randrange(_FLUSH_STEPS) < _BATCH:
            word = mix.random.choice(("FLUSHDB", "FLUSHDB", "FLUSHALL", "SWAPDB"))
            numbers = [mix.database(), mix.database()] if word == "SWAPDB" else []
            if word != "SWAPDB" or mix.databases > 1:
                steps.append((word, [word, *numbers]))
        if number % _RACE_BATCHES == 0:
            steps += [(str(args[0]), args) for args in _evidence(mix, number)]
        if self.filler:
            steps.append(("SET", ["SET", "%sfill:%d" % (mix.tag, number % 10), b"%d " % number * (self.filler // 5)]))
        steps.append(("XADD", ["XADD", "%sxs:%d" % place, "*", "n", number]))
        steps.append(("APPEND", ["APPEND", "%sapp:%d" % place, "%d " % number]))
        return steps

    def _count(self, exc: BaseException) -> None:
        with self._lock:
            self.errors[" ".join(str(exc).split()[:4])] += 1


class _Route:
    """The way of a writer to a single server."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client(single_connection_client=True, socket_timeout=10)

    def prepare(self, mix: Mix) -> None:
        """Load what scripts need."""
        _prepare(self._client, mix)

    def next_tag(self, mix: Mix) -> str:
        return ""

    def send(self, steps: list[tuple[str, Words]]) -> Iterator[tuple[str, Words, Any]]:
        yield from _send(self._client, steps)

    def close(self) -> None:
        self._client.close()


class _ClusterRoute(_Route):
    """The way to a cluster: each pipeline holds one hash tag's commands and goes to the owner of its slot."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = next(cluster.client(host="127.0.0.1", port=node.port) for node in cluster.nodes if node.process.running)
        self._tag = ""

    def prepare(self, mix: Mix) -> None:
        for node in self._cluster.get_primaries():
            _prepare(self._cluster.get_redis_connection(node), mix)

    def next_tag(self, mix: Mix) -> str:
        self._tag = "{%d}" % mix.random.randrange(_TAGS)
        return self._tag

    def send(self, steps: list[tuple[str, Words]]) -> Iterator[tuple[str, Words, Any]]:
        node = self._cluster.nodes_manager.get_node_from_slot(self._cluster.keyslot(self._tag), False)
        moved = False
        for name, args, reply in _send(self._cluster.get_redis_connection(node), steps):
            if isinstance(reply, redis.exceptions.AskError):
                reply = self._ask(reply, args)
            moved = moved or isinstance(reply, redis.exceptions.MovedError)
            yield name, args, reply
        if moved:
            self._cluster.nodes_manager.initialize()

    def _ask(self, answer: redis.exceptions.AskError, args: Words) -> Any:
        """Go where the keys of a slot in migration went."""
        node = self._cluster.get_node(answer.host, answer.port)
        if node is None:
            return answer
        return list(_send(self._cluster.get_redis_connection(node), [("ASKING", ["ASKING"]), (str(args[0]), args)]))[-1][2]

    def close(self) -> None:
        self._cluster.close()


def _prepare(client: redis.Redis, mix: Mix) -> None:
    mix.sha = client.script_load(_MANY_KEYS)
    if identify(client).functions:
        client.function_load(_LIBRARY, replace=True)


def _send(client: redis.Redis, steps: list[tuple[str, Words]]) -> Iterator[tuple[str, Words, Any]]:
    pipe = client.pipeline(transaction=False)
    for _name, args in steps:
        # As bytes the name finds no callback of redis-py's, which would want options.
        pipe.execute_command(args[0].encode(), *args[1:])
    for (name, args), reply in zip(steps, pipe.execute(raise_on_error=False)):
        yield name, args, reply


# -- the journal ---------------------------------------------------------------------------------------------------------


def journal_problems(source: Snapshot, target: Snapshot) -> list[str]:
    """A line for each journal that is not the same in the target: what is missing there, what is there twice."""
    problems = []
    for (database, key), entry in sorted(source.items()):
        name = key.rpartition(b"}")[2].partition(b":")[0]
        if name not in (b"ctr", b"cold", b"log", b"app", b"xs"):
            continue
        other = target.get((database, key))
        if other is None or other.value == entry.value or other.type != entry.type:
            continue
        label = "db %d %s" % (database, key.decode())
        if name in (b"ctr", b"cold"):
            problems.append("%s: %s, in the target %s" % (label, entry.value.decode(), other.value.decode()))
            continue
        here, there = Counter(_numbers(entry)), Counter(_numbers(other))
        lost, more = sorted((here - there).elements()), sorted((there - here).elements())
        problems.append("%s: lost %s, too many %s%s" % (label, lost[:5], more[:5], "" if lost or more else ", in another order"))
    return problems


def _numbers(entry: Any) -> list[bytes]:
    if entry.type == "string":
        return list(entry.value.split())
    if entry.type == "list":
        return list(entry.value)
    return [fields[1] for _identifier, fields in entry.value["entries"]]


__all__ = ["FAR", "Deployment", "LiveWriter", "journal_problems"]
