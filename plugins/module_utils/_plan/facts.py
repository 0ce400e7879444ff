# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""What is known of the source, the target and the backup files when a pair is judged.

Anything may be unknown (None): an endpoint can be merely described, a managed server can refuse to tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple

from .._errors import MigrationError, UsageError
from .._server.probe import Instance
from .._server.versions import Capabilities, Product, capabilities, described_product

# Topologies into which database 0 only is migrated, however many their servers have: as the import has it (Target.one_db).
CLUSTERS = ("proxy_cluster", "redis_cluster")


@dataclass(frozen=True)
class Side:
    """The source or the target. Sizes are bytes, times milliseconds unless the name says otherwise."""

    label: str
    provider: str = "self_hosted"
    topology: Optional[str] = None
    product: Optional[Product] = None
    capabilities: Optional[Capabilities] = None
    reachable: bool = False
    error: Optional[MigrationError] = None
    tls: Optional[bool] = None
    masters: int = 0
    run_ids: FrozenSet[str] = frozenset()  # of the masters, where they tell
    missing_slots: int = 0
    databases: Optional[Mapping[int, int]] = None  # database -> keys
    databases_max: Optional[int] = None
    used_memory: Optional[int] = None
    maxmemory: Optional[int] = None
    maxmemory_policy: Optional[str] = None
    evicted_keys: Optional[int] = None
    psync: Optional[bool] = None
    psync_reason: str = ""
    modules: Optional[FrozenSet[str]] = None
    functions: Optional[int] = None
    disabled_commands: FrozenSet[str] = frozenset()
    read_only: bool = False
    clock_skew_ms: Optional[int] = None
    backlog_size: Optional[int] = None
    repl_timeout: Optional[int] = None  # seconds
    output_buffer_limit: Optional[Mapping[str, int]] = None
    rdbcompression: Optional[bool] = None

    @property
    def version(self) -> str:
        return self.product.version if self.product else ""

    @property
    def name(self) -> str:
        """Product and version for messages."""
        if not self.product or not self.product.version:
            return self.label
        return "%s %s" % (self.product.name.capitalize(), self.product.version)

    @property
    def keys(self) -> Optional[int]:
        return None if self.databases is None else sum(self.databases.values())


@dataclass(frozen=True)
class FileFacts:
    """One backup file. ``format`` is rdb, aof, archive, or empty where the content is unknown."""

    path: str
    format: str = ""
    size: Optional[int] = None
    rdb_version: Optional[int] = None
    version: str = ""  # of the server that wrote it
    databases: Optional[Tuple[int, ...]] = None
    types: Optional[FrozenSet[str]] = None  # logical kinds: string, stream, module, ...
    memory: Optional[int] = None
    big_keys: Optional[int] = None
    functions: Optional[bool] = None  # whether it holds libraries of functions
    hash_field_ttls: Optional[int] = None  # hashes whose fields expire
    compressed: Optional[bool] = None  # whether its writer compresses RDBs
    complete: Optional[bool] = None
    error: str = ""


@dataclass(frozen=True)
class Wishes:
    """Options of the planned run: which databases, where they go, and where bucket and target are."""

    db_map: Mapping[int, int] = field(default_factory=dict)
    databases: Optional[FrozenSet[int]] = None
    bucket_region: str = ""
    target_region: str = ""


@dataclass(frozen=True)
class Facts:
    """All that a check looks at."""

    target: Side
    source: Optional[Side] = None
    files: Tuple[FileFacts, ...] = ()
    wishes: Wishes = Wishes()

    def source_databases(self) -> Optional[Tuple[int, ...]]:
        """Databases that hold keys to migrate, from the source or else from the files; None where unknown."""
        found = None
        if self.source is not None and self.source.databases is not None:
            found = {db for db, keys in self.source.databases.items() if keys}
        elif self.files and all(item.databases is not None for item in self.files):
            found = {db for item in self.files for db in item.databases or ()}
        if found is None:
            return None
        wanted = self.wishes.databases
        return tuple(sorted(db for db in found if wanted is None or db in wanted))

    def mapped_databases(self) -> Optional[Dict[int, int]]:
        """Source database -> target database."""
        found = self.source_databases()
        return None if found is None else {db: self.wishes.db_map.get(db, db) for db in found}


def side_of(instance: Instance) -> Side:
    """The facts of a probed deployment."""
    replication = instance.replication
    return Side(
        label=instance.label,
        provider=instance.provider,
        topology=instance.topology.kind,
        product=instance.product,
        capabilities=instance.capabilities if instance.product.compatible else None,
        reachable=True,
        tls=instance.tls,
        masters=len(instance.topology.shards),
        run_ids=frozenset(node.info.text("run_id") for node in instance.nodes) - {""},
        missing_slots=instance.topology.missing_slots,
        databases=None if instance.databases is None else {item.db: item.keys for item in instance.databases},
        databases_max=instance.databases_max,
        used_memory=instance.used_memory,
        maxmemory=instance.maxmemory,
        maxmemory_policy=instance.maxmemory_policy,
        evicted_keys=instance.evicted_keys,
        psync=instance.psync.supported,
        psync_reason=instance.psync.reason,
        modules=None if instance.modules is None else frozenset(item["name"] for item in instance.modules),
        functions=instance.functions,
        disabled_commands=frozenset(instance.disabled_commands),
        read_only=instance.read_only,
        clock_skew_ms=instance.clock_skew_ms,
        backlog_size=replication.get("backlog_size"),
        repl_timeout=replication.get("repl_timeout"),
        output_buffer_limit=replication.get("output_buffer_limit"),
        rdbcompression=instance.persistence.get("rdbcompression"),
    )


def described_side(params: Mapping[str, Any], role: str, error: Optional[MigrationError] = None) -> Side:
    """The facts of a deployment that is only described, or that did not answer (``error``).

    Raises UsageError where the topology of a described one is missing.
    """
    topology = params.get("topology") or "auto"
    if topology == "auto" and error is None:
        raise UsageError(role, "is described without a topology", "Set its topology, or addresses to look at it")
    version = params.get("version") or ""
    product = described_product(version) if version else None
    label = "%s (%s %s)" % (role, params.get("provider") or "self_hosted", topology)
    return Side(
        label=label,
        provider=params.get("provider") or "self_hosted",
        topology=None if topology == "auto" else topology,
        product=product,
        capabilities=capabilities(product) if product and product.compatible else None,
        error=error,
        tls=params.get("tls"),
    )
