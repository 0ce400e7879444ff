# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""All checks, in the order they are reported. Each is a pure function of the facts."""

from __future__ import annotations

from typing import Callable, List, Tuple, Union

from . import checks_data, checks_files, checks_sync
from .check import Check
from .facts import Facts

CheckFunction = Callable[[Facts], Union[None, Check, List[Check]]]

ALL: Tuple[CheckFunction, ...] = (
    checks_data.connection,
    checks_data.apart,
    checks_data.version_order,
    checks_data.cluster_databases,
    checks_data.databases_max,
    checks_data.db_map_merge,
    checks_data.memory,
    checks_data.eviction,
    checks_data.source_eviction,
    checks_data.modules,
    checks_data.types,
    checks_data.functions,
    checks_data.target_empty,
    checks_sync.slots,
    checks_sync.read_only,
    checks_sync.target_commands,
    checks_sync.source_commands,
    checks_sync.psync,
    checks_sync.repl_timeout,
    checks_sync.output_buffer,
    checks_sync.backlog,
    checks_sync.clock_skew,
    checks_sync.tls,
    checks_files.readable,
    checks_files.extensions,
    checks_files.rdb_version,
    checks_files.aof,
    checks_files.shard_files,
    checks_files.big_keys,
    checks_files.bucket_region,
)


def run_checks(facts: Facts) -> List[Check]:
    """Every check that has something to say; one whose facts are unknown stays silent."""
    found: List[Check] = []
    for function in ALL:
        answer = function(facts)
        if isinstance(answer, Check):
            found.append(answer)
        elif answer:
            found.extend(answer)
    return found
