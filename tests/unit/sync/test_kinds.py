# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which commands overwrite and which build upon what is there: a wrong entry would lose data without a word."""

from __future__ import annotations

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.commands import KEYED, Commands, UnknownCommandError
from ansible_collections.dcs.migration.plugins.module_utils._sync.kinds import (
    ALL_OR_NOTHING,
    BUILDS,
    CONDITIONAL,
    EXPIRES,
    MANY,
    MAYBE_KEEPS,
    OTHER,
    OVERWRITES,
    Kinds,
    read_positions,
    releases,
)

# Each was thought about: what the key held before does not matter to the outcome.
OVERWRITING = set(b"GETDEL GETSET SETEX PSETEX DELEX RESTORE RESTORE-ASKING".split())
EXPIRING = set(b"EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST".split())
# On one key and with a meaning of their own for what it held.
BUILDING = set(
    b"""
    APPEND DECR DECRBY DELIFEQ GCRA GETEX INCR INCRBY INCRBYFLOAT INCREX SETRANGE SETBIT BITFIELD PFADD PFCOUNT
    LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LINSERT LSET LREM LTRIM SADD SREM SPOP
    ZADD ZINCRBY ZREM ZREMRANGEBYSCORE ZREMRANGEBYRANK ZREMRANGEBYLEX ZPOPMIN ZPOPMAX GEOADD
    HSET HSETNX HMSET HINCRBY HINCRBYFLOAT HDEL HGETDEL HGETEX HSETEX HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST
    XADD XDEL XTRIM XSETID XACK XCLAIM XAUTOCLAIM XDELEX XACKDEL XNACK XCFGSET XIDMPRECORD
    ARSET ARMSET ARDEL ARDELRANGE ARINSERT ARRING ARSEEK VADD VREM VSETATTR
    """.split()
)


@pytest.fixture(scope="module")
def commands() -> Commands:
    return Commands()


@pytest.fixture
def kinds(commands: Commands) -> Kinds:
    return Kinds(commands)


def test_every_command_of_the_table(commands: Commands, kinds: Kinds) -> None:
    """A new one in the table is to be thought about, so it is to be named here."""
    found: dict[int, set[bytes]] = {kind: set() for kind in (OVERWRITES, BUILDS, EXPIRES, CONDITIONAL, MANY, OTHER)}
    for name in Commands().known:
        found[kinds[name]].add(name)
    assert found[OVERWRITES] == OVERWRITING
    assert found[MANY] == {b"DEL", b"UNLINK"} and all(commands.spec(name).per_key == 1 for name in found[MANY])
    assert found[EXPIRES] == EXPIRING
    assert found[CONDITIONAL] == {b"SETNX"}
    assert found[BUILDS] == BUILDING
    written = {name for name in found[OTHER] if commands.spec(name).scope == KEYED and commands.spec(name).write}
    # Looked at one by one: their keys are several, or somewhere else.
    assert all(not commands.spec(name).one_key for name in written - {b"SET"})


def test_reading_is_not_writing(commands: Commands, kinds: Kinds) -> None:
    for name in (b"GET", b"TTL", b"DUMP", b"OBJECT", b"PING", b"MULTI", b"SELECT", b"FLUSHALL", b"PUBLISH"):
        assert kinds[name] == OTHER
    assert not commands.spec(b"GET").write


@pytest.mark.parametrize(
    "name, kind", [(b"incr", BUILDS), (b"Del", MANY), (b"pExpireAt", EXPIRES), (b"setnx", CONDITIONAL), (b"set", OTHER)]
)
def test_other_spellings(kinds: Kinds, name: bytes, kind: int) -> None:
    assert kinds[name] == kinds[name.upper()] == kind


def test_unknown_commands(kinds: Kinds) -> None:
    with pytest.raises(UnknownCommandError):
        kinds[b"NO.SUCH"]
    assert b"NO.SUCH" not in kinds


def test_learned_commands(commands: Commands) -> None:
    """Of a module nothing is known but where its keys are: they build."""
    known = Commands()
    known.learn([[b"one.set", 3, [b"write"], 1, 1, 1], [b"two.set", 3, [b"write"], 1, 2, 1], [b"one.get", 2, [b"readonly"], 1, 1, 1]])
    kinds = Kinds(known)
    assert (kinds[b"one.set"], kinds[b"two.set"], kinds[b"ONE.GET"]) == (BUILDS, OTHER, OTHER)


def test_hostile_spellings_do_not_fill_the_memory(kinds: Kinds) -> None:
    for number in range(1 << 15):
        name = bytes(char ^ 32 if number >> bit & 1 else char for bit, char in enumerate(b"ZREMRANGEBYSCORE"))
        assert kinds[name] == BUILDS
    assert len(kinds) <= 4096


@pytest.mark.parametrize(
    "options, kind",
    [
        ("", OVERWRITES),
        ("EX 10", OVERWRITES),
        ("PXAT 4102444800000", OVERWRITES),
        ("pxat 4102444800000", OVERWRITES),
        ("KEEPTTL", BUILDS),
        ("keepttl", BUILDS),
        ("XX KEEPTTL", BUILDS),
        ("KEEPTTL XX", BUILDS),
        ("NX", CONDITIONAL),
        ("nx PX 10", CONDITIONAL),
        ("EX 10 XX", CONDITIONAL),
        ("GET", CONDITIONAL),
        ("IFEQ old", CONDITIONAL),
        ("IFDNE 0123", CONDITIONAL),
    ],
)
def test_set(kinds: Kinds, options: str, kind: int) -> None:
    assert kinds.of_set([b"SET", b"k", b"v", *options.encode().split()]) == kind


def test_set_takes_no_value_for_an_option(kinds: Kinds) -> None:
    assert kinds.of_set([b"SET", b"KEEPTTL", b"NX"]) == OVERWRITES


@pytest.mark.parametrize("value", ["5", "-5", "0.1", "-1034.50000000000000001"])
def test_a_set_that_may_have_been_an_increment(commands: Commands, kinds: Kinds, value: str) -> None:
    words = [b"SET", b"k", value.encode()]
    assert kinds.of_set(words) == OVERWRITES
    old = Kinds(commands, float_sets=True)
    assert old.of_set(words) == MAYBE_KEEPS
    assert old.of_set([*words, b"EX", b"1"]) == OVERWRITES
    assert old.of_set([*words[:2], words[2] + b"x"]) == OVERWRITES


# A key known to have no expiry is not asked about again, so each command that may give it one has to say so.
@pytest.mark.parametrize(
    "name",
    b"""
    GETEX HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST HSETEX HGETEX INCREX GCRA MSETEX EVAL EVALSHA FCALL SORT getex HSetEx
    """.split(),
)
def test_what_may_change_an_expiry(name: bytes) -> None:
    assert releases(name)


@pytest.mark.parametrize("name", b"INCR APPEND HSET SADD XADD SETRANGE LPUSH incr".split())
def test_what_leaves_the_expiry(name: bytes) -> None:
    assert not releases(name)


@pytest.mark.parametrize(
    "text, read",
    [
        ("MSET a 1 b 2", ""),
        ("DEL a b", ""),
        ("RENAME a b", ""),
        ("MSETNX a 1 b 2", ""),
        ("SUNIONSTORE d a b", "a b"),
        ("SUNIONSTORE a a b", "a b"),
        ("ZUNIONSTORE d 2 a b", "a b"),
        ("PFMERGE d a b", "d a b"),
        ("BITOP OR d a b", "a b"),
        ("COPY a b", "a"),
        ("SMOVE a b m", "a b"),
        ("LMOVE a b LEFT RIGHT", "a b"),
        ("SORT a STORE b", "a b"),
        ("EVAL script 2 a b", "a b"),
    ],
)
def test_what_the_result_depends_on(commands: Commands, text: str, read: str) -> None:
    args = text.encode().split()
    spec = commands.spec(args[0])
    assert [args[pos] for pos in read_positions(args, spec, spec.find(args))] == read.encode().split()


def test_replies_that_say_that_nothing_was_done(commands: Commands) -> None:
    assert ALL_OR_NOTHING == {b"RENAMENX", b"MSETNX", b"MSETEX", b"COPY", b"SMOVE", b"MOVE"}
    assert all(commands.spec(name).write for name in ALL_OR_NOTHING)
