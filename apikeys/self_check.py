"""Whether recording works: a key of our own is presented to the verifier as a service would, then its event looked for.

The key is derived from the newest pepper each time, so that its text is kept nowhere. Its organization has no members,
so that no page shows it, and a slug that nobody else can have.
"""

from __future__ import annotations

import http.client
import json
import secrets
from datetime import timedelta
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apikeys import key_secret
from apikeys.key_secret import KeySecret
from apikeys.models import (
    Actor,
    ApiKey,
    AuditAction,
    AuditEntry,
    Environment,
    KeyActivity,
    Organization,
    Outcome,
    RevocationReason,
    UsageEvent,
)
from apikeys.models.organization import SYSTEM_SLUG

TIMEOUT_SECONDS: Final = 10
# An event is told from others by its path; it is written before the answer, by a clock that may go wrong.
WIDEST_SKEW: Final = timedelta(days=1)
_ENVIRONMENT: Final = "self"
_CONTACT: Final = "self-check@keyadmin.invalid"
_USER_AGENT: Final = "keyadmin check_recording"


class RecordingStoppedError(Exception):
    """A request was not accepted, or not recorded; the message says which."""


def check() -> timedelta:
    """Present the system key to the verifier at BASE_URL and find its event.

    Returns by how much the verifier's clock is ahead of this machine's. Raises RecordingStoppedError.
    """
    key, secret = system_key()
    path = f"/self-check/{secrets.token_hex(8)}"
    sent_at = timezone.now()
    answer = _present(secret, path)
    answered_at = timezone.now()
    if answer != Outcome.VALID:
        raise RecordingStoppedError(f"The verifier at {settings.BASE_URL} answered {answer} to a key that is valid.")
    near = {"at__gte": sent_at - WIDEST_SKEW, "at__lt": answered_at + WIDEST_SKEW}
    event = UsageEvent.objects.of(key).filter(path=path, **near).first()
    if event is None:
        raise RecordingStoppedError("The verifier accepted a request and recorded none.")
    activity = KeyActivity.objects.filter(key=key).first()
    if activity is None or activity.last_used_at is None or activity.last_used_at < event.at - timedelta(seconds=1):
        raise RecordingStoppedError("The verifier recorded a request and did not move when the key was last used.")
    if event.at < sent_at:
        return event.at - sent_at
    return max(timedelta(), event.at - answered_at)


def system_key() -> tuple[ApiKey, KeySecret]:
    """Return the system key of the newest pepper; made when there is none, which ends those of older peppers."""
    number = max(settings.KEY_PEPPERS)
    with transaction.atomic():
        organization = _organization()
        Organization.objects.lock(organization.pk)
        keys = organization.keys.select_related("organization", "environment").filter(revoked_at__isnull=True)
        found = {key.pepper_number: key for key in keys}
        key = found.pop(number, None) or _make_key(organization, number)
        for old in found.values():
            old.revoke(reason=RevocationReason.REPLACED, by=Actor.command())
    return key, _secret(key.public_id, key.prefix, number)


def _secret(public_id: str, prefix: str, pepper_number: int) -> KeySecret:
    return key_secret.derive(prefix, _ENVIRONMENT, public_id, settings.KEY_PEPPERS[pepper_number])


def _organization() -> Organization:
    organization, is_new = Organization.objects.get_or_create(slug=SYSTEM_SLUG, defaults={"name": "keyadmin itself"})
    if is_new:
        AuditEntry.objects.record(
            AuditAction.ORGANIZATION_CREATE, by=Actor.command(), organization=organization, target=organization.name
        )
        Environment.objects.create(organization=organization, code=_ENVIRONMENT, name="self-check")
    return organization


def _make_key(organization: Organization, pepper_number: int) -> ApiKey:
    public_id = key_secret.make_public_id()
    secret = _secret(public_id, organization.key_prefix, pepper_number)
    key = ApiKey(
        organization=organization,
        environment=organization.environments.get(code=_ENVIRONMENT),
        name="Self-check",
        purpose="Presented by check_recording to see that requests are recorded.",
        owner_contact=_CONTACT,
        prefix=secret.prefix,
        public_id=public_id,
        digest=key_secret.digest(secret, settings.KEY_PEPPERS[pepper_number]),
        pepper_number=pepper_number,
        created_by_label=Actor.command().label,
    )
    key.save(force_insert=True)
    AuditEntry.objects.record(AuditAction.KEY_ISSUE, by=Actor.command(), organization=organization, key=key)
    return key


class _NoRedirect(HTTPRedirectHandler):
    """A key is sent to nobody but BASE_URL."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _present(secret: KeySecret, path: str) -> str:
    """Return the outcome that the verifier names, or its HTTP status."""
    body = {"key": secret.text, "method": "GET", "path": path, "user_agent": _USER_AGENT}
    request = Request(  # noqa: S310 - BASE_URL is http or https
        f"{settings.BASE_URL}/v1/{SYSTEM_SLUG}/verify",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "User-Agent": _USER_AGENT},
    )
    try:
        with build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as answer:
            return _outcome(answer.read(), answer.status)
    except HTTPError as error:
        return _outcome(error.read(), error.code)
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RecordingStoppedError(f"The verifier at {settings.BASE_URL} does not answer: {reason}") from error


def _outcome(content: bytes, status: int) -> str:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    outcome = answer.get("outcome") if isinstance(answer, dict) else None
    return outcome if outcome in Outcome.values else f"HTTP {status}"
