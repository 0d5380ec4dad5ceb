"""Usage: one event a request, and what a key's newest events say about it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import ClassVar, Self

from django.db import models
from django.db.models import QuerySet
from django.utils import timezone

from apikeys.models.key import ApiKey

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
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


def take_newest[Row](events: QuerySet[UsageEvent, Row], most: int) -> list[Row]:
    """Return the first of what is ordered by time, the newest first.

    The last day is asked first, where a busy key's are: PostgreSQL plans that in a third of the time that it needs for
    the partitions of all days.
    """
    lately = list(events.filter(at__gte=timezone.now() - DAY)[:most])
    return lately if len(lately) == most else list(events[:most])
