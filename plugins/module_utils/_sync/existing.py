# Copyright (c) 2026, dcs.migration contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the dcs.migration collection: no stability promise for other collections.

"""Keys that the target has and the snapshots do not: its own from before, or what vanished from the source between two snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Collection, Dict, Iterable, Iterator, List, Set, Tuple

from .._codec.events import Batch, BigEnd, BigPart, BigStart
from .._codec.resp import command
from .._codec.slots import key_slot
from .._errors import ConflictError, UsageError
from .._sink.frames import show
from .fences import Place

if TYPE_CHECKING:
    from .session import Session

# So many names are kept in memory; each takes some 150 bytes.
_NAMES_MAX = 200_000


def target_dbs(session: Session) -> Dict[int, List[int]]:
    """Databases of the target that the task writes, and those of the source that go into each. ServerError."""
    found: Dict[int, List[int]] = {}
    for number in range(session.databases):
        db = session.selection.db_of(number)
        if db is not None and session.lanes.has_database(db):
            found.setdefault(db, []).append(number)
    return found


def is_empty(session: Session) -> bool:
    """Whether the target has no key but ours. ServerError."""
    for _db, _keys in session.lanes.keys(target_dbs(session), session.breathe):
        return False
    return True


def names(session: Session) -> Set[Place]:
    """Every key that the target has where the task writes, with the target's database. ServerError, UsageError."""
    found: Set[Place] = set()
    for db, keys in session.lanes.keys(target_dbs(session), session.breathe):
        found.update((db, key) for key in keys if session.selection.keep(key))
        if len(found) > _NAMES_MAX:
            raise UsageError(
                session.config.target.label,
                "has more than %d keys already, too many to remember for on_conflict: %s" % (_NAMES_MAX, session.config.on_conflict),
                "Use on_conflict: replace, or migrate by backup files",
            )
    return found


def without(events: Iterable[Any], alone: Collection[Place], db_of: Callable[[int], Any], skipped: Callable[[int], None]) -> Iterator[Any]:
    """The events without the keys in ``alone`` (database of the target, key)."""
    leaving = False
    for event in events:
        if isinstance(event, Batch):
            db = db_of(event.db)
            entries = [entry for entry in event.entries if (db, entry[1]) not in alone]
            if len(entries) < len(event.entries):
                skipped(len(event.entries) - len(entries))
                event = event._replace(entries=entries)
        elif isinstance(event, BigStart):
            leaving = (db_of(event.db), event.key) in alone
            if leaving:
                skipped(1)
                continue
        elif leaving and isinstance(event, (BigPart, BigEnd)):
            continue
        yield event


def refuse_any(events: Iterable[Any], conflicts: Collection[Place], db_of: Callable[[int], Any], name: str) -> None:
    """ConflictError for the first key that is one of these (database of the target ``name``, key)."""
    for event in events:
        if isinstance(event, (Batch, BigStart)):
            db = db_of(event.db)
            for key in [event.key] if isinstance(event, BigStart) else [entry[1] for entry in event.entries]:
                if (db, key) in conflicts:
                    raise ConflictError(
                        "%s, key %s in db %s" % (name, show(key), db),
                        "exists already, and on_conflict is fail",
                        "Set on_conflict to replace or skip, or empty the target",
                    )


def only_in_target(session: Session) -> Tuple[int, Dict[int, Set[Place]], bool]:
    """How many keys the source does not have; names of them (database of the source) by stream; whether these are all. ServerError."""
    count = noted = 0
    found: Dict[int, Set[Place]] = {number: set() for number in session.followers}
    by_db = target_dbs(session)
    for db, keys in session.lanes.keys(by_db, session.breathe):
        keys = [key for key in keys if session.selection.keep(key)]
        for number in by_db[db]:
            for key in _missing(session, number, keys):
                count += 1
                if noted < _NAMES_MAX:
                    noted += 1
                    for stream in _streams_of(session, key):
                        found[stream].add((number, key))
    return count, found, noted == count


def _streams_of(session: Session, key: bytes) -> List[int]:
    """The streams that may bring the key."""
    if not session.sources.slots:
        return list(session.followers)
    owner = session.sources.owner(key_slot(key))
    return [owner] if owner is not None and owner in session.followers else []


def _missing(session: Session, db: int, keys: List[bytes]) -> List[bytes]:
    """Those that no source has."""
    here: Set[bytes] = set()
    by_stream: Dict[int, List[bytes]] = {}
    for key in keys:
        for stream in _streams_of(session, key):
            by_stream.setdefault(stream, []).append(key)
    for stream, some in by_stream.items():
        replies = session.followers[stream].source.ask([command("EXISTS", key) for key in some], db)
        here.update(key for key, reply in zip(some, replies) if reply)
    return [key for key in keys if key not in here]
