"""Alerts about what happens, hour by hour: which of it is new, and who was involved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, F, Max, Q, Value, Window
from django.db.models.functions import Left, RowNumber, StrIndex

from apikeys.evaluation.reconcile import Tally, calm_words, raise_some
from apikeys.models import (
    Alert,
    AlertKind,
    AlertSettings,
    Dimension,
    Organization,
    Outcome,
    Sighting,
    UsageDay,
    UsageEvent,
    UsageWatermark,
)
from apikeys.models.alert import CLOCKS_DIFFER
from apikeys.models.rollup import KNOWN_FOR
from apikeys.models.series import floor_hour
from apikeys.models.usage import HOUR, SECOND

MOST_CALLERS: Final = 5


@dataclass(frozen=True, slots=True)
class Occurrence:
    """That something happened to a key in an hour (UTC)."""

    hour: datetime
    facts: dict[str, Any] = field(default_factory=dict)

    def with_facts(self, **facts: Any) -> Occurrence:
        """Return it with more facts."""
        return replace(self, facts={**self.facts, **facts})


@dataclass(frozen=True, slots=True)
class _News:
    """What is not told yet of a key: its last occurrence, when that was, and in how many more hours since ``first``."""

    last: Occurrence
    at: datetime
    first: datetime
    count: int

    @classmethod
    def of(cls, some: Sequence[Occurrence], told: Alert | None, now: datetime) -> _News | None:
        """Return what the key's newest alert of the kind, if there was one, does not tell."""
        last = some[-1]
        at = min(now, last.hour + HOUR - SECOND)
        # A clock that was ahead when the alert was seen says nothing of what happened since.
        told_of = floor_hour(told.seen_at) if told and told.seen_at <= now + CLOCKS_DIFFER else None
        new = [one.hour for one in some if told_of is None or one.hour > told_of]
        if new:
            return cls(last, at, new[0], len(new))
        # Of an hour that was not over when it was told of, there may be more by now.
        if told is None or told.cause_ended_at or last.hour != told_of or at <= told.seen_at:
            return None
        has_more = any(told.facts.get(name) != value for name, value in last.facts.items())
        return cls(last, at, last.hour, 0) if has_more else None


def raise_new(
    organization: Organization,
    kind: AlertKind,
    occurrences: Mapping[int, Sequence[Occurrence]],
    now: datetime,
    *,
    outcomes: Sequence[Outcome],
) -> Tally:
    """Raise or add to the alerts of some keys, by what happened since each key's last alert of the kind was seen.

    The alert is about the last hour; those with some outcomes in it are its callers. What happens after a calm period
    is another alert, also when nobody looked in between.
    """
    told = newest_alerts(kind, [pk for pk, some in occurrences.items() if some])
    new = {pk: one for pk, some in occurrences.items() if some and (one := _News.of(some, told.get(pk), now))}
    callers = callers_of({pk: one.last.hour for pk, one in new.items()}, outcomes)
    if not new:
        return Tally()
    with transaction.atomic():
        AlertSettings.objects.lock(organization)
        # Who looked at the same moment, and was quicker, has told of it.
        now_told = newest_alerts(kind, list(new))
        new = {pk: one for pk, one in new.items() if _version(now_told.get(pk)) == _version(told.get(pk))}
        tally = Tally(ended=_end_calm(kind, new, now_told, now))
        tally += raise_some(
            organization,
            kind,
            [
                Sighting(
                    pk,
                    one.at,
                    {"hour": one.last.hour.isoformat(), **one.last.facts, "callers": callers.get(pk, [])},
                    count=one.count,
                )
                for pk, one in new.items()
            ],
            now,
        )
    return tally


def _version(alert: Alert | None) -> tuple[object, ...]:
    return (alert.pk, alert.seen_at, alert.cause_ended_at) if alert else ()


def _end_calm(kind: AlertKind, new: Mapping[int, _News], told: Mapping[int, Alert], now: datetime) -> int:
    calm = timedelta(hours=kind.traits.calm)
    alerts = [alert for pk, alert in told.items() if pk in new and alert.cause_ended_at is None]
    over = [alert for alert in alerts if new[alert.key_id or 0].first - floor_hour(alert.seen_at) > calm]
    return Alert.objects.end_all(over, now=now, why=calm_words(kind))


def newest_alerts(kind: AlertKind, keys: Sequence[int]) -> dict[int, Alert]:
    """Return the newest alert of a kind of each key that ever had one."""
    mine = Alert.objects.filter(key_id__in=keys, kind=kind).order_by()
    newest = mine.values("key_id").annotate(newest=Max("pk")).values("newest")
    return {alert.key_id: alert for alert in Alert.objects.filter(pk__in=newest) if alert.key_id} if keys else {}


def callers_of(hours: Mapping[int, datetime], outcomes: Sequence[Outcome]) -> dict[int, list[dict[str, Any]]]:
    """Return the busiest callers of keys with some outcomes, each key's in an hour, as facts of an alert hold them.

    Known is an address from which a request was accepted in the 90 days before; without raw events there are none.
    """
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for hour in sorted(set(hours.values())):
        rows = _busiest([pk for pk, one in hours.items() if one == hour], hour, outcomes)
        known = known_addresses({row["key_id"] for row in rows}, hour, only={row["address"] or "" for row in rows})
        for row in rows:
            address = row["address"] or ""
            told = {"address": address, "agent": row["user_agent"], "count": row["count"]}
            found[row["key_id"]].append({**told, "is_known": address in known.get(row["key_id"], ())})
    return found


def _busiest(keys: Sequence[int], hour: datetime, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    events = UsageEvent.objects.filter(key_id__in=keys, at__gte=hour, at__lt=hour + HOUR, outcome__in=outcomes)
    counted = events.values("key_id", "address", "user_agent").annotate(count=Count("nonce"))
    order = [F("count").desc(), F("address").asc(), F("user_agent").asc()]
    placed = counted.annotate(place=Window(RowNumber(), partition_by="key_id", order_by=order))
    rows: Iterable[Any] = placed.filter(place__lte=MOST_CALLERS).order_by("key_id", "place")
    return list(rows)


def known_addresses(keys: Iterable[int], before: datetime, *, only: Iterable[str] | None = None) -> dict[int, set[str]]:
    """Return from which addresses, or which of some, keys were accepted in the 90 days before an instant."""
    found: dict[int, set[str]] = defaultdict(set)
    for pk, address in _accepted(list(keys), before, None if only is None else list(only)):
        found[pk].add(address)
    return found


def _accepted(keys: list[int], before: datetime, only: list[str] | None) -> Iterator[tuple[int, str]]:
    since = before - KNOWN_FOR
    days = UsageDay.objects.filter(key_id__in=keys, dimension=Dimension.CALLER, accepted__gt=0, first_at__lt=before)
    end = StrIndex("value", Value("\n")) - Value(1)
    rolled = days.filter(day__gte=since.date(), value__contains="\n").annotate(address=Left("value", end))
    # What is not rolled up yet.
    mark = max(UsageWatermark.current() or since, since)
    raw = UsageEvent.objects.filter(key_id__in=keys, at__gte=mark, at__lt=before, outcome=Outcome.VALID)
    if only is not None:
        rolled = rolled.filter(address__in=only)
        unknown = Q(address__isnull=True) if "" in only else Q()
        raw = raw.filter(Q(address__in=[one for one in only if one]) | unknown)
    for rows in (rolled, raw):
        for pk, address in rows.values_list("key_id", "address").distinct().order_by().iterator():
            yield pk, address or ""
