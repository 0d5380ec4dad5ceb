"""end_sessions: sign a person, or everybody, out of every browser at once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import QuerySet

from apikeys.accounts import end_sessions
from apikeys.management.arguments import find_person, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, Session, User


class Command(Base):
    """End the sessions of a person or of everybody."""

    help = (
        "End every session of a person, or of everybody with --everybody: where they are signed in they are asked to "
        "sign in again. Their password, second factors and keys stay as they are."
    )
    exit_statuses = {0: "done, also when there was none", 1: "nothing was changed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("email", nargs="?", type=text, help="The address of their account.")
        whose.add_argument("--everybody", action="store_true", help="Of all accounts.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """End them."""
        people = _signed_in() if options["everybody"] else [find_person(options["email"])]
        count = 0
        for person in people:
            sessions = list(person.sessions.order_by("began_at"))
            end_sessions(person, sessions, Actor.command())
            count += len(sessions)
        if options["everybody"]:
            # Those of nobody yet: a sign-in that is half done.
            Session.objects.filter(user__isnull=True).delete()
        told = f"{count:,} session{'' if count == 1 else 's'} ended."
        self.answer(options, {"sessions_ended": count}, told)


def _signed_in() -> QuerySet[User]:
    return User.objects.filter(sessions__isnull=False).distinct().order_by("pk")
