# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Which master each stream of the source is to be read from, now and after failovers and reshardings.

The masters are asked every second, and at once when a stream has lost its link. What follows from their answers is in functions
without any I/O (:func:`find_heirs`, :func:`read_myself`, :class:`SlotMap`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from .._errors import MigrationError, ReplyError, ServerError
from .._server.connect import call, open_client, translate
from .._server.endpoint import Address, Endpoint
from .._server.info import Info, parse_info
from .._server.topology import SLOT_COUNT, Shard, discover, shards_from_slots
from .folder import error_dict
from .receiver_stream import Stream

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

Ranges = Sequence[Tuple[int, int]]

POLL_EVERY = 1.0  # seconds
# Seconds: a master that hangs must not keep us from asking the others for long.
_TIMEOUT = 5.0
_CONNECT_TIMEOUT = 3.0


class Myself(NamedTuple):
    """What a node of a Redis Cluster says of itself. ``open_slots``: on their way to or from it."""

    is_master: bool
    epoch: int
    slots: Tuple[Tuple[int, int], ...]
    open_slots: Tuple[int, ...]


def read_myself(nodes: bytes) -> Optional[Myself]:
    """The ``myself`` line of CLUSTER NODES; None where there is none."""
    for line in nodes.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) < 8 or "myself" not in words[2].split(","):
            continue
        slots, moving = [], []
        for word in words[8:]:
            if word.startswith("["):  # [slot->-node] or [slot-<-node]
                moving.append(int(word[1:].split("-", 1)[0]))
            else:
                first, _dash, last = word.partition("-")
                slots.append((int(first), int(last or first)))
        return Myself("master" in words[2].split(","), int(words[6]), tuple(slots), tuple(moving))
    return None


@dataclass
class Known:
    """What we remember of a stream's master. ``is_master`` is None while it cannot be asked."""

    address: Address
    slots: Ranges = ()
    replicas: Set[Address] = field(default_factory=set)
    is_master: Optional[bool] = None
    myself: Optional[Myself] = None


def find_heirs(known: Dict[int, Known], shards: Sequence[Shard]) -> Tuple[Dict[int, Address], List[Shard]]:
    """Streams (by id) whose master is none of those any more, with the one that took its place; and the masters that nobody reads.

    An heir is a replica of the former master, or has its slots where that one is gone: a live master that gave them away has no heir.
    """
    masters = {shard.master for shard in shards}
    unread = [shard for shard in shards if shard.master not in {one.address for one in known.values()}]
    alone = len(known) == len(shards) == 1
    heirs: Dict[int, Address] = {}
    for number, one in known.items():
        if one.address in masters:
            continue
        for shard in unread:
            if _inherits(one, shard) or (alone and not shard.slots):
                heirs[number] = shard.master
                unread.remove(shard)
                break
    return heirs, unread


def _inherits(one: Known, shard: Shard) -> bool:
    if shard.master in one.replicas or one.address in shard.replicas:
        return True
    return not one.is_master and any(
        first <= last_slot and first_slot <= last for first, last in one.slots for first_slot, last_slot in shard.slots
    )


class SlotMap:
    """Which stream owns each slot, and which slots are on the move. ``version`` grows with each change."""

    def __init__(self, ranges: Iterable[Sequence[int]] = (), open_slots: Iterable[int] = (), version: int = 0) -> None:
        self.ranges: List[List[int]] = [list(row) for row in ranges]
        self.open_slots: List[int] = sorted(open_slots)
        self.version = version
        self._owners: List[int] = [-1] * SLOT_COUNT
        for first, last, stream in self.ranges:
            self._claim(stream, ((first, last),))

    def _claim(self, stream: int, slots: Ranges) -> None:
        for first, last in slots:
            self._owners[first : last + 1] = [stream] * (last + 1 - first)

    def update(self, claims: Iterable[Tuple[int, int, Ranges]], open_slots: Iterable[int]) -> None:
        """``claims``: (epoch, stream, slots) as masters see themselves.

        Where two claim a slot, the one with the higher epoch got it from the other. A slot that nobody claims stays where it was.
        """
        for _epoch, stream, slots in sorted(claims):
            self._claim(stream, slots)
        ranges, moving = self._compressed(), sorted(set(open_slots))
        if (ranges, moving) != (self.ranges, self.open_slots):
            self.ranges, self.open_slots = ranges, moving
            self.version += 1

    def _compressed(self) -> List[List[int]]:
        rows: List[List[int]] = []
        for slot, stream in enumerate(self._owners):
            if stream < 0:
                continue
            if rows and rows[-1][2] == stream and rows[-1][1] == slot - 1:
                rows[-1][1] = slot
            else:
                rows.append([slot, slot, stream])
        return rows


class SourceMap:
    """Keeps the streams' ``address`` and ``retired`` true, in a thread of its own (:meth:`run`).

    ``streams`` gives those there are; ``add`` makes one for a master that has none (Redis Cluster only) and returns its number. ``error``
    says why the source as a whole cannot be seen at present.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        streams: Callable[[], List[Stream]],
        add: Callable[[Address], int],
        log: Callable[[str], None],
    ) -> None:
        self.slots = SlotMap()
        self.clustered = False
        self.error: Optional[Dict[str, str]] = None
        self._wanted = threading.Event()
        self._begun = self._done = 0
        self._endpoint = endpoint
        self._streams = streams
        self._add = add
        self._log = log
        self._known: Dict[int, Known] = {}
        self._clients: Dict[Address, redis.Redis] = {}

    def begin(self, shards: Sequence[Shard]) -> None:
        """Make the streams of a source that was discovered just now."""
        self.clustered = any(shard.slots for shard in shards)
        self._add_all(shards)

    def resume(self, slots: SlotMap) -> None:
        """Go on from what an earlier run knew."""
        self.slots = slots
        self.clustered = bool(slots.ranges)
        for stream in self._streams():
            owned = [(first, last) for first, last, number in slots.ranges if number == stream.state.id]
            self._known[stream.state.id] = Known(stream.address, owned)

    def ask(self) -> int:
        """Let a look be taken at once, from now on; its number."""
        number = self._begun + 1
        self._wanted.set()
        return number

    def looked(self) -> int:
        """The number of the last look that was taken."""
        return self._done

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``."""
        while not stop.is_set():
            self._begun += 1
            try:
                self.look()
                error = None
            except MigrationError as exc:
                error = error_dict(exc)
                if self.error is None or self.error["message"] != error["message"]:
                    self._log("the source cannot be seen: %s" % exc)
            self.error = error
            self._done = self._begun
            self._wanted.wait(POLL_EVERY)
            self._wanted.clear()
        for client in self._clients.values():
            client.close()

    # -- one look -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask all masters, and where it is needed who the masters are. MigrationError where nobody tells."""
        streams = [stream for stream in self._streams() if not stream.closed]
        for stream in streams:
            if not stream.over:
                self._poll(stream)
        for address in set(self._clients) - {stream.address for stream in streams}:
            self._forget(address)
        well = all(
            stream.over or (stream.linked and self._known[stream.state.id].is_master is not False) for stream in streams
        )
        shards: Sequence[Shard] = ()
        if self.clustered:
            shards = self._cluster_shards(streams)
        elif self._endpoint.sentinel_service or not well:
            # Sentinel is asked always: a former master goes on for some seconds before it hears of its successor, and what it says
            # meanwhile is in nobody's history.
            try:
                shards = self._named_shards() if self._endpoint.shards else discover(self._endpoint).shards
            except ServerError:
                if not well:
                    raise
        if shards:
            self._follow(streams, shards)

    def _follow(self, streams: Sequence[Stream], shards: Sequence[Shard]) -> None:
        known = {stream.state.id: self._known[stream.state.id] for stream in streams}
        heirs, unread = find_heirs(known, shards)
        masters = {shard.master: shard for shard in shards}
        for stream in streams:
            one = known[stream.state.id]
            heir = heirs.get(stream.state.id)
            if heir is not None:
                self._log("stream %d: %s took the place of %s" % (stream.state.id, heir, one.address))
                one.address = stream.address = heir
                one.is_master = one.myself = None
            shard = masters.get(one.address)
            if shard is not None:
                one.replicas = set(shard.replicas) or one.replicas
                one.slots = shard.slots
            stream.retired = self.clustered and shard is None and not stream.linked
        if self.clustered:
            self._add_all(unread)
            self._update_slots(streams)

    def _add_all(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            number = self._add(shard.master)
            self._known[number] = Known(shard.master, shard.slots, set(shard.replicas))
        if self.clustered:
            # Only what nobody had before: a slot on its way stays with its old owner until the new one has said that it is its own.
            fresh = [(-1, number, one.slots) for number, one in self._known.items()] if not self.slots.ranges else []
            self.slots.update(fresh, self.slots.open_slots)

    def _update_slots(self, streams: Sequence[Stream]) -> None:
        said = [(stream.state.id, self._known[stream.state.id].myself) for stream in streams]
        claims = [(one.epoch, number, one.slots) for number, one in said if one is not None and one.is_master]
        self.slots.update(claims, (slot for _number, one in said if one is not None for slot in one.open_slots))

    # -- asking -------------------------------------------------------------------------------------------------------

    def _poll(self, stream: Stream) -> None:
        """Role, offset and replicas of a stream's master, and what a cluster node says of itself."""
        one = self._known[stream.state.id]
        state = stream.state
        received = state.received_offset
        try:
            info: Info = parse_info(self._ask(one.address, "INFO", "replication"))
            if self.clustered:
                one.myself = read_myself(self._ask(one.address, "CLUSTER", "NODES"))
        except ServerError as exc:
            # A slow script, a lost connection, a command that this user may not use: only the last one is known to be a master.
            one.is_master = True if isinstance(exc, ReplyError) else None
            return
        one.is_master = info.text("role") != "slave"
        offset = info.number("master_repl_offset")
        if one.is_master and offset is not None and stream.address == one.address:
            stream.note_source_offset(offset, state, received)
        one.replicas |= set(info.replicas())

    def _cluster_shards(self, streams: Sequence[Stream]) -> Sequence[Shard]:
        """The first answer there is: by the streams' masters, else by the addresses that the user gave."""
        for stream in streams:
            address = self._known[stream.state.id].address
            if self._known[stream.state.id].is_master is None:
                continue
            try:
                return shards_from_slots(self._ask(address, "CLUSTER", "SLOTS"), address)
            except ServerError:
                continue
        return discover(self._endpoint).shards

    def _named_shards(self) -> Sequence[Shard]:
        """The nodes behind a proxy, as far as they can be reached: one that is down must not hide where the others went."""
        found: Dict[Address, Shard] = {}
        failure: Optional[ServerError] = None
        for address in self._endpoint.shards:
            try:
                topology = discover(replace(self._endpoint, addresses=(address,), shards=(), topology="auto"))
            except ServerError as exc:
                failure = exc
                continue
            found.update((shard.master, shard) for shard in topology.shards)
        if failure is not None and not found:
            raise failure
        return list(found.values())

    def _ask(self, address: Address, *words: str) -> Any:
        """One command on the connection that we keep to each master. ServerError."""
        client = self._clients.get(address)
        if client is None:
            client = open_client(self._endpoint, address, timeout=_TIMEOUT, connect_timeout=_CONNECT_TIMEOUT)
            self._clients[address] = client
        try:
            return call(client, *words)
        except redis.RedisError as exc:
            if not isinstance(exc, redis.ResponseError):
                self._forget(address)
            raise translate(exc, address, " ".join(words), tls=self._endpoint.tls) from exc

    def _forget(self, address: Address) -> None:
        client = self._clients.pop(address, None)
        if client is not None:
            client.close()
