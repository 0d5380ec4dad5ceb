"""The kinds of alerts: what each is for, who is told of it and how it may be tuned. docs/alerts has a page for each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from django.core.exceptions import ValidationError
from django.db import models

from apikeys.models.organization import Role


class AlertKind(models.TextChoices):
    """Why somebody should look at a key, or at keyadmin itself."""

    ABUSE = "abuse", "Abuse"
    EXPIRED_USED = "expired_used", "Expired and still used"
    UNUSUAL_USAGE = "unusual_usage", "Unusual usage"
    RATE_LIMITED = "rate_limited", "Rate limit hit"
    EXPIRY = "expiry", "Expires soon"
    NEW_NETWORK = "new_network", "New network"
    OWNER_GONE = "owner_gone", "Owner gone"
    ROTATION_DUE = "rotation_due", "Rotation due"
    UNUSED = "unused", "Unused"
    JOB_LATE = "job_late", "Scheduled job not running"
    WEBHOOK_OFF = "webhook_off", "Webhook switched off"

    @property
    def traits(self) -> Traits:
        """What is said once of all alerts of the kind."""
        return TRAITS[self]

    @property
    def is_of_key(self) -> bool:
        """Whether its alerts are each about one key."""
        return self not in {AlertKind.JOB_LATE, AlertKind.WEBHOOK_OFF}


def alert_kinds() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new kind needs no migration."""
    return AlertKind.choices


type OptionValue = int | str | list[int]


class NumberOption(NamedTuple):
    """A whole number that tunes a kind."""

    name: str
    label: str
    default: int
    least: int
    most: int
    hint: str = ""

    def clean(self, value: object) -> OptionValue:
        """Return a value that may be stored; raises ValidationError with the limits."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise ValidationError(f"A whole number between {self.least:,} and {self.most:,}.")
        return value


class ChoiceOption(NamedTuple):
    """One of some words that tunes a kind."""

    name: str
    label: str
    default: str
    choices: tuple[tuple[str, str], ...]
    hint: str = ""

    def clean(self, value: object) -> OptionValue:
        """Return a value that may be stored; raises ValidationError with the choices."""
        if not isinstance(value, str) or value not in dict(self.choices):
            raise ValidationError(f"One of {', '.join(word for word, _ in self.choices)}.")
        return value


class DaysOption(NamedTuple):
    """Several numbers of days, the widest first."""

    name: str
    label: str
    default: tuple[int, ...]
    most: int
    most_values: int
    hint: str = ""

    def clean(self, value: object) -> OptionValue:
        """Return the days sorted, each once; raises ValidationError with the limits."""
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= self.most_values:
            raise ValidationError(f"Between 1 and {self.most_values} numbers of days.")
        if any(isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= self.most for days in value):
            raise ValidationError(f"Whole days between 1 and {self.most:,}.")
        return sorted(set(value), reverse=True)


type Option = NumberOption | ChoiceOption | DaysOption


class Traits(NamedTuple):
    """What is said of a kind: in a line, its usual rule and what tunes it.

    ``lasts`` of what is a state rather than something that happens: it is there until its cause is gone. Of the others
    ``calm`` is after how many hours without another sighting they end. ``is_urgent`` is mailed at once, the rest in
    the daily digest; ``role`` is the least role that is mailed, and ``to_owner`` whether the key's owner is.
    """

    about: str
    icon: str
    lasts: bool = True
    calm: int = 0
    is_on: bool = True
    is_urgent: bool = False
    role: Role = Role.ADMIN
    to_owner: bool = True
    options: tuple[Option, ...] = ()


_PER_HOUR: Final = "in an hour"
TRAITS: Final[Mapping[AlertKind, Traits]] = MappingProxyType(
    {
        AlertKind.ABUSE: Traits(
            "Somebody tries what the key does not allow: a wrong secret, another scope or network, or a revoked key.",
            "shield-alert",
            lasts=False,
            calm=24,
            is_urgent=True,
            role=Role.OPERATOR,
            options=(
                NumberOption("wrong_secrets", f"Requests with a wrong secret {_PER_HOUR}", 5, 1, 1_000_000),
                NumberOption("refusals", f"Requests refused for their scope or network {_PER_HOUR}", 20, 1, 1_000_000),
                NumberOption("revoked", f"Requests with the revoked key {_PER_HOUR}", 1, 1, 1_000_000),
            ),
        ),
        AlertKind.EXPIRED_USED: Traits(
            "The key has expired, and a caller still uses it: its requests fail.",
            "circle-x",
            lasts=False,
            calm=72,
            is_urgent=True,
            role=Role.OPERATOR,
        ),
        AlertKind.UNUSUAL_USAGE: Traits(
            "Far more or far fewer requests than its own rhythm lets expect, or none where there were always some.",
            "trending-up",
            lasts=False,
            calm=24,
            is_urgent=True,
            role=Role.OPERATOR,
            options=(
                ChoiceOption(
                    "sensitivity",
                    "Sensitivity",
                    "normal",
                    (
                        ("low", "Low: only what is extreme"),
                        ("normal", "Normal"),
                        ("high", "High: earlier, and noisier"),
                    ),
                ),
            ),
        ),
        AlertKind.RATE_LIMITED: Traits(
            "The key runs into its rate limit again and again.",
            "gauge",
            lasts=False,
            calm=24,
            role=Role.OPERATOR,
            options=(
                NumberOption("refusals", f"Requests beyond the limit {_PER_HOUR}", 10, 1, 1_000_000),
                NumberOption("hours", "In so many of the last 24 hours", 3, 1, 24),
            ),
        ),
        AlertKind.EXPIRY: Traits(
            "The key's end is near.",
            "clock-alert",
            options=(
                DaysOption("days", "Days before the end", (60, 30, 7, 1), 365, 8, "Each tells once, the widest first."),
            ),
        ),
        AlertKind.NEW_NETWORK: Traits(
            "The key is accepted from a network that it was never used from before.",
            "globe",
            lasts=False,
            calm=168,
            is_on=False,
            role=Role.OPERATOR,
        ),
        AlertKind.OWNER_GONE: Traits(
            "The owner's account is closed or they are no member any more: nobody answers for the key.",
            "user-x",
            to_owner=False,
        ),
        AlertKind.ROTATION_DUE: Traits("The key is older than the organization lets keys become.", "rotate-ccw-key"),
        AlertKind.UNUSED: Traits("Nobody uses the key, and its rhythm does not explain that.", "moon"),
        AlertKind.JOB_LATE: Traits(
            "A scheduled command of keyadmin has not succeeded for longer than it may.",
            "timer-off",
            is_urgent=True,
            to_owner=False,
        ),
        AlertKind.WEBHOOK_OFF: Traits(
            "A webhook failed for days and was switched off: it is told of no alerts any more.",
            "unplug",
            is_urgent=True,
            to_owner=False,
        ),
    }
)
