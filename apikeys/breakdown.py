"""An organization's requests and keys broken down; each part names the key list's query that shows its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import batched
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict

from apikeys.filters import CREATED_CHOICES, KeyFilter, in_tab, of_age
from apikeys.http import MemberRequest
from apikeys.models import (
    ApiKey,
    BusiestKey,
    BusyKey,
    Environment,
    Organization,
    OrganizationDay,
    OrganizationHour,
    OwnerUsage,
    RankKind,
    Status,
)
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.paging import Ordered, count_each, count_text, number_text
from apikeys.ranges import TimeRange
from apikeys.tallies import NEWEST

# The usual spans of time, and the days for which is kept which keys stood out.
RANKED_DAYS: Final = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "13m": 395}
# So many keys of a kind are kept.
EVERY_RANKED: Final = 100
QUIETEST: Final = {"status": "active", "sort": "last_used"}
LEFT: Final = "members who have left"


@dataclass(frozen=True, slots=True)
class Part:
    """The requests of the keys of an environment or an owner; ``share`` is its part of all requests.

    ``query`` is empty where no filter of the key list shows its keys.
    """

    label: str
    code: str
    query: str
    accepted: int
    refused: int
    share: float
    environment: Environment | None = None

    @property
    def count(self) -> int:
        """All its requests."""
        return self.accepted + self.refused


def by_environment(organization: Organization, span: TimeRange) -> list[Part]:
    """Return the requests of every environment, the busiest first."""
    found = OrganizationHour.objects.by_environment(organization, span.since, span.until)
    total = sum(one.accepted + one.refused for one in found)
    left = {one.pk: one for one in organization.environments.all()}
    counted = [(left.pop(one.environment_id), one.accepted, one.refused) for one in found]
    return [
        Part(
            one.name,
            one.code,
            urlencode({"environment": one.code, "sort": "-last_used"}),
            accepted,
            refused,
            (accepted + refused) / total if total else 0.0,
            one,
        )
        for one, accepted, refused in [*counted, *((one, 0, 0) for one in left.values())]
    ]


def by_owner(organization: Organization, span: TimeRange, most: int) -> list[Part]:
    """Return the requests of the busiest owners and, last, of all others together."""
    found = OrganizationDay.objects.by_owner(organization, *span.whole_days, most=most)
    total = sum(one.accepted + one.refused for one in found)
    return [
        Part(
            _owner_label(one),
            one.address,
            urlencode({"owner": one.address, "sort": "-last_used"}) if one.address else "",
            one.accepted,
            one.refused,
            (one.accepted + one.refused) / total,
        )
        for one in found
    ]


def _owner_label(one: OwnerUsage) -> str:
    if one.member:
        return one.member.user.label
    return one.contact or ("others" if one.is_others else LEFT)


class RankingKind(NamedTuple):
    """Keys that stand out by something: what, what their number counts, and which filter of the list shows them all.

    ``filter`` is a parameter of the key list that takes days; ``select`` keeps the same keys.
    """

    kind: RankKind
    title: str
    number: str
    nobody: str
    filter: str = ""
    select: Callable[[ApiKeyQuerySet, datetime, datetime], ApiKeyQuerySet] | None = None
    tile: str = ""
    one: str = ""
    many: str = ""


RANKINGS: Final[Mapping[str, RankingKind]] = {
    "busiest": RankingKind(
        RankKind.BUSIEST,
        "Busiest keys",
        "Requests",
        "No request in this time.",
        "last_used",
        lambda keys, since, _now: keys.filter(activity__last_used_at__gte=since),
        "Keys used",
        "key was used",
        "keys were used",
    ),
    "tried": RankingKind(
        RankKind.TRIED,
        "Dead keys still being tried",
        "Tries",
        "Nobody has tried a revoked or expired key in this time.",
        "tried",
        lambda keys, since, now: keys.tried_since_end(since, now),
        "Dead keys tried",
        "dead key was tried",
        "dead keys were tried",
    ),
    "refused": RankingKind(
        RankKind.REFUSED,
        "Most refused keys",
        "Refused",
        "No key lacked a scope, came from a wrong network, was paused or hit its rate limit in this time.",
        "refused",
        lambda keys, since, _now: keys.filter(activity__last_refused_at__gte=since),
        "",
        "key had a refusal of any reason",
        "keys had a refusal of any reason",
    ),
    "guessed": RankingKind(
        RankKind.GUESSED,
        "Presented with a wrong secret",
        "Times",
        "Nobody has presented a key with a wrong secret in this time.",
    ),
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """The keys that stand out by something in some days, and the way to all that the list's filter finds."""

    name: str
    what: RankingKind
    rows: list[BusyKey] = field(default_factory=list)
    count: str = ""
    query: str = ""
    days: int = 0
    total: int = 0

    @property
    def days_words(self) -> str:
        """The days that the list's filter means."""
        return "13 months" if self.days > 90 else f"{self.days} days" if self.days > 1 else "24 hours"

    @property
    def words(self) -> str:
        """What the keys of the list did, after their number."""
        return self.what.one if self.count == "1" else self.what.many

    @property
    def shares(self) -> list[tuple[BusyKey, float]]:
        """The keys, each with its part of all requests."""
        return [(one, one.number / self.total if self.total else 0.0) for one in self.rows]


def ranking(
    name: str, organization: Organization, span: TimeRange, now: datetime, *, most: int, total: int = 0
) -> Ranking:
    """Return one of RANKINGS for a span that has RANKED_DAYS; ``total`` is what shares are of."""
    what, days = RANKINGS[name], RANKED_DAYS[span.name]
    if what.kind is RankKind.TRIED:
        rows = _tried(organization, days, now, most)
    else:
        rows = BusiestKey.objects.of(organization, days, most, what.kind, since=span.since)
    if what.select is None:
        return Ranking(name, what, rows, days=days, total=total)
    listed = what.select(organization.keys.all(), now - timedelta(days=days), now)
    return Ranking(name, what, rows, count_text(listed), urlencode({what.filter: days}), days, total)


def _tried(organization: Organization, days: int, now: datetime, most: int) -> list[BusyKey]:
    """Return the dead keys that were tried most, among those that the list shows: some live again."""
    found = BusiestKey.objects.of(organization, days, EVERY_RANKED, RankKind.TRIED)
    tried = organization.keys.tried_since_end(now - timedelta(days=days), now)
    dead = set(tried.filter(pk__in=[one.key.pk for one in found]).values_list("pk", flat=True))
    return [one for one in found if one.key.pk in dead][:most]


@dataclass(frozen=True, slots=True)
class Cell:
    """Some keys: how many, the list's query that shows them, and their status in words."""

    count: str
    query: str
    label: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """The keys of an age, by status."""

    label: str
    cells: list[Cell]


def keys_by_status(organization: Organization, now: datetime) -> list[dict[str, Any]]:
    """Return how many keys have each status."""
    keys = organization.keys.order_by(*NEWEST)
    counts = count_each({one.value: in_tab(keys, one.value, now) for one in Status})
    return [
        {"value": name, "count": number_text(count), "query": urlencode({"status": name})}
        for name, count in counts.items()
    ]


def keys_by_age(organization: Organization, now: datetime, statuses: list[Status]) -> list[KeyRow]:
    """Return how many keys of each age have each of some statuses."""
    keys = organization.keys.order_by(*NEWEST)
    queries = {
        urlencode({"status": status.value, "created": age}): of_age(in_tab(keys, status.value, now), age, now)
        for age, _ in CREATED_CHOICES
        for status in statuses
    }
    rows = batched(count_each(queries).items(), len(statuses))
    return [
        KeyRow(
            label,
            [
                Cell(number_text(count), query, status.label)
                for status, (query, count) in zip(statuses, row, strict=True)
            ],
        )
        for (_, label), row in zip(CREATED_CHOICES, rows, strict=True)
    ]


def quietest(request: MemberRequest) -> list[Ordered[ApiKey]]:
    """Return the active keys in their order as the list has them with QUIETEST: unused ones, then by use."""
    query = QueryDict(urlencode(QUIETEST))
    listing = KeyFilter(query, queryset=request.member.organization.keys.for_pages(), request=request)
    listing.is_valid()
    return listing.parts()
