"""Thirteen months of requests: counts for the older ones, every single one for the newest seven days."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Model

from apikeys.demo.cast import REQUESTS
from apikeys.demo.plans import BURST_DAYS, Attempts, Plan
from apikeys.demo.rhythm import PUNCTUAL, RHYTHMS, poisson
from apikeys.models import ApiKey, Dimension, KeyActivity, Outcome, UsageDay, UsageEvent, UsageHour
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.usage import DAY, HOUR, make_nonce

# Of longer ago than this, the requests of a day are counted in one hour: its months are right, and seeding is quick.
# Unusual usage of 90 days is found by looking back on eight weeks before each.
DAYS = 150
KEPT_DAYS = 400
RAW_DAYS = 7
# How the requests of a counted hour are split among what they asked for; ids of things are long-tailed.
_POPULAR = (0.7, 0.3)


class Clock:
    """The hours of the demo, and the weight that each rhythm gives to each."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        this_hour = now.replace(minute=0, second=0, microsecond=0)
        self.hours = [this_hour - HOUR * back for back in range(DAYS * 24, -1, -1)]
        # From here on every request has an event.
        self.raw_from = floor_day(this_hour - RAW_DAYS * DAY)
        self.weights = {
            name: [week[hour.weekday()][hour.hour] for hour in self.hours] for name, week in RHYTHMS.items()
        }
        first = floor_day(self.hours[0])
        self.recording_since = first - (KEPT_DAYS - DAYS) * DAY
        self.days = [self.recording_since + DAY * number for number in range(KEPT_DAYS - DAYS)]

    def ago(self, days: float) -> datetime:
        """Return the instant so many days before now."""
        return self.now - timedelta(days=days)


class HourRow(NamedTuple):
    """A row of UsageHour. Django's objects would take most of the time that seeding takes."""

    key_id: int
    hour: datetime
    outcome: str
    requests: int


class EventRow(NamedTuple):
    """A row of UsageEvent."""

    key_id: int
    at: datetime
    nonce: int
    outcome: str
    address: str
    user_agent: str
    method: str
    path: str
    scope: str


class DayCount(NamedTuple):
    """The counts of a row of UsageDay."""

    accepted: int
    refused: int
    first_at: datetime
    last_at: datetime


@dataclass(slots=True)
class Traffic:
    """What one key's requests leave behind; ``days`` are by dimension, day and value."""

    hours: list[HourRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    days: dict[tuple[Dimension, date, str], DayCount] = field(default_factory=dict)
    activity: KeyActivity | None = None


def write(traffic: Traffic) -> None:
    """Insert the rows."""
    _insert(UsageHour, ("key_id", "hour", "outcome", "count"), traffic.hours)
    _insert(UsageEvent, EventRow._fields, traffic.events)


def write_days(key: ApiKey, traffic: Traffic) -> None:
    """Insert the rows that tell callers, scopes and endpoints apart."""
    columns = ("key_id", "dimension", "day", "value", *DayCount._fields)
    _insert(UsageDay, columns, [(key.pk, str(where[0]), *where[1:], *counts) for where, counts in traffic.days.items()])


def _insert(model: type[Model], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    quote = connection.ops.quote_name
    table = f"{quote(model._meta.db_table)} ({', '.join(map(quote, columns))})"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # There are a million of them; COPY takes a third of the time.
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return
        marks = ", ".join(["%s"] * len(columns))
        cursor.executemany(
            f"INSERT INTO {table} VALUES ({marks})",  # noqa: S608 - names of ours
            [[_plain(value) if type(value) is datetime else value for value in row] for row in rows],
        )


@lru_cache(maxsize=20_000)
def _plain(at: datetime) -> Any:
    """Return a moment as SQLite keeps it; most are hours, which recur."""
    return connection.ops.adapt_datetimefield_value(at)


def make_traffic(rng: random.Random, clock: Clock, plan: Plan, key: ApiKey) -> Traffic:
    """Return the requests of one key, accepted and refused."""
    traffic = Traffic()
    quiet = clock.ago(plan.quiet_since)
    # At the end of an hour, whenever the demo is made: of one with few requests left, the alert would say "drop".
    quiet = floor_hour(quiet) if plan.quiet_since else quiet
    until = min(filter(None, [quiet, key.revoked_at, key.expires_at]))
    accepted = Attempts(
        Outcome.VALID, plan.per_day, addresses=plan.addresses, user_agent=plan.user_agent, rhythm=plan.rhythm
    )
    _add(rng, clock, traffic, key, accepted, (key.created_at, until), plan)
    for attempts in plan.attempts:
        ended = key.revoked_at if attempts.outcome == Outcome.REVOKED else None
        since = max(filter(None, [clock.ago(attempts.since), key.created_at, ended]))
        _add(rng, clock, traffic, key, attempts, (since, min(clock.ago(attempts.until), clock.now)), plan)
    traffic.hours = _summed(traffic.hours)
    traffic.activity = _activity(rng, plan, key, traffic, until)
    return traffic


def _summed(rows: Sequence[HourRow]) -> list[HourRow]:
    """Return a row for each hour and outcome: several callers may have had requests in it."""
    counts: dict[tuple[int, datetime, str], int] = defaultdict(int)
    for row in rows:
        counts[row.key_id, row.hour, row.outcome] += row.requests
    return [HourRow(*where, count) for where, count in counts.items()]


def _add(
    rng: random.Random,
    clock: Clock,
    traffic: Traffic,
    key: ApiKey,
    attempts: Attempts,
    between: tuple[datetime, datetime],
    plan: Plan,
) -> None:
    since, until = between
    for hour, count in _counts(rng, clock, attempts, between, plan):
        if hour >= clock.raw_from:
            moments = [at for at in _moments(rng, attempts.rhythm, hour, count) if since <= at <= until]
            traffic.events.extend(_events(rng, key, plan, attempts, moments))
        elif hour >= since and hour + HOUR <= until:
            traffic.hours.append(HourRow(key.pk, hour, attempts.outcome.value, count))
            _tell_apart(traffic, plan, attempts, hour, count)


def _tell_apart(traffic: Traffic, plan: Plan, attempts: Attempts, hour: datetime, count: int) -> None:
    """Add the requests of a counted hour to its day, by caller, scope and endpoint."""
    agent = attempts.user_agent or plan.user_agent
    addresses = attempts.addresses or plan.addresses
    scopes = (attempts.scope,) if attempts.scope else plan.scopes
    parts: dict[tuple[Dimension, str], int] = defaultdict(int)
    for number, part in _split(count, [1 / len(addresses)] * len(addresses)):
        parts[Dimension.CALLER, f"{addresses[number]}\n{agent}"] += part
    for number, part in _split(count, [1 / len(scopes)] * len(scopes)):
        parts[Dimension.SCOPE, scopes[number]] += part
        method, path = REQUESTS[scopes[number]]
        for place, piece in _split(part, _POPULAR):
            parts[Dimension.ENDPOINT, f"{method} {path.format(1001 + place)}"] += piece
    is_accepted = attempts.outcome == Outcome.VALID
    last = hour + HOUR - timedelta(seconds=1)
    for (dimension, value), part in parts.items():
        where = dimension, hour.date(), value
        before = traffic.days.get(where, DayCount(0, 0, hour, last))
        accepted, refused = (part, 0) if is_accepted else (0, part)
        traffic.days[where] = DayCount(
            before.accepted + accepted, before.refused + refused, before.first_at, max(before.last_at, last)
        )


def _split(count: int, shares: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Yield how much of a count each share gets, whole, and in all no more and no less; nothing is left out."""
    given, upto = 0, 0.0
    for number, share in enumerate(shares):
        upto += share
        part = (count if number == len(shares) - 1 else round(count * upto)) - given
        given += part
        if part:
            yield number, part


def _counts(
    rng: random.Random, clock: Clock, attempts: Attempts, between: tuple[datetime, datetime], plan: Plan
) -> Iterator[tuple[datetime, int]]:
    """Yield the hours in which something happens, with how often."""
    since, until = between
    if since < clock.hours[0]:
        yield from _counts_of_days(rng, clock, attempts, between, plan)
    last = len(clock.hours) - 1
    mood = 1.0
    for number, weight in enumerate(clock.weights[attempts.rhythm]):
        hour = clock.hours[number]
        if hour.hour == 0:
            mood = _mood(rng)
        if not weight or hour + HOUR <= since or hour > until or not _works(plan, clock, hour):
            continue
        if count := poisson(rng, attempts.per_day * weight * mood * _trend(plan, clock, hour, number / last)):
            yield hour, count


def _counts_of_days(
    rng: random.Random, clock: Clock, attempts: Attempts, between: tuple[datetime, datetime], plan: Plan
) -> Iterator[tuple[datetime, int]]:
    """Yield hours from before those that are told apart: the busiest of each day on which it works."""
    for day in clock.days:
        weights = RHYTHMS[attempts.rhythm][day.weekday()]
        hour = day + HOUR * weights.index(max(weights))
        if between[0] <= hour < between[1] and _works(plan, clock, hour):
            mean = attempts.per_day * sum(weights) * _mood(rng) * _trend(plan, clock, hour, 0)
            if count := poisson(rng, mean):
                yield hour, count


def _mood(rng: random.Random) -> float:
    """Return how busy one day is, 1 for a usual one. Days that differ more are now and then unusual usage."""
    return rng.uniform(0.9, 1.1)


def _works(plan: Plan, clock: Clock, hour: datetime) -> bool:
    """Say whether it is one of the days on which something that works now and then does."""
    return not plan.every or (clock.ago(plan.quiet_since) - hour).days % plan.every < BURST_DAYS


def _trend(plan: Plan, clock: Clock, hour: datetime, passed: float) -> float:
    """Return the size of a service at one time, 1 for its usual size."""
    if plan.fades:
        left = (clock.ago(plan.quiet_since) - hour) / ((DAYS - plan.quiet_since) * DAY)
        return math.pow(min(1.0, max(0.0, left)), 1.5)
    return 0.4 + 0.6 * passed if plan.grows else 1.0


def _moments(rng: random.Random, rhythm: str, hour: datetime, count: int) -> list[datetime]:
    if rhythm not in PUNCTUAL:
        return sorted(hour + timedelta(microseconds=rng.randrange(3_600_000_000)) for _ in range(count))
    start = PUNCTUAL[rhythm] * 60
    step = min((3590 - start) / count, 3600 / count if rhythm == "hourly" else 6.0)
    return [hour + timedelta(seconds=start + step * number + rng.random() * step * 0.4) for number in range(count)]


def _events(
    rng: random.Random, key: ApiKey, plan: Plan, attempts: Attempts, moments: Sequence[datetime]
) -> Iterator[EventRow]:
    for at in moments:
        scope = attempts.scope or rng.choice(plan.scopes)
        method, path = REQUESTS[scope]
        yield EventRow(
            key_id=key.pk,
            at=at,
            nonce=make_nonce(),
            outcome=attempts.outcome.value,
            address=rng.choice(attempts.addresses or plan.addresses),
            user_agent=attempts.user_agent or plan.user_agent,
            method=method,
            path=path.format(min(99_999, 1000 + int(rng.paretovariate(1.2)))),
            scope=scope,
        )


def _activity(rng: random.Random, plan: Plan, key: ApiKey, traffic: Traffic, until: datetime) -> KeyActivity | None:
    """Return when the key was first and last used: by its requests, or by its plan where they lie further back."""
    used = _times(rng, traffic, accepted=True)
    refused = _times(rng, traffic, accepted=False)
    ended = min(until, key.created_at + DAY * plan.age)
    if plan.per_day and not used and ended - key.created_at > 2 * DAY:
        used = [ended - timedelta(hours=rng.uniform(0, 20))]
    if not used and not refused:
        return None
    newest = max((event for event in traffic.events if event.outcome == Outcome.VALID), key=_at, default=None)
    address = newest.address if newest else plan.addresses[0] if used else None
    first = min(used, default=None)
    if first and first - key.created_at > DAY:
        first = key.created_at + timedelta(hours=rng.uniform(0.2, 20))
    return KeyActivity(
        key_id=key.pk,
        first_used_at=first,
        last_used_at=max(used, default=None),
        last_refused_at=max(refused, default=None),
        last_address=address,
    )


def _times(rng: random.Random, traffic: Traffic, *, accepted: bool) -> list[datetime]:
    """Return the first and last times of requests; of one that is counted only, some time within its hour."""
    events = [event.at for event in traffic.events if (event.outcome == Outcome.VALID) == accepted]
    hours = [row.hour for row in traffic.hours if (row.outcome == Outcome.VALID) == accepted]
    ends = [min(hours), max(hours)] if hours else []
    return [at + HOUR * rng.uniform(0.1, 0.9) for at in ends] + ([min(events), max(events)] if events else [])


def _at(event: EventRow) -> datetime:
    return event.at
