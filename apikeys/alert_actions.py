"""What to do about an alert: for each kind the fitting actions, the best first, and of those only what is possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from django.urls import reverse

from apikeys.models import Alert, AlertKind, ApiKey, Rotation, RotationReason, Status, Webhook


class Action(NamedTuple):
    """A button: where it leads, and whether what is there is a question that may be asked in a dialog."""

    label: str
    icon: str
    url: str
    is_dialog: bool = False
    is_harsh: bool = False


class Situation(NamedTuple):
    """What decides what can be done: the key, and the rotation that it is in."""

    key: ApiKey
    rotation: Rotation | None

    def url(self, page: str) -> str:
        """Return the address of a page of the key."""
        return reverse(page, args=[self.key.organization.slug, self.key.public_id])


type Offer = Callable[[Situation], Action | None]


def _rotate(reason: RotationReason) -> Offer:
    def offer(now: Situation) -> Action | None:
        if now.rotation:
            return Action("To its rotation", "refresh-ccw", now.rotation.get_absolute_url())
        if now.key.status is not Status.ACTIVE:
            return None
        return Action("Rotate…", "refresh-ccw", f"{now.url('key_rotate')}?reason={reason}")

    return offer


def _revoke(now: Situation) -> Action | None:
    if now.key.revoked_at:
        return None
    return Action("Revoke…", "ban", now.url("key_revoke"), is_dialog=True, is_harsh=True)


def _pause(now: Situation) -> Action | None:
    if now.key.status is not Status.ACTIVE:
        return None
    return Action("Pause…", "pause", now.url("key_pause"), is_dialog=True)


def _edit(label: str, icon: str, field: str) -> Offer:
    def offer(now: Situation) -> Action | None:
        return None if now.key.revoked_at else Action(label, icon, f"{now.url('key_edit')}#{field}")

    return offer


def _look(now: Situation) -> Action:
    return Action("See its requests", "list", now.url("key_requests"))


def _exempt(now: Situation) -> Action | None:
    if now.key.is_dead or now.key.exemption_now:
        return None
    return Action("It may be silent…", "moon", now.url("key_exempt"), is_dialog=True)


_EXTEND: Final = _edit("Move its end…", "calendar-clock", "end_title")
_OFFERS: Final[Mapping[AlertKind, Sequence[Offer]]] = {
    AlertKind.ABUSE: (_rotate(RotationReason.COMPROMISE), _revoke, _pause, _look),
    AlertKind.EXPIRED_USED: (_EXTEND, _revoke, _look),
    AlertKind.UNUSUAL_USAGE: (_pause, _rotate(RotationReason.COMPROMISE), _revoke, _look),
    AlertKind.RATE_LIMITED: (_edit("Change its limit…", "gauge", "id_rate_limit"), _pause),
    AlertKind.EXPIRY: (_rotate(RotationReason.EXPIRY), _EXTEND, _revoke),
    AlertKind.NEW_NETWORK: (
        _edit("Limit its networks…", "globe", "id_networks"),
        _rotate(RotationReason.COMPROMISE),
        _pause,
        _revoke,
    ),
    AlertKind.OWNER_GONE: (_edit("Name another owner…", "user", "id_owner"), _revoke),
    AlertKind.ROTATION_DUE: (_rotate(RotationReason.REGULAR), _revoke),
    AlertKind.UNUSED: (_revoke, _exempt),
}


def actions_for(alert: Alert) -> list[Action]:
    """Return what somebody who may change keys can do about an alert, the best first."""
    kind, slug = AlertKind(alert.kind), alert.organization.slug
    if kind == AlertKind.JOB_LATE:
        return [Action("See the scheduled jobs", "clock", f"{reverse('overview', args=[slug])}#jobs_title")]
    if kind == AlertKind.WEBHOOK_OFF:
        return _to_webhook(slug, alert.subject)
    if alert.key is None:
        return []
    now = Situation(alert.key, alert.key.open_rotation)
    # To stop a key is no answer to its silence.
    is_quiet = kind == AlertKind.UNUSUAL_USAGE and alert.facts.get("shape") != "spike"
    offered = [offer(now) for offer in ([_look] if is_quiet else _OFFERS[kind])]
    return [action for action in offered if action]


def _to_webhook(slug: str, subject: str) -> list[Action]:
    # One that was deleted ends the alert at the next look.
    if not subject.isdigit() or not Webhook.objects.filter(pk=int(subject)).exists():
        return []
    return [Action("See the webhook", "unplug", reverse("webhook_detail", args=[slug, int(subject)]))]
