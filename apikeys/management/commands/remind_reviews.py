"""remind_reviews: mail those for whose answer keys of a review wait, when a reminder is due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apikeys.management.base import Command as Base
from apikeys.models.review import remind_all


class Command(Base):
    """Remind of reviews."""

    scheduled = True
    help = (
        "Write the reminders of open reviews that are due, each once: three days before the end, on the last day, "
        "and every week afterwards. send_alerts sends them."
    )
    exit_statuses = {0: "done, also when no reminder was due", 1: "failed", 2: "wrong usage"}

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Write them, and say of each on stderr which it is."""
        sent = remind_all(timezone.now())
        for review, reminder in sent:
            self.stderr.write(
                f"{review.organization.slug}: {review.title}: {reminder.stage}, {reminder.mails:,} mails."
            )
        mails = sum(reminder.mails for _, reminder in sent)
        words = f"{len(sent):,} reminders were due, {mails:,} mails are to be sent." if sent else "No reminder was due."
        self.answer(options, {"reminders": len(sent), "mails": mails}, words)
