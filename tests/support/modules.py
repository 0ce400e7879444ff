# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module the way a user does: through ansible-playbook, on localhost, in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLLECTION = "dcs.migration"
_SECONDS = 300


class AnsibleBroke(Exception):
    """ansible-playbook ended without a result of the module."""


def run_module(name: str, args: Mapping[str, Any], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
    """The module's result, also a failed one (``failed`` is true then).

    ``name`` is the short name (``instance_info``) or one with dots. What ansible-playbook printed is added as
    ``_output``, with -vvv, so that a test can look for secrets in it.
    """
    with tempfile.TemporaryDirectory(prefix="dcs-migration-test-") as folder:
        work = Path(folder)
        result_file = work / "result.json"
        playbook = work / "playbook.json"
        playbook.touch(mode=0o600)
        playbook.write_text(json.dumps(_play(name, args, result_file)), encoding="utf-8")
        command = [sys.executable, "-m", "ansible", "playbook", "-vvv", "-i", "localhost,", str(playbook)]
        command += ["--check"] * check + ["--diff"] * diff
        done = subprocess.run(
            command, env=_environment(work), cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_SECONDS, encoding="utf-8", errors="backslashreplace", check=False,
        )  # fmt: skip
        if not result_file.exists():
            raise AnsibleBroke("ansible-playbook ended with %d:\n%s" % (done.returncode, done.stdout))
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    result["_output"] = done.stdout
    return result


def collections_path() -> Path:
    """The folder that holds ``ansible_collections`` with the collection under test."""
    package = importlib.import_module("ansible_collections.%s" % COLLECTION)
    return Path(next(iter(package.__path__))).parents[2]


def _play(name: str, args: Mapping[str, Any], result_file: Path) -> list[dict[str, Any]]:
    full = name if "." in name else "%s.%s" % (COLLECTION, name)
    tasks: list[dict[str, Any]] = [
        {"name": "Run the module", full: dict(args), "register": "result", "ignore_errors": True},
        {
            "name": "Keep its result",
            "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(result_file), "mode": "0600"},
            "check_mode": False,
            "diff": False,
            "no_log": True,
        },
    ]
    return [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]


def _environment(work: Path) -> dict[str, str]:
    """This process' environment without its Ansible settings, plus what makes a run stand alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    config = work / "ansible.cfg"
    config.touch()
    return {
        **kept,
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_HOME": str(work / "home"),
        "ANSIBLE_LOCAL_TEMP": str(work / "local"),
        "ANSIBLE_REMOTE_TEMP": str(work / "remote"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "1",
    }
