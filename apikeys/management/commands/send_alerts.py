"""send_alerts: send the mails and webhooks that are due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys.evaluation.jobs import evaluate_jobs
from apikeys.management.base import Command as Base
from apikeys.sending import end_switched_on, prune, send_due


class Command(Base):
    """Send alerts."""

    scheduled = True
    help = (
        "Send the mails and webhooks that are due, at least once each. Tells also of scheduled commands that do not "
        "run, evaluate_alerts among them."
    )
    exit_statuses = {0: "done, also when something is to be retried", 1: "failed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Send everything, and say what became of it."""
        now = timezone.now()
        evaluate_jobs(now)
        end_switched_on(now)
        sent = send_due()
        facts = {"sent": sent.sent, "empty": sent.empty, "retried": sent.retried, "failed": sent.failed}
        facts["pruned"] = prune(now)
        words = f"{sent.sent:,} sent, {sent.empty:,} had nothing left to tell, {sent.retried:,} are to be retried, "
        self.answer(options, facts, f"{words}{sent.failed:,} were given up.")
