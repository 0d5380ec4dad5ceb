"""The moment of an alert as a chart: the requests of its key around what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

from apikeys.charts import Mark, Usual
from apikeys.models import Alert, AlertKind, UsageHour, UsageSeries
from apikeys.models.series import edges, floor_hour
from apikeys.models.usage import DAY, HOUR

BEFORE: Final = timedelta(hours=48)
AFTER: Final = timedelta(hours=12)
# Of a state that lasts, hours tell nothing.
DAYS: Final = 30
_AROUND: Final = "the 48 hours before and up to 12 after"


@dataclass(frozen=True, slots=True)
class Moment:
    """Requests of a key by outcome around what was seen, what happened then, and what was usual."""

    series: UsageSeries
    marks: list[Mark]
    words: str
    usual: Usual | None = None

    @classmethod
    def of(cls, alert: Alert, now: datetime, zone: tzinfo) -> Moment | None:
        """Read the moment of an alert; None of one that is about no key."""
        if alert.key is None:
            return None
        at = seen_instant(alert)
        if AlertKind(alert.kind).traits.lasts:
            told = f"the {DAYS} days before"
            return cls(_read(alert, _days_before(at, zone)), [Mark(alert.opened_at, "renewal", "Opened")], told)
        start = floor_hour(at)
        end = min(start + HOUR + AFTER, floor_hour(now) + HOUR)
        hours = [start - BEFORE + HOUR * number for number in range((end - start + BEFORE) // HOUR + 1)]
        return cls(
            _read(alert, hours), [Mark(at, "end", "Seen")], "the 48 hours before and up to 12 after", _usual(alert)
        )


def seen_instant(alert: Alert) -> datetime:
    """Return when what an alert tells of was seen: its hour, or the last sighting."""
    try:
        return datetime.fromisoformat(str(alert.facts.get("hour") or alert.facts.get("at")))
    except ValueError:
        return alert.seen_at


def _days_before(at: datetime, zone: tzinfo) -> list[datetime]:
    midnight = at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return edges(midnight - DAY * (DAYS - 1), DAY, DAYS, zone)


def _read(alert: Alert, hours: Sequence[datetime]) -> UsageSeries:
    return UsageHour.objects.series_of([alert.key_id] if alert.key_id else [], hours)


def _usual(alert: Alert) -> Usual | None:
    facts: dict[str, Any] = alert.facts
    low, high = facts.get("low"), facts.get("high")
    if alert.kind != AlertKind.UNUSUAL_USAGE or not isinstance(low, int) or not isinstance(high, int):
        return None
    hours = max(1, facts.get("together") or 1)
    return Usual(seen_instant(alert), low // hours, high // hours)
