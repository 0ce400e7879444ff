# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Asking for another full synchronisation, where what is there is of no more use: ``resync.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from .._errors import LostError, UsageError
from .sources import StreamState

if TYPE_CHECKING:
    from .session import Session

_FILE = "resync.json"


def ask(session: Session, stream: StreamState, why: str) -> None:
    """Let the receiver begin anew. UsageError where that is not allowed; FileError."""
    if not session.config.auto_reconnect:
        raise UsageError(session.config.target.label, why, "Set auto_reconnect and start again for a new full synchronisation")
    session.warn("stream %d: %s; asking for a new full synchronisation" % (stream.id, why))
    wanted = session.folder.peek(_FILE)
    wanted[str(stream.id)] = stream.generation
    session.folder.write(_FILE, wanted)


def begin(session: Session, stream: StreamState, why: str) -> NoReturn:
    """As :func:`ask`, and end this session. LostError."""
    ask(session, stream, why)
    raise LostError(session.config.target.label, "%s; a new full synchronisation follows" % why)


def damaged(session: Session, stream: StreamState, why: str) -> NoReturn:
    """What the spool holds is not what a server writes. LostError; UsageError where it was so of an earlier generation, too."""
    # The same one may be met again before the receiver has begun another.
    if session.memory.damaged.setdefault(stream.id, stream.generation) != stream.generation:
        raise UsageError(
            "what was received from %s" % stream.address,
            why,
            "Check the disk of state_dir. Where that is well the source has a format of its own: report it",
        )
    begin(session, stream, "what was received from %s is damaged: %s" % (stream.address, why))
