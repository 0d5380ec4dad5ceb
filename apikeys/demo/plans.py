"""What each demo key is meant to be, before anything is made: its terms, its life and its callers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from apikeys.models import Outcome, RateLimit, RevocationReason

# Callers elsewhere, in the networks that RFC 5737 and RFC 3849 keep for examples.
STRANGERS: Final = ("198.51.100.17", "198.51.100.203", "2001:db8:7::1c", "198.51.100.88", "2001:db8:91:4::2")
HOME: Final = "198.51.100.140"
BURST_DAYS: Final = 3


@dataclass(frozen=True, slots=True)
class Attempts:
    """Requests beside the usual ones, refused or of other callers: so many a day, between two numbers of days ago."""

    outcome: Outcome
    per_day: float
    since: float = 90
    until: float = 0
    rhythm: str = "steady"
    addresses: tuple[str, ...] = ()
    user_agent: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Revocation:
    """How a key ended."""

    days_ago: float
    reason: RevocationReason
    note: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Exemption:
    """Why a key may be silent, who answers for it, and for how many days to come."""

    owner: str
    reason: str
    days: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A key to be. Days are before now, for ``expires_in`` after it; ``per_day`` is its requests on a usual day.

    With ``every`` it works for BURST_DAYS only, and again after so many days; the last time was ``quiet_since``.
    """

    name: str
    purpose: str
    environment: str
    scopes: tuple[str, ...]
    owner: str
    age: float
    rhythm: str = "steady"
    per_day: float = 0
    addresses: tuple[str, ...] = ()
    user_agent: str = ""
    expires_in: float | None = None
    networks: tuple[str, ...] = ()
    limit: RateLimit | None = None
    created_by: str = ""
    quiet_since: float = 0
    fades: bool = False
    grows: bool = False
    paused: float | None = None
    revoked: Revocation | None = None
    replaces: str = ""
    every: int = 0
    exemption: Exemption | None = None
    # Which key of a rotation it is.
    rotation: str = ""
    attempts: tuple[Attempts, ...] = field(default=())

    @property
    def label(self) -> str:
        """What ``replaces`` of another plan names."""
        return f"{self.name} {self.environment}"

    @property
    def ends(self) -> float:
        """Since how many days no request of it can be accepted; 0 while it works."""
        ended = [self.revoked.days_ago if self.revoked else 0, self.paused or 0]
        return max(*ended, -self.expires_in if self.expires_in is not None else 0, 0)

    def predecessor(self, days_ago: float, age: float, by: str) -> Plan:
        """Return the key that this one took the place of."""
        note = "Rotated as every year."
        revoked = Revocation(days_ago, RevocationReason.REPLACED, note, by)
        return replace(
            self, age=age, revoked=revoked, quiet_since=days_ago + 1, expires_in=None, attempts=(), replaces=""
        )
