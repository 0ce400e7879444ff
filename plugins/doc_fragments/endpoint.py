# -*- coding: utf-8 -*-

# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""One Redis deployment and how to log in: the same dict wherever an option is an endpoint."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``_argspec.endpoint_option``, by option name.

    Every one is spelled out, because the tools that check documentation read literals only.
    """

    DOCUMENTATION = r"""
options: {}
"""

    INSTANCE = r"""
options:
  instance:
    description:
      - The deployment to look at.
    type: dict
    required: true
    suboptions:
      addresses:
        description:
          - Where the deployment listens, as C(host:port) or C([ipv6]:port).
          - The first that answers leads to the rest. For a Redis Cluster one node is enough, several are safer.
          - With O(instance.sentinel_service) these are the Sentinels.
        type: list
        elements: str
        required: true

      username:
        description:
          - ACL user to log in as, on Redis 6 and later.
        type: str
      password:
        description:
          - Password to log in with.
          - Where Sentinels or nodes behind a proxy have no password set, they are used without.
        type: str
      provider:
        description:
          - Who runs the deployment.
          - V(dcs) is an instance of the DCS cache service.
          - V(self_hosted) is any Redis that you run yourself, wherever it is.
          - V(other) is the managed Redis service of another vendor.
        type: str
        choices: [dcs, self_hosted, other]
        default: self_hosted
      topology:
        description:
          - Kind of the deployment. V(auto) finds it out.
          - Set V(proxy_cluster) for a proxy that answers like a plain Redis server.
          - Set V(single) or V(master_standby) for a server whose INFO command is disabled. It looks like a proxy otherwise.
        type: str
        choices: [auto, single, master_standby, proxy_cluster, redis_cluster]
        default: auto
      tls:
        description:
          - Whether to connect with TLS, to every address including Sentinels.
        type: bool
        default: false
      ca_certs:
        description:
          - File with the CA certificates to trust, where the module runs.
          - If left out, those of the system are used.
        type: path
      client_cert:
        description:
          - File with the client certificate, where the servers ask for one.
        type: path
      client_key:
        description:
          - File with the private key of O(instance.client_cert), if it is not in the same file.
        type: path
      validate_certs:
        description:
          - Whether the servers' TLS certificates must be valid and match the host name.
        type: bool
        default: true
      sentinel_service:
        description:
          - Name of the master as the Sentinels know it.
        type: str
      shards:
        description:
          - Addresses of the real nodes behind a proxy, one of each shard.
          - Only with them can be seen what is behind the proxy, and be read with PSYNC.
        type: list
        elements: str
requirements:
  - redis >= 5.0.1 (Python library)
"""

    SOURCE = r"""
options:
  source:
    description:
      - The deployment to read from.
    type: dict
    required: true
    suboptions:
      addresses:
        description:
          - Where the deployment listens, as C(host:port) or C([ipv6]:port).
          - The first that answers leads to the rest. For a Redis Cluster one node is enough, several are safer.
          - With O(source.sentinel_service) these are the Sentinels.
        type: list
        elements: str
        required: true

      username:
        description:
          - ACL user to log in as, on Redis 6 and later.
        type: str
      password:
        description:
          - Password to log in with.
          - Where Sentinels or nodes behind a proxy have no password set, they are used without.
        type: str
      provider:
        description:
          - Who runs the deployment.
          - V(dcs) is an instance of the DCS cache service.
          - V(self_hosted) is any Redis that you run yourself, wherever it is.
          - V(other) is the managed Redis service of another vendor.
        type: str
        choices: [dcs, self_hosted, other]
        default: self_hosted
      topology:
        description:
          - Kind of the deployment. V(auto) finds it out.
          - Set V(proxy_cluster) for a proxy that answers like a plain Redis server.
          - Set V(single) or V(master_standby) for a server whose INFO command is disabled. It looks like a proxy otherwise.
        type: str
        choices: [auto, single, master_standby, proxy_cluster, redis_cluster]
        default: auto
      tls:
        description:
          - Whether to connect with TLS, to every address including Sentinels.
        type: bool
        default: false
      ca_certs:
        description:
          - File with the CA certificates to trust, where the module runs.
          - If left out, those of the system are used.
        type: path
      client_cert:
        description:
          - File with the client certificate, where the servers ask for one.
        type: path
      client_key:
        description:
          - File with the private key of O(source.client_cert), if it is not in the same file.
        type: path
      validate_certs:
        description:
          - Whether the servers' TLS certificates must be valid and match the host name.
        type: bool
        default: true
      sentinel_service:
        description:
          - Name of the master as the Sentinels know it.
        type: str
      shards:
        description:
          - Addresses of the real nodes behind a proxy, one of each shard.
          - Only with them can be seen what is behind the proxy, and be read with PSYNC.
        type: list
        elements: str
requirements:
  - redis >= 5.0.1 (Python library)
"""

    TARGET = r"""
options:
  target:
    description:
      - The deployment to write to.
    type: dict
    required: true
    suboptions:
      addresses:
        description:
          - Where the deployment listens, as C(host:port) or C([ipv6]:port).
          - The first that answers leads to the rest. For a Redis Cluster one node is enough, several are safer.
          - With O(target.sentinel_service) these are the Sentinels.
        type: list
        elements: str
        required: true

      username:
        description:
          - ACL user to log in as, on Redis 6 and later.
        type: str
      password:
        description:
          - Password to log in with.
          - Where Sentinels or nodes behind a proxy have no password set, they are used without.
        type: str
      provider:
        description:
          - Who runs the deployment.
          - V(dcs) is an instance of the DCS cache service.
          - V(self_hosted) is any Redis that you run yourself, wherever it is.
          - V(other) is the managed Redis service of another vendor.
        type: str
        choices: [dcs, self_hosted, other]
        default: self_hosted
      topology:
        description:
          - Kind of the deployment. V(auto) finds it out.
          - Set V(proxy_cluster) for a proxy that answers like a plain Redis server.
          - Set V(single) or V(master_standby) for a server whose INFO command is disabled. It looks like a proxy otherwise.
        type: str
        choices: [auto, single, master_standby, proxy_cluster, redis_cluster]
        default: auto
      tls:
        description:
          - Whether to connect with TLS, to every address including Sentinels.
        type: bool
        default: false
      ca_certs:
        description:
          - File with the CA certificates to trust, where the module runs.
          - If left out, those of the system are used.
        type: path
      client_cert:
        description:
          - File with the client certificate, where the servers ask for one.
        type: path
      client_key:
        description:
          - File with the private key of O(target.client_cert), if it is not in the same file.
        type: path
      validate_certs:
        description:
          - Whether the servers' TLS certificates must be valid and match the host name.
        type: bool
        default: true
      sentinel_service:
        description:
          - Name of the master as the Sentinels know it.
        type: str
      shards:
        description:
          - Addresses of the real nodes behind a proxy, one of each shard.
          - Only with them can be seen what is behind the proxy, and be read with PSYNC.
        type: list
        elements: str
requirements:
  - redis >= 5.0.1 (Python library)
"""

    SOURCE_DESCRIBED = r"""
options:
  source:
    description:
      - The deployment the data comes from, or a description of it.
    type: dict
    suboptions:
      addresses:
        description:
          - Where the deployment listens, as C(host:port) or C([ipv6]:port).
          - The first that answers leads to the rest. For a Redis Cluster one node is enough, several are safer.
          - With O(source.sentinel_service) these are the Sentinels.
          - If left out, the deployment is only described by O(source.provider), O(source.topology) and O(source.version).
        type: list
        elements: str

      username:
        description:
          - ACL user to log in as, on Redis 6 and later.
        type: str
      password:
        description:
          - Password to log in with.
          - Where Sentinels or nodes behind a proxy have no password set, they are used without.
        type: str
      provider:
        description:
          - Who runs the deployment.
          - V(dcs) is an instance of the DCS cache service.
          - V(self_hosted) is any Redis that you run yourself, wherever it is.
          - V(other) is the managed Redis service of another vendor.
        type: str
        choices: [dcs, self_hosted, other]
        default: self_hosted
      topology:
        description:
          - Kind of the deployment. V(auto) finds it out.
          - Set V(proxy_cluster) for a proxy that answers like a plain Redis server.
          - Set V(single) or V(master_standby) for a server whose INFO command is disabled. It looks like a proxy otherwise.
        type: str
        choices: [auto, single, master_standby, proxy_cluster, redis_cluster]
        default: auto
      tls:
        description:
          - Whether to connect with TLS, to every address including Sentinels.
        type: bool
        default: false
      ca_certs:
        description:
          - File with the CA certificates to trust, where the module runs.
          - If left out, those of the system are used.
        type: path
      client_cert:
        description:
          - File with the client certificate, where the servers ask for one.
        type: path
      client_key:
        description:
          - File with the private key of O(source.client_cert), if it is not in the same file.
        type: path
      validate_certs:
        description:
          - Whether the servers' TLS certificates must be valid and match the host name.
        type: bool
        default: true
      sentinel_service:
        description:
          - Name of the master as the Sentinels know it.
        type: str
      shards:
        description:
          - Addresses of the real nodes behind a proxy, one of each shard.
          - Only with them can be seen what is behind the proxy, and be read with PSYNC.
        type: list
        elements: str

      version:
        description:
          - Version of a deployment that is only described, for example V(7.2) or V(valkey 9.0).
          - Ignored when O(source.addresses) is given, since the servers are asked then.
        type: str
requirements:
  - redis >= 5.0.1 (Python library)
"""

    TARGET_DESCRIBED = r"""
options:
  target:
    description:
      - The deployment the data goes to, or a description of it.
    type: dict
    required: true
    suboptions:
      addresses:
        description:
          - Where the deployment listens, as C(host:port) or C([ipv6]:port).
          - The first that answers leads to the rest. For a Redis Cluster one node is enough, several are safer.
          - With O(target.sentinel_service) these are the Sentinels.
          - If left out, the deployment is only described by O(target.provider), O(target.topology) and O(target.version).
        type: list
        elements: str

      username:
        description:
          - ACL user to log in as, on Redis 6 and later.
        type: str
      password:
        description:
          - Password to log in with.
          - Where Sentinels or nodes behind a proxy have no password set, they are used without.
        type: str
      provider:
        description:
          - Who runs the deployment.
          - V(dcs) is an instance of the DCS cache service.
          - V(self_hosted) is any Redis that you run yourself, wherever it is.
          - V(other) is the managed Redis service of another vendor.
        type: str
        choices: [dcs, self_hosted, other]
        default: self_hosted
      topology:
        description:
          - Kind of the deployment. V(auto) finds it out.
          - Set V(proxy_cluster) for a proxy that answers like a plain Redis server.
          - Set V(single) or V(master_standby) for a server whose INFO command is disabled. It looks like a proxy otherwise.
        type: str
        choices: [auto, single, master_standby, proxy_cluster, redis_cluster]
        default: auto
      tls:
        description:
          - Whether to connect with TLS, to every address including Sentinels.
        type: bool
        default: false
      ca_certs:
        description:
          - File with the CA certificates to trust, where the module runs.
          - If left out, those of the system are used.
        type: path
      client_cert:
        description:
          - File with the client certificate, where the servers ask for one.
        type: path
      client_key:
        description:
          - File with the private key of O(target.client_cert), if it is not in the same file.
        type: path
      validate_certs:
        description:
          - Whether the servers' TLS certificates must be valid and match the host name.
        type: bool
        default: true
      sentinel_service:
        description:
          - Name of the master as the Sentinels know it.
        type: str
      shards:
        description:
          - Addresses of the real nodes behind a proxy, one of each shard.
          - Only with them can be seen what is behind the proxy, and be read with PSYNC.
        type: list
        elements: str

      version:
        description:
          - Version of a deployment that is only described, for example V(7.2) or V(valkey 9.0).
          - Ignored when O(target.addresses) is given, since the servers are asked then.
        type: str
requirements:
  - redis >= 5.0.1 (Python library)
"""
