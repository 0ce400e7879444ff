# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The folder of one task, by which its processes and the modules talk to each other. Everything in it is 0600, the folder 0700.

    config.json    what the user asked for, secrets among it                       module -> all
    request.json   {"state": "run" | "stop" | "finish", "serial": n}               module -> watchdog, applier
    lock           held (flock) by the watchdog as long as it lives: one writer per task
    worker.json    {"boot_id", "watchdog", "receiver", "applier", "started"}       watchdog -> module
    sources.json   what arrived: see :mod:`.receiver`                              receiver -> applier, module
    resync.json    {"<stream id>": generation that is of no more use}              applier -> receiver
    needs.json     {"<stream id>": [generation, offset to receive although the spools are full]}  applier -> receiver
    status.json    the task as ``online_sync_info`` reports it                     applier -> module
    applier.json   what the applier must remember beside its checkpoints           applier
    wake           a FIFO: one byte when new bytes are in a spool                  receiver -> applier
    worker.log     for people
    engine.zip     the engine this task runs from
    streams/<id>/<generation>/{snapshot,stream}/   spools, see :mod:`.spool`

Files are replaced in one step, so a reader sees the old or the new one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from typing import Any, Dict, List, Optional

from .._errors import FileError, UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class TaskFolder:
    """Paths and files of the task ``name`` below ``state_dir``. Errors of every method: FileError."""

    def __init__(self, state_dir: str, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError("name %r" % name, "cannot be the name of a folder", "Use up to 64 letters, digits, dots, dashes and underscores")
        self.name = name
        self.path = os.path.join(os.path.abspath(os.path.expanduser(state_dir)), name)

    @classmethod
    def at(cls, path: str) -> TaskFolder:
        """The task whose folder this is."""
        parent, name = os.path.split(os.path.abspath(path))
        return cls(parent, name)

    def file(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def exists(self) -> bool:
        return os.path.exists(self.file("config.json"))

    def make(self) -> None:
        """Make the folder, for its owner only."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            os.chmod(self.path, 0o700)
        except OSError as exc:
            raise _unusable(self.path, exc) from exc

    # -- JSON --------------------------------------------------------------------------------------------------------

    def read(self, name: str) -> Optional[Any]:
        """A JSON file's content, None where there is none."""
        try:
            with open(self.file(name), encoding="utf-8") as handle:
                return json.load(handle)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise _unreadable(self.file(name), exc) from exc

    def peek(self, name: str) -> Dict[str, Any]:
        """A JSON object that only reports: where there is none, or a host that crashed left it damaged, it says nothing. FileError."""
        try:
            with open(self.file(name), encoding="utf-8") as handle:
                content = json.load(handle)
        except (FileNotFoundError, ValueError):
            return {}
        except OSError as exc:
            raise _unreadable(self.file(name), exc) from exc
        return content if isinstance(content, dict) else {}

    def write(self, name: str, content: Any, durable: bool = False) -> None:
        """Replace a JSON file; ``durable``: it is on the disk when this returns. Then it is always that, so the same is not written twice."""
        partial = self.file(name + ".partial")
        text = json.dumps(content)
        if durable and self._holds(name, text):
            return
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
                handle.write(text)
                if durable:
                    handle.flush()
                    os.fsync(handle.fileno())
            os.replace(partial, self.file(name))
            if durable:
                self._sync_names()
        except OSError as exc:
            raise _unusable(self.file(name), exc) from exc

    def _holds(self, name: str, text: str) -> bool:
        try:
            with open(self.file(name), encoding="utf-8") as handle:
                return handle.read() == text
        except (OSError, ValueError):
            return False

    def _sync_names(self) -> None:
        """A file's new name is on the disk only when its folder is."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        try:
            os.unlink(self.file(name))
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise _unusable(self.file(name), exc) from exc

    # -- the lock ----------------------------------------------------------------------------------------------------

    def lock(self) -> Optional[int]:
        """Take the task's lock: a descriptor that holds it until it is closed, or None where another process has it."""
        try:
            handle = os.open(self.file("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _unusable(self.file("lock"), exc) from exc
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        return handle

    def is_locked(self) -> bool:
        """Whether a worker has it."""
        if not os.path.exists(self.file("lock")):
            return False
        handle = self.lock()
        if handle is None:
            return True
        os.close(handle)
        return False


def task_names(state_dir: str) -> List[str]:
    """Tasks that were made below ``state_dir``, in alphabetical order."""
    root = os.path.abspath(os.path.expanduser(state_dir))
    try:
        return sorted(name for name in os.listdir(root) if os.path.exists(os.path.join(root, name, "config.json")))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise _unusable(root, exc) from exc


def boot_id() -> str:
    """Which boot of this host it is; empty where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def error_dict(exc: Any) -> Dict[str, str]:
    """A MigrationError as it stands in the JSON files."""
    return {"message": str(exc), "what": exc.what, "why": exc.why, "remedy": exc.remedy}


def _unreadable(path: str, exc: Exception) -> FileError:
    return FileError(path, "cannot be read: %s" % exc, "Restore it, or remove the task (state absent) and start again")


def _unusable(path: str, exc: OSError) -> FileError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileError(path, "the disk is full", "Make room there; the task goes on from where it was")
    return FileError(path, "cannot be written: %s" % exc.strerror, "Set state_dir to a folder that can be written to")
