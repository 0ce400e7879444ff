# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parameters for tests that run against several servers."""

from __future__ import annotations

from typing import Any

import pytest

from .provision import SERVERS, WHEEL_SERVERS


def server_params(*names: str) -> list[Any]:
    """These servers (all unless named) as parameters; those beyond the wheels carry the mark ``matrix``."""
    return [pytest.param(name, marks=() if name in WHEEL_SERVERS else pytest.mark.matrix) for name in names or SERVERS]


def cluster_params() -> list[Any]:
    """The servers that know Redis Cluster, as parameters."""
    return server_params(*(name for name, server in SERVERS.items() if server.version >= (3, 0)))
