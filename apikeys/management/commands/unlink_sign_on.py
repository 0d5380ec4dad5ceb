"""unlink_sign_on: forget who a person is at the single sign-on provider."""

from __future__ import annotations

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.arguments import find_person, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, SignOnIdentity


class Command(Base):
    """Unlink a person's account from the provider."""

    help = (
        "Forget who a person is at the single sign-on provider, so that whoever signs in next with their address gets "
        "the account: after the person was made anew there, and only when it is the same person."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("email", type=text, metavar="EMAIL", help="The account's address here.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Unlink it."""
        user = find_person(options["email"], "EMAIL")
        email = user.email
        gone = SignOnIdentity.objects.unlink(user, by=Actor.command())
        if not gone:
            raise CommandError(f"EMAIL: the account of {email} is not linked.")
        self.answer(options, {"email": email, "unlinked": gone}, f"The account of {email} is unlinked.")
