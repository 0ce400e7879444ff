# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""An append-only file: commands one after the other, fed in any chunking; and the manifest of one in several parts.

Source: ``src/aof.c`` in redis/redis (loadSingleAppendOnlyFile, aofLoadManifestFromFile). What a server writes are arrays of bulk strings in
canonical form, and lines that begin with ``#``: timestamps (``aof-timestamp-enabled``), skipped here as by a server.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .errors import CodecError, TruncatedError

# Arguments, the bytes as they stand in the file, and their position.
Command = Tuple[List[bytes], bytes, int]

# A server takes no longer argument from a client unless proto-max-bulk-len (512 MiB by default) is raised; this leaves room for that.
ARGUMENT_MAX = 4 << 30
# As in src/networking.c: more arguments would not have been accepted.
ARGUMENTS_MAX = (1 << 31) - 1
# Longer annotations are refused by a server too (AOF_ANNOTATION_LINE_MAX_LEN).
ANNOTATION_MAX = 1024
# "*2147483647" with its CRLF fits; anything longer is no length.
_LENGTH_LINE = 16
# From here on unfinished commands are looked at again only after half as many bytes more, so that the cost stays linear.
_PATIENT_FROM = 4096

_STAR, _DOLLAR, _HASH, _CR = b"*$#\r"
_NUMBERS: Dict[bytes, int] = {b"%d" % number: number for number in range(8192)}
# What no bytes begin with.
_NO_HEAD: Any = ()
_MULTI = (b"MULTI", b"multi")
_ENDS = (b"EXEC", b"exec", b"DISCARD", b"discard")


class AofReader:
    """Feed it the bytes of an AOF; ``base`` is the position of the first one in the file, ``total`` the file's size where it is known.

    Nothing is allocated by what a length claims: an argument is cut out once all of it is there. After the last chunk call :meth:`close`.
    ``offset`` is the position behind the last complete command.
    """

    def __init__(self, base: int = 0, total: Optional[int] = None) -> None:
        self.offset = base
        self._total = total
        self._pieces: List[bytes] = []
        self._have = 0
        self._need = 1
        self._multi: Optional[int] = None

    def feed(self, data: bytes) -> Iterator[Command]:
        """Commands that are complete now. CodecError (position in the file) for bytes that are no AOF; those before it are valid."""
        if not data:
            return
        self._pieces.append(data)
        self._have += len(data)
        if self._have >= self._need:
            yield from self._commands()

    def close(self) -> Iterator[Command]:
        """No more bytes come: the last commands, then TruncatedError unless the file ends where a command, and no MULTI, does."""
        if self._have:
            self._need = 1
            yield from self._commands()
        if self._have:
            raise self._truncated("the file ends inside the command that starts at byte %d" % self.offset, self.offset)
        if self._multi is not None:
            raise self._truncated("the file ends before the EXEC", self._multi)

    def _truncated(self, reason: str, offset: int) -> TruncatedError:
        if self._multi is not None:
            return TruncatedError("%s of the MULTI at byte %d" % (reason, self._multi), self._multi)
        return TruncatedError(reason, offset)

    def _commands(self) -> Iterator[Command]:
        buf = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
        self._pieces.clear()
        base = self.offset
        numbers = _NUMBERS
        find = buf.find
        starts = buf.startswith
        head = _NO_HEAD
        name = b""
        count = 0
        size = len(buf)
        pos = start = need = 0
        try:
            while pos < size:
                start = pos
                if starts(head, pos):
                    # Commands come in runs of the same name and number of arguments: this halves the work.
                    pos += len(head)
                    args = [name]
                    left = count - 1
                elif buf[pos] != _STAR:
                    if buf[pos] == _HASH:
                        pos = self._annotation(buf, pos)
                        if not pos:
                            break
                        start = pos
                        continue
                    raise CodecError("expected a command, found %r" % bytes(buf[pos : pos + 16]), pos)
                else:
                    head = _NO_HEAD
                    end = find(b"\r\n", pos, pos + _LENGTH_LINE)
                    count = numbers.get(buf[pos + 1 : end]) if end > 0 else None
                    if not count:
                        if end < 0 and self._unfinished(buf, pos):
                            break
                        count = self._length(buf, pos, end, ARGUMENTS_MAX, "number of arguments")
                        if not count:
                            raise CodecError("a command without arguments", pos)
                    pos = end + 2
                    args = []
                    left = count
                for _unused in range(left):
                    end = find(b"\r\n", pos, pos + _LENGTH_LINE)
                    length = numbers.get(buf[pos + 1 : end]) if end > 0 else None
                    if length is None:
                        if end < 0 and self._unfinished(buf, pos):
                            need = size + 1
                            break
                        length = self._length(buf, pos, end, ARGUMENT_MAX, "length of an argument")
                    if buf[pos] != _DOLLAR:
                        raise CodecError("expected the length of an argument, found %r" % bytes(buf[pos : pos + 16]), pos)
                    begin = end + 2
                    pos = begin + length
                    if pos + 2 > size:
                        need = pos + 2
                        self._check_total(base + need, length, base + start)
                        break
                    if buf[pos] != _CR or buf[pos + 1] != 10:
                        raise CodecError("an argument of %d bytes does not end where its length says" % length, begin)
                    args.append(buf[begin:pos])
                    pos += 2
                else:
                    if count == 1:
                        self._note(args[0], base + start)
                    elif head is _NO_HEAD:
                        name = args[0]
                        head = b"*%d\r\n$%d\r\n%b\r\n" % (count, len(name), name)
                    yield args, buf[start:pos], base + start
                    start = pos
                    continue
                break
        except CodecError as exc:
            raise exc if isinstance(exc, TruncatedError) else exc.shift(base)
        self._keep(buf, start, need)

    def _keep(self, buf: bytes, pos: int, need: int) -> None:
        """Go on at ``pos`` once ``need`` bytes of ``buf`` would be there."""
        self.offset += pos
        rest = buf[pos:] if pos else buf
        self._pieces = [rest] if rest else []
        self._have = len(rest)
        self._need = max(need - pos, self._have + 1)
        if self._have > _PATIENT_FROM:
            self._need = max(self._need, self._have + self._have // 2)

    def _note(self, word: bytes, offset: int) -> None:
        """Remember an open MULTI."""
        if word in _MULTI or word.upper() == b"MULTI":
            if self._multi is not None:
                raise CodecError("a MULTI inside the MULTI at byte %d" % self._multi, offset - self.offset)
            self._multi = offset
        elif word in _ENDS or word.upper() in _ENDS:
            if self._multi is None:
                raise CodecError("%s without a MULTI" % word.upper().decode("ascii"), offset - self.offset)
            self._multi = None

    @staticmethod
    def _annotation(buf: bytes, pos: int) -> int:
        """The position behind the line, 0 when it is not all there."""
        end = buf.find(b"\n", pos, pos + ANNOTATION_MAX)
        if end < 0 and len(buf) - pos >= ANNOTATION_MAX:
            raise CodecError("an annotation does not end", pos)
        return end + 1

    @staticmethod
    def _unfinished(buf: bytes, pos: int) -> bool:
        """Whether the line at ``pos`` may still become a length when more bytes come."""
        line = buf[pos:]
        if len(line) >= _LENGTH_LINE:
            return False
        digits = line[1:-1] if line.endswith(b"\r") else line[1:]
        return line[:1] in (b"", b"*", b"$") and (not digits or digits.isdigit())

    @staticmethod
    def _length(buf: bytes, pos: int, end: int, limit: int, what: str) -> int:
        text = buf[pos + 1 : end] if end > 0 else b""
        if not text.isdigit():
            raise CodecError("expected the %s, found %r" % (what, bytes(buf[pos : pos + 16])), pos)
        number = int(text)
        if number > limit:
            raise CodecError("the %s is %d, more than the %d there can be" % (what, number, limit), pos)
        return number

    def _check_total(self, end: int, length: int, start: int) -> None:
        if self._total is not None and end > self._total:
            raise self._truncated("the file ends inside an argument of %d bytes" % length, start)


# -- the manifest ----------------------------------------------------------------------------------------------------------

BASE, HISTORY, INCREMENT = "b", "h", "i"


class Part(NamedTuple):
    """A line of a manifest: ``type`` is BASE, HISTORY or INCREMENT."""

    name: str
    seq: int
    type: str


def parse_manifest(text: bytes) -> List[Part]:
    """The files to load, in order: the base, if there is one, then the increments. History files are listed last.

    CodecError with the position of the line. Words that later versions add to a line are passed over, as servers do.
    """
    parts: List[Part] = []
    pos = 0
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            try:
                parts.append(_part(stripped))
                _check_order(parts)
            except CodecError as exc:
                raise exc.shift(pos) from None
        pos += len(line)
    if not any(part.type != HISTORY for part in parts):
        raise CodecError("the manifest names no file", 0)
    order = {BASE: 0, INCREMENT: 1, HISTORY: 2}
    return sorted(parts, key=lambda part: order[part.type])


def _part(line: bytes) -> Part:
    words = _words(line)
    if len(words) < 6 or len(words) % 2:
        raise CodecError("not a line of a manifest: %r" % line[:80])
    fields = {words[index].lower(): words[index + 1] for index in range(0, len(words), 2)}
    name = fields.get(b"file", b"").decode("utf-8", "surrogateescape")
    seq = fields.get(b"seq", b"")
    kind = fields.get(b"type", b"").decode("ascii", "replace")
    if not name or not seq.isdigit() or len(seq) > 18 or not int(seq) or kind not in (BASE, HISTORY, INCREMENT):
        raise CodecError("not a line of a manifest: %r" % line[:80])
    if "/" in name or "\\" in name:
        raise CodecError("a manifest names files of its own folder, not %r" % name[:80])
    return Part(name, int(seq), kind)


def _check_order(parts: List[Part]) -> None:
    """What a server checks while it reads: one base, and increments in the order of their numbers."""
    last = parts[-1]
    earlier = parts[:-1]
    if last.type == BASE and any(part.type == BASE for part in earlier):
        raise CodecError("the manifest names two base files")
    if last.type == INCREMENT and any(part.type == INCREMENT and part.seq >= last.seq for part in earlier):
        raise CodecError("the increments of the manifest are not in order: %d comes too late" % last.seq)


def _words(line: bytes) -> List[bytes]:
    """Words between spaces; a file's name with unusual characters is quoted as by ``sdscatrepr``."""
    words = []
    pos = 0
    while pos < len(line):
        if line[pos : pos + 1].isspace():
            pos += 1
        elif line[pos : pos + 1] == b'"':
            word, pos = _quoted(line, pos + 1)
            words.append(word)
        else:
            end = pos
            while end < len(line) and not line[end : end + 1].isspace():
                end += 1
            words.append(line[pos:end])
            pos = end
    return words


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def _quoted(line: bytes, pos: int) -> Tuple[bytes, int]:
    out = []
    while pos < len(line):
        char = line[pos : pos + 1]
        if char == b'"':
            return b"".join(out), pos + 1
        if char == b"\\":
            code = line[pos + 2 : pos + 4]
            if line[pos + 1 : pos + 2] == b"x" and len(code) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in code):
                out.append(bytes((int(code, 16),)))
                pos += 4
                continue
            char = line[pos + 1 : pos + 2]
            out.append(_ESCAPES.get(char, char))
            pos += 2
            continue
        out.append(char)
        pos += 1
    raise CodecError("a quoted name does not end")
