"""Alerts about what a key is: near its end, unused, too old, or without anybody who answers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import batched
from typing import Any, Final

from django.db.models import F, Max

from apikeys.evaluation.occurrences import newest_alerts
from apikeys.evaluation.reconcile import BATCH, Tally, end, reconcile
from apikeys.models import AlertKind, AlertRule, AuditAction, AuditEntry, Organization, Rotation, Sighting
from apikeys.models.key_age import rotation_date
from apikeys.models.silence import silence_limit, unused_kind

_DAY: Final = timedelta(days=1)
_HOUR_SECONDS: Final = 3600


def expiry_sightings(organization: Organization, days: Sequence[int], now: datetime) -> Iterator[Sighting]:
    """Yield the keys that expire within the widest of some days, each with the tightest that it is within.

    A key whose end is a rotation's deadline is left out: somebody has it in hand. So is one whose end was set, with
    its creation or later, when that was within the same days already: whoever did so knows.
    """
    keys = organization.keys.expiring(now, timedelta(days=max(days)))
    rotating = Rotation.objects.open().filter(organization=organization).values("old_key")
    wanted = keys.exclude(pk__in=rotating).order_by("pk").values_list("pk", "created_at", "expires_at")
    rows: Iterator[Any] = wanted.iterator(BATCH)
    for some in batched(rows, BATCH, strict=False):
        pks = [pk for pk, *_ in some]
        last, moved = newest_alerts(AlertKind.EXPIRY, pks), ends_moved(pks)
        for pk, created_at, expires_at in some:
            level = min(limit for limit in days if expires_at <= now + limit * _DAY)
            before = last.get(pk)
            if before and before.facts.get("expires_at") == expires_at.isoformat():
                is_new = before.cause_ended_at is None or before.level is None or level < before.level
            else:
                is_new = expires_at - level * _DAY > max(created_at, moved.get(pk, created_at))
            if is_new:
                facts = {"days": level, "expires_at": expires_at.isoformat()}
                yield Sighting(pk, now, facts, level=level)


def ends_moved(keys: Sequence[int]) -> dict[int, datetime]:
    """Return when somebody moved the end of some keys last; of each of which somebody did."""
    edits = AuditEntry.objects.filter(key_id__in=keys, action=AuditAction.KEY_EDIT, changes__has_key="expires_at")
    return dict(edits.order_by().values_list("key_id").annotate(Max("at")))


def unused_sightings(organization: Organization, now: datetime) -> Iterator[Sighting]:
    """Yield the keys that nobody uses, as the list says."""
    limit = silence_limit(organization.unused_after)
    rows = organization.keys.unused(now, organization=organization).order_by("pk")
    columns = ("pk", "quiet_since", unused_kind(), limit, F("rhythm__usual_gap"))
    for pk, since, kind, days, gap in rows.values_list(*columns).iterator(BATCH):
        hours = gap // _HOUR_SECONDS if gap else None
        facts = {"silence": kind, "since": since.isoformat(), "days": days, "usual_gap_hours": hours}
        yield Sighting(pk, now, facts)


def rotation_sightings(organization: Organization, now: datetime) -> Iterator[Sighting]:
    """Yield the keys that should have been rotated by now."""
    if organization.max_key_age is None:
        return
    rows = organization.keys.to_rotate(now, organization=organization).order_by("pk")
    for pk, date in rows.annotate(date=rotation_date()).values_list("pk", "date").iterator(BATCH):
        yield Sighting(pk, now, {"rotate_by": date.isoformat(), "max_key_age": organization.max_key_age})


def owner_sightings(organization: Organization, now: datetime) -> Iterator[Sighting]:
    """Yield the usable keys whose owner's account is closed."""
    rows = organization.keys.without_owner(now).order_by("pk").values_list("pk", "owner__user__email")
    for pk, email in rows.iterator(BATCH):
        yield Sighting(pk, now, {"owner": email})


def evaluate_expiry(organization: Organization, now: datetime) -> Tally:
    """Tell of the keys whose end is near, each of the rule's days once."""
    rule = AlertRule.objects.one(organization, AlertKind.EXPIRY)
    tally = Tally(ended=_end_moved(organization, now))
    sightings = expiry_sightings(organization, rule.option("days"), now)
    tally += reconcile(organization, AlertKind.EXPIRY, sightings, now=now, over=_OVER[AlertKind.EXPIRY])
    return tally


def _end_moved(organization: Organization, now: datetime) -> int:
    """End the alerts about an end that is not the key's any more."""
    live = organization.alerts.filter(kind=AlertKind.EXPIRY, cause_ended_at__isnull=True)
    moved: list[int] = []
    for pk, told, expires_at in live.values_list("pk", "facts__expires_at", "key__expires_at").iterator(BATCH):
        if expires_at is None or told != expires_at.isoformat():
            moved.append(pk)
    return sum(
        end(live.filter(pk__in=some), now, "The key's end was moved.") for some in batched(moved, BATCH, strict=False)
    )


_OVER: Final = {
    AlertKind.EXPIRY: "The key expired, was revoked or is being rotated.",
    AlertKind.UNUSED: "The key is used again, is exempt, or was revoked.",
    AlertKind.ROTATION_DUE: "The key is being rotated, was revoked or has expired.",
    AlertKind.OWNER_GONE: "The key has an owner again, was revoked or has expired.",
}
_SIGHTINGS: Final[dict[AlertKind, Callable[[Organization, datetime], Iterator[Sighting]]]] = {
    AlertKind.UNUSED: unused_sightings,
    AlertKind.ROTATION_DUE: rotation_sightings,
    AlertKind.OWNER_GONE: owner_sightings,
}


def evaluate_states(organization: Organization, now: datetime, kinds: Sequence[AlertKind] = tuple(AlertKind)) -> Tally:
    """Make an organization's alerts about what its keys are agree with what they are now."""
    tally = evaluate_expiry(organization, now) if AlertKind.EXPIRY in kinds else Tally()
    for kind, sightings in _SIGHTINGS.items():
        if kind in kinds:
            found: Any = sightings(organization, now)
            tally += reconcile(organization, kind, found, now=now, over=_OVER[kind])
    return tally
