"""The rotations of an organization and the callers of one as rows, for their exports: all of them, and every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from django.utils import timezone

from apikeys.key_tables import Table
from apikeys.models import Rotation, RotationProgress, UsageValue

_KEY: Final = ("id", "fingerprint", "last_used_at")
_USE: Final = ("accepted", "refused", "first_seen", "last_seen")


def rotation_table(rotations: Iterable[Rotation]) -> Table:
    """Return a row a rotation; with a clock that waits, the old key ends at the latest when it is told to."""
    header = (
        *("rotation", "name", "environment", "state", "reason", "note"),
        *(f"{key}_{name}" for key in ("old", "new") for name in _KEY),
        *("link_sent_to", "started_at", "started_by", "overlap_seconds", "clock", "clock_waits", "ends_at"),
        *("finishes_when_safe", "ended_at", "ended_by"),
    )
    return Table(header, _rotation_rows(rotations))


def _rotation_rows(rotations: Iterable[Rotation]) -> Iterator[list[object]]:
    for one in rotations:
        old, state = one.old_key, one.ending or ("overdue" if one.is_overdue else "running")
        keys: list[object] = []
        for key in (old, one.new_key):
            activity = key.last_activity if key else None
            last_used = _instant(activity.last_used_at) if activity else None
            keys += [key.public_id, key.fingerprint, last_used] if key else [None, None, None]
        yield [
            *(one.pk, old.name, old.environment.name, state, one.reason, one.note, *keys, one.link_sent_to),
            *(_instant(one.started_at), one.started_by_label, one.overlap_seconds, one.clock, one.clock_waits),
            *(_instant(one.deadline), one.finishes_when_safe, _instant(one.closed_at), one.closed_by_label),
        ]


def _instant(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def caller_table(progress: RotationProgress) -> Table:
    """Return a row a caller with its requests on each key, those first that have not moved; times as the reader's."""
    header = (
        *("place", "address", "user_agent"),
        *(f"{key}_{name}" for key in ("old", "new") for name in _USE),
        *("usual_gap_seconds", "may_return"),
    )
    rows = [
        [
            *(move.place.value, move.address, move.user_agent, *_use(move.on_old), *_use(move.on_new)),
            *(int(move.usual_gap.total_seconds()) if move.usual_gap else None, move.may_return),
        ]
        for move in (*progress.still_old, *progress.on_both, *progress.moved)
    ]
    return Table(header, rows)


def _use(value: UsageValue | None) -> list[object]:
    if value is None:
        return [0, 0, None, None]
    first, last = (timezone.localtime(at).isoformat() for at in (value.first_at, value.last_at))
    return [value.accepted, value.refused, first, last]
