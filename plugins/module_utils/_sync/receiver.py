# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The receiver of a task: reads the replication streams of all masters of the source into spools on disk, at line rate, always.

A master that has to wait for a slow replica drops it, and the snapshot begins anew; so nothing here ever looks into the data or
waits for the target. Threads: one per stream (:mod:`.receiver_stream`), one that follows the source (:mod:`.source_map`), one that syncs
the spools to the disk, and this one, which writes ``sources.json``:

    at, boot_id      seconds since the epoch; which boot of the host it is
    error            why the source as a whole cannot be seen at present, as ``error_dict``; else null
    kind             single, master_standby, redis_cluster or proxy_cluster
    slots            Redis Cluster: [first, last, stream id], the owners now; a slot whose new owner has no stream yet stays with the
                     old one
    open_slots       slots that any master shows as migrating or importing
    map_at           grows whenever one of these two changed
    spool_bytes, spool_limit, spool_full
    streams          of each:
        id, address, state, since, error, reconnects, full_syncs
                             state is connecting, waiting (for the snapshot), snapshot, streaming, lost (for good) or ended
        generation           grows with each FULLRESYNC; its spools are in streams/<id>/<generation>/
        replication_id, command, snapshot_offset, stream_db
                             what was granted, by PSYNC or SYNC (no id, and the stream's spool begins at 0)
        snapshot_length      null where only its end tells it
        snapshot_received, snapshot_complete, snapshot_durable
        received_offset      the end of the stream's spool
        durable_offset       up to here it is on the disk whatever happens to the host
        source_offset        the master's own offset, asked every second; after SYNC an estimate in our count
        source_offset_at     when it was told, in seconds since the epoch; 0 while nobody did
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._errors import FileError, MigrationError, UsageError
from .._server.endpoint import Address
from .._server.topology import Shard, discover
from . import needs, spool
from .config import Config, stamp
from .folder import TaskFolder, boot_id, error_dict
from .log import Log
from .receiver_state import CONNECTING, ENDED, LOST, Shared, StreamState, generations, remove_older, restore
from .receiver_stream import FIRST_PAUSE, LONGEST_PAUSE, TRIES, Stream
from .source_map import SlotMap, SourceMap

SOURCES = "sources.json"
RESYNC = "resync.json"
LOG = "worker.log"
DONE, FAILED, FAILED_FOR_GOOD = 0, 1, 3

# Seconds: between two looks of this thread, two writings of sources.json while bytes arrive and at all, two measures of the spools,
# two looks for resync.json and config.json, two syncs.
_NAP = 0.05
_WRITE_AFTER, _WRITE_EVERY = 0.25, 1.0
_MEASURE_EVERY = 0.2
_RESYNC_EVERY = 0.5
_SYNC_EVERY = 1.0
# Seconds that threads may take to end.
_GRACE = 3.0


def main(folder: TaskFolder) -> int:
    """Be the receiver of that task until SIGTERM or the end of its streams; the process's exit code."""
    log = Log(folder.file(LOG), "receiver")
    try:
        receiver = Receiver(folder, Config.load(folder), log)
    except MigrationError as exc:
        log(str(exc))
        return FAILED_FOR_GOOD
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receiver.stop)
    return receiver.run()


class _Due:
    """True once every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Receiver:
    """Starts the threads and tells what they do; :meth:`run` returns the exit code."""

    def __init__(self, folder: TaskFolder, config: Config, log: Log) -> None:
        self._folder = folder
        self._config_stamp = stamp(folder)
        self._config = config
        self._log = log
        self._kind = ""
        self._code = DONE
        self._bytes = 0
        self._full = False
        self._error: Optional[Dict[str, str]] = None
        self._streams: List[Stream] = []
        self._threads: List[threading.Thread] = []
        self._started = False
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._written: Tuple[Any, ...] = ()
        self._unwritten = ""
        self._shared = Shared(folder, config, log)
        self._map = SourceMap(config.source, self._all_streams, self._add, log)
        self._shared.changed = self._news.set
        self._shared.look = self._map.ask
        self._shared.looked = self._map.looked
        self._shared.publish = self._publish
        self._shared.fail = self._fail

    def stop(self, *_signal: object) -> None:
        """Let :meth:`run` return soon."""
        self._shared.stop.set()

    def _fail(self, exc: BaseException) -> None:
        self._log("".join(traceback.format_exception(type(exc), exc, exc.__traceback__)))
        self._code = FAILED
        self.stop()

    def run(self) -> int:
        """Receive. What goes wrong is in ``sources.json`` and in the log."""
        try:
            if self._restore() or self._discover():
                self._start()
                self._watch()
            self.stop()
            self._map.ask()
            deadline = time.monotonic() + _GRACE
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            self._try_to_publish()
        except Exception as exc:  # the log is the only place where it can be seen
            self._fail(exc)
        return self._code

    # -- beginning ----------------------------------------------------------------------------------------------------

    def _all_streams(self) -> List[Stream]:
        return list(self._streams)

    def _restore(self) -> bool:
        """Go on with the streams of an earlier run, if there was one. FileError."""
        saved = self._folder.peek(SOURCES)
        if not saved.get("streams"):
            if os.path.exists(self._folder.file("streams")):
                self._log("%s does not tell what there was; beginning anew" % SOURCES)  # the folders' names still tell the generations
            return False
        rebooted = saved.get("boot_id") != boot_id()
        if rebooted:
            self._log("the host was started again: only what was synced before counts")
        self._kind = saved["kind"]
        for one in saved["streams"]:
            state = restore(one, self._folder.file("streams"), rebooted)
            self._streams.append(Stream(self._shared, state))
        self._map.resume(SlotMap(saved.get("slots") or (), saved.get("open_slots") or (), saved.get("map_at") or 0))
        return True

    def _discover(self) -> bool:
        """Find the source's masters and make their streams; False when that is not to be."""
        pause, tries = FIRST_PAUSE, 0
        while not self._shared.stop.is_set():
            try:
                shards = self._masters()
            except MigrationError as exc:
                tries += 1
                self._error = error_dict(exc)
                if isinstance(exc, UsageError) or (tries >= TRIES and not self._config.auto_reconnect):
                    self._log(str(exc))
                    self._code = FAILED_FOR_GOOD
                    return False
                self._log("%s Trying again in %g s" % (exc, pause))
                self._try_to_publish()
                self._shared.stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._renew()
                continue
            self._error = None
            self._map.begin(shards)
            return True
        return False

    def _masters(self) -> Sequence[Shard]:
        topology = discover(self._config.source)
        if not topology.shards:
            raise UsageError(
                self._config.source.label,
                "is a proxy, which gives no replication stream",
                "Name the nodes behind it in shards of the source",
            )
        self._kind = topology.kind
        return topology.shards

    def _add(self, master: Address) -> int:
        """A stream for a master that has none."""
        number = max([stream.state.id for stream in self._streams], default=-1) + 1
        stream = Stream(self._shared, StreamState(number, str(master)))
        self._streams.append(stream)
        self._log("stream %d: %s" % (number, master))
        if self._started:
            self._start_thread("stream %d" % number, stream.run)
        self._count()
        self._news.set()
        return number

    def _count(self) -> None:
        self._shared.stream_count = max(1, sum(1 for stream in self._streams if not stream.over))

    def _start(self) -> None:
        self._count()
        self._started = True
        self._look_for_resync()
        self._measure()
        self._publish()
        for stream in self._all_streams():
            self._start_thread("stream %d" % stream.state.id, stream.run)
        self._start_thread("follow", self._run_map)
        self._start_thread("sync", self._run_sync)

    def _start_thread(self, name: str, run: Any) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_map(self) -> None:
        try:
            self._map.run(self._shared.stop)
        except Exception as exc:
            self._shared.fail(exc)

    # -- while it runs ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Write sources.json, measure the spools, look for resync.json; until the end."""
        news, last, ask, measure = _Due(_WRITE_AFTER), _Due(_WRITE_EVERY), _Due(_RESYNC_EVERY), _Due(_MEASURE_EVERY)
        while not self._shared.stop.is_set() and not self._over():
            if measure():
                self._measure()
            if ask():
                self._renew()
                self._look_for_resync()
            changed = self._news.is_set()
            if changed or (news() and self._marks() != self._written) or last():
                self._news.clear()
                self._try_to_publish()
            self._news.wait(_NAP)

    def _over(self) -> bool:
        streams = [stream.state.state for stream in self._all_streams()]
        if any(state not in (LOST, ENDED) for state in streams):
            return False
        if LOST in streams:
            self._code = FAILED_FOR_GOOD
            return True
        return self._config.method == "full"

    def _marks(self) -> Tuple[Any, ...]:
        """What changes as bytes arrive."""
        states = [stream.state for stream in self._all_streams()]
        return (self._bytes, [(one.received_offset, one.snapshot_received, one.durable_offset) for one in states])

    def _publish(self, durable: bool = True) -> None:
        """Write ``sources.json``. FileError."""
        with self._lock:
            self._written = self._marks()
            slots = self._map.slots
            content = {
                "at": time.time(),
                "boot_id": boot_id(),
                "error": self._error or self._map.error,
                "kind": self._kind,
                "slots": slots.ranges,
                "open_slots": slots.open_slots,
                "map_at": slots.version,
                "spool_bytes": self._bytes,
                "spool_limit": self._shared.limit,
                "spool_full": self._full,
                "streams": [stream.state.as_dict() for stream in self._all_streams()],
            }
            self._folder.write(SOURCES, content, durable=durable)

    def _try_to_publish(self) -> None:
        try:
            self._publish(durable=False)
            self._unwritten = ""
        except FileError as exc:
            if str(exc) != self._unwritten:
                self._unwritten = str(exc)
                self._log(self._unwritten)

    def _measure(self) -> None:
        """Whether the spools reached their limit."""
        streams = self._all_streams()
        self._bytes = spool.size(self._folder.file("streams"))
        for stream in streams:
            stream.held = spool.size(stream.folder) if len(streams) > 1 else self._bytes
        self._shared.room = self._shared.limit - self._bytes
        full = self._shared.room <= 0
        if full:
            # What an older generation holds must not keep the newer one from arriving.
            for stream in streams:
                if generations(stream.folder)[:-1]:
                    remove_older(stream.folder, stream.state.generation)
            wanted = needs.asked(self._folder)
            for stream in streams:
                stream.needed = wanted.get((stream.state.id, stream.state.generation), 0)
        if full != self._full:
            self._full = full
            self._log("the spools reached their limit; waiting for the target" if full else "the spools have room again")
            self._news.set()

    def _renew(self) -> None:
        """Take over what the user has changed meanwhile."""
        config_stamp = stamp(self._folder)
        if config_stamp == self._config_stamp:
            return
        self._config_stamp = config_stamp
        try:
            self._config = self._shared.config = self._config.renewed(self._folder)
        except MigrationError as exc:
            self._log(str(exc))

    def _look_for_resync(self) -> None:
        """Generations that the applier has no more use for."""
        wanted = self._folder.peek(RESYNC)
        for stream in self._all_streams():
            stream.obsolete = wanted.get(str(stream.state.id), 0)
            if self._config.method == "full" and not self._threads and stream.over and stream.obsolete == stream.state.generation:
                # It had done its work before this run.
                stream.state.enter(CONNECTING)

    def _run_sync(self) -> None:
        """Bring the spools to the disk every second."""
        failed = ""
        while not self._shared.stop.wait(_SYNC_EVERY):
            try:
                for stream in self._all_streams():
                    stream.sync()
                failed = ""
            except FileError as exc:
                if str(exc) != failed:
                    failed = str(exc)
                    self._log(failed)
            except Exception as exc:
                self._shared.fail(exc)
