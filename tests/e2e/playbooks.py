# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the collection's playbooks the way a user does: ``ansible-playbook dcs.migration.preflight -i inventory.yml``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ansible_collections.dcs.migration.tests.support.modules import collections_path

_SECONDS = 300
_MESSAGE = re.compile(r'^ +"msg": (".*"),?$', re.MULTILINE)
_RECAP = re.compile(r"^(\S+) +: (ok=\d+ .*)$", re.MULTILINE)


class Run(NamedTuple):
    """One run of ansible-playbook."""

    status: int
    output: str
    seconds: float

    @property
    def messages(self) -> list[str]:
        """What the playbook says to its reader, in order; a failure too."""
        said = [str(json.loads(text)) for text in _MESSAGE.findall(self.output)]
        for line in self.output.splitlines():
            if line.startswith("fatal: ") and " => {" in line:
                with contextlib.suppress(ValueError):
                    said.append(str(json.loads(line.partition(" => ")[2])["msg"]))
        return said

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Host -> how many tasks were ok, changed, failed, ..."""
        return {
            host: {name: int(count) for name, count in (word.split("=") for word in counts.split())}
            for host, counts in _RECAP.findall(self.output)
        }

    def value(self, name: str) -> Any:
        """A variable that the run showed (with ``-v``)."""
        marker = '"%s": ' % name
        return json.JSONDecoder().raw_decode(self.output, self.output.index(marker) + len(marker))[0]


def write_inventory(path: Path, inventory: Mapping[str, Any]) -> Path:
    """An inventory that only its owner reads: it holds passwords."""
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(dict(inventory), sort_keys=False), encoding="utf-8")
    return path


def run_playbook(playbook: str, inventory: Path, *options: str, work: Path) -> Run:
    """Run a playbook to its end. ``options``: options, and more playbooks; ``work``: a folder for whatever Ansible keeps."""
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), playbook, *options]
    mark = "DCS_MIGRATION_RUN=" + secrets.token_hex(8)
    began = time.monotonic()
    with _ended_with_us(mark):
        done = subprocess.run(
            command, env=_environment(work, mark), cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_SECONDS, encoding="utf-8", errors="backslashreplace", check=False,
        )  # fmt: skip
    return Run(done.returncode, done.stdout, time.monotonic() - began)


def _environment(work: Path, mark: str) -> dict[str, str]:
    """This process' environment without its Ansible settings, plus what makes a run stand alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "AWS_"))}
    config = work / "ansible.cfg"
    config.touch()
    name, _equals, value = mark.partition("=")
    return {
        **kept,
        name: value,
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_HOME": str(work / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(work / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
    }


@contextlib.contextmanager
def _ended_with_us(mark: str) -> Iterator[None]:
    """Ansible's workers and modules are in sessions of their own, where an interrupt does not reach them."""
    try:
        yield
    except BaseException:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
        raise
