# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The copy of the engine that a task's worker runs from: ``engine.zip`` of its folder.

A module's own files are gone when it ends, so a worker cannot run from them. ``python engine.zip`` runs the worker of the task in whose
folder the file lies, and needs nothing else but the libraries of ``requirements.txt``.
"""

from __future__ import annotations

import os
import zipfile
import zipimport
from typing import Dict, Iterator, Tuple

from .._errors import FileError
from .folder import TaskFolder

ENGINE = "engine.zip"
# ansible_collections.<namespace>.<name>.plugins.module_utils
_PACKAGE = __name__.rsplit(".", 2)[0]
_FOLDER = _PACKAGE.replace(".", "/")
_MAIN = """\
import os
import sys

from %s._sync.worker import start

sys.exit(start(os.path.dirname(os.path.abspath(sys.argv[0])), *sys.argv[1:]))
"""


def install(folder: TaskFolder) -> None:
    """Write ``engine.zip`` from what this module itself was loaded from: Ansible's payload, or plain files. FileError.

    Not while a worker runs: Python reads modules from the file whenever they are first imported.
    """
    parts = _PACKAGE.split(".")
    content: Dict[str, bytes] = {"/".join(parts[:depth] + ["__init__.py"]): b"" for depth in range(1, len(parts) + 1)}
    partial = folder.file(ENGINE + ".partial")
    try:
        content.update(_modules())
        content["__main__.py"] = (_MAIN % _PACKAGE).encode("ascii")
        with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as handle:
            with zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in sorted(content):
                    archive.writestr(name, content[name])
        os.replace(partial, folder.file(ENGINE))
    except (OSError, zipfile.BadZipFile) as exc:
        raise FileError(folder.file(ENGINE), "cannot be written: %s" % exc, "Make room there, or set state_dir to another folder") from exc


def _modules() -> Iterator[Tuple[str, bytes]]:
    """Name and content of every Python file of this package."""
    loader = __spec__.loader
    if isinstance(loader, zipimport.zipimporter):
        with zipfile.ZipFile(loader.archive) as archive:
            for name in archive.namelist():
                if name.startswith(_FOLDER + "/") and name.endswith(".py"):
                    yield name, archive.read(name)
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(place, name)
                with open(path, "rb") as handle:
                    yield _FOLDER + "/" + os.path.relpath(path, root).replace(os.sep, "/"), handle.read()
