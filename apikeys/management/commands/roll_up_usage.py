"""roll_up_usage: count the complete hours of requests, so that charts need not read every request."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from tqdm import tqdm

from apikeys.management.base import Command as Base
from apikeys.models import UsageHour, UsageWatermark


class Command(Base):
    """Roll up usage."""

    help = "Count the requests of each complete hour since the last run. Running it again, or twice at once, is safe."
    exit_statuses = {0: "done", 1: "failed; hours that were done stay done, run it again", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Count them."""
        # disable=None: no bar where stderr is not a terminal.
        hours = sum(1 for _ in tqdm(UsageHour.objects.roll_up(), unit=" hours", disable=None))
        until = UsageWatermark.current()
        facts = {"hours": hours, "rolled_up_until": until.isoformat() if until else None}
        counted = "1 hour" if hours == 1 else f"{hours:,} hours"
        self.answer(options, facts, f"Rolled up {counted} with requests; complete until {until:%Y-%m-%d %H:%M} UTC.")
