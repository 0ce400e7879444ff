# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""``worker.log``: what the processes of a task did, for people."""

from __future__ import annotations

import os
import time


class Log:
    """Appends lines ``2026-01-31T12:00:00Z who: text`` to the file ``path`` (0600). Several processes and threads may write to one file.

    ``text`` never holds a secret. A log that cannot be written must not end the work: such lines are dropped.
    """

    def __init__(self, path: str, who: str) -> None:
        self._path = path
        self._who = who

    def __call__(self, text: str) -> None:
        line = "%s %s: %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), self._who, text)
        try:
            # Opened for each line: it may be moved away. One write appends one line as a whole.
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, line.encode("utf-8", "backslashreplace"))
            finally:
                os.close(handle)
        except OSError:
            pass
