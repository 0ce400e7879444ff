#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compatibility_info
short_description: Judges whether and how a source can be migrated to a target
version_added: 1.0.0
author:
  - DCS Migration contributors (@dcs-migration)
description:
  - Says before the first byte is moved which ways lead from a source to a target, which is the best, and what will not work.
  - Each endpoint is either looked at, or only described by provider, topology and version.
  - An endpoint that does not answer is a failed check, not a failed module.
  - No data is changed. Behind a proxy that hides its version, M(dcs.migration.instance_info) describes what happens.
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.info_module
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.endpoint.source_described
  - dcs.migration.endpoint.target_described
options:
  backup_files:
    description:
      - Backup files that are at hand, RDB or AOF.
      - Each is a path where the module runs, or an element of RV(dcs.migration.backup_file_info#module:files), which knows
        more about the file.
      - At least one of O(source) and O(backup_files) is needed.
    type: list
    elements: raw
  db_map:
    description:
      - "Which database of the source goes to which of the target, for example V({1: 0})."
      - Databases that are not named keep their number.
    type: dict
    default: {}
  databases:
    description:
      - Only these databases of the source are to be migrated. All of them if left out.
    type: list
    elements: int
  bucket_region:
    description:
      - Region of the bucket that backup files are read from, to compare it with O(target_region).
    type: str
  target_region:
    description:
      - Region of the target.
    type: str
seealso:
  - module: dcs.migration.instance_info
    description: Looks at one deployment.
  - module: dcs.migration.backup_file_info
    description: Looks inside backup files.
"""

EXAMPLES = r"""
---
- name: Judge a pair
  dcs.migration.compatibility_info:
    source:
      addresses: ["10.0.0.5:6379"]
      password: "{{ source_password }}"
    target:
      addresses: ["10.0.1.5:6379"]
      provider: dcs
      password: "{{ target_password }}"
  register: verdict

- name: Stop where it will not work
  ansible.builtin.assert:
    that: verdict.compatible
    fail_msg: "{{ verdict.checks | selectattr('status', 'equalto', 'fail') | map(attribute='message') | join('; ') }}"

- name: Ask about a pair that does not exist yet
  dcs.migration.compatibility_info:
    source:
      provider: other
      topology: redis_cluster
      version: "7.0"
    target:
      provider: dcs
      topology: proxy_cluster
      version: "5.0"

- name: Ask about backup files and a cluster, with two databases merged into one
  dcs.migration.compatibility_info:
    backup_files:
      - /backup/shard-0.rdb
      - /backup/shard-1.rdb
    target:
      addresses: ["10.0.1.5:6379"]
    db_map:
      "1": 0
"""

RETURN = r"""
compatible:
  description: Whether no check failed and the recommended mode is supported.
  returned: success
  type: bool
recommended_mode:
  description: The best of RV(modes) by its name.
  returned: success
  type: str
  sample: online
modes:
  description: The ways of migrating.
  returned: success
  type: list
  elements: dict
  contains:
    mode:
      description:
        - V(import_rdb) and V(import_aof) import backup files, from a bucket or from disk.
        - V(import_from_instance) takes a backup of O(source) and imports it.
        - V(online) follows O(source) until the switch-over.
        - The last two are only listed if O(source) is given.
      type: str
      returned: success
    dcs:
      description: The cloud service's own verdict, V(Y) or V(x).
      type: str
      returned: success
    supported:
      description: Whether this collection can do it.
      type: bool
      returned: success
    reasons:
      description: How it does it, or why it cannot.
      type: list
      elements: str
      returned: success
checks:
  description: What was checked. A check whose facts are unknown is left out.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Name of the check. It never changes.
      type: str
      returned: success
      sample: memory
    status:
      description: V(pass), V(warn) or V(fail).
      type: str
      returned: success
    message:
      description: What was found.
      type: str
      returned: success
    remedy:
      description: What to do about it. Empty for V(pass).
      type: str
      returned: success
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils import _deps
from ansible_collections.dcs.migration.plugins.module_utils._argspec import endpoint_option
from ansible_collections.dcs.migration.plugins.module_utils._plan.pair import judge_pair
from ansible_collections.dcs.migration.plugins.module_utils._results import run


def _judge(params: Dict[str, Any]) -> Dict[str, Any]:
    """Options -> verdict -> result."""
    verdict = judge_pair(
        params["source"],
        params["target"],
        params["backup_files"] or [],
        db_map=params["db_map"],
        databases=params["databases"],
        bucket_region=params["bucket_region"] or "",
        target_region=params["target_region"] or "",
    )
    return {"changed": False, **verdict.as_dict()}


def main() -> None:
    """Judge the pair and report the verdict."""
    module = AnsibleModule(
        argument_spec={
            "source": endpoint_option(required=False, described=True),
            "target": endpoint_option(described=True),
            "backup_files": {"type": "list", "elements": "raw"},
            "db_map": {"type": "dict", "default": {}},
            "databases": {"type": "list", "elements": "int"},
            "bucket_region": {"type": "str"},
            "target_region": {"type": "str"},
        },
        required_one_of=[("source", "backup_files")],
        supports_check_mode=True,
    )
    if not module.params["source"] and not module.params["backup_files"]:
        module.fail_json(msg="Neither source nor backup_files says what is to be migrated.")
    _deps.validate(module, "redis")
    run(module, lambda: _judge(module.params))


if __name__ == "__main__":
    main()
