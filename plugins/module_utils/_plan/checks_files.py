# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Checks on backup files and their bucket."""

from __future__ import annotations

from typing import Optional, Tuple

from .check import Check, failed, passed, warned
from .facts import Facts, FileFacts
from .matrix import NO, import_cell

EXTENSIONS = (".rdb", ".aof", ".zip", ".tar.gz")


def readable(facts: Facts) -> Optional[Check]:
    """Every file can be read to its end."""
    if not facts.files:
        return None
    broken = [item for item in facts.files if item.error or item.complete is False]
    if not broken:
        return passed("files_readable", "%d backup files, none known to be damaged" % len(facts.files))
    return failed(
        "files_readable",
        "; ".join("%s: %s" % (item.path, item.error or "ends before its data does") for item in broken),
        "Make or copy these files again and compare checksums",
    )


def extensions(facts: Facts) -> Optional[Check]:
    """DCS accepts four endings; this engine looks at the content."""
    odd = [item for item in facts.files if not item.path.lower().endswith(EXTENSIONS)]
    if not facts.files:
        return None
    if not odd:
        return passed("file_extensions", "the files end in %s" % ", ".join(EXTENSIONS))
    unknown = [item.path for item in odd if not item.format and not item.error]
    if unknown:
        return failed(
            "file_extensions",
            "%s: neither name nor content says RDB, AOF or archive" % ", ".join(unknown),
            "Give files that end in %s" % ", ".join(EXTENSIONS),
        )
    return warned(
        "file_extensions",
        "%s: the content is fine, but DCS itself takes only %s" % (", ".join(item.path for item in odd), ", ".join(EXTENSIONS)),
        "Rename them if DCS should import them too",
    )


def shard_files(facts: Facts) -> Optional[Check]:
    """One file per source shard, all of them needed."""
    files = [item for item in facts.files if item.format != "archive"]
    source = facts.source
    if not files or len(files) != len(facts.files) or source is None or source.masters < 2:
        return None
    if len(files) == source.masters:
        return passed("shard_files", "one file for each of the %d shards" % source.masters)
    if len(files) < source.masters:
        return failed(
            "shard_files",
            "the source has %d shards, but there are %d files" % (source.masters, len(files)),
            "Add the files of the other shards: what they hold would be missing",
        )
    return warned(
        "shard_files",
        "the source has %d shards, but there are %d files" % (source.masters, len(files)),
        "Leave out older backups: where a key is in several files the last one imported wins",
    )


def rdb_version(facts: Facts) -> Optional[Check]:
    """Files of a newer format than the target's are rewritten."""
    product = facts.target.product
    versions = [item.rdb_version for item in facts.files if item.rdb_version is not None]
    if not versions or product is None or product.rdb_version is None:
        return None
    if max(versions) <= product.rdb_version:
        return passed("file_rdb_version", "the target reads the files' RDB version %d" % max(versions))
    return warned(
        "file_rdb_version",
        "the files have RDB version %d, the target %d: values are rewritten for it" % (max(versions), product.rdb_version),
        "Nothing to do, unless the data uses types that only the newer version knows",
    )


def aof(facts: Facts) -> Optional[Check]:
    """Which AOF files DCS itself would not take."""
    files = [item for item in facts.files if item.format == "aof"]
    if not files or facts.target.topology is None:
        return None
    refused = [item for item in files if _aof_refused(facts, item)]
    if not refused:
        return passed("aof", "the AOF files can be imported, by DCS itself too")
    return warned(
        "aof",
        "%s: %s; this collection does" % (", ".join(item.path for item in refused), _aof_refused(facts, refused[0])),
        "Prefer an RDB file where there is a choice: it is smaller and faster",
    )


def big_keys(facts: Facts) -> Optional[Check]:
    """Big keys block the target while they are written."""
    known = [item for item in facts.files if item.big_keys is not None]
    if not known:
        return None
    count = sum(item.big_keys or 0 for item in known)
    if not count:
        return passed("big_keys", "no big keys")
    return warned(
        "big_keys",
        "%d big keys: the target is busy while each is written" % count,
        "Look at them with backup_file_info; split them, or migrate in a quiet hour",
    )


def bucket_region(facts: Facts) -> Optional[Check]:
    """DCS reads only from buckets in the target's region."""
    bucket, target = facts.wishes.bucket_region, facts.wishes.target_region
    if not bucket or not target:
        return None
    if bucket == target:
        return passed("bucket_region", "bucket and target are in %s" % target)
    return warned(
        "bucket_region",
        "the bucket is in %s, the target in %s: slow, and DCS itself would refuse it" % (bucket, target),
        "Use a bucket in %s" % target,
    )


def writer_of(facts: Facts, item: FileFacts) -> Tuple[str, Optional[bool]]:
    """Version of the server that wrote a file and whether it compresses RDBs, as far as known."""
    source = facts.source
    if source is None:
        return item.version, item.compressed
    return item.version or source.version, item.compressed or source.rdbcompression


def _aof_refused(facts: Facts, item: FileFacts) -> str:
    """Why DCS would not import this AOF file, empty if it would."""
    cell = import_cell("aof", facts.target.topology or "single", *writer_of(facts, item))
    return cell.note if cell.dcs == NO else ""
