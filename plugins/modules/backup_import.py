#!/usr/bin/python

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_import
short_description: Import Redis backup files into a Redis instance
version_added: 1.0.0
description:
  - Writes RDB and AOF files, from this host or from a bucket, into a target of any topology and version.
  - A file in a bucket is read as a stream. It needs no space on this host, and memory does not grow with it.
  - A value whose type the target does not load as it stands is converted to one that it does. Where the target cannot hold a value at
    all, the file is refused before anything is written.
  - Keys keep their absolute expiry, and their idle time or frequency where the target takes it. Keys that have expired already are
    counted and not written. Functions are loaded on every master.
  - Nothing of an AOF expires before its last command is done, as when a server loads it. Until then the expiries of its keys lie far
    in the future (after the year 3000) in the target.
  - Values larger than 4 MiB are written in parts, so that the target is never held for long. Readers of the target can see such a key grow.
    Streams are written in parts from 16 MiB on. Pending entries whose messages were deleted cannot be written then; a warning tells how many.
author:
  - DCS Migration contributors (@dcs-migration)
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.bucket
  - dcs.migration.endpoint.target
attributes:
  check_mode:
    support: full
    details:
      - Says which files would be imported, and reports what would stop the import. The files are read to their end for that.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A file is not imported again when a receipt in O(state_dir) names its checksum, this target and the same choice of keys, and a
        sample of its keys is still in the target. Without the receipt it is imported again, which gives the same data.
requirements:
  - anycrc >= 2.0.0 (Python library)
options:
  files:
    description:
      - Paths of backup files on the host where the task runs. RDB files, AOF files, the manifest of a multi-part AOF with its parts, and
        C(.zip) and C(.tar.gz) archives of these.
      - The content decides what a file is, not its name.
      - Exactly one of O(files) and O(objects) is needed.
    type: list
    elements: path
  objects:
    description:
      - Keys of objects in O(bucket), with or without O(prefix).
      - One that begins with O(prefix) is taken for the whole key. Below V(orders/) the object C(orders/orders/x) needs its whole key.
      - One file per shard of the source is needed, all of them.
    type: list
    elements: str
  on_conflict:
    description:
      - What to do with a key that the target has already.
      - With V(replace) the file wins, as in DCS.
      - With V(skip) the target wins, and the key is counted as skipped.
      - With V(fail) the import ends with an error that names the key, unless it holds the very same value. Keys before it have been
        written then.
    type: str
    choices: [replace, skip, fail]
    default: replace
  clear_target:
    description:
      - Delete everything in the target, in all databases and functions too, before the first file is imported.
      - Nothing is deleted when there is nothing to import. The files are read to their ends before, as one that is damaged could not bring
        back what was deleted.
    type: bool
    default: false
  db_map:
    description:
      - Source database to target database. Databases that are not named keep their number.
      - A cluster or proxy has database 0 only.
      - Where several databases go to one, keys with the same name are in each other's way. Those of a later database replace those of an
        earlier one with O(on_conflict=replace), and a warning says so.
    type: dict
  databases:
    description:
      - Import these source databases only.
    type: list
    elements: int
  include_keys:
    description:
      - Import only keys that match one of these patterns, which are written as for the Redis command C(KEYS).
    type: list
    elements: str
    default: []
  exclude_keys:
    description:
      - Leave out keys that match one of these patterns.
    type: list
    elements: str
    default: []
  state_dir:
    description:
      - The folder for receipts and for the names of keys under construction, on the host where the task runs.
    type: path
    default: ~/.local/state/dcs_migration
  force:
    description:
      - Import also files that have been imported before.
    type: bool
    default: false
seealso:
  - module: dcs.migration.backup
  - module: dcs.migration.bucket_upload
  - module: dcs.migration.compatibility_info
"""

EXAMPLES = r"""
- name: Import the backups of all shards from a bucket
  dcs.migration.backup_import:
    bucket: redis-migration
    prefix: orders/
    objects:
      - shard-1.rdb
      - shard-2.rdb
    endpoint_url: https://obs.eu-west-101.myhuaweicloud.eu
    region: eu-west-101
    access_key: "{{ obs_access_key }}"
    secret_key: "{{ obs_secret_key }}"
    target:
      addresses:
        - 192.0.2.10:6379
      password: "{{ target_password }}"

- name: Import database 3 of a local file as database 0 of a cluster, but leave sessions out
  dcs.migration.backup_import:
    files:
      - /var/backups/redis/dump.rdb
    databases:
      - 3
    db_map:
      3: 0
    exclude_keys:
      - session:*
    target:
      addresses:
        - 192.0.2.21:6379
        - 192.0.2.22:6379
      topology: redis_cluster
      password: "{{ target_password }}"
"""

RETURN = r"""
stats:
  description:
    - What was done, also when the module fails.
  returned: always, once the target was reached
  type: dict
  contains:
    keys:
      description:
        - Keys written and acknowledged by the target. Of an AOF these are the keys of the snapshot it begins with; what its commands wrote is
          counted by RV(stats.commands), as several of them may be about one key.
      type: int
      sample: 1000000
    skipped:
      description:
        - Keys that the target had already.
      type: int
      sample: 0
    expired:
      description:
        - Keys of the file that had expired, and were not written; or that had at the end of an AOF, and were removed again.
      type: int
      sample: 12
    functions:
      description:
        - Libraries of functions loaded.
      type: int
      sample: 1
    commands:
      description:
        - Commands of AOF files that were executed.
      type: int
      sample: 0
    bytes:
      description:
        - Bytes of backup files that were read.
      type: int
      sample: 113888992
    seconds:
      description:
        - Time taken.
      type: float
      sample: 2.1
    types:
      description:
        - Keys that were taken from the files, by type; of an AOF those of its snapshot.
      type: dict
      sample: {"hash": 3, "string": 100}
    reconnects:
      description:
        - How often a cut connection to the target was opened again.
      type: int
      sample: 0
    redirects:
      description:
        - How often a cluster said that a key is elsewhere by now.
      type: int
      sample: 0
files:
  description:
    - One entry for each file, or each backup in an archive.
  returned: always, once the target was reached
  type: list
  elements: dict
  contains:
    path:
      description:
        - The file, or C(s3://) with bucket and key.
      type: str
      sample: s3://redis-migration/orders/shard-1.rdb
    status:
      description:
        - V(imported) by this task, V(present) from an earlier one, V(incomplete) when an error came between, or V(would be imported) in check mode.
      type: str
      sample: imported
    keys:
      description:
        - Keys of this file that were written, of an AOF those of its snapshot.
      type: int
      sample: 500000
    commands:
      description:
        - Commands of this file that were executed; 0 for an RDB file.
      type: int
      sample: 0
    skipped:
      description:
        - Keys of this file that the target had already.
      type: int
      sample: 0
    expired:
      description:
        - Keys of this file that had expired.
      type: int
      sample: 0
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils._argspec import bucket_spec, endpoint_option
from ansible_collections.dcs.migration.plugins.module_utils._bucket.client import open_bucket
from ansible_collections.dcs.migration.plugins.module_utils._deps import validate
from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._results import plain, run
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._sink.selection import database_map
from ansible_collections.dcs.migration.plugins.module_utils._source.files import BackupFile, open_files, open_objects


def argument_spec() -> Dict[str, Any]:
    spec = bucket_spec()
    spec.update(
        files={"type": "list", "elements": "path"},
        objects={"type": "list", "elements": "str"},
        target=endpoint_option(),
        on_conflict={"type": "str", "choices": ["replace", "skip", "fail"], "default": "replace"},
        clear_target={"type": "bool", "default": False},
        db_map={"type": "dict"},
        databases={"type": "list", "elements": "int"},
        include_keys={"type": "list", "elements": "str", "default": [], "no_log": False},
        exclude_keys={"type": "list", "elements": "str", "default": [], "no_log": False},
        state_dir={"type": "path", "default": "~/.local/state/dcs_migration"},
        force={"type": "bool", "default": False},
    )
    return spec


def backup_files(params: Dict[str, Any]) -> List[BackupFile]:
    """The files or objects that the options name."""
    if params["files"] is not None:
        return open_files(params["files"])
    return open_objects(open_bucket(params), params["objects"])


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        mutually_exclusive=[("files", "objects")],
        required_one_of=[("files", "objects")],
        required_by={"objects": ["bucket"]},
    )
    validate(module, "redis", "anycrc", *(["boto3"] if module.params["objects"] is not None else []))

    def work() -> Dict[str, Any]:
        params = module.params
        options = Options(
            on_conflict=params["on_conflict"],
            clear_target=params["clear_target"],
            db_map=database_map(params["db_map"]),
            databases=params["databases"],
            include_keys=params["include_keys"],
            exclude_keys=params["exclude_keys"],
            state_dir=params["state_dir"],
            force=params["force"],
        )
        importer = Importer(Endpoint.from_params(params["target"]), options, lambda words: module.warn(plain(words)))
        return importer.run(backup_files(params), module.check_mode)

    run(module, work)


if __name__ == "__main__":
    main()
