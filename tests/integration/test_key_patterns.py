# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The patterns of include_keys and exclude_keys choose what KEYS of a server chooses."""

from __future__ import annotations

import itertools
import random
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._errors import UsageError
from ansible_collections.dcs.migration.plugins.module_utils._sink.selection import glob
from ansible_collections.dcs.migration.tests.support.servers import RedisServer

LETTERS = [bytes([byte]) for byte in b"abwz-]^[\\*?|&~.\n\xc3\xa9"]
LONG = [b"".join(random.Random(number).choices(LETTERS, k=3 + number % 4)) for number in range(400)]
KEYS = sorted({b"".join(one) for size in (1, 2) for one in itertools.product(LETTERS, repeat=size)} | set(LONG))


@pytest.fixture(scope="module")
def full() -> Any:
    with RedisServer("redis-6.2") as server:
        server.client().mset(dict.fromkeys(KEYS, b""))
        yield server


def ours(pattern: bytes) -> set[bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        match = glob(pattern)
    return {key for key in KEYS if match(key)}


@pytest.mark.parametrize(
    "pattern",
    [b"[z-a]*", b"[^]", b"[^]*", b"[]", b"[]a]", b"[a\\]b]", b"[\\w]", b"[\\a-z]", b"[a-\\z]", b"[[a]", b"[a||b]*", b"[a&&b]", b"[a~~b]",
     b"[a--z]", b"[-a]", b"[^^]", b"[^-a]", b"[a^]", b"[a-]z]", b"[a-\xc3]", b"[\x80-\xff]?", b"[\\\\]*", b"**a", b"*\\", b"\\", b"\\a\\*",
     b"a]*", b"*[ab]*[^ab]", b"?\n", b"."],
)  # fmt: skip
def test_patterns_that_mean_something_else_elsewhere(full: RedisServer, pattern: bytes) -> None:
    assert ours(pattern) == set(full.client().keys(pattern))


def test_any_pattern(full: RedisServer) -> None:
    client = full.client()
    pieces = [*LETTERS, b"*", b"?", b"[", b"[", b"[^", b"]", b"]", b"\\", b"a-z", b"z-a"]

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(pieces), max_size=8).map(b"".join))
    def compare(pattern: bytes) -> None:
        try:
            found = ours(pattern)
        except UsageError:
            return  # a class that does not end: refused here, see below
        assert found == set(client.keys(pattern))

    compare()


@pytest.mark.parametrize("pattern", [b"[", b"a[b", b"[^", b"[a-]", b"[a\\]", b"[\\"])
def test_a_class_that_does_not_end_is_a_slip(pattern: bytes) -> None:
    with pytest.raises(UsageError, match=r"a \[ without \].*Escape"):
        glob(pattern)


def test_many_stars_are_quick() -> None:
    assert glob(b"*" * 60 + b"b")(b"a" * 3000) is None
