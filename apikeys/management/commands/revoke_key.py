"""revoke_key: end a key for good."""

from __future__ import annotations

import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.arguments import fault, find_key, find_operator, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, ApiKey, KeyRevokedError, RevocationReason
from apikeys.models.key import WRITTEN_REASONS

REASONS = [value for value in RevocationReason.values if value not in WRITTEN_REASONS]


class Command(Base):
    """Revoke a key."""

    help = "Revoke a key: every request that starts after this returns is refused, for good."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "id",
            type=text,
            metavar="ID",
            help="The public id or the fingerprint. In an emergency the full key, which is never printed; "
            "- reads it from stdin, which keeps it out of the shell's history.",
        )
        parser.add_argument("--reason", required=True, choices=REASONS)
        parser.add_argument("--note", default="", type=text, help="Kept in the audit log; 500 characters.")
        parser.add_argument(
            *("--by",),
            required=True,
            type=text,
            metavar="E-MAIL",
            help="Who revokes it: a member of the key's organization, operator or more.",
        )
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Revoke it."""
        given = sys.stdin.readline(1000) if options["id"] == "-" else options["id"]
        key = find_key(given.strip())
        member = find_operator(key, options["by"])
        try:
            key.revoke(reason=RevocationReason(options["reason"]), note=options["note"], by=Actor.command(member.user))
        except KeyRevokedError:
            raise CommandError(_revoked_before(key)) from None
        except ValidationError as error:
            raise fault(ValidationError({"note": error.messages}), {"note": "--note"}) from None
        facts = {
            "id": key.public_id,
            "fingerprint": key.fingerprint,
            "organization": key.organization.slug,
            "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
            "revoked_by": key.revoked_by_label,
        }
        self.answer(
            options, facts, f"{key.name} ({key.fingerprint}) is revoked. Every request with it is refused from now on."
        )


def _revoked_before(key: ApiKey) -> str:
    at = f"{key.revoked_at:%Y-%m-%d %H:%M:%S} UTC" if key.revoked_at else "an earlier time"
    return f"{key.name} ({key.fingerprint}) was revoked already, at {at} by {key.revoked_by_label}. Nothing changed."
