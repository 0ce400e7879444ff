# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys, scopes and cuts of commands; and the whole table against what real servers answer to COMMAND."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import command_table, commands
from ansible_collections.dcs.migration.plugins.module_utils._codec.commands import Commands, UnknownCommandError
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError, UnsupportedError
from ansible_collections.dcs.migration.plugins.module_utils._codec.slots import key_slot
from ansible_collections.dcs.migration.tests.support.servers import MATRIX_SERVERS, WHEEL_SERVERS, RedisServer


def words(text: str) -> list[bytes]:
    return text.encode().split()


KEYS = {
    "SET k v EX 10": "k",
    "del a b c": "a b c",
    "MSET a 1 b 2": "a b",
    "RENAME a b": "a b",
    "BITOP AND d a b": "d a b",
    "BLPOP a b 0": "a b",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2": "d a b",
    "ZDIFFSTORE d 1 a": "d a",
    "EVAL s": None,
    "EVAL s x": None,
    "EVAL s 0": "",
    "EVAL s 0 arg": "",
    "EVALSHA s 2 a b c": "a b",
    "FCALL f 1 a b": "a",
    "LMPOP 2 a b LEFT": "a b",
    "BLMPOP 0 2 a b LEFT": "a b",
    "MSETEX 2 a 1 b 2 EX 10": "a b",
    "SORT k": "k",
    "SORT k BY w_* LIMIT 0 10 GET STORE STORE d": "k d",
    "SORT k STORE d1 STORE d2": "k d2",
    "GEORADIUS k 1 2 3 km": "k",
    "GEORADIUS k 1 2 3 km STORE d": "k d",
    "GEORADIUSBYMEMBER k m 3 km COUNT 1 STOREDIST d": "k d",
    "XREADGROUP GROUP STREAMS c COUNT 2 STREAMS a b > >": "a b",
    "XREAD BLOCK 0 STREAMS a 0": "a",
    "XREAD STREAMS a b 0": None,
    "XGROUP CREATE k g 0": "k",
    "XGROUP HELP": "",
    "MIGRATE h 1 k 0 10": "k",
    "OBJECT ENCODING k": "k",
    "HIMPORT SET k f v": "k",
    "HIMPORT PREPARE f a b": "",
    "COPY a b DB 2": "a b",
    "XCLAIM k g c 0 1-1": "k",
    "HSETEX k FIELDS 1 f v": "k",
    "DELEX k IFEQ v": "k",
    "LMOVEM a b LEFT RIGHT COUNT 2 BULK": "a b",
    "SET": None,
    "RENAME a": None,
    "ZUNIONSTORE d x a": None,
    "ZUNIONSTORE d 3 a b": None,
    "ZUNIONSTORE d -1 a b": None,
    "FLUSHALL": "",
    "MULTI": "",
}


@pytest.mark.parametrize("text", KEYS)
def test_keys(text: str) -> None:
    args, expected = words(text), KEYS[text]
    if expected is None:
        with pytest.raises(CodecError):
            Commands().keys(args)
        return
    assert [args[pos] for pos in Commands().keys(args)] == words(expected)


def test_migrate_with_an_empty_key_names_them_later() -> None:
    args = [b"MIGRATE", b"h", b"1", b"", b"0", b"10", b"KEYS", b"a", b"b"]
    assert Commands().keys(args) == [7, 8]


WRITTEN = {
    "SUNIONSTORE d a b": "d",
    "ZINTERSTORE d 2 a b": "d",
    "BITOP OR d a b": "d",
    "PFMERGE d a": "d",
    "COPY a d": "d",
    "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km": "d",
    "SORT k STORE d": "d",
    "SORT k": "k",
    "GEORADIUS k 1 2 3 km STORE d": "d",
    "RENAME a b": "a b",
    "SMOVE a b m": "a b",
    "EVAL s 2 a b": "a b",
    "GET k": "",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_keys_that_are_written(text: str) -> None:
    args = words(text)
    assert [args[pos] for pos in Commands().written(args)] == words(WRITTEN[text])


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("set", commands.KEYED),
        ("Get", commands.KEYED),
        ("FLUSHALL", commands.EVERY_MASTER),
        ("flushdb", commands.EVERY_MASTER),
        ("SWAPDB", commands.EVERY_MASTER),
        ("SCRIPT", commands.EVERY_MASTER),
        ("FUNCTION", commands.EVERY_MASTER),
        ("SELECT", commands.DATABASE),
        ("MOVE", commands.DATABASE),
        ("MULTI", commands.TRANSACTION),
        ("EXEC", commands.TRANSACTION),
        ("DISCARD", commands.TRANSACTION),
        ("PUBLISH", commands.DROPPED),
        ("PING", commands.DROPPED),
        ("REPLCONF", commands.DROPPED),
    ],
)
def test_scopes(name: str, scope: str) -> None:
    assert Commands().scope(name.encode()) == scope


def test_an_unknown_command_is_an_answer_of_its_own() -> None:
    with pytest.raises(UnknownCommandError, match="JSON.SET") as caught:
        Commands().keys([b"json.set", b"k", b"$", b"1"])
    assert isinstance(caught.value, UnsupportedError)
    assert caught.value.name == b"json.set"


def test_a_server_teaches_what_its_modules_add() -> None:
    known = Commands()
    known.learn(
        [
            [b"json.set", -4, [b"write", b"denyoom"], 1, 1, 1],
            [b"json.mget", -3, [b"readonly"], 1, -2, 1],
            [b"ft.search", -3, [b"readonly"], 0, 0, 0],
            [b"module.movable", -3, [b"write", b"movablekeys"], 1, 1, 1],
            [b"set", -3, [b"write"], 2, 2, 1],
        ]
    )
    assert known.keys([b"JSON.SET", b"k", b"$", b"1"]) == [1]
    assert known.keys([b"JSON.MGET", b"a", b"b", b"$"]) == [1, 2]
    assert known.keys([b"SET", b"k", b"v"]) == [1]
    for name in (b"FT.SEARCH", b"MODULE.MOVABLE"):
        with pytest.raises(UnknownCommandError):
            known.spec(name)
    with pytest.raises(UnknownCommandError):
        Commands().spec(b"JSON.SET")


def test_split_by_slot_keeps_order_and_arguments() -> None:
    args = words("DEL {a}1 b {a}2 c {b}2")
    parts = Commands().split(args)
    assert parts == {
        key_slot(b"a"): words("DEL {a}1 {a}2"),
        key_slot(b"b"): words("DEL b {b}2"),
        key_slot(b"c"): words("DEL c"),
    }
    assert Commands().split(words("mset a 1 b 2"), lambda key: key) == {b"a": words("mset a 1"), b"b": words("mset b 2")}


@pytest.mark.parametrize("text", ["MSETNX a 1 b 2", "RENAME a b", "MSET a 1 b", "SUNIONSTORE a b c"])
def test_what_cannot_be_split(text: str) -> None:
    with pytest.raises(CodecError):
        Commands().split(words(text))


def test_no_command_stands_in_the_table_twice() -> None:
    texts: list[str] = [
        *command_table.WRITES.values(),
        *command_table.READS.values(),
        *command_table.NUMKEYS_WRITES.values(),
        *command_table.NUMKEYS_READS.values(),
        command_table.EVERY_MASTER,
        command_table.DATABASE,
        command_table.TRANSACTION,
        command_table.DROPPED,
    ]
    names = [name for text in texts for name in text.split()]
    assert len(names) == len(set(names))


# -- real servers ----------------------------------------------------------------------------------------------------------

# A server says of these that they write, or have keys, for reasons that are none here.
NOT_DATA = {b"PFDEBUG", b"PFSELFTEST", b"SPUBLISH", b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"CLUSTERSCAN", b"STRALGO", b"TRIMSLOTS"}
# Where old servers were wrong, or described a command's keys in another way than by positions.
OTHER_WAYS = {
    b"OBJECT", b"XINFO", b"XGROUP", b"MEMORY", b"BRPOP", b"EXISTS", b"TOUCH", b"PFCOUNT", b"MIGRATE", b"XREAD", b"XREADGROUP",
    b"ZUNIONSTORE", b"ZINTERSTORE", b"ZDIFFSTORE", b"STRALGO",
}  # fmt: skip
# Command lines whose keys servers are asked for, where they know the command.
ASKED = [text for text in KEYS if KEYS[text] and text.split()[0].upper() not in ("HIMPORT", "LMOVEM", "OBJECT", "FCALL")]


@pytest.fixture(
    scope="module", params=[*WHEEL_SERVERS, *(pytest.param(name, marks=pytest.mark.matrix) for name in MATRIX_SERVERS)]
)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as running:
        yield running


def rows_of(server: RedisServer) -> list[list[Any]]:
    return [row for row in server.client().execute_command(b"COMMAND") if row[0] not in (b"host:", b"post")]


def test_every_command_of_the_server_is_known(server: RedisServer) -> None:
    unknown = [row[0] for row in rows_of(server) if row[0].upper() not in Commands().known]
    assert not unknown


def test_positions_are_those_of_the_server(server: RedisServer) -> None:
    known = Commands()
    for row in rows_of(server):
        name, _arity, flags, first, last, step = row[:6]
        upper = bytes(name).upper()
        spec = known.spec(upper)
        if upper in NOT_DATA or upper in OTHER_WAYS or b"movablekeys" in flags:
            continue
        if spec.scope == commands.KEYED:
            # Long enough for any fixed range, and of a length that fits a step of two.
            args = [upper, *(b"%d" % number for number in range(6))]
            end = last if last >= 0 else len(args) + last
            expected = list(range(first, end + 1, step)) if first else []
            if upper in (b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER", b"MIGRATE"):
                expected = spec.find(args)
            assert spec.find(args) == expected, name
        elif upper != b"MOVE":
            assert not first, name


def test_what_writes_is_what_the_server_says_writes(server: RedisServer) -> None:
    known = Commands()
    for row in rows_of(server):
        upper, flags = bytes(row[0]).upper(), row[2]
        spec = known.spec(upper)
        if b"write" in flags and upper not in NOT_DATA:
            assert spec.write or spec.scope == commands.DATABASE, upper
        if spec.write and spec.scope == commands.KEYED and not (upper == b"PFCOUNT" or b"noscript" in flags):
            # Scripts write as their commands do; containers carry their flags on their subcommands.
            assert b"write" in flags or upper in (b"XGROUP", b"HIMPORT", b"FCALL", b"EVAL", b"EVALSHA"), upper


def test_the_server_finds_the_same_keys(server: RedisServer) -> None:
    client = server.client()
    offered = {bytes(row[0]).upper() for row in rows_of(server)}
    asked = 0
    for text in ASKED:
        args = words(text)
        if args[0].upper() not in offered or server.version < (6, 0):
            continue
        answer = client.execute_command(b"COMMAND", b"GETKEYS", *args)
        assert sorted(answer) == sorted(args[pos] for pos in Commands().keys(args)), text
        asked += 1
    assert asked > 15 or server.version < (6, 0)
