# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Import guard: name the library that is missing or too old and how to install it, instead of a traceback."""

from __future__ import annotations

import importlib
import platform
import sys
import traceback
from importlib import metadata
from typing import TYPE_CHECKING, Dict, NamedTuple

from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.compat.version import LooseVersion

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class _Library(NamedTuple):
    """``name`` and ``minimum`` for pip, what it is needed for, and where it lives."""

    name: str
    minimum: str
    reason: str
    url: str


_LIBRARIES: Dict[str, _Library] = {
    "redis": _Library("redis", "5.0.1", "to talk to Redis", "https://pypi.org/project/redis/"),
    "hiredis": _Library("hiredis", "3.2.0", "to read replication streams", "https://pypi.org/project/hiredis/"),
    "boto3": _Library("boto3", "1.34.0", "to reach the bucket", "https://pypi.org/project/boto3/"),
    "anycrc": _Library("anycrc", "2.0.0", "to check and write serialized values", "https://pypi.org/project/anycrc/"),
}


def validate(module: AnsibleModule, *names: str) -> None:
    """End the module with fail_json where one of these libraries (``redis``, ``hiredis``, ``boto3``, ``anycrc``) is missing or too old."""
    for name in names:
        library = _LIBRARIES[name]
        try:
            importlib.import_module(name)
        except ImportError:
            module.fail_json(
                msg=missing_required_lib("%s>=%s" % (library.name, library.minimum), reason=library.reason, url=library.url),
                exception=traceback.format_exc(),
            )
        found = _version(library.name)
        if found and _is_older(found, library.minimum):
            module.fail_json(
                msg="%s %s is too old %s: Ansible's Python %s on %s needs %s or newer. Install it with: pip install '%s>=%s'"
                % (library.name, found, library.reason, sys.executable, platform.node(), library.minimum, library.name, library.minimum)
            )


def _version(name: str) -> str:
    """The installed version, empty where the package does not tell."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _is_older(found: str, minimum: str) -> bool:
    try:
        return bool(LooseVersion(found) < LooseVersion(minimum))
    except TypeError:  # words among the numbers, as in a pre-release
        return False
