"""Callers of a key, told apart by address, by network or by user agent. No database."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apikeys.models import UsageValue, UsageValues

GROUPINGS: Final = {"address": "Address", "network": "Network", "agent": "User agent"}
# What one site or customer usually has.
_NETWORK_BITS: Final = {4: 24, 6: 64}


@dataclass(frozen=True, slots=True)
class Caller:
    """An address with a user agent, or all of a network or of a user agent; ``share`` is its part of all requests."""

    name: str
    detail: str
    accepted: int
    refused: int
    first_at: datetime
    last_at: datetime
    share: float
    is_new: bool
    # To look for its requests by; empty when they have several.
    address: str = ""

    @property
    def count(self) -> int:
        """All its requests."""
        return self.accepted + self.refused


@dataclass(frozen=True, slots=True)
class Callers:
    """The busiest callers, and how many more there are; ``at_least`` when nobody can say exactly how many."""

    shown: list[Caller]
    others: int
    others_share: float
    at_least: bool

    @property
    def known(self) -> int:
        """How many callers were told apart."""
        return len(self.shown) + self.others


def callers_of(found: UsageValues, by: str, most: int) -> Callers:
    """Return the busiest callers by one of GROUPINGS."""
    grouped: dict[str, list[UsageValue]] = {}
    for one in found.values:
        grouped.setdefault(_group(one, by), []).append(one)
    callers = sorted((_caller(name, ones, by) for name, ones in grouped.items()), key=lambda one: -one.count)
    shown = callers[:most]
    counted = sum(one.count for one in shown)
    others = len(callers) - len(shown) + found.others
    share = (found.total - counted) / found.total if found.total else 0.0
    return Callers(shown, others, share, found.is_bounded or (by != "address" and found.others > 0))


def network_of(address: str) -> str:
    """Return the network of an address, as it is usually given to one customer: /24, or /64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS[parsed.version]), strict=False))


def _group(one: UsageValue, by: str) -> str:
    if by == "network":
        return network_of(one.address)
    return one.user_agent if by == "agent" else one.value


def _caller(name: str, ones: list[UsageValue], by: str) -> Caller:
    first = ones[0]
    if by == "address":
        told, detail = first.address or "unknown address", first.user_agent or "no user agent"
    else:
        nothing = "unknown address" if by == "network" else "no user agent"
        told, detail = name or nothing, _addresses(one.address for one in ones)
    return Caller(
        name=told,
        detail=detail,
        accepted=sum(one.accepted for one in ones),
        refused=sum(one.refused for one in ones),
        first_at=min(one.first_at for one in ones),
        last_at=max(one.last_at for one in ones),
        share=sum(one.share for one in ones),
        is_new=all(one.is_new for one in ones),
        address=first.address if by == "address" else "",
    )


def _addresses(addresses: Iterable[str]) -> str:
    different = sorted(set(addresses))
    return different[0] or "unknown address" if len(different) == 1 else f"{len(different):,} addresses"
