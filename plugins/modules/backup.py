#!/usr/bin/python

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make backup files from a Redis instance
version_added: 1.0.0
description:
  - Reads all data of a single node, a master/standby pair, a Redis Cluster, or the nodes behind a proxy, over the network, and writes
    one backup file for each master into a folder on the host where the task runs.
  - The server is asked for a snapshot as a replica would (PSYNC, else SYNC). Where that is disabled or forbidden, the keys are read one by
    one (SCAN and DUMP). Such a backup is no snapshot of one moment, and keys that are written meanwhile may be missing.
  - A proxy whose nodes are not named in O(source.shards) is read key by key, where it passes SCAN and DUMP on, into one file. What was found
    is compared with what DBSIZE counts, since some proxies ask one of their nodes only.
  - While a snapshot is received its keys are counted and its checksum is verified. No file gets its final name before all files of
    all masters are complete and on the disk. Files can be read by their owner only.
  - Beside the files a note C(<name>.backup.json) says what belongs together. A new backup replaces the one before with the same O(name) in
    O(dest), also the files of masters that are gone.
  - Each snapshot costs the server a fork, as each new replica does. With O(read_from=replica) the replicas bear that.
author:
  - DCS Migration contributors (@dcs-migration)
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.endpoint.source
attributes:
  check_mode:
    support: full
    details:
      - Looks at the source and says which files would be made, and how. Nothing is written, and no snapshot is asked for.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Each run makes a new backup, unless O(max_age) says that the one in O(dest) is new enough.
requirements:
  - anycrc >= 2.0.0 (Python library)
options:
  dest:
    description:
      - The folder for the files, on the host where the task runs. It is made if it is not there.
      - It needs space for the new backup beside the one that it replaces.
    type: path
    required: true
  name:
    description:
      - What the files are called. One master gives C(<name>.rdb), several give C(<name>-shard-1-of-3.rdb) and so on, in the order of their
        slots or of O(source.shards).
      - Give backups of several deployments in one folder different names. A backup of another deployment is never replaced.
    type: str
    default: dump
  format:
    description:
      - V(rdb) is what the server itself writes. It holds everything, and is smaller and faster to import.
      - V(aof) is a file of commands without an RDB preamble, for services that import nothing else.
    type: str
    choices: [rdb, aof]
    default: rdb
  method:
    description:
      - V(psync) asks for a snapshot, and fails where neither PSYNC nor SYNC is to be had.
      - V(scan) reads key by key.
      - V(auto) takes the first where it can, else the second, and returns why in RV(reason).
    type: str
    choices: [auto, psync, scan]
    default: auto
  read_from:
    description:
      - Read the masters, or a replica of each. A replica must have its link to the master up.
      - What the replica has not received yet is not in the backup.
    type: str
    choices: [master, replica]
    default: master
  max_age:
    description:
      - If O(dest) holds a whole backup of this deployment that was made with the same options, begun at most so many seconds ago, keep it and
        change nothing.
      - V(0) always makes a new one.
    type: int
    default: 0
  parallel:
    description:
      - How many masters are read at the same time. Fewer take longer, and the moments of their snapshots lie further apart.
    type: int
    default: 4
seealso:
  - module: dcs.migration.backup_file_info
  - module: dcs.migration.backup_import
  - module: dcs.migration.bucket_upload
"""

EXAMPLES = r"""
---
- name: Back up a single node
  dcs.migration.backup:
    source:
      addresses: ["10.0.0.5:6379"]
      password: "{{ redis_password }}"
    dest: /var/backups/orders
  register: backup

- name: Upload the files
  dcs.migration.bucket_upload:
    files: "{{ backup.files | map(attribute='path') }}"
    bucket: redis-migration
    prefix: orders/

- name: Back up a Redis Cluster from its replicas, two masters at a time
  dcs.migration.backup:
    source:
      addresses: ["10.0.1.5:6379", "10.0.1.6:6379"]
      password: "{{ redis_password }}"
    dest: /var/backups/sessions
    read_from: replica
    parallel: 2

- name: Back up what is behind a proxy, unless there is a backup of the last hour
  dcs.migration.backup:
    source:
      addresses: ["10.0.3.1:22121"]
      shards: ["10.0.3.11:6379", "10.0.3.12:6379"]
    dest: /var/backups/carts
    max_age: 3600

- name: Back up a managed instance that gives no replication stream, as commands
  dcs.migration.backup:
    source:
      addresses: ["redis.example.com:6379"]
      username: migration
      password: "{{ redis_password }}"
      provider: other
      tls: true
    dest: /var/backups/vendor
    method: scan
    format: aof
"""

RETURN = r"""
files:
  description:
    - The files, one for each master.
    - In check mode those that would be made. RV(files[].size), RV(files[].sha256) and RV(files[].keys) are V(null) then.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Where the file is.
      type: str
      returned: always
      sample: /var/backups/orders/dump.rdb
    size:
      description: Size in bytes.
      type: int
      returned: always
      sample: 104857600
    sha256:
      description: Checksum of the file, in hexadecimal digits.
      type: str
      returned: always
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    shard:
      description: Address of the master whose data it is, or of the proxy.
      type: str
      returned: always
      sample: 10.0.0.5:6379
    source:
      description: Address of the server that was read, which may be a replica.
      type: str
      returned: always
      sample: 10.0.0.6:6379
    slots:
      description: Ranges of slots the master owns, each C([first, last]). Empty outside Redis Cluster.
      type: list
      elements: list
      returned: always
    keys:
      description: Number of keys in the file. V(null) where it holds a type that this collection does not know.
      type: int
      returned: always
      sample: 250000
    databases:
      description: Number of keys by database.
      type: dict
      returned: not in check mode
      sample:
        "0": 250000
    rdb_version:
      description: Version of the snapshot.
      type: int
      returned: not in check mode
      sample: 11
    method:
      description: How this file was made, V(psync), V(sync) or V(scan).
      type: str
      returned: always
      sample: psync
    reason:
      description: Why it was not PSYNC.
      type: str
      returned: always
    attempts:
      description: How often the server was asked, since a snapshot can get lost on the way.
      type: int
      returned: not in check mode
      sample: 1
    replication_id:
      description: Replication ID of the snapshot. V(null) where there was no PSYNC.
      type: str
      returned: not in check mode
    offset:
      description: Replication offset of the snapshot. V(null) where there was no PSYNC.
      type: int
      returned: not in check mode
method:
  description: The weakest method of all files, V(psync), V(sync) or V(scan).
  returned: success
  type: str
  sample: psync
reason:
  description: Why it was not PSYNC everywhere. Empty where it was, or where O(method=scan).
  returned: success
  type: str
  sample: "10.0.0.5:6379: PSYNC is disabled or renamed; SYNC is disabled or renamed"
started:
  description: When the backup was begun, in seconds since 1970.
  returned: success, not in check mode
  type: int
  sample: 1767225600
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils import _deps
from ansible_collections.dcs.migration.plugins.module_utils._argspec import endpoint_option
from ansible_collections.dcs.migration.plugins.module_utils._backup.engine import take
from ansible_collections.dcs.migration.plugins.module_utils._backup.plan import Options
from ansible_collections.dcs.migration.plugins.module_utils._results import run
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint


def main() -> None:
    """Make the backup and report its files."""
    module = AnsibleModule(
        argument_spec={
            "source": endpoint_option(),
            "dest": {"type": "path", "required": True},
            "name": {"type": "str", "default": "dump"},
            "format": {"type": "str", "choices": ["rdb", "aof"], "default": "rdb"},
            "method": {"type": "str", "choices": ["auto", "psync", "scan"], "default": "auto"},
            "read_from": {"type": "str", "choices": ["master", "replica"], "default": "master"},
            "max_age": {"type": "int", "default": 0},
            "parallel": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
    )
    _deps.validate(module, "redis", "anycrc")

    def work() -> Dict[str, Any]:
        names = ("dest", "name", "format", "method", "read_from", "max_age", "parallel")
        options = Options(**{name: module.params[name] for name in names})
        return take(Endpoint.from_params(module.params["source"]), options, module.check_mode, module.warn)

    run(module, work)


if __name__ == "__main__":
    main()
