"""evaluate_alerts: raise the alerts that are justified now, and end those whose cause is gone."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys.evaluation.run import evaluate
from apikeys.management.base import Command as Base
from apikeys.models import Alert


class Command(Base):
    """Evaluate alerts."""

    scheduled = True
    help = "Raise the alerts that are justified now, add to those that are open, and end those whose cause is gone."
    exit_statuses = {0: "done, also when there was nothing to raise", 1: "failed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Evaluate all organizations, and say how many alerts there are."""
        tally = evaluate(timezone.now())
        left = Alert.objects.open().count()
        facts = {"opened": tally.opened, "worse": tally.worse, "ended": tally.ended, "open": left}
        changed = f"{tally.opened:,} opened, {tally.worse:,} got worse or are told again, {tally.ended:,} ended"
        words = f"{changed}; {left:,} open."
        self.answer(options, facts, words)
