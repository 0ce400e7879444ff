# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The options of an import, apart from where things are."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .._sink.selection import Selection


class Options(NamedTuple):
    """The options of ``backup_import`` that are not about where things are."""

    on_conflict: str = "replace"
    clear_target: bool = False
    db_map: Dict[int, int] = {}
    databases: Optional[List[int]] = None
    include_keys: Sequence[str] = ()
    exclude_keys: Sequence[str] = ()
    state_dir: str = ""
    force: bool = False

    def selection(self) -> Selection:
        return Selection(self.databases, self.db_map, self.include_keys, self.exclude_keys)

    def choice(self) -> Dict[str, Any]:
        """What makes two imports of one file different ones."""
        return {
            "on_conflict": self.on_conflict,
            "db_map": sorted(self.db_map.items()),
            "databases": None if self.databases is None else sorted(self.databases),
            "include_keys": list(self.include_keys),
            "exclude_keys": list(self.exclude_keys),
        }
