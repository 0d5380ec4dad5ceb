"""reseal_secrets: encrypt the secrets of second factors under the newest pepper."""

from __future__ import annotations

from typing import Any

from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.base import Command as Base
from apikeys.second_factor import reseal


class Command(Base):
    """Seal again what is sealed under an older pepper."""

    help = (
        "Encrypt the secrets of authenticator apps and recovery codes under the newest of KEY_PEPPERS, so that an "
        "older one is needed for them no more. Safe to run again, and while people sign in."
    )
    exit_statuses = {0: "all are under the newest", 1: "some could not be read; the others are done", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Seal them."""
        done, lost = reseal()
        self.answer(options, {"sealed": done, "unreadable": lost}, f"{done:,} secrets sealed under the newest pepper.")
        if lost:
            raise CommandError(
                f"{lost:,} secrets cannot be read: their pepper is gone from KEY_PEPPERS, or they were changed. Their "
                "people need reset_second_factor."
            )
