"""What a key is at one instant, said once for one key and once in SQL."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models.lookups import LessThanOrEqual

from apikeys.models.extremes import OrLatest

EXPIRING_WITHIN = timedelta(days=60)


class Status(models.TextChoices):
    """What a key is at one instant. Derived, never stored."""

    ACTIVE = "active", "active"
    PAUSED = "paused", "paused"
    EXPIRED = "expired", "expired"
    REVOKED = "revoked", "revoked"


def status_at(
    now: datetime,
    revoked_at: datetime | None,
    expires_at: datetime | None,
    paused_at: datetime | None,
    paused_until: datetime | None,
) -> Status:
    """Return the status that four instants give at a fifth; status_conditions says the same in SQL."""
    if revoked_at is not None:
        return Status.REVOKED
    if expires_at is not None and expires_at <= now:
        return Status.EXPIRED
    if is_paused_at(now, paused_at, paused_until):
        return Status.PAUSED
    return Status.ACTIVE


def is_paused_at(now: datetime, paused_at: datetime | None, paused_until: datetime | None) -> bool:
    """Say whether a key is paused at an instant: until somebody resumes it, or until its pause ends by itself."""
    return paused_at is not None and (paused_until is None or now < paused_until)


def status_conditions(now: datetime) -> dict[Status, models.Q]:
    """Return the condition of each status as a query; exactly one of them holds for every key."""
    usable = usable_condition(now)
    return {
        Status.REVOKED: models.Q(revoked_at__isnull=False),
        Status.EXPIRED: models.Q(LessThanOrEqual(OrLatest("expires_at"), now), revoked_at__isnull=True),
        Status.PAUSED: usable
        & models.Q(models.Q(paused_until__isnull=True) | models.Q(paused_until__gt=now), paused_at__isnull=False),
        Status.ACTIVE: usable & (models.Q(paused_at__isnull=True) | models.Q(paused_until__lte=now)),
    }


def usable_condition(now: datetime) -> models.Q:
    """Return the condition of keys that are neither revoked nor expired.

    Most keys are, so it is said in a way that tempts no planner to begin with it.
    """
    return models.Q(models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now), revoked_at__isnull=True)


def dead_condition(now: datetime) -> models.Q:
    """Return the condition of all other keys."""
    return models.Q(revoked_at__isnull=False) | models.Q(LessThanOrEqual(OrLatest("expires_at"), now))
