"""A key's pause, and who was refused meanwhile: a rehearsal of its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from django.utils import timezone

from apikeys.models.key import ApiKey
from apikeys.models.key_status import Status
from apikeys.models.rollup import UsageValue, UsageValues
from apikeys.models.usage import DAY, Outcome, UsageEvent

# So many of the newest refused requests are looked at.
MOST: Final = 10_000
# What came of a pause that ended by itself is shown for so long.
SHOWN_AFTER: Final = 7 * DAY


@dataclass(frozen=True, slots=True)
class Pause:
    """The newest pause of a key. ``until`` is None when somebody has to end it."""

    key: ApiKey
    began_at: datetime
    until: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self | None:
        """Return the pause that runs, or ended by itself within the last days; None without one, or of a dead key."""
        if key.paused_at is None or key.is_dead:
            return None
        if key.paused_until is not None and timezone.now() - key.paused_until > SHOWN_AFTER:
            return None
        return cls(key, key.paused_at, key.paused_until)

    @property
    def is_running(self) -> bool:
        """Whether the key is paused now."""
        return self.key.status is Status.PAUSED

    @property
    def lasts(self) -> timedelta | None:
        """How long it lasts from beginning to end."""
        return self.until - self.began_at if self.until else None

    def refused(self) -> UsageValues:
        """Return who was refused because of it, by address and user agent, the busiest first.

        Only the MOST newest of the requests are looked at; then there were more others than it tells.
        """
        events = UsageEvent.objects.of(self.key).filter(outcome=Outcome.PAUSED, at__gte=self.began_at)
        if self.until:
            events = events.filter(at__lt=self.until)
        newest = events.order_by("-at", "-nonce").values_list("address", "user_agent", "at")[: MOST + 1]
        found: dict[str, list[datetime]] = {}
        for address, agent, at in newest:
            found.setdefault(f"{address or ''}\n{agent}", []).append(at)
        total = sum(map(len, found.values()))
        values = [
            UsageValue(caller, 0, len(times), min(times), max(times), len(times) / total)
            for caller, times in found.items()
        ]
        values.sort(key=lambda value: (-value.count, value.value))
        return UsageValues(values, total=total, is_bounded=total > MOST)
