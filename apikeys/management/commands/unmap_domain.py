"""unmap_domain: nobody gets in by a domain any more."""

from __future__ import annotations

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.arguments import text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, SignOnDomain


class Command(Base):
    """Unmap an e-mail domain."""

    help = "Let nobody in by single sign-on because of this e-mail domain. Members stay, and sign in by password."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("domain", type=text, metavar="DOMAIN", help="A domain that is mapped.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Unmap it."""
        domain = options["domain"].strip().lower()
        mapping = SignOnDomain.objects.select_related("organization").filter(domain=domain).first()
        if mapping is None:
            raise CommandError(f"DOMAIN: {domain} is not mapped. `map_domain` lists what is.")
        mapping.unmap(by=Actor.command())
        facts = {"domain": domain, "organization": mapping.organization.slug}
        self.answer(options, facts, f"{domain} is unmapped from {mapping.organization.slug}. Passwords of it work.")
