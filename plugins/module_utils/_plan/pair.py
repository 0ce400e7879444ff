# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""From a module's options to a verdict: look at what is there, take the rest as described."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional

from .._errors import ServerError, UsageError
from .._server.endpoint import Endpoint
from .._server.probe import probe
from .facts import Side, Wishes, described_side, side_of
from .files import file_facts
from .verdict import Verdict, judge


def judge_pair(
    source: Optional[Mapping[str, Any]],
    target: Mapping[str, Any],
    backup_files: Iterable[Any] = (),
    *,
    db_map: Optional[Mapping[Any, Any]] = None,
    databases: Optional[Iterable[int]] = None,
    bucket_region: str = "",
    target_region: str = "",
) -> Verdict:
    """Judge two endpoint dicts. A server that does not answer is a failed check, not an error.

    Errors: UsageError for options that make no sense.
    """
    wishes = Wishes(
        db_map=read_db_map(db_map),
        databases=None if databases is None else frozenset(databases),
        bucket_region=bucket_region,
        target_region=target_region,
    )
    files = tuple(file_facts(item) for item in backup_files)
    source_side = look("source", source) if source else None
    return judge(source_side, look("target", target), files, wishes)


def look(role: str, params: Mapping[str, Any]) -> Side:
    """Probe an endpoint that has addresses, describe one that has none."""
    if not params.get("addresses"):
        return described_side(params, role)
    try:
        return side_of(probe(Endpoint.from_params(params)))
    except ServerError as exc:
        return described_side(params, role, exc)


def read_db_map(db_map: Optional[Mapping[Any, Any]]) -> Dict[int, int]:
    """``{"1": 0}`` as YAML and JSON make it -> ``{1: 0}``; UsageError for what is no database number."""
    found: Dict[int, int] = {}
    for source, target in (db_map or {}).items():
        if not str(source).isdigit() or not str(target).isdigit():
            raise UsageError("db_map", "%r: %r is no pair of database numbers" % (source, target), "Write it like {1: 0}")
        found[int(source)] = int(target)
    return found
