"""What a key's silence means: nobody uses it, or it is only quiet. One definition, in SQL and in Python: docs/unused.md

A key is silent when its last accepted request, or without one its creation, is longer ago than
the days of Organization.unused_after, to the minute. Its own rhythm may explain that: what runs once a quarter is
silent for a quarter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, Subquery, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest
from django.db.models.lookups import GreaterThan, LessThan, LessThanOrEqual
from django.utils import timezone

from apikeys.models.extremes import EARLIEST, EPOCH, EpochSeconds, epoch_seconds, floor_minute
from apikeys.models.organization import Organization
from apikeys.models.recording import UsageWatermark

DAY: Final = timedelta(days=1)
# A silence is explained up to the longest usual gap and half as long again: jobs come late, and quarters differ.
SLACK: Final = (3, 2)

_SECOND: Final = timedelta(seconds=1)


class Silence(models.TextChoices):
    """What the silence of a key means; every silent key is exactly one of these."""

    NEVER_USED = "never_used", "never used"
    DORMANT = "dormant", "dormant"
    SEASONAL = "seasonal", "seasonal"
    NOT_MEASURABLE = "not_measurable", "not measurable"


UNUSED: Final = (Silence.NEVER_USED, Silence.DORMANT)


def silence_at(
    now: datetime,
    days: int,
    created_at: datetime,
    last_used_at: datetime | None,
    usual_gap: timedelta | None = None,
    recording_since: datetime | None = None,
) -> Silence | None:
    """Return what the silence of a key means, None when it is not silent; silence_conditions says the same in SQL.

    ``usual_gap`` is KeyRhythm.usual_gap, None where none is known; ``recording_since`` None means always.
    """
    border = floor_minute(now - days * DAY)
    since = last_used_at or created_at
    if max(since, created_at) >= border:
        return None
    slack, whole = SLACK
    if usual_gap and (epoch_seconds(now) - epoch_seconds(since)) * whole <= usual_gap // _SECOND * slack:
        return Silence.SEASONAL
    if last_used_at:
        return Silence.DORMANT
    if recording_since and recording_since >= border:
        return Silence.NOT_MEASURABLE
    return Silence.NEVER_USED


def silence_conditions(now: datetime, days: int) -> dict[Silence, Q]:
    """Return the condition of each kind as a query on keys; at most one holds for a key. Status is not looked at."""
    silent, recorded = _silent(now, days), _recorded(now, days)
    too_long, within = _too_long(now), _explained(now)
    return {
        Silence.NEVER_USED: silent & never_used() & too_long & recorded,
        Silence.DORMANT: silent & used() & too_long,
        Silence.SEASONAL: silent & within & _seldom_used(now, days),
        Silence.NOT_MEASURABLE: silent & never_used() & too_long & ~recorded,
    }


def unused_condition(now: datetime, days: int) -> Q:
    """Return the condition of keys that nobody uses, but for those that may be silent. Status is not looked at.

    It is the conditions of UNUSED, with what they have in common said once: a planner takes each for one more reason
    that few keys are meant.
    """
    return _silent(now, days) & _too_long(now) & (used() | _recorded(now, days)) & not_exempt_condition(now)


def never_used() -> Q:
    """Return the condition of keys of which no request was accepted."""
    return Q(activity__last_used_minute=EARLIEST)


def used() -> Q:
    """Return the condition of keys of which a request was accepted."""
    return Q(activity__last_used_minute__gt=EARLIEST)


def used_since(border: datetime) -> Q:
    """Return the condition of keys that were last used in the minute of an instant or later."""
    return Q(activity__last_used_minute__gte=floor_minute(border))


def for_each(organization: Organization | None, days: int | None, condition: Callable[[int], Q]) -> Q:
    """Return a condition that asks for days of silence, with those of the organization that a key is of.

    ``days``, where given, are those of all keys. ``organization`` is that of all the keys, where they are of one: its
    days are known then. Otherwise a query asks which organizations have days of their own.
    """
    if days is None and organization is not None:
        days = organization.unused_after
    if days is not None:
        return condition(days)
    usual, own = settings.UNUSED_AFTER_DAYS, _own_days()
    if not own:
        return condition(usual)
    others = [pk for some in own.values() for pk in some]
    found = ~Q(organization__in=others) & condition(usual)
    for some_days, organizations in own.items():
        found |= Q(organization__in=organizations) & condition(some_days)
    return found


def _own_days() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    asked = Organization.objects.filter(unused_after_days__isnull=False).order_by("pk")
    rows: Iterator[Any] = asked.values_list("pk", "unused_after_days").iterator()
    for pk, days in rows:
        found.setdefault(days, []).append(pk)
    return found


def used_before(border: datetime) -> Q:
    """Return the condition of keys that were last used before the minute of an instant, or never."""
    return Q(activity__last_used_minute__lt=floor_minute(border))


def _silent(now: datetime, days: int) -> Q:
    border = floor_minute(now - days * DAY)
    # Of a used key it goes without saying that it is older, but not for an index by creation.
    return used_before(border) & Q(created_at__lt=border)


def _recorded(now: datetime, days: int) -> Q:
    return Q(LessThan(recording_since(), floor_minute(now - days * DAY)))


def _seldom_used(now: datetime, days: int) -> Q:
    """Return what goes without saying of a silence that is explained, but not for a database.

    Those with such long gaps are few, and found by an index; most of them are not silent, which their rhythm tells too.
    """
    slack, whole = SLACK
    border = floor_minute(now - days * DAY)
    return Q(rhythm__usual_gap__gte=days * DAY // _SECOND * whole // slack, rhythm__last_hour__lt=border)


def _too_long(now: datetime) -> Q:
    return Q(GreaterThan(*_silence_and_explained(now)))


def _explained(now: datetime) -> Q:
    return Q(LessThanOrEqual(*_silence_and_explained(now)))


def _silence_and_explained(now: datetime) -> tuple[Combinable, Combinable]:
    """Return how long a key is silent, and how long its rhythm explains, as expressions in the same unit."""
    slack, whole = SLACK
    silence = (Value(epoch_seconds(now)) - EpochSeconds(quiet_since())) * Value(whole)
    return silence, Coalesce("rhythm__usual_gap", 0) * Value(slack)


def exempt_condition(now: datetime) -> Q:
    """Return the condition of keys that may be silent for the time being."""
    return Q(exemption__until__gt=now)


def not_exempt_condition(now: datetime) -> Q:
    """Return the condition of all other keys; a planner knows better how many there are than of a negation."""
    exemptions = apps.get_model("apikeys", "KeyExemption").objects
    return Q(~Exists(exemptions.filter(key=OuterRef("pk"), until__gt=now)))


def silence_limit(days: int | None) -> Combinable:
    """Return the days after which a key's silence makes it unused, as an expression on keys.

    ``days`` None is those of each key's organization.
    """
    slack, whole = SLACK
    learnt = Coalesce("rhythm__usual_gap", 0) * Value(slack) / Value(whole * DAY // _SECOND)
    usual = Value(settings.UNUSED_AFTER_DAYS)
    least = Coalesce("organization__unused_after_days", usual) if days is None else Value(days)
    return Greatest(least, learnt, output_field=models.BigIntegerField())


def unused_kind() -> Combinable:
    """Return which kind of UNUSED a key that is one is, as an expression on keys."""
    never = When(activity__last_used_at__isnull=True, then=Value(Silence.NEVER_USED.value))
    return Case(never, default=Value(Silence.DORMANT.value))


def silent_days(now: datetime) -> Combinable:
    """Return the whole days for which a key has been silent, as an expression on keys."""
    return (Value(epoch_seconds(now)) - EpochSeconds(quiet_since())) / Value(DAY // _SECOND)


def quiet_since() -> Combinable:
    """Return since when a key is silent, as an expression on keys."""
    return Coalesce("activity__last_used_at", "created_at")


def recording_since() -> Combinable:
    """Return when usage began to be recorded, as an expression; long ago where that is not known."""
    known = Subquery(UsageWatermark.objects.values("recording_since")[:1])
    return Coalesce(known, Value(EPOCH), output_field=models.DateTimeField())


def explained_by(usual_gap: timedelta) -> timedelta:
    """Return how long a silence the longest usual gap explains."""
    slack, whole = SLACK
    return usual_gap * slack / whole


@dataclass(frozen=True, slots=True)
class KeySilence:
    """The silence of one key: what it means, since when, and what is known of the key's rhythm.

    ``recording_since`` is told where usage began to be recorded only after the key was made.
    """

    kind: Silence
    since: datetime
    now: datetime
    usual_gap: timedelta | None
    recording_since: datetime | None

    @classmethod
    def of(
        cls,
        *,
        created_at: datetime,
        last_used_at: datetime | None,
        usual_gap: int | None,
        recording_since: datetime | None,
        days: int,
    ) -> KeySilence | None:
        """Return the silence of a key now, None when it is not silent; ``usual_gap`` is in seconds."""
        now = timezone.now()
        gap = usual_gap * _SECOND if usual_gap else None
        kind = silence_at(now, days, created_at, last_used_at, gap, recording_since)
        if kind is None:
            return None
        late = recording_since if recording_since and recording_since > created_at else None
        return cls(kind, last_used_at or created_at, now, gap, late)

    @property
    def is_unused(self) -> bool:
        """Whether nobody uses the key, as far as is known."""
        return self.kind in UNUSED

    @property
    def label(self) -> str:
        """The kind in words."""
        return str(self.kind.label)

    @property
    def explained_until(self) -> datetime | None:
        """Until when the key's own rhythm explains the silence."""
        return self.since + explained_by(self.usual_gap) if self.usual_gap else None

    @property
    def reason(self) -> str:
        """Why it is what it is, in a line."""
        silent = _span(self.now - self.since)
        if self.kind == Silence.SEASONAL and self.usual_gap:
            until = _span(explained_by(self.usual_gap))
            return f"silent {silent}, longest usual gap {_span(self.usual_gap)}: expected up to {until}"
        if self.kind == Silence.DORMANT:
            gap = f"longest usual gap {_span(self.usual_gap)}" if self.usual_gap else "no usual gap known"
            return f"silent {silent}, {gap}"
        if self.recording_since:
            recorded = _span(self.now - self.recording_since)
            return f"created {silent} ago, not used in the {recorded} for which usage has been recorded"
        return f"created {silent} ago, never used"


def _span(span: timedelta) -> str:
    number, unit = (span // DAY, "day") if span >= 3 * DAY else (span // timedelta(hours=1), "hour")
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
