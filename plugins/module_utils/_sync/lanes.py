# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The masters of a target, one ordered connection to each, and the checkpoints on them."""

from __future__ import annotations

import select
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from .._codec.resp import ErrorReply, command
from .._codec.slots import SLOTS
from .._errors import LostError, UsageError
from .._server.connect import call as ask, open_client, reply_error, translate
from .._server.endpoint import Address, Endpoint
from .._server.probe import Instance, probe
from .._server.versions import RESERVED_PREFIX
from .._sink.lane import Lane, call
from .._sink.target import Target
from .checkpoints import WHOLE, Fields, FileCheckpoints, MissingError, TargetCheckpoints
from .fences import Place
from .folder import TaskFolder
from .lane import ApplyLane, Parcel

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

# What errors name.
STREAM = "the replication stream"
# Seconds in which a master that has something to answer may say nothing.
SILENCE = 60.0
# Seconds for connections of an earlier session to be gone.
_PATIENCE = 10.0
# The receive buffer of a connection (some MB) by what a server reads at a time (16 KB).
_TURNS = 500
_SCAN = 1000
# What has to be mended at the target; anything else is about the keys of one command.
_CONDITIONS = frozenset(
    b"OOM READONLY MISCONF NOREPLICAS LOADING MASTERDOWN CLUSTERDOWN BUSY NOAUTH WRONGPASS NOPERM NOTREADY NOGOODSLAVE".split()
)
_REDIRECTS = (b"MOVED", b"ASK", b"TRYAGAIN")


class Lanes:
    """``only`` is the one lane of a target that is no Redis Cluster; ``by_slot`` the lane of each slot of one that is.

    ``rerouted``: a redirection was seen, so the map is to be read again. ``target`` is the same deployment for whoever writes and waits.
    """

    def __init__(self, endpoint: Endpoint, folder: TaskFolder, token: str, names: Sequence[bytes], kind: str = "") -> None:
        """``kind``: what the target was when the task began. ServerError; LostError where it looks like something else now."""
        self.endpoint = endpoint
        self.only: Optional[ApplyLane] = None
        self.by_slot: List[ApplyLane] = []
        self.rerouted = False
        self._lanes: Dict[Address, ApplyLane] = {}
        # Databases that were asked for, and whether they are there.
        self._databases: Dict[int, bool] = {0: True}
        self.kind = kind
        self._instance = self._probe()
        self.clustered = self.kind == "redis_cluster"
        self.proxied = self.kind == "proxy_cluster"
        # The masters behind a proxy do not see our connections.
        self._name = "" if self.proxied else "dcs-migration-" + token
        self._end_predecessors()
        self.target = self._open_target()
        self.file = FileCheckpoints(folder) if self.proxied else None
        self.inside = TargetCheckpoints(token, self.clustered)
        self._old_names = list(names)
        self._connect(self._instance)

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def names(self) -> List[bytes]:
        """Names under which checkpoints are, or may be."""
        return list(dict.fromkeys([*self.inside.names.values(), *self._old_names]))

    def lanes(self) -> List[ApplyLane]:
        return list(self._lanes.values())

    def lane_at(self, address: Address) -> ApplyLane:
        return self._lanes[address]

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()
        self.target.close()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _probe(self) -> Instance:
        instance = probe(self.endpoint)
        found = instance.topology.kind
        # Where checkpoints are depends on it; whether it has replicas does not matter.
        kind = found if found in ("redis_cluster", "proxy_cluster") else "single"
        if self.kind not in ("", kind):
            raise LostError(
                self.endpoint.label,
                "looks like a %s now, and was a %s when the task began" % (kind, self.kind),
                "Bring the old one back, or remove the task (state absent) and set it up anew for this one",
            )
        self.kind = kind
        return instance

    def _open_target(self) -> Target:
        target = Target(self.endpoint, self._instance, "replace", STREAM)
        if self._name:
            target.name_connections(self._name)
        return target

    def _end_predecessors(self) -> None:
        """What an earlier session has left in its connections must not be executed behind this one's back. ServerError."""
        for address in self._instance.topology.masters if self._name else ():
            client = open_client(self.endpoint, address)
            try:
                deadline = time.monotonic() + _PATIENCE
                while self._end_some(client) and time.monotonic() < deadline:
                    time.sleep(0.01)
            except Exception as exc:  # translate passes on what is not a server's doing
                raise translate(exc, address, "CLIENT") from exc
            finally:
                client.close()

    def _end_some(self, client: Any) -> int:
        """How many there were."""
        try:
            rows = ask(client, "CLIENT", "LIST").decode("utf-8", "replace").splitlines()
            found = [row for row in rows if " name=%s " % self._name in row]
            for row in found:
                ask(client, "CLIENT", "KILL", "ID", row.split("id=", 1)[1].split()[0])
            return len(found)
        except redis.ResponseError:
            # Not allowed, or gone by itself. A server reads a little of each connection in turn: after as many turns nothing is left.
            for _turn in range(_TURNS):
                ask(client, "PING")
            return 0

    # -- where slots are -----------------------------------------------------------------------------------------------

    def _connect(self, instance: Instance) -> None:
        topology = instance.topology
        if self.proxied:
            self.only = self._lane(topology.entry)
            return
        slots_of: Dict[Address, List[Tuple[int, int]]] = {}
        if self.clustered:
            table: List[Any] = [None] * SLOTS
            for shard in topology.shards:
                lane = self._lane(shard.master)
                slots_of[shard.master] = list(shard.slots)
                for first, last in shard.slots:
                    table[first : last + 1] = [lane] * (last - first + 1)
            self.by_slot = table
        else:
            self.only = self._lane(topology.shards[0].master)
            slots_of[topology.shards[0].master] = []
        for address in [address for address in self._lanes if address not in slots_of]:
            self._lanes.pop(address).close()
        self._old_names = list(self.names)
        self.inside.choose(slots_of)

    def _lane(self, address: Address) -> ApplyLane:
        lane = self._lanes.get(address)
        if lane is None:
            lane = self._lanes[address] = ApplyLane(self.endpoint, address, self._on_error, self._name, self.require_database)
        return lane

    def reconnect(self) -> None:
        """Read the cluster's map again; nothing may be under way. ServerError."""
        self.rerouted = False
        self.target.close()
        self._instance = self._probe()
        self.target = self._open_target()
        self._connect(self._instance)

    def forget_old(self) -> None:
        """Remove the checkpoints that newer ones on other masters stand for; ServerError."""
        used = set(self.inside.names.values())
        TargetCheckpoints.remove(self.target, [name for name in self._old_names if name not in used])
        self._old_names = []

    # -- databases -----------------------------------------------------------------------------------------------------

    def has_database(self, number: int) -> bool:
        """ServerError."""
        found = self._databases.get(number)
        if found is None:
            found = self._databases[number] = not self.target.one_db and self._can_select(number)
        return found

    def _can_select(self, number: int) -> bool:
        self.target.flush()
        lane = self.target.master_lanes()[0]
        reply = call(lane, [command("SELECT", number), command("SELECT", 0)])[0]
        if isinstance(reply, ErrorReply) and reply.code in _CONDITIONS:
            raise reply_error(reply.decode("utf-8", "replace"), lane.address, "SELECT %d" % number)
        return not isinstance(reply, ErrorReply)

    def require_database(self, number: int) -> None:
        """UsageError where the target does not have it; ServerError."""
        if not self.has_database(number):
            raise UsageError(
                self.endpoint.label,
                "has no database %d, and the source writes one that goes there" % number,
                "Raise databases in the target's configuration and start the task again, or set it up anew with db_map, or with databases"
                " that leaves this one out",
            )

    # -- sending -------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Unanswered bytes of the fullest lane."""
        return max(lane.in_flight for lane in self._lanes.values())

    def turn(self) -> None:
        """Send and receive what can be without waiting. LostError; ServerError for an answer about the target itself."""
        now = time.monotonic()
        for lane in self._lanes.values():
            before = (lane.in_flight, lane.pushed)
            lane.push()
            lane.pull()
            if (lane.in_flight, lane.pushed) != before or not lane.in_flight:
                lane.heard_at = now
            elif now - lane.heard_at > SILENCE:
                raise lane.lost("no answer for %d seconds" % SILENCE)

    def wait(self, seconds: float, wake: int = -1) -> None:
        """Sleep until a socket, or the descriptor ``wake``, is ready."""
        poller = select.poll()
        for lane in self._lanes.values():
            poller.register(lane.fileno(), select.POLLIN | (select.POLLOUT if lane.wants_to_send else 0))
        if wake >= 0:
            poller.register(wake, select.POLLIN)
        poller.poll(seconds * 1000)

    def drain(self) -> None:
        """Wait until every lane is answered."""
        while True:
            self.turn()
            if not any(lane.in_flight for lane in self._lanes.values()):
                return
            self.wait(0.1)

    def call(self, lane: ApplyLane, frames: List[bytes], db: int = 0) -> List[Any]:
        """Send commands behind what is under way on a lane and wait for their replies, errors among them."""
        replies: List[Any] = []
        frames = list(frames)
        head = lane.select(db)
        if head is not None:
            frames.insert(0, head)
        lane.send(Parcel(b"".join(frames), len(frames), None, None, {n: replies.append for n in range(len(frames))}))
        while len(replies) < len(frames):
            self.turn()
            if len(replies) < len(frames):
                self.wait(0.1)
        return replies[1:] if head is not None else replies

    def keys(self, dbs: Iterable[int], breathe: Callable[[], None]) -> Iterator[Tuple[int, List[bytes]]]:
        """What the masters hold in these databases but for what is ours, a thousand at a time; nothing may be under way. ServerError."""
        for _lane, db, keys in self.scan(dbs, breathe):
            yield db, keys

    @property
    def can_list(self) -> bool:
        """Whether the masters themselves are known, and so their keys: not behind a proxy whose nodes were not named."""
        return not self.proxied or bool(self._instance.topology.masters)

    def require_list(self, what: str) -> None:
        """UsageError where :attr:`can_list` is false and ``what`` needs it."""
        if not self.can_list:
            raise UsageError(
                self.endpoint.label,
                "%s needs to see all keys, and the nodes behind the proxy are not known" % what,
                "Name them in the shards of the target",
            )

    def scan(self, dbs: Iterable[int], breathe: Callable[[], None]) -> Iterator[Tuple[Lane, int, List[bytes]]]:
        """As :meth:`keys`, with the lane on which the keys can be reached."""
        for lane in self.target.master_lanes():
            for db in sorted(dbs):
                cursor = b"0"
                while True:
                    reply = call(lane, [command("SCAN", cursor, "COUNT", _SCAN)], db)[0]
                    if isinstance(reply, ErrorReply):
                        raise reply_error(reply.decode("utf-8", "replace"), lane.address, "SCAN")
                    cursor, keys = reply
                    keys = [key for key in keys if not key.startswith(RESERVED_PREFIX)]
                    if keys:
                        yield lane, db, keys
                    breathe()
                    if cursor == b"0":
                        break

    # -- replies -------------------------------------------------------------------------------------------------------

    def _on_error(self, parcel: Parcel, number: int, reply: ErrorReply) -> None:
        owner, suspects = parcel.suspects
        owner.refused(suspects[number], owner.acked, reply)

    def examine(self, reply: ErrorReply, places: Sequence[Place]) -> None:
        """Raise a ServerError for a reply that is about the target, not about these keys."""
        if reply.code in _REDIRECTS:
            self.rerouted = True
        elif reply.code in _CONDITIONS:
            lane = next((lane for lane in self._lanes.values() if lane.in_flight), None)
            address = lane.address if lane is not None else self.endpoint.addresses[0]
            raise reply_error(reply.decode("utf-8", "replace"), address, "a write", places[0][1] if places else None)
        elif not places:
            raise LostError(
                self.endpoint.label,
                "answered %s to a command without keys" % reply.decode("utf-8", "replace"),
                "See the log of the target",
            )

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def read_checkpoints(self, expected: Sequence[bytes]) -> List[Fields]:
        """What the checkpoints hold. MissingError where some that are expected are missing and others are there; ServerError."""
        if self.file is not None:
            return self.file.read()
        found = self.inside.read(self.target, list(dict.fromkeys([*self.names, *expected])))
        missing = [name for name in expected if name not in found]
        if missing and len(missing) < len(expected):
            raise MissingError(
                self.endpoint.label,
                "%d of its %d masters hold no checkpoint of ours any more: they have lost what was written"
                % (len(missing), len(expected)),
                "See their logs; let nobody else delete what the task writes",
            )
        return list(found.values())

    def require_checkpoints(self) -> None:
        """ServerError where one is gone; not behind a proxy."""
        for address, name in self.inside.names.items() if self.file is None else ():
            lane = self.lane_at(address)
            self.still_whole(lane, self.call(lane, [command("HEXISTS", name, WHOLE)])[0])

    def still_whole(self, lane: ApplyLane, reply: Any) -> None:
        """Whether a master has its checkpoint, and so its data, is the ``reply``. ServerError."""
        if isinstance(reply, ErrorReply):
            self.examine(reply, ())
        elif not reply:
            raise LostError(
                str(lane.address),
                "holds no checkpoint of ours any more: it was emptied, or it evicts keys",
                "Let nobody else delete what the task writes, and see that maxmemory is large enough",
            )

    def remove_checkpoints(self) -> None:
        """Leave nothing of ours behind; ServerError."""
        if self.file is not None:
            self.file.remove()
        else:
            self.inside.remove(self.target, self.names)
            self._old_names = []
