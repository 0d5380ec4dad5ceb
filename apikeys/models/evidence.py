"""What a decision about a key rests on: who uses it and how often, when it is due again, which scopes it needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final

from django.db.models import Count, Q, Sum
from django.utils import timezone

from apikeys.models.forecast import LEARNT_WEEKS, WEEK, next_use
from apikeys.models.key import ApiKey
from apikeys.models.recording import UsageWatermark
from apikeys.models.rhythm import KeyRhythm
from apikeys.models.rollup import Dimension, UsageDay, UsageHour, UsageValue
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.silence import explained_by
from apikeys.models.usage import DAY, HOUR, SECOND, Outcome, UsageEvent, take_newest
from apikeys.models.watermark import Sources

SCOPES_WITHIN: Final = 90 * DAY
# The time between two requests is learnt from so many newest ones.
NEWEST: Final = 500
# More values than any page shows, and more than are kept of a day.
EVERY: Final = 1000
# A request is late when it has been due for so long.
LATE: Final = HOUR
_ACCEPTED: Final = Q(outcome=Outcome.VALID)


@dataclass(frozen=True, slots=True)
class Habit:
    """How a key is used: the hours that were, the usual times between two requests, and when the next is due.

    ``hours`` are the accepted requests of each hour (UTC) of the last weeks; ``every`` is the median time between the
    newest requests, ``silence`` between two uses, which ``longest_silence`` has never been exceeded by.
    """

    hours: dict[datetime, int] = field(default_factory=dict)
    every: timedelta | None = None
    silence: timedelta | None = None
    longest_silence: timedelta | None = None
    next_due: datetime | None = None

    @classmethod
    def of(cls, key: ApiKey) -> Habit:
        """Learn it from the roll-ups and from the newest requests."""
        now = timezone.now()
        hours = UsageHour.objects.hourly(key, floor_hour(now) - LEARNT_WEEKS * WEEK)
        rhythm = KeyRhythm.objects.filter(pk=key.pk).first()
        every, silence = _usual_gap(key), rhythm.usual if rhythm else None
        last_used = key.last_activity.last_used_at if key.last_activity else None
        longest_usual = SECOND * rhythm.usual_gap if rhythm else timedelta()
        longer = (longest_usual, explained_by(longest_usual))
        due = next_use(hours, last_used, now, every=every, silence=silence, longer=longer)
        longest = rhythm.longest if rhythm and rhythm.longest_gap else None
        return cls(hours, every, silence, longest, due)

    @property
    def is_late(self) -> bool:
        """Whether the next request should have come by now."""
        return self.next_due is not None and timezone.now() - self.next_due > LATE

    @property
    def is_due(self) -> bool:
        """Whether the next request should come about now."""
        return self.next_due is not None and not self.is_late and timezone.now() >= self.next_due

    @property
    def is_busy(self) -> bool:
        """Whether it usually comes several times a second while it is at work."""
        return self.every is not None and self.every < SECOND

    def week(self, zone: tzinfo) -> list[list[int]]:
        """Return the accepted requests by weekday, Monday first, and hour of the day in a time zone."""
        found = [[0] * 24 for _ in range(7)]
        for at, count in self.hours.items():
            local = at.astimezone(zone)
            found[local.weekday()][local.hour] += count
        return found


def _usual_gap(key: ApiKey) -> timedelta | None:
    """Return the median time between the accepted ones of the newest requests, None below three of them."""
    newest_first = UsageEvent.objects.of(key).order_by("-at").values_list("at", "outcome")
    times = [at for at, outcome in take_newest(newest_first, NEWEST) if outcome == Outcome.VALID]
    gaps = sorted(later - earlier for later, earlier in pairwise(times))
    return gaps[len(gaps) // 2] if len(gaps) > 1 else None


@dataclass(frozen=True, slots=True)
class Recent:
    """The accepted requests of the last hour, day and week, and the refused ones of the week."""

    hour: int = 0
    day: int = 0
    week: int = 0
    refused_week: int = 0

    @property
    def in_use(self) -> bool:
        """Whether a request was accepted in the last seven days."""
        return self.week > 0

    @classmethod
    def of(cls, keys: Sequence[ApiKey]) -> dict[int, Recent]:
        """Count for several keys at once, exactly and up to this instant, by key id."""
        now = timezone.now()
        ids = [key.pk for key in keys]
        sources = Sources.of(now - 7 * DAY, split=[now - DAY, now - HOUR], keys=ids)
        found = dict.fromkeys(ids, cls())
        if sources.rolled:
            rolled = UsageHour.objects.filter(sources.rolled_condition("hour"), key_id__in=ids)
            cls._add(found, rolled.values("key_id").annotate(**_windows(Sum, "count", "hour", now)))
        raw = UsageEvent.objects.filter(sources.raw_condition(), key_id__in=ids)
        cls._add(found, raw.values("key_id").annotate(**_windows(Count, "nonce", "at", now)))
        return found

    @classmethod
    def _add(cls, found: dict[int, Recent], rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            before = found[row["key_id"]]
            names = ("hour", "day", "week", "refused_week")
            found[row["key_id"]] = cls(*(getattr(before, name) + (row[f"in_{name}"] or 0) for name in names))


def _windows(total: type[Sum | Count], counted: str, time: str, now: datetime) -> dict[str, Sum | Count]:
    """Return the sums of each window; an hour that a window cuts is not among rolled ones."""
    return {
        "in_hour": total(counted, filter=_ACCEPTED & Q(**{f"{time}__gte": now - HOUR})),
        "in_day": total(counted, filter=_ACCEPTED & Q(**{f"{time}__gte": now - DAY})),
        "in_week": total(counted, filter=_ACCEPTED),
        "in_refused_week": total(counted, filter=~_ACCEPTED),
    }


@dataclass(frozen=True, slots=True)
class KeyEvidence:
    """What a key's end would break, as far as its usage tells."""

    recent: Recent
    habit: Habit
    callers: list[UsageValue] = field(default_factory=list)
    other_callers: int = 0
    # There were more callers than are kept apart.
    is_bounded: bool = False
    last_used_at: datetime | None = None

    @property
    def in_use(self) -> bool:
        """Whether a request was accepted in the last seven days."""
        return self.recent.in_use

    @classmethod
    def of(cls, key: ApiKey, *, callers: int = 5) -> KeyEvidence:
        """Read what used a key lately; callers are those of the last seven days (UTC) and today."""
        last = key.last_activity.last_used_at if key.last_activity else None
        since = floor_day(timezone.now() - 7 * DAY)
        values = UsageDay.objects.usage_of(key, Dimension.CALLER, since, most=EVERY)
        used = sorted((one for one in values.values if one.accepted), key=lambda one: -one.accepted)
        total = sum(one.accepted for one in used)
        shown = [replace(one, share=one.accepted / total) for one in used[:callers]]
        others = len(used) - len(shown) + values.others
        return cls(Recent.of([key])[key.pk], Habit.of(key), shown, others, values.is_bounded, last)


@dataclass(frozen=True, slots=True)
class ScopeUse:
    """How often a scope was asked for; ``is_granted`` is whether the key holds it."""

    name: str
    is_granted: bool
    accepted: int = 0
    refused: int = 0
    last_at: datetime | None = None

    @property
    def asked(self) -> int:
        """All requests that asked for it."""
        return self.accepted + self.refused


@dataclass(frozen=True, slots=True)
class ScopeEvidence:
    """The scopes of a key against what was asked of it since ``since``, or since recording began.

    ``accepted`` are all accepted requests, ``unscoped`` those of any outcome that asked for none.
    """

    granted: list[ScopeUse]
    missing: list[ScopeUse]
    unscoped: int
    accepted: int
    since: datetime
    recorded_since: datetime | None = None

    @property
    def used(self) -> list[ScopeUse]:
        """The granted scopes that were asked for, whatever became of it."""
        return [scope for scope in self.granted if scope.asked]

    @property
    def unused(self) -> list[ScopeUse]:
        """The granted scopes that nobody asked for."""
        return [scope for scope in self.granted if not scope.asked]

    @property
    def can_narrow(self) -> bool:
        """Whether something is used and something else is not."""
        return bool(self.used and self.unused)

    def refused_without(self, names: Collection[str]) -> list[ScopeUse]:
        """Return the scopes among some that accepted requests asked for: without them those had been refused."""
        return [scope for scope in self.granted if scope.name in names and scope.accepted]

    @classmethod
    def of(cls, key: ApiKey) -> ScopeEvidence:
        """Compare what the key holds with what the requests of the last 90 days (UTC) and today asked for."""
        since = floor_day(timezone.now() - SCOPES_WITHIN)
        found = UsageDay.objects.usage_of(key, Dimension.SCOPE, since, most=EVERY)
        asked = {one.value: one for one in found.values}
        held = key.scope_names
        granted = [_scope_use(name, asked.get(name), is_granted=True) for name in held]
        others = [_scope_use(name, one, is_granted=False) for name, one in asked.items() if name and name not in held]
        unscoped = asked[""].count if "" in asked else 0
        recorded = UsageWatermark.read().recording_since
        began = recorded if recorded and recorded > since else None
        return cls(granted, others, unscoped, sum(one.accepted for one in found.values), since, began)


def _scope_use(name: str, one: UsageValue | None, *, is_granted: bool) -> ScopeUse:
    if one is None:
        return ScopeUse(name, is_granted)
    return ScopeUse(name, is_granted, one.accepted, one.refused, one.last_at)
