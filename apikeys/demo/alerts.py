"""Alerts of the demo: what its keys and their requests justify, as if they had been looked for all the time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet

from apikeys.demo.cast import HOUSES, MARA, NORTHWIND, TOMAS
from apikeys.evaluation.run import evaluate
from apikeys.evaluation.unusual import evaluate_unusual
from apikeys.models import (
    Actor,
    Alert,
    AlertEvent,
    AlertKind,
    AlertSettings,
    Channel,
    Delivery,
    Organization,
    User,
    Via,
    Webhook,
    WebhookFormat,
)
from apikeys.models.delivery import DeliveryAttempt
from apikeys.models.usage import DAY, HOUR, MINUTE, SECOND

# Requests are kept one by one for so long.
LOOKED_BACK: Final = 7 * DAY
URGENT_KINDS: Final = (AlertKind.ABUSE, AlertKind.EXPIRED_USED, AlertKind.UNUSUAL_USAGE, AlertKind.JOB_LATE)
FAILING: Final = 2.2 * DAY


def seed_alerts(now: datetime) -> int:
    """Look for alerts, let them have begun when their cause did, and have some handled; return how many there are."""
    northwind = Organization.objects.get(slug=NORTHWIND.slug)
    _make_webhooks(northwind)
    ours = Organization.objects.filter(slug__in=[house.slug for house in HOUSES])
    for organization in ours:
        AlertSettings.objects.create(organization=organization, digest_zone="Europe/Berlin")
    # What began yesterday is seen by who looked then.
    evaluate_unusual(now - DAY)
    evaluate(now)
    alerts = list(Alert.objects.filter(organization__in=ours).select_related("key"))
    for alert in alerts:
        alert.opened_at = min(now, _began(alert, now))
    Alert.objects.bulk_update(alerts, ["opened_at"], batch_size=500)
    events = list(AlertEvent.objects.filter(alert__in=alerts).select_related("alert"))
    for event in events:
        event.at = event.alert.opened_at
    AlertEvent.objects.bulk_update(events, ["at"], batch_size=500)
    _send(ours, now)
    _handle(northwind, now)
    return len(alerts)


def _make_webhooks(organization: Organization) -> None:
    by = _person(MARA)
    for name, url, form, kinds in (
        ("On call", "https://events.oncall.example/v2/alerts", WebhookFormat.STANDARD, list(URGENT_KINDS)),
        ("Chat, #api-keys", "https://chat.example/hooks/T024F/B81K0", WebhookFormat.SLACK, []),
    ):
        Webhook(organization=organization, name=name, url=url, format=form, kinds=kinds).create(by=by)


def _person(email: str) -> Actor:
    person = User.objects.get(email=email)
    return Actor(person.email, Via.DASHBOARD, person, "203.0.113.20", "Firefox")


def _began(alert: Alert, now: datetime) -> datetime:
    """Return when what an alert tells of began."""
    facts: dict[str, Any] = alert.facts

    def at(name: str) -> datetime:
        return datetime.fromisoformat(facts[name])

    match alert.kind:
        case AlertKind.EXPIRY:
            return at("expires_at") - DAY * int(facts["days"])
        case AlertKind.UNUSED:
            return at("since") + DAY * int(facts["days"])
        case AlertKind.ROTATION_DUE:
            return at("rotate_by")
        case AlertKind.EXPIRED_USED:
            return max(at("expired_at"), now - LOOKED_BACK) + HOUR
        case AlertKind.ABUSE | AlertKind.RATE_LIMITED | AlertKind.UNUSUAL_USAGE:
            return at("hour") + HOUR - (alert.occurrences - 1) * HOUR
    return now - HOUR


def _send(ours: QuerySet[Organization], now: datetime) -> None:
    """Let everything but the digests that are still to come have been sent, and one webhook not be reached."""
    attempts = []
    deliveries = list(Delivery.objects.filter(organization__in=ours).select_related("webhook", "event"))
    newest = AlertEvent.objects.order_by("-pk").values_list("pk", flat=True).first()
    for one in deliveries:
        if one.channel == Channel.MAIL and not one.is_urgent:
            continue
        at = max(one.event.at if one.event else now - 20 * MINUTE, now - 30 * DAY)
        one.created_at = one.due_at = at
        is_failing = one.webhook is not None and one.webhook.format == WebhookFormat.SLACK and at > now - FAILING
        if is_failing:
            one.attempts, one.due_at = 4, now + 2 * HOUR
            tries: list[tuple[timedelta, int | None, str]] = [
                (SECOND * seconds, 503, "The receiver answered 503.") for seconds in (0, 6, 320, 2100)
            ]
        else:
            one.attempts, one.sent_at = 1, at + SECOND
            tries = [(SECOND, None if one.channel == Channel.MAIL else 202, "")]
        if one.channel == Channel.MAIL:
            one.last_event = newest
        attempts += [
            DeliveryAttempt(delivery=one, at=at + after, seconds=0.31, status=status, error=error)
            for after, status, error in tries
        ]
    fields = ["created_at", "due_at", "attempts", "sent_at", "last_event"]
    Delivery.objects.bulk_update(deliveries, fields, batch_size=500)
    DeliveryAttempt.objects.bulk_create(attempts, batch_size=500)
    Webhook.objects.filter(organization__in=ours, format=WebhookFormat.SLACK).update(failing_since=now - FAILING)


def _handle(organization: Organization, now: datetime) -> None:
    """Let people have taken some in hand, and ended others."""
    mine = Alert.objects.filter(organization=organization).for_pages()
    limited = mine.filter(kind=AlertKind.RATE_LIMITED).first()
    if limited:
        limited.acknowledge(until=now + timedelta(days=3), by=_person(TOMAS))
    unused = list(mine.filter(kind=AlertKind.UNUSED).order_by("-opened_at")[:2])
    for alert, note in zip(
        unused, ("Asked the owner, who needs it until spring.", "Kept for the audit."), strict=False
    ):
        alert.resolve(note=note, by=_person(MARA))
