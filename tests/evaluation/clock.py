"""A clock that a test moves, and the looks for alerts that a scheduler would have had made by it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.utils import timezone

from apikeys.evaluation.run import COMMAND, evaluate
from apikeys.models import Alert, AlertEvent, EventType, JobRun, Organization, UsageHour

# A Monday. Long ago, so that no clock of a database is behind it.
START = datetime(2026, 3, 2, 12, 5, tzinfo=UTC)


class Clock:
    """What timezone.now() says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        # A field that is now by default has kept the function.
        for model in apps.get_app_config("apikeys").get_models():
            for field in model._meta.concrete_fields:
                if field.default is timezone.now:
                    monkeypatch.setattr(field, "_get_default", lambda: self.now)
        monkeypatch.setattr(timezone, "now", lambda: self.now)

    def move(self, **span: float) -> datetime:
        """Move it, by days=1 or hours=-2."""
        self.now += timedelta(**span)
        return self.now

    def look(self, **span: float) -> None:
        """Look for alerts as evaluate_alerts does, after some time."""
        self.move(**span)
        with JobRun.objects.record(COMMAND):
            evaluate(self.now)

    def look_daily(self, days: int) -> None:
        """Let the usual commands run once a day."""
        for _ in range(days):
            self.move(days=1)
            list(UsageHour.objects.roll_up(self.now))
            self.look()


def raised(organization: Organization, *kinds: str) -> list[tuple[str, str]]:
    """Return (name of the key, kind) of each alert about a key, oldest first."""
    found = Alert.objects.filter(organization=organization, key__isnull=False).order_by("pk")
    found = found.filter(kind__in=kinds) if kinds else found
    return list(found.values_list("key__name", "kind"))


def told(organization: Organization, kind: str) -> list[tuple[str, int | None]]:
    """Return what happened to an organization's alerts of a kind, with their level, oldest first."""
    events = AlertEvent.objects.filter(organization=organization, alert__kind=kind).order_by("pk")
    return list(events.values_list("event", "level"))


def levels(organization: Organization, kind: str = "expiry") -> list[int | None]:
    """Return the levels that people were mailed of, oldest first."""
    return [level for event, level in told(organization, kind) if event != EventType.RESOLVED]
