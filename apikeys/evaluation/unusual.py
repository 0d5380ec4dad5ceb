"""Alerts about keys that are used far more or far less than their own rhythm lets expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import batched
from typing import Any, Final

import numpy as np
from django.db import transaction

from apikeys.evaluation.hours import HourlyCounts, hourly_counts
from apikeys.evaluation.occurrences import Occurrence, raise_new
from apikeys.evaluation.reading import read_first
from apikeys.evaluation.reconcile import Tally
from apikeys.models import (
    AlertKind,
    AlertRule,
    AlertSettings,
    ApiKey,
    JobRun,
    Organization,
    Outcome,
    RecordingState,
    Rotation,
    UsageEvent,
    UsageForecast,
    UsageHour,
)
from apikeys.models.key_status import is_paused_at, usable_condition
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.usage import DAY, HOUR
from apikeys.unusual_usage import LOOKBACK, RUN, Array, Forecast, Sensitivity, Shape, Unusual, judge, look_back

# An hour is complete when it is over for so long: what was accepted at its end is recorded by then.
GRACE: Final = timedelta(minutes=5)
# A run makes so many forecasts; on the first after midnight the rest is left to those that follow.
MOST_FORECASTS: Final = 20_000
# Longer ago than that nothing is told of any more.
MOST_MISSED: Final = 7 * DAY
# How many keys are held in memory: their weeks, and their day.
_WEEKS_BATCH: Final = 250
_DAY_BATCH: Final = 10_000

type Found = dict[int, list[tuple[datetime, Unusual]]]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look of an organization's keys needs.

    ``running`` is the hour that is not complete, ``since`` the first that was not judged before. Where recording does
    not work, ``may_lack``, nobody is told of too few requests.
    """

    organization: Organization
    sensitivity: Sensitivity
    now: datetime
    running: datetime
    since: datetime
    may_lack: bool

    @property
    def midnight(self) -> datetime:
        """When the running day (UTC) began."""
        return floor_day(self.running)


def evaluate_unusual(now: datetime, *, most_forecasts: int = MOST_FORECASTS) -> Tally:
    """Raise the alerts about unusual usage since each organization's last look. Twice, or twice at once, is once."""
    tally = Tally()
    may_lack = JobRun.objects.recording(now).state == RecordingState.STOPPED
    running = floor_hour(now - GRACE)
    for organization in Organization.objects.of_people():
        rule = AlertRule.objects.one(organization, AlertKind.UNUSUAL_USAGE)
        if not rule.is_on:
            continue
        judged_until = AlertSettings.objects.of(organization).judged_until or running - HOUR
        sensitivity = Sensitivity(str(rule.option("sensitivity")))
        look = _Look(organization, sensitivity, now, running, max(judged_until, running - MOST_MISSED), may_lack)
        most_forecasts -= _make_forecasts(look, most_forecasts, tally)
        for found in read_first(_judged_today(look)):
            tally += _raise(look, found)
        _set_judged(look)
    UsageForecast.objects.filter(day__lt=(now - MOST_MISSED).date()).delete()
    return tally


def _set_judged(look: _Look) -> None:
    with transaction.atomic():
        locked = AlertSettings.objects.lock(look.organization)
        if locked.judged_until is None or locked.judged_until < look.running:
            locked.judged_until = look.running
            locked.save(update_fields=["judged_until"])


def _make_forecasts(look: _Look, most: int, tally: Tally) -> int:
    """Make what today is judged by of the keys that lack it, and judge what was left of the days before.

    Return how many were made.
    """
    used = ApiKey.objects.filter(usable_condition(look.now), organization=look.organization)
    used = used.filter(activity__last_used_at__gte=look.midnight - _weeks(0))
    lacking = used.exclude(usage_forecast__day=look.midnight.date()).order_by("pk")
    columns = ("pk", "activity__first_used_at", "usage_forecast__day")
    rows: list[Any] = list(lacking.values_list(*columns)[:most])
    for some in batched(rows, _WEEKS_BATCH, strict=False):
        firsts: dict[int, datetime] = {pk: first for pk, first, _ in some}
        days: dict[int, date | None] = {pk: day for pk, _, day in some}
        tally += _raise(look, _forecast_batch(look, firsts, days))
    return len(rows)


def _weeks(missed: int) -> timedelta:
    return LOOKBACK * HOUR + missed * DAY


def _forecast_batch(look: _Look, firsts: Mapping[int, datetime], days: Mapping[int, date | None]) -> Found:
    """Store what today is judged by of some keys, and return what was unusual in the days since they were judged."""
    keys = sorted(firsts)
    # The hour before midnight is judged after it.
    since = min(look.since, look.midnight - HOUR)
    missed = (look.midnight - floor_day(since)) // DAY
    start = look.midnight - _weeks(missed)
    counts = known_counts(firsts, start, look.midnight)
    hours, known = look_back(counts, sensitivity=look.sensitivity, since=LOOKBACK)
    packed = np.ascontiguousarray(known.packed, dtype="<f8")
    UsageForecast.objects.store(look.midnight.date(), [(pk, packed[row].tobytes()) for row, pk in enumerate(keys)])
    return {
        pk: [(at, one) for one in hours[row] if (at := start + one.hour * HOUR) >= since]
        for row, pk in enumerate(keys)
        # A key that was never looked at has no past that somebody missed.
        if days[pk] is not None
    }


def known_counts(firsts: Mapping[int, datetime], since: datetime, until: datetime) -> Array:
    """Return the accepted requests of some keys by hour, in the order of their ids; NaN before each key's first."""
    keys = sorted(firsts)
    counts = hourly_counts(keys, since, until)
    for row, pk in enumerate(keys):
        counts[row, : max(0, (floor_hour(firsts[pk]) - since) // HOUR)] = np.nan
    return counts


def _judged_today(look: _Look) -> Iterator[Found]:
    """Yield what is unusual today up to now, of keys in batches."""
    mine = ApiKey.objects.filter(usable_condition(look.now), organization=look.organization)
    known_today = mine.filter(usage_forecast__day=look.midnight.date()).order_by("pk")
    until = min(look.now, look.running + HOUR)
    counted = HourlyCounts(known_today.order_by().values("pk"), look.midnight, until)
    rows: Iterator[Any] = known_today.values_list("pk", "usage_forecast__packed").iterator(_DAY_BATCH)
    for some in batched(rows, _DAY_BATCH, strict=False):
        known = Forecast.unpack(np.stack([np.frombuffer(packed, dtype="<f8") for _, packed in some]))
        keys = [pk for pk, _ in some]
        judged = judge(known, counted.of(keys), sensitivity=look.sensitivity, is_running=True)
        found = {
            pk: [(at, one) for one in unusual if (at := look.midnight + one.hour * HOUR) >= look.since]
            for pk, unusual in zip(keys, judged, strict=True)
            if unusual
        }
        if found:
            yield found


def _raise(look: _Look, found: Found) -> Tally:
    found = {pk: some for pk, some in found.items() if some}
    lacking = [pk for pk, some in found.items() if any(one.shape != Shape.SPIKE for _, one in some)]
    explained = _explained(look, lacking) if lacking else set()
    occurrences = {
        pk: [
            as_occurrence(at, one, is_complete=at < look.running)
            for at, one in some
            if one.shape == Shape.SPIKE or not (look.may_lack or pk in explained)
        ]
        for pk, some in found.items()
    }
    if not any(occurrences.values()):
        return Tally()
    return raise_new(look.organization, AlertKind.UNUSUAL_USAGE, occurrences, look.now, outcomes=[Outcome.VALID])


def as_occurrence(at: datetime, one: Unusual, *, is_complete: bool) -> Occurrence:
    """Return an unusual hour as alerts hold it."""
    facts = {
        "shape": one.shape.value,
        "count": one.count,
        "low": one.low,
        "high": one.high,
        "together": one.hours,
        "is_complete": is_complete,
    }
    return Occurrence(at, facts)


def _explained(look: _Look, keys: Sequence[int]) -> set[int]:
    """Return the keys that somebody keeps from being used: paused now or lately, or being replaced by a rotation."""
    rotating = Rotation.objects.open().filter(old_key__in=keys).values_list("old_key", flat=True)
    rows = ApiKey.objects.filter(pk__in=keys, paused_at__isnull=False).values_list("pk", "paused_at", "paused_until")
    lately = look.since - RUN * HOUR
    paused = {pk for pk, at, until in rows if is_paused_at(lately, at, until)}
    refused = {"key_id__in": keys, "outcome": Outcome.PAUSED}
    counted = UsageHour.objects.filter(hour__gte=lately, **refused).values_list("key_id", flat=True)
    running = UsageEvent.objects.filter(at__gte=lately, **refused).values_list("key_id", flat=True)
    return {*rotating, *paused, *counted.distinct(), *running.distinct()}
