"""Roll-ups of one key's requests: by hour and outcome, and by day and caller, scope and endpoint.

What is read here agrees with the raw events to the last request: complete hours come from roll-ups, the rest from
events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, ClassVar

from django.db import connection, models
from django.db.models import Count, F, Q, QuerySet, Sum, Value
from django.db.models.expressions import Combinable, RawSQL
from django.utils import timezone

from apikeys.models.among import Among, among
from apikeys.models.counting import roll_up
from apikeys.models.counting_sql import BUSIEST_VALUES, DAILY, MOST_KEPT, OTHERS, TRIES, rendered, value_sql
from apikeys.models.extremes import EPOCH, EpochSeconds, floor_minute, utc
from apikeys.models.key import ApiKey
from apikeys.models.recording import UsageWatermark
from apikeys.models.series import UsageSeries, edges, floor_day, make_series
from apikeys.models.usage import DAY, HOUR, MINUTE, SECOND, Outcome, UsageEvent, outcomes
from apikeys.models.watermark import Sources

# A caller is new when nobody saw it for so long before the last 24 hours.
KNOWN_FOR = 90 * DAY
# So many callers of a key are looked through to count them.
MAX_CALLERS = 1000
_RECENT = 3 * DAY
_ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


class UsageHourQuerySet(models.QuerySet["UsageHour"]):
    """Rolling up, and reading of counts by outcome."""

    def roll_up(self, now: datetime | None = None) -> Iterator[datetime]:
        """Count the complete hours since the last run, one transaction an hour; yields each hour that is done.

        Running it again, or twice at once, changes nothing: the watermark's row is locked and an hour is replaced.
        """
        yield from roll_up(now)

    def by_outcome(self, key: ApiKey, since: datetime) -> dict[str, int]:
        """Return the requests of a key since an instant by outcome."""
        return self.totals([key.pk], since).get(key.pk, {})

    def series(self, key: ApiKey, since: datetime, step: timedelta, buckets: int, tz: tzinfo = UTC) -> UsageSeries:
        """Return counts by outcome in equal steps from an instant on; whole days are those of a time zone."""
        return self.series_between(key, edges(since, step, buckets, tz))

    def series_between(self, key: ApiKey, edges: Sequence[datetime]) -> UsageSeries:
        """Return counts by outcome between edges; see series_of."""
        return self.series_of([key.pk], edges)

    def series_of(self, keys: Sequence[int], edges: Sequence[datetime]) -> UsageSeries:
        """Return counts by outcome of some keys together between edges, which are cut to whole minutes.

        An hour that an edge cuts, as midnight does in zones of half an hour, is counted exactly while its raw events
        are kept, and belongs to the step in which it began afterwards.
        """
        edges = [floor_minute(edge.astimezone(UTC)) for edge in edges]
        rows = self._counted(keys, edges[0], edges[-1], split=edges, unit=series_unit(edges))
        return make_series(edges, ((at, outcome, count) for _, at, outcome, count in rows))

    def daily(self, keys: Sequence[int], days: int) -> dict[int, list[int]]:
        """Return the requests of several keys, a count a day, the last of them today; keys without any left out."""
        first = floor_day(timezone.now()) - DAY * (days - 1)
        first_day, found = (first - EPOCH) // DAY, dict[int, list[int]]()
        for key_id, number, count in _counted_out(DAILY, keys, first):
            found.setdefault(key_id, [0] * days)[min(days - 1, number - first_day)] += int(count)
        return found

    def hourly(self, key: ApiKey, since: datetime) -> dict[datetime, int]:
        """Return the accepted requests of each hour (UTC) since an instant that had any."""
        found: dict[datetime, int] = defaultdict(int)
        accepted = Q(outcome=Outcome.VALID)
        for _, hour, _, count in self._counted([key.pk], since, unit=HOUR, condition=accepted):
            found[hour] += count
        return dict(found)

    def attempts_since_end(self, keys: Iterable[ApiKey]) -> dict[int, int]:
        """Return how often each dead key was tried since it was revoked or expired, by key id."""
        dead = [key.pk for key in keys if key.is_dead]
        found: dict[int, int] = defaultdict(int)
        for key_id, count in _counted_out(TRIES, dead, _ALWAYS):
            found[key_id] += int(count)
        return dict(found)

    def totals(self, keys: Sequence[int], since: datetime, until: datetime | None = None) -> dict[int, dict[str, int]]:
        """Return the requests of several keys between instants by outcome; keys without any are left out."""
        found: dict[int, dict[str, int]] = {}
        sources = Sources.of(since, until, keys=keys)
        of_keys = Among(F("key_id"), keys)
        rolled = self.filter(sources.rolled_condition("hour"), of_keys)
        raw = UsageEvent.objects.filter(sources.raw_condition(), of_keys)
        for rows, total in ((rolled, Sum("count")), (raw, Count("*"))):
            for key_id, outcome, count in rows.values_list("key_id", "outcome").annotate(total=total).order_by():
                counts = found.setdefault(key_id, {})
                counts[outcome] = counts.get(outcome, 0) + count
        return found

    def _counted(
        self,
        keys: Sequence[int],
        since: datetime,
        until: datetime | None = None,
        *,
        split: Sequence[datetime] = (),
        unit: timedelta,
        condition: Q | None = None,
    ) -> Iterator[tuple[int, datetime, str, int]]:
        """Yield (key id, start of minute, hour or day, outcome, count) of what a condition on the outcome keeps."""
        sources, condition = Sources.of(since, until, split=split, keys=keys), condition or Q()
        of_keys = Among(F("key_id"), keys)
        raw = UsageEvent.objects.filter(sources.raw_condition(), condition, of_keys)
        rows = _grouped(raw, "at", unit, Count("*"))
        if sources.rolled:
            rolled = self.filter(sources.rolled_condition("hour"), condition, of_keys)
            rows = _grouped(rolled, "hour", unit, Sum("count")).union(rows, all=True)
        for key_id, number, outcome, count in rows:
            yield key_id, unit_start(number, unit), outcome, count


def _counted_out(statement: str, keys: Sequence[int], since: datetime) -> list[tuple[Any, ...]]:
    """Run a statement about the requests of some keys since an instant that is written out; return its rows.

    For Django to put it together took as long as for the database to answer it.
    """
    if not keys:
        return []
    sources = Sources.of(since, keys=keys)
    rolled, hours = sources.rolled_sql("hour")
    raw, instants = sources.raw_sql("at")
    values: list[Any] = [among(keys), *hours, among(keys), *instants]
    with connection.cursor() as cursor:
        cursor.execute(rendered(statement, rolled=rolled, raw=raw), values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def series_unit(edges: Sequence[datetime]) -> timedelta:
    """Return the coarsest unit (of UTC) that no edge cuts."""
    if any(edge.minute for edge in edges):
        return MINUTE
    return HOUR if any(edge.hour for edge in edges) else DAY


def unit_number(field: str, unit: timedelta) -> Combinable:
    """Return which unit since 1970 (UTC) a time lies in, as an expression.

    Of an instant that the database cuts Django makes an instant again, which takes longer than all else of a row.
    """
    return EpochSeconds(field) / Value(unit // SECOND)


def unit_start(number: int, unit: timedelta) -> datetime:
    """Return when such a unit begins."""
    return EPOCH + unit * number


def _grouped(rows: QuerySet[Any], time: str, unit: timedelta, total: Sum | Count) -> QuerySet[Any, Any]:
    numbered = rows.annotate(unit=unit_number(time, unit)).values_list("key_id", "unit", "outcome")
    counted: QuerySet[Any, Any] = numbered.annotate(total=total).order_by()
    return counted


class UsageHour(models.Model):
    """How often a key had an outcome in one hour (UTC)."""

    pk = models.CompositePrimaryKey("key_id", "hour", "outcome")
    key_id = models.BigIntegerField()
    hour = models.DateTimeField()
    outcome = models.CharField(max_length=16, choices=outcomes)
    count = models.PositiveBigIntegerField()

    objects: ClassVar = UsageHourQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["hour"], name="usage_by_hour"),
            models.Index(fields=["hour"], name="usage_of_dead_keys", condition=Q(outcome__in=["revoked", "expired"])),
        ]

    def __str__(self) -> str:
        return f"{self.hour.isoformat()} {self.key_id} {self.outcome} {self.count}"


class Dimension(models.TextChoices):
    """What the requests of a day are told apart by."""

    CALLER = "caller", "caller"
    SCOPE = "scope", "scope"
    ENDPOINT = "endpoint", "endpoint"


def dimensions() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new one needs no migration."""
    return Dimension.choices


@dataclass(frozen=True, slots=True)
class UsageValue:
    """One caller, scope or endpoint of a key, and its requests. ``share`` is its part of all of the key's requests.

    ``is_new``: a caller first seen in the last 24 hours, and not in the 90 days before.
    """

    value: str
    accepted: int
    refused: int
    first_at: datetime
    last_at: datetime
    share: float = 0.0
    is_new: bool = False

    @property
    def count(self) -> int:
        """All its requests."""
        return self.accepted + self.refused

    @property
    def address(self) -> str:
        """The address of a caller, empty when it is not known."""
        return self.value.partition("\n")[0]

    @property
    def user_agent(self) -> str:
        """The user agent of a caller."""
        return self.value.partition("\n")[2]

    @property
    def method(self) -> str:
        """The method of an endpoint."""
        return self.value.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path of an endpoint."""
        return self.value.partition(" ")[2]


@dataclass(frozen=True, slots=True)
class UsageValues:
    """The busiest values of a key, and what is left: ``others`` values with ``others_count`` of ``total`` requests.

    ``is_bounded``: a day had more values than are kept apart, so there were more others than ``others``.
    """

    values: list[UsageValue] = field(default_factory=list)
    others: int = 0
    others_count: int = 0
    total: int = 0
    is_bounded: bool = False


class UsageDayQuerySet(models.QuerySet["UsageDay"]):
    """Reading of a key's callers, scopes and endpoints."""

    def usage_of(
        self,
        key: ApiKey,
        dimension: Dimension | str,
        since: date | datetime,
        until: date | datetime | None = None,
        most: int = 20,
    ) -> UsageValues:
        """Return the busiest values between two instants or, much faster, from one day (UTC) up to another, or to now.

        An instant holds exactly while raw events of its day are kept; afterwards it stands for its whole day.
        """
        dimension = Dimension(dimension)
        sources = Sources.of(_instant(since), _instant(until) if until else None, unit=DAY, keys=[key.pk])
        rolled, days = sources.rolled_sql("day")
        raw, instants = sources.raw_sql("at")
        # Added up where they are: a busy key has had thousands of callers, of which a page shows eight.
        statement = rendered(BUSIEST_VALUES, rolled=rolled, raw=raw, value=value_sql(dimension))
        values: list[Any] = [key.pk, dimension, *days, key.pk, *instants, most + 1]
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            rows = cursor.fetchall()
        *_, known, total = rows[0] if rows else (0, 0)
        found = [UsageValue(one, int(yes), int(no), utc(first), utc(last)) for one, yes, no, first, last, *_ in rows]
        is_bounded = bool(found) and found[0].value == OTHERS
        ordered = found[is_bounded : most + is_bounded]
        new = self._new(key, ordered) if dimension == Dimension.CALLER else set()
        shown = [replace(one, share=one.count / int(total), is_new=one.value in new) for one in ordered]
        others_count = int(total) - sum(one.count for one in shown)
        return UsageValues(shown, known - is_bounded - len(shown), others_count, int(total), is_bounded=is_bounded)

    def caller_counts(self, keys: Sequence[int], since: date | datetime) -> dict[int, int]:
        """Return how many callers several keys had since a day (UTC); MOST_KEPT stands for so many or more."""
        sources = Sources.of(_instant(since), unit=DAY, keys=keys)
        found: dict[int, set[str]] = defaultdict(set)
        rolled = self.filter(sources.rolled_condition("day"), key_id__in=keys, dimension=Dimension.CALLER)
        raw = UsageEvent.objects.filter(sources.raw_condition(), key_id__in=keys)
        value = RawSQL(value_sql(Dimension.CALLER), [])  # noqa: S611 - of constants
        for rows in (rolled.values_list("key_id", "value"), raw.values_list("key_id", value)):
            for key_id, caller in rows.distinct().order_by()[: MAX_CALLERS * len(keys)]:
                found[key_id].add(caller)
        return {key_id: min(MOST_KEPT, len(callers)) for key_id, callers in found.items()}

    def longest_caller_gaps(self, key: ApiKey, since: datetime, callers: Sequence[str]) -> dict[str, timedelta]:
        """Return the longest silence of some callers since a day (UTC); those that were seen on one day are left out.

        Between two days it is exact. Within a day it is ten times the usual time between two requests, and never
        longer than from the first to the last: a day's single requests are no longer told apart.
        """
        rows = self.filter(key_id=key.pk, dimension=Dimension.CALLER, day__gte=since.date(), value__in=callers)
        found: dict[str, timedelta] = {}
        last: dict[str, datetime] = {}
        several: set[str] = set()
        for caller, first_at, last_at, count in rows.order_by("day").values_list(
            "value", "first_at", "last_at", F("accepted") + F("refused")
        ):
            span = last_at - first_at
            within = min(span, 10 * span / (count - 1)) if count > 1 else timedelta()
            if caller in last:
                several.add(caller)
                within = max(within, first_at - last[caller])
            found[caller] = max(found.get(caller, within), within)
            last[caller] = last_at
        return {caller: gap for caller, gap in found.items() if caller in several}

    def _new(self, key: ApiKey, values: Sequence[UsageValue]) -> set[str]:
        """Return which of some callers nobody saw from 91 days to 24 hours ago."""
        day_ago = timezone.now() - DAY
        wanted = [one.value for one in values if one.first_at >= day_ago]
        if not wanted:
            return set()
        days = self.filter(key_id=key.pk, dimension=Dimension.CALLER, first_at__lt=day_ago)
        known: set[str] = set()
        # Most are of the last days, of which there are few to look through.
        for span in (_RECENT, KNOWN_FOR):
            if unknown := set(wanted) - known:
                seen = days.filter(day__gte=(day_ago - span).date(), value__in=unknown)
                known |= set(seen.values_list("value", flat=True))
        unrolled = max(UsageWatermark.current() or day_ago - KNOWN_FOR, day_ago - KNOWN_FOR)
        if unrolled < day_ago:
            raw = UsageEvent.objects.of(key).filter(at__gte=unrolled, at__lt=day_ago)
            callers = raw.annotate(value=RawSQL(value_sql(Dimension.CALLER), [])).values_list("value", flat=True)  # noqa: S611 - of constants
            known |= set(callers.filter(value__in=wanted).distinct().order_by())
        return set(wanted) - known


def _instant(at: date | datetime) -> datetime:
    """Return an instant, of a day its first one (UTC)."""
    return at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)


class UsageDay(models.Model):
    """How often a key was called on one day (UTC) by one caller, with one scope, or at one endpoint.

    The busiest values of a day are kept, and one row OTHERS for all others; of the running day its complete hours.
    """

    pk = models.CompositePrimaryKey("key_id", "dimension", "day", "value")
    key_id = models.BigIntegerField()
    dimension = models.CharField(max_length=8, choices=dimensions)
    day = models.DateField()
    # An address, a line feed and a user agent; a scope, empty when none was asked for; a method, a space and a path.
    value = models.CharField(max_length=520)
    accepted = models.PositiveBigIntegerField()
    refused = models.PositiveBigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    objects: ClassVar = UsageDayQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["day"], name="usage_by_day")]

    def __str__(self) -> str:
        return f"{self.day.isoformat()} {self.key_id} {self.dimension} {self.accepted + self.refused}"
