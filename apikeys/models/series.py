"""Counts in steps of time: where each step begins, in anybody's time zone, and what was counted in it. No database."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final

from apikeys.models.usage import DAY, HOUR, Outcome


@dataclass(frozen=True, slots=True)
class UsageRange:
    """A span of time that ends now, as people choose it: ``count`` steps; a step of None is a calendar month."""

    name: str
    label: str
    step: timedelta | None
    count: int

    def edges(self, now: datetime, tz: tzinfo = UTC) -> list[datetime]:
        """Return where its steps begin and, last, where it ends: the first edge after now in a time zone."""
        local = now.astimezone(tz)
        if self.step is None:
            months = local.year * 12 + local.month - self.count
            return [_month(months + number, tz) for number in range(self.count + 1)]
        if self.step <= HOUR:
            end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
            return edges(end - self.step * self.count, self.step, self.count)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        end = midnight + (((local.replace(tzinfo=None) - midnight) // self.step) + 1) * self.step
        return [(end - self.step * left).replace(tzinfo=tz).astimezone(UTC) for left in range(self.count, -1, -1)]


RANGES: Final = {
    one.name: one
    for one in (
        UsageRange("24h", "24 h", HOUR, 24),
        UsageRange("7d", "7 d", 6 * HOUR, 28),
        UsageRange("30d", "30 d", DAY, 30),
        UsageRange("90d", "90 d", DAY, 90),
        UsageRange("13m", "13 months", None, 13),
    )
}


@dataclass(frozen=True, slots=True)
class UsageSeries:
    """Counts by outcome: ``counts[outcome][i]`` is for ``starts[i]`` up to the next start, the last up to ``end``.

    ``step`` is the length of a step; days and months that are longer or shorter than others have their usual one.
    """

    starts: list[datetime]
    step: timedelta
    counts: dict[str, list[int]]
    end: datetime

    @property
    def by_outcome(self) -> dict[str, int]:
        """The sum of each outcome."""
        return {outcome: sum(values) for outcome, values in self.counts.items()}

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.by_outcome.values())

    @property
    def refused(self) -> int:
        """All requests that were not accepted."""
        return self.total - self.by_outcome.get(Outcome.VALID, 0)


def edges(since: datetime, step: timedelta, count: int, tz: tzinfo = UTC) -> list[datetime]:
    """Return ``count + 1`` instants from one on; whole days are those of a time zone, 23 to 25 hours long."""
    if step % DAY:
        return [since + step * number for number in range(count + 1)]
    local = since.astimezone(tz).replace(tzinfo=None)
    return [(local + step * number).replace(tzinfo=tz).astimezone(UTC) for number in range(count + 1)]


def floor_hour(at: datetime) -> datetime:
    """Return the start of the hour (UTC) that an instant lies in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def floor_day(at: datetime) -> datetime:
    """Return the start of the day (UTC) that an instant lies in."""
    return floor_hour(at).replace(hour=0)


def make_series(edges: Sequence[datetime], rows: Iterable[tuple[datetime, str, int]]) -> UsageSeries:
    """Put counts with their times between edges; what lies outside is left out."""
    buckets = len(edges) - 1
    counts: dict[str, list[int]] = {}
    for at, outcome, count in rows:
        position = bisect_right(edges, at) - 1
        if 0 <= position < buckets:
            counts.setdefault(outcome, [0] * buckets)[position] += count
    ordered = {outcome: counts[outcome] for outcome in Outcome.values if outcome in counts}
    return UsageSeries(list(edges[:-1]), _usual_step(edges), ordered, edges[-1])


def _usual_step(edges: Sequence[datetime]) -> timedelta:
    steps = sorted(later - earlier for earlier, later in pairwise(edges))
    return steps[len(steps) // 2]


def _month(number: int, tz: tzinfo) -> datetime:
    """Return the first instant of a month, counted from the year 0."""
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=tz).astimezone(UTC)
