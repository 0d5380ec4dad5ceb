"""Which keys somebody should look at: unused ones, ones near their end and too old ones, read in constant memory.

What counts as unused, expiring or too old is said once, by ApiKeyQuerySet; here it is only read, counted and sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, CharField, Count, F, Func, IntegerField, Q, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.db.models.lookups import LessThanOrEqual
from django.db.models.sql.compiler import SQLCompiler

from apikeys.models import Silence
from apikeys.models.key_age import ROTATE_SOON, days_to_rotation, made_for, rotation_date
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.models.silence import (
    UNUSED,
    exempt_condition,
    for_each,
    silence_conditions,
    silence_limit,
    silent_days,
    unused_kind,
)

THRESHOLDS = (60, 30, 7, 1)
_CHUNK = 5000
_HOUR_SECONDS = 3600


class Flag(StrEnum):
    """Why a key is listed."""

    UNUSED = "unused"
    EXPIRING = "expiring"
    ROTATE = "rotate"


class Quiet(NamedTuple):
    """How an unused key is silent: its Silence, for how long, and how long it usually is at most, where that is known.

    ``exempt_until`` is when it stops to be exempt, None when it is not.
    """

    kind: str
    days: int
    usual_gap_hours: int | None
    exempt_until: str | None


class Due(NamedTuple):
    """By when a key should be rotated, and the whole days until then, negative when that is past."""

    rotate_by: str
    days_left: int


class Finding(NamedTuple):
    """One reason to look at one key; a key that is unused and expiring has two.

    ``days`` is the limit that it passed: silent for more than so many days, or expiring or to be rotated within as
    many, 0 when it should have been. ``quiet`` is told of unused keys alone, ``due`` of those to rotate. Instants are
    text, ISO 8601 in UTC to the second.
    """

    flag: Flag
    days: int
    quiet: Quiet | None
    due: Due | None
    organization: str
    public_id: str
    prefix: str
    environment: str
    name: str
    owner: str
    created_at: str
    last_used_at: str | None
    expires_at: str | None


class InstantText(Func):
    """An instant as text. Where a million are printed, Python's datetimes would take as long as the database."""

    arity = 1
    output_field = CharField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL."""
        template = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
        return self.as_sql(compiler, connection, template=template)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        """Return the SQL of SQLite."""
        return self.as_sql(
            compiler, connection, template="strftime('%%%%Y-%%%%m-%%%%dT%%%%H:%%%%M:%%%%SZ', %(expressions)s)"
        )


class LeftOut(NamedTuple):
    """How many silent keys are not flagged as unused, and why."""

    seasonal: int
    not_measurable: int
    exempt: int


def unused(keys: ApiKeyQuerySet, now: datetime, days: int | None, *, with_exempt: bool = False) -> Iterator[Finding]:
    """Yield the keys that nobody uses, by organization, the longest silence first.

    ``days`` None is those of each organization.
    """
    found = keys.with_silence(*UNUSED, now=now, days=days) if with_exempt else keys.unused(now, days)
    columns = (
        silence_limit(days),
        unused_kind(),
        silent_days(now),
        F("rhythm__usual_gap") / Value(_HOUR_SECONDS),
        InstantText(Case(When(exempt_condition(now), then="exemption__until"))),
    )
    for limit, kind, silent, gap, exempt, *row in _rows(found, "quiet_since", *columns):
        yield Finding(Flag.UNUSED, limit, Quiet(kind, silent, gap, exempt), None, *row)


def left_out(keys: ApiKeyQuerySet, now: datetime, days: int | None) -> LeftOut:
    """Count the silent keys that ``unused`` leaves out."""
    kinds = {kind: for_each(None, days, partial(_silent_so, now, kind)) for kind in Silence}
    exempt = exempt_condition(now) & (kinds[Silence.NEVER_USED] | kinds[Silence.DORMANT])
    counted = (kinds[Silence.SEASONAL], kinds[Silence.NOT_MEASURABLE], exempt)
    wanted = keys.usable(now).filter(counted[0] | counted[1] | counted[2])
    counts = wanted.aggregate(
        **{name: Count("pk", filter=condition) for name, condition in zip(LeftOut._fields, counted, strict=True)}
    )
    return LeftOut(**counts)


def _silent_so(now: datetime, kind: Silence, days: int) -> Q:
    return silence_conditions(now, days)[kind]


def expiring(keys: ApiKeyQuerySet, now: datetime, thresholds: Sequence[int] = THRESHOLDS) -> Iterator[Finding]:
    """Yield the keys that expire within the widest of some numbers of days, each with the tightest it is within.

    By organization, the nearest end first.
    """
    *tighter, widest = sorted(thresholds)
    tightest = Case(
        *(When(expires_at__lte=now + timedelta(days=days), then=days) for days in tighter),
        default=widest,
        output_field=IntegerField(),
    )
    for days, *row in _rows(keys.expiring(now, timedelta(days=widest)), "expires_at", tightest):
        yield Finding(Flag.EXPIRING, days, None, None, *row)


def to_rotate(keys: ApiKeyQuerySet, now: datetime, days: int = ROTATE_SOON.days) -> Iterator[Finding]:
    """Yield the keys that should be rotated within some days, or should have been.

    By organization, the oldest first.
    """
    overdue = When(LessThanOrEqual(F("created_at"), made_for(now, None)), then=0)
    limit = Case(overdue, default=days, output_field=IntegerField())
    columns = (limit, InstantText(rotation_date()), days_to_rotation(now))
    for passed, date, left, *row in _rows(keys.to_rotate(now, timedelta(days=days)), "created_at", *columns):
        yield Finding(Flag.ROTATE, passed, None, Due(date, left), *row)


def _rows(keys: ApiKeyQuerySet, order: str, *columns: Combinable) -> Iterator[tuple[Any, ...]]:
    return (
        keys.order_by("organization_id", order, "pk")
        .values_list(
            *columns,
            *("organization__slug", "public_id", "prefix", "environment__code", "name"),
            Coalesce("owner__user__email", "owner_contact"),
            *(InstantText(F(name)) for name in ("created_at", "activity__last_used_at", "expires_at")),
        )
        .iterator(_CHUNK)
    )
