# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What the cloud service's own migration can do: its published table, as data.

The table is about the service, not about this engine, which works in every cell (see ``verdict``).
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from .._server.versions import parse_version

# The three columns of the table, by topology of the target.
COLUMNS: Dict[str, str] = {"single": "S", "master_standby": "S", "proxy_cluster": "P", "redis_cluster": "R"}

YES = "Y"
NO = "x"

_AOF_NOTE = "AOF files of Redis 4.0, 5.0 and 6.0 and of instances with RDB compression cannot be imported"
_PROXY_NOTE = "a Proxy Cluster of DCS Redis 3.0 cannot be a source; those of 4.0 and 5.0 can"
_OTHER_NOTE = "only later editions allow it, where the networks connect and SYNC/PSYNC is enabled"


class Row(NamedTuple):
    """One line: ``mode`` import or online; ``source`` a file format or a provider; ``kind`` S, P, R or empty."""

    mode: str
    source: str
    kind: str
    verdicts: Dict[str, str]
    note: str = ""


def _row(mode: str, source: str, kind: str, verdicts: str, note: str = "") -> Row:
    """``verdicts`` are the letters of the columns S, P, R."""
    return Row(mode, source, kind, dict(zip("SPR", verdicts)), note)


TABLE: Tuple[Row, ...] = (
    _row("import", "aof", "", "YYx", _AOF_NOTE),
    _row("import", "rdb", "", "YYY"),
    _row("online", "dcs", "S", "YYY"),
    _row("online", "dcs", "P", "YYY", _PROXY_NOTE),
    _row("online", "dcs", "R", "YYY"),
    _row("online", "self_hosted", "S", "YYY"),
    _row("online", "self_hosted", "P", "YYY"),
    _row("online", "self_hosted", "R", "YYY"),
    _row("online", "other", "S", "xxx", _OTHER_NOTE),
    _row("online", "other", "P", "xxx", _OTHER_NOTE),
    _row("online", "other", "R", "xxx", _OTHER_NOTE),
)


class Cell(NamedTuple):
    """``dcs`` is Y or x; ``note`` is empty unless the row's note applies or explains the x."""

    dcs: str
    note: str


def import_cell(file_format: str, target: str, version: str = "", compressed: Optional[bool] = None) -> Cell:
    """DCS's verdict on importing ``rdb`` or ``aof`` files.

    ``version`` of the server that wrote them and whether it ``compressed`` RDBs narrow an AOF's verdict down; with
    neither known the table's letter stands and its note is a warning.
    """
    row = _find("import", file_format, "")
    verdict = row.verdicts[COLUMNS[target]]
    if file_format == "aof" and (_major(version) in (4, 5, 6) or compressed):
        verdict = NO
    if verdict == YES:
        return Cell(YES, row.note)
    if file_format == "aof" and row.verdicts[COLUMNS[target]] == NO:
        return Cell(NO, "AOF files cannot be imported into a Redis Cluster")
    return Cell(NO, row.note)


def online_cell(provider: str, source: str, target: str, version: str = "") -> Cell:
    """DCS's verdict on online migration from a topology at a provider, ``version`` of the source if known."""
    kind = COLUMNS[source]
    row = _find("online", provider, kind)
    verdict = row.verdicts[COLUMNS[target]]
    if provider == "dcs" and kind == "P" and _major(version) == 3:
        verdict = NO
    return Cell(verdict, row.note if verdict == NO else "")


def _find(mode: str, source: str, kind: str) -> Row:
    return next(row for row in TABLE if (row.mode, row.source, row.kind) == (mode, source, kind))


def _major(version: str) -> int:
    return (parse_version(version) or (0,))[0]
