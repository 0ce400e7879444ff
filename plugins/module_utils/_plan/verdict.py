# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The judgement on a pair: what works, which way is best, what stands against it."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .check import FAIL, Check
from .checks import run_checks
from .checks_files import writer_of
from .facts import Facts, FileFacts, Side, Wishes
from .matrix import NO, Cell, import_cell, online_cell

IMPORT_RDB = "import_rdb"
IMPORT_AOF = "import_aof"
IMPORT_FROM_INSTANCE = "import_from_instance"
ONLINE = "online"
_INFO = "INFO"


class Mode(NamedTuple):
    """``dcs`` is the cloud service's own verdict (Y, x); ``supported`` this engine's."""

    mode: str
    dcs: str
    supported: bool
    reasons: List[str]


class Verdict(NamedTuple):
    """``compatible`` is true where no check failed and the recommended mode is supported."""

    compatible: bool
    recommended_mode: str
    modes: List[Mode]
    checks: List[Check]

    def as_dict(self) -> Dict[str, Any]:
        return {
            "compatible": self.compatible,
            "recommended_mode": self.recommended_mode,
            "modes": [mode._asdict() for mode in self.modes],
            "checks": [check._asdict() for check in self.checks],
        }


def judge(
    source: Optional[Side], target: Side, backup_files: Tuple[FileFacts, ...] = (), wishes: Wishes = Wishes()
) -> Verdict:
    """Judge a pair. ``source`` may be None where only backup files are at hand."""
    facts = Facts(target=target, source=source, files=backup_files, wishes=wishes)
    checks = run_checks(facts)
    modes = _modes(facts)
    recommended = _recommended(facts)
    supported = next(mode.supported for mode in modes if mode.mode == recommended)
    return Verdict(supported and not any(check.status == FAIL for check in checks), recommended, modes, checks)


def _modes(facts: Facts) -> List[Mode]:
    modes = [_import_mode(facts, IMPORT_RDB, "rdb"), _import_mode(facts, IMPORT_AOF, "aof")]
    if facts.source is not None:
        modes += [_instance_mode(facts, facts.source), _online_mode(facts, facts.source)]
    return modes


def _import_mode(facts: Facts, mode: str, file_format: str) -> Mode:
    reasons = []
    if file_format == "aof" and facts.target.topology == "redis_cluster":
        reasons.append("each command of the AOF goes to the node that owns its slot")
    if file_format == "aof":
        reasons.append("AOF files of every version are read, with or without an RDB preamble")
    files = [item for item in facts.files if item.format == file_format]
    cells = [import_cell(file_format, _target_topology(facts), *writer_of(facts, item)) for item in files]
    cell = next((cell for cell in cells if cell.dcs == NO), None) or import_cell(file_format, _target_topology(facts))
    return Mode(mode, cell.dcs, True, reasons + _dcs_reason(cell))


def _instance_mode(facts: Facts, source: Side) -> Mode:
    """The backup is an RDB file that this collection takes itself."""
    cell = import_cell("rdb", _target_topology(facts))
    supported, reasons = _way(source, "the backup is taken")
    return Mode(IMPORT_FROM_INSTANCE, cell.dcs, supported, reasons + _dcs_reason(cell))


def _online_mode(facts: Facts, source: Side) -> Mode:
    cell = Cell("", "")
    if source.topology is not None:
        cell = online_cell(source.provider, source.topology, _target_topology(facts), source.version)
    if source.error is not None:
        supported, reasons = _way(source, "")
    elif source.psync is False and _sync_may_do(source):
        supported, reasons = True, ["changes are followed through SYNC where this user may use it, since %s" % source.psync_reason]
    elif source.psync is False:
        supported, reasons = False, ["there is no stream of changes to follow, since %s; import_from_instance reads the keys" % source.psync_reason]
    elif _INFO in source.disabled_commands:
        supported, reasons = False, ["the source does not allow INFO, which tells where its stream of changes is"]
    else:
        supported, reasons = True, ["changes are followed through PSYNC" + ("" if source.psync else ", which has to be enabled")]
    return Mode(ONLINE, cell.dcs or NO, supported, reasons + _dcs_reason(cell))


def _sync_may_do(source: Side) -> bool:
    """Whether the older command is there, whose stream cannot be taken up again when it was cut off."""
    return source.masters > 0 and source.topology != "redis_cluster" and "SYNC" not in source.disabled_commands


def _way(source: Side, subject: str) -> Tuple[bool, List[str]]:
    """How this engine gets at the source's data, and whether it can."""
    if source.error is not None:
        return False, ["the source cannot be reached from here: %s" % source.error.why]
    if source.psync:
        return True, ["%s through PSYNC" % subject]
    readable = not source.disabled_commands & {"SCAN", "DUMP"}
    if source.psync is False and readable:
        return True, ["%s with SCAN and DUMP, since %s" % (subject, source.psync_reason)]
    if source.psync is False:
        return False, ["the source allows neither PSYNC nor SCAN and DUMP"]
    return True, ["%s through PSYNC where it is enabled, else with SCAN and DUMP" % subject]


def _recommended(facts: Facts) -> str:
    """Online where a stream can be had; files where they are there already; else a backup taken from the instance."""
    source = facts.source
    from_files = IMPORT_AOF if facts.files and all(item.format == "aof" for item in facts.files) else IMPORT_RDB
    if source is None or source.error is not None:
        return from_files
    if source.psync and _INFO not in source.disabled_commands:
        return ONLINE
    if facts.files:
        return from_files
    if source.reachable:
        return IMPORT_FROM_INSTANCE if _instance_mode(facts, source).supported else IMPORT_RDB
    return ONLINE if _online_mode(facts, source).dcs != NO else IMPORT_RDB


def _target_topology(facts: Facts) -> str:
    """A target that did not answer and was not described is taken for the easiest kind."""
    return facts.target.topology or "single"


def _dcs_reason(cell: Cell) -> List[str]:
    if not cell.note:
        return []
    return [("DCS itself does not: %s" if cell.dcs == NO else "DCS itself does, but %s") % cell.note]
