"""roll_up_usage: count the complete hours of requests, so that charts need not read every request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from tqdm import tqdm

from apikeys.management.base import Command as Base
from apikeys.models import UsageHour, UsageWatermark
from apikeys.models.usage import HOUR
from apikeys.partitions import LockedError
from apikeys.retention import make_partitions


class Command(Base):
    """Roll up usage."""

    help = (
        "Count the requests of each complete hour since the last run, and again the hours in which requests came late. "
        "Running it again, or twice at once, is safe."
    )
    exit_statuses = {0: "done", 1: "failed; hours that were done stay done, run it again", 2: "wrong usage"}
    scheduled = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Count them."""
        try:
            made = make_partitions()
        except LockedError:
            # Nothing is lost: without a partition of their day events go into the default one.
            made = 0
            self.stderr.write("The table of events is held by somebody; the next run makes its partitions.")
        hours = sum(1 for _ in _with_progress(UsageHour.objects.roll_up(), UsageWatermark.current()))
        until = UsageWatermark.current()
        facts = {"hours": hours, "partitions": made, "rolled_up_until": until.isoformat() if until else None}
        counted = "1 hour" if hours == 1 else f"{hours:,} hours"
        self.answer(options, facts, f"Rolled up {counted} with requests; complete until {until:%Y-%m-%d %H:%M} UTC.")


def _with_progress(hours: Iterator[datetime], start: datetime | None) -> Iterator[datetime]:
    """Show how far it has got: hours without requests are passed over, those that came late are behind."""
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(unit=" hours", disable=None) as bar:
        for hour in hours:
            start = start or hour
            bar.update(max(1, (hour - start) // HOUR + 1 - bar.n))
            bar.set_postfix_str(f"{hour:%Y-%m-%d %H:%M} UTC", refresh=False)
            yield hour
