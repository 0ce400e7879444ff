# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The note beside a backup's files: what belongs together, from where, since when.

``<name>.backup.json`` is written last and removed first, so where it stands the backup is whole.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Iterable, List, Optional

from .._errors import FileError, UsageError
from .._sink.rdb_file import PartialFile, disk_error, sync_folder

_FORMAT = 1
SUFFIX = ".backup.json"


class Manifest:
    """The note in ``folder`` for backups called ``name``. Errors: FileError."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = os.path.join(folder, name + SUFFIX)
        self._folder = folder

    def read(self) -> Optional[Dict[str, Any]]:
        """What it says; None where there is none that can be understood."""
        try:
            with open(self.path, encoding="utf-8") as file:
                content = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError:
            return None  # not ours, or from a disk that lost it: a new backup writes it anew
        except OSError as exc:
            raise disk_error(self.path, exc, "cannot be read") from exc
        return content if isinstance(content, dict) and content.get("format_version") == _FORMAT else None

    def check_source(self, content: Optional[Dict[str, Any]], addresses: Iterable[str]) -> None:
        """UsageError where the folder holds a backup of another deployment, which this one would replace."""
        known = set((content or {}).get("addresses") or ())
        if known and not known & set(addresses):
            raise UsageError(
                self.path,
                "dest holds the backup of another deployment (%s)" % ", ".join(sorted(known)),
                "Choose another dest or another name, or remove that backup",
            )

    def is_fresh(self, content: Optional[Dict[str, Any]], max_age: float, **wanted: Any) -> bool:
        """Whether it stands for a whole backup that is no older than ``max_age`` seconds and made as ``wanted``."""
        if content is None or max_age <= 0:
            return False
        age = time.time() - content.get("started", 0)
        if not 0 <= age <= max_age or any(content.get(name) != value for name, value in wanted.items()):
            return False
        return all(_size(entry["path"]) == entry["size"] for entry in content["files"])

    def remove(self) -> None:
        """Before the first file of a new backup gets its name."""
        try:
            os.unlink(self.path)
            sync_folder(self._folder)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise disk_error(self.path, exc, "cannot be removed") from exc

    def write(self, content: Dict[str, Any]) -> None:
        """After the last one got its name."""
        text = json.dumps({"format_version": _FORMAT, **content}, indent=2, sort_keys=True)
        with PartialFile(self.path) as file:
            file.write(text.encode() + b"\n")
            file.publish()

    def remove_stale(self, content: Optional[Dict[str, Any]], kept: List[str]) -> None:
        """Remove files of the backup before that the new one did not replace, as when there were more shards then."""
        folder = os.path.realpath(self._folder)
        names = {os.path.basename(path) for path in kept}
        for entry in (content or {}).get("files", ()):
            path = entry["path"]
            # The folder may have been written in another way then.
            if os.path.basename(path) in names or os.path.realpath(os.path.dirname(path)) != folder:
                continue
            try:
                if os.path.getsize(path) == entry["size"]:
                    os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise FileError(path, "cannot be removed: %s" % exc.strerror, "Remove this file of an older backup") from exc


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1
