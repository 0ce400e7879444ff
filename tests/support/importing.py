# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``backup_import`` as tests call it, and files for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._codec.rdb_writer import RdbWriter
from ansible_collections.dcs.migration.plugins.module_utils._codec.wire import write_string

from .modules import run_module

Import = Callable[..., dict[str, Any]]


@pytest.fixture
def run_import(tmp_path: Path) -> Import:
    """``run_import(target, file, **options)`` with a state_dir of its own; the module's result."""

    def run(target: Any, file: Path, *, check: bool = False, **options: Any) -> dict[str, Any]:
        endpoint = {"addresses": getattr(target, "addresses", None) or [target.address], **options.pop("endpoint", {})}
        arguments = {"files": [str(file)], "target": endpoint, "state_dir": str(tmp_path / "state"), **options}
        return run_module("backup_import", arguments, check=check)

    return run


def many_keys(path: Path, count: int = 400_000) -> Path:
    """An RDB file of ``count`` incompressible strings of 200 bytes."""
    rng = random.Random(11)
    writer = RdbWriter(9)
    with path.open("wb") as handle:
        handle.write(writer.header())
        for number in range(count):
            handle.write(writer.entry(0, 0, b"key:%d" % number, write_string(rng.randbytes(200))))
        handle.write(writer.trailer())
    return path
