"""map_domain: whose people become members of an organization by single sign-on."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.arguments import fault, find_organization, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, Role, SignOnDomain


class Command(Base):
    """Map an e-mail domain to an organization, or list what is mapped."""

    help = (
        "Let people of an e-mail domain become members of an organization when they sign in by single sign-on, or "
        "change how it is mapped. Without a domain it lists what is mapped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("domain", nargs="?", type=text, metavar="DOMAIN", help="Like acme.example; no subdomains.")
        parser.add_argument("--organization", type=text, help="The organization's slug; in a list, its alone.")
        parser.add_argument(
            "--role", choices=Role.values, default=Role.VIEWER, help="What new members become; default: viewer."
        )
        parser.add_argument(
            "--required", action="store_true", help="Refuse passwords of this domain: they sign in by it alone."
        )
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Map it, or list them."""
        if options["domain"] is None:
            self._list(options)
            return
        if not options["organization"]:
            raise CommandError("--organization: is needed to map a domain.")
        organization = find_organization(options["organization"])
        try:
            mapping = SignOnDomain.objects.map(
                options["domain"],
                organization=organization,
                role=Role(options["role"]),
                is_required=options["required"],
                by=Actor.command(),
            )
        except ValidationError as error:
            raise fault(error, {"domain": "DOMAIN"}) from None
        self.answer(options, _facts(mapping), f"{_words(mapping)}.")

    def _list(self, options: dict[str, Any]) -> None:
        mappings = SignOnDomain.objects.select_related("organization")
        if options["organization"]:
            mappings = mappings.filter(organization=find_organization(options["organization"]))
        found = list(mappings)
        lines = [_words(mapping) for mapping in found] or ["No domain is mapped."]
        self.answer(options, {"domains": [_facts(mapping) for mapping in found]}, "\n".join(lines))


def _facts(mapping: SignOnDomain) -> dict[str, object]:
    return {
        "domain": mapping.domain,
        "organization": mapping.organization.slug,
        "role": mapping.role,
        "required": mapping.is_required,
    }


def _words(mapping: SignOnDomain) -> str:
    passwords = "passwords are refused" if mapping.is_required else "passwords work too"
    return f"{mapping.domain} is mapped to {mapping.organization.slug} as {mapping.role}; {passwords}"
