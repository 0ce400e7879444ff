# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPv6 addresses and users with a name, through all that an import from an instance consists of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.dcs.migration.tests.support.modules import run_module

SECRET = "p%s$é#;!"


def test_ipv6_and_a_named_user(server: Callable[..., Any], tmp_path: Path) -> None:
    options = {"config": {"bind": "127.0.0.1 ::1"}, "users_acl": ["mover on >%s ~* &* +@all" % SECRET], "password": "of-the-default-user"}
    source, target = server("redis-6.2", **options), server("valkey-9.1", **options)
    source.client().set("a", "1")
    source.client(db=3).hset("h", "f", "v")
    one, two = (
        {"addresses": ["[::1]:%d" % made.port], "username": "mover", "password": SECRET} for made in (source, target)
    )
    found = run_module("instance_info", {"instance": one})
    assert found["instance"]["shards"][0]["master"] == one["addresses"][0], found
    for method in ("psync", "scan"):
        taken = run_module("backup", {"source": one, "dest": str(tmp_path / method), "method": method})
        assert (taken["files"][0]["keys"], taken["files"][0]["method"]) == (2, method), taken
    judged = run_module("compatibility_info", {"source": one, "target": two})
    assert judged["compatible"] is True, judged
    imported = run_module("backup_import", {"files": [taken["files"][0]["path"]], "target": two, "state_dir": str(tmp_path / "state")})
    assert imported["stats"]["keys"] == 2, imported
    assert target.client(db=3).hgetall("h") == {b"f": b"v"}
    refused = run_module("backup", {"source": {**one, "password": "wrong"}, "dest": str(tmp_path)})
    assert refused["failed"] and "refuses the username or password" in refused["msg"] and "[::1]" in refused["what"]
    for result in (found, taken, judged, imported):
        assert SECRET not in result["_output"]
