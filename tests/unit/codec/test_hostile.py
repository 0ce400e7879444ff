# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes that nobody wrote: whatever comes in, a decoder ends soon, with a value or a CodecError."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dcs.migration.plugins.module_utils._codec import listpack, payload, stream, values
from ansible_collections.dcs.migration.plugins.module_utils._codec import types as t
from ansible_collections.dcs.migration.plugins.module_utils._codec.errors import CodecError
from ansible_collections.dcs.migration.tests.unit.codec.test_payload import BODIES
from ansible_collections.dcs.migration.tests.unit.codec.vectors import elements_of, read_in_pieces, vectors

# Generous: what must not happen is a time that grows with a number in the data.
BOUNDED = settings(deadline=timedelta(seconds=2), max_examples=300)

WRITTEN = [(vector.type_byte, vector.dialect, vector.body) for vector in vectors()]
WRITTEN += [(type_byte, t.REDIS, body) for type_byte, body in BODIES]
WRITTEN.append((t.MODULE_2, t.REDIS, b"\x81\x01\x02\x03\x04\x05\x06\x07\x08\x02\x05\x05\x03abc\x04bbbbbbbb\x00"))

type_bytes = st.integers(0, 40)
dialects = st.sampled_from([t.REDIS, t.VALKEY])


@st.composite
def damaged(draw: st.DrawFn) -> tuple[int, str, bytes]:
    """One of the written values with a few bytes changed, left out or put in."""
    type_byte, dialect, body = draw(st.sampled_from(WRITTEN))
    data = bytearray(body)
    for _unused in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        stop = at + draw(st.integers(0, 3))
        data[at:stop] = draw(st.binary(max_size=3))
    return type_byte, dialect, bytes(data)


def run_everything(type_byte: int, dialect: str, body: bytes) -> None:
    """Decode, compare with reading in pieces, expand, and rewrite for the oldest and newest servers."""
    whole: Any
    try:
        whole, end = values.decode(type_byte, body, 0, dialect)
    except CodecError:
        whole, end = None, 0
    if type_byte != t.MODULE_2:
        try:
            elements, used, _reader = read_in_pieces(type_byte, dialect, body, 7)
        except (CodecError, EOFError):
            if whole is not None:
                raise
        else:
            if whole is None:
                raise ValueError("only the reader accepts it")
            if (repr(elements), used) != (repr(elements_of(whole)), end):
                raise ValueError("the reader and the decoder differ")
    if whole is None:
        return
    for version, target in ((6, t.REDIS), (9, t.REDIS), (15, t.REDIS), (81, t.VALKEY)):
        try:
            if isinstance(whole, stream.Stream):
                values.canonical(whole)
            made, rewritten = payload.encode(whole, version, target)
            values.decode(made, rewritten, 0, target)
        except CodecError:
            continue


@BOUNDED
@given(type_bytes, dialects, st.binary(max_size=300))
def test_arbitrary_bytes(type_byte: int, dialect: str, body: bytes) -> None:
    run_everything(type_byte, dialect, body)


@BOUNDED
@given(damaged())
def test_damaged_values(case: tuple[int, str, bytes]) -> None:
    run_everything(*case)


@BOUNDED
@given(st.binary(max_size=300))
def test_arbitrary_payloads(data: bytes) -> None:
    try:
        payload.split(data)
    except CodecError:
        pass


@BOUNDED
@given(st.lists(st.one_of(st.integers(-3, 9).map(lambda number: b"%d" % number), st.binary(max_size=3)), max_size=40))
def test_arbitrary_stream_nodes(items: list[bytes]) -> None:
    try:
        entries = stream.node_entries(b"\x00" * 16, listpack.encode(items))
    except CodecError:
        return
    if len(entries) > len(items):
        raise ValueError("more entries than elements")
