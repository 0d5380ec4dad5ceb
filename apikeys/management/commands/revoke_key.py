"""revoke_key: end a key for good."""

from __future__ import annotations

import re
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys import key_secret
from apikeys.key_secret import CODE_PATTERN, PREFIX_PATTERN, PUBLIC_ID_LENGTH
from apikeys.management.arguments import fault, find_member, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, ApiKey, KeyRevokedError, Member, RevocationReason
from apikeys.models.key import WRITTEN_REASONS

REASONS = [value for value in RevocationReason.values if value not in WRITTEN_REASONS]
# A fingerprint, its ellipsis as it is shown or as a keyboard has it.
_FINGERPRINT = re.compile(
    rf"(?P<prefix>{PREFIX_PATTERN})_(?P<code>{CODE_PATTERN})_(?P<start>[0-9A-Za-z]{{4}})(?:…|\.\.\.)(?P<end>[0-9A-Za-z]{{4}})",
    re.ASCII,
)
_PUBLIC_ID = re.compile(rf"[0-9A-Za-z]{{{PUBLIC_ID_LENGTH}}}", re.ASCII)


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
        key = _find_key(given.strip())
        member = _find_operator(key, options["by"])
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


def _find_key(given: str) -> ApiKey:
    keys = ApiKey.objects.select_related("organization", "environment")
    if secret := key_secret.parse(given):
        found = keys.filter(public_id=secret.public_id)
    elif key_secret.looks_like_key(given):
        # Not repeated: it may be a whole key but for a typing error.
        raise CommandError("ID: this looks like a full key, but it is mistyped. Give the 12 characters of its id.")
    elif match := _FINGERPRINT.fullmatch(given):
        found = keys.filter(
            prefix=match["prefix"],
            environment__code=match["code"],
            public_id__startswith=match["start"],
            public_id__endswith=match["end"],
        )
    elif _PUBLIC_ID.fullmatch(given):
        found = keys.filter(public_id=given)
    else:
        raise CommandError("ID: must be a public id of 12 letters and digits, or a fingerprint like ka_prod_4kT9…Q7bN.")
    return _only(list(found[:2]))


def _only(found: list[ApiKey]) -> ApiKey:
    if not found:
        raise CommandError("ID: there is no such key.")
    if len(found) > 1:
        raise CommandError("ID: several keys have this fingerprint. Give the 12 characters of the id.")
    return found[0]


def _find_operator(key: ApiKey, email: str) -> Member:
    member = find_member(key.organization, email)
    if member is None or not member.user.is_active:
        raise CommandError(f"--by: {email} is not a member of {key.organization.slug}.")
    if not member.can_operate:
        raise CommandError(f"--by: {email} is {member.role} in {key.organization.slug}; this needs operator or more.")
    return member


def _revoked_before(key: ApiKey) -> str:
    at = f"{key.revoked_at:%Y-%m-%d %H:%M:%S} UTC" if key.revoked_at else "an earlier time"
    return f"{key.name} ({key.fingerprint}) was revoked already, at {at} by {key.revoked_by_label}. Nothing changed."
