# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who inherits whose stream, and who owns which slot: the rules, without servers."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Address
from ansible_collections.dcs.migration.plugins.module_utils._server.topology import Shard
from ansible_collections.dcs.migration.plugins.module_utils._sync.source_map import Known, Myself, SlotMap, find_heirs, read_myself

A, B, C, D = (Address("10.0.0.%d" % number, 6379) for number in range(1, 5))
LOW, HIGH = ((0, 8191),), ((8192, 16383),)


def known(address: Address, slots: Any = (), replicas: Any = (), is_master: bool | None = None) -> Known:
    return Known(address, slots, set(replicas), is_master)


def test_nothing_changed() -> None:
    assert find_heirs({0: known(A, LOW), 1: known(B, HIGH)}, [Shard(A, (), LOW), Shard(B, (), HIGH)]) == ({}, [])


def test_a_single_master_is_succeeded_by_the_only_one_there_is() -> None:
    assert find_heirs({0: known(A)}, [Shard(B)]) == ({0: B}, [])


def test_of_several_only_by_a_replica() -> None:
    streams = {0: known(A, replicas=[C]), 1: known(B, replicas=[D])}
    assert find_heirs(streams, [Shard(D), Shard(A)]) == ({1: D}, [])
    assert find_heirs({0: known(A), 1: known(B)}, [Shard(D), Shard(A)]) == ({}, [Shard(D)])
    assert find_heirs({0: known(A), 1: known(B)}, [Shard(D, (B,)), Shard(A)]) == ({1: D}, [])


@pytest.mark.parametrize("is_master, heirs", [(None, {0: C}), (False, {0: C}), (True, {})])
def test_slots_of_a_master_that_is_gone(is_master: bool | None, heirs: dict[int, Address]) -> None:
    """One that lives and has no slots any more gave them away: the new owner has a history of its own."""
    streams = {0: known(A, LOW, is_master=is_master), 1: known(B, HIGH, is_master=True)}
    found, unread = find_heirs(streams, [Shard(C, (), LOW), Shard(B, (), HIGH)])
    assert found == heirs and [shard.master for shard in unread] == ([] if heirs else [C])


def test_a_replica_succeeds_even_while_the_old_one_believes_in_itself() -> None:
    streams = {0: known(A, LOW, [C], True), 1: known(B, HIGH, [D], True)}
    assert find_heirs(streams, [Shard(C, (A,), LOW), Shard(B, (D,), HIGH)]) == ({0: C}, [])


def test_a_new_master_is_nobodys_heir() -> None:
    streams = {0: known(A, LOW), 1: known(B, HIGH)}
    shards = [Shard(A, (), ((1, 8191),)), Shard(B, (), HIGH), Shard(C, (), ((0, 0),))]
    assert find_heirs(streams, shards) == ({}, [shards[2]])


def test_two_fail_over_at_once() -> None:
    streams = {0: known(A, LOW), 1: known(B, HIGH)}
    assert find_heirs(streams, [Shard(D, (), HIGH), Shard(C, (), LOW)]) == ({0: C, 1: D}, [])


NODES = b"""07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host slave e7d1eecce10f 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30001@31001 myself,master - 0 0 7 connected 0-5460 9000 [93-<-292f8b] [77->-e7d1ee]
"""


def test_what_a_node_says_of_itself() -> None:
    assert read_myself(NODES) == Myself(True, 7, ((0, 5460), (9000, 9000)), (93, 77))
    assert read_myself(NODES.replace(b"myself,master", b"myself,slave")) == Myself(False, 7, ((0, 5460), (9000, 9000)), (93, 77))
    assert read_myself(NODES.replace(b"myself,", b"")) is None
    assert read_myself(b"") is None


def test_slots_by_their_owners() -> None:
    slots = SlotMap()
    slots.update([(-1, 0, LOW), (-1, 1, HIGH)], [])
    assert (slots.ranges, slots.open_slots, slots.version) == ([[0, 8191, 0], [8192, 16383, 1]], [], 1)
    slots.update([(1, 0, LOW), (2, 1, HIGH)], [])
    assert slots.version == 1
    slots.update([(1, 0, LOW), (2, 1, HIGH)], [5, 5])
    assert (slots.open_slots, slots.version) == ([5], 2)
    # Both say that it is theirs: the one with the higher epoch got it later. Whoever was asked first does not matter.
    slots.update([(3, 1, ((5, 5), *HIGH)), (1, 0, LOW)], [5])
    assert (slots.ranges, slots.version) == ([[0, 4, 0], [5, 5, 1], [6, 8191, 0], [8192, 16383, 1]], 3)
    # Nobody says so, because the one that does cannot be asked now.
    slots.update([(1, 0, ((0, 4), (6, 8191)))], [])
    assert slots.ranges == [[0, 4, 0], [5, 5, 1], [6, 8191, 0], [8192, 16383, 1]]
    again = SlotMap(slots.ranges, slots.open_slots, slots.version)
    again.update([(3, 1, ((5, 5), *HIGH)), (1, 0, ((0, 4), (6, 8191)))], [])
    assert (again.ranges, again.version) == (slots.ranges, slots.version)
