"""Usage: one event a request, hourly counts made of them, and what both say about a key."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import ClassVar, Self

from django.db import models, transaction
from django.db.models import Count, Max, Min, Q, Sum
from django.db.models.functions import TruncDay, TruncHour
from django.utils import timezone

from apikeys.models.key import ApiKey

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# An hour is rolled up this long after its end, when no request of it can still be under way.
ROLL_UP_DELAY = timedelta(minutes=5)
MAX_GAPS = 500


class Outcome(models.TextChoices):
    """What became of a request; every answer of the verifier is one of these."""

    VALID = "valid", "accepted"
    MALFORMED = "malformed", "malformed key"
    UNKNOWN = "unknown", "wrong secret"
    REVOKED = "revoked", "key revoked"
    EXPIRED = "expired", "key expired"
    PAUSED = "paused", "key paused"
    SCOPE_MISSING = "scope_missing", "scope missing"
    NETWORK_DENIED = "network_denied", "network not allowed"
    RATE_LIMITED = "rate_limited", "rate limit hit"


def outcomes() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new outcome needs no migration."""
    return Outcome.choices


def make_nonce() -> int:
    """Return what tells two events of one key in the same microsecond apart."""
    return secrets.randbits(62)


class UsageEventQuerySet(models.QuerySet["UsageEvent"]):
    """Reading of raw events."""

    def of(self, key: ApiKey) -> Self:
        """Return the events of one key."""
        return self.filter(key_id=key.pk)

    def callers(self, key: ApiKey, since: datetime, *, accepted: bool, most: int) -> tuple[list[Caller], int]:
        """Return the busiest callers of a key since an instant, and how many more there are."""
        wanted = Q(outcome=Outcome.VALID) if accepted else ~Q(outcome=Outcome.VALID)
        rows = list(
            self.of(key)
            .filter(wanted, at__gte=since)
            .values("address", "user_agent")
            .annotate(first_at=Min("at"), last_at=Max("at"), count=Count("*"))
            .order_by("-count", "address", "user_agent")
        )
        total = sum(row["count"] for row in rows)
        newest = timezone.now() - DAY
        callers = [
            Caller(**row, share=row["count"] / total, is_new=row["first_at"] >= newest > since) for row in rows[:most]
        ]
        return callers, max(0, len(rows) - most)

    def usual_gap(self, key: ApiKey) -> timedelta | None:
        """Return the median time between the newest accepted requests of a key, None below three."""
        times = list(self.of(key).filter(outcome=Outcome.VALID).order_by("-at").values_list("at", flat=True)[:MAX_GAPS])
        gaps = sorted(later - earlier for later, earlier in pairwise(times))
        return gaps[len(gaps) // 2] if len(gaps) > 1 else None


class UsageEvent(models.Model):
    """One request that presented a known key, written before the request was answered.

    The primary key begins with the key's id, so that the table can be distributed by key.
    """

    pk = models.CompositePrimaryKey("key_id", "at", "nonce")
    key_id = models.BigIntegerField()
    at = models.DateTimeField()
    nonce = models.BigIntegerField(default=make_nonce)
    outcome = models.CharField(max_length=16, choices=outcomes)
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=200, blank=True)
    method = models.CharField(max_length=16, blank=True)
    path = models.CharField(max_length=500, blank=True)
    scope = models.CharField(max_length=64, blank=True)

    objects: ClassVar = UsageEventQuerySet.as_manager()

    # Its index by time is in migration 0003, of another kind on each engine.

    def __str__(self) -> str:
        return f"{self.at.isoformat()} {self.key_id} {self.outcome}"


class UsageHourQuerySet(models.QuerySet["UsageHour"]):
    """Rolling up, and reading counts that agree with the raw events to the last request."""

    def roll_up(self, now: datetime | None = None) -> Iterator[datetime]:
        """Count the complete hours since the last run, one transaction an hour; yields each hour that is done.

        Running it again, or twice at once, changes nothing: the watermark's row is locked and an hour is replaced.
        """
        until = _hour((now or timezone.now()) - ROLL_UP_DELAY)
        while (hour := self._roll_up_next(until)) is not None:
            yield hour

    def _roll_up_next(self, until: datetime) -> datetime | None:
        with transaction.atomic():
            mark = UsageWatermark.locked()
            hour = self._first_hour_from(mark.until)
            if hour is None or hour >= until:
                if mark.until is None or mark.until < until:
                    mark.move(until)
                return None
            rows = (
                UsageEvent.objects.filter(at__gte=hour, at__lt=hour + HOUR)
                .values("key_id", "outcome")
                .annotate(count=Count("*"))
            )
            self.filter(hour=hour).delete()
            self.bulk_create((UsageHour(hour=hour, **row) for row in rows.iterator()), batch_size=2000)
            mark.move(hour + HOUR)
            return hour

    def _first_hour_from(self, start: datetime | None) -> datetime | None:
        events = UsageEvent.objects.filter(at__gte=start) if start else UsageEvent.objects.all()
        first = events.aggregate(first=Min("at"))["first"]
        return _hour(first) if first else None

    def by_outcome(self, key: ApiKey, since: datetime) -> dict[str, int]:
        """Return the requests of a key since an instant, whole hours, by outcome."""
        counts: dict[str, int] = defaultdict(int)
        for _, _, outcome, count in self._counted([key.pk], since, TruncHour):
            counts[outcome] += count
        return dict(counts)

    def series(self, key: ApiKey, since: datetime, step: timedelta, buckets: int) -> UsageSeries:
        """Return counts by outcome in equal steps of whole hours from an instant on."""
        counts: dict[str, list[int]] = {}
        for _, at, outcome, count in self._counted([key.pk], since, TruncHour):
            position = (at - since) // step
            if 0 <= position < buckets:
                counts.setdefault(outcome, [0] * buckets)[position] += count
        ordered = {outcome: counts[outcome] for outcome in Outcome.values if outcome in counts}
        return UsageSeries([since + step * number for number in range(buckets)], step, ordered)

    def daily(self, keys: Sequence[int], days: int) -> dict[int, list[int]]:
        """Return the requests of several keys, a count a day, the last of them today; keys without any left out."""
        first = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - DAY * (days - 1)
        found: dict[int, list[int]] = {}
        for key_id, at, _, count in self._counted(keys, first, TruncDay):
            found.setdefault(key_id, [0] * days)[min(days - 1, (at - first) // DAY)] += count
        return found

    def attempts_since_end(self, keys: Iterable[ApiKey]) -> dict[int, int]:
        """Return how often each dead key was tried since it was revoked or expired, by key id."""
        dead = [key.pk for key in keys if key.is_dead]
        found: dict[int, int] = defaultdict(int)
        if dead:
            ended = [Outcome.REVOKED, Outcome.EXPIRED]
            for key_id, _, outcome, count in self._counted(dead, datetime(2000, 1, 1, tzinfo=UTC), TruncDay):
                if outcome in ended:
                    found[key_id] += count
        return dict(found)

    def _counted(
        self, keys: Sequence[int], since: datetime, trunc: type[TruncDay | TruncHour]
    ) -> Iterator[tuple[int, datetime, str, int]]:
        """Yield (key id, start of hour or day, outcome, count): complete hours rolled up, the rest from events."""
        mark = UsageWatermark.current()
        if mark is not None:
            rolled = self.filter(key_id__in=keys, hour__gte=since, hour__lt=mark)
            yield from (
                rolled.annotate(start=trunc("hour", tzinfo=UTC))
                .values_list("key_id", "start", "outcome")
                .annotate(total=Sum("count"))
                .order_by()
            )
        raw = UsageEvent.objects.filter(key_id__in=keys, at__gte=max(since, mark) if mark else since)
        yield from (
            raw.annotate(start=trunc("at", tzinfo=UTC))
            .values_list("key_id", "start", "outcome")
            .annotate(total=Count("*"))
            .order_by()
        )


class UsageHour(models.Model):
    """How often a key had an outcome in one hour (UTC)."""

    pk = models.CompositePrimaryKey("key_id", "hour", "outcome")
    key_id = models.BigIntegerField()
    hour = models.DateTimeField()
    outcome = models.CharField(max_length=16, choices=outcomes)
    count = models.PositiveBigIntegerField()

    objects: ClassVar = UsageHourQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["hour"], name="usage_by_hour")]

    def __str__(self) -> str:
        return f"{self.hour.isoformat()} {self.key_id} {self.outcome} {self.count}"


class UsageWatermark(models.Model):
    """One row: every hour before it is rolled up, every hour from it on is read from raw events."""

    until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"rolled up until {self.until}"

    @classmethod
    def current(cls) -> datetime | None:
        """Return the watermark, None before the first roll-up."""
        return cls.objects.filter(pk=1).values_list("until", flat=True).first()

    @classmethod
    def locked(cls) -> UsageWatermark:
        """Return the row, locked until the transaction ends."""
        cls.objects.get_or_create(pk=1)
        return cls.objects.select_for_update().get(pk=1)

    def move(self, until: datetime) -> None:
        """Set the watermark."""
        self.until = until
        self.save(update_fields=["until"])


@dataclass(frozen=True, slots=True)
class UsageSeries:
    """Counts by outcome in equal steps: ``counts[outcome][i]`` is for ``starts[i]`` to ``starts[i] + step``."""

    starts: list[datetime]
    step: timedelta
    counts: dict[str, list[int]]

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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who presents a key: an address with a user agent."""

    address: str | None
    user_agent: str
    first_at: datetime
    last_at: datetime
    count: int
    share: float
    is_new: bool

    @property
    def usual_gap(self) -> timedelta | None:
        """The mean time between its requests, None for a single one."""
        return (self.last_at - self.first_at) / (self.count - 1) if self.count > 1 else None


@dataclass(frozen=True, slots=True)
class KeyEvidence:
    """What a key's end would break, as far as its usage tells."""

    hour: int
    day: int
    week: int
    refused_week: int
    callers: list[Caller] = field(default_factory=list)
    other_callers: int = 0
    usual_gap: timedelta | None = None
    next_due: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def in_use(self) -> bool:
        """Whether a request was accepted in the last seven days."""
        return self.week > 0

    @classmethod
    def of(cls, key: ApiKey, *, callers: int = 5) -> KeyEvidence:
        """Read what used a key lately; events count exactly, up to this instant."""
        now = timezone.now()
        week = UsageEvent.objects.of(key).filter(at__gte=now - 7 * DAY)
        counts = week.aggregate(
            hour=Count("nonce", filter=Q(outcome=Outcome.VALID, at__gte=now - HOUR)),
            day=Count("nonce", filter=Q(outcome=Outcome.VALID, at__gte=now - DAY)),
            week=Count("nonce", filter=Q(outcome=Outcome.VALID)),
            refused_week=Count("nonce", filter=~Q(outcome=Outcome.VALID)),
        )
        found, others = UsageEvent.objects.callers(key, now - 7 * DAY, accepted=True, most=callers)
        last = key.last_activity.last_used_at if key.last_activity else None
        gap = UsageEvent.objects.usual_gap(key)
        due = last + gap if last and gap else None
        return cls(**counts, callers=found, other_callers=others, usual_gap=gap, next_due=due, last_used_at=last)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
