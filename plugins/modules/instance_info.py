#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_info
short_description: Looks at a Redis deployment
version_added: 1.0.0
author:
  - DCS Migration contributors (@dcs-migration)
description:
  - Finds out what a Redis or Valkey deployment is - product, version, topology, shards, databases, memory - and what a
    migration needs to know about it, such as whether PSYNC is allowed and which commands are disabled.
  - Works with single nodes, master/standby (also through Sentinel), Redis Cluster and proxies.
  - Nothing that a server refuses to tell makes the module fail. The value is V(null) then.
  - No data is changed. Behind a proxy that hides its version, a key whose name begins with C(__dcs_migration__:) is
    written, serialized and deleted again at once, if there is no other way to learn the serialization version.
extends_documentation_fragment:
  - dcs.migration.attributes
  - dcs.migration.attributes.info_module
  - dcs.migration.attributes.actiongroup_migration
  - dcs.migration.endpoint.instance
seealso:
  - module: dcs.migration.compatibility_info
    description: Judges a pair of source and target.
"""

EXAMPLES = r"""
---
- name: Look at a single node
  dcs.migration.instance_info:
    instance:
      addresses: ["10.0.0.5:6379"]
      password: "{{ redis_password }}"
  register: source

- name: Look at a Redis Cluster of the cache service over TLS
  dcs.migration.instance_info:
    instance:
      addresses: ["10.0.1.5:6379", "10.0.1.6:6379"]
      provider: dcs
      password: "{{ redis_password }}"
      tls: true
      ca_certs: /etc/ssl/dcs-ca.pem

- name: Find the master through Sentinel
  dcs.migration.instance_info:
    instance:
      addresses: ["10.0.2.1:26379", "10.0.2.2:26379", "10.0.2.3:26379"]
      sentinel_service: mymaster
      password: "{{ redis_password }}"

- name: Look behind a proxy
  dcs.migration.instance_info:
    instance:
      addresses: ["10.0.3.1:22121"]
      topology: proxy_cluster
      shards: ["10.0.3.11:6379", "10.0.3.12:6379"]

- name: Stop where a replication stream is not to be had
  ansible.builtin.assert:
    that: source.instance.psync.supported
    fail_msg: "{{ source.instance.psync.reason }}"
"""

RETURN = r"""
instance:
  description: What was found out.
  returned: success
  type: dict
  contains:
    provider:
      description: Who runs it, as given.
      type: str
      returned: success
    product:
      description: V(redis), V(valkey), V(redict), V(keydb), V(dragonfly), ... or V(unknown) behind a silent proxy.
      type: str
      returned: success
      sample: valkey
    version:
      description: The product's version. V(null) where unknown.
      type: str
      returned: success
      sample: 9.1.0
    compatible_version:
      description: The Redis version the product says it is compatible with.
      type: str
      returned: success
      sample: 7.2.4
    rdb_version:
      description: Version of the RDB format it writes.
      type: int
      returned: success
      sample: 80
    mode:
      description: Mode as the server reports it.
      type: str
      returned: success
      sample: standalone
    topology:
      description: V(single), V(master_standby), V(proxy_cluster) or V(redis_cluster).
      type: str
      returned: success
      sample: master_standby
    tls:
      description: Whether TLS was used.
      type: bool
      returned: success
    cluster_enabled:
      description: Whether it is a Redis Cluster.
      type: bool
      returned: success
    missing_slots:
      description: Number of slots of a Redis Cluster that have no master.
      type: int
      returned: success
      sample: 0
    shards:
      description: The masters. Empty behind a proxy whose nodes were not named in O(instance.shards).
      type: list
      elements: dict
      returned: success
      contains:
        master:
          description: Address of the master.
          type: str
          returned: success
          sample: 10.0.0.5:6379
        replicas:
          description: Addresses of its replicas.
          type: list
          elements: str
          returned: success
        slots:
          description: Ranges of slots it owns, each C([first, last]). Empty outside Redis Cluster.
          type: list
          elements: list
          returned: success
    databases:
      description: Databases that hold keys, summed over the masters. V(null) where not to be had.
      type: list
      elements: dict
      returned: success
      contains:
        db:
          description: Number of the database.
          type: int
          returned: success
        keys:
          description: Number of keys.
          type: int
          returned: success
        expires:
          description: How many of them have an expiry.
          type: int
          returned: success
    databases_max:
      description: How many databases there are. V(null) where SELECT is refused.
      type: int
      returned: success
      sample: 16
    keys:
      description: Keys in all databases.
      type: int
      returned: success
    used_memory:
      description: Memory used by all masters, in bytes.
      type: int
      returned: success
    maxmemory:
      description: Limit of all masters together, in bytes. V(0) means no limit.
      type: int
      returned: success
    maxmemory_policy:
      description: What happens at the limit.
      type: str
      returned: success
      sample: noeviction
    evicted_keys:
      description: Keys evicted since the masters started.
      type: int
      returned: success
    psync:
      description: Whether a replication stream can be had. Tried without starting one.
      type: dict
      returned: success
      contains:
        supported:
          description: Whether every master allows it for this user.
          type: bool
          returned: success
        reason:
          description: Why, or why not.
          type: str
          returned: success
    modules:
      description: Loaded modules. V(null) where not to be had.
      type: list
      elements: dict
      returned: success
      contains:
        name:
          description: Name of the module.
          type: str
          returned: success
        version:
          description: Version of the module.
          type: int
          returned: success
    functions:
      description: Number of function libraries. V(null) before Redis 7.0 and where not to be had.
      type: int
      returned: success
    disabled_commands:
      description: Commands that this version has but this login cannot use.
      type: list
      elements: str
      returned: success
      sample: [CONFIG, DEBUG]
    read_only:
      description: Whether writes are refused.
      type: bool
      returned: success
    clock_skew_ms:
      description: How far the servers' clock is ahead of the clock where the module runs, in milliseconds.
      type: int
      returned: success
    persistence:
      description: Settings of RDB and AOF. Values are V(null) where CONFIG is refused.
      type: dict
      returned: success
      contains:
        rdbcompression:
          description: Whether RDB files are compressed.
          type: bool
          returned: success
        rdbchecksum:
          description: Whether RDB files carry a checksum.
          type: bool
          returned: success
        appendonly:
          description: Whether an AOF is kept.
          type: bool
          returned: success
        aof_use_rdb_preamble:
          description: Whether AOF files begin with an RDB.
          type: bool
          returned: success
        save:
          description: When RDB files are written.
          type: str
          returned: success
        last_save:
          description: When the last RDB file was written, in seconds since 1970.
          type: int
          returned: success
        bgsave_in_progress:
          description: Whether one is being written.
          type: bool
          returned: success
        loading:
          description: Whether the server is loading its data.
          type: bool
          returned: success
    replication:
      description: Settings of replication. Values are V(null) where CONFIG is refused.
      type: dict
      returned: success
      contains:
        role:
          description: Role of the first master.
          type: str
          returned: success
        replication_id:
          description: Its replication ID.
          type: str
          returned: success
        offset:
          description: Its replication offset.
          type: int
          returned: success
        backlog_size:
          description: Size of the backlog in bytes.
          type: int
          returned: success
        repl_timeout:
          description: After how many seconds of silence a replica counts as lost.
          type: int
          returned: success
        diskless:
          description: Whether replicas are fed without a file on the server.
          type: bool
          returned: success
        output_buffer_limit:
          description: Limits of a replica's output buffer, C(hard) and C(soft) in bytes and C(seconds).
          type: dict
          returned: success
    capabilities:
      description: What the version understands, as name and boolean.
      type: dict
      returned: success
      sample:
        streams: true
        functions: false
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dcs.migration.plugins.module_utils import _deps
from ansible_collections.dcs.migration.plugins.module_utils._argspec import endpoint_option
from ansible_collections.dcs.migration.plugins.module_utils._results import run
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._server.probe import probe


def main() -> None:
    """Probe the deployment and report it."""
    module = AnsibleModule(argument_spec={"instance": endpoint_option()}, supports_check_mode=True)
    _deps.validate(module, "redis")
    run(module, lambda: {"changed": False, "instance": probe(Endpoint.from_params(module.params["instance"])).as_dict()})


if __name__ == "__main__":
    main()
