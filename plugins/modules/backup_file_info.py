#!/usr/bin/python

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_file_info
short_description: Looks inside Redis backup files
version_added: 1.0.0
description:
  - Reads RDB and AOF files to their end, from this host or from a bucket, and says what is in them - keys by database and type, expiries,
    big keys, functions, modules - and whether they are complete.
  - Archives (C(.zip), C(.tar.gz), C(.tgz)) are read without being unpacked. Each backup in them is reported.
  - A file that is truncated, damaged or no backup does not make the module fail. RV(files[].complete) is V(false) then, RV(files[].error)
    says what is wrong and where, and the other values tell what was understood up to there.
  - The module fails where a file cannot be read at all, because it is missing or not allowed, or because the bucket cannot be reached.
  - Memory use does not depend on the size of the files.
author:
  - DCS Migration contributors (@dcs-migration)
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.info_module
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.bucket
requirements:
  - anycrc >= 2.0.0 (Python library)
options:
  files:
    description:
      - Paths of files on the host where the task runs.
      - Of an AOF in several parts name the manifest and all parts. They are reported as one then.
      - Exactly one of O(files), O(objects) and O(bucket) by itself says what to look at. O(files) goes before O(bucket).
    type: list
    elements: path
  objects:
    description:
      - Keys of objects in O(bucket), with or without O(prefix).
      - One that begins with O(prefix) is taken for the whole key. Below V(orders/) the object C(orders/orders/x) needs its whole key.
      - If left out together with O(files), every object below O(prefix) whose name ends in C(.rdb), C(.aof), C(.manifest), C(.zip),
        C(.tar.gz) or C(.tgz) is looked at.
    type: list
    elements: str
  big_key_bytes:
    description:
      - Above how many bytes a key is big, whatever its type.
      - If left out, strings are big above 10240 bytes and everything else above 52428800 bytes.
      - The size of a string is its length. The size of anything else is that of its serialized value, in memory it is larger.
    type: int
  big_key_elements:
    description:
      - Above how many elements, fields or entries a key is big.
    type: int
    default: 5000
  big_keys_max:
    description:
      - How many big keys of each file are named, the largest first. All are counted.
    type: int
    default: 100
seealso:
  - module: dcs.migration.backup
  - module: dcs.migration.backup_import
  - module: dcs.migration.compatibility_info
    description: Takes RV(files) as its O(dcs.migration.compatibility_info#module:backup_files).
"""

EXAMPLES = r"""
---
- name: Look inside the backups of two shards
  dcs.migration.backup_file_info:
    files:
      - /var/backups/redis/shard-1.rdb
      - /var/backups/redis/shard-2.rdb
  register: backup

- name: Stop where one is damaged
  ansible.builtin.assert:
    that: backup.files | rejectattr('complete') | length == 0
    fail_msg: "{{ backup.files | rejectattr('complete') | map(attribute='error') | join(' ') }}"

- name: Find every key of more than a megabyte in the backups of a night
  dcs.migration.backup_file_info:
    bucket: redis-migration
    prefix: orders/2026-01-31/
    endpoint_url: https://obs.eu-west-101.myhuaweicloud.eu
    region: eu-west-101
    access_key: "{{ obs_access_key }}"
    secret_key: "{{ obs_secret_key }}"
    big_key_bytes: 1048576
  register: backup

- name: Judge whether the data fits a target
  dcs.migration.compatibility_info:
    backup_files: "{{ backup.files }}"
    target:
      addresses: ["10.0.0.5:6379"]
      password: "{{ redis_password }}"

- name: Look into an AOF of Redis 7, which has several parts
  dcs.migration.backup_file_info:
    files:
      - /var/lib/redis/appendonlydir/appendonly.aof.manifest
      - /var/lib/redis/appendonlydir/appendonly.aof.1.base.rdb
      - /var/lib/redis/appendonlydir/appendonly.aof.1.incr.aof
"""

RETURN = r"""
files:
  description: One element for each backup, in the order in which they were named.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description:
        - Path of the file, C(s3://bucket/key) of an object, C(<archive>!<path>) inside an archive.
        - Of an AOF in several parts the manifest's.
      type: str
      returned: success
      sample: /var/backups/redis/shard-1.rdb
    parts:
      description: Of an AOF in several parts the manifest and the files, in the order in which they are read. Else empty.
      type: list
      elements: str
      returned: success
    size:
      description: Bytes, unpacked.
      type: int
      returned: success
      sample: 1048576
    format:
      description: V(rdb), V(aof), V(archive) (one that cannot be read), or V(unknown).
      type: str
      returned: success
      sample: rdb
    preamble:
      description:
        - Whether it is an AOF that begins with a snapshot. RV(files[].types), RV(files[].value_bytes) and RV(files[].big_keys) are about
          the snapshot then.
      type: bool
      returned: success
    rdb_version:
      description: Version of the RDB format. V(null) for an AOF without a snapshot.
      type: int
      returned: success
      sample: 11
    product:
      description: What wrote the file, for example V(redis) or V(valkey). V(null) where the file does not tell.
      type: str
      returned: success
      sample: redis
    version:
      description: Version of the server that wrote the file. V(null) where the file does not tell.
      type: str
      returned: success
      sample: 7.2.4
    created:
      description: When the snapshot was made, in seconds since 1970. V(null) where the file does not tell.
      type: int
      returned: success
      sample: 1769817600
    memory:
      description: Memory that the server used when it made the snapshot, in bytes. V(null) where the file does not tell.
      type: int
      returned: success
      sample: 1048576
    keys:
      description: Number of keys. V(null) where commands would have to be executed to know.
      type: int
      returned: success
      sample: 1000
    snapshot_keys:
      description: Number of keys in the snapshot, also where commands follow it.
      type: int
      returned: success
      sample: 1000
    expires:
      description: How many keys have an expiry. V(null) as RV(files[].keys).
      type: int
      returned: success
      sample: 100
    expired:
      description: How many keys have an expiry that has passed. An import leaves them out. V(null) as RV(files[].keys).
      type: int
      returned: success
      sample: 0
    databases:
      description: Databases with keys or commands.
      type: list
      elements: dict
      returned: success
      contains:
        db:
          description: Number of the database.
          type: int
          returned: success
        keys:
          description: Number of keys. V(null) as RV(files[].keys).
          type: int
          returned: success
        expires:
          description: How many of them have an expiry. V(null) as RV(files[].keys).
          type: int
          returned: success
        commands:
          description: Number of commands, without SELECT, MULTI and EXEC.
          type: int
          returned: for an AOF
    types:
      description: Number of keys by type - C(string), C(list), C(set), C(zset), C(hash), C(stream), C(module), C(array).
      type: dict
      returned: success
      sample:
        string: 900
        hash: 100
    value_bytes:
      description: Bytes of serialized values by type, without keys.
      type: dict
      returned: success
      sample:
        string: 90000
        hash: 40000
    hash_field_ttls:
      description:
        - How many hashes of the snapshot have fields with an expiry of their own. Only Redis 7.4, Valkey 9.0 and later know these.
      type: int
      returned: success
      sample: 0
    compressed:
      description: How many strings are stored compressed. More than zero means that the server compresses its RDB files.
      type: int
      returned: success
      sample: 0
    functions:
      description: Names of libraries of functions.
      type: list
      elements: str
      returned: success
    scripts:
      description: Number of Lua scripts.
      type: int
      returned: success
      sample: 0
    modules:
      description: Names of the module types that are needed to load the file.
      type: list
      elements: str
      returned: success
      sample: [ReJSON-RL]
    big_keys:
      description: The largest of the big keys, at most O(big_keys_max) of them.
      type: list
      elements: dict
      returned: success
      contains:
        db:
          description: Number of the database.
          type: int
          returned: success
        key:
          description: The key. Bytes that are not UTF-8 appear as backslash escapes.
          type: str
          returned: success
        type:
          description: Type of the value.
          type: str
          returned: success
        size:
          description: Length of a string, or bytes of a serialized value.
          type: int
          returned: success
        elements:
          description: Elements, fields or entries. V(null) for strings and modules.
          type: int
          returned: success
        expires_at:
          description: When it expires, in milliseconds since 1970. V(null) for never.
          type: int
          returned: success
    big_keys_total:
      description: How many keys are big.
      type: int
      returned: success
      sample: 0
    commands:
      description: Number of commands of an AOF, by name. Else empty.
      type: dict
      returned: success
      sample:
        SET: 1000
    complete:
      description: Whether the file was understood to its end.
      type: bool
      returned: success
    error:
      description: What is wrong, where, and what to do about it. V(null) for a complete file.
      type: str
      returned: success
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils._argspec import bucket_spec
from ansible_collections.dcs.migration.plugins.module_utils._bucket.client import open_bucket
from ansible_collections.dcs.migration.plugins.module_utils._deps import validate
from ansible_collections.dcs.migration.plugins.module_utils._errors import UsageError
from ansible_collections.dcs.migration.plugins.module_utils._results import run, text
from ansible_collections.dcs.migration.plugins.module_utils._source.big_keys import ELEMENTS, LIMIT, BigKey, BigKeys
from ansible_collections.dcs.migration.plugins.module_utils._source.file_info import (
    backup_keys,
    describe_files,
    describe_objects,
)
from ansible_collections.dcs.migration.plugins.module_utils._source.inventory import Inventory

_SAME = (
    "path", "parts", "size", "format", "preamble", "rdb_version", "product", "version", "created", "keys", "snapshot_keys", "expires",
    "expired", "databases", "types", "value_bytes", "hash_field_ttls", "compressed", "functions", "scripts", "modules", "big_keys_total",
    "commands", "complete", "error",
)  # fmt: skip


def argument_spec() -> Dict[str, Any]:
    spec = bucket_spec()
    spec.update(
        files={"type": "list", "elements": "path"},
        objects={"type": "list", "elements": "str"},
        big_key_bytes={"type": "int", "no_log": False},
        big_key_elements={"type": "int", "default": ELEMENTS, "no_log": False},
        big_keys_max={"type": "int", "default": LIMIT, "no_log": False},
    )
    return spec


def look(params: Dict[str, Any]) -> List[Inventory]:
    """An inventory for each backup that the options name."""
    for name in ("big_key_bytes", "big_key_elements", "big_keys_max"):
        if params[name] is not None and params[name] < 0:
            raise UsageError(name, "is negative", "Set it to zero or more")

    def thresholds() -> BigKeys:
        return BigKeys(params["big_key_bytes"], params["big_key_elements"], params["big_keys_max"])

    if params["files"] is not None:
        return describe_files(params["files"], thresholds)
    bucket = open_bucket(params)
    return describe_objects(bucket, backup_keys(bucket) if params["objects"] is None else params["objects"], thresholds)


def row(found: Inventory) -> Dict[str, Any]:
    result = {name: getattr(found, name) for name in _SAME}
    result["memory"] = found.used_memory
    result["big_keys"] = [big_key(key) for key in found.big_keys]
    return result


def big_key(found: BigKey) -> Dict[str, Any]:
    return {
        "db": found.db,
        "key": text(found.key),
        "type": found.kind,
        "size": found.size,
        "elements": found.elements,
        "expires_at": found.expire_ms,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        mutually_exclusive=[("files", "objects")],
        required_one_of=[("files", "bucket")],
        required_by={"objects": ["bucket"]},
    )
    validate(module, "anycrc", *(["boto3"] if module.params["files"] is None else []))
    run(module, lambda: {"changed": False, "files": [row(found) for found in look(module.params)]})


if __name__ == "__main__":
    main()
