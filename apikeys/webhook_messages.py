"""What a webhook is told, in either format, and how that is signed.

Signing: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any, Final

from django.conf import settings

from apikeys import alert_words
from apikeys.audit_signing import statement_of
from apikeys.models import Alert, AlertKind, Delivery, Webhook, WebhookFormat
from apikeys.models.webhook import CHECKPOINT

_SLACK_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def message_id(delivery: Delivery) -> str:
    """Return the id by which a receiver knows what it was told before: the same in every attempt."""
    return f"msg_{delivery.pk.hex}"


def request_of(delivery: Delivery, webhook: Webhook, now: datetime) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers to post."""
    slack = webhook.format == WebhookFormat.SLACK
    body = json.dumps(_slack(delivery) if slack else event_of(delivery), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "keyadmin", "webhook-id": message_id(delivery)}
    if not slack:
        stamp = str(int(now.timestamp()))
        signatures = [sign(secret, message_id(delivery), stamp, body) for secret in webhook.secrets_at(now)]
        headers |= {"webhook-timestamp": stamp, "webhook-signature": " ".join(signatures)}
    return body, headers


def sign(secret: str, message: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a message, as Standard Webhooks writes it: "v1," and base64 of HMAC-SHA256."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def event_of(delivery: Delivery) -> dict[str, Any]:
    """Return what a standard webhook is told: the type of the event, when it was, and the alert."""
    event, checkpoint = delivery.event, delivery.checkpoint
    if checkpoint is not None:
        told = {"organization": delivery.organization.slug, "checkpoint": statement_of(checkpoint)}
        return {"type": CHECKPOINT, "timestamp": checkpoint.at.isoformat(), "data": told}
    if event is None:
        data: dict[str, Any] = {"organization": delivery.organization.slug}
        return {"type": "test", "timestamp": delivery.created_at.isoformat(), "data": data}
    return {"type": f"alert.{event.event}", "timestamp": event.at.isoformat(), "data": _data(event.alert, event.note)}


def _data(alert: Alert, note: str) -> dict[str, Any]:
    key = alert.key
    return {
        "organization": alert.organization.slug,
        "code": alert.code,
        "kind": alert.kind,
        "status": alert.status,
        "key": {
            "public_id": key.public_id,
            "fingerprint": key.fingerprint,
            "name": key.name,
            "environment": key.environment.code,
            "owner": key.owner_label,
        }
        if key
        else None,
        "subject": alert.subject or None,
        "seen": alert_words.seen(alert),
        "expected": alert_words.expected(alert),
        "facts": alert.facts,
        "opened_at": alert.opened_at.isoformat(),
        "seen_at": alert.seen_at.isoformat(),
        "occurrences": alert.occurrences,
        "note": note,
        "url": f"{settings.BASE_URL}{alert.get_absolute_url()}",
    }


def _slack(delivery: Delivery) -> dict[str, Any]:
    event, checkpoint = delivery.event, delivery.checkpoint
    if checkpoint is not None:
        told = f"Checkpoint of the audit log of {delivery.organization}, entry {checkpoint.sequence:,}"
        return {"text": f"{_escaped(told)}:\n`{json.dumps(statement_of(checkpoint))}`"}
    if event is None:
        return {"text": f"This is a test of keyadmin: alerts of {_escaped(str(delivery.organization))} are told here."}
    alert = event.alert
    what = f"{alert.key.name} ({alert.key.fingerprint})" if alert.key else alert.subject
    kind = AlertKind(alert.kind).label
    lines = [
        f"*{_escaped(kind)}* {event.get_event_display()}: {_escaped(what)}",
        f"{_escaped(alert_words.seen(alert))}; expected: {_escaped(alert_words.expected(alert))}",
        f"{alert.code} in keyadmin, {_escaped(str(alert.organization))}",
    ]
    return {"text": "\n".join(lines)}


def _escaped(text: str) -> str:
    return "".join(_SLACK_ESCAPES.get(character, character) for character in text)
