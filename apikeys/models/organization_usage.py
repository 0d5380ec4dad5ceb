"""Usage of a whole organization: by hour and environment, by day and owner, and the keys that stand out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, ClassVar

from django.db import connection, models
from django.db.models import Sum
from django.utils import timezone

from apikeys.models.counting_sql import OTHERS
from apikeys.models.key import ApiKey
from apikeys.models.organization import Member, Organization
from apikeys.models.rollup import UsageHour, series_unit
from apikeys.models.series import UsageSeries, edges, floor_day, floor_hour, make_series
from apikeys.models.usage import DAY, Outcome, UsageEvent, outcomes
from apikeys.models.watermark import Sources


@dataclass(frozen=True, slots=True)
class EnvironmentUsage:
    """The requests of the keys of one environment."""

    environment_id: int
    by_outcome: dict[str, int]

    @property
    def accepted(self) -> int:
        """Accepted requests."""
        return self.by_outcome.get(Outcome.VALID, 0)

    @property
    def refused(self) -> int:
        """Refused requests."""
        return sum(self.by_outcome.values()) - self.accepted


class OrganizationHourQuerySet(models.QuerySet["OrganizationHour"]):
    """Reading of an organization's requests by outcome and environment."""

    def series(
        self, organization: Organization, since: datetime, step: timedelta, buckets: int, tz: tzinfo = UTC
    ) -> UsageSeries:
        """Return counts by outcome in equal steps from an instant on; whole days are those of a time zone."""
        return self.series_between(organization, edges(since, step, buckets, tz))

    def series_between(self, organization: Organization, edges: Sequence[datetime]) -> UsageSeries:
        """Return counts by outcome between edges, which are cut to whole minutes."""
        edges = [edge.astimezone(UTC).replace(second=0, microsecond=0) for edge in edges]
        sources = Sources.of(edges[0], edges[-1], split=edges)
        unit = series_unit(edges)
        rows: list[tuple[datetime, str, int]] = []
        if sources.rolled:
            hours = self.filter(sources.rolled_condition("hour"), organization_id=organization.pk)
            start = unit("hour", tzinfo=UTC)
            rows += hours.annotate(start=start).values_list("start", "outcome").annotate(Sum("count")).order_by()
        raw = UsageEvent.objects.filter(sources.raw_condition(), key_id__in=organization.keys.values("pk"))
        counted = raw.annotate(start=unit("at", tzinfo=UTC)).values_list("start", "outcome")
        rows += counted.annotate(models.Count("nonce")).order_by()
        return make_series(edges, rows)

    def by_environment(
        self, organization: Organization, since: datetime, until: datetime | None = None
    ) -> list[EnvironmentUsage]:
        """Return the requests of each environment between two instants, the busiest first."""
        sums: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        sources = Sources.of(since, until)
        if sources.rolled:
            hours = self.filter(sources.rolled_condition("hour"), organization_id=organization.pk)
            counted = hours.values_list("environment_id", "outcome").annotate(Sum("count")).order_by()
            for environment_id, outcome, count in counted:
                sums[environment_id][outcome] += count
        for environment_id, outcome, count in _raw(organization, sources, "k.environment_id, u.outcome", "COUNT(*)"):
            sums[environment_id][outcome] += count
        found = [EnvironmentUsage(environment_id, dict(counts)) for environment_id, counts in sums.items()]
        return sorted(found, key=lambda one: (-one.accepted - one.refused, one.environment_id))


class OrganizationHour(models.Model):
    """How often the keys of one environment had an outcome in one hour (UTC)."""

    pk = models.CompositePrimaryKey("organization_id", "hour", "environment_id", "outcome")
    organization_id = models.BigIntegerField()
    hour = models.DateTimeField()
    environment_id = models.BigIntegerField()
    outcome = models.CharField(max_length=16, choices=outcomes)
    count = models.PositiveBigIntegerField()

    objects: ClassVar = OrganizationHourQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["hour"], name="organization_usage_by_hour")]

    def __str__(self) -> str:
        return f"{self.hour.isoformat()} {self.organization_id} {self.outcome} {self.count}"


@dataclass(frozen=True, slots=True)
class OwnerUsage:
    """The requests of the keys of one owner: a member, or whoever reads an address. Neither: all other owners."""

    member: Member | None
    contact: str
    accepted: int
    refused: int

    @property
    def is_others(self) -> bool:
        """Whether it stands for all owners that are not named."""
        return self.member is None and not self.contact


class OrganizationDayQuerySet(models.QuerySet["OrganizationDay"]):
    """Reading of an organization's requests by owner."""

    def by_owner(
        self, organization: Organization, since: datetime, until: datetime | None = None, most: int = 20
    ) -> list[OwnerUsage]:
        """Return the requests of the busiest owners between two instants and, last, of all others together.

        They count for who owned the key when they were rolled up. At whole days (UTC) it is fastest.
        """
        sums: dict[tuple[int, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for member_id, contact, accepted, refused in self._owners(organization, since, until):
            before = sums[member_id, contact]
            sums[member_id, contact] = before[0] + accepted, before[1] + refused
        rest = sums.pop((0, OTHERS), (0, 0))
        ordered = sorted(sums.items(), key=lambda item: (-sum(item[1]), item[0]))
        members = {one.pk: one for one in organization.members.select_related("user")}
        found = [OwnerUsage(members.get(who[0]), who[1], *counts) for who, counts in ordered[:most]]
        accepted, refused = (rest[side] + sum(counts[side] for _, counts in ordered[most:]) for side in (0, 1))
        return [*found, OwnerUsage(None, "", accepted, refused)] if accepted + refused else found

    def _owners(
        self, organization: Organization, since: datetime, until: datetime | None
    ) -> Iterator[tuple[int, str, int, int]]:
        """Yield (member id or 0, contact, accepted, refused): whole days, and parts of days by hours of keys."""
        first, last = _ceil_day(since), floor_day(until) if until else None
        if until and last and last <= first:
            yield from self._owners_by_hours(organization, since, until)
            return
        if since < first:
            yield from self._owners_by_hours(organization, since, first)
        sources = Sources.of(first, last, unit=DAY)
        if sources.rolled:
            days = self.filter(sources.rolled_condition("day"), organization_id=organization.pk)
            owners = days.values_list("owner_member_id", "owner_contact")
            yield from owners.annotate(Sum("accepted"), Sum("refused")).order_by()
        yield from _raw(organization, sources, _OWNER, _ACCEPTED_AND_REFUSED.format("1"))
        if until and last and last < until:
            yield from self._owners_by_hours(organization, last, until)

    def _owners_by_hours(
        self, organization: Organization, since: datetime, until: datetime
    ) -> Iterator[tuple[int, str, int, int]]:
        sources = Sources.of(since, until)
        if sources.rolled:
            where, values = sources.rolled_sql("u.hour")
            total = _ACCEPTED_AND_REFUSED.format("u.count")
            yield from _rows("apikeys_usagehour", organization, _OWNER, total, where, values)
        yield from _raw(organization, sources, _OWNER, _ACCEPTED_AND_REFUSED.format("1"))


_OWNER = "COALESCE(k.owner_id, 0), k.owner_contact"
_ACCEPTED_AND_REFUSED = (
    "SUM(CASE WHEN u.outcome = 'valid' THEN {0} ELSE 0 END), SUM(CASE WHEN u.outcome = 'valid' THEN 0 ELSE {0} END)"
)


def _ceil_day(at: datetime) -> datetime:
    return floor_day(at) if at == floor_day(at) else floor_day(at) + DAY


def _raw(organization: Organization, sources: Sources, columns: str, total: str) -> Iterator[tuple[Any, ...]]:
    """Yield totals of raw events of an organization's keys by columns of events or keys."""
    if not sources.raw:
        return iter(())
    where, values = sources.raw_sql("u.at")
    return _rows("apikeys_usageevent", organization, columns, total, where, values)


def _rows(
    table: str, organization: Organization, columns: str, total: str, where: str, values: list[Any]
) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, {total} FROM {table} u JOIN apikeys_apikey k ON k.id = u.key_id "  # noqa: S608 - of constants
            f"WHERE k.organization_id = %s AND ({where}) GROUP BY {columns}",
            [organization.pk, *values],
        )
        # A sum is a Decimal on PostgreSQL.
        return iter([tuple(one if isinstance(one, str) else int(one) for one in row) for row in cursor.fetchall()])


class OrganizationDay(models.Model):
    """How many requests the keys of one owner had on one day (UTC); of the running day its complete hours.

    The owner is a member or, where ``owner_member_id`` is 0, a contact. The busiest of a day are kept apart; the
    contact of the others is OTHERS.
    """

    pk = models.CompositePrimaryKey("organization_id", "day", "owner_member_id", "owner_contact")
    organization_id = models.BigIntegerField()
    day = models.DateField()
    owner_member_id = models.BigIntegerField(default=0)
    owner_contact = models.CharField(max_length=254, blank=True)
    accepted = models.PositiveBigIntegerField()
    refused = models.PositiveBigIntegerField()

    objects: ClassVar = OrganizationDayQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["day"], name="organization_usage_by_day")]

    def __str__(self) -> str:
        return f"{self.day.isoformat()} {self.organization_id} {self.accepted + self.refused}"


class RankKind(models.TextChoices):
    """What keys are ranked by."""

    BUSIEST = "busiest", "all requests"
    TRIED = "tried", "requests after the key's end"
    GUESSED = "guessed", "wrong secrets"
    REFUSED = "refused", "requests without scope, network, quota or while paused"


def rank_kinds() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new kind needs no migration."""
    return RankKind.choices


_OUTCOMES: dict[RankKind, list[str]] = {
    RankKind.BUSIEST: Outcome.values,
    RankKind.TRIED: [Outcome.REVOKED, Outcome.EXPIRED],
    RankKind.GUESSED: [Outcome.UNKNOWN],
    RankKind.REFUSED: [Outcome.SCOPE_MISSING, Outcome.NETWORK_DENIED, Outcome.RATE_LIMITED, Outcome.PAUSED],
}


@dataclass(frozen=True, slots=True)
class BusyKey:
    """A key that stands out, its requests counted to the last; ``number`` is of what it is ranked by."""

    key: ApiKey
    number: int
    accepted: int
    refused: int


class BusiestKeyQuerySet(models.QuerySet["BusiestKey"]):
    """Reading of the keys that stand out."""

    def of(
        self, organization: Organization, days: int, most: int = 10, kind: RankKind = RankKind.BUSIEST
    ) -> list[BusyKey]:
        """Return the first keys of the last 1, 7, 30, 90 or 395 days.

        Their requests are counted to the last; who they are is known from the last roll-up and what came since.
        """
        since = floor_hour(timezone.now() - DAY * days)
        ranked = self.filter(organization_id=organization.pk, kind=kind, days=days).order_by("rank")
        keys = set(ranked.values_list("key_id", flat=True)[: 2 * most])
        raw = UsageEvent.objects.filter(Sources.of(since).raw_condition(), outcome__in=_OUTCOMES[kind])
        newest = raw.filter(key_id__in=organization.keys.values("pk")).values("key_id")
        counted = newest.annotate(count=models.Count("nonce")).order_by("-count", "key_id")
        keys |= set(counted.values_list("key_id", flat=True)[:most])
        found: list[tuple[int, int, int, int]] = []
        for key_id, counts in UsageHour.objects.totals(sorted(keys), since).items():
            number = sum(counts.get(outcome, 0) for outcome in _OUTCOMES[kind])
            accepted = counts.get(Outcome.VALID, 0)
            found.append((-number, key_id, accepted, sum(counts.values()) - accepted))
        chosen = sorted(one for one in found if one[0])[:most]
        keys_of = organization.keys.select_related("organization", "environment", "owner__user", "activity")
        rows = keys_of.in_bulk([key_id for _, key_id, _, _ in chosen])
        return [BusyKey(rows[key_id], -number, accepted, refused) for number, key_id, accepted, refused in chosen]


class BusiestKey(models.Model):
    """One of an organization's keys that stood out in the last days, as of the last roll-up."""

    pk = models.CompositePrimaryKey("organization_id", "kind", "days", "key_id")
    organization_id = models.BigIntegerField()
    kind = models.CharField(max_length=8, choices=rank_kinds)
    days = models.PositiveSmallIntegerField()
    key_id = models.BigIntegerField()
    rank = models.PositiveSmallIntegerField()
    number = models.PositiveBigIntegerField()
    accepted = models.PositiveBigIntegerField()
    refused = models.PositiveBigIntegerField()
    last_hour = models.DateTimeField()

    objects: ClassVar = BusiestKeyQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.organization_id} {self.kind} {self.days} days: {self.rank}. {self.key_id}"
