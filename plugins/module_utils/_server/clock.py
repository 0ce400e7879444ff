# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""How far a server's clock is from this host's, and what it means when those of source and target disagree."""

from __future__ import annotations

import time
from typing import Optional

from .._errors import MigrationError
from .connect import call, open_client
from .endpoint import Address, Endpoint

try:
    import redis
except ImportError:  # the modules' import guard (_deps) reports it
    redis = None  # type: ignore[assignment]

# Milliseconds of difference that are worth a word.
SKEW_WARN = 1000
SKEW_REMEDY = "Set both clocks with NTP"

_TIMEOUT = 2.0  # seconds; a clock that is read late is of no use


def clock_skew(endpoint: Endpoint, address: Address) -> Optional[int]:
    """Milliseconds the server's clock is ahead of this host's (half the round trip allowed for); None where it does not tell."""
    try:
        client = open_client(endpoint, address, timeout=_TIMEOUT, connect_timeout=_TIMEOUT)
    except MigrationError:
        return None
    try:
        before = time.time()
        seconds, micros = call(client, "TIME")
        after = time.time()
        return round((int(seconds) + int(micros) / 1e6 - (before + after) / 2) * 1000)
    except (redis.RedisError, TypeError, ValueError):
        return None
    finally:
        client.close()


def skew_text(ahead_ms: int) -> str:
    """What it means that the target's clock is so many milliseconds ahead of the source's."""
    return "the target's clock is %.1f s %s the source's: keys expire that much too %s" % (
        abs(ahead_ms) / 1000,
        "ahead of" if ahead_ms > 0 else "behind",
        "early" if ahead_ms > 0 else "late",
    )
