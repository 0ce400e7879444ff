# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Integration tests run against every server that a test asks for by the names below."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dcs.migration.tests.support.live_writer import Deployment
from ansible_collections.dcs.migration.tests.support.params import cluster_params, server_params
from ansible_collections.dcs.migration.tests.support.servers import RedisServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``server_name``: each server in turn; ``cluster_name``: each that knows Redis Cluster."""
    if "server_name" in metafunc.fixturenames:
        metafunc.parametrize("server_name", server_params())
    if "cluster_name" in metafunc.fixturenames:
        metafunc.parametrize("cluster_name", cluster_params())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """twemproxy comes with the matrix only."""
    for item in items:
        if "twemproxy" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.matrix)


# A pair that most tests of a stream are content with.


@pytest.fixture
def source(shared_server: Any) -> RedisServer:
    return shared_server("redis-6.2", 0)


@pytest.fixture
def target(shared_server: Any) -> RedisServer:
    return shared_server("redis-6.2", 1)


@pytest.fixture(params=["single", "cluster"])
def any_target(request: pytest.FixtureRequest) -> Deployment:
    if request.param == "single":
        return request.getfixturevalue("shared_server")("redis-6.2", 1)
    return request.getfixturevalue("shared_cluster")("redis-6.2")
