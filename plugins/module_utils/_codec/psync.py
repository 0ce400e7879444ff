# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a master sends to a replica, up to the end of the snapshot.

Source: ``src/replication.c`` (syncCommand, replicationSetupSlaveForFullResync, sendBulkToSlave, syncReadLine, readSyncBulkPayload,
slaveTryPartialResynchronization) in redis/redis.

    lines      answers to REPLCONF and PSYNC, among lone newlines while the master waits for its fork
    payload    "$<length>" CRLF, that many bytes, or "$EOF:<40 bytes>" CRLF, bytes, the same 40 bytes
    stream     commands; not this file's business, they come out of ``rest`` as they are

Both machines take bytes in any chunking. "Not there yet" is None or an empty list, never an exception.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from .errors import CodecError, TruncatedError

# Length of the mark that ends a payload whose length is not known beforehand (CONFIG_RUN_ID_SIZE).
MARK_SIZE = 40

# Nobody sends longer lines here; something that does is no Redis.
_LINE_MAX = 16 << 10

FULL = "full"
CONTINUE = "continue"
LATER = "later"
REFUSED = "refused"

# The first words of errors that pass: the data set is still being read, or the replica has lost its master.
_PASSING = ("LOADING", "NOMASTERLINK", "MASTERDOWN", "BUSY", "TRYAGAIN")


class Answer(NamedTuple):
    """What PSYNC was answered.

    ``kind`` is FULL (``replication_id`` and ``offset`` are those of the snapshot), CONTINUE (``replication_id`` is the new one, empty where
    it did not change), LATER (ask again) or REFUSED. ``text`` is the line itself.
    """

    kind: str
    text: str
    replication_id: str = ""
    offset: int = -1


def read_answer(line: bytes) -> Answer:
    """Understand the line that answers PSYNC."""
    text = line.decode("utf-8", "backslashreplace")
    words = text.split()
    first = words[0].upper() if words else ""
    if first == "+FULLRESYNC" and len(words) >= 3 and words[2].lstrip("-").isdigit():
        return Answer(FULL, text, words[1], int(words[2]))
    if first == "+CONTINUE":
        return Answer(CONTINUE, text, words[1] if len(words) > 1 else "")
    if first.startswith("-"):
        return Answer(LATER if first[1:] in _PASSING else REFUSED, text[1:])
    return Answer(REFUSED, text)


class LineReader:
    """Lines that end with LF or CRLF; empty ones only show that the master lives and are counted in ``keepalives``."""

    def __init__(self) -> None:
        self.keepalives = 0
        self._buf = b""

    def feed(self, data: bytes) -> None:
        self._buf += data

    def line(self) -> Optional[bytes]:
        """The next line without its end, or None. CodecError for one that is longer than any real one."""
        while True:
            line, newline, rest = self._buf.partition(b"\n")
            if not newline:
                if len(line) > _LINE_MAX:
                    raise CodecError("a reply line does not end", 0)
                return None
            self._buf = rest
            line = line[:-1] if line.endswith(b"\r") else line
            if line:
                return line
            self.keepalives += 1

    def take_rest(self) -> bytes:
        """What came after the last line; it is forgotten here."""
        rest, self._buf = self._buf, b""
        return rest


class PayloadReader:
    """The payload. ``length`` is None before its head line was read and where only a mark ends it.

    ``error`` is set when the master sent an error line instead; ``received`` counts the snapshot's bytes; after ``done``,
    ``rest`` holds what came behind the payload.
    """

    def __init__(self) -> None:
        self.length: Optional[int] = None
        self.mark: Optional[bytes] = None
        self.error: Optional[str] = None
        self.received = 0
        self.done = False
        self.rest = b""
        self._lines = LineReader()
        self._tail = b""

    @property
    def begun(self) -> bool:
        """Whether the head line was read."""
        return self.length is not None or self.mark is not None

    @property
    def keepalives(self) -> int:
        return self._lines.keepalives

    def feed(self, data: bytes) -> List[bytes]:
        """The snapshot's bytes that became certain with ``data``, as pieces."""
        if self.done or self.error is not None:
            self.rest += data
            return []
        if not self.begun:
            self._lines.feed(data)
            line = self._lines.line()
            if line is None:
                return []
            data = self._lines.take_rest()
            self._head(line)
            if self.error is not None:
                self.rest = data
                return []
        pieces = self._counted(data) if self.mark is None else self._marked(data)
        self.received += sum(map(len, pieces))
        return pieces

    def close(self) -> None:
        """No more bytes come: TruncatedError unless the payload is complete."""
        if self.done:
            return
        if not self.begun:
            raise TruncatedError("the connection ended before the snapshot began", 0)
        wanted = " of %d" % self.length if self.length is not None else ""
        raise TruncatedError("the connection ended after %d%s bytes of the snapshot" % (self.received, wanted), self.received)

    def _head(self, line: bytes) -> None:
        if line.startswith(b"-"):
            self.error = line[1:].decode("utf-8", "backslashreplace")
        elif line.startswith(b"$EOF:"):
            self.mark = line[5:]
            if len(self.mark) != MARK_SIZE:
                raise CodecError("the end mark of the snapshot has %d bytes, not %d" % (len(self.mark), MARK_SIZE), 0)
        elif line.startswith(b"$") and line[1:].isdigit():
            self.length = int(line[1:])
        else:
            raise CodecError("expected a snapshot, found %r" % line[:80], 0)

    def _counted(self, data: bytes) -> List[bytes]:
        left = (self.length or 0) - self.received
        if len(data) >= left:
            self.done = True
            self.rest = data[left:]
            data = data[:left]
        return [data] if data else []

    def _marked(self, data: bytes) -> List[bytes]:
        """As a replica does: the payload ends where the last 40 bytes received are the mark.

        The mark is 160 random bits, so looking for it anywhere is as safe, and it finds the end when the stream follows at once.
        The last 39 bytes may be its beginning and are kept back.
        """
        mark = self.mark or b""
        joined = self._tail + data
        # Only a mark that touches the new bytes can be news, and it begins no earlier than the kept tail.
        found = joined.find(mark)
        if found >= 0:
            self.done = True
            self.rest = joined[found + MARK_SIZE :]
            self._tail = b""
            return [joined[:found]] if found else []
        keep = min(len(joined), MARK_SIZE - 1)
        cut = len(joined) - keep
        self._tail = joined[cut:]
        return [joined[:cut]] if cut else []
