"""Usage: one event a request, and what a key's newest events say about it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import ClassVar, Self

from django.db import models
from django.db.models import Count, Max, Min, Q
from django.utils import timezone

from apikeys.models.key import ApiKey

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
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
