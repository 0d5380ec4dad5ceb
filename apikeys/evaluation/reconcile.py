"""Making alerts agree with what is seen now, in batches: opened, added to, or ended because their cause is gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched

from django.db.models import Q

from apikeys.evaluation.reading import read_first
from apikeys.models import Alert, AlertKind, AlertRule, EventType, Organization, Sighting
from apikeys.models.alert import AlertQuerySet
from apikeys.models.series import floor_hour

BATCH = 1000


@dataclass
class Tally:
    """How many alerts a run opened, how many got worse or are told again, and how many ended."""

    opened: int = 0
    worse: int = 0
    ended: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.opened += other.opened
        self.worse += other.worse
        self.ended += other.ended
        return self


def raise_some(organization: Organization, kind: AlertKind, sightings: list[Sighting], now: datetime) -> Tally:
    """Raise the alerts that some sightings justify, and count them."""
    events = Alert.objects.raise_all(organization, kind, sightings, now=now) if sightings else []
    opened = sum(event.event == EventType.OPENED for event in events)
    return Tally(opened, len(events) - opened)


def reconcile(
    organization: Organization, kind: AlertKind, sightings: Iterable[Sighting], *, now: datetime, over: str
) -> Tally:
    """Make the alerts of a kind that lasts agree with all of an organization's sightings, ordered by key.

    Alerts of other keys end, and ``over`` says why.
    """
    tally = Tally()
    live = Alert.objects.filter(organization=organization, kind=kind, cause_ended_at__isnull=True)
    if not AlertRule.objects.one(organization, kind).is_on:
        return Tally(ended=end(live, now, "The organization does not look for this any more."))
    done = 0
    for some in batched(read_first(sightings), BATCH, strict=False):
        batch = list(some)
        last = batch[-1].key_id or done
        tally += raise_some(organization, kind, batch, now)
        between = live.filter(key_id__gt=done, key_id__lte=last)
        tally.ended += end(between.exclude(key_id__in=[one.key_id for one in batch]), now, over)
        done = last
    tally.ended += end(live.filter(key_id__gt=done), now, over)
    return tally


def end_calm(now: datetime) -> Tally:
    """End the alerts about what happened when it has not happened for long, or cannot happen any more."""
    tally = Tally()
    live = Alert.objects.filter(cause_ended_at__isnull=True)
    for kind in AlertKind:
        if kind.traits.lasts:
            continue
        # An hour that is as far from the last as it may be is still the same alert, until it is over.
        calm = floor_hour(now) - timedelta(hours=kind.traits.calm)
        tally.ended += end_each(live.filter(kind=kind, seen_at__lte=calm), now, calm_words(kind))
        if kind != AlertKind.ABUSE:
            revoked = live.filter(kind=kind, key__revoked_at__lte=now)
            tally.ended += end_each(revoked, now, "The key was revoked.")
    works_again = Q(key__expires_at__isnull=True) | Q(key__expires_at__gt=now)
    moved = live.filter(works_again, kind=AlertKind.EXPIRED_USED)
    tally.ended += end_each(moved, now, "The key's end was moved.")
    for rule in AlertRule.objects.filter(is_on=False).select_related("organization"):
        mine = live.filter(organization=rule.organization, kind=rule.kind)
        tally.ended += end(mine, now, "The organization does not look for this any more.")
    return tally


def end_each(alerts: AlertQuerySet, now: datetime, why: str) -> int:
    """End alerts of several organizations; return how many were open."""
    organizations = list(alerts.order_by().values_list("organization", flat=True).distinct())
    return sum(end(alerts.filter(organization=pk), now, why) for pk in organizations)


def end(alerts: AlertQuerySet, now: datetime, why: str) -> int:
    """End alerts of one organization in batches; return how many were open."""
    count = 0
    while some := list(alerts.order_by("pk")[:BATCH]):
        count += Alert.objects.end_all(some, now=now, why=why)
    return count


def calm_words(kind: AlertKind) -> str:
    """Return why an alert about what happened ends when it does not happen any more."""
    hours = kind.traits.calm
    return f"Not seen again for {f'{hours} hours' if hours < 48 else f'{hours // 24} days'}."
