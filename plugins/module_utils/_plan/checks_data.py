# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Checks on the data and on what the target can hold."""

from __future__ import annotations

from typing import List, Optional, Set

from .._codec.types import ARRAY, COMMON_VERSION_MAX, loadable
from .._server.versions import Product, parse_version
from .check import Check, failed, passed, size_text, warned
from .facts import CLUSTERS, Facts

_DEFAULT_DATABASES = 16
_MEMORY_HEADROOM = 0.9  # fragmentation and the target's own buffers need the rest
_BUILT_IN_MODULES = frozenset(["lua"])  # Valkey 9 reports its script engine as a module


def connection(facts: Facts) -> List[Check]:
    """Each endpoint with an address answered."""
    found = []
    for role, side in (("source", facts.source), ("target", facts.target)):
        if side is None:
            continue
        if side.error is not None:
            message = "%s: %s" % (side.error.what, side.error.why)
            if role == "source" and facts.files:
                found.append(warned("source_connection", message, "The backup files are enough; " + side.error.remedy))
            else:
                found.append(failed(role + "_connection", message, side.error.remedy))
        elif side.reachable:
            found.append(passed(role + "_connection", "%s answers" % side.label))
    return found


def apart(facts: Facts) -> Optional[Check]:
    """A deployment that is migrated into itself would be emptied first, or follow its own writes."""
    source, target = facts.source, facts.target
    if source is None or not source.run_ids or not target.run_ids:
        return None
    if source.run_ids & target.run_ids:
        return failed("apart", "%s is source and target at once" % target.label, "Name another target. A replica stands for its master")
    return passed("apart", "source and target are different servers")


def version_order(facts: Facts) -> Optional[Check]:
    """DCS wants the target at least as new as the source; this engine does not, but new types may not fit."""
    target = facts.target.product
    source = facts.source.product if facts.source is not None else None
    if facts.source is None or source is None or target is None or not source.version or not target.version:
        return None
    if not _older(target, source):
        return passed("version_order", "%s is at least as new as %s" % (facts.target.name, facts.source.name))
    return warned(
        "version_order",
        "%s is older than %s or has another format: values are rewritten for it; DCS itself would not migrate this way"
        % (facts.target.name, facts.source.name),
        "Nothing to do, unless the data uses types that only the source knows",
    )


def cluster_databases(facts: Facts) -> Optional[Check]:
    """Into clusters goes database 0 only, also where they have more (Valkey 9)."""
    mapped = facts.mapped_databases()
    if facts.target.topology not in CLUSTERS or mapped is None:
        return None
    lost = sorted(db for db, goal in mapped.items() if goal)
    if not lost:
        return passed("cluster_databases", "all data goes to database 0")
    return failed(
        "cluster_databases",
        "databases %s hold keys, but into a cluster only database 0 can be migrated" % _numbers(lost),
        "Set db_map, for example {%d: 0} (keys of the same name then collide), or databases: [0] to leave them behind" % lost[0],
    )


def databases_max(facts: Facts) -> Optional[Check]:
    """No database number beyond what the target has."""
    mapped = facts.mapped_databases()
    if facts.target.topology in CLUSTERS or mapped is None:
        return None
    limit = facts.target.databases_max
    high = sorted(db for db, goal in mapped.items() if goal >= (limit or _DEFAULT_DATABASES))
    if not high:
        return passed("databases_max", "the target has every database that is needed")
    if limit is None:
        return warned(
            "databases_max",
            "databases %s hold keys; how many the target has is not known, %d are usual" % (_numbers(high), _DEFAULT_DATABASES),
            "Make sure the target has them, or set db_map",
        )
    return failed(
        "databases_max",
        "databases %s hold keys, but the target has %d databases" % (_numbers(high), limit),
        "Raise databases on the target, or set db_map",
    )


def db_map_merge(facts: Facts) -> Optional[Check]:
    """Several databases mapped into one: keys of the same name collide."""
    mapped = facts.mapped_databases()
    if not mapped or not facts.wishes.db_map:
        return None
    goals = list(mapped.values())
    merged = sorted({goal for goal in goals if goals.count(goal) > 1})
    if not merged:
        return passed("db_map_merge", "no two databases go to the same one")
    sources = [db for db, goal in mapped.items() if goal in merged]
    return warned(
        "db_map_merge",
        "databases %s go to the same database %s: of keys with the same name one is lost" % (_numbers(sources), _numbers(merged)),
        "Make sure no key name occurs in both, or set on_conflict to fail",
    )


def memory(facts: Facts) -> Optional[Check]:
    """The target's maxmemory holds the data, besides what it holds already."""
    needed = _needed_memory(facts)
    limit = facts.target.maxmemory
    if needed is None or limit is None:
        return None
    if limit == 0:
        return passed("memory", "the target has no maxmemory; %s are needed" % size_text(needed))
    used = facts.target.used_memory or 0
    if needed > limit:
        return failed(
            "memory",
            "the data needs about %s, the target's maxmemory is %s" % (size_text(needed), size_text(limit)),
            "Choose a target with more memory",
        )
    if needed + used > limit * _MEMORY_HEADROOM:
        return warned(
            "memory",
            "the data needs about %s, of the target's %s are %s in use" % (size_text(needed), size_text(limit), size_text(used)),
            "Choose a target with more memory, or empty it first",
        )
    return passed("memory", "%s fit into the target's %s" % (size_text(needed), size_text(limit)))


def eviction(facts: Facts) -> Optional[Check]:
    """A target that evicts loses keys silently instead of refusing them."""
    policy = facts.target.maxmemory_policy
    if not policy:
        return None
    if policy == "noeviction" or facts.target.maxmemory == 0:
        return passed("eviction", "the target does not evict keys")
    return warned(
        "eviction",
        "the target's maxmemory-policy is %s: when it runs full, keys vanish without an error" % policy,
        "Set maxmemory-policy to noeviction until the migration is verified",
    )


def source_eviction(facts: Facts) -> Optional[Check]:
    """A source that evicts during the sync looks like missing keys."""
    source = facts.source
    if source is None or not source.maxmemory_policy:
        return None
    if source.maxmemory_policy == "noeviction" or not source.maxmemory:
        return passed("source_eviction", "the source does not evict keys")
    if source.evicted_keys:
        return warned(
            "source_eviction",
            "the source has evicted %d keys (%s) and may go on during the sync" % (source.evicted_keys, source.maxmemory_policy),
            "Give the source more memory for the time of the migration, or expect differences when comparing",
        )
    return passed("source_eviction", "the source has evicted nothing so far")


def modules(facts: Facts) -> Optional[Check]:
    """Values of module types need the same module on the target."""
    used = "module" in _types(facts)
    if facts.source is None or facts.source.modules is None or facts.target.modules is None:
        if used and facts.target.modules is not None and not facts.target.modules - _BUILT_IN_MODULES:
            return failed("modules", "the files hold values of module types, the target has no module", "Load the module there")
        return None
    lacking = sorted(facts.source.modules - facts.target.modules - _BUILT_IN_MODULES)
    if not lacking:
        return passed("modules", "the target has every module of the source")
    message = "the target lacks the modules %s of the source" % ", ".join(lacking)
    remedy = "Load them on the target; without, values of their types cannot be written"
    return failed("modules", message, remedy) if used else warned("modules", message + ", if the data uses them", remedy)


def types(facts: Facts) -> Optional[Check]:
    """Types that only the newer side knows."""
    have = facts.target.capabilities
    if have is None:
        return None
    known = _types(facts)
    if known and not have.streams and "stream" in known:
        return failed("types", "the data holds streams, which %s does not know" % facts.target.name, "Choose Redis 5.0 or later")
    if "array" in known and not _holds_arrays(facts.target.product):
        return failed("types", "the data holds arrays, which %s does not know" % facts.target.name, "Choose Redis 8.8 or later")
    expiring = [item.hash_field_ttls for item in facts.files]
    if any(expiring) and not have.hash_field_ttl:
        return failed(
            "types",
            "%d hashes have fields that expire, which %s does not know" % (sum(filter(None, expiring)), facts.target.name),
            "Choose Redis 7.4, Valkey 9.0 or later, or leave these keys out with exclude_keys",
        )
    if facts.source is None or facts.source.capabilities is None:
        return passed("types", "the target knows every type that was seen") if known else None
    lacking = []
    if facts.source.capabilities.streams and not have.streams and not known:
        lacking.append("streams")
    if facts.source.capabilities.hash_field_ttl and not have.hash_field_ttl and (not expiring or None in expiring):
        lacking.append("expiry of single hash fields")
    if not lacking:
        return passed("types", "the target knows every type of the source")
    return warned(
        "types",
        "the target does not know %s, if the data uses them" % " and ".join(lacking),
        "Look with backup_file_info whether the data uses them; if so choose a newer target",
    )


def functions(facts: Facts) -> Optional[Check]:
    """Function libraries exist from Redis 7.0 on; no mode drops them silently."""
    source = facts.source.functions if facts.source is not None else None
    holders = [item.path for item in facts.files if item.functions]
    if source is None and all(item.functions is None for item in facts.files):
        return None
    if not source and not holders:
        return passed("functions", "there are no function libraries")
    found = "; ".join((["the source has %d function libraries" % source] if source else []) + ["%s holds some" % path for path in holders])
    target = facts.target
    if target.capabilities is None or target.capabilities.functions and "FUNCTION" not in target.disabled_commands:
        return passed("functions", "%s: they move along" % found)
    return failed(
        "functions",
        "%s, and the target cannot hold function libraries" % found,
        "Choose Redis 7.0 or later with FUNCTION allowed, or delete them at the source (FUNCTION DELETE) and make new backups",
    )


def target_empty(facts: Facts) -> Optional[Check]:
    """Keys of the same name are replaced; keys only in the target stay."""
    if facts.target.keys is None:
        return None
    if not facts.target.keys:
        return passed("target_empty", "the target is empty")
    return warned(
        "target_empty",
        "the target holds %d keys: of keys with the same name the source's wins, the others stay" % facts.target.keys,
        "Empty the target first if it should equal the source afterwards",
    )


def _needed_memory(facts: Facts) -> Optional[int]:
    if facts.source is not None and facts.source.used_memory is not None:
        return facts.source.used_memory
    sizes = [item.memory for item in facts.files]
    return sum(size or 0 for size in sizes) if sizes and None not in sizes else None


def _types(facts: Facts) -> Set[str]:
    return {kind for item in facts.files for kind in item.types or ()}


def _holds_arrays(product: Optional[Product]) -> bool:
    return product is None or product.rdb_version is None or loadable(ARRAY, product.rdb_version, product.dialect)


def _older(target: Product, source: Product) -> bool:
    """Whether the target cannot read what the source writes as it stands.

    Across products the Redis version each stands for counts, and above RDB version 11 their formats differ.
    """
    if target.name == source.name:
        return parse_version(target.version)[:2] < parse_version(source.version)[:2]
    return target.compatible[:2] < source.compatible[:2] or (source.rdb_version or 0) > COMMON_VERSION_MAX


def _numbers(numbers: List[int]) -> str:
    return ", ".join(str(number) for number in numbers)
