"""rotate_key: issue the key that takes another's place, while both work."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys.management.arguments import fault, find_key, find_operator, instant, lifetime, overlap, text
from apikeys.management.base import Command as Base
from apikeys.models import (
    Actor,
    ApiKey,
    Clock,
    KeyExpiredError,
    KeyPausedError,
    KeyRevokedError,
    Rotation,
    RotationReason,
    RotationRunningError,
    RotationTerms,
    StartedRotation,
)
from apikeys.models.rotation import URGENT, USUAL_OVERLAP
from apikeys.notifiers import send_key_links

CLOCKS: Final = {"now": Clock.NOW, "first-use": Clock.FIRST_USE}
SAME: Final = "same"
OPTIONS: Final = {
    "overlap": "--overlap",
    "hard_end": "--until",
    "new_expires_at": "--expires-in",
    "link_lasts": "--link",
    "note": "--note",
}


class Command(Base):
    """Rotate a key."""

    help = (
        "Rotate a key: issue another on the same terms; both work for a while. Stdout holds the new full key alone, "
        "shown this once; with --link its owner gets a link to it instead, and stdout holds nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        add = parser.add_argument
        add("id", type=text, metavar="ID", help="The public id or the fingerprint; - reads it from stdin.")
        add("--reason", required=True, choices=RotationReason.values)
        add(
            *("--overlap",),
            type=overlap,
            metavar="LENGTH",
            help=f"How long both keys work: 7d, 12h or none. Default: {USUAL_OVERLAP.days}d; none for "
            f"{' and '.join(sorted(URGENT))}.",
        )
        add(
            "--from", dest="clock", choices=CLOCKS, default="now", help="When the overlap begins; default: %(default)s."
        )
        add(
            "--until",
            type=instant,
            metavar="INSTANT",
            help="The old key's end at the latest, like 2026-12-31T18:00 UTC.",
        )
        add(
            *("--finish",),
            choices=["deadline", "safe"],
            default="deadline",
            help="When the old key is revoked by itself: at the end of the overlap, or as soon as it is safe and at "
            "that end at the latest; default: %(default)s.",
        )
        add(
            *("--expires-in",),
            type=lambda value: SAME if value == SAME else lifetime(value),
            default=SAME,
            metavar="LIFETIME",
            help="The new key's: 90d, 12h, never, or same as the old one's; default: %(default)s.",
        )
        add(
            "--link",
            type=overlap,
            metavar="LENGTH",
            help="Mail the owner a link to the new key, good once and so long.",
        )
        add("--note", default="", type=text, help="Kept in the audit log; 500 characters.")
        add(
            *("--by",),
            required=True,
            type=text,
            metavar="E-MAIL",
            help="Who rotates it: a member of the key's organization, operator or more.",
        )
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Rotate it."""
        given = sys.stdin.readline(1000) if options["id"] == "-" else options["id"]
        key = find_key(given.strip())
        member = find_operator(key, options["by"])
        try:
            started = Rotation.objects.start(key, _terms(key, options), by=Actor.command(member.user))
        except ValidationError as error:
            raise fault(error, OPTIONS) from None
        except RotationRunningError as error:
            raise CommandError(f"{key.name} is in rotation {error.rotation.pk} already. Nothing changed.") from None
        except (KeyRevokedError, KeyExpiredError, KeyPausedError):
            status = key.status.value
            raise CommandError(f"{key.name} ({key.fingerprint}) is {status}: it cannot be rotated.") from None
        if started.token and send_key_links([(started.rotation, started.token)]):
            self.stderr.write(
                f"The mail to {started.rotation.link_sent_to} could not be sent; send it from the dashboard."
            )
        if not options["json"]:
            self.stderr.write(_words(started))
        self.answer(options, _facts(started), started.issued.secret.text if started.issued else "")


def _terms(key: ApiKey, options: dict[str, Any]) -> RotationTerms:
    reason = RotationReason(options["reason"])
    chosen, expires = options["overlap"], options["expires_in"]
    usual = timedelta() if reason in URGENT else USUAL_OVERLAP
    return RotationTerms(
        reason=reason,
        overlap=usual if chosen is None else chosen,
        clock=CLOCKS[options["clock"]],
        hard_end=options["until"],
        finishes_when_safe=options["finish"] == "safe",
        new_expires_at=key.renewed_expiry if expires == SAME else timezone.now() + expires if expires else None,
        link_lasts=options["link"],
        note=options["note"],
    )


def _words(started: StartedRotation) -> str:
    rotation, issued, _ = started
    old = rotation.old_key
    new = (
        f"The new key is {issued.key.fingerprint}"
        if issued
        else f"A link to the new key goes to {rotation.link_sent_to}"
    )
    if rotation.closed_at:
        return f"{old.name} ({old.fingerprint}) is revoked. {new}."
    latest = f"{rotation.deadline:%Y-%m-%d %H:%M} UTC" if rotation.deadline else ""
    return (
        f"{new}. {old.name} ({old.fingerprint}) works until {latest}{' at the latest' if rotation.clock_waits else ''}."
    )


def _facts(started: StartedRotation) -> dict[str, object]:
    rotation, issued, _ = started
    return {
        "rotation": rotation.pk,
        "organization": rotation.organization.slug,
        "old_id": rotation.old_key.public_id,
        "old_works_until": rotation.deadline.isoformat() if rotation.deadline else None,
        "id": issued.key.public_id if issued else None,
        "fingerprint": issued.key.fingerprint if issued else None,
        "key": issued.secret.text if issued else None,
        "expires_at": issued.key.expires_at.isoformat() if issued and issued.key.expires_at else None,
        "link_sent_to": rotation.link_sent_to or None,
    }
