# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""A transaction of the source as one of the target, where that has one master for all its keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

from .._codec.commands import KEYED
from .._codec.resp import ErrorReply, command
from .expiry import is_relative
from .fences import Place
from .kinds import ALL_OR_NOTHING, BUILDS, CONDITIONAL, EXPIRES, MAYBE_KEEPS, OTHER, read_positions

if TYPE_CHECKING:
    from .dispatch import Dispatcher

# Arguments, bytes, and the stream's position behind them.
Statement = Tuple[List[bytes], bytes, int]


def copies_over(args: Sequence[bytes]) -> bool:
    """Whether a COPY goes to another database."""
    return any(word.upper() == b"DB" for word in args[3:-1])


def send_as_one(dispatcher: Dispatcher, unit: List[Statement]) -> bool:
    """Send a transaction as one, where that is possible."""
    lane = dispatcher.outlet.only
    db = dispatcher.target_db
    if lane is None or db is None or dispatcher.outlet.proxied:
        return False
    if unit[-1][2] <= dispatcher.doubts.mistrust_until:
        return False
    if dispatcher.moved or dispatcher.left_alone or not dispatcher.selection.all_keys:
        return False
    fences = dispatcher.doubts.fences
    suspects: List[List[Place]] = []
    conditional: List[bool] = []
    asked: Dict[Place, List[Place]] = {}
    touched: List[Place] = []
    for args, _frame, _end in unit:
        spec = dispatcher.known.known.get(args[0])
        if spec is None or spec.scope != KEYED or not spec.write or spec.name in dispatcher.rewrites:
            return False
        if spec.name == b"SORT" or (spec.name == b"COPY" and copies_over(args)):
            return False
        if dispatcher.arrived is not None and is_relative(args) and dispatcher.arrived(unit[-1][2]) != 0:
            return False
        positions = [1] if spec.one_key else spec.find(args)
        if not positions or spec.name == b"RESTORE-ASKING":
            return False
        if dispatcher.owners and not dispatcher.owns(args[positions[0]]):
            return False
        places = [(dispatcher.db, args[pos]) for pos in positions]
        if any(place in fences or place in dispatcher.doubts.stale for place in places):
            return False
        written = [(dispatcher.db, args[pos]) for pos in dispatcher.known.written(args)]
        kind = dispatcher.kinds[args[0]]
        if kind == OTHER and spec.name == b"SET":
            kind = dispatcher.kinds.of_set(args)
            if kind == MAYBE_KEEPS:
                return False
        if kind in (OTHER, BUILDS, EXPIRES):
            for pos in [1] if spec.one_key else read_positions(args, spec, positions):
                asked.setdefault((dispatcher.db, args[pos]), []).extend(written)
        suspects.append(written)
        conditional.append(kind in (CONDITIONAL, EXPIRES) or spec.name in ALL_OR_NOTHING)
        touched += places
    everything = list(dict.fromkeys(touched))
    for place in asked:
        if not dispatcher.doubts.is_known(place):
            # What the transaction makes of a missing key may be any of its keys.
            dispatcher.ask(lane, db, place, everything)
    lane.add(db, command("MULTI"), ())
    for number, (_args, frame, _end) in enumerate(unit):
        lane.add(db, frame, suspects[number])
    lane.add(db, command("EXEC"), everything, partial(_executed, dispatcher, suspects, conditional, everything, dispatcher.since))
    dispatcher.doubts.link(unit[-1][2], everything, everything)
    for place in everything:
        dispatcher.doubts.released(place)
    dispatcher.commands += len(unit)
    return True


def _executed(
    dispatcher: Dispatcher, suspects: List[List[Place]], conditional: List[bool], everything: List[Place], since: int, reply: Any
) -> None:
    if isinstance(reply, ErrorReply):
        dispatcher.refused(everything, since, reply)
        return
    if not isinstance(reply, list) or len(reply) != len(suspects):
        dispatcher.doubts.doubt(everything, since)
        return
    for places, may_fail, one in zip(suspects, conditional, reply):
        if isinstance(one, ErrorReply):
            dispatcher.refused(places, since, one)
        elif may_fail and (one is None or one == 0):
            dispatcher.doubts.doubt(everything, since)
