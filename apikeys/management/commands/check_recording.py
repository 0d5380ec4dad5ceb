"""check_recording: present a key of our own to the verifier, and see whether the request is recorded."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.base import Command as Base
from apikeys.self_check import RecordingStoppedError, check

# A node whose clock is further away than this counts requests in another hour than they were made in.
TOLERATED_SKEW = timedelta(seconds=30)


class Command(Base):
    """Check recording."""

    help = (
        "Ask the verifier at BASE_URL about a key of keyadmin's own and look for the request's event, so that the "
        "Overview tells when recording stops. The key's text is kept nowhere."
    )
    exit_statuses = {0: "recording works", 1: "it does not", 2: "wrong usage"}
    scheduled = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Check it."""
        try:
            skew = check()
        except RecordingStoppedError as error:
            raise CommandError(str(error)) from None
        words = f"Recording works: {settings.BASE_URL} accepted and recorded a request."
        if abs(skew) > TOLERATED_SKEW:
            direction = "ahead of" if skew > timedelta() else "behind"
            words += f" Its clock is {abs(skew).total_seconds():,.0f} seconds {direction} this machine's."
        self.answer(options, {"works": True, "skew_seconds": skew.total_seconds()}, words)
