"""Alerts about a key that is accepted from a network for the first time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import batched, groupby
from operator import itemgetter
from typing import Any

from django.db.models import Min

from apikeys.callers import network_of
from apikeys.evaluation.occurrences import Occurrence, known_addresses, raise_new
from apikeys.evaluation.reading import read_first
from apikeys.evaluation.reconcile import BATCH, Tally
from apikeys.models import AlertKind, AlertRule, Organization, Outcome, UsageEvent
from apikeys.models.series import floor_hour

# Networks in the order in which they were first seen, each with the first address and when that was.
type Seen = dict[str, tuple[str, datetime]]


def evaluate_networks(since: datetime, now: datetime) -> Tally:
    """Raise the alerts about networks that are new since an instant, in the organizations that look for it."""
    tally = Tally()
    for organization in Organization.objects.of_people():
        if not AlertRule.objects.one(organization, AlertKind.NEW_NETWORK).is_on:
            continue
        for some in batched(read_first(_seen(organization, since, now)), BATCH, strict=False):
            known = known_addresses([pk for pk, _ in some], since)
            found = {pk: new_networks(known.get(pk, ()), seen) for pk, seen in some}
            tally += raise_new(organization, AlertKind.NEW_NETWORK, found, now, outcomes=[Outcome.VALID])
    return tally


def _seen(organization: Organization, since: datetime, until: datetime) -> Iterator[tuple[int, Seen]]:
    """Yield each key that was accepted between two instants, with where from: the first address of each network."""
    events = UsageEvent.objects.filter(at__gte=since, at__lt=until, outcome=Outcome.VALID, address__isnull=False)
    mine = events.filter(key_id__in=organization.keys.usable(until).values("pk")).values_list("key_id", "address")
    rows: Iterator[Any] = mine.annotate(first=Min("at")).order_by("key_id", "first", "address").iterator()
    for pk, some in groupby(rows, key=itemgetter(0)):
        seen: Seen = {}
        for _, address, first in some:
            seen.setdefault(network_of(address), (address, first))
        yield pk, seen


def new_networks(known: Iterable[str], seen: Seen) -> list[Occurrence]:
    """Return the networks of a key, seen since an instant, that none of the addresses known before it lies in.

    The first network of a key is not new.
    """
    networks = {network_of(address) for address in known} - {""}
    found = []
    for network, (address, first) in seen.items():
        if network in networks:
            continue
        if networks:
            found.append(as_new_network(network, address, first))
        networks.add(network)
    return found


def as_new_network(network: str, address: str, at: datetime) -> Occurrence:
    """Return a first use from a network as alerts hold it."""
    return Occurrence(floor_hour(at), {"network": network, "address": address, "at": at.isoformat()})
