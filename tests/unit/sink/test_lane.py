# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a lane sends when, to a peer that answers as it is told."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.resp import command
from ansible_collections.dcs.migration.plugins.module_utils._errors import ReplyError
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Address
from ansible_collections.dcs.migration.plugins.module_utils._sink.lane import Lane

SET, SELECT_3 = command("SET", "a", "1"), command("SELECT", 3)


class Pair:
    """A lane and its peer."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        with socket.create_server(("127.0.0.1", 0)) as door:
            ours = socket.create_connection(door.getsockname())
            self.peer, _address = door.accept()
        self.lane = self.another(ours)

    def another(self, sock: socket.socket) -> Lane:
        return Lane(sock, Address("peer", 1), lambda _lane, db, _frame, reply: self.seen.append((db, reply)))

    def arrives(self) -> bytes:
        """What the lane sends now."""
        self.lane.push()
        found = b""
        while select.select([self.peer], [], [], 0.05)[0]:
            found += self.peer.recv(1 << 20)
        return found

    def answer(self, replies: bytes) -> None:
        self.peer.sendall(replies)
        select.select([self.lane], [], [], 5)
        self.lane.pull()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.lane.close()
    made.peer.close()


def test_nothing_overtakes_a_select(pair: Pair) -> None:
    lane = pair.lane
    lane.queue([SET], 1, 0)
    lane.queue([SET, SET], 2, 3)
    lane.queue([SET], 1, 0)
    assert pair.arrives() == SET + SELECT_3
    pair.answer(b"+OK\r\n")
    assert not pair.arrives() and lane.keys == 1
    pair.answer(b"+OK\r\n")
    assert pair.arrives() == SET + SET + command("SELECT", 0)
    pair.answer(b"+OK\r\n-OOM no\r\n+OK\r\n")
    assert pair.arrives() == SET and pair.seen == [(3, b"OOM no")]
    pair.answer(b"+OK\r\n")
    assert lane.keys == 3 and not lane.in_flight


def test_a_select_that_is_refused_takes_what_waits_with_it(pair: Pair) -> None:
    lane = pair.lane
    lane.queue([SET], 1, 3)
    lane.queue([SET], 1, 0)
    assert pair.arrives() == SELECT_3
    with pytest.raises(ReplyError, match="database 3: cannot be selected.*db_map"):
        pair.answer(b"-ERR DB index is out of range\r\n")
    assert not pair.arrives() and not lane.in_flight and not lane.keys
    lane.queue([SET], 1, 0)
    assert pair.arrives() == command("SELECT", 0)


def test_a_select_is_sent_again_while_the_server_asks_for_patience(pair: Pair) -> None:
    pair.lane.queue([SET], 1, 3)
    assert pair.arrives() == SELECT_3
    pair.answer(b"-BUSY Redis is busy running a script\r\n")
    assert pair.arrives() == SELECT_3
    pair.answer(b"+OK\r\n")
    assert pair.arrives() == SET


def test_what_waits_for_a_select_is_handed_over(pair: Pair) -> None:
    pair.lane.queue([SET], 1, 3)
    assert pair.arrives() == SELECT_3
    other = Pair()
    pair.lane.hand_over(other.lane)
    assert other.arrives() == SELECT_3
    other.answer(b"+OK\r\n")
    assert other.arrives() == SET
    other.answer(b"+OK\r\n")
    assert other.lane.keys == 1
    other.lane.close()
    other.peer.close()
