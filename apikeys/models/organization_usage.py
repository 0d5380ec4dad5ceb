"""Usage of a whole organization: by hour and environment, by day and owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, ClassVar

from django.db import connection, models
from django.db.models import Sum

from apikeys.models.counting_sql import OTHERS
from apikeys.models.extremes import floor_minute
from apikeys.models.organization import Member, Organization
from apikeys.models.rollup import series_unit, unit_number, unit_start
from apikeys.models.series import UsageSeries, edges, floor_day, make_series
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
        edges = [floor_minute(edge.astimezone(UTC)) for edge in edges]
        sources = Sources.of(edges[0], edges[-1], split=edges)
        unit = series_unit(edges)
        rows: list[tuple[int, str, int]] = []
        if sources.rolled:
            hours = self.filter(sources.rolled_condition("hour"), organization_id=organization.pk)
            numbered = hours.annotate(unit=unit_number("hour", unit)).values_list("unit", "outcome")
            rows += numbered.annotate(Sum("count")).order_by()
        raw = UsageEvent.objects.filter(sources.raw_condition(), key_id__in=organization.keys.values("pk"))
        counted = raw.annotate(unit=unit_number("at", unit)).values_list("unit", "outcome")
        rows += counted.annotate(models.Count("nonce")).order_by()
        return make_series(edges, ((unit_start(number, unit), outcome, count) for number, outcome, count in rows))

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
    """The requests of the keys of one owner: a member, or whoever reads an address.

    Neither is a member who has left or, with ``is_others``, all owners that are not named.
    """

    member: Member | None
    contact: str
    accepted: int
    refused: int
    is_others: bool = False

    @property
    def address(self) -> str:
        """What the key list filters by; empty when nobody has one."""
        return self.member.user.email if self.member else self.contact


class OrganizationDayQuerySet(models.QuerySet["OrganizationDay"]):
    """Reading of an organization's requests by owner."""

    def by_owner(
        self, organization: Organization, since: datetime, until: datetime | None = None, most: int = 20
    ) -> list[OwnerUsage]:
        """Return the requests of the busiest owners between two instants and, last, of all others together.

        They count for who owned the key when they were rolled up. At whole days (UTC) it is fastest.
        """
        members = {one.pk: one for one in organization.members.select_related("user")}
        # An address of a member stands for the member: the key list finds the keys of both by it.
        named = {one.user.email: one.pk for one in members.values()}
        sums: dict[tuple[int, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for member_id, contact, accepted, refused in self._owners(organization, since, until):
            who = _who(member_id, contact, members, named)
            sums[who] = sums[who][0] + accepted, sums[who][1] + refused
        rest = sums.pop((0, OTHERS), (0, 0))
        ordered = sorted(sums.items(), key=lambda item: (-sum(item[1]), item[0]))
        found = [OwnerUsage(members.get(who[0]), who[1], *counts) for who, counts in ordered[:most]]
        accepted, refused = (rest[side] + sum(counts[side] for _, counts in ordered[most:]) for side in (0, 1))
        return [*found, OwnerUsage(None, "", accepted, refused, is_others=True)] if accepted + refused else found

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


def _who(member_id: int, contact: str, members: Collection[int], named: Mapping[str, int]) -> tuple[int, str]:
    """Return (member id, contact) of an owner as its requests are added up; -1 is anybody who has left."""
    if member_id:
        return (member_id, "") if member_id in members else (-1, "")
    return (named[contact], "") if contact in named else (0, contact)


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
