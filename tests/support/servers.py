# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real servers as context managers: one import for every kind a test may want.

    with RedisServer("redis-6.2") as server, RedisCluster("valkey-9.1") as cluster:
        server.client().set("k", "v")

A handle ends its processes when the block ends, however it ends; the kernel ends them when the test run dies.
"""

from __future__ import annotations

from .certificates import Certificates, make_certificates
from .cluster_server import RedisCluster
from .process import StartError, wait_until
from .provision import MATRIX_SERVERS, SERVERS, WHEEL_SERVERS, ProvisionError
from .redis_server import RedisServer, ServerHandle, make_client
from .side_servers import S3Server, Sentinel, Twemproxy
from .tcp_proxy import DOWN, UP, TcpProxy

__all__ = [
    "DOWN",
    "MATRIX_SERVERS",
    "SERVERS",
    "UP",
    "WHEEL_SERVERS",
    "Certificates",
    "ProvisionError",
    "RedisCluster",
    "RedisServer",
    "S3Server",
    "Sentinel",
    "ServerHandle",
    "StartError",
    "TcpProxy",
    "Twemproxy",
    "make_certificates",
    "make_client",
    "wait_until",
]
