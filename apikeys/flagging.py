"""Which keys somebody should look at: unused ones and ones near their end, read in constant memory.

What counts as unused or expiring is said once, by ApiKeyQuerySet; here it is only read and sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, CharField, F, Func, IntegerField, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.db.models.sql.compiler import SQLCompiler

from apikeys.models.key import ApiKeyQuerySet

THRESHOLDS = (60, 30, 7, 1)
_CHUNK = 5000


class Flag(StrEnum):
    """Why a key is listed."""

    UNUSED = "unused"
    EXPIRING = "expiring"


class Finding(NamedTuple):
    """One reason to look at one key; a key that is unused and expiring has two.

    ``days`` is the limit that it passed: not used for more than so many days, or expiring within as many.
    Instants are text, ISO 8601 in UTC to the second.
    """

    flag: Flag
    days: int
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


def unused(keys: ApiKeyQuerySet, now: datetime, days: int) -> Iterator[Finding]:
    """Yield the keys without a request for more than some days, by organization, the longest silence first."""
    for row in _rows(keys.unused(now, days), "quiet_since", Value(days)):
        yield Finding(Flag.UNUSED, *row)


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
    for row in _rows(keys.expiring(now, timedelta(days=widest)), "expires_at", tightest):
        yield Finding(Flag.EXPIRING, *row)


def _rows(keys: ApiKeyQuerySet, order: str, days: Combinable) -> Iterator[tuple[Any, ...]]:
    return (
        keys.order_by("organization_id", order, "pk")
        .values_list(
            days,
            *("organization__slug", "public_id", "prefix", "environment__code", "name"),
            Coalesce("owner__user__email", "owner_contact"),
            *(InstantText(F(name)) for name in ("created_at", "activity__last_used_at", "expires_at")),
        )
        .iterator(_CHUNK)
    )
