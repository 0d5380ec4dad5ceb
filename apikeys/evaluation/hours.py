"""Requests by key, hour and outcome of all keys, one key after the other, in constant memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import batched, groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db.models import Count, Q, QuerySet, Sum

from apikeys.models import Outcome, UsageEvent, UsageHour
from apikeys.models.extremes import epoch_seconds
from apikeys.models.rollup import unit_number, unit_start
from apikeys.models.series import floor_hour
from apikeys.models.usage import HOUR, SECOND
from apikeys.models.watermark import Sources
from apikeys.unusual_usage import Array

CHUNK = 5000

type Hours = dict[datetime, dict[str, int]]


def hours_by_key(
    outcomes: Sequence[Outcome],
    since: datetime,
    until: datetime | None = None,
    *,
    keys: QuerySet[Any] | Sequence[int] | None = None,
) -> Iterator[tuple[int, Hours]]:
    """Yield each key that had some outcomes between two instants, with their counts by hour (UTC); in order of keys.

    The first hour is whole. ``keys`` are ids, or a query that has one column of them.
    """
    since = floor_hour(since)
    sources = Sources.of(since, until)
    wanted = Q(outcome__in=outcomes) & (Q(key_id__in=keys) if keys is not None else Q())
    rolled = UsageHour.objects.filter(sources.rolled_condition("hour"), wanted)
    raw = UsageEvent.objects.filter(sources.raw_condition(), wanted)
    counted = heapq.merge(_counted(rolled, "hour", Sum("count")), _counted(raw, "at", Count("*")))
    for key_id, rows in groupby(counted, key=itemgetter(0)):
        yield key_id, _hours(rows)


def _counted(rows: QuerySet[Any], time: str, total: Sum | Count) -> Iterator[tuple[int, int, str, int]]:
    numbered = rows.annotate(unit=unit_number(time, HOUR)).values_list("key_id", "unit", "outcome")
    yield from numbered.annotate(total=total).order_by("key_id", "unit", "outcome").iterator(CHUNK)


def _hours(rows: Iterable[tuple[int, int, str, int]]) -> Hours:
    found: Hours = {}
    for _, number, outcome, count in rows:
        counts = found.setdefault(unit_start(number, HOUR), {})
        counts[outcome] = counts.get(outcome, 0) + count
    return found


def hourly_counts(keys: Sequence[int], since: datetime, until: datetime) -> Array:
    """Return the accepted requests of some keys, sorted by id, a row a key and a column an hour (UTC).

    From a whole hour up to an instant; the last hour may be a part of one.
    """
    return HourlyCounts(keys, since, until).of(keys)


class HourlyCounts:
    """Accepted requests by key and hour (UTC), from a whole hour up to an instant, read once in the order of keys.

    ``keys`` are ids, or a query that has one column of them.
    """

    def __init__(self, keys: QuerySet[Any] | Sequence[int], since: datetime, until: datetime) -> None:
        self.hours = -((since - until) // HOUR)
        self.first = epoch_seconds(since) * SECOND // HOUR
        sources = Sources.of(since, until, keys=keys)
        accepted = Q(outcome=Outcome.VALID, key_id__in=keys)
        rolled = UsageHour.objects.filter(sources.rolled_condition("hour"), accepted)
        raw = UsageEvent.objects.filter(sources.raw_condition(), accepted).order_by()
        of_hours = rolled.annotate(unit=unit_number("hour", HOUR)).values_list("key_id", "unit", "count")
        of_events = raw.annotate(unit=unit_number("at", HOUR)).values_list("key_id", "unit").annotate(total=Count("*"))
        self.readers = [_Reader(rows.order_by("key_id").iterator(CHUNK)) for rows in (of_hours, of_events)]

    def of(self, keys: Sequence[int]) -> Array:
        """Return the counts of some keys, sorted by id, a row a key and a column an hour. Later ones come later."""
        found = np.zeros((len(keys), self.hours))
        ids = np.asarray(keys)
        for reader in self.readers:
            for rows in reader.up_to(keys[-1]):
                places = np.searchsorted(ids, rows[:, 0])
                # The query may have keys that are not asked for.
                mine = ids[places] == rows[:, 0]
                np.add.at(found, (places[mine], rows[mine, 1] - self.first), rows[mine, 2])
        return found


class _Reader:
    """Rows that begin with a key's id, in the order of ids, as arrays."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self.chunks = batched(rows, CHUNK, strict=False)
        self.left: npt.NDArray[np.int64] = np.empty((0, 3), dtype=np.int64)

    def up_to(self, key: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the rows that are left up to a key."""
        while True:
            if not len(self.left):
                some = next(self.chunks, None)
                if some is None:
                    return
                self.left = np.array(some, dtype=np.int64)
            cut = int(np.searchsorted(self.left[:, 0], key, side="right"))
            if cut:
                yield self.left[:cut]
            self.left = self.left[cut:]
            if len(self.left):
                return
