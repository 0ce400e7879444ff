# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What the user asked of a task: ``config.json`` of its folder."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from .._errors import UsageError
from .._server.endpoint import Endpoint
from .._sink.selection import Selection, database_map
from .folder import TaskFolder

CONFIG = "config.json"
# Options that ``config.json`` holds under their own names.
OPTIONS = (
    "source", "target", "method", "bandwidth_limit", "auto_reconnect", "on_conflict", "clear_target",
    "db_map", "databases", "include_keys", "exclude_keys", "spool_limit", "max_lag_bytes",
)  # fmt: skip
# Those that a worker takes over while it runs.
LIVE = frozenset(("bandwidth_limit", "auto_reconnect", "max_lag_bytes", "spool_limit"))
# Bytes. With less a source would wait more than it sends.
SMALLEST_SPOOL = 1 << 20


class Config(NamedTuple):
    """``method`` is full or full_incremental; ``bandwidth_limit`` bytes per second, 0 for none; ``spool_limit`` and ``max_lag_bytes`` bytes."""

    name: str
    source: Endpoint
    target: Endpoint
    method: str = "full_incremental"
    bandwidth_limit: int = 0
    auto_reconnect: bool = True
    on_conflict: str = "replace"
    clear_target: bool = False
    db_map: Mapping[int, int] = {}
    databases: Optional[List[int]] = None
    include_keys: List[str] = []
    exclude_keys: List[str] = []
    spool_limit: int = 10 << 30
    max_lag_bytes: int = 64 << 10

    @classmethod
    def load(cls, folder: TaskFolder) -> Config:
        """Read ``config.json``. FileError, UsageError."""
        stored: Optional[Dict[str, Any]] = folder.read(CONFIG)
        if stored is None:
            raise UsageError("task %s" % folder.name, "has no configuration in %s" % folder.path, "Set it up with state present")
        return cls.build(folder.name, stored)

    @classmethod
    def build(cls, name: str, stored: Mapping[str, Any]) -> Config:
        """From the content of ``config.json``. UsageError for options that cannot be meant."""
        options = {option: stored[option] for option in OPTIONS if stored.get(option) is not None}
        options["source"] = Endpoint.from_params(options["source"])
        options["target"] = Endpoint.from_params(options["target"])
        options["db_map"] = database_map(options.get("db_map"))
        config = cls(name, **options)
        config.selection()
        for option, least in (("bandwidth_limit", 0), ("max_lag_bytes", 0), ("spool_limit", SMALLEST_SPOOL)):
            if getattr(config, option) < least:
                raise UsageError(option, "is less than %d" % least, "It is a number of bytes")
        return config

    def renewed(self, folder: TaskFolder) -> Config:
        """With what ``config.json`` says by now of :data:`LIVE`. FileError, UsageError."""
        new = Config.load(folder)
        return self._replace(**{option: getattr(new, option) for option in LIVE})

    def selection(self) -> Selection:
        return Selection(self.databases, self.db_map, self.include_keys, self.exclude_keys)


def stamp(folder: TaskFolder) -> Tuple[int, int]:
    """Another one as soon as ``config.json`` is written anew; to be taken before that is read."""
    try:
        stat = os.stat(folder.file(CONFIG))
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_ino
