# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Import guard: name the missing library and how to install it, instead of a traceback."""

from __future__ import annotations

import importlib
import traceback
from typing import TYPE_CHECKING, Dict, NamedTuple

from ansible.module_utils.basic import missing_required_lib

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class _Library(NamedTuple):
    """``name`` and ``minimum`` for pip, what it is needed for, and where it lives."""

    name: str
    minimum: str
    reason: str
    url: str


_LIBRARIES: Dict[str, _Library] = {
    "redis": _Library("redis", "5.0.0", "to talk to Redis", "https://pypi.org/project/redis/"),
    "hiredis": _Library("hiredis", "3.2.0", "to read replication streams", "https://pypi.org/project/hiredis/"),
    "boto3": _Library("boto3", "1.28.0", "to reach the bucket", "https://pypi.org/project/boto3/"),
    "anycrc": _Library("anycrc", "1.0.0", "to check and write serialized values", "https://pypi.org/project/anycrc/"),
}


def validate(module: AnsibleModule, *names: str) -> None:
    """End the module with fail_json where one of these libraries (``redis``, ``hiredis``, ``boto3``, ``anycrc``) is missing."""
    for name in names:
        library = _LIBRARIES[name]
        try:
            importlib.import_module(name)
        except ImportError:
            module.fail_json(
                msg=missing_required_lib("%s>=%s" % (library.name, library.minimum), reason=library.reason, url=library.url),
                exception=traceback.format_exc(),
            )
