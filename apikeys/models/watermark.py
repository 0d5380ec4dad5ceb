"""Where usage is read: how far it is rolled up, which raw events are kept, and which hours must be counted again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, NamedTuple, Self

from django.db import connection, models
from django.db.models import Q

from apikeys.models.among import Among
from apikeys.models.recording import UsageWatermark
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.usage import DAY, HOUR

# Beyond so many separate hours everything from the first of them on is read from raw events.
MAX_RANGES = 50
# Written out: every count begins with it, and Django took longer to put it together than the database to answer it.
_MARK: Final = """
SELECT *, EXISTS (SELECT 1 FROM apikeys_latehour) AS has_late FROM apikeys_usagewatermark WHERE id = 1
"""


class Span(NamedTuple):
    """From an instant up to another, which it does not hold; None is the end of time."""

    since: datetime
    until: datetime | None

    def condition(self, field: str) -> Q:
        """Say that a time lies in it; ``day`` is a date."""
        since, until = (at.date() if at and field == "day" else at for at in self)
        after = Q(**{f"{field}__gte": since})
        return after & Q(**{f"{field}__lt": until}) if until else after


class LateHourQuerySet(models.QuerySet["LateHour"]):
    """Finding the hours that are to be counted again."""

    def between(self, since: datetime, until: datetime) -> Self:
        """Return the notes of hours from one up to another."""
        return self.filter(hour__gte=since, hour__lt=until)

    def take(self, until: datetime, most: int) -> list[LateHour]:
        """Lock and return the oldest notes before an hour, but for those whose events are not committed yet."""
        return list(self.filter(hour__lt=until).order_by("hour", "key_id").select_for_update(skip_locked=True)[:most])


class LateHour(models.Model):
    """A key's hour (UTC) that got an event after it may have been rolled up, noted by a trigger as part of the event.

    Until it is counted again it is read from raw events. It may be noted more than once.
    """

    key_id = models.BigIntegerField()
    hour = models.DateTimeField()

    objects: ClassVar = LateHourQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["key_id", "hour"], name="late_hour_of_key"),
            models.Index(fields=["hour"], name="late_hour"),
        ]

    def __str__(self) -> str:
        return f"{self.key_id}: late events in {self.hour.isoformat()}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where counts between two instants are read, so that every request is counted once.

    ``rolled``, if any, is read from roll-ups, but for ``recounted``; raw events are read of every span of ``raw``.
    """

    rolled: Span | None
    recounted: list[Span]
    raw: list[Span]

    @classmethod
    def of(
        cls,
        since: datetime,
        until: datetime | None = None,
        *,
        split: Sequence[datetime] = (),
        unit: timedelta = HOUR,
        keys: Sequence[int] | models.QuerySet[Any] | None = None,
    ) -> Sources:
        """Return them for roll-ups by hour or by day, of some keys or of all.

        ``split`` are further instants at which units are cut: those are read raw while raw events are kept.
        """
        floor = floor_day if unit == DAY else floor_hour
        mark = next(iter(UsageWatermark.objects.raw(_MARK)), None)
        if mark is None or mark.until is None or since >= mark.until:
            return cls(None, [], _cut([Span(since, until)], since, until))
        late: set[datetime] = set()
        if mark.__dict__["has_late"]:  # seldom: until they are counted again
            notes = LateHour.objects.between(floor(since), mark.until)
            if keys is not None:
                of_keys = Q(key_id__in=keys) if isinstance(keys, models.QuerySet) else Among(models.F("key_id"), keys)
                notes = notes.filter(of_keys)
            late = {floor(hour) for hour in notes.values_list("hour", flat=True).distinct()}
        # What is rolled up of the day or hour that runs ends before such an edge anyway.
        cut = {floor(at) for at in (since, until, *split) if at and at < mark.until and at != floor(at)}
        kept = [start for start in late | cut if mark.raw_from is None or start >= mark.raw_from]
        recounted = _spans((start for start in kept if start < mark.until), unit)
        # Raw events of this time were removed: those that came later still are added to what was counted.
        added = _spans((start for start in late if start not in kept), unit)
        end = min(mark.until, until) if until else mark.until
        rolled = Span(floor(since), end if end == floor(end) else floor(end) + unit)
        return cls(rolled, recounted, _cut([*added, *recounted, Span(mark.until, None)], since, until))

    def rolled_condition(self, field: str) -> Q:
        """Say which rows of a roll-up count, by its time."""
        if self.rolled is None:
            return Q(pk__in=[])
        condition = self.rolled.condition(field)
        for span in self.recounted:
            condition &= ~span.condition(field)
        return condition

    def rolled_sql(self, column: str) -> tuple[str, list[object]]:
        """Say the same in SQL, with its parameters."""
        text, values = _sql([self.rolled] if self.rolled else [], column)
        if self.recounted:
            excluded, more = _sql(self.recounted, column)
            text, values = f"{text} AND NOT ({excluded})", values + more
        return text, values

    def raw_sql(self, column: str) -> tuple[str, list[object]]:
        """Say which raw events count, in SQL with its parameters."""
        return _sql(self.raw, column)

    def raw_condition(self) -> Q:
        """Say which raw events count."""
        condition = self.raw[0].condition("at") if self.raw else Q(key_id__in=[])
        for span in self.raw[1:]:
            condition |= span.condition("at")
        return condition


def _spans(starts: Iterable[datetime], unit: timedelta) -> list[Span]:
    """Join hours or days that follow one another; too many become one from the first to the last."""
    found: list[Span] = []
    for start in sorted(starts):
        if found and found[-1].until == start:
            found[-1] = Span(found[-1].since, start + unit)
        else:
            found.append(Span(start, start + unit))
    return found if len(found) <= MAX_RANGES else [Span(found[0].since, found[-1].until)]


def _cut(spans: Iterable[Span], since: datetime, until: datetime | None) -> list[Span]:
    """Return what of some spans lies between two instants."""
    found: list[Span] = []
    for span in spans:
        start = max(span.since, since)
        ends = [end for end in (span.until, until) if end is not None]
        end = min(ends) if ends else None
        if end is None or start < end:
            found.append(Span(start, end))
    return found


def _day(at: datetime) -> object:
    return connection.ops.adapt_datefield_value(at.date())


def _sql(spans: Sequence[Span], column: str) -> tuple[str, list[object]]:
    adapt = _day if column.endswith("day") else connection.ops.adapt_datetimefield_value
    texts: list[str] = []
    values: list[object] = []
    for since, until in spans:
        texts.append(f"({column} >= %s AND {column} < %s)" if until else f"{column} >= %s")
        values += [adapt(since), adapt(until)] if until else [adapt(since)]
    return " OR ".join(texts) or "1 = 0", values
