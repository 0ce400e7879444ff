# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RDB files of every server of the matrix, into every server of the matrix.

Within one version the proof is ``DEBUG DIGEST``, which this project did not write; between versions it is every value, read by ordinary
commands. What a target cannot hold has to be named and refused before the first byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import UnsupportedTypeError
from ansible_collections.dcs.migration.plugins.module_utils._import.engine import Importer
from ansible_collections.dcs.migration.plugins.module_utils._import.options import Options
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Endpoint
from ansible_collections.dcs.migration.plugins.module_utils._source.files import open_files
from ansible_collections.dcs.migration.tests.support.access import Identity, identify
from ansible_collections.dcs.migration.tests.support.datasets import populate_every_type
from ansible_collections.dcs.migration.tests.support.logical import Snapshot, assert_same_data, functions, snapshot
from ansible_collections.dcs.migration.tests.support.servers import SERVERS, RedisServer

# One worker has the servers of this module.
pytestmark = [pytest.mark.matrix, pytest.mark.xdist_group("import_matrix")]


class Source(NamedTuple):
    """What one server wrote: ``plain`` holds what the oldest server has, ``full`` every type of this one."""

    identity: Identity
    plain: Path
    plain_data: Snapshot
    full: Path
    full_data: Snapshot
    full_functions: dict[bytes, bytes]
    digest: bytes


def write_source(name: str, folder: Path) -> Source:
    with RedisServer(name) as server:
        client = server.client()
        identity = identify(client)
        populate_every_type(client, (2, 8), "redis", streams=False, functions=False)
        plain = folder / ("%s-plain.rdb" % name)
        plain.write_bytes(server.save().read_bytes())
        plain_data = snapshot(client)
        server.flush()
        populate_every_type(client, identity.version, identity.product)
        full = folder / ("%s-full.rdb" % name)
        full.write_bytes(server.save().read_bytes())
        found = functions(client) if identity.functions else {}
        return Source(identity, plain, plain_data, full, snapshot(client), found, server.digest())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("matrix")
    return {name: write_source(name, folder) for name in SERVERS}


@pytest.fixture(scope="module", params=list(SERVERS))
def target(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as server:
        yield server


def run_import(target: Any, file: Path, state: Path, **options: Any) -> dict[str, Any]:
    endpoint = Endpoint.from_params({"addresses": [target.address], **options.pop("endpoint", {})})
    return Importer(endpoint, Options(state_dir=str(state), **options), lambda _text: None).run(open_files([str(file)]))


def missing_in(source: Identity, target: Identity) -> bool:
    """Whether the source's full data set has something that the target's version lacks."""
    return (
        (source.streams and not target.streams)
        or (source.functions and not target.functions)
        or (source.field_expiry and not target.field_expiry)
    )


@pytest.mark.parametrize("name", SERVERS)
def test_pair(name: str, target: RedisServer, sources: dict[str, Source], tmp_path: Path) -> None:
    source = sources[name]
    here = identify(target.client())
    target.flush()
    result = run_import(target, source.plain, tmp_path)
    assert result["stats"]["keys"] == len(source.plain_data)
    assert_same_data(source.plain_data, snapshot(target.client()))

    target.flush()
    if missing_in(source.identity, here):
        with pytest.raises(UnsupportedTypeError) as refused:
            run_import(target, source.full, tmp_path)
        assert str(source.full) in str(refused.value)
        assert not snapshot(target.client())
        return
    result = run_import(target, source.full, tmp_path)
    assert result["stats"]["keys"] == len(source.full_data)
    assert_same_data(source.full_data, snapshot(target.client()))
    if here.functions:
        assert functions(target.client()) == source.full_functions
    if here == source.identity:
        assert target.digest() == source.digest


@pytest.mark.parametrize("name", SERVERS)
def test_through_twemproxy(name: str, sources: dict[str, Source], server: Any, twemproxy: Any, tmp_path: Path) -> None:
    backends = [server(name) for _unused in range(3)]
    proxy = twemproxy(backends)
    expected = {place: entry for place, entry in sources[name].plain_data.items() if place[0] == 0}
    result = run_import(proxy, sources[name].plain, tmp_path, databases=[0], endpoint={"topology": "proxy_cluster"})
    assert result["stats"]["keys"] == len(expected)
    found: Snapshot = {}
    for backend in backends:
        part = snapshot(backend.client())
        assert part and not found.keys() & part.keys()
        found.update(part)
    assert_same_data(expected, found)
    keys = [key for _db, key in expected if key]
    assert_same_data({(0, key): expected[0, key] for key in keys}, snapshot(proxy.client(), keys=keys))
