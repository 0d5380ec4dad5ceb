"""prune_usage: remove raw events and roll-ups that are older than they are kept."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.management.base import Command as Base
from apikeys.partitions import LockedError
from apikeys.retention import LateEventsError, Pruned, make_partitions, prune


class Command(Base):
    """Prune usage."""

    help = (
        f"Remove requests older than {settings.EVENT_RETENTION_DAYS} days (EVENT_RETENTION_DAYS) and counts older than "
        "25 months. Requests that are not rolled up yet stay. Running it again, or twice at once, is safe."
    )
    exit_statuses = {0: "done", 1: "failed; what was removed stays removed, run it again", 2: "wrong usage"}
    scheduled = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Remove them."""
        try:
            make_partitions()
            pruned = prune()
        except LockedError:
            raise CommandError("The table of events is held by somebody else all the time. Try again later.") from None
        except LateEventsError:
            raise CommandError("Requests of a day that should end keep arriving late. Try again later.") from None
        facts = {
            "events_from": pruned.events_from.isoformat() if pruned.events_from else None,
            "days": pruned.days,
            "events": pruned.events,
            "roll_ups": pruned.roll_ups,
        }
        self.answer(options, facts, _words(pruned))


def _words(pruned: Pruned) -> str:
    if pruned.events_from is None:
        return "Nothing is rolled up yet, so no requests were removed."
    if pruned.days or pruned.events:
        what = _counted(pruned.days, "day") + " of requests" if pruned.days else _counted(pruned.events, "request")
        words = f"Removed {what}; those from {pruned.events_from} (UTC) on are kept."
    else:
        words = f"No requests are older than {pruned.events_from} (UTC)."
    return f"{words} Removed {_counted(pruned.roll_ups, 'old count')}." if pruned.roll_ups else words


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
