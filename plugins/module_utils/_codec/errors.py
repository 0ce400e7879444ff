# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What a decoder can say about bytes it does not like.

CodecError             the bytes are wrong
 +- TruncatedError     they end too early: more of them could still make sense
 +- UnsupportedError   they are well formed (or may be), but of a kind this code or that target does not know
 +- ChecksumError      the checksum does not match the bytes

``offset`` counts from the start of the buffer that was given to the decoder; whoever knows where that
buffer sits in a file adds its position with :meth:`CodecError.shift`.
"""

from __future__ import annotations

from typing import Optional


class CodecError(Exception):
    """Bytes that do not follow the format: ``reason`` in words, ``offset`` in bytes (None: not known)."""

    def __init__(self, reason: str, offset: Optional[int] = None) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset

    def __str__(self) -> str:
        if self.offset is None:
            return self.reason
        return "%s (at byte %d)" % (self.reason, self.offset)

    def shift(self, base: int) -> CodecError:
        """Add ``base`` to the offset (an unknown one becomes ``base``) and return self, ready to be raised again."""
        self.offset = base + (self.offset or 0)
        self.args = (self.reason, self.offset)
        return self


class TruncatedError(CodecError):
    """The buffer ends before the item does."""


class UnsupportedError(CodecError):
    """A type or version that is known by name only, or that the target cannot hold."""


class ChecksumError(CodecError):
    """The stored checksum differs from the one computed."""
