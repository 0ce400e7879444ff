# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``make demo`` shows: a Redis with several databases moves into a Valkey cluster with the real playbooks: by way of a bucket, then online.

Everything runs on the loopback interface and in a temporary folder, and ends with this program. The log of Ansible stays.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import yaml

from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import TaskFolder
from ansible_collections.dcs.migration.tests.e2e.playbooks import Run, run_playbook, write_inventory
from ansible_collections.dcs.migration.tests.support.live_writer import LiveWriter
from ansible_collections.dcs.migration.tests.support.logical import Snapshot, differences, snapshot
from ansible_collections.dcs.migration.tests.support.modules import run_module
from ansible_collections.dcs.migration.tests.support.online import forgive_groups, settle
from ansible_collections.dcs.migration.tests.support.realistic import populate_realistic
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, S3Server

PAIR = "orders"
BUCKET = "backups"
PASSWORDS = ("source-password-1842", "target-password-7309")
# Readings of one expiry on two servers, one of which tells only what is left of it.
TTL_TOLERANCE_MS = 50
# Online, Redis 6.2 tells how long a key has to live, not when it dies: as exact as the moment of arrival is known.
ONLINE_TOLERANCE_MS = 2000
# One write in eight goes to a key that is there already: this gives 100,000 keys.
WRITES = 114_200
# Of the application that goes on writing, and for how long (seconds) after the worker was killed.
WRITES_PER_SECOND = 2000
LINGER = 3.0
WIDTH = 100
MIB = 1 << 20


class DemoError(Exception):
    """Something was not as it must be."""


def heading(text: str) -> None:
    print("\n%s\n%s" % (text, "-" * len(text)), flush=True)


def say(text: str) -> None:
    print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "), flush=True)


class Demo:
    """The servers, the inventory and the log."""

    def __init__(self, work: Path, log: TextIO, writes: int, stack: ExitStack) -> None:
        self._work = work
        self._log = log
        self._writes = writes
        self._source = stack.enter_context(RedisServer("redis-6.2", password=PASSWORDS[0]))
        self._target = stack.enter_context(RedisCluster("valkey-9.1", password=PASSWORDS[1]))
        self._s3 = stack.enter_context(S3Server())
        (self._s3.root / BUCKET).mkdir()

    def run(self) -> None:
        self._fill()
        self._show_inventory()
        self._preflight()
        rehearsal = self._play("3. Rehearse it: --check", "import_from_instance", "--check")
        self._require(self._target_keys() == 0, "the rehearsal wrote into the target")
        self._require(rehearsal.status == 0, "the rehearsal failed")
        first = self._play("4. Migrate: backup, bucket, import", "import_from_instance", "-v")
        self._require(first.status == 0, "the migration failed")
        second = self._play("5. Run it again: nothing left to do", "import_from_instance")
        self._require(second.status == 0 and second.recap[PAIR]["changed"] == 0, "the second run was not without changes")
        self._prove(first.value("dcs_migration_result"))
        self._go_online()

    # -- before ----------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        heading("1. The servers")
        began = time.monotonic()
        populate_realistic(self._source.client(), self._writes)
        seconds = time.monotonic() - began
        databases = self._source.info("keyspace")
        say("source: Redis %s on %s" % (self._source.info("server")["redis_version"], self._source.address))
        say("target: Valkey %d.%d cluster of three masters on %s" % (*self._target.version, ", ".join(self._target.addresses)))
        say("bucket: %s, on an S3 service on %s" % (BUCKET, self._s3.endpoint_url))
        say(
            "%s keys written into the source in %.1f s: %s"
            % (
                format(sum(one["keys"] for one in databases.values()), ","),
                seconds,
                ", ".join("%s %s (%s with expiry)" % (name, one["keys"], one["expires"]) for name, one in databases.items()),
            )
        )

    def _pair(self, **more: Any) -> dict[str, Any]:
        return {
            "dcs_migration_source": {"addresses": [self._source.address], "password": PASSWORDS[0]},
            "dcs_migration_target": {
                "addresses": self._target.addresses,
                "password": PASSWORDS[1],
                "topology": "redis_cluster",
            },
            "dcs_migration_bucket": {
                "bucket": BUCKET,
                "endpoint_url": self._s3.endpoint_url,
                "region": self._s3.region,
                "access_key": self._s3.access_key,
                "secret_key": self._s3.secret_key,
            },
            "dcs_migration_state_dir": str(self._work / "state"),
            **more,
        }

    def _inventory(self, **more: Any) -> None:
        self._path = write_inventory(self._work / "inventory.yml", {"all": {"hosts": {PAIR: self._pair(**more)}}})

    def _show_inventory(self) -> None:
        heading("2. Preflight: what will not work, before the first byte")
        self._inventory()
        text = yaml.safe_dump({PAIR: self._pair()}, sort_keys=False, width=WIDTH)
        for secret in (*PASSWORDS, self._s3.access_key, self._s3.secret_key):
            text = text.replace(secret, "********")
        print(textwrap.indent(text.replace(str(self._work), "..."), "  | "), flush=True)

    def _preflight(self) -> None:
        say("The source uses three databases, a cluster has one:")
        refused = self._play(None, "preflight")
        self._require(refused.status != 0 and self._target_keys() == 0, "the preflight did not refuse")
        say("Now with dcs_migration_db_map: {0: 0, 1: 0, 2: 0}, and dcs_migration_on_conflict: fail should a name occur twice:")
        self._inventory(dcs_migration_db_map={0: 0, 1: 0, 2: 0}, dcs_migration_on_conflict="fail")
        self._require(self._play(None, "preflight").status == 0, "the preflight refused")

    # -- running ---------------------------------------------------------------------------------------------------

    def _play(self, title: str | None, name: str, *options: str) -> Run:
        if title:
            heading(title)
        playbook = "dcs.migration." + name
        print("  $ ansible-playbook %s" % " ".join([playbook, "-i inventory.yml", *options]), flush=True)
        run = run_playbook(playbook, self._path, *options, work=self._work)
        self._log.write("$ ansible-playbook %s\n%s\n" % (" ".join([playbook, *options]), run.output))
        self._log.flush()
        for message in run.messages:
            print(textwrap.fill(message, WIDTH, initial_indent="    ", subsequent_indent="      "))
        counts = run.recap.get(PAIR, {})
        shown = ("ok", "changed", "failed")
        print("    %s   (%.1f s)\n" % (" ".join("%s=%d" % (name, counts.get(name, 0)) for name in shown), run.seconds), flush=True)
        for secret in (*PASSWORDS, self._s3.secret_key):
            self._require(secret not in run.output, "a secret is in the output of Ansible")
        return run

    def _target_keys(self) -> int:
        return sum(int(client.dbsize()) for client in self._target.clients())

    @staticmethod
    def _require(condition: bool, otherwise: str) -> None:
        if not condition:
            raise DemoError(otherwise)

    # -- after -----------------------------------------------------------------------------------------------------

    def _prove(self, result: dict[str, Any]) -> None:
        heading("6. Compare both sides, value by value, without the collection's own code")
        there, here, seconds = self._compare()
        stats = result["stats"]
        rows = [
            ("moved", "%s keys, %.1f MiB of backup" % (format(stats["keys"], ","), stats["bytes"] / MIB)),
            (
                "speed",
                "import %.2f s: %s keys/s, %.1f MiB/s"
                % (
                    stats["seconds"],
                    format(round(stats["keys"] / stats["seconds"]), ","),
                    stats["bytes"] / stats["seconds"] / MIB,
                ),
            ),
            ("", "%.1f s with preflight, backup and upload" % result["seconds"]),
        ]
        self._table([*rows, self._compared(there, seconds), ("second run", "changed nothing")], there, here)

    def _compare(self, tolerance_ms: int = TTL_TOLERANCE_MS, followed: bool = False) -> tuple[Snapshot, Snapshot, float]:
        """Both sides, as they are, and how long it took to see that they are equal."""
        began = time.monotonic()
        there = {(0, key): entry for (_db, key), entry in snapshot(self._source.client()).items()}
        here = snapshot(self._target.clients())
        if followed:
            # A replica of the newer version would not have these pending entries, either.
            forgive_groups(there, here, other_version=True)
        problems = list(differences(there, here, tolerance_ms, ("source", "target")))
        for problem in problems[:10]:
            say(problem)
        self._require(not problems, "%d keys differ" % len(problems))
        sizes = sum(one["keys"] for one in self._source.info("keyspace").values()), self._target_keys(), len(there)
        self._require(len(set(sizes)) == 1, "DBSIZE of the source, of the target, and keys compared: %d, %d, %d" % sizes)
        return there, here, time.monotonic() - began

    @staticmethod
    def _compared(there: Snapshot, seconds: float) -> tuple[str, str]:
        expiring = sum(1 for entry in there.values() if entry.expire_ms is not None)
        return "compared", "%s values and %s expiries, in %.1f s" % (format(len(there), ","), format(expiring, ","), seconds)

    @staticmethod
    def _table(rows: Sequence[tuple[str, str]], there: Snapshot, here: Snapshot) -> None:
        types = Counter(entry.type for entry in there.values()), Counter(entry.type for entry in here.values())
        print("\n  %-10s %12s %12s" % ("type", "source", "target"))
        for kind in sorted(types[0] | types[1]):
            print("  %-10s %12s %12s" % (kind, format(types[0][kind], ","), format(types[1][kind], ",")))
        print("  %-10s %12s %12s" % ("all", format(len(there), ","), format(len(here), ",")))
        print()
        for name, text in rows:
            print("  %-10s %s" % (name, text))

    # -- online ------------------------------------------------------------------------------------------------------

    def _go_online(self) -> None:
        heading("7. The same online: an application writes all the while, and the worker is killed once")
        self._target.flush()
        self._inventory(dcs_migration_db_map={0: 0, 1: 0, 2: 0}, dcs_migration_on_conflict="replace")
        folder = TaskFolder(str(self._work / "state" / "tasks"), PAIR)
        began = time.monotonic()
        # Expiries of a moment are left out of the comparison by waiting for them.
        with LiveWriter(self._source, seed=7, rate=WRITES_PER_SECOND, flush=False) as writer:
            try:
                started = self._play(None, "online")
                self._require(started.status == 0, "the online migration did not come in sync")
                killed = (folder.read("worker.json") or {})["applier"]
                os.kill(killed, signal.SIGKILL)
                say("SIGKILL to process %d, which writes into the target; its watchdog starts another one." % killed)
                again = self._play(None, "online")
                self._require(again.status == 0, "it did not come in sync again")
                time.sleep(LINGER)
            finally:
                writer.stop()
            wrote = time.monotonic() - began
            settle(self._source)
            say("The application has stopped; state: finished drains what is left and removes what the task kept in the target.")
            ended = run_module("online_sync", {"name": PAIR, "state": "finished", "state_dir": str(self._work / "state" / "tasks")})
            self._log.write(ended.pop("_output"))
            self._require(not ended.get("failed"), ended.get("msg", "it could not be finished"))
        settle(self._target)
        there, here, seconds = self._compare(ONLINE_TOLERANCE_MS, followed=True)
        task = ended["task"]
        rows = [
            ("snapshot", "%s keys" % format(task["keys"], ",")),
            (
                "meanwhile",
                "%s commands of %d kinds in %.0f s; %s reached the target"
                % (format(writer.sent, ","), len(writer.used), wrote, format(task["commands"], ",")),
            ),
            ("killed", "once; the applier was started %d times" % (task["worker"]["restarts"]["applier"] + 1)),
            self._compared(there, seconds),
        ]
        self._table(rows, there, here)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo", description="Migrate a Redis into a Valkey cluster on this machine.")
    parser.add_argument("--writes", type=int, default=WRITES, help="writes to the source, an eighth of them to few keys (default: %(default)s)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("w", prefix="dcs-migration-demo-", suffix=".log", delete=False, encoding="utf-8") as log:
        try:
            with ExitStack() as stack:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dcs-migration-demo-")))
                Demo(work, log, options.writes, stack).run()
        except DemoError as exc:
            print("\nFAILED: %s. What Ansible printed: %s" % (exc, log.name))
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; nothing runs on. What Ansible printed: %s" % log.name)
            return 130
    print("\n  Both sides are equal. %.0f s in all; what Ansible printed: %s" % (time.monotonic() - began, log.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
