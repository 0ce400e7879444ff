# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The target of a migration as one thing to write to, whatever its topology.

Snapshot entries have no order among each other, so they stream through one lane per master. Whatever has an order (the parts
of one big key, commands of an AOF) goes through :meth:`Target.call`, which waits.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from .._codec import payload, values
from .._codec.errors import CodecError
from .._codec.events import Batch, Entry
from .._codec.flat import FlatLists, FlatFormat
from .._codec.resp import ErrorReply, arguments, command
from .._codec.slots import SLOTS, key_slot
from .._errors import ConflictError, LostError, MigrationError, ServerError, UsageError
from .._server.connect import open_socket, reply_error
from .._server.endpoint import Address, Endpoint
from .._server.probe import Instance
from .failover import Masters, demoted, is_replica, shards_of
from .frames import Dialect, Framer, show
from .lane import LATER, PATIENCE, PAUSE, WINDOW, Lane, call, keys_in, pump

# Answers that name another address.
_ELSEWHERE = (b"MOVED", b"ASK")
# A cut connection is opened again this often, with growing pauses: about 6 s in all.
RECONNECTS = 5


class Undone(NamedTuple):
    """A frame that was not done at the first try, and why.

    ``unit`` has all commands on its key where an older target needs several: they go again together, as their order matters. ``keys``
    of them were not counted as written.
    """

    db: int
    frame: bytes
    reply: ErrorReply
    unit: Sequence[bytes] = ()
    keys: int = 0


class Target:
    """Open it with the probed instance; ``policy`` says what happens to keys that exist: replace, skip or fail.

    ``written``, ``skipped`` and ``expired`` count keys. ``name`` (the file, the stream) stands in errors about data.
    """

    def __init__(self, endpoint: Endpoint, instance: Instance, policy: str = "replace", name: str = "") -> None:
        self.endpoint = endpoint
        self.instance = instance
        self.policy = policy
        self.name = name
        self.skipped = 0
        self.expired = 0
        # Whether cut connections are opened again here.
        self.revives = True
        self.reconnects = 0
        self.redirects = 0
        self._extra = 0
        self._lanes: Dict[Address, Lane] = {}
        self._masters = Masters(endpoint)
        self._behind: List[Lane] = []
        self._by_slot: List[Lane] = []
        self._undone: List[Undone] = []
        self._failure: Optional[MigrationError] = None
        self._clustered = instance.topology.kind == "redis_cluster"
        self._proxied = instance.topology.kind == "proxy_cluster"
        self.one_db = self._clustered or self._proxied
        # Milliseconds its clock is ahead of this host's.
        self.clock_skew_ms = instance.clock_skew_ms or 0
        if instance.product.rdb_version is None:
            raise UsageError(
                endpoint.label,
                "its version cannot be found out (INFO and DUMP are refused)",
                "Allow INFO or DUMP, or name the nodes behind the proxy in shards",
            )
        self.dialect = Dialect(instance.product.rdb_version, instance.product.dialect, instance.capabilities)
        self.framer = self._framer()
        self._connect()

    def _framer(self) -> Framer:
        return Framer(self.dialect, self.policy, self.now_ms, self._clustered, self.name)

    @property
    def flat_format(self) -> Optional[FlatFormat]:
        """What may come in flat lists: nothing unless MSET may be used, which replaces, and which clusters and proxies do not take as one."""
        return self.framer.flat_format() if self.policy == "replace" and not self.one_db else None

    def now_ms(self) -> int:
        """The target's clock: what it will say when asked whether a key has expired."""
        return int(time.time() * 1000) + self.clock_skew_ms

    @property
    def written(self) -> int:
        """Keys written and acknowledged."""
        return self._extra + sum(lane.keys for lane in self._lanes.values())

    def for_file(self, name: str) -> None:
        """What follows comes from ``name``."""
        self.name = name
        self.framer = self._framer()

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, batch: Batch, entries: List[Entry], db: int, flat: Optional[FlatLists] = None) -> None:
        """Write entries and flat lists of a batch into ``db``; returns when no more than a window of them is unanswered.

        ConflictError, ReplyError, LostError, UnsupportedTypeError; after an error the target takes no more.
        """
        framed = self.framer.frames(batch, entries)
        self.expired += framed.expired
        if self._clustered:
            self._route(framed.keys_of, framed.frames)
        else:
            lane = self._only_lane()
            lane.queue(framed.frames, framed.keys, db)
            if flat:
                self.expired += flat.drop_expired(self.now_ms())
                for frames, keys in self.framer.flat(flat):
                    lane.queue(frames, keys, db)
        self._pump(WINDOW)

    def call(self, key: bytes, db: int, frames: Sequence[bytes]) -> List[Any]:
        """Send commands that belong to ``key`` and wait for their replies, wherever the key's slot is by now.

        All that was written before is answered first. Their order must not matter: where some have to be sent again, others were
        done already (see :meth:`build`). Error replies raise, except BUSYKEY, which is returned.
        """
        self.flush()
        replies = call(self._lane_of(key), list(frames), db)
        return [self._final(key, db, frame, reply) for frame, reply in zip(frames, replies)]

    def build(self, key: bytes, db: int, frames: Sequence[bytes], undo: Callable[[], Sequence[bytes]]) -> List[Any]:
        """Send commands that have to be done in their order, and wait for their replies, which are returned.

        ``undo`` gives those that make the key again what it was before, whichever of them were done. Error replies raise.
        """
        self.flush()
        replies = call(self._lane_of(key), list(frames), db)
        first = next((number for number, reply in enumerate(replies) if isinstance(reply, ErrorReply)), None)
        if first is None:
            return replies
        if not _is_passing(replies[first]):
            raise self._error(self._lane_of(key).address, frames[first], replies[first])
        rest = frames[first:]
        if not all(map(_is_passing, replies[first:])):
            # What comes after the refused one was done.
            rest = [*undo(), *frames]
        # One by one, none can overtake another.
        again = [self._final(key, db, frame, call(self._lane_of(key), [frame], db)[0]) for frame in rest]
        return [*replies[:first], *again][-len(frames) :]

    def _final(self, key: bytes, db: int, frame: bytes, reply: Any) -> Any:
        """The reply once patience was had and redirections were followed. Error replies raise, except BUSYKEY."""
        reply = self._resend(Undone(db, frame, reply), key)
        if isinstance(reply, ErrorReply) and reply.code != b"BUSYKEY":
            raise self._error(self._lane_of(key).address, frame, reply)
        return reply

    def send(self, framed: Sequence[Tuple[bytes, List[bytes]]], db: int) -> None:
        """Send each key's commands, wherever its slot is by now, and wait until all are answered. Errors raise as in :meth:`write`."""
        self.flush()
        for key, frames in framed:
            self._lane_of(key).queue(frames, 0, db)
        self.flush()

    def call_all(self, frame: bytes) -> List[Tuple[Address, Any]]:
        """Send one command to every master; their replies, errors among them."""
        self.flush()
        return [(lane.address, call(lane, [frame])[0]) for lane in self.master_lanes()]

    def enter(self, dbs: Iterable[int]) -> None:
        """Select each of these databases once, and write nothing: ServerError for one that cannot be."""
        if not self.one_db:
            for db in sorted(dbs):
                self._only_lane().queue([command("PING")], 0, db, [])
                self.flush()

    def name_connections(self, name: str) -> None:
        """Give the connections a name by which another process can end them (a server may refuse that); none is opened again."""
        self.revives = False
        for lane in self.master_lanes():
            lane.drop_at_end()
            call(lane, [command("CLIENT", "SETNAME", name)])

    def master_lanes(self) -> List[Lane]:
        """One lane to every master; behind a proxy those that were named in ``shards``, else the proxy itself."""
        if self._proxied and not self._behind:
            for address in self.instance.topology.masters:
                self._behind.append(Lane(open_socket(self.endpoint, address), address, self._on_reply))
        return self._behind or list(self._lanes.values())

    def flush(self) -> None:
        """Wait until everything is answered."""
        self._pump(0)

    def close(self) -> None:
        for lane in list(self._lanes.values()) + self._behind:
            lane.close()

    def confirm(self) -> None:
        """Once everything is written: LostError where a failover may have taken some of it away again. ServerError."""
        self.flush()
        if self._clustered:
            # Each is asked: one that was cut off from the others may still believe to be a master.
            suspects = list(self._lanes.values())
            for lane in list(suspects):
                self._masters.require(shards_of(lane), self._lanes, self._by_slot, suspects)
                suspects.clear()
        elif not self._proxied and is_replica(self._only_lane()):
            raise demoted(self._only_lane().address)

    def drain(self) -> None:
        """After an error: wait a little for what is under way, so that ``written`` is the truth. Never raises."""
        try:
            pump(list(self._lanes.values()), 0, silence=5.0)
        except MigrationError:
            pass

    def count_written(self, keys: int) -> None:
        """Keys that were written through :meth:`call`."""
        self._extra += keys

    # -- lanes -----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        shards = self.instance.topology.shards
        if self._clustered:
            if self.instance.topology.missing_slots:
                raise UsageError(
                    self.endpoint.label,
                    "%d of the cluster's %d slots have no master" % (self.instance.topology.missing_slots, SLOTS),
                    "Repair the cluster (CLUSTER INFO must say cluster_state:ok)",
                )
            self._map_slots()
        elif self._proxied:
            self._lane(self.instance.topology.entry)
        else:
            self._lane(shards[0].master)

    def _map_slots(self) -> None:
        table: List[Any] = [None] * SLOTS
        for shard in self.instance.topology.shards:
            for first, last in shard.slots:
                table[first : last + 1] = [self._lane(shard.master)] * (last - first + 1)
        self._by_slot = table

    def _lane(self, address: Address) -> Lane:
        lane = self._lanes.get(address)
        if lane is None:
            lane = self._lanes[address] = Lane(open_socket(self.endpoint, address), address, self._on_reply)
            if not self._proxied:
                self._masters.note(address)
        return lane

    def _only_lane(self) -> Lane:
        return next(iter(self._lanes.values()))

    def _lane_of(self, key: bytes) -> Lane:
        return self._by_slot[key_slot(key)] if self._clustered else self._only_lane()

    def _route(self, keys: List[bytes], frames: List[bytes]) -> None:
        by_slot = self._by_slot
        parts: Dict[Lane, List[bytes]] = {lane: [] for lane in self._lanes.values()}
        for key, frame in zip(keys, frames):
            parts[by_slot[key_slot(key)]].append(frame)
        for lane, part in parts.items():
            lane.queue(part, len(part) if self.framer.one_to_one else sum(map(keys_in, part)))

    def _pump(self, limit: int) -> None:
        self._patiently(limit)
        if self._undone:
            self._settle()
        if self._failure:
            raise self._failure

    def _patiently(self, limit: int) -> None:
        """Pump; a cut connection is opened again where nothing can have been lost."""
        while True:
            try:
                pump(self._lanes.values(), limit)
                return
            except LostError as exc:
                if self._failure:
                    raise self._failure from exc
                if not self.revives:
                    raise
                self._revive(next(lane for lane in self._lanes.values() if lane.broken), exc)

    def _revive(self, broken: Lane, lost: LostError) -> None:
        """Open a cut lane again and send its unanswered frames once more.

        Only towards the very same server process: another one may have lost what was acknowledged before, and then only
        a new run from the start can promise that nothing is missing. Writing an entry twice is harmless.
        """
        address = broken.address
        refused = ""
        for attempt in range(RECONNECTS):
            time.sleep(0.1 * 2.5**attempt)
            try:
                same = not self._proxied and self._masters.is_same(address)
                sock = open_socket(self.endpoint, address)
                break
            except ServerError as exc:
                refused = exc.why
        else:
            raise LostError(
                lost.what, "%s; %d tries to connect again failed (%s)" % (lost.why, RECONNECTS, refused), lost.remedy
            )
        if not same:
            sock.close()
            raise LostError(
                lost.what,
                "%s, and another server process answers there now: what was written before may be gone" % lost.why,
                "Run again from the start; see the server's log for why it went away",
            )
        broken.close()
        lane = Lane(sock, address, self._on_reply)
        broken.hand_over(lane)
        self.reconnects += 1
        self._lanes[address] = lane
        self._by_slot = [lane if owner is broken else owner for owner in self._by_slot]

    # -- replies ---------------------------------------------------------------------------------------------------

    def _on_reply(self, lane: Lane, db: int, frame: bytes, reply: Any) -> None:
        if reply is None:
            # SET with NX found the key.
            reply = ErrorReply(b"BUSYKEY")
        if not isinstance(reply, ErrorReply):
            return
        reply = _named(reply)
        if reply.code == b"BUSYKEY" or _is_passing(reply):
            self._note(lane, Undone(db, frame, reply, (frame,), keys_in(frame)))
        elif self._failure is None:
            self._failure = self._error(lane.address, frame, reply)

    def _note(self, lane: Lane, item: Undone) -> None:
        if not self.framer.one_to_one:
            unit = lane.on_the_same_key()
            last = self._undone[-1] if self._undone else None
            if last is not None and len(unit) > 1 and last.unit == unit:
                self._undone[-1] = last._replace(keys=last.keys + item.keys)
                return
            item = item._replace(unit=unit)
        self._undone.append(item)

    def _settle(self) -> None:
        """Deal with frames that were not done at the first try, once nothing else is under way."""
        self._patiently(0)
        while self._undone and self._failure is None:
            undone, self._undone = self._undone, []
            again = []
            for item in undone:
                if item.reply.code != b"BUSYKEY":
                    again.append((item, arguments(item.frame)))
                elif self._failure is None:
                    self._exists(item, arguments(item.frame))
            if self._failure is None:
                self._again(again)

    def _again(self, items: Sequence[Tuple[Undone, List[bytes]]]) -> None:
        """Send again what was refused. One goes first and waits until the target is well again; then all the others follow at once."""
        parts: Dict[Tuple[int, int], Tuple[Lane, List[bytes], int]] = {}
        moved: Set[int] = set()
        for number, (item, args) in enumerate(items):
            if not number or item.reply.code == b"ASK":
                self._alone(item, args)
                if self._failure is not None:
                    return
                continue
            if item.reply.code == b"MOVED":
                self.redirects += 1
                slot = key_slot(args[1])
                if slot not in moved:
                    moved.add(slot)
                    self._moved(item.reply, self._lane_of(args[1]))
            lane = self._lane_of(args[1])
            _lane, frames, keys = parts.get((id(lane), item.db), (lane, [], 0))
            frames.extend(item.unit)
            parts[id(lane), item.db] = (lane, frames, keys + item.keys)
        for (_id, db), (lane, frames, keys) in parts.items():
            lane.queue(frames, keys, db)
        self._patiently(0)

    def _alone(self, item: Undone, args: List[bytes]) -> None:
        """Send one item again, and wait for its replies."""
        reply: Any = item.reply
        for frame in item.unit:
            reply = self._resend(Undone(item.db, frame, item.reply), args[1])
            if isinstance(reply, ErrorReply) and reply.code != b"BUSYKEY":
                self._failure = self._error(self._lane_of(args[1]).address, frame, reply)
                return
        if reply is None or isinstance(reply, ErrorReply):
            self._exists(item, args)
        else:
            self._extra += item.keys

    def _exists(self, item: Undone, args: List[bytes]) -> None:
        """A key is there already: skip it, or fail unless it is there with this very value."""
        if self.policy == "fail" and not self._same_value(item.db, args):
            self._failure = ConflictError(
                "%s, key %s in db %d" % (self._lane_of(args[1]).address, show(args[1]), item.db),
                "exists already with another value, and on_conflict is fail",
                "Set on_conflict to replace or skip, or empty the target",
            )
            return
        self.skipped += 1

    def _same_value(self, db: int, args: List[bytes]) -> bool:
        """Whether the target's key holds what this frame would write: then an earlier, interrupted run wrote it."""
        theirs = call(self._lane_of(args[1]), [command("DUMP", args[1])], db)[0]
        if not isinstance(theirs, bytes) or isinstance(theirs, ErrorReply):
            return False
        try:
            kind, body, version = payload.split(theirs)
            found, _end = values.decode(kind, body, 0, self.dialect.name)
            if args[0].upper() == b"SET":
                return isinstance(found, values.String) and found.value == args[2]
            kind, body, version = payload.split(args[3])
            wanted, _end = values.decode(kind, body, 0, self.dialect.name)
        except CodecError:
            return False
        return values.canonical(found) == values.canonical(wanted)

    def _resend(self, item: Undone, key: bytes) -> Any:
        """Follow MOVED and ASK, wait out TRYAGAIN and the like: the final reply, or the last one when patience ends."""
        deadline = time.monotonic() + PATIENCE
        # What was the matter with a whole window of commands may be over by the time that the first goes again.
        pause = 0.0
        reply: Any = item.reply
        while isinstance(reply, ErrorReply) and time.monotonic() < deadline:
            lane = self._lane_of(key)
            if reply.code == b"ASK":
                self.redirects += 1
                reply = call(self._lane(_address(reply, lane.address)), [command("ASKING"), item.frame])[1]
                continue
            if reply.code == b"MOVED":
                self.redirects += 1
                self._moved(reply, lane)
            elif reply.code in LATER:
                if pause:
                    time.sleep(pause)
                    if reply.code == b"CLUSTERDOWN":
                        self._refresh(lane)
                pause = min(1.0, 2 * pause or PAUSE)
            else:
                return _named(reply)
            reply = call(self._lane_of(key), [item.frame], item.db)[0]
        return reply

    def _moved(self, reply: ErrorReply, asked: Lane) -> None:
        """One slot has a new master; the whole map is read again when that one was unknown. LostError after a failover."""
        address = _address(reply, asked.address)
        if address not in self._lanes:
            self._refresh(asked, [asked])
        self._by_slot[int(reply.split()[1])] = self._lane(address)

    def _refresh(self, lane: Lane, suspects: Iterable[Lane] = ()) -> None:
        """Read the map again from the node that just answered."""
        shards = shards_of(lane)
        self._masters.require(shards, self._lanes, self._by_slot, suspects)
        for shard in shards:
            for first, last in shard.slots:
                self._by_slot[first : last + 1] = [self._lane(shard.master)] * (last - first + 1)

    def _error(self, address: Address, frame: bytes, reply: ErrorReply) -> ServerError:
        args = arguments(frame)
        name = args[0].decode("ascii", "replace")
        key = args[1] if len(args) > 2 else None
        return reply_error(reply.decode("utf-8", "replace"), address, name, key)


def _is_passing(reply: Any) -> bool:
    """Whether it asks for patience or names another address; every other error is final."""
    return isinstance(reply, ErrorReply) and (reply.code in LATER or reply.code in _ELSEWHERE)


def _named(reply: ErrorReply) -> ErrorReply:
    """With the code that says a key exists, which Redis 2.8 does not have."""
    return ErrorReply(b"BUSYKEY") if reply.startswith(b"ERR Target key name is busy") else reply


def _address(reply: ErrorReply, asked: Address) -> Address:
    """The address in ``MOVED 3999 127.0.0.1:6381``; an empty host means the one that was asked."""
    text = reply.split()[2].decode("ascii", "replace")
    host, _colon, port = text.rpartition(":")
    return Address(host.strip("[]") or asked.host, int(port))
