"""Alerts: what somebody should look at, from when it is first seen until it is over.

There is one alert a key and kind at a time: what happens again is added to it. An alert whose cause is gone ends by
itself. One that a person resolved stays resolved while its cause lasts, and comes back only for something new.

What ``facts`` holds, by kind; times are ISO 8601 in UTC, ``callers`` at most five {"address", "agent", "count",
"is_known"}, of whom the known ones were accepted with the key before:

- abuse: hour, wrong_secrets, scope_missing, network_denied, revoked (requests in that hour), callers
- expired_used: expired_at, requests (since the end), callers
- unusual_usage: shape ("spike", "drop", "silence"), hour, count, low, high (the usual range), is_complete, callers
- rate_limited: hour, refused (in that hour), hours (of the last 24 that had too many), callers
- expiry: days (the threshold), expires_at
- new_network: network, address, at, callers
- owner_gone: owner
- rotation_due: rotate_by, max_key_age (days)
- unused: silence (a Silence), since, days (the limit), usual_gap_hours (or None)
- job_late: job, worked_at (or None), limit_seconds, error
- webhook_off: webhook, name, host, failing_since, error
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from apikeys import alert_code
from apikeys.models.alert_kind import AlertKind, Traits, alert_kinds
from apikeys.models.alert_rule import AlertRule, AlertSettings
from apikeys.models.audit import Actor, AuditAction, AuditEntry, Target
from apikeys.models.catalogue import Environment
from apikeys.models.delivery import Delivery
from apikeys.models.key import ApiKey
from apikeys.models.organization import AlertMail, Organization
from apikeys.models.reach import require_reach
from apikeys.models.text import validate_text

LONGEST_ACKNOWLEDGEMENT: Final = timedelta(days=366)
MOST_AT_ONCE: Final = 500
# The clocks of two machines may differ by so much; by more, one was put back.
CLOCKS_DIFFER: Final = timedelta(minutes=5)


class AlertStatus(models.TextChoices):
    """What became of an alert."""

    OPEN = "open", "open"
    ACKNOWLEDGED = "acknowledged", "acknowledged"
    RESOLVED = "resolved", "resolved"


class AlertOverError(Exception):
    """The alert is resolved already."""


class StaleAlertError(Exception):
    """Somebody acknowledged the alert since whoever asks looked at it."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """That a kind of alert is justified now: for which key, or of a kind without keys for which ``subject``.

    ``level`` orders what gets worse, the lower the worse (days before an end). ``at`` is the last moment that
    justifies it, ``count`` how often it happened since the last look. ``facts`` are values that JSON holds.
    """

    key_id: int | None
    at: datetime
    facts: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    level: int | None = None
    count: int = 1

    @property
    def what(self) -> int | str:
        """What it is about: a key's id, or the subject."""
        return self.subject if self.key_id is None else self.key_id


class AlertQuerySet(models.QuerySet["Alert"]):
    """Finding and raising of alerts."""

    def open(self) -> AlertQuerySet:
        """Return those that are not resolved, acknowledged or not."""
        return self.filter(resolved_at__isnull=True)

    def with_status(self, status: AlertStatus, now: datetime | None = None) -> AlertQuerySet:
        """Return those with a status; an acknowledgement counts until it runs out."""
        acknowledged = models.Q(acknowledged_until__gt=now or timezone.now())
        if status == AlertStatus.RESOLVED:
            return self.filter(resolved_at__isnull=False)
        return self.open().filter(acknowledged if status == AlertStatus.ACKNOWLEDGED else ~acknowledged)

    def open_of(self, key: ApiKey, most: int) -> list[Alert]:
        """Return the newest open alerts of a key."""
        return list(self.open().filter(key=key).select_related("organization").order_by("-pk")[:most])

    def for_pages(self) -> AlertQuerySet:
        """Fetch with each alert what a page shows of it."""
        return self.select_related(
            "organization",
            "key__organization",
            "key__environment",
            "key__owner__user",
            "key__activity",
            "acknowledged_by",
            "resolved_by",
        )

    def raise_all(
        self, organization: Organization, kind: AlertKind, sightings: Sequence[Sighting], *, now: datetime
    ) -> list[AlertEvent]:
        """Open or add to the alerts that some sightings justify, at most one a key or subject; return what is new.

        One transaction; whoever else raises alerts of the organization waits. To be told is written with it.
        """
        with transaction.atomic():
            locked = AlertSettings.objects.lock(organization)
            rule = AlertRule.objects.one(organization, kind)
            if not rule.is_on:
                return []
            live = self._live(organization, kind, sightings)
            raised = _Raised(organization, kind, now, is_urgent=rule.is_urgent)
            for sighting in sightings:
                raised.add(live.get(sighting.what), sighting)
            events = raised.save()
            Delivery.objects.enqueue(events, locked, {kind: rule})
        return events

    def acknowledge_all(self, alerts: Sequence[Alert], *, until: datetime, by: Actor) -> list[Alert]:
        """Say that somebody has some alerts of one organization in hand; return those that were still open.

        Raises ValidationError naming ``until``.
        """
        now = timezone.now()
        if not now < until <= now + LONGEST_ACKNOWLEDGEMENT:
            days = LONGEST_ACKNOWLEDGEMENT.days
            raise ValidationError({"until": [f"A time in the future, at most {days} days from now."]})
        changed = {"acknowledged_at": now, "acknowledged_until": until, "acknowledged_by": by.user}
        return self._handle(
            alerts, changed, EventType.ACKNOWLEDGED, AuditAction.ALERT_ACKNOWLEDGE, by, note=until.isoformat()
        )

    def resolve_all(self, alerts: Sequence[Alert], *, note: str, by: Actor) -> list[Alert]:
        """End some alerts of one organization by hand, with a note; return those that were still open.

        Raises ValidationError naming ``note``.
        """
        note, now = note.strip(), timezone.now()
        if not note:
            raise ValidationError({"note": ["Say in a few words what was found or done."]})
        try:
            Alert.resolution.field.clean(note, None)
        except ValidationError as error:
            raise ValidationError({"note": error.messages}) from error
        # What happens again is something new; what lasts is known.
        lasting = [kind for kind in AlertKind if kind.traits.lasts]
        ended = models.Case(models.When(kind__in=lasting, then=None), default=models.Value(now))
        changed = {
            "resolved_at": now,
            "resolved_by": by.user,
            "resolved_by_label": by.label,
            "resolution": note,
            "cause_ended_at": ended,
        }
        return self._handle(alerts, changed, EventType.RESOLVED, AuditAction.ALERT_RESOLVE, by, note=note)

    def _handle(
        self,
        alerts: Sequence[Alert],
        changed: Mapping[str, Any],
        event: EventType,
        action: AuditAction,
        by: Actor,
        *,
        note: str,
    ) -> list[Alert]:
        organization = alerts[0].organization
        with transaction.atomic():
            locked = AlertSettings.objects.lock(organization)
            asked = self.open().filter(organization=organization, pk__in=[alert.pk for alert in alerts])
            open_ones = list(asked.select_related("key__environment", "key__owner__user").order_by("pk"))
            if not open_ones:
                return []
            require_reach(by, *{alert.key.environment for alert in open_ones if alert.key})
            self.filter(pk__in=[alert.pk for alert in open_ones]).update(**changed)
            told = AlertEvent.objects.record(open_ones, event, at=timezone.now(), by=by, note=note)
            Delivery.objects.enqueue(told, locked, AlertRule.objects.of(organization))
            entries = [Target(alert.subject, alert.key, {"alert": [None, alert.code]}) for alert in open_ones]
            reason = note if action == AuditAction.ALERT_RESOLVE else ""
            AuditEntry.objects.record_all(action, entries, by=by, organization=organization, reason=reason)
        return open_ones

    def end_all(self, alerts: Iterable[Alert], *, now: datetime, why: str) -> int:
        """End alerts of one organization whose cause is gone; return how many were still open. Call it in batches."""
        some = [alert.pk for alert in alerts]
        if not some:
            return 0
        with transaction.atomic():
            organization = Organization.objects.get(alerts=some[0])
            locked = AlertSettings.objects.lock(organization)
            live = self.filter(pk__in=some, cause_ended_at__isnull=True).select_related("key__owner__user")
            open_ones = [alert for alert in live if alert.resolved_at is None]
            self.filter(pk__in=[alert.pk for alert in open_ones]).update(resolved_at=now, resolution=why)
            live.update(cause_ended_at=now)
            events = AlertEvent.objects.record(open_ones, EventType.RESOLVED, at=now, note=why)
            Delivery.objects.enqueue(events, locked, AlertRule.objects.of(organization))
        return len(open_ones)

    def _live(
        self, organization: Organization, kind: AlertKind, sightings: Sequence[Sighting]
    ) -> dict[int | str, Alert]:
        mine = self.filter(organization=organization, kind=kind, cause_ended_at__isnull=True)
        keys = [sighting.key_id for sighting in sightings if sighting.key_id is not None]
        mine = mine.filter(key_id__in=keys) if kind.is_of_key else mine
        return {alert.what: alert for alert in mine.select_related("key__owner__user")}


class Alert(models.Model):
    """One thing that somebody should look at. ``facts`` is what was seen, and what was expected."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=16, choices=alert_kinds)
    key = models.ForeignKey(ApiKey, models.PROTECT, null=True, related_name="alerts")
    subject = models.CharField(max_length=40, blank=True)
    level = models.IntegerField(null=True)
    facts = models.JSONField(default=dict)
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    occurrences = models.PositiveIntegerField(default=1)
    cause_ended_at = models.DateTimeField(null=True)

    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_until = models.DateTimeField(null=True)
    acknowledged_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    resolved_at = models.DateTimeField(null=True)
    # Without a person it ended by itself.
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    resolved_by_label = models.CharField(max_length=254, blank=True)
    resolution = models.CharField(max_length=500, blank=True, validators=[validate_text])

    objects: ClassVar = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "key"],
                condition=models.Q(cause_ended_at__isnull=True, key__isnull=False),
                name="one_alert_a_key_and_kind",
            ),
            models.UniqueConstraint(
                fields=["organization", "kind", "subject"],
                condition=models.Q(cause_ended_at__isnull=True, key__isnull=True),
                name="one_alert_a_subject",
            ),
            models.CheckConstraint(
                condition=models.Q(cause_ended_at__isnull=True) | models.Q(resolved_at__isnull=False),
                name="ended_is_resolved",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="alert_newest"),
            models.Index(
                fields=["organization", "kind", "-id"],
                condition=models.Q(resolved_at__isnull=True),
                name="alert_open",
            ),
            models.Index(fields=["key", "kind", "-id"], name="alert_of_key"),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.kind}"

    def get_absolute_url(self) -> str:
        """Return the address of the alert's page."""
        return reverse("alert_detail", args=[self.organization.slug, self.pk])

    # What it is

    @property
    def code(self) -> str:
        """The short code by which people name it."""
        return alert_code.encode(self.pk)

    @property
    def what(self) -> int | str:
        """What it is about: a key's id, or the subject."""
        return self.subject if self.key_id is None else self.key_id

    @property
    def traits(self) -> Traits:
        """What is said of its kind."""
        return AlertKind(self.kind).traits

    @property
    def status(self) -> AlertStatus:
        """What it is now."""
        if self.resolved_at:
            return AlertStatus.RESOLVED
        return AlertStatus.ACKNOWLEDGED if self.is_acknowledged else AlertStatus.OPEN

    @property
    def is_acknowledged(self) -> bool:
        """Whether somebody has it in hand, and the time for that has not run out."""
        return self.acknowledged_until is not None and self.acknowledged_until > timezone.now()

    @property
    def environment(self) -> Environment | None:
        """Where its key is used, None where it is about no key."""
        return self.key.environment if self.key else None

    def owner_email(self, *, urgent: bool) -> str:
        """Return the address of the key's owner, empty where nobody is to be mailed."""
        if self.key is None:
            return ""
        if self.key.owner is None:
            return self.key.owner_contact
        owner = self.key.owner
        return owner.user.email if owner.user.is_active and AlertMail(owner.alert_mail).wants(urgent=urgent) else ""

    # What may be done with it

    @property
    def version(self) -> datetime:
        """When somebody acknowledged it last, or it was opened: what a form of it was made from."""
        return self.acknowledged_at or self.opened_at

    def acknowledge(self, *, until: datetime, by: Actor, seen: datetime | None = None) -> None:
        """Say that somebody has it in hand: nobody is reminded before an instant. ``seen`` is the version shown.

        Raises ValidationError naming ``until``, AlertOverError, StaleAlertError.
        """
        with transaction.atomic():
            AlertSettings.objects.lock(self.organization)
            self.refresh_from_db(fields=["acknowledged_at", "acknowledged_until", "acknowledged_by", "resolved_at"])
            if self.resolved_at:
                raise AlertOverError
            if seen is not None and seen != self.version:
                raise StaleAlertError
            Alert.objects.acknowledge_all([self], until=until, by=by)
        self.refresh_from_db(fields=["acknowledged_at", "acknowledged_until", "acknowledged_by"])

    def resolve(self, *, note: str, by: Actor) -> None:
        """End it by hand, with a note on what was found or done.

        Raises ValidationError naming ``note``, AlertOverError.
        """
        if not Alert.objects.resolve_all([self], note=note, by=by):
            raise AlertOverError
        names = ["resolved_at", "resolved_by", "resolved_by_label", "resolution", "cause_ended_at"]
        self.refresh_from_db(fields=names)


class EventType(models.TextChoices):
    """What happened to an alert."""

    OPENED = "opened", "opened"
    ESCALATED = "escalated", "got worse"
    REOPENED = "reopened", "still there after its acknowledgement ran out"
    ACKNOWLEDGED = "acknowledged", "acknowledged"
    RESOLVED = "resolved", "resolved"


# People are mailed when there is something new to look at.
MAILED: Final = (EventType.OPENED, EventType.ESCALATED, EventType.REOPENED)


class AlertEventQuerySet(models.QuerySet["AlertEvent"]):
    """Recording of events."""

    def record(
        self,
        alerts: Sequence[Alert],
        event: EventType,
        *,
        at: datetime,
        by: Actor | None = None,
        note: str = "",
        is_urgent: bool = False,
    ) -> list[AlertEvent]:
        """Append an event of each of some alerts; with their organization's settings locked, numbers are in order."""
        label = by.label if by else ""
        events = [
            self.model(
                organization_id=alert.organization_id,
                alert=alert,
                event=event,
                at=at,
                level=alert.level,
                by_label=label,
                note=note,
                is_urgent=is_urgent,
            )
            for alert in alerts
        ]
        return self.bulk_create(events, batch_size=500)


class AlertEvent(models.Model):
    """One thing that happened to an alert; what is told tells of these."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="alert_events")
    alert = models.ForeignKey(Alert, models.PROTECT, related_name="events")
    event = models.CharField(max_length=16, choices=EventType.choices)
    at = models.DateTimeField()
    level = models.IntegerField(null=True)
    # Empty: by itself.
    by_label = models.CharField(max_length=254, blank=True)
    note = models.CharField(max_length=500, blank=True)
    is_urgent = models.BooleanField()

    objects: ClassVar = AlertEventQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["organization", "id"], name="alert_event_newest"),
            models.Index(fields=["alert", "id"], name="event_of_alert"),
        ]

    def __str__(self) -> str:
        return f"{self.alert_id} {self.event}"

    @property
    def is_mailed(self) -> bool:
        """Whether people are mailed of it."""
        return self.event in MAILED


class _Raised:
    """What a batch of sightings does to alerts, gathered to be saved together."""

    def __init__(self, organization: Organization, kind: AlertKind, now: datetime, *, is_urgent: bool) -> None:
        self.organization, self.kind, self.now, self.is_urgent = organization, kind, now, is_urgent
        self.new: list[Alert] = []
        self.changed: dict[EventType | None, list[Alert]] = {}
        self.ended: list[Alert] = []

    def add(self, live: Alert | None, sighting: Sighting) -> None:
        """Decide what a sighting does, given the alert whose cause lasts, if there is one."""
        is_worse = live is not None and None not in (live.level, sighting.level) and sighting.level < live.level  # type: ignore[operator]
        if live is None:
            self.new.append(self._opened(sighting))
        elif live.resolved_at:
            # Somebody resolved it; only what is worse is new.
            if is_worse:
                self.ended.append(live)
                self.new.append(self._opened(sighting))
        elif is_worse:
            self._change(live, sighting, EventType.ESCALATED)
        elif live.acknowledged_until and live.acknowledged_until <= self.now:
            self._change(live, sighting, EventType.REOPENED)
        elif self._is_later(live, sighting):
            self._change(live, sighting, None)

    def save(self) -> list[AlertEvent]:
        """Store everything, and return what happened."""
        Alert.objects.filter(pk__in=[alert.pk for alert in self.ended]).update(cause_ended_at=self.now)
        Alert.objects.bulk_create(self.new, batch_size=500)
        models.prefetch_related_objects(self.new, "key__owner__user")
        events = self._record(EventType.OPENED, self.new)
        for event, alerts in self.changed.items():
            names = ["level", "facts", "seen_at", "occurrences", "acknowledged_at", "acknowledged_until"]
            Alert.objects.bulk_update(alerts, names, batch_size=200)
            events += self._record(event, alerts) if event else []
        return events

    def _record(self, event: EventType, alerts: list[Alert]) -> list[AlertEvent]:
        return AlertEvent.objects.record(alerts, event, at=self.now, is_urgent=self.is_urgent)

    def _opened(self, sighting: Sighting) -> Alert:
        return Alert(
            organization=self.organization,
            kind=self.kind,
            key_id=sighting.key_id,
            subject=sighting.subject,
            level=sighting.level,
            facts=sighting.facts,
            opened_at=self.now,
            seen_at=sighting.at,
            occurrences=sighting.count,
        )

    def _is_later(self, alert: Alert, sighting: Sighting) -> bool:
        """Say whether it happened again since it was seen last. A clock that was ahead then says nothing."""
        was_ahead = alert.seen_at > self.now + CLOCKS_DIFFER
        return not self.kind.traits.lasts and (sighting.at > alert.seen_at or was_ahead)

    def _change(self, alert: Alert, sighting: Sighting, event: EventType | None) -> None:
        if self._is_later(alert, sighting):
            alert.occurrences += sighting.count
        # A clock that was ahead is set back.
        seen_at = min(self.now, max(sighting.at, alert.seen_at))
        alert.level, alert.facts, alert.seen_at = sighting.level, sighting.facts, seen_at
        if event:
            # Whoever had it in hand has it no more.
            alert.acknowledged_at = alert.acknowledged_until = None
        self.changed.setdefault(event, []).append(alert)
