# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks and their roles, run by ansible-playbook against real servers. Few tests, since each run takes seconds."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.e2e.playbooks import Run, run_playbook, write_inventory
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.logical import assert_same_data, snapshot
from ansible_collections.dcs.migration.tests.support.modules import collections_path
from ansible_collections.dcs.migration.tests.support.servers import RedisCluster, RedisServer, S3Server

PASSWORD = "open-sesame-42"
WRONG = "open-barley-17"
WORKER = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
PLAYBOOKS = collections_path() / "ansible_collections" / "dcs" / "migration" / "playbooks"

pytestmark = pytest.mark.timeout(300)


class Ansible:
    """An inventory of pairs, and runs with it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.state = work / "state"
        self.pairs: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, dict[str, Any]] = {}

    def pair(self, name: str, **variables: Any) -> None:
        """Add a pair; variables without their prefix."""
        self.pairs[name] = {"dcs_migration_" + key: value for key, value in variables.items()}

    def run(self, playbook: str, *options: str) -> Run:
        inventory: dict[str, Any] = {"all": {"hosts": self.pairs, "vars": {"dcs_migration_state_dir": str(self.state)}}}
        if self.workers:
            inventory["all"]["children"] = {"sync_workers": {"hosts": self.workers}}
        path = write_inventory(self.work / "inventory.yml", inventory)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return run_playbook("dcs.migration." + playbook, path, *options, work=self.work)


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    return Ansible(tmp_path)


@pytest.fixture
def bucket_options(s3: S3Server, bucket: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "endpoint_url": s3.endpoint_url,
        "region": s3.region,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
    }


def fill(server: RedisServer, *databases: int) -> None:
    populate_every_type(server.client(), server.version, server.product, databases=(0, *databases))


def succeeded(run: Run, *pairs: str) -> Run:
    assert run.status == 0 and set(run.recap) == set(pairs), run.output
    return run


def changed(run: Run) -> dict[str, bool]:
    return {host: counts["changed"] > 0 for host, counts in run.recap.items()}


def test_import_from_instance(
    ansible: Ansible,
    server: Callable[..., RedisServer],
    shared_server: Callable[..., RedisServer],
    shared_cluster: Callable[..., RedisCluster],
    s3: S3Server,
    bucket_options: dict[str, Any],
) -> None:
    """Two pairs, one through a bucket into a cluster and one without, on a worker; rehearsed, done, repeated, refreshed."""
    orders, orders_to = server("redis-6.2", password=PASSWORD), shared_cluster("valkey-9.1")
    carts, carts_to = shared_server("redis-6.2", 0), shared_server("redis-6.2", 1)
    fill(orders)
    orders.client(db=3).set("in-db-3", "value", px=3_600_000)
    fill(carts, 5)
    ansible.workers = {"worker-1": WORKER, "worker-2": WORKER}
    ansible.pair(
        "orders",
        source={"addresses": [orders.address], "password": PASSWORD},
        target={"addresses": orders_to.addresses},
        bucket={**bucket_options, "prefix": "backups"},
        db_map={3: 0},
    )
    ansible.pair("carts", source={"addresses": [carts.address]}, target={"addresses": [carts_to.address]})
    stored = s3.root / bucket_options["bucket"]

    rehearsal = succeeded(ansible.run("import_from_instance", "--check"), "orders", "carts")
    assert {"orders: would take a backup and import it", "carts: would take a backup and import it"} <= set(rehearsal.messages)
    assert not snapshot(orders_to.clients()) and not snapshot(carts_to.client())
    assert not ansible.state.exists() and not list(stored.iterdir())

    first = succeeded(ansible.run("import_from_instance", "-vvv"), "orders", "carts")
    assert changed(first) == {"orders": True, "carts": True}
    expected = {(0, key): entry for (_db, key), entry in snapshot(orders.client()).items()}
    assert_same_data(expected, snapshot(orders_to.clients()))
    assert_same_data(snapshot(carts.client()), snapshot(carts_to.client()))
    assert [path.relative_to(stored) for path in stored.rglob("*.rdb")] == [Path("backups/orders/dump.rdb")]
    assert "[orders -> worker-" in first.output and "[carts -> worker-" in first.output
    for secret in (PASSWORD, s3.secret_key):
        assert secret not in first.output
    result = first.value("dcs_migration_result")
    assert result["stats"]["keys"] > 0 and result["files"][0]["status"] == "imported" and result["backup"]["reused"] is False

    again = succeeded(ansible.run("import_from_instance"), "orders", "carts")
    assert changed(again) == {"orders": False, "carts": False}, again.output
    assert "orders: nothing to do, the backup was imported before" in again.messages

    carts.client().set("written-later", "value")
    carts_only = ("--limit", "carts", "--extra-vars", "dcs_migration_backup_max_age=0")
    succeeded(ansible.run("import_from_instance", *carts_only), "carts")
    assert_same_data(snapshot(carts.client()), snapshot(carts_to.client()))


def test_import_from_bucket(
    ansible: Ansible,
    shared_server: Callable[..., RedisServer],
    s3: S3Server,
    bucket_options: dict[str, Any],
    tmp_path: Path,
) -> None:
    """One pair with objects, one with files; the controller does the work."""
    source, one, two = (shared_server("redis-6.2", number) for number in range(3))
    fill(source)
    backup = tmp_path / "shard-1.rdb"
    backup.write_bytes(source.save().read_bytes())
    folder = s3.root / bucket_options["bucket"] / "nightly"
    folder.mkdir()
    (folder / backup.name).write_bytes(backup.read_bytes())
    ansible.pair(
        "objects",
        target={"addresses": [one.address]},
        bucket={**bucket_options, "prefix": "nightly/"},
        objects=[backup.name],
    )
    ansible.pair("files", target={"addresses": [two.address]}, files=[str(backup)], exclude_keys=["string:*"])

    rehearsal = succeeded(ansible.run("import_from_bucket", "--check", "--limit", "files"), "files")
    assert changed(rehearsal) == {"files": True}
    assert "files: would import %s" % backup in rehearsal.messages
    assert not snapshot(one.client()) and not snapshot(two.client())

    succeeded(ansible.run("import_from_bucket"), "objects", "files")
    expected = snapshot(source.client())
    assert_same_data(expected, snapshot(one.client()))
    kept = {place: entry for place, entry in expected.items() if not place[1].startswith(b"string:")}
    assert 0 < len(kept) < len(expected)
    assert_same_data(kept, snapshot(two.client()))

    again = succeeded(ansible.run("import_from_bucket"), "objects", "files")
    assert changed(again) == {"objects": False, "files": False}


def test_what_cannot_work_stops_before_the_first_byte(
    ansible: Ansible,
    server: Callable[..., RedisServer],
    shared_server: Callable[..., RedisServer],
    shared_cluster: Callable[..., RedisCluster],
) -> None:
    """Each pair fails for a reason of its own, in words; none of them stops another, none writes, none tells a secret."""
    source, guarded, cluster = shared_server("redis-6.2"), server("redis-6.2", password=PASSWORD), shared_cluster("valkey-9.1")
    source.client(db=1).set("in-db-1", "value")
    ansible.pair("databases", source={"addresses": [source.address]}, target={"addresses": cluster.addresses})
    ansible.pair(
        "password",
        source={"addresses": [guarded.address], "password": WRONG},
        target={"addresses": cluster.addresses},
    )
    ansible.pair(
        "misspelt",
        source={"addresses": [guarded.address], "pasword": WRONG},
        target={"addresses": cluster.addresses},
    )
    run = ansible.run("import_from_instance", "-vvv")
    assert run.status == 2
    assert all(counts["failed"] == 1 and counts["changed"] == 0 for counts in run.recap.values()), run.output
    # The pairs end in any order.
    databases, password = sorted(text for text in run.messages if text.startswith("Nothing was written. "))
    assert "cluster_databases: databases 1 hold keys" in databases and "Remedy: Set db_map" in databases
    assert "source_connection: %s: refuses the username or password" % guarded.address in password
    assert any("pasword" in text for text in run.messages)
    assert WRONG not in run.output and PASSWORD not in run.output
    assert not snapshot(cluster.clients()) and not ansible.state.exists()


def test_every_playbook_parses(tmp_path: Path) -> None:
    names = sorted("dcs.migration." + path.stem for path in PLAYBOOKS.glob("*.yml"))
    assert len(names) >= 3
    inventory = write_inventory(tmp_path / "inventory.yml", {"all": {"hosts": {"pair": {}}}})
    run = run_playbook(names[0], inventory, *names[1:], "--syntax-check", work=tmp_path)
    assert run.status == 0, run.output
    assert "WARNING" not in run.output
