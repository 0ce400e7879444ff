# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check passes, warns or fails where it should, and is silent where nothing is known."""

from __future__ import annotations

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import ConnectError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._plan.checks import ALL, run_checks
from ansible_collections.dcs.migration.plugins.module_utils._plan.facts import Facts, FileFacts, Side, Wishes, described_side
from ansible_collections.dcs.migration.plugins.module_utils._plan.files import file_facts
from ansible_collections.dcs.migration.plugins.module_utils._plan.pair import read_db_map
from ansible_collections.dcs.migration.plugins.module_utils._plan.verdict import judge
from ansible_collections.dcs.migration.plugins.module_utils._server.versions import capabilities, described_product

MIB = 1 << 20
LOST = ConnectError("10.0.0.1:6379", "refuses the connection", "Check host and port")


def side(version: str = "7.0.15", **facts: object) -> Side:
    """A reachable deployment of a version."""
    product = described_product(version)
    known: dict = {"label": "here", "topology": "single", "reachable": True, "masters": 1, "product": product}
    known["capabilities"] = capabilities(product)
    known.update(facts)
    return Side(**known)


def file(**facts: object) -> FileFacts:
    return FileFacts(**{"path": "dump.rdb", "format": "rdb", **facts})  # type: ignore[arg-type]


def status(check: str, source: Side | None = None, target: Side | None = None, *files: FileFacts, **wishes: object) -> str | None:
    facts = Facts(target=target or side(), source=source, files=files, wishes=Wishes(**wishes))  # type: ignore[arg-type]
    found = [item for item in run_checks(facts) if item.id == check]
    if not found:
        return None
    assert found[0].message
    assert bool(found[0].remedy) == (found[0].status != "pass"), found[0]
    return found[0].status


S, T = side, side
CASES = [
    ("source_connection", "pass", S(), T(), (), {}),
    ("source_connection", "fail", S(error=LOST, reachable=False), T(), (), {}),
    ("source_connection", "warn", S(error=LOST, reachable=False), T(), (file(),), {}),
    ("target_connection", "pass", None, T(), (file(),), {}),
    ("target_connection", "fail", None, T(error=LOST, reachable=False), (file(),), {}),
    ("version_order", "pass", S("5.0"), T("7.0"), (), {}),
    ("version_order", "pass", S("7.2"), T("valkey 8.0"), (), {}),
    ("version_order", "warn", S("7.2"), T("6.2"), (), {}),
    ("version_order", "warn", S("valkey 9.0"), T("8.0"), (), {}),
    ("version_order", "warn", S("7.4"), T("valkey 9.0"), (), {}),
    ("version_order", None, S(product=None), T(), (), {}),
    ("cluster_databases", "pass", S(databases={0: 5}), T(topology="redis_cluster"), (), {}),
    ("cluster_databases", "fail", S(databases={0: 5, 3: 1}), T(topology="redis_cluster"), (), {}),
    ("cluster_databases", "fail", S(databases={3: 1}), T(topology="proxy_cluster"), (), {}),
    ("cluster_databases", "pass", S(databases={0: 5, 3: 0}), T(topology="redis_cluster"), (), {}),
    ("cluster_databases", "pass", S(databases={3: 1}), T(topology="redis_cluster"), (), {"db_map": {3: 0}}),
    ("cluster_databases", "pass", S(databases={0: 5, 3: 1}), T(topology="redis_cluster"), (), {"databases": frozenset([0])}),
    ("cluster_databases", "fail", S(databases={3: 1}), T(topology="redis_cluster", databases_max=16), (), {}),
    ("cluster_databases", "fail", None, T(topology="redis_cluster"), (file(databases=(0, 2)),), {}),
    ("cluster_databases", None, S(), T(topology="redis_cluster"), (), {}),
    ("databases_max", "pass", S(databases={15: 1}), T(databases_max=16), (), {}),
    ("databases_max", "fail", S(databases={16: 1}), T(databases_max=16), (), {}),
    ("databases_max", "fail", None, T(databases_max=4), (file(databases=(7,)),), {}),
    ("databases_max", "warn", S(databases={16: 1}), T(), (), {}),
    ("databases_max", "pass", S(databases={16: 1}), T(databases_max=16), (), {"db_map": {16: 1}}),
    ("db_map_merge", "pass", S(databases={1: 1, 2: 1}), T(), (), {"db_map": {1: 3}}),
    ("db_map_merge", "warn", S(databases={0: 1, 2: 1}), T(), (), {"db_map": {2: 0}}),
    ("db_map_merge", None, S(databases={0: 1, 2: 1}), T(), (), {}),
    ("memory", "pass", S(used_memory=50), T(maxmemory=0), (), {}),
    ("memory", "pass", S(used_memory=50), T(maxmemory=100, used_memory=10), (), {}),
    ("memory", "warn", S(used_memory=50), T(maxmemory=100, used_memory=45), (), {}),
    ("memory", "fail", S(used_memory=101), T(maxmemory=100), (), {}),
    ("memory", "fail", None, T(maxmemory=100), (file(memory=60), file(memory=60)), {}),
    ("memory", None, None, T(maxmemory=100), (file(memory=60), file()), {}),
    ("eviction", "pass", None, T(maxmemory_policy="noeviction", maxmemory=1), (), {}),
    ("eviction", "pass", None, T(maxmemory_policy="allkeys-lru", maxmemory=0), (), {}),
    ("eviction", "warn", None, T(maxmemory_policy="allkeys-lru", maxmemory=1), (), {}),
    ("source_eviction", "pass", S(maxmemory_policy="noeviction", maxmemory=1), T(), (), {}),
    ("source_eviction", "pass", S(maxmemory_policy="volatile-lru", maxmemory=1, evicted_keys=0), T(), (), {}),
    ("source_eviction", "warn", S(maxmemory_policy="volatile-lru", maxmemory=1, evicted_keys=9), T(), (), {}),
    ("modules", "pass", S(modules=frozenset(["bf"])), T(modules=frozenset(["bf", "x"])), (), {}),
    ("modules", "pass", S(modules=frozenset(["lua"])), T(modules=frozenset()), (), {}),
    ("modules", "warn", S(modules=frozenset(["bf"])), T(modules=frozenset()), (), {}),
    ("modules", "fail", S(modules=frozenset(["bf"])), T(modules=frozenset()), (file(types=frozenset(["module"])),), {}),
    ("modules", "fail", None, T(modules=frozenset(["lua"])), (file(types=frozenset(["module"])),), {}),
    ("types", "pass", S("5.0"), T("5.0"), (), {}),
    ("types", "warn", S("5.0"), T("4.0"), (), {}),
    ("types", "warn", S("7.4"), T("7.0"), (), {}),
    ("types", "warn", S("valkey 9.0"), T("7.2"), (), {}),
    ("types", "pass", S("7.4"), T("valkey 9.0"), (), {}),
    ("types", "fail", None, T("4.0"), (file(types=frozenset(["stream"])),), {}),
    ("types", "pass", None, T("4.0"), (file(types=frozenset(["hash"])),), {}),
    ("types", "fail", None, T("8.0"), (file(types=frozenset(["array"])),), {}),
    ("types", "fail", None, T("valkey 9.0"), (file(types=frozenset(["array"])),), {}),
    ("types", "pass", None, T("8.8"), (file(types=frozenset(["array"])),), {}),
    ("types", "fail", None, T("7.2"), (file(types=frozenset(["hash"]), hash_field_ttls=2),), {}),
    ("types", "pass", None, T("7.4"), (file(types=frozenset(["hash"]), hash_field_ttls=2),), {}),
    ("types", "pass", S("7.4"), T("7.2"), (file(types=frozenset(["hash"]), hash_field_ttls=0),), {}),
    ("types", "warn", S("7.4"), T("7.2"), (file(types=frozenset(["hash"])),), {}),
    ("functions", "pass", S(functions=0), T("6.2"), (), {}),
    ("functions", "pass", S(functions=2), T("7.0"), (), {}),
    ("functions", "fail", S(functions=2), T("6.2"), (), {}),
    ("functions", "fail", S(functions=2), T("7.0", disabled_commands=frozenset(["FUNCTION"])), (), {}),
    ("functions", "fail", None, T("6.2"), (file(functions=False), file(functions=True)), {}),
    ("functions", "pass", None, T("7.0"), (file(functions=True),), {}),
    ("functions", "pass", None, T("6.2"), (file(functions=False),), {}),
    ("functions", None, None, T("6.2"), (file(),), {}),
    ("apart", "pass", S(run_ids=frozenset("ab")), T(run_ids=frozenset("c")), (), {}),
    ("apart", "fail", S(run_ids=frozenset("ab")), T(run_ids=frozenset("bc")), (), {}),
    ("target_empty", "pass", None, T(databases={}), (), {}),
    ("target_empty", "warn", None, T(databases={0: 3}), (), {}),
    ("source_slots", "pass", S(topology="redis_cluster"), T(), (), {}),
    ("target_slots", "fail", None, T(topology="redis_cluster", missing_slots=1), (), {}),
    ("target_read_only", "pass", None, T(), (), {}),
    ("target_read_only", "fail", None, T(read_only=True), (), {}),
    ("target_commands", "pass", None, T(disabled_commands=frozenset(["CONFIG"])), (), {}),
    ("target_commands", "fail", None, T(disabled_commands=frozenset(["RESTORE"])), (), {}),
    ("source_commands", "pass", S(), T(), (), {}),
    ("source_commands", "pass", S(psync=True, disabled_commands=frozenset(["SCAN"])), T(), (), {}),
    ("source_commands", "warn", S(psync=False, disabled_commands=frozenset(["SCAN"])), T(), (file(),), {}),
    ("source_commands", "fail", S(psync=False, disabled_commands=frozenset(["SCAN"])), T(), (), {}),
    ("psync", "pass", S(psync=True), T(), (), {}),
    ("psync", "warn", S(psync=False, psync_reason="disabled"), T(), (), {}),
    ("psync", None, S(), T(), (), {}),
    ("repl_timeout", "pass", S(repl_timeout=60), T(), (), {}),
    ("repl_timeout", "pass", S(repl_timeout=0), T(), (), {}),
    ("repl_timeout", "warn", S(repl_timeout=10), T(), (), {}),
    ("repl_timeout", None, S(repl_timeout=10, psync=False), T(), (), {}),
    ("output_buffer", "pass", S(output_buffer_limit={"hard": 256 * MIB}), T(), (), {}),
    ("output_buffer", "pass", S(output_buffer_limit={"hard": 0}, used_memory=1 << 40), T(), (), {}),
    ("output_buffer", "warn", S(output_buffer_limit={"hard": 256 * MIB}, used_memory=1 << 40), T(), (), {}),
    ("output_buffer", "warn", S(output_buffer_limit={"hard": MIB}), T(), (), {}),
    ("backlog", "pass", S(backlog_size=256 * MIB), T(), (), {}),
    ("backlog", "warn", S(backlog_size=MIB), T(), (), {}),
    ("clock_skew", "pass", S(clock_skew_ms=0), T(clock_skew_ms=900), (), {}),
    ("clock_skew", "warn", S(clock_skew_ms=0), T(clock_skew_ms=-5000), (), {}),
    ("clock_skew", "fail", S(clock_skew_ms=-300000), T(clock_skew_ms=300000), (), {}),
    ("tls", "pass", S(tls=True), T(tls=True), (), {}),
    ("tls", "pass", S(tls=False), T(tls=False), (), {}),
    ("tls", "warn", S(tls=True), T(tls=False), (), {}),
    ("files_readable", "pass", None, T(), (file(),), {}),
    ("files_readable", "fail", None, T(), (file(), file(error="No such file")), {}),
    ("files_readable", "fail", None, T(), (file(complete=False),), {}),
    ("file_extensions", "pass", None, T(), (file(), file(path="a.TAR.GZ", format="archive")), {}),
    ("file_extensions", "warn", None, T(), (file(path="dump.rdb.1"),), {}),
    ("file_extensions", "fail", None, T(), (file(path="dump.txt", format=""),), {}),
    ("file_rdb_version", "pass", None, T("7.0"), (file(rdb_version=9),), {}),
    ("file_rdb_version", "warn", None, T("7.0"), (file(rdb_version=12),), {}),
    ("aof", "pass", None, T(), (file(format="aof", version="3.0"),), {}),
    ("aof", "warn", None, T(), (file(format="aof", version="5.0"),), {}),
    ("aof", "warn", None, T(topology="redis_cluster"), (file(format="aof", version="3.0"),), {}),
    ("aof", "warn", S("3.0", rdbcompression=True), T(), (file(format="aof"),), {}),
    ("aof", "warn", None, T(), (file_facts({"path": "a.aof", "format": "aof", "version": "7.2.4", "compressed": 5}),), {}),
    ("aof", "pass", None, T(), (file_facts({"path": "a.aof", "format": "aof", "version": "7.2.4", "compressed": 0}),), {}),
    ("aof", None, None, T(), (file(),), {}),
    ("shard_files", "pass", S(masters=2), T(), (file(), file()), {}),
    ("shard_files", "fail", S(masters=3), T(), (file(), file()), {}),
    ("shard_files", "warn", S(masters=2), T(), (file(), file(), file()), {}),
    ("shard_files", None, S(masters=3), T(), (file(format="archive"),), {}),
    ("big_keys", "pass", None, T(), (file(big_keys=0),), {}),
    ("big_keys", "warn", None, T(), (file(big_keys=0), file(big_keys=4)), {}),
    ("big_keys", None, None, T(), (file(),), {}),
    ("bucket_region", "pass", None, T(), (), {"bucket_region": "eu-de", "target_region": "eu-de"}),
    ("bucket_region", "warn", None, T(), (), {"bucket_region": "eu-de", "target_region": "eu-nl"}),
    ("bucket_region", None, None, T(), (), {"bucket_region": "eu-de"}),
]


@pytest.mark.parametrize(("check", "expected", "source", "target", "files", "wishes"), CASES)
def test_check(check, expected, source, target, files, wishes) -> None:
    assert status(check, source, target, *files, **wishes) == expected


def test_every_check_is_in_the_table() -> None:
    tested = {case[0] for case in CASES}
    bare = Side(label="nowhere")
    assert run_checks(Facts(target=bare)) == []
    assert run_checks(Facts(target=bare, source=bare)) == []
    assert len(tested) >= len(ALL)


def test_a_failed_check_makes_the_pair_incompatible() -> None:
    source = side(databases={0: 1, 1: 1}, psync=True)
    assert judge(source, side(topology="single")).compatible
    assert not judge(source, side(topology="redis_cluster")).compatible
    assert judge(source, side(topology="redis_cluster"), (), Wishes(db_map={1: 0})).compatible


@pytest.mark.parametrize(
    ("source", "files", "expected"),
    [
        (side(psync=True), (), "online"),
        (side(psync=True), (file(),), "online"),
        (side(psync=False), (), "import_from_instance"),
        (side(psync=True, disabled_commands=frozenset(["INFO"])), (), "import_from_instance"),
        (side(psync=False), (file(),), "import_rdb"),
        (side(psync=False, disabled_commands=frozenset(["SCAN"])), (), "import_rdb"),
        (side(error=LOST, reachable=False), (), "import_rdb"),
        (None, (file(), file(format="aof")), "import_rdb"),
        (None, (file(format="aof"),), "import_aof"),
        (described_side({"provider": "self_hosted", "topology": "single"}, "source"), (), "online"),
        (described_side({"provider": "other", "topology": "single"}, "source"), (), "import_rdb"),
        (described_side({"provider": "dcs", "topology": "proxy_cluster", "version": "3.0"}, "source"), (), "import_rdb"),
    ],
)
def test_recommended_mode(source: Side | None, files: tuple, expected: str) -> None:
    assert judge(source, side(), files).recommended_mode == expected


def test_modes_without_psync_say_why() -> None:
    old = judge(side(psync=False, psync_reason="PSYNC is disabled or renamed"), side())
    online = next(mode for mode in old.modes if mode.mode == "online")
    assert online.supported and "SYNC where" in online.reasons[0] and "renamed" in online.reasons[0]
    verdict = judge(side(psync=False, psync_reason="PSYNC is disabled or renamed", disabled_commands=frozenset(["SYNC"])), side())
    online = next(mode for mode in verdict.modes if mode.mode == "online")
    assert not online.supported
    assert "import_from_instance" in online.reasons[0] and "renamed" in online.reasons[0]
    assert verdict.compatible and verdict.recommended_mode == "import_from_instance"
    blind = judge(side(psync=False, disabled_commands=frozenset(["DUMP", "SYNC"])), side())
    assert [mode.supported for mode in blind.modes] == [True, True, False, False]
    assert not blind.compatible


def test_an_aof_with_compressed_strings_is_none_for_the_service() -> None:
    row = {"path": "a.aof", "format": "aof", "version": "7.2.4", "compressed": 5}
    modes = {mode.mode: mode for mode in judge(None, side(), (file_facts(row),)).modes}
    assert (modes["import_aof"].dcs, modes["import_aof"].supported) == ("x", True)


def test_described_endpoint_needs_a_topology() -> None:
    with pytest.raises(UsageError, match="without a topology"):
        described_side({"provider": "dcs"}, "target")


def test_db_map() -> None:
    assert read_db_map({"1": "0", 2: 5}) == {1: 0, 2: 5}
    assert read_db_map(None) == {}
    with pytest.raises(UsageError, match="database numbers"):
        read_db_map({"a": 0})
