"""Spans of time that people choose: the usual ones, which end now, and any others from one day to another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from apikeys.models.series import RANGES

DEFAULT_RANGE: Final = "30d"
# Counts are kept for so many months.
KEPT_MONTHS: Final = 25
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)


class RangeError(ValueError):
    """The days that were chosen are no span of time that can be shown; the message names the limit.

    ``field`` is the day that is wrong: "since" or "until".
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A span of time cut into steps: instants on whole hours (UTC), the last one its end.

    ``name`` is one of RANGES or "2026-11-01-to-2026-11-12", which a file can be called.
    """

    name: str
    words: str
    edges: list[datetime]
    zone: tzinfo = UTC

    @property
    def since(self) -> datetime:
        """Its beginning."""
        return self.edges[0]

    @property
    def until(self) -> datetime:
        """Its end, which it does not hold."""
        return self.edges[-1]

    @property
    def before(self) -> datetime:
        """The beginning of the span of as many hours or days before it."""
        if self.until - self.since < 2 * _DAY:
            return self.since - (self.until - self.since)
        first, end = self.since.astimezone(self.zone), self.until.astimezone(self.zone)
        return _midnight(first.date() - (end.date() - first.date()), self.zone, first.hour)

    def knows_before(self, recorded_since: datetime | None) -> bool:
        """Whether the span before it was recorded, and is kept, from its beginning on."""
        kept = months_before(self.until.astimezone(self.zone).date(), KEPT_MONTHS)
        is_kept = self.before.astimezone(self.zone).date() >= kept
        return is_kept and (recorded_since is None or recorded_since <= self.before)

    @property
    def whole_days(self) -> tuple[datetime, datetime]:
        """Its ends as callers, scopes and endpoints are counted: of longer spans, the nearest midnights of UTC.

        A span that is not over ends with the day that runs in UTC, so that what happened just now is in it.
        """
        if not self.counts_whole_days:
            return self.since, self.until
        rounded = _DAY - _HOUR if self.until > datetime.now(UTC) else _DAY / 2
        since, until = self.since + _DAY / 2, self.until + rounded
        return since.astimezone(UTC).replace(hour=0), until.astimezone(UTC).replace(hour=0)

    @property
    def counts_whole_days(self) -> bool:
        """Whether callers, scopes and endpoints are counted by whole days of UTC."""
        return self.until - self.since >= 3 * _DAY

    @property
    def first_whole_day(self) -> str:
        """The first of these days: "3 Nov 2026"."""
        return day_words(self.whole_days[0].date())

    @property
    def query(self) -> str:
        """What an address says to mean it."""
        if self.is_usual:
            return f"range={self.name}"
        since, _, until = self.name.partition("-to-")
        return f"since={since}&until={until}"

    @property
    def is_usual(self) -> bool:
        """Whether it is one of RANGES, which moves on with time."""
        return self.name in RANGES

    @classmethod
    def usual(cls, name: str, now: datetime, zone: tzinfo = UTC) -> TimeRange:
        """Return one of RANGES, which ends with the hour, day or month that runs."""
        chosen = RANGES[name]
        return cls(name, chosen.label, [_whole_hour(edge) for edge in chosen.edges(now, zone)], zone)

    @classmethod
    def between(cls, first: date, last: date, zone: tzinfo = UTC) -> TimeRange:
        """Return the span from one day to another, both included, in steps that make a readable chart."""
        return cls(f"{first}-to-{last}", _words(first, last), _edges(first, last, zone), zone)


def check_days(first: date, last: date, *, today: date, recorded_since: date | None) -> None:
    """Raise RangeError for days that are reversed, still to come, no longer kept, or from before recording began."""
    earliest = months_before(today, KEPT_MONTHS)
    check_order(first, last, today=today)
    if first < earliest:
        raise RangeError("since", f"Counts are kept for {KEPT_MONTHS} months: the first day is {day_words(earliest)}.")
    if recorded_since and last < recorded_since:
        raise RangeError("until", f"Nothing was measured before {day_words(recorded_since)}, when recording began.")


def check_order(first: date, last: date, *, today: date) -> None:
    """Raise RangeError for days that are reversed or still to come."""
    if max(first, last) > today:
        latest, field = max((first, "since"), (last, "until"))
        raise RangeError(field, f"{day_words(latest)} is still to come; the last day is today, {day_words(today)}.")
    if last < first:
        raise RangeError("until", f"It ends before it begins: {day_words(last)} is before {day_words(first)}.")


def months_before(day: date, months: int) -> date:
    """Return the same day some months earlier, the last one of a month that is too short."""
    number = day.year * 12 + day.month - 1 - months
    first = date(number // 12, number % 12 + 1, 1)
    following = (first + timedelta(days=31)).replace(day=1)
    return min(first + _DAY * (day.day - 1), following - _DAY)


def day_words(day: date) -> str:
    """Write a day: "3 Nov 2026"."""
    return day.strftime("%-d %b %Y")


def _words(first: date, last: date) -> str:
    if first == last:
        return day_words(first)
    return f"{first.strftime('%-d %b' if first.year == last.year else '%-d %b %Y')} to {day_words(last)}"


def _edges(first: date, last: date, zone: tzinfo) -> list[datetime]:
    """Return where the steps begin and, last, where the span ends: hours, 6 hours, days or weeks."""
    days = (last - first).days + 1
    begin, end = _midnight(first, zone), _midnight(last + _DAY, zone)
    if days <= 2:
        return [begin + _HOUR * number for number in range((end - begin) // _HOUR)] + [end]
    if days <= 10:
        quarters = range(0, 24, 6)
        return [_midnight(first + _DAY * day, zone, hour) for day in range(days) for hour in quarters] + [end]
    step = 1 if days <= 100 else 7
    return [_midnight(first + _DAY * day, zone) for day in range(0, days, step)] + [end]


def _midnight(day: date, zone: tzinfo, hour: int = 0) -> datetime:
    return _whole_hour(datetime.combine(day, time(hour), zone).astimezone(UTC))


def _whole_hour(at: datetime) -> datetime:
    """Round up to a whole hour (UTC): requests are counted by hours, which midnight cuts in some time zones."""
    floor = at.replace(minute=0, second=0, microsecond=0)
    return floor if floor == at else floor + _HOUR
