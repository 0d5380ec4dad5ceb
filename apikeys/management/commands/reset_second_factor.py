"""reset_second_factor: let somebody who lost telephone, passkeys and recovery codes sign in by their password again."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import CommandParser
from django.db import transaction

from apikeys.accounts import record_of_person
from apikeys.management.arguments import find_person, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, AuditAction
from apikeys.second_factor import told


class Command(Base):
    """Take all second factors from a person."""

    help = (
        "Remove the authenticator app, the passkeys and the recovery codes of a person who has lost them, and end "
        "their sessions. Be sure that it is them who asks: afterwards their password alone signs in."
    )
    exit_statuses = {0: "done, also when there was none", 1: "nothing was changed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("email", type=text, help="The address of their account.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Remove them."""
        person = find_person(options["email"])
        email = person.email
        with transaction.atomic():
            found = list(Authenticator.objects.select_for_update().filter(user=person).order_by("pk"))
            for one in found:
                one.delete()
                record_of_person(AuditAction.FACTOR_REMOVE, person, Actor.command(), reason=told(one))
            sessions = person.sessions.all().delete()[0] if found else 0
        removed = [told(one) for one in found]
        words = (
            f"{', '.join(removed)} of {email} removed, {sessions} sessions ended." if removed else f"{email} has none."
        )
        self.answer(options, {"email": email, "removed": removed, "sessions_ended": sessions}, words)
