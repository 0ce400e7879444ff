# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Whether the servers that were written to are still those that have the data.

A replica that is promoted may lack what its master had acknowledged. A master that only hung until then comes back as a replica on the
same connection, and its MOVED looks like that of a slot which was moved with its keys: so who is a master has to be asked.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, Mapping, Sequence, Set, Tuple

from .._codec.resp import ErrorReply, command
from .._errors import LostError
from .._server.connect import call as ask, open_client, reply_error, translate
from .._server.endpoint import Address, Endpoint
from .._server.info import parse_info
from .._server.topology import Shard, shards_from_slots
from .lane import LATER, PATIENCE, PAUSE, Lane, call

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]


def run_id(endpoint: Endpoint, address: Address) -> bytes:
    """Which server process it is, empty where it does not tell. ServerError."""
    client = open_client(endpoint, address)
    try:
        text = ask(client, "INFO", "server")
    except redis.ResponseError:
        return b""
    except Exception as exc:  # translate passes on what is not a server's doing
        raise translate(exc, address, "INFO") from exc
    finally:
        client.close()
    for line in text.splitlines():
        if line.startswith(b"run_id:"):
            return line[7:]
    return b""


def is_replica(lane: Lane) -> bool:
    """Whether the server says so on this very connection, on which nothing may be under way. LostError."""
    reply = _ask(lane, "INFO", "replication")
    return isinstance(reply, bytes) and not isinstance(reply, ErrorReply) and parse_info(reply).text("role") == "slave"


def shards_of(lane: Lane) -> Tuple[Shard, ...]:
    """The cluster's shards as this node sees them; nothing may be under way. ServerError."""
    reply = _ask(lane, "CLUSTER", "SLOTS")
    if isinstance(reply, ErrorReply):
        raise reply_error(reply.decode("utf-8", "replace"), lane.address, "CLUSTER SLOTS")
    return shards_from_slots(reply, lane.address)


def _ask(lane: Lane, *words: str) -> Any:
    """The reply, once the server does not ask for patience any more."""
    deadline = time.monotonic() + PATIENCE
    while True:
        reply = call(lane, [command(*words)])[0]
        if not isinstance(reply, ErrorReply) or reply.code not in LATER or time.monotonic() > deadline:
            return reply
        time.sleep(PAUSE)


def demoted(address: Address, who: object = "another server") -> LostError:
    """The error for a server that was written to and is no master any more."""
    return LostError(
        str(address),
        "is no master any more, and %s answers for its keys now: what was written before may be gone" % (who,),
        "Run again from the start; see the server's log for why it failed over",
    )


class Masters:
    """The run IDs of the masters of a target. ``note`` each when a lane to it is opened."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._run_ids: Dict[Address, bytes] = {}

    def note(self, address: Address) -> None:
        """Remember which process answers there. ServerError."""
        self._run_ids[address] = run_id(self._endpoint, address)

    def is_same(self, address: Address) -> bool:
        """Whether the same process still answers there. ServerError."""
        found = run_id(self._endpoint, address)
        return bool(found) and found == self._run_ids[address]

    def require(self, shards: Sequence[Shard], lanes: Mapping[Address, Lane], by_slot: Sequence[Lane], suspects: Iterable[Lane]) -> None:
        """LostError where a slot was taken from a master by a failover. ServerError.

        A slot that was moved went to a master with its keys, and so did all slots of a master that has none any more. ``suspects`` are
        asked whether they are masters; of the others ``shards`` tells, which is what one of the nodes believes.
        """
        gone = set(lanes) - {shard.master for shard in shards}
        gone.update(lane.address for lane in suspects if is_replica(lane))
        if not gone:
            return
        owners = {slot: shard.master for shard in shards for first, last in shard.slots for slot in range(first, last + 1)}
        fine: Set[Address] = set(lanes) - gone
        for slot, lane in enumerate(by_slot):
            owner = owners.get(slot)
            if lane.address in gone and owner is not None and owner not in fine:
                if owner in gone:
                    raise demoted(lane.address)
                if not self._is_renamed(lane.address, owner):
                    raise demoted(lane.address, owner)
                fine.add(owner)

    def _is_renamed(self, address: Address, owner: Address) -> bool:
        """Whether both are one server: a node may tell another name of itself than its neighbours do."""
        known = self._run_ids.get(address)
        return bool(known) and run_id(self._endpoint, owner) == known
