"""Which networks keys of production share with keys of other environments: a machine there holds keys of both."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import reduce
from ipaddress import ip_address
from operator import itemgetter, or_
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db import models
from django.db.models import Q

from apikeys.models.catalogue import Environment, EnvironmentKind

if TYPE_CHECKING:
    from apikeys.models.key import ApiKey
    from apikeys.models.organization import Organization


# How many shared networks are told.
TOLD: Final = 3


class KeyNetworkManager(models.Manager["KeyNetwork"]):
    """Keeps the index, and asks it."""

    def index(self, keys: Iterable[ApiKey]) -> None:
        """Take in the networks of keys that are new."""
        rows = [
            KeyNetwork(key=key, environment_id=key.environment_id, network=_packed(network))
            for key in keys
            for network in key.networks
        ]
        self.bulk_create(rows, batch_size=2000)

    def reindex(self, key: ApiKey) -> None:
        """Take in the networks of a key that may have had others."""
        self.filter(key=key).delete()
        self.index([key])

    def shared(
        self, organization: Organization, networks: Sequence[str], now: datetime, *, production: bool
    ) -> list[str]:
        """Return those of some networks that have an address in common with a usable key of production, or of others.

        At most three: so many are told.
        """
        environments = _environments(organization, production=production)
        theirs = self.filter(environment__in=environments, key__in=organization.keys.usable(now))
        # One query where nothing is shared, as nearly always; then it does not matter how many it takes.
        if not networks or not theirs.filter(reduce(or_, map(_overlaps, networks))).exists():
            return []
        found: list[str] = []
        for network in networks:
            if len(found) < TOLD and theirs.filter(_overlaps(network)).exists():
                found.append(network)
        return found


class KeyNetwork(models.Model):
    """A network of a key, by its addresses: the index of ``ApiKey.networks``, which alone decides about requests.

    Saving a key writes it. With it a key is compared with tens of thousands of networks by some lookups.
    """

    key = models.ForeignKey("apikeys.ApiKey", models.CASCADE, related_name="+")
    environment = models.ForeignKey(Environment, models.PROTECT, related_name="+", db_index=False)
    # See _packed().
    network = models.BinaryField(max_length=18)

    objects: ClassVar[KeyNetworkManager] = KeyNetworkManager()

    class Meta:
        """Found by address, within an environment."""

        constraints: ClassVar = [
            models.UniqueConstraint(fields=["environment", "network", "key"], name="key_network_once"),
        ]

    def __str__(self) -> str:
        packed = bytes(self.network)
        return f"{ip_address(packed[1:-1])}/{packed[-1]}"


def _packed(text: str) -> bytes:
    """Return a network's length of addresses, first address and prefix length, a byte but for the address.

    In this order those that begin within a network's addresses follow each other.
    """
    bits, first, _ = _ends(text)
    return _pack(bits, first, int(text.partition("/")[2]))


def _pack(bits: int, first: int, length: int) -> bytes:
    return bytes([bits, *first.to_bytes(bits // 8), length])


def _overlaps(text: str) -> Q:
    """Return the condition of networks that have an address in common with one.

    Of two such networks one holds the other: it begins within this one, or is one of the at most 128 that hold it.
    """
    bits, first, last = _ends(text)
    own = int(text.partition("/")[2])
    holders = [_pack(bits, first >> (bits - length) << (bits - length), length) for length in range(own)]
    return Q(network__gte=_pack(bits, first, 0), network__lte=_pack(bits, last, bits)) | Q(network__in=holders)


class NetworkSet:
    """Some networks, of which it is soon told whether another one has an address in common with any."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._outer: dict[int, list[tuple[int, int]]] = {}
        # Of two networks that have an address in common one holds the other: those that nothing holds are kept.
        for bits, first, last in sorted(map(_ends, set(networks)), key=lambda ends: (ends[0], ends[1], -ends[2])):
            found = self._outer.setdefault(bits, [])
            if not found or last > found[-1][1]:
                found.append((first, last))

    def overlaps(self, text: str) -> bool:
        """Say whether a network has an address in common with any of these."""
        bits, first, last = _ends(text)
        outer = self._outer.get(bits, [])
        # The last one that begins no later than this ends.
        place = bisect_right(outer, last, key=itemgetter(0)) - 1
        return place >= 0 and outer[place][1] >= first


def _ends(text: str) -> tuple[int, int, int]:
    """Return the length of addresses in bits, and the first and last address of a network as parse_network writes it.

    An organization may have many thousands, for which the ipaddress module takes ten times as long.
    """
    address, _, length = text.partition("/")
    packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    bits = 8 * len(packed)
    first = int.from_bytes(packed)
    return bits, first, first | ((1 << (bits - int(length))) - 1)


def holds_every_address(networks: Iterable[str]) -> bool:
    """Say whether one of some networks is that of all addresses."""
    return any(network.endswith("/0") for network in networks)


def network_lists(organization: Organization, now: datetime, *, production: bool) -> list[list[str]]:
    """Return the lists of networks of the usable keys of production, or of all others."""
    keys: Any = organization.keys.usable(now).exclude(networks=[]).order_by()
    keys = keys.filter(environment__in=_environments(organization, production=production))
    return list(keys.values_list("networks", flat=True))


def _environments(organization: Organization, *, production: bool) -> list[int]:
    # Environments are few, and their ids need no join.
    kinds = dict(organization.environments.values_list("pk", "kind"))
    return [pk for pk, kind in kinds.items() if (kind == EnvironmentKind.PRODUCTION) == production]


def shared_networks(organization: Organization, now: datetime) -> tuple[list[list[str]], list[list[str]]]:
    """Return the lists of production, and those of other environments, that have an address in common."""
    production, others = (network_lists(organization, now, production=one) for one in (True, False))
    return _overlapping(production, others), _overlapping(others, production)


def _overlapping(lists: list[list[str]], others: list[list[str]]) -> list[list[str]]:
    found = NetworkSet(network for networks in others for network in networks)
    wanted = {tuple(networks) for networks in lists}
    return [list(networks) for networks in sorted(wanted) if any(found.overlaps(network) for network in networks)]
