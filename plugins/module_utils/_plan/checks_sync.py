# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Checks on the way from source to target: streams, commands, clocks, connections."""

from __future__ import annotations

from typing import List, Optional

from .._server.clock import SKEW_REMEDY, SKEW_WARN, skew_text
from .check import Check, failed, passed, size_text, warned
from .facts import Facts, Side

_REPL_TIMEOUT = 60  # seconds, Redis' default; less breaks over a slow start of the RDB
_BACKLOG = 16 << 20  # bytes; the default of 1 MB is a second's worth of writes on a busy master
_BUFFER_SHARE = 0.1  # of the data: what is written while the RDB goes over waits in this buffer
_BUFFER_FLOOR = 64 << 20
_SKEW_FAIL = 300000

_WRITES = ("RESTORE", "DEL", "PEXPIREAT")  # without these no entry can be written
_READS = ("SCAN", "DUMP")  # without these no key can be read where there is no PSYNC


def psync(facts: Facts) -> Optional[Check]:
    """Without PSYNC keys are read one by one."""
    source = facts.source
    if source is None or source.psync is None:
        return None
    if source.psync:
        return passed("psync", "every master of the source allows PSYNC")
    return warned(
        "psync",
        "no replication stream from the source: %s. Keys are read with SCAN and DUMP instead" % source.psync_reason,
        "Enable SYNC and PSYNC for this user, or name the nodes behind a proxy in shards; otherwise expect it to be slower",
    )


def repl_timeout(facts: Facts) -> Optional[Check]:
    """A short repl-timeout on the source ends the stream while a large RDB is made."""
    source = facts.source
    if source is None or source.repl_timeout is None or source.psync is False:
        return None
    if source.repl_timeout == 0 or source.repl_timeout >= _REPL_TIMEOUT:
        return passed("repl_timeout", "the source's repl-timeout is %d s" % source.repl_timeout)
    return warned(
        "repl_timeout",
        "the source's repl-timeout is %d s: it may end the stream during the full sync" % source.repl_timeout,
        "CONFIG SET repl-timeout 300 on the source for the time of the migration",
    )


def output_buffer(facts: Facts) -> Optional[Check]:
    """A replica that is cut off at the output buffer limit starts over, and over again."""
    source = facts.source
    if source is None or source.output_buffer_limit is None or source.psync is False:
        return None
    hard = source.output_buffer_limit.get("hard", 0)
    needed = max(_BUFFER_FLOOR, int((source.used_memory or 0) / max(source.masters, 1) * _BUFFER_SHARE))
    if hard == 0 or hard >= needed:
        return passed("output_buffer", "the source's replica output buffer is %s" % (size_text(hard) if hard else "unlimited"))
    return warned(
        "output_buffer",
        "the source cuts replicas off at an output buffer of %s; with much writing %s are safer" % (size_text(hard), size_text(needed)),
        "CONFIG SET client-output-buffer-limit 'replica 0 0 0' on the source for the time of the migration",
    )


def backlog(facts: Facts) -> Optional[Check]:
    """After a short interruption the stream goes on only as far as the backlog reaches back."""
    source = facts.source
    if source is None or not source.backlog_size or source.psync is False:
        return None
    if source.backlog_size >= _BACKLOG:
        return passed("backlog", "the source's replication backlog is %s" % size_text(source.backlog_size))
    return warned(
        "backlog",
        "the source's replication backlog is only %s: after an interruption a full sync starts over" % size_text(source.backlog_size),
        "CONFIG SET repl-backlog-size 256mb on the source for the time of the migration",
    )


def clock_skew(facts: Facts) -> Optional[Check]:
    """The target expires keys by its own clock."""
    source = facts.source
    if source is None or source.clock_skew_ms is None or facts.target.clock_skew_ms is None:
        return None
    skew = facts.target.clock_skew_ms - source.clock_skew_ms
    if abs(skew) < SKEW_WARN:
        return passed("clock_skew", "the clocks of source and target are less than a second apart")
    make = warned if abs(skew) < _SKEW_FAIL else failed
    return make("clock_skew", skew_text(skew), SKEW_REMEDY)


def tls(facts: Facts) -> Optional[Check]:
    """Data that is encrypted on one half of the way should be on the other."""
    source = facts.source
    if source is None or not source.reachable or not facts.target.reachable:
        return None
    if bool(source.tls) == bool(facts.target.tls):
        return passed("tls", "both connections use TLS" if source.tls else "neither connection uses TLS")
    plain = "target" if source.tls else "source"
    return warned(
        "tls",
        "the connection to the %s is in plain text, the other uses TLS" % plain,
        "Use TLS for both if the network is not yours",
    )


def target_commands(facts: Facts) -> Optional[Check]:
    """The commands that entries are written with."""
    if not facts.target.reachable:
        return None
    lacking = [name for name in _WRITES if name in facts.target.disabled_commands]
    if lacking:
        return failed(
            "target_commands",
            "the target does not allow %s" % ", ".join(lacking),
            "Allow them for this user for the time of the migration",
        )
    return passed("target_commands", "the target allows every command that is needed")


def source_commands(facts: Facts) -> Optional[Check]:
    """Where there is no PSYNC the source must let keys be read."""
    source = facts.source
    if source is None or not source.reachable:
        return None
    lacking = [name for name in _READS if name in source.disabled_commands]
    if not lacking or source.psync:
        return passed("source_commands", "the source can be read")
    message = "the source allows neither PSYNC nor %s" % " and ".join(lacking)
    if facts.files:
        return warned("source_commands", message, "The backup files are enough")
    return failed("source_commands", message, "Allow them, name the nodes behind a proxy in shards, or import a backup file")


def read_only(facts: Facts) -> Optional[Check]:
    """The target takes writes."""
    if not facts.target.reachable:
        return None
    if facts.target.read_only:
        return failed("target_read_only", "the target refuses writes", "Give the master's address and a user that may write")
    return passed("target_read_only", "the target takes writes")


def slots(facts: Facts) -> List[Check]:
    """Every slot of a Redis Cluster has a master."""
    found = []
    for role, side in (("source", facts.source), ("target", facts.target)):
        if side is not None and side.reachable and side.topology == "redis_cluster":
            found.append(_slots_of(role, side))
    return found


def _slots_of(role: str, side: Side) -> Check:
    if not side.missing_slots:
        return passed(role + "_slots", "every slot of the %s has a master" % role)
    return failed(
        role + "_slots",
        "%d slots of the %s have no master" % (side.missing_slots, role),
        "Bring the missing masters back, or assign the slots (redis-cli --cluster fix)",
    )
