# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Starting a task's worker, so that it outlives the module: by systemd where that has its unit, else as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Dict, List, Optional

from .._errors import MigrationError
from .folder import TaskFolder
from .install import ENGINE
from .worker import DETACH, LOG

HELLO_SECONDS = 30.0
SYSTEMD = "/run/systemd/system"  # there where systemd runs
_LOG_LINES = 20
# What a worker gets of the module's environment. Anything else may be a secret.
_ENVIRONMENT = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "OPENSSL_CONF", "PATH", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip


def launch(folder: TaskFolder) -> None:
    """Start the worker and come back when it has said hello. MigrationError with the end of its log where it does not."""
    unit = _unit(folder)
    command = _systemctl() + ["start", unit] if unit else [sys.executable, folder.file(ENGINE), DETACH]
    try:
        log = os.open(folder.file(LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # A session of its own: what ends the module does not end the worker.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder.path, start_new_session=True,
                env=_systemd_environment() if unit else _environment(),
            )  # fmt: skip
        finally:
            os.close(log)
    except OSError as exc:
        raise MigrationError("task %s" % folder.name, "its worker cannot be started: %s" % exc, "Mend that and start it again") from exc
    try:
        status: Optional[int] = process.wait(HELLO_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = None
    if status != 0:
        why = "its worker said nothing for %d s" % HELLO_SECONDS if status is None else "its worker ended at once"
        raise MigrationError("task %s" % folder.name, "%s; its log ends with: %s" % (why, log_tail(folder)), "Mend that and start it again")


def log_tail(folder: TaskFolder) -> str:
    """The last lines of the worker's log."""
    try:
        with open(folder.file(LOG), "rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - 8192))
            lines = handle.read().decode("utf-8", "backslashreplace").splitlines()
    except OSError:
        return "(there is none)"
    return "\n".join(lines[-_LOG_LINES:]) or "(it is empty)"


def _environment() -> Dict[str, str]:
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}


def _systemd_environment() -> Dict[str, str]:
    """The way to the user's own manager, which a login without a session does not know."""
    return {"XDG_RUNTIME_DIR": "/run/user/%d" % os.geteuid(), **os.environ}


def _systemctl() -> List[str]:
    return ["systemctl"] if os.geteuid() == 0 else ["systemctl", "--user"]


def _unit(folder: TaskFolder) -> Optional[str]:
    """The unit that runs this task's worker; None where systemd does not run, or knows no unit that runs this very engine."""
    if not os.path.isdir(SYSTEMD):
        return None
    unit = "dcs-migration-sync@%s.service" % folder.name
    try:
        shown = subprocess.run(
            [*_systemctl(), "show", "--property=LoadState,ExecStart", unit], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=HELLO_SECONDS, check=False, env=_systemd_environment(),
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    known = b"LoadState=loaded" in shown and os.fsencode(folder.file(ENGINE)) in shown
    return unit if known else None
