# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver of an online task as a process of its own, without the rest of the task.

    with receiver_starter(tmp_path) as start, Writer(source) as writer:
        receiver = start(source, spool_limit=4 << 20)
        receiver.until("streaming", state="streaming")
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dcs.migration.plugins.module_utils._codec.aof import AofReader
from ansible_collections.dcs.migration.plugins.module_utils._codec.events import Batch
from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb import RdbScanner
from ansible_collections.dcs.migration.plugins.module_utils._sync import spool
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder

from .process import wait_until
from .redis_server import RedisServer

_RUN = (
    "import sys; from ansible_collections.dcs.migration.plugins.module_utils._sync import folder, receiver; "
    "sys.exit(receiver.main(folder.TaskFolder.at(sys.argv[1])))"
)
_STATE_SECONDS = 20.0


class Receiver:
    """The process, and what it left in the task's folder."""

    def __init__(self, path: Path, source: dict[str, Any], **options: Any) -> None:
        self.folder = TaskFolder(str(path), "task")
        self.folder.make()
        self.configure(source=source, target={"addresses": ["127.0.0.1:1"]}, **options)
        self._child: subprocess.Popen[bytes] | None = None

    def configure(self, **options: Any) -> None:
        self.folder.write("config.json", {**(self.folder.read("config.json") or {}), **options})

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> Receiver:
        self._child = subprocess.Popen([sys.executable, "-c", _RUN, self.folder.path], stdin=subprocess.DEVNULL)
        return self

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def stop(self) -> int:
        """In good order; the exit code."""
        assert self._child is not None
        self._child.terminate()
        return self.wait()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def wait(self) -> int:
        """Until it ends by itself; the exit code."""
        assert self._child is not None
        return self._child.wait(30)

    @property
    def log(self) -> str:
        return Path(self.folder.file("worker.log")).read_text(encoding="utf-8")

    # -- what it says ----------------------------------------------------------------------------------------

    def sources(self) -> dict[str, Any]:
        return self.folder.read("sources.json") or {"streams": []}

    def streams(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.sources()["streams"]
        return found

    def stream(self, number: int = 0) -> dict[str, Any]:
        return self.streams()[number]

    def until(self, what: str, number: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait until a stream has these fields; the stream."""

        def there() -> bool:
            streams = self.streams()
            return len(streams) > number and fields.items() <= streams[number].items()

        try:
            wait_until(there, what, _STATE_SECONDS)
        except TimeoutError as exc:
            raise AssertionError("%s\n%s\n%s" % (exc, self.streams(), self.log)) from None
        return self.stream(number)

    def caught_up(self, source: RedisServer, number: int = 0) -> dict[str, Any]:
        """Wait until all that the master has written so far is here."""
        offset = source.info("replication")["master_repl_offset"]
        wait_until(lambda: self.stream(number)["received_offset"] >= offset, "all of it arrived")
        return self.stream(number)

    # -- what it got -----------------------------------------------------------------------------------------

    def part(self, kind: str, number: int = 0) -> str:
        return self.folder.file("streams", str(number), str(self.stream(number)["generation"]), kind)

    def bytes_of(self, kind: str, number: int = 0) -> bytes:
        """All of a spool, which was not trimmed."""
        path = self.part(kind, number)
        bounds = spool.bounds(path)
        assert bounds is not None
        with contextlib.closing(spool.SpoolReader(path, bounds[0])) as reader:
            data = b"".join(iter(lambda: reader.read(1 << 20), b""))
        assert len(data) == bounds[1] - bounds[0]
        return data

    def keys(self, number: int = 0) -> set[bytes]:
        """Of the snapshot, whose checksum is right."""
        scanner = RdbScanner()
        events = list(scanner.feed(self.bytes_of("snapshot", number)))
        events += scanner.close()
        return {bytes(entry[1]) for event in events if isinstance(event, Batch) for entry in event.entries}

    def commands(self, number: int = 0) -> list[list[bytes]]:
        """Of the stream, up to the last whole one."""
        return [args for args, _raw, _at in AofReader().feed(self.bytes_of("stream", number))]

    def numbers(self, number: int = 0) -> list[int]:
        """Values that were set to keys that begin with ``seq``, in the order of the stream."""
        return [int(args[2]) for args in self.commands(number) if args[0].upper() == b"SET" and args[1].startswith(b"seq")]


@contextlib.contextmanager
def receiver_starter(path: Path) -> Iterator[Callable[..., Receiver]]:
    """``start(source..., endpoint=None, **options of the task)``: a receiver that runs; ``source`` are servers or addresses."""
    made: list[Receiver] = []

    def start(*sources: Any, endpoint: dict[str, Any] | None = None, **options: Any) -> Receiver:
        addresses = [getattr(source, "address", source) for source in sources]
        made.append(Receiver(path / str(len(made)), {"addresses": addresses, **(endpoint or {})}, **options))
        return made[-1].start()

    try:
        yield start
    finally:
        for one in made:
            one.kill()


class Writer:
    """Sets ``seq`` to one number after the other until it is stopped."""

    def __init__(self, source: RedisServer) -> None:
        self._client = source.client()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.last = -1

    def _run(self) -> None:
        while not self._ended.is_set():
            pipeline = self._client.pipeline(transaction=False)
            for number in range(self.last + 1, self.last + 21):
                pipeline.set("seq", number)
            pipeline.execute()
            self.last += 20

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def wait_for_more(self, count: int = 200) -> None:
        until = self.last + count
        wait_until(lambda: self.last >= until, "more numbers")

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def put(source: RedisServer, numbers: range, size: int = 0) -> None:
    """Set ``seq`` to these numbers, each followed by a key of ``size`` bytes."""
    client = source.client()
    for at in range(numbers.start, numbers.stop, 100):
        pipeline = client.pipeline(transaction=False)
        for number in range(at, min(at + 100, numbers.stop)):
            pipeline.set("seq", number)
            if size:
                pipeline.set("ballast", b"x" * size)
        pipeline.execute()
    client.close()


def wait_for_acks(source: RedisServer, count: int) -> None:
    """Wait until that many replicas, the receiver among them, have said that they have all that was written so far."""
    wanted = source.info("replication")["master_repl_offset"]

    def acknowledged() -> bool:
        info = source.info("replication")
        replicas = [info["slave%d" % number] for number in range(info["connected_slaves"])]
        return sum(1 for replica in replicas if replica["offset"] >= wanted) >= count

    wait_until(acknowledged, "%d replicas have everything" % count)
