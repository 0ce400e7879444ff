# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""From the engine's world to Ansible's: bytes to text, one typed error to fail_json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, NoReturn

from ._errors import MigrationError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def text(data: bytes) -> str:
    """A key or value for a result or message: UTF-8, other bytes as backslash escapes."""
    return data.decode("utf-8", "backslashreplace")


def plain(value: Any) -> Any:
    """A result that Ansible takes: names of files and archive members keep bytes that are not UTF-8 as surrogates, which become escapes."""
    if isinstance(value, str):
        return value if value.isascii() else text(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def run(module: AnsibleModule, function: Callable[[], Dict[str, Any]]) -> NoReturn:
    """Call the engine and end the module: exit_json with what it returns, fail_json for a MigrationError.

    A failure carries ``what``, ``why`` and ``remedy``, and the partial results the engine left on ``exc.result``.
    Any other exception is a defect and keeps its traceback.
    """
    try:
        result = function()
    except MigrationError as exc:
        partial = getattr(exc, "result", None) or {}
        module.fail_json(**plain({**partial, "msg": str(exc), "what": exc.what, "why": exc.why, "remedy": exc.remedy}))
    module.exit_json(**plain(result))
