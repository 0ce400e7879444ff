#!/usr/bin/python

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: online_sync_info
short_description: Reports online synchronisations
version_added: 1.0.0
description:
  - Says how far the tasks of M(dcs.migration.online_sync) on this host are.
  - Neither source nor target nor a running worker is needed for it.
author:
  - DCS Migration contributors (@dcs-migration)
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.info_module
  - dcs.migration.attributes.actiongroup_migration
options:
  name:
    description:
      - Report this task only. One that does not exist gives an empty list.
    type: str
  state_dir:
    description:
      - The folder of all tasks, on the host where the task runs.
    type: path
    default: ~/.local/state/dcs_migration/tasks
requirements:
  - redis >= 5.0.1 (Python library)
seealso:
  - module: dcs.migration.online_sync
"""

EXAMPLES = r"""
- name: Look at all tasks
  dcs.migration.online_sync_info:
  register: sync

- name: Name those that a person should look at
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.status }} {{ item.error }}"
  loop: "{{ sync.tasks }}"
  loop_control:
    label: "{{ item.name }}"
  when: item.status == 'failed' or item.warnings
"""

RETURN = r"""
tasks:
  description:
    - The tasks in alphabetical order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the task.
      type: str
      sample: orders
    status:
      description:
        - V(pending) has not begun yet, V(full_migrating) copies the data, V(incr_migrating) follows the source.
        - V(stopped) halts until it is started again, V(succeeded) has ended well, V(failed) has ended with RV(tasks[].error).
      type: str
      sample: incr_migrating
    following:
      description:
        - Whether the streams are being applied now, and the offsets of RV(tasks[].shards) are of the last seconds.
        - With V(false) while RV(tasks[].status) is V(incr_migrating), RV(tasks[].error) or RV(tasks[].warnings) say what is in the way.
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
      description: When it came into RV(tasks[].status), in seconds since the epoch.
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

from ansible_collections.dcs.migration.plugins.module_utils._deps import validate
from ansible_collections.dcs.migration.plugins.module_utils._results import run
from ansible_collections.dcs.migration.plugins.module_utils._sync.report import info


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str"},
        "state_dir": {"type": "path", "default": "~/.local/state/dcs_migration/tasks"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    validate(module, "redis")

    def work() -> Dict[str, Any]:
        return {"changed": False, "tasks": info(module.params["state_dir"], module.params["name"])}

    run(module, work)


if __name__ == "__main__":
    main()
