# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks ``online`` and ``migrate``, and the role that prepares workers. Few tests, since each run takes seconds."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._sync.control import apply
from ansible_collections.dcs.migration.plugins.module_utils._sync.folder import task_names
from ansible_collections.dcs.migration.plugins.module_utils._sync.report import info
from ansible_collections.dcs.migration.tests.e2e.playbooks import Run, run_playbook, write_inventory
from ansible_collections.dcs.migration.tests.support.modules import collections_path
from ansible_collections.dcs.migration.tests.support.servers import RedisServer, wait_until

PASSWORD = "open-sesame-42"
WORKER = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}

# (playbook, pairs with variables without their prefix, options of ansible-playbook)
Play = Callable[..., Run]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state folder of a test; no worker of a task in it outlives the test."""
    folder = tmp_path / "state"
    yield folder
    for name in task_names(str(folder / "tasks")):
        apply({"name": name, "state_dir": str(folder / "tasks"), "state": "stopped"})


@pytest.fixture
def play(tmp_path: Path, state: Path) -> Play:
    def run(playbook: str, pairs: dict[str, dict[str, Any]], *options: str) -> Run:
        hosts = {pair: {"dcs_migration_" + name: value for name, value in found.items()} for pair, found in pairs.items()}
        everything = {
            "hosts": hosts,
            "vars": {"dcs_migration_state_dir": str(state)},
            "children": {"sync_workers": {"hosts": {"worker-1": WORKER}}},
        }
        inventory = write_inventory(tmp_path / "inventory.yml", {"all": everything})
        return run_playbook(playbook, inventory, *options, work=tmp_path)

    return run


def assert_succeeded(run: Run, **changed: bool) -> None:
    assert run.status == 0, run.output
    assert {host: counts["changed"] > 0 for host, counts in run.recap.items()} == changed, run.output


def test_online(play: Play, state: Path, server: Callable[..., RedisServer], shared_server: Callable[..., RedisServer]) -> None:
    """Two pairs on a worker: rehearsed, brought in sync, found in sync; they go on when the playbook has ended."""
    orders, carts = server("redis-6.2", password=PASSWORD), shared_server("redis-6.2", 0)
    orders_to, carts_to = shared_server("redis-6.2", 1), shared_server("valkey-9.1")
    orders.client().set("first", "value")
    carts.client().set("first", "value")
    carts.client().set("tmp:1", "value")
    pairs = {
        "orders": {"source": {"addresses": [orders.address], "password": PASSWORD}, "target": {"addresses": [orders_to.address]}},
        "carts@shop": {
            "source": {"addresses": [carts.address]},
            "target": {"addresses": [carts_to.address]},
            "exclude_keys": ["tmp:*"],
            "bandwidth_limit": "50M",
        },
    }
    rehearsal = play("dcs.migration.online", pairs, "--check")
    assert_succeeded(rehearsal, **{"orders": True, "carts@shop": True})
    assert "orders: would set up the task, start the worker" in rehearsal.messages and not state.exists()

    first = play("dcs.migration.online", pairs, "-vvv")
    assert_succeeded(first, **{"orders": True, "carts@shop": True})
    assert PASSWORD not in first.output and "[orders -> worker-1" in first.output
    assert any(text.startswith("orders: incr_migrating, 1 keys and ") for text in first.messages), first.messages
    assert first.value("dcs_migration_result")["task"]["status"] == "incr_migrating"
    assert [task["name"] for task in info(str(state / "tasks"))] == ["carts_shop", "orders"]
    for source, target in ((orders, orders_to), (carts, carts_to)):
        source.client().set("later", "value")
        wait_until(lambda: target.client().exists("later"), "the task goes on")  # noqa: B023
        assert target.client().exists("first") and not target.client().exists("tmp:1")

    again = play("dcs.migration.online", pairs)
    assert_succeeded(again, **{"orders": False, "carts@shop": False})


def test_migrate_goes_the_way_of_each_pair(
    play: Play, state: Path, server: Callable[..., RedisServer], shared_server: Callable[..., RedisServer]
) -> None:
    """Online where a stream is to be had, else through a backup; a pair's own wish comes first."""
    followed = shared_server("redis-6.2", 0)
    closed = server("redis-6.2", rename={"PSYNC": "", "SYNC": ""})
    targets = [shared_server("redis-6.2", number) for number in (1, 2, 3)]
    for source in (followed, closed):
        source.client().set("first", "value")
    pairs: dict[str, dict[str, Any]] = {
        "followed": {"source": {"addresses": [followed.address]}, "target": {"addresses": [targets[0].address]}},
        "closed": {"source": {"addresses": [closed.address]}, "target": {"addresses": [targets[1].address]}},
        "wished": {
            "source": {"addresses": [followed.address]},
            "target": {"addresses": [targets[2].address]},
            "mode": "import_from_instance",
        },
    }
    run = play("dcs.migration.migrate", pairs)
    assert_succeeded(run, followed=True, closed=True, wished=True)
    assert [target.client().get("first") for target in targets] == [b"value"] * 3
    assert task_names(str(state / "tasks")) == ["followed"]


def test_what_cannot_be_started_is_told(play: Play, state: Path, shared_server: Callable[..., RedisServer]) -> None:
    pairs = {
        "orders": {
            "source": {"addresses": [shared_server("redis-6.2").address]},
            "target": {"addresses": ["127.0.0.1:1"], "password": PASSWORD},
        }
    }
    run = play("dcs.migration.online", pairs)
    assert run.status == 2 and any("127.0.0.1:1" in text for text in run.messages), run.output
    assert PASSWORD not in run.output and not state.exists()


def test_a_worker_is_prepared(tmp_path: Path, state: Path, play: Play) -> None:
    """Its packages are there already, systemd is not: what is left is the folder."""
    book = tmp_path / "prepare.json"
    book.write_text(
        json.dumps([{"hosts": "sync_workers", "gather_facts": False, "roles": ["dcs.migration.sync_worker"]}]), encoding="utf-8"
    )
    systemd_off = ("--extra-vars", "dcs_migration_worker_systemd=false dcs_migration_worker_install=false")
    assert_succeeded(play(str(book), {}, "--check", *systemd_off), **{"worker-1": True})
    assert not state.exists()
    assert_succeeded(play(str(book), {}, *systemd_off), **{"worker-1": True})
    assert stat.S_IMODE((state / "tasks").stat().st_mode) == 0o700
    assert_succeeded(play(str(book), {}, *systemd_off), **{"worker-1": False})


@pytest.mark.matrix
@pytest.mark.parametrize("folder", ["~/.local/state/dcs_migration", "/var/lib/dcs migration"])
def test_systemd_takes_the_unit(tmp_path: Path, play: Play, folder: str) -> None:
    """``systemd-analyze`` comes with systemd, which need not run for it."""
    template = collections_path() / "ansible_collections/dcs/migration/roles/sync_worker/templates/dcs-migration-sync@.service.j2"
    unit = tmp_path / "dcs-migration-sync@.service"
    tasks = [
        {"name": "Find Python", "ansible.builtin.setup": {"gather_subset": ["!all", "!min", "python"]}},
        {"name": "Write", "ansible.builtin.template": {"src": str(template), "dest": str(unit), "mode": "0644"}},
    ]
    book = tmp_path / "unit.json"
    book.write_text(json.dumps([{"hosts": "sync_workers", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    run = play(str(book), {}, "--extra-vars", json.dumps({"dcs_migration_state_dir": folder}))
    assert run.status == 0, run.output
    instance = tmp_path / "dcs-migration-sync@orders.service"
    instance.symlink_to(unit)
    assert 'tasks/%i/engine.zip"\n' in unit.read_text(encoding="utf-8"), "one argument, whatever the folder is called"
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(instance)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    ours = [line for line in verdict.stdout.splitlines() if "dcs-migration-sync" in line]
    assert verdict.returncode == 0 and not ours, verdict.stdout + unit.read_text(encoding="utf-8")
