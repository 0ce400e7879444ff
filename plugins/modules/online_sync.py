#!/usr/bin/python

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: online_sync
short_description: Keeps a target in sync with a Redis source that is in use
version_added: 1.0.0
description:
  - Copies all data of a source into a target, then follows the source's replication stream until it is told to finish. The source stays
    in use all the time.
  - The work is done by a I(worker), which goes on when the module has ended. The module starts it, changes it, waits for it and ends it.
  - Each command of the source is applied exactly once, whatever is cut off, killed or restarted on the way. A task that was stopped or
    broken off goes on from where it was.
  - The source is read with PSYNC, or SYNC where it knows no other, from every master. Topologies and versions of source and target may differ.
  - What the source sends is kept on the disk of the host where the task runs until the target has it, so that a slow target does not make
    the source break off the replication.
author:
  - DCS Migration contributors (@dcs-migration)
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.task
attributes:
  check_mode:
    support: full
    details:
      - RV(actions) says what would be done. Nothing is waited for.
      - Before the first start both deployments are connected to, and what stands against that makes the module fail.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - With O(state=finished) a task that has not ended yet is asked anew, since the source has moved on.
options:
  name:
    description:
      - Name of the task. It is also the name of its folder in O(state_dir).
      - Up to 64 letters, digits, dots, dashes and underscores.
    type: str
    required: true
  state:
    description:
      - With V(present) the task is set up.
      - With V(started) its worker also runs. A task that has succeeded is not started again. With V(started) and V(synced) a request to finish
        that is not fulfilled yet is taken back.
      - With V(synced) the data has also been copied, the streams are being applied, and no shard is more than O(max_lag_bytes) behind. With
        O(method=full) the task has ended.
      - With V(finished) everything has been applied that was written to the source before the module was called, nothing of the task is
        left in the target, and the worker has ended. Stop the writers first if the source shall have nothing that the target has not.
      - With V(stopped) the worker has ended and can be started again.
      - With V(absent) it has also been forgotten. The data in the target stays, apart from what the task needed for itself.
    type: str
    choices: [present, started, synced, finished, stopped, absent]
    default: started
  method:
    description:
      - V(full) copies the data as it is at the start and ends then. V(full_incremental) goes on with what is written afterwards.
      - If left out, V(full_incremental), or what the task has.
    type: str
    choices: [full, full_incremental]
  on_conflict:
    description:
      - What to do with a key of the snapshot that the target has already.
      - With V(replace) the source wins, with V(skip) the target, and with V(fail) the task ends with an error that names the key.
      - If left out, V(replace), or what the task has.
    type: str
    choices: [replace, skip, fail]
  clear_target:
    description:
      - Delete everything in the target, in all databases, before the first key is written.
      - If left out, V(false), or what the task has.
    type: bool
  db_map:
    description:
      - Source database to target database. Databases that are not named keep their number.
      - A cluster or proxy has database 0 only.
    type: dict
  databases:
    description:
      - Take these source databases only.
    type: list
    elements: int
  include_keys:
    description:
      - Take only keys that match one of these patterns, which are written as for the Redis command C(KEYS).
    type: list
    elements: str
  exclude_keys:
    description:
      - Leave out keys that match one of these patterns.
    type: list
    elements: str
  bandwidth_limit:
    description:
      - Bytes per second at most that are written to the target, as a number or like V(10M). V(0) is no limit.
      - If left out, V(0), or what the task has.
    type: bytes
  auto_reconnect:
    description:
      - Whether to try a lost source for ever, and to copy the data anew where the source cannot go on from where it was.
      - With V(false) the task fails after some tries.
      - If left out, V(true), or what the task has.
    type: bool
  max_lag_bytes:
    description:
      - How far each shard may be behind to count as in sync, as a number of bytes or like V(64K).
      - If left out, V(64K), or what the task has.
    type: bytes
  spool_limit:
    description:
      - Bytes at most that are kept on the disk of this host, as a number or like V(10G). Then the source has to wait. V(1M) is the least.
      - Where the source has several masters each has a share of its own, so that it may become nearly twice as much. What is longer than the
        limit, one command or a transaction, is taken in whole.
      - If left out, V(10G), or what the task has.
    type: bytes
  state_dir:
    description:
      - The folder of all tasks, on the host where the task runs. Each has a folder of its own in it, which only its owner can read.
      - It holds the passwords of source and target, and data of the source.
    type: path
    default: ~/.local/state/dcs_migration/tasks
  wait_timeout:
    description:
      - Seconds to wait for V(synced) and V(finished). When they are over the module fails, and the task goes on.
    type: int
    default: 600
  force:
    description:
      - With O(state=absent), forget the task also when the target cannot be reached to remove what is the task's own.
    type: bool
    default: false
notes:
  - An option that is left out keeps what the task has, so that a task needs no more than its O(name) once it is set up.
  - O(bandwidth_limit), O(auto_reconnect), O(max_lag_bytes) and O(spool_limit) can be changed at any time. Users, passwords and options of TLS
    can be changed while the task is stopped. Everything else is fixed once data has been copied; begin again with O(state=absent) for that.
  - The task runs from a copy of this collection in its folder. A new release takes effect when the task is stopped and started again.
  - Where systemd has the unit C(dcs-migration-sync@.service), which the role P(dcs.migration.sync_worker#role) installs, the worker runs as that.
    Elsewhere it is a process of its own, which has to be started again after a reboot.
seealso:
  - module: dcs.migration.online_sync_info
  - module: dcs.migration.compatibility_info
"""

EXAMPLES = r"""
- name: Copy the data, and wait until the target is in sync
  dcs.migration.online_sync:
    name: orders
    state: synced
    source:
      addresses:
        - 192.0.2.10:6379
      password: "{{ source_password }}"
    target:
      addresses:
        - 192.0.2.21:6379
        - 192.0.2.22:6379
      topology: redis_cluster
      password: "{{ target_password }}"
    bandwidth_limit: 50M
    wait_timeout: 3600

- name: Let it run faster at night
  dcs.migration.online_sync:
    name: orders
    bandwidth_limit: 0

- name: Finish, now that nobody writes to the source any more
  dcs.migration.online_sync:
    name: orders
    state: finished

- name: Remove what is left of it on this host
  dcs.migration.online_sync:
    name: orders
    state: absent
"""

RETURN = r"""
actions:
  description:
    - What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: [set up the task, start the worker]
task:
  description:
    - The task as it is now, also when the module fails. With O(state=absent) as it was.
  returned: always; empty where there is no such task
  type: dict
  contains:
    name:
      description: Name of the task.
      type: str
      sample: orders
    status:
      description:
        - V(pending) has not begun yet, V(full_migrating) copies the data, V(incr_migrating) follows the source.
        - V(stopped) halts until it is started again, V(succeeded) has ended well, V(failed) has ended with RV(task.error).
      type: str
      sample: incr_migrating
    following:
      description:
        - Whether the streams are being applied now, and the offsets of RV(task.shards) are of the last seconds.
        - With V(false) while RV(task.status) is V(incr_migrating), RV(task.error) or RV(task.warnings) say what is in the way.
      type: bool
      sample: true
    full_migration_progress:
      description: Percent of the snapshots that has arrived in the target.
      type: int
      sample: 100
    shards:
      description: One entry for each master of the source. Offsets are those of its replication stream.
      type: list
      elements: dict
      contains:
        source:
          description: Address of the master.
          type: str
          sample: 10.0.0.10:6379
        state:
          description: State of the link, one of V(connecting), V(waiting), V(snapshot), V(streaming), V(lost), V(ended).
          type: str
          sample: streaming
        replication_id:
          description: ID of the history that is followed.
          type: str
          sample: 8d3c1b8c2f0a4e5d9c7b6a5f4e3d2c1b0a9f8e7d
        received_offset:
          description: Up to here the stream is on the disk of this host.
          type: int
          sample: 1048576
        applied_offset:
          description: Up to here the target has it.
          type: int
          sample: 1048576
        source_offset:
          description: Where the source was when it was last asked, which is every second.
          type: int
          sample: 1048576
        lag_bytes:
          description: Bytes that the target is behind.
          type: int
          sample: 0
        lag_seconds:
          description: Age of the oldest byte that the target does not have.
          type: float
          sample: 0.0
        reconnects:
          description: How often a lost link was taken up again.
          type: int
          sample: 0
        full_syncs:
          description: How often the data was copied from the beginning. More than one means that the source could not go on from where it was.
          type: int
          sample: 1
        error:
          description: Why the link is lost.
          type: str
          sample: null
    keys:
      description: Keys of snapshots written.
      type: int
      sample: 1000000
    skipped:
      description: Keys of snapshots that the target had already and kept.
      type: int
      sample: 0
    expired:
      description: Keys of snapshots that had expired, and were not written.
      type: int
      sample: 0
    commands:
      description: Commands of the streams applied.
      type: int
      sample: 52000
    copied:
      description: Keys copied afresh, because a command for them could not be applied as it was.
      type: int
      sample: 0
    bytes:
      description: Bytes of snapshots and streams taken from the disk.
      type: int
      sample: 113888992
    bytes_per_second:
      description: The same by time, over the last seconds.
      type: int
      sample: 8123456
    ops_per_second:
      description: Keys and commands by time, over the last seconds.
      type: int
      sample: 90000
    errors:
      description: How many errors came in the way, also those that were overcome.
      type: int
      sample: 0
    error:
      description: Why the task failed, or what it tries to overcome.
      type: str
      sample: null
    warnings:
      description: What a person may want to look at although the task goes on.
      type: list
      elements: str
      sample: []
    since:
      description: When it came into RV(task.status), in seconds since the epoch.
      type: float
      sample: 1795372800.0
    spool_bytes:
      description: Bytes that were received and are kept on the disk of this host.
      type: int
      sample: 67108864
    spool_limit:
      description: How many they may become.
      type: int
      sample: 10737418240
    worker:
      description: The processes that do the work.
      type: dict
      contains:
        running:
          description: Whether they run.
          type: bool
          sample: true
        pid:
          description: Process ID of the one to end them by.
          type: int
          sample: 4711
        restarts:
          description: How often each of them died and was started again, by name.
          type: dict
          sample: {"applier": 0, "receiver": 0}
    method:
      description: As the option of M(dcs.migration.online_sync).
      type: str
      sample: full_incremental
    source:
      description: Address of the source.
      type: str
      sample: 10.0.0.10:6379
    target:
      description: Address of the target.
      type: str
      sample: 10.1.0.10:6379 (+2)
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils._argspec import endpoint_option
from ansible_collections.dcs.migration.plugins.module_utils._deps import validate
from ansible_collections.dcs.migration.plugins.module_utils._results import run
from ansible_collections.dcs.migration.plugins.module_utils._sync.control import apply


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "state": {
            "type": "str",
            "choices": ["present", "started", "synced", "finished", "stopped", "absent"],
            "default": "started",
        },
        "source": endpoint_option(required=False),
        "target": endpoint_option(required=False),
        # No defaults from here on: what is left out stays as it is.
        "method": {"type": "str", "choices": ["full", "full_incremental"]},
        "on_conflict": {"type": "str", "choices": ["replace", "skip", "fail"]},
        "clear_target": {"type": "bool"},
        "db_map": {"type": "dict"},
        "databases": {"type": "list", "elements": "int"},
        "include_keys": {"type": "list", "elements": "str", "no_log": False},
        "exclude_keys": {"type": "list", "elements": "str", "no_log": False},
        "bandwidth_limit": {"type": "bytes"},
        "auto_reconnect": {"type": "bool"},
        "max_lag_bytes": {"type": "bytes"},
        "spool_limit": {"type": "bytes"},
        "state_dir": {"type": "path", "default": "~/.local/state/dcs_migration/tasks"},
        "wait_timeout": {"type": "int", "default": 600},
        "force": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    validate(module, "redis", "hiredis", "anycrc")

    def work() -> Dict[str, Any]:
        return apply(module.params, module.check_mode, module.warn)

    run(module, work)


if __name__ == "__main__":
    main()
