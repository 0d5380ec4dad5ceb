"""Counting of raw events into roll-ups: set-based SQL, one transaction an hour, the same on both engines.

What comes late is found exactly. A trigger (migration 0007) notes each event whose hour may have been rolled up when it
is written, and a roll-up stops before the hours that a transaction under way may still write to, by the database's
clock. So an event is either counted with its hour or noted, and what is noted is counted again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import batched
from typing import Any, Final

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

import apikeys.models.counting_sql as sql
from apikeys.models.extremes import utc
from apikeys.models.recording import UsageWatermark
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.usage import DAY, HOUR
from apikeys.models.watermark import LateHour

# An hour is rolled up this long after its end, when no request of it can still be under way.
ROLL_UP_DELAY: Final = timedelta(minutes=5)
# Roll-ups are kept for 25 months; nothing older is looked for.
ROLL_UPS_KEPT: Final = timedelta(days=762)
RANKED_DAYS: Final = (1, 7, 30, 90, 395)
# A window of so many days or more is ranked once a day: nothing in it changes much faster.
_RANKED_DAILY: Final = 30
_LATE_AT_ONCE: Final = 5000
_KEYS_AT_ONCE: Final = 5000


def roll_up(now: datetime | None = None) -> Iterator[datetime]:
    """Count complete hours, then what came late; yields each hour with requests when it is done."""
    until = complete_until(now)
    _learn_rhythms()
    while (hours := _count_next(until)) is not None:
        yield from hours
    while hours := count_late():
        yield from hours
    _settle()


def complete_until(now: datetime | None = None) -> datetime:
    """Return the hour before which nothing is under way."""
    if connection.vendor == "sqlite":
        # There is one writer, and it is whoever counts.
        return floor_hour((now or timezone.now()) - ROLL_UP_DELAY)
    with connection.cursor() as cursor:
        cursor.execute(sql.OLDEST_WRITER)
        [(clock, oldest)] = cursor.fetchall()
    return floor_hour(min(now or clock, oldest or clock) - ROLL_UP_DELAY)


def _count_next(until: datetime) -> list[datetime] | None:
    """Count the next hour, or pass over the rest of a day without requests; None when nothing is left."""
    with transaction.atomic(), connection.cursor() as cursor:
        mark = UsageWatermark.locked()
        counter = _Counter(cursor)
        hour = mark.until or counter.first_hour(until)
        if hour >= until:
            if mark.until is None:
                mark.move(until)
            return None
        if mark.raw_from and hour < mark.raw_from:
            # Somebody moved the watermark back to where no raw events are left: what was counted stays.
            mark.move(min(mark.raw_from, until))
            return []
        end, midnight = hour + HOUR, floor_day(hour) + DAY
        counter.run(sql.FORGET_NOTES, since=hour, until=end)
        counted = counter.count_hour(hour)
        if not counted and not counter.any_event(end, min(midnight, until)):
            end = min(midnight, until)
        if end == midnight:
            counter.fold(hour)
        mark.move(end)
        return [hour] if counted else []


def count_late() -> list[datetime]:
    """Count again, for some keys, a day in which events came late; return its hours, none when nothing is left."""
    with transaction.atomic(), connection.cursor() as cursor:
        mark = UsageWatermark.locked()
        if mark.until is None:
            return []
        notes = list(LateHour.objects.take(mark.until, _LATE_AT_ONCE))
        if not notes:
            return []
        day = floor_day(notes[0].hour)
        notes = [note for note in notes if floor_day(note.hour) == day]
        keys = sorted({note.key_id for note in notes})
        end = min(day + DAY, mark.until)
        counter = _Counter(cursor)
        if mark.raw_from is None or day >= mark.raw_from:
            counter.forget(day, end, keys)
            counter.add(day, end, keys)
        else:
            counter.add_and_remove(day, end, keys, mark.removing_up_to)
        counter.recount_organizations(day, end, keys)
        counter.run(sql.RHYTHM, keys, now=timezone.now())
        if end == day + DAY:
            counter.fold(day)
        mark.unsettle(notes[0].hour)
        LateHour.objects.filter(pk__in=[note.pk for note in notes]).delete()
        return sorted({note.hour for note in notes})


def recount_organizations(since: date, until: date) -> None:
    """Count whole days of organizations anew, from one up to another, from the hours of their keys."""
    with transaction.atomic(), connection.cursor() as cursor:
        UsageWatermark.locked()
        for number in range((until - since).days):
            day = datetime(since.year, since.month, since.day, tzinfo=UTC) + DAY * number
            _Counter(cursor).recount_organizations(day, day + DAY)


def _learn_rhythms() -> None:
    """Learn the rhythms of all keys from hours that were counted before rhythms were."""
    with transaction.atomic(), connection.cursor() as cursor:
        UsageWatermark.locked()
        counter = _Counter(cursor)
        if not counter.finds(sql.ANY_RHYTHM) and counter.finds(sql.ANY_USE):
            counter.run(sql.RHYTHM, now=timezone.now())


def _settle() -> None:
    """Do once a run, or once a day, what needs the counts of many days: rhythms, and the busiest keys."""
    with transaction.atomic(), connection.cursor() as cursor:
        mark = UsageWatermark.locked()
        if mark.until is None or mark.until == mark.settled_until:
            return
        counter = _Counter(cursor)
        new_day = mark.settled_until is None or floor_day(mark.settled_until) < floor_day(mark.until)
        if new_day:
            since = floor_day(mark.settled_until or mark.until - ROLL_UPS_KEPT)
            counter.run(sql.FORGETFUL, since=since)
            for rows in batched(cursor.fetchall(), _KEYS_AT_ONCE):
                counter.run(sql.RHYTHM, [key for (key,) in rows], now=timezone.now())
            counter.run(sql.MEDIANS[connection.vendor], since=since)
        for days in RANKED_DAYS:
            if new_day or days < _RANKED_DAILY:
                counter.run(sql.UNRANK, days=days)
                counter.run(sql.RANK, days=days, since=mark.until - DAY * days, until=mark.until)
        mark.settled_until = mark.until
        mark.save(update_fields=["settled_until"])


class _Counter:
    """Runs the statements of counting, inside the transaction of whoever holds the watermark.

    All times are of one day: ``since`` may be its midnight or an hour of it.
    """

    def __init__(self, cursor: CursorWrapper) -> None:
        self.cursor = cursor

    def run(
        self,
        statement: str,
        keys: Sequence[int] | None = None,
        *,
        parts: dict[str, str] | None = None,
        **values: object,
    ) -> int:
        """Run a statement about some keys, or all of them, and return how many rows it wrote."""
        adapted: dict[str, Any] = {name: _adapted(value) for name, value in values.items()}
        self.cursor.execute(sql.rendered(statement, keys, **(parts or {})), adapted)
        return int(self.cursor.rowcount)

    def first_hour(self, until: datetime) -> datetime:
        """Return the hour of the first event, or ``until`` when there is none before it."""
        self.run(sql.FIRST_EVENT, since=until - ROLL_UPS_KEPT, until=until)
        [(first,)] = self.cursor.fetchall()
        return floor_hour(utc(first)) if first else until

    def finds(self, statement: str) -> bool:
        """Say whether a query finds anything."""
        self.run(statement)
        return bool(self.cursor.fetchall())

    def any_event(self, since: datetime, until: datetime) -> bool:
        """Say whether there is an event between two instants."""
        self.run(sql.ANY_EVENT, since=since, until=until)
        return bool(self.cursor.fetchall())

    def count_hour(self, hour: datetime) -> int:
        """Count the events of an hour, instead of what was counted of it before; return how many rows that makes."""
        self.run(sql.ANY_HOUR, since=hour)
        if self.cursor.fetchall():
            return self._count_hour_again(hour)
        rows = self.add(hour, hour + HOUR)
        if rows:
            self.run(sql.ORGANIZATION_HOURS, since=hour, until=hour + HOUR)
            self.run(sql.ORGANIZATION_DAY, since=hour, until=hour + HOUR, day=hour.date())
            self.run(sql.RHYTHM_GOES_ON, since=hour, now=timezone.now())
        return rows

    def _count_hour_again(self, hour: datetime) -> int:
        """Count a day up to the end of an hour: somebody moved the watermark back."""
        day = floor_day(hour)
        self.forget(day, day + DAY)
        rows = self.add(day, hour + HOUR)
        self.recount_organizations(day, day + DAY)
        return rows

    def forget(self, since: datetime, until: datetime, keys: Sequence[int] | None = None) -> None:
        """Remove what was counted of a day."""
        self.run(sql.FORGET_HOURS, keys, since=since, until=until)
        self.run(sql.FORGET_DAY, keys, day=since.date())

    def add(
        self, since: datetime, until: datetime, keys: Sequence[int] | None = None, events: str = "apikeys_usageevent"
    ) -> int:
        """Count events and add them to what was counted; return how many rows of hours they make."""
        rows = self.run(sql.HOURS, keys, parts={"events": events}, since=since, until=until)
        if rows:
            for dimension in sql.VALUES:
                parts = {"events": events, "dimension": dimension, "value": sql.value_sql(dimension)}
                self.run(sql.DAY, keys, parts=parts, since=since, until=until, day=since.date())
        return rows

    def add_and_remove(self, since: datetime, until: datetime, keys: Sequence[int], after: int | None) -> None:
        """Count events of a time whose raw events end, and remove them as well.

        On SQLite those with a row id up to ``after`` were counted, and are being removed by somebody else.
        """
        if connection.vendor == "sqlite":
            newer = f"(SELECT * FROM apikeys_usageevent WHERE rowid > {after or 0})"  # noqa: S608 - a number
            self.add(since, until, keys, newer)
            self.run(sql.FORGET_EVENTS, keys, since=since, until=until, after=after or 0)
        else:
            # One statement, so that it removes what it counts and nothing that came meanwhile.
            self.run(sql.add_and_remove(), keys, since=since, until=until, day=since.date())

    def recount_organizations(self, since: datetime, until: datetime, keys: Sequence[int] | None = None) -> None:
        """Count a day of organizations anew from the hours of their keys."""
        self.run(sql.FORGET_ORGANIZATION_HOURS, keys, since=since, until=until)
        self.run(sql.ORGANIZATION_HOURS, keys, since=since, until=until)
        self.run(sql.FORGET_ORGANIZATION_DAY, keys, day=since.date())
        self.run(sql.ORGANIZATION_DAY, keys, since=since, until=until, day=since.date())

    def fold(self, day: datetime) -> None:
        """Keep of a complete day the busiest values, and the sum of the others."""
        if self.run(sql.FOLD, day=day.date()) > 0:
            self.run(sql.FORGET_FOLDED, day=day.date())


def _adapted(value: object) -> object:
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return connection.ops.adapt_datefield_value(value) if isinstance(value, date) else value
