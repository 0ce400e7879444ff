# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""How far an unfinished value reaches at least, by the lengths seen in it so far.

A scanner that waits for the rest of a value compares this with the size of the file: one damaged length must not make it
collect everything up to the file's end in memory. Positions returned may lie beyond the buffer; CodecError for lengths that no value has.
"""

from __future__ import annotations

from . import skip, types as t

# Types whose whole value is one string.
_ONE_STRING = frozenset(
    (
        t.STRING,
        t.HASH_ZIPMAP,
        t.LIST_ZIPLIST,
        t.SET_INTSET,
        t.ZSET_ZIPLIST,
        t.HASH_ZIPLIST,
        t.HASH_LISTPACK,
        t.ZSET_LISTPACK,
        t.SET_LISTPACK,
    )
)


def value_reach(type_byte: int, buf: bytes, pos: int) -> int:
    """Where the value that begins at ``pos`` ends at the earliest; ``pos`` itself where only its elements will tell."""
    if type_byte in _ONE_STRING:
        return skip.string_end(buf, pos)
    if type_byte == t.MODULE_2:
        return module_reach(buf, skip.length_end(buf, pos))
    return pos


def module_reach(buf: bytes, pos: int) -> int:
    """Where the tagged values of a module, from ``pos`` on, end at the earliest."""
    # One value more at a time, each inside the buffer until the last.
    reach = pos
    try:
        while reach < len(buf):
            tag = skip.number(buf, reach)
            if tag == t.MODULE_EOF:
                return skip.length_end(buf, reach)
            reach = skip.module_value_end(buf, reach)
    except IndexError:
        pass
    return reach


def element_reach(type_byte: int, dialect: str, buf: bytes, pos: int) -> int:
    """Where the element at ``pos`` ends at the earliest, when a collection is read in parts and this element is a long one."""
    try:
        if type_byte == t.LIST_QUICKLIST_2:
            pos += 1
        elif dialect == t.REDIS and type_byte in (t.HASH_METADATA, t.HASH_METADATA_PRE_GA):
            pos = skip.length_end(buf, pos)
        elif dialect == t.REDIS and type_byte == t.HASH_LISTPACK_EX:
            pos += 8
        end = skip.string_end(buf, pos)
        # A field has its value behind it, a stream's node its entries.
        if end < len(buf) and (t.kind_of(type_byte, dialect) in ("hash", "stream")):
            end = skip.string_end(buf, end)
        return end
    except IndexError:
        return pos
