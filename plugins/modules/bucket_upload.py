#!/usr/bin/python

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bucket_upload
short_description: Upload Redis backup files to a bucket
version_added: 1.0.0
description:
  - Copies files of the host this task runs on into an S3-compatible bucket, such as OBS, from where M(dcs.migration.backup_import)
    reads them.
  - The sha256 of each file is stored with its object. A file whose object is there already, with the same size and sha256, is not
    sent again, and every later reading is compared with it.
  - Larger files are sent in parts, a few at a time. An object appears only when it is complete. A failed or interrupted upload
    leaves nothing visible.
author:
  - DCS Migration contributors (@dcs-migration)
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.bucket
attributes:
  check_mode:
    support: full
    details:
      - Looks at files and objects, and says which files would be sent.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Services that do not store user metadata cannot be compared with. There every file is sent each time, and the module warns.
options:
  bucket:
    description:
      - The bucket. It must exist, and should be in the region of the instance the data will be imported to.
    type: str
    required: true
  files:
    description:
      - Paths of the files on the host where the task runs. Archives are sent as they are.
      - The name of the file, after O(prefix), becomes the key of its object. So two files may not have the same name.
    type: list
    elements: path
    required: true
  force:
    description:
      - Send also the files whose objects are there already.
    type: bool
    default: false
notes:
  - A host that loses power or network in the middle of a large upload can leave parts behind, which are not visible as objects but
    may be charged. A lifecycle rule of the bucket that ends incomplete multipart uploads removes them.
seealso:
  - module: dcs.migration.backup
    description: Makes the backup files.
  - module: dcs.migration.backup_file_info
    description: Looks inside them, also in the bucket.
  - module: dcs.migration.backup_import
    description: Writes them into a target, also from the bucket.
"""

EXAMPLES = r"""
---
- name: Upload the backup of each shard to OBS
  dcs.migration.bucket_upload:
    files:
      - /var/backups/redis/shard-1.rdb
      - /var/backups/redis/shard-2.rdb
    bucket: redis-migration
    prefix: orders/
    endpoint_url: https://obs.eu-west-101.myhuaweicloud.eu
    region: eu-west-101
    access_key: "{{ obs_access_key }}"
    secret_key: "{{ obs_secret_key }}"
  register: upload

- name: Import them
  dcs.migration.backup_import:
    bucket: redis-migration
    endpoint_url: https://obs.eu-west-101.myhuaweicloud.eu
    region: eu-west-101
    access_key: "{{ obs_access_key }}"
    secret_key: "{{ obs_secret_key }}"
    objects: "{{ upload.objects | map(attribute='key') }}"
    target:
      addresses:
        - 192.0.2.10:6379
      password: "{{ target_password }}"

- name: Upload with the credentials of the environment or the AWS profile
  dcs.migration.bucket_upload:
    files:
      - /var/backups/redis/dump.rdb
    bucket: redis-migration
"""

RETURN = r"""
objects:
  description:
    - One entry for each of O(files), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description:
        - The full key of the object, with the prefix.
      type: str
      sample: orders/shard-1.rdb
    size:
      description:
        - Bytes.
      type: int
      sample: 1048576
    etag:
      description:
        - The ETag the service gave to it. V(null) in check mode for a file that would be sent.
      type: str
      sample: 3e457d702513d54d7ebf73f7ce2b6fbf
    sha256:
      description:
        - The sha256 of the content, in hex.
      type: str
      sample: b9c5ece4242efc3b834e153d8f1003e1633aa61b285d9c68ac6ae4ee9822fd1e
    uploaded:
      description:
        - Whether the file was sent (in check mode, would be sent) by this task.
      type: bool
      sample: true
"""

import signal

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils._argspec import bucket_spec
from ansible_collections.dcs.migration.plugins.module_utils._bucket.client import open_bucket
from ansible_collections.dcs.migration.plugins.module_utils._bucket.upload import Uploaded, upload
from ansible_collections.dcs.migration.plugins.module_utils._deps import validate
from ansible_collections.dcs.migration.plugins.module_utils._errors import MigrationError, UsageError
from ansible_collections.dcs.migration.plugins.module_utils._results import run
from ansible_collections.dcs.migration.plugins.module_utils._source.files import LocalFile, local_files


def argument_spec() -> dict:
    spec = bucket_spec()
    spec["bucket"]["required"] = True
    spec["files"] = {"type": "list", "elements": "path", "required": True}
    spec["force"] = {"type": "bool", "default": False}
    return spec


def refuse_same_name(files: list[LocalFile]) -> None:
    """:raises UsageError: two files would become one object"""
    seen: dict[str, str] = {}
    for local in files:
        other = seen.setdefault(local.basename, local.name)
        if other != local.name:
            raise UsageError(
                "files", "%s and %s have the same name" % (other, local.name), "Rename one, or upload them under different prefixes"
            )


def send(module: AnsibleModule) -> dict:
    """Upload every file; a failure reports what was done before it as ``objects`` and ``changed``."""
    bucket = open_bucket(module.params)
    files = local_files(module.params["files"])
    refuse_same_name(files)
    done: list[Uploaded] = []
    try:
        for local in files:
            done.append(upload(bucket, local, bucket.key(local.basename), module.params["force"], module.check_mode))
    except MigrationError as exc:
        exc.result = result(done)
        raise
    unkept = [entry.key for entry in done if not entry.verified]
    if unkept:
        module.warn("the service did not store the sha256 with %s: later readings cannot be compared with it" % ", ".join(unkept))
    return result(done)


def result(done: list[Uploaded]) -> dict:
    return {
        "changed": any(entry.uploaded for entry in done),
        "objects": [
            {name: getattr(entry, name) for name in ("key", "size", "etag", "sha256", "uploaded")}
            for entry in done
        ],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    validate(module, "boto3")
    # A task that is ended (time limit, lost connection) must take the parts it sent with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    run(module, lambda: send(module))


if __name__ == "__main__":
    main()
