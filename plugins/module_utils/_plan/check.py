# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""The answer of one check."""

from __future__ import annotations

from typing import NamedTuple

PASS = "pass"
WARN = "warn"
FAIL = "fail"


class Check(NamedTuple):
    """``id`` is stable; ``status`` is pass, warn or fail; ``remedy`` is empty for pass."""

    id: str
    status: str
    message: str
    remedy: str = ""


def passed(id_: str, message: str) -> Check:
    return Check(id_, PASS, message)


def warned(id_: str, message: str, remedy: str) -> Check:
    return Check(id_, WARN, message, remedy)


def failed(id_: str, message: str, remedy: str) -> Check:
    return Check(id_, FAIL, message, remedy)


def size_text(size: float) -> str:
    """Bytes for people: ``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return "%d %s" % (size, unit) if unit == "bytes" else "%.1f %s" % (size, unit)
        size /= 1024
    return "%.1f TiB" % size
