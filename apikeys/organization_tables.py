"""The tables and charts of the Overview and of Usage as rows, for their exports: the same figures, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from django.db.models import F

from apikeys import attention
from apikeys.breakdown import (
    EVERY_RANKED,
    RANKED_DAYS,
    RANKINGS,
    Part,
    by_environment,
    by_owner,
    ranking,
)
from apikeys.filters import CREATED_CHOICES, in_tab, of_age
from apikeys.key_tables import Table, outcome_table, told
from apikeys.models import BusyKey, JobRun, Organization, OrganizationHour, Status
from apikeys.models.counting_sql import MOST_KEPT
from apikeys.ranges import TimeRange

KEY: Final = ("id", "fingerprint", "name", "environment", "owner", "status")


class Asked(NamedTuple):
    """What of an organization's usage; every time is told in the zone of the span."""

    organization: Organization
    span: TimeRange
    now: datetime


def _outcomes(asked: Asked) -> Table:
    series = OrganizationHour.objects.series_between(asked.organization, asked.span.edges)
    return outcome_table(series, asked.span)


def _environments(asked: Asked) -> Table:
    return _parts(("code", "environment"), by_environment(asked.organization, asked.span))


def _owners(asked: Asked) -> Table:
    return _parts(("address", "owner"), by_owner(asked.organization, asked.span, MOST_KEPT))


def _parts(names: tuple[str, str], parts: Iterable[Part]) -> Table:
    rows = [[one.code, one.label, one.accepted, one.refused, one.share] for one in parts]
    return Table((*names, "accepted", "refused", "share"), rows)


def _ranking(name: str) -> Callable[[Asked], Table]:
    def table(asked: Asked) -> Table:
        found = ranking(name, asked.organization, asked.span, asked.now, most=EVERY_RANKED)
        # The number is of what the keys stand out by; accepted and refused are all their requests.
        header = (*KEY, "number", "accepted", "refused", "last_used", "last_refused")
        return Table(header, (_ranked(one, asked.span) for one in found.rows))

    return table


def _ranked(one: BusyKey, span: TimeRange) -> list[object]:
    key, activity = one.key, one.key.last_activity
    times = (activity.last_used_at, activity.last_refused_at) if activity else (None, None)
    return [
        *(key.public_id, key.fingerprint, key.name, key.environment.name, key.owner_label, key.status.value),
        *(one.number, one.accepted, one.refused, *(told(at, span) for at in times)),
    ]


def _keys(asked: Asked) -> Table:
    rows = ([status.value, label, _count(asked, status, age)] for status in Status for age, label in CREATED_CHOICES)
    return Table(("status", "created", "keys"), rows)


def _count(asked: Asked, status: Status, age: str) -> int:
    return of_age(in_tab(asked.organization.keys.all(), status.value, asked.now), age, asked.now).count()


def _attention(asked: Asked) -> Table:
    return Table(("risk", "matter", "id", "fingerprint", "name", "owner", "when", "at"), _matter_rows(asked))


def _matter_rows(asked: Asked) -> Iterator[list[object]]:
    keys = asked.organization.keys.all()
    for matter in list(attention.matters(asked.organization, asked.now)):
        group = matter.group
        found = group.ordered(keys, asked.now).select_related("organization", "environment", "owner__user", "activity")
        for key in found.annotate(moment=F(group.moment)).iterator(chunk_size=500):
            yield [
                *(group.risk.name.lower(), group.one, key.public_id, key.fingerprint, key.name, key.owner_label),
                *(group.moment_words, told(key.moment, asked.span)),  # type: ignore[attr-defined]
            ]


def _jobs(asked: Asked) -> Table:
    rows = [
        [one.job, one.state.value, told(one.started_at, asked.span), told(one.worked_at, asked.span)]
        for one in JobRun.objects.report(asked.now)
    ]
    return Table(("job", "state", "last_begun", "last_succeeded"), rows)


TABLES: Final[dict[str, Callable[[Asked], Table]]] = {
    "outcomes": _outcomes,
    "environments": _environments,
    "owners": _owners,
    **{name: _ranking(name) for name in RANKINGS},
    "keys": _keys,
    "attention": _attention,
    "jobs": _jobs,
}
# What says how keys are now, whatever the span of time.
_OF_NOW: Final = {"keys", "attention", "jobs"}


def is_kept(table: str, span: TimeRange) -> bool:
    """Say whether a table can be made for a span: which keys stand out is kept for the usual ones."""
    return table not in RANKINGS or span.name in RANKED_DAYS


def words_of(table: str, span: TimeRange) -> str:
    """Say what an export holds, for the audit log."""
    return f"{table}, now" if table in _OF_NOW else f"{table}, {span.words}"


def file_part(table: str, span: TimeRange) -> str:
    """Return what tells the file of a table from others: "busiest-30d"."""
    if table == "keys":
        # The key list's own export is called so.
        return "keys-by-status-and-age"
    return table if table in _OF_NOW else f"{table}-{span.name}"
