# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What the receiver has to receive although the spools are full, because the applier can free nothing before it has that: ``needs.json``."""

from __future__ import annotations

import contextlib
from typing import Callable, Dict, Iterable, Tuple

from .._errors import FileError
from .folder import TaskFolder
from .follower import Follower

_FILE = "needs.json"
# Bytes at least that are asked for at a time.
_LEAST = 1 << 20


def ask(folder: TaskFolder, stream: int, generation: int, offset: int) -> None:
    """That stream is needed up to ``offset``. FileError."""
    content = folder.peek(_FILE)
    if content.get(str(stream)) != [generation, offset]:
        folder.write(_FILE, {**content, str(stream): [generation, offset]})


def ask_for_rest(folder: TaskFolder, followers: Iterable[Follower], limit: int, warn: Callable[[str], None]) -> None:
    """The spools, of ``limit`` bytes, are full: ask for the rest of commands and transactions of which all that is there was read."""
    for follower in followers:
        received = follower.received
        begun = received - follower.dispatcher.sent
        if begun <= 0 or follower.spool.position < received:
            continue
        if begun > limit // 4:
            warn("A command or transaction of %s does not fit into the spool, which grows beyond spool_limit" % follower.state.address)
        # A disk that takes no word would not take the rest either.
        with contextlib.suppress(FileError):
            ask(folder, follower.number, follower.state.generation, received + max(_LEAST, begun))


def asked(folder: TaskFolder) -> Dict[Tuple[int, int], int]:
    """Offsets that were asked for, by stream and generation. FileError."""
    return {(int(stream), generation): offset for stream, (generation, offset) in folder.peek(_FILE).items()}
