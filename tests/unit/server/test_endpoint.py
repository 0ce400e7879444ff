# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoint options: what is accepted, what contradicts, and that no secret shows."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dcs.migration.plugins.module_utils._errors import UsageError
from ansible_collections.dcs.migration.plugins.module_utils._server.endpoint import Address, Endpoint, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.5:6379", ("10.0.0.5", 6379)),
        (" redis.example.com:1 ", ("redis.example.com", 1)),
        ("[::1]:6379", ("::1", 6379)),
        ("[2001:db8::5]:65535", ("2001:db8::5", 65535)),
    ],
)
def test_address(text: str, expected: tuple) -> None:
    assert parse_address(text) == expected
    assert str(parse_address(text)) == text.strip()


@pytest.mark.parametrize("text", ["", "host", ":6379", "host:", "host:x", "host:0", "host:65536", "::1:6379", "[]:1", "host:-1"])
def test_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"addresses": []}, "no addresses"),
        ({"provider": "aws"}, "provider"),
        ({"topology": "ring"}, "topology"),
        ({"username": "u"}, "without a password"),
        ({"sentinel_service": "m", "topology": "redis_cluster"}, "Sentinel"),
        ({"shards": ["h:1"], "topology": "single"}, "behind a proxy"),
        ({"client_key": "/k"}, "client_cert"),
    ],
)
def test_contradictions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Endpoint.from_params({"addresses": ["h:1"], **options})


def test_no_secret_shows() -> None:
    endpoint = Endpoint.from_params({"addresses": ["h:1", "h:2"], "password": "open-sesame", "sentinel_service": "m"})
    assert "sesame" not in repr(endpoint) + str(endpoint) + endpoint.label
    assert endpoint.label == "m via Sentinel h:1 (+1)"
    assert endpoint.addresses == (Address("h", 1), Address("h", 2))
