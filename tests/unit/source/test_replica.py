# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The replication client against a master that says what a test tells it to say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec import psync
from ansible_collections.dcs.migration.plugins.module_utils._errors import ConnectError, LostError, ReplyError
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source import replica
from ansible_collections.dcs.migration.plugins.module_utils._source.replica import (
    ReplicaLink,
    SyncRefusedError,
    open_full_sync,
    stream_db,
)

ID = "17c881a2b0bcbd3e56a9b871395572f95585fd4d"
RDB = b"REDIS0011\xfa\x0erepl-stream-db\xc0\x03\xff" + bytes(8)
FULL = b"+FULLRESYNC %s 42\r\n" % ID.encode()
END = "end"  # of the connection

Script = list["bytes | str"]


class Master:
    """Answers the first connection by the first script, and so on: one item a command. ``heard`` holds the command names."""

    def __init__(self, *scripts: Script) -> None:
        self.heard: list[str] = []
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint.from_params({"addresses": ["127.0.0.1:%d" % self._listener.getsockname()[1]]})
        self.address = self.endpoint.addresses[0]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            for script in self._scripts:
                sock, _peer = self._listener.accept()
                with sock:
                    self._serve(sock, script)

    def _serve(self, sock: socket.socket, script: Script) -> None:
        with contextlib.suppress(OSError), sock.makefile("rb") as lines:
            for item in script:
                words = int(lines.readline()[1:])
                name = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _word in range(words)][0].decode()
                self.heard.append(name)
                if item == END:
                    return
                sock.sendall(item if isinstance(item, bytes) else item.encode())
            lines.read()  # until the client goes

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def master() -> Iterator[Callable[..., Master]]:
    with contextlib.ExitStack() as stack:

        def start(*scripts: Script) -> Master:
            made = Master(*scripts)
            stack.callback(made.close)
            return made

        yield start


HELLO: Script = ["+OK\r\n", "-ERR Unrecognized REPLCONF option: capa\r\n", "+OK\r\n"]


def test_a_snapshot_among_keepalives(master: Callable[..., Master]) -> None:
    one = master([*HELLO, b"\n\n" + FULL + b"\n\n$%d\r\n%b" % (len(RDB), RDB) + b"*1\r\n$4\r\nPING\r\n"])
    link, full = open_full_sync(one.endpoint, one.address)
    with link:
        assert full == ("PSYNC", ID, 42)
        assert b"".join(link.payload()) == RDB
        assert (link.length, link.stream_db) == (len(RDB), 3)
        assert link.read_stream() == b"*1\r\n$4\r\nPING\r\n"
    assert one.heard == ["REPLCONF", "REPLCONF", "REPLCONF", "PSYNC"]


def test_only_a_backup_asks_for_the_snapshot_alone(master: Callable[..., Master]) -> None:
    one = master([*HELLO, "-ERR Unrecognized REPLCONF option: rdb-only\r\n", FULL + b"$0\r\n"])
    link, _full = open_full_sync(one.endpoint, one.address, snapshot_only=True)
    link.close()
    assert one.heard.count("REPLCONF") == 4


def test_asked_again_while_it_loads(master: Callable[..., Master]) -> None:
    one = master([*HELLO, "-LOADING not yet\r\n"], [*HELLO, "-NOMASTERLINK nor yet\r\n"], [*HELLO, FULL + b"$0\r\n"])
    said: list[str] = []
    link, full = open_full_sync(one.endpoint, one.address, report=said.append)
    link.close()
    assert full.command == "PSYNC"
    assert len(said) == 2 and "LOADING not yet; asking again in 0.5 s" in said[0] and "NOMASTERLINK" in said[1]


def test_loading_for_too_long(master: Callable[..., Master]) -> None:
    one = master([*HELLO, "-LOADING not yet\r\n"])
    with pytest.raises(ReplyError, match="still loading.*asked 1 times"):
        open_full_sync(one.endpoint, one.address, patience=0.1)


def test_sync_where_psync_is_unknown(master: Callable[..., Master]) -> None:
    one = master(
        ["-ERR unknown command 'REPLCONF'\r\n"] * 3 + ["-ERR unknown command 'PSYNC'\r\n"],
        ["-ERR unknown command 'REPLCONF'\r\n"] * 3 + [b"\n\n$%d\r\n%b" % (len(RDB), RDB)],
    )
    said: list[str] = []
    link, full = open_full_sync(one.endpoint, one.address, report=said.append)
    with link:
        assert full == ("SYNC", "", -1)
        assert b"".join(link.payload()) == RDB
    assert "PSYNC is disabled or renamed; trying SYNC" in said[0]


def test_neither(master: Callable[..., Master]) -> None:
    one = master([*HELLO, "-ERR unknown command 'PSYNC'\r\n"], [*HELLO, "-NOPERM this user has no permissions\r\n"])
    with pytest.raises(SyncRefusedError) as caught:
        open_full_sync(one.endpoint, one.address)
    assert caught.value.why == "PSYNC is disabled or renamed; this user may not use SYNC"


def test_replconf_forbidden(master: Callable[..., Master]) -> None:
    one = master(["-NOPERM no\r\n"], ["-NOPERM no\r\n"])
    with pytest.raises(SyncRefusedError) as caught:
        open_full_sync(one.endpoint, one.address)
    assert caught.value.why == "this user may not use REPLCONF"


def test_connection_ended_over_the_question(master: Callable[..., Master]) -> None:
    one = master([*HELLO, END], [*HELLO, END])
    with pytest.raises(SyncRefusedError) as caught:
        open_full_sync(one.endpoint, one.address)
    assert caught.value.why == "closed the connection over PSYNC; the connection ended before the snapshot began over SYNC"


@pytest.mark.parametrize("answer", ["+OK\r\n", "HTTP/1.1 400 Bad Request\r\n", ":1\r\n"])
def test_something_else_answers(master: Callable[..., Master], answer: str) -> None:
    one = master([*HELLO, answer], [*HELLO, answer])
    with pytest.raises((SyncRefusedError, LostError, ReplyError)):
        link, _full = open_full_sync(one.endpoint, one.address, silence=0.3)
        with link:
            list(link.payload())


def test_silence(master: Callable[..., Master]) -> None:
    one = master([*HELLO, FULL + b"\n\n$100\r\nREDIS"])
    link, _full = open_full_sync(one.endpoint, one.address, silence=0.2)
    with link, pytest.raises(LostError, match="sent nothing for 0 seconds"):
        list(link.payload())


@pytest.mark.parametrize("phase", ["answer", "payload", "stream"])
def test_idle_is_called_in_every_phase(master: Callable[..., Master], monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    monkeypatch.setattr(replica, "TICK", 0.02)
    answer = b"" if phase == "answer" else FULL + (b"$3\r\nREDIS"[:6] if phase == "payload" else b"$0\r\n")
    one = master([*HELLO, answer + b"\n"])
    calls: list[int] = []

    class LeaveError(Exception):
        pass

    def idle() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise LeaveError

    with ReplicaLink(one.endpoint, one.address, idle=idle) as link, pytest.raises(LeaveError):
        link.introduce()
        link.psync()
        list(link.payload())
        while link.read_stream():
            pass
    assert len(calls) == 3


def test_silence_with_something_to_do_meanwhile(master: Callable[..., Master], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "TICK", 0.02)
    one = master([*HELLO, FULL + b"\n\n$100\r\nREDIS"])
    calls: list[int] = []
    with ReplicaLink(one.endpoint, one.address, silence=0.2, idle=lambda: calls.append(1)) as link:
        link.introduce()
        link.psync()
        with pytest.raises(LostError, match="sent nothing for 0 seconds"):
            list(link.payload())
    assert 5 <= len(calls) < 20


@pytest.mark.parametrize("answer, answered", [("-ERR unknown command 'PSYNC'\r\n", True), (END, False)])
def test_refused_or_merely_cut(master: Callable[..., Master], answer: str, answered: bool) -> None:
    one = master([*HELLO, answer])
    with ReplicaLink(one.endpoint, one.address) as link, pytest.raises(SyncRefusedError) as caught:
        link.introduce()
        link.psync()
    assert caught.value.answered is answered


def test_lost_on_the_way(master: Callable[..., Master]) -> None:
    one = master([*HELLO, FULL + b"$100\r\nREDIS0011", END])
    link, _full = open_full_sync(one.endpoint, one.address)
    with link, pytest.raises(LostError, match="after 9 of 100 bytes of the snapshot") as caught:
        pieces = link.payload()
        next(pieces)
        link.acknowledge(0)  # the cue to end
        list(pieces)
    assert "client-output-buffer-limit" in caught.value.remedy


def test_nobody_there(master: Callable[..., Master]) -> None:
    one = master()
    one.close()
    with pytest.raises(ConnectError):
        open_full_sync(one.endpoint, one.address)


def test_resuming(master: Callable[..., Master]) -> None:
    one = master([*HELLO, "+CONTINUE %s\r\n*1\r\n" % ID, "$4\r\nPING\r\n"])
    with ReplicaLink(one.endpoint, one.address) as link:
        link.introduce()
        answer = link.psync(ID, 41)
        assert (answer.kind, answer.replication_id) == (psync.CONTINUE, ID)
        link.acknowledge(41)
        assert link.read_stream() + link.read_stream() == b"*1\r\n$4\r\nPING\r\n"


def test_stream_db() -> None:
    assert stream_db(RDB) == 3
    assert stream_db(RDB[:20]) is None
    assert stream_db(b"REDIS0006\xfe\x00\x00\x01a\x01b\xff") is None
    assert stream_db(b"nonsense that is no snapshot") is None
