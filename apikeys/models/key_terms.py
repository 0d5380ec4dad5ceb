"""What may be chosen for a key: its terms, its networks and its rate limit."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from django.core.exceptions import ValidationError

from apikeys.models.catalogue import Scope
from apikeys.models.organization import Member

LATEST_EXPIRY = datetime(2100, 12, 31, 23, 59, 59, tzinfo=UTC)
MAX_NETWORKS = 50
MAX_RATE = 1_000_000


class RateLimit(NamedTuple):
    """At most ``requests`` per ``period`` seconds on average, and ``burst`` at once."""

    requests: int
    period: int
    burst: int


RATE_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What may be chosen for a key and changed later; the environment is chosen once."""

    name: str
    purpose: str
    scopes: Sequence[Scope]
    owner: Member | None = None
    owner_contact: str = ""
    expires_at: datetime | None = None
    networks: Sequence[str] = ()
    rate_limit: RateLimit | None = None

    def until(self, expires_at: datetime | None) -> KeyTerms:
        """Return the same with another end."""
        return replace(self, expires_at=expires_at)


def parse_network(text: str) -> str:
    """Return an address or network in CIDR notation as ipaddress writes it.

    Raises ValidationError, also when host bits are set: it is not clear what was meant then.
    """
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValidationError(f"{text[:50]!r} is not an address or a network like 203.0.113.0/24.") from None
    raise ValidationError(f"{text!r} has host bits set. Did you mean {meant}?")


def parse_networks(lines: Iterable[str]) -> list[str]:
    """Return the networks of some lines, empty ones left out, each once. Raises ValidationError with all faults."""
    found: dict[str, None] = {}
    errors: list[ValidationError] = []
    for line in lines:
        if line.strip():
            try:
                found[parse_network(line.strip())] = None
            except ValidationError as error:
                errors.append(error)
    if errors:
        raise ValidationError(errors)
    if len(found) > MAX_NETWORKS:
        raise ValidationError(f"At most {MAX_NETWORKS} networks; these are {len(found)}.")
    return list(found)


def require_scopes(scopes: Sequence[Scope]) -> None:
    """Raise ValidationError when a scope was deleted since it was chosen. Call it with the organization locked."""
    chosen = {scope.pk for scope in scopes}
    if Scope.objects.filter(pk__in=chosen).count() < len(chosen):
        raise ValidationError({"scopes": ["A scope was deleted meanwhile. Choose again."]})
