"""The tables and charts of a key's page as rows, for its exports: the same figures, and all that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from apikeys.callers import GROUPINGS, callers_of
from apikeys.charts import WEEKDAYS
from apikeys.models import ApiKey, Dimension, Outcome, UsageDay, UsageEvent, UsageHour, UsageSeries, UsageValues
from apikeys.models.evidence import EVERY, Habit, ScopeEvidence
from apikeys.ranges import TimeRange
from apikeys.request_log import Wanted

OUTCOMES: Final = [outcome.value for outcome in Outcome if outcome != Outcome.MALFORMED]
TIMES: Final = ("first_seen", "last_seen")


class Asked(NamedTuple):
    """What of a key's usage; every time is told in the zone of the span."""

    key: ApiKey
    span: TimeRange
    wanted: Wanted
    grouping: str
    # With it the outcomes are those of all keys that took each other's place.
    of_lineage: bool = False

    @property
    def counted(self) -> list[int]:
        """The ids of the keys whose outcomes are counted."""
        return list(self.key.lineage.values_list("pk", flat=True)) if self.of_lineage else [self.key.pk]

    def file_part(self, table: str) -> str:
        """Return what tells the file of a table from others: "callers-30d"."""
        requests = self.wanted.span.name if self.wanted.span else "all"
        if table == "outcomes" and self.of_lineage:
            table = "outcomes-of-all-generations"
        span = {"scopes": "90d", "tries": "since-end", "rhythm": "8w", "requests": requests}
        return f"{table}-{span.get(table, self.span.name)}"


class Table(NamedTuple):
    """A header and rows; the rows of single requests are read while they are sent."""

    header: Sequence[str]
    rows: Iterable[Sequence[object]]


def _outcomes(asked: Asked) -> Table:
    return outcome_table(UsageHour.objects.series_of(asked.counted, asked.span.edges), asked.span)


def outcome_table(series: UsageSeries, span: TimeRange) -> Table:
    """Return a chart's counts, a row a step."""
    return Table(("since", "until", *OUTCOMES, "total"), _outcome_rows(series, span))


def _outcome_rows(series: UsageSeries, span: TimeRange) -> Iterator[list[object]]:
    for place, (since, until) in enumerate(pairwise([*series.starts, series.end])):
        counts = [series.counts[name][place] if name in series.counts else 0 for name in OUTCOMES]
        yield [told(since, span), told(until, span), *counts, sum(counts)]


def _callers(asked: Asked) -> Table:
    found = UsageDay.objects.usage_of(asked.key, Dimension.CALLER, *asked.span.whole_days, most=EVERY)
    return _caller_table(found, asked, asked.grouping)


def _tries(asked: Asked) -> Table:
    ended = asked.key.ended_at
    found = UsageDay.objects.usage_of(asked.key, Dimension.CALLER, ended, most=EVERY) if ended else UsageValues()
    return _caller_table(found, asked, "address")


def _caller_table(found: UsageValues, asked: Asked, grouping: str) -> Table:
    callers = callers_of(found, grouping, EVERY)
    names = ("address", "user_agent") if grouping == "address" else (grouping, "addresses")
    rows: list[list[object]] = [
        [
            one.name,
            one.detail,
            one.accepted,
            one.refused,
            one.share,
            one.is_new,
            *_ends(one.first_at, one.last_at, asked),
        ]
        for one in callers.shown
    ]
    if callers.others_share:
        rows.append(["others", callers.others, None, None, callers.others_share, None, None, None])
    return Table((*names, "accepted", "refused", "share", "new", *TIMES), rows)


def _endpoints(asked: Asked) -> Table:
    found = UsageDay.objects.usage_of(asked.key, Dimension.ENDPOINT, *asked.span.whole_days, most=EVERY)
    rows: list[list[object]] = [
        [one.method, one.path, one.accepted, one.refused, one.share, *_ends(one.first_at, one.last_at, asked)]
        for one in found.values
    ]
    if found.others_count:
        rows.append(["others", found.others, None, None, found.others_count / found.total, None, None])
    return Table(("method", "path", "accepted", "refused", "share", *TIMES), rows)


def _scopes(asked: Asked) -> Table:
    evidence = ScopeEvidence.of(asked.key)
    rows = [
        [one.name, one.is_granted, one.accepted, one.refused, told(one.last_at, asked.span)]
        for one in [*evidence.granted, *evidence.missing]
    ]
    return Table(("scope", "granted", "accepted", "refused", "last_seen"), rows)


def _rhythm(asked: Asked) -> Table:
    week = Habit.of(asked.key).week(asked.span.zone)
    rows = [[WEEKDAYS[day], hour, count] for day, hours in enumerate(week) for hour, count in enumerate(hours)]
    return Table(("weekday", "hour", "accepted"), rows)


def _requests(asked: Asked) -> Table:
    events = asked.wanted.matching(asked.wanted.among(UsageEvent.objects.of(asked.key)))
    newest = events.order_by("-at", "-nonce").iterator(chunk_size=1000)
    rows = (
        [told(one.at, asked.span), one.outcome, one.address, one.user_agent, one.method, one.path, one.scope]
        for one in newest
    )
    return Table(("at", "outcome", "address", "user_agent", "method", "path", "scope"), rows)


TABLES: Final[dict[str, Callable[[Asked], Table]]] = {
    "outcomes": _outcomes,
    "callers": _callers,
    "tries": _tries,
    "endpoints": _endpoints,
    "scopes": _scopes,
    "rhythm": _rhythm,
    "requests": _requests,
}


def words_of(name: str, asked: Asked) -> str:
    """Say what an export holds, for the audit log."""
    said = {
        "callers": [asked.span.words, f"by {GROUPINGS[asked.grouping].lower()}"],
        "scopes": ["90 days"],
        "tries": ["since its end"],
        "rhythm": ["8 weeks"],
        "requests": [
            asked.wanted.span.words if asked.wanted.span else "any time",
            f"outcome {asked.wanted.outcome}" if asked.wanted.outcome else "",
            f"caller {asked.wanted.caller}" if asked.wanted.caller else "",
        ],
    }.get(name, [asked.span.words])
    return ", ".join(filter(None, [name, *said]))


def _ends(first: datetime, last: datetime, asked: Asked) -> tuple[str | None, str | None]:
    return told(first, asked.span), told(last, asked.span)


def told(at: datetime | None, span: TimeRange) -> str | None:
    """Write an instant in the zone of a span."""
    return at.astimezone(span.zone).isoformat() if at else None
