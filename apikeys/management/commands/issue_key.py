"""issue_key: make a key and print it, once."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys.management.arguments import (
    fault,
    find_environment,
    find_member,
    find_organization,
    find_scopes,
    lifetime,
    rate,
    text,
    whole_number,
)
from apikeys.management.base import Command as Base
from apikeys.models import Actor, ApiKey, IssuedKey, KeyTerms, Organization, RateLimit
from apikeys.models.key_terms import MAX_RATE

OPTIONS = {
    "name": "--name",
    "purpose": "--purpose",
    "owner": "--owner",
    "owner_contact": "--owner",
    "scopes": "--scope",
    "expires_at": "--expires-in",
    "networks": "--network",
    "rate_limit": "--rate-limit",
    "rate_burst": "--burst",
    "environment": "--environment",
}


class Command(Base):
    """Issue a key."""

    help = "Issue a key. Stdout holds the full key alone, shown this once; stderr says what it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        add = parser.add_argument
        add("--organization", required=True, type=text, metavar="SLUG")
        add("--name", required=True, type=text, help="What you would call it in a conversation; 100 characters.")
        add("--purpose", required=True, type=text, help="What it is used for, and where it is stored; 500 characters.")
        add("--owner", required=True, type=text, metavar="E-MAIL", help="A member's address, or else a contact.")
        add("--environment", required=True, type=text, metavar="CODE", help="An environment's code or name.")
        add("--scope", required=True, type=text, action="append", metavar="NAME", help="Repeat it for each scope.")
        add("--expires-in", required=True, type=lifetime, metavar="LIFETIME", help="90d, 12h or never.")
        add(
            *("--network",),
            default=[],
            nargs="+",
            action="extend",
            type=text,
            metavar="CIDR",
            help="From where it may be used: addresses or networks. Without it: from anywhere.",
        )
        add("--rate-limit", type=rate, metavar="RATE", help="Like 50/second, /minute, /hour or /day.")
        add("--burst", type=whole_number(1, MAX_RATE), metavar="N", help="Requests at once; default: the rate limit's.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Issue it."""
        organization = find_organization(options["organization"])
        environment = find_environment(organization, options["environment"])
        try:
            issued = ApiKey.objects.issue(organization, environment, _terms(organization, options), by=Actor.command())
        except ValidationError as error:
            raise fault(error, OPTIONS) from None
        key = issued.key
        if not options["json"]:
            ends = f"expires on {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never expires"
            self.stderr.write(f"Issued {key.name} ({key.fingerprint}, id {key.public_id}); it {ends}.")
        self.answer(options, _facts(issued), issued.secret.text)


def _terms(organization: Organization, options: dict[str, Any]) -> KeyTerms:
    if options["burst"] and not options["rate_limit"]:
        raise CommandError("--burst: needs --rate-limit.")
    owner = find_member(organization, options["owner"])
    lives = options["expires_in"]
    limit = None
    if options["rate_limit"]:
        requests, period = options["rate_limit"]
        limit = RateLimit(requests, period, options["burst"] or requests)
    return KeyTerms(
        name=options["name"],
        purpose=options["purpose"],
        scopes=find_scopes(organization, options["scope"]),
        owner=owner,
        owner_contact="" if owner else options["owner"],
        expires_at=timezone.now() + lives if lives else None,
        networks=options["network"],
        rate_limit=limit,
    )


def _facts(issued: IssuedKey) -> dict[str, object]:
    key = issued.key
    return {
        "id": key.public_id,
        "fingerprint": key.fingerprint,
        "key": issued.secret.text,
        "organization": key.organization.slug,
        "environment": key.environment.code,
        "name": key.name,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }
