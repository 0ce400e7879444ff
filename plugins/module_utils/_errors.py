# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Every error a user can see.

MigrationError
 +- UsageError          options that contradict each other or the data
 +- FileError           a backup file: unreadable, truncated, corrupt, of an unknown kind
 +- UnsupportedTypeError  data that the target cannot hold
 +- ConflictError       a key exists already and on_conflict=fail
 +- ServerError         a Redis endpoint
 |   +- ConnectError    not reachable, or TLS failed
 |   +- AuthError       refused the credentials, or they lack a permission
 |   +- ReplyError      answered a command with an error (full, read-only, ...)
 |   +- LostError       the connection ended while work was under way
 +- BucketError         the S3 service, the bucket or an object
"""

from __future__ import annotations


class MigrationError(Exception):
    """What failed (endpoint, file, key, position), why, and what to do about it."""

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        text = "%s: %s" % (self.what, self.why.rstrip("."))
        if self.remedy:
            text += ". " + self.remedy.rstrip(".")
        return text + "."


class UsageError(MigrationError):
    """Options that contradict each other or the data."""


class FileError(MigrationError):
    """A backup file that is unreadable, truncated, corrupt or of an unknown kind."""


class UnsupportedTypeError(MigrationError):
    """Data that the target cannot hold."""


class ConflictError(MigrationError):
    """A key exists already and ``on_conflict`` is ``fail``."""


class ServerError(MigrationError):
    """A Redis endpoint failed."""


class ConnectError(ServerError):
    """The endpoint is not reachable, or TLS failed."""


class AuthError(ServerError):
    """The endpoint refused the credentials, or they lack a permission."""


class ReplyError(ServerError):
    """The endpoint answered a command with an error."""


class LostError(ServerError):
    """The connection ended while work was under way."""


class BucketError(MigrationError):
    """The S3 service, the bucket or an object failed."""
