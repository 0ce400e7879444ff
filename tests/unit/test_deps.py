# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Libraries that are missing or too old, and the places that tell which are needed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils import _deps

ROOT = Path(__file__).parents[2]
NEEDED = {name: library.minimum for name, library in _deps._LIBRARIES.items()}


class Module:
    """What is asked of an AnsibleModule."""

    def fail_json(self, msg: str, **_more: Any) -> None:
        raise SystemExit(msg)


@pytest.mark.parametrize(
    ("found", "old"),
    [("1.2.5", True), ("2.0.0", False), ("10.0", False), ("2.0.0b1", False), ("2.0.dev1", False), ("", False)],
)
def test_versions(found: str, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deps, "_version", lambda name: found)
    if not old:
        _deps.validate(Module(), "anycrc")  # type: ignore[arg-type]
        return
    with pytest.raises(SystemExit, match=r"anycrc 1\.2\.5 is too old .* needs 2\.0\.0 or newer.*pip install 'anycrc>=2\.0\.0'"):
        _deps.validate(Module(), "anycrc")  # type: ignore[arg-type]


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SystemExit, match=r"boto3>=1\.34\.0"):
        _deps.validate(Module(), "boto3")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["requirements.txt", "meta/ee-requirements.txt", "roles/sync_worker/tasks/main.yml"])
def test_lists_name_the_same_versions(name: str) -> None:
    assert dict(re.findall(r"^[- ]*(\w+)>=([\d.]+)$", (ROOT / name).read_text(encoding="utf-8"), re.M)) == NEEDED


def test_docs_name_the_same_versions() -> None:
    found = {}
    for path in [*ROOT.glob("plugins/modules/*.py"), *ROOT.glob("plugins/doc_fragments/*.py")]:
        for name, version in re.findall(r"^  - (\w+) >= ([\d.]+)", path.read_text(encoding="utf-8"), re.M):
            assert NEEDED[name] == version, path
            found[name] = version
    assert found == NEEDED
