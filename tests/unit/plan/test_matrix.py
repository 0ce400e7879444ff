# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every cell of the published table, and this engine's verdict on each: supported."""

from __future__ import annotations

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._plan.facts import FileFacts, described_side
from ansible_collections.dcs.migration.plugins.module_utils._plan.matrix import TABLE, import_cell, online_cell
from ansible_collections.dcs.migration.plugins.module_utils._plan.verdict import judge

# As printed: rows by source, columns single or master/standby, Proxy Cluster, Redis Cluster.
IMPORT = {"aof": "YYx", "rdb": "YYY"}
ONLINE = {
    ("dcs", "single"): "YYY",
    ("dcs", "proxy_cluster"): "YYY",
    ("dcs", "redis_cluster"): "YYY",
    ("self_hosted", "single"): "YYY",
    ("self_hosted", "proxy_cluster"): "YYY",
    ("self_hosted", "redis_cluster"): "YYY",
    ("other", "single"): "xxx",
    ("other", "proxy_cluster"): "xxx",
    ("other", "redis_cluster"): "xxx",
}
COLUMNS = {"single": 0, "master_standby": 0, "proxy_cluster": 1, "redis_cluster": 2}


def mode_of(verdict, name):
    return next(mode for mode in verdict.modes if mode.mode == name)


@pytest.mark.parametrize("target", COLUMNS)
@pytest.mark.parametrize("file_format", IMPORT)
def test_import(file_format: str, target: str) -> None:
    expected = IMPORT[file_format][COLUMNS[target]]
    assert import_cell(file_format, target).dcs == expected
    verdict = judge(None, described_side({"topology": target}, "target"), (FileFacts("a", format=file_format),))
    mode = mode_of(verdict, "import_" + file_format)
    assert (mode.dcs, mode.supported) == (expected, True)
    assert verdict.recommended_mode == "import_" + file_format
    if expected == "x":
        assert any("DCS itself does not" in reason for reason in mode.reasons)


@pytest.mark.parametrize("target", COLUMNS)
@pytest.mark.parametrize(
    ("provider", "source"), [*ONLINE, *((provider, "master_standby") for provider in ("dcs", "self_hosted", "other"))]
)
def test_online(provider: str, source: str, target: str) -> None:
    row = ONLINE[(provider, "single" if source == "master_standby" else source)]
    expected = row[COLUMNS[target]]
    assert online_cell(provider, source, target).dcs == expected
    verdict = judge(
        described_side({"provider": provider, "topology": source}, "source"), described_side({"topology": target}, "target")
    )
    mode = mode_of(verdict, "online")
    assert (mode.dcs, mode.supported) == (expected, True)
    assert mode.reasons
    assert verdict.recommended_mode == ("online" if expected == "Y" else "import_rdb")


def test_table_has_every_row_once() -> None:
    assert len(TABLE) == 11
    assert len({(row.mode, row.source, row.kind) for row in TABLE}) == 11
    assert all(set(row.verdicts) == {"S", "P", "R"} for row in TABLE)


@pytest.mark.parametrize("version", ["4.0", "5.0.14", "6.0.9", "6.2"])
@pytest.mark.parametrize("target", ["single", "proxy_cluster"])
def test_aof_note(version: str, target: str) -> None:
    cell = import_cell("aof", target, version)
    assert cell.dcs == "x"
    assert "4.0, 5.0 and 6.0" in cell.note


@pytest.mark.parametrize("version", ["", "2.8.17", "3.0", "7.0"])
def test_aof_note_spares_other_versions(version: str) -> None:
    assert import_cell("aof", "single", version).dcs == "Y"


def test_aof_note_compression() -> None:
    assert import_cell("aof", "single", "3.0", True).dcs == "x"
    assert import_cell("aof", "single", "3.0", False).dcs == "Y"
    assert import_cell("rdb", "redis_cluster", "6.0", True).dcs == "Y"


@pytest.mark.parametrize(("version", "expected"), [("3.0", "x"), ("4.0", "Y"), ("5.0", "Y"), ("", "Y")])
def test_proxy_note(version: str, expected: str) -> None:
    cell = online_cell("dcs", "proxy_cluster", "redis_cluster", version)
    assert cell.dcs == expected
    assert bool(cell.note) == (expected == "x")
    assert online_cell("dcs", "single", "redis_cluster", version).dcs == "Y"
    assert online_cell("self_hosted", "proxy_cluster", "redis_cluster", version).dcs == "Y"
