"""What is removed when it is old: raw events after EVENT_RETENTION_DAYS, roll-ups after 25 months.

Events are removed by whole days (UTC), and only when every request of the day is rolled up. On PostgreSQL a day is a
partition, dropped in constant time; on SQLite events are removed in batches, between which others can write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from time import sleep
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apikeys import partitions
from apikeys.models import LateHour, UsageWatermark
from apikeys.models.counting import ROLL_UPS_KEPT, count_late
from apikeys.models.series import floor_day
from apikeys.models.usage import DAY

BATCH: Final = 5000
# A lock that is not to be had at once is tried again, so often and after so many seconds.
ATTEMPTS: Final = 20
PAUSE_SECONDS: Final = 1.0
_ROLL_UPS: Final = {
    "apikeys_usagehour": "hour",
    "apikeys_usageday": "day",
    "apikeys_organizationhour": "hour",
    "apikeys_organizationday": "day",
}
_BATCH: Final = {
    "postgresql": "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {where} LIMIT {batch}))",
    "sqlite": "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {batch})",
}


class LateEventsError(Exception):
    """Events of a day that should end keep arriving; it stays until the next run."""


@dataclass(slots=True)
class Pruned:
    """What was removed: days or rows of events, all before ``events_from``, and rows of roll-ups.

    ``events_from`` is None before the first roll-up: nothing may be removed then.
    """

    events_from: date | None = None
    days: int = 0
    events: int = 0
    roll_ups: int = 0


def events_kept_from(now: datetime) -> datetime:
    """Return the midnight (UTC) before which raw events end."""
    return floor_day(now) - timedelta(days=settings.EVENT_RETENTION_DAYS)


def make_partitions(now: datetime | None = None) -> int:
    """Make the partitions that are missing, and return how many; raises partitions.LockedError."""
    now = now or timezone.now()
    return patiently(lambda: partitions.make(now.astimezone(UTC).date(), events_kept_from(now).date()))


def prune(now: datetime | None = None) -> Pruned:
    """Remove what is too old. Raises LockedError or LateEventsError; what was removed until then is."""
    now = now or timezone.now()
    pruned = Pruned()
    mark = UsageWatermark.read()
    if mark.until is not None:
        until = min(events_kept_from(now), floor_day(mark.until))
        pruned.events_from = until.date()
        if partitions.exist():
            pruned.days = _drop_days(until)
        else:
            pruned.events = _remove_events(until)
    oldest = floor_day(now) - ROLL_UPS_KEPT
    for table, column in _ROLL_UPS.items():
        border = oldest.date() if column == "day" else oldest
        pruned.roll_ups += sum(_batches(table, f"{column} < %s", [border]))
    return pruned


def patiently[Result](call: Callable[[], Result]) -> Result:
    """Call it again while somebody else holds a lock. Raises LockedError in the end."""
    for _ in range(ATTEMPTS - 1):
        try:
            return call()
        except partitions.LockedError:
            sleep(PAUSE_SECONDS)
    return call()


def _drop_days(until: datetime) -> int:
    """Drop the days before one, the oldest first, and return how many there were."""
    days = sorted({day for day in (*partitions.days(), *partitions.days_in_default()) if day < until.date()})
    for day in days:
        _end_with(datetime(day.year, day.month, day.day, tzinfo=UTC) + DAY, day)
    _end_with(until)
    return len(days)


def _end_with(until: datetime, day: date | None = None) -> None:
    """Say that raw events before a midnight have ended and, in the same transaction, drop the last of their days."""

    def end() -> bool:
        with partitions.brief_lock() as cursor:
            mark = UsageWatermark.locked()
            if day is not None:
                partitions.drop(cursor, day)
            # After the removal: what it took away and was noted as late, it took away uncounted.
            if LateHour.objects.filter(hour__lt=until).exists():
                transaction.set_rollback(True)
                return False
            mark.keep_raw_from(until)
            return True

    for _ in range(ATTEMPTS):
        if patiently(end):
            return
        while count_late():
            pass
    raise LateEventsError


def _remove_events(until: datetime) -> int:
    """Remove the events before a midnight in batches, and return how many there were.

    Which ones is settled first: what comes later is late, is counted by the next roll-up, and removed by it.
    """
    while count_late():
        pass
    with transaction.atomic(), connection.cursor() as cursor:
        mark = UsageWatermark.locked()
        if LateHour.objects.filter(hour__lt=until).exists():
            raise LateEventsError
        if mark.removing_up_to is None:
            cursor.execute("SELECT MAX(rowid) FROM apikeys_usageevent")
            mark.remove_up_to((cursor.fetchone() or (None,))[0])
        mark.keep_raw_from(until)
    removed = sum(_batches("apikeys_usageevent", "at < %s AND rowid <= %s", [until, mark.removing_up_to]))
    mark.remove_up_to(None)
    return removed


def _batches(table: str, where: str, values: list[object]) -> Iterator[int]:
    """Remove the rows of a table that a condition names; yields the number of each batch."""
    statement = _BATCH[connection.vendor].format(table=table, where=where, batch=BATCH)
    adapted: list[Any] = [
        connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value for value in values
    ]
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, adapted)
            removed = cursor.rowcount
        yield removed
        if removed < BATCH:
            return
