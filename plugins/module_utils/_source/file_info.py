# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Inventories of whatever backups a user names: what ``backup_file_info`` does.

A damaged backup has a row that says so. Only what cannot be read at all is an error.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, Sequence, Set

from .._errors import FileError, UsageError
from .aof_file import AOF, Unit, group
from .big_keys import BigKeys
from .files import BackupFile, local_files, open_files, open_objects
from .inventory import Inventory, take_unit

if TYPE_CHECKING:
    from .._bucket.client import Bucket
    from .._bucket.objects import ObjectInfo

_SUFFIXES = (".rdb", ".aof", ".manifest", ".zip", ".tar.gz", ".tgz")
_ARCHIVES = (".zip", ".tar.gz", ".tgz")
ARCHIVE = "archive"


def describe_files(paths: Sequence[str], thresholds: Callable[[], BigKeys]) -> List[Inventory]:
    """Local files and what is in local archives, in the order named; ``thresholds()`` makes what finds a file's big keys.

    :raises FileError: missing, not readable, a directory
    :raises UsageError: no path, or the same one twice
    """
    names = [os.path.expanduser(path) for path in paths]
    # An empty file is a backup that failed, so it gets a row; local_files() refuses everything else for all files at once.
    empty = {name for name in names if os.path.isfile(name) and not os.path.getsize(name)}
    rest = [name for name in names if name not in empty]
    if rest or not names:
        local_files(rest)
    return _describe(names, lambda name: open_files([name]), thresholds)


def describe_objects(bucket: Bucket, keys: Iterable[str], thresholds: Callable[[], BigKeys]) -> List[Inventory]:
    """As :func:`describe_files`, for objects in a bucket.

    :raises BucketError: not there, archived, not allowed, not reachable
    :raises UsageError: no key, or the same one twice
    """
    names = [bucket.key(key) for key in keys]
    if not names or len(set(names)) < len(names):
        open_objects(bucket, names)  # which says so
    return _describe(names, lambda key: open_objects(bucket, [key]), thresholds, bucket.url)


def backup_keys(bucket: Bucket) -> List[str]:
    """Keys of all objects under the bucket's prefix that are named like backups or archives of them.

    :raises BucketError: the bucket cannot be listed
    :raises UsageError: there is none
    """
    from .._bucket.objects import list_objects

    keys = [info.key for info in list_objects(bucket) if _is_named_like_a_backup(info)]
    if not keys:
        raise UsageError(
            bucket.url(bucket.prefix), "there is no object named %s" % ", ".join(_SUFFIXES), "Check prefix, or name the objects"
        )
    return keys


def _is_named_like_a_backup(info: ObjectInfo) -> bool:
    return info.key.lower().endswith(_SUFFIXES)


def _describe(
    names: Sequence[str],
    open_one: Callable[[str], List[BackupFile]],
    thresholds: Callable[[], BigKeys],
    label: Callable[[str], str] = str,
) -> List[Inventory]:
    """One row a unit; what cannot be opened although it is there has a row with its error."""
    rows: List[Inventory] = []
    files: List[BackupFile] = []
    order: Dict[str, int] = {}
    for number, name in enumerate(names):
        try:
            found = open_one(name)
        except FileError as exc:
            rows.append(_failed(label(name), str(exc), ARCHIVE if name.lower().endswith(_ARCHIVES) else ""))
            order[label(name)] = number
            continue
        files += found
        order.update((file.name, number) for file in found)
    for unit in _units(files, rows):
        rows.append(take_unit(unit, thresholds()))
    return sorted(rows, key=lambda row: order[row.path])


def _failed(path: str, error: str, form: str = "") -> Inventory:
    found = Inventory(path, 0, error=error)
    if form:
        found.format = form
    return found


def _units(files: Sequence[BackupFile], rows: List[Inventory]) -> Iterator[Unit]:
    """Each file by itself, except parts of an AOF that are here with their manifest. A manifest that does not fit is a row."""
    taken: Set[str] = set()
    for manifest in files:
        if not manifest.is_manifest:
            continue
        taken.add(manifest.name)
        stem = manifest.basename[: -len("manifest")]
        beside = [file for file in files if file.directory == manifest.directory and file.basename.startswith(stem)]
        try:
            (unit,) = [unit for unit in group(beside) if unit.manifest is manifest]
        except FileError as exc:
            rows.append(_failed(manifest.name, str(exc), AOF))
            continue
        taken.update(part.name for part in unit.parts)
        taken.update(unit.ignored)
        yield unit
    for file in files:
        if file.name not in taken:
            yield Unit(AOF, file.name, (file,))
