"""When a key will be used next, as far as its habits tell. No database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from apikeys.models.series import floor_hour
from apikeys.models.usage import DAY, HOUR

WEEK: Final = 7 * DAY
# Hours of the week are learnt from so many weeks.
LEARNT_WEEKS: Final = 8
# An hour in which it was used in half of the weeks is one in which it is expected; in nearly all, it is late after it.
EXPECTED: Final = 0.5
CERTAIN: Final = 0.9
# Between two uses that are closer than this nothing has to be learnt.
AT_WORK: Final = timedelta(minutes=5)


def next_use(
    hours: Collection[datetime],
    last_used: datetime | None,
    now: datetime,
    *,
    every: timedelta | None,
    silence: timedelta | None,
    longer: Sequence[timedelta] = (),
) -> datetime | None:
    """Return when the next request is due; in the past when it is late, None when nothing can be said.

    ``hours`` are those (UTC) of the last LEARNT_WEEKS in which it was used, ``every`` is the usual time between two
    requests while it is at work, ``silence`` between two uses; ``longer`` are silences that are usual as well, such as
    that of a job that runs for some days a quarter, in order.
    """
    if last_used is None:
        return None
    if every is not None and now - last_used <= max(3 * every, AT_WORK):
        return last_used + every
    used = set(hours)
    running, after = floor_hour(now), floor_hour(last_used) + HOUR
    missed = _first_hour(used, _hours(after, min(running, after + WEEK)), running, CERTAIN)
    start = max(running, after)
    expected = missed or _first_hour(used, _hours(start, start + WEEK), running, EXPECTED)
    if expected is not None:
        return now if expected == running else expected
    if silence is None:
        return None
    return next((last_used + gap for gap in (silence, *longer) if last_used + gap >= now), last_used + silence)


def _first_hour(used: set[datetime], hours: Iterable[datetime], running: datetime, share: float) -> datetime | None:
    """Return the first hour that was used in such a share of the weeks before it; of the days while weeks are few."""
    if not used:
        return None
    first = min(used)
    period = WEEK if running - first >= 2 * WEEK else DAY
    for hour in hours:
        before = [hour - period * step for step in range(1, (hour - first) // period + 1)]
        known = [earlier in used for earlier in before if earlier < running]
        if len(known) > 1 and sum(known) >= share * len(known):
            return hour
    return None


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the hours from one up to another."""
    while start < end:
        yield start
        start += HOUR
