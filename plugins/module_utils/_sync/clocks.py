# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""How far the clocks of source and target are from this host's: looked at now and then, since somebody may set one meanwhile."""

from __future__ import annotations

import threading
from typing import Optional

from .._server.clock import SKEW_REMEDY, SKEW_WARN, clock_skew, skew_text
from .._server.endpoint import Address, Endpoint
from .._server.probe import Instance

# Seconds between two looks.
_EVERY = 10.0


class Clocks:
    """``source_ms``, ``target_ms``: milliseconds that clock is ahead of this host's, None where the server does not tell.

    A thread looks, so that nothing waits for a server that does not answer; begun by :meth:`start`, ended by :meth:`close`.
    """

    def __init__(self, source: Endpoint, source_instance: Instance, target: Endpoint, target_instance: Instance) -> None:
        self.source_ms = source_instance.clock_skew_ms
        self.target_ms = target_instance.clock_skew_ms
        self._source = source, _one_of(source_instance)
        self._target = target, _one_of(target_instance)
        self._closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="clocks", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_EVERY):
            source, target = clock_skew(*self._source), clock_skew(*self._target)
            # Who does not answer keeps what is known of it.
            self.source_ms = self.source_ms if source is None else source
            self.target_ms = self.target_ms if target is None else target

    @property
    def complaint(self) -> Optional[str]:
        """What to tell a person; None where the clocks agree."""
        if self.source_ms is None or self.target_ms is None:
            return None
        ahead = self.target_ms - self.source_ms
        if abs(ahead) < SKEW_WARN:
            return None
        lost = "; what is lost by that comes back when it is written again" if ahead > 0 else ""
        text = "%s%s. %s." % (skew_text(ahead), lost, SKEW_REMEDY)
        return text[0].upper() + text[1:]


def _one_of(instance: Instance) -> Address:
    return (*instance.topology.masters, instance.topology.entry)[0]
