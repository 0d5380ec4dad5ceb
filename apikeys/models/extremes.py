"""Instants as the databases compare them. One that may be missing, "never", sorts at an end of time in an index.

The end of time is written into the SQL and is no parameter: SQLite knows an index's expression by its text.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Func
from django.db.models.sql.compiler import SQLCompiler

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Final = EPOCH
LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class OrLatest(Func):
    """An instant; LATEST, after all others, where there is none."""

    arity = 1
    output_field = models.DateTimeField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL."""
        template = f"COALESCE(%(expressions)s, '{LATEST:%Y-%m-%d 00:00:00}+00'::timestamptz)"
        return self.as_sql(compiler, connection, template=template)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        """Return the SQL of SQLite."""
        template = f"COALESCE(%(expressions)s, '{LATEST:%Y-%m-%d 00:00:00}')"
        return self.as_sql(compiler, connection, template=template)


class MinuteOrEarliest(Func):
    """The minute in which an instant lies; EARLIEST, before all others, where there is none."""

    arity = 1
    output_field = models.DateTimeField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL, which lets a column be generated only by what no session's zone changes."""
        minute = "date_trunc('minute', %(expressions)s AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
        template = f"COALESCE({minute}, '{EARLIEST:%Y-%m-%d 00:00:00}+00'::timestamptz)"
        return self.as_sql(compiler, connection, template=template)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        """Return the SQL of SQLite, of Django's text of an instant."""
        template = f"COALESCE(substr(%(expressions)s, 1, 16) || ':00', '{EARLIEST:%Y-%m-%d 00:00:00}')"
        return self.as_sql(compiler, connection, template=template)


class EpochSeconds(Func):
    """The whole seconds from 1970 to an instant."""

    arity = 1
    output_field = models.BigIntegerField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL."""
        return self.as_sql(compiler, connection, template="FLOOR(EXTRACT(EPOCH FROM %(expressions)s))::bigint")

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        """Return the SQL of SQLite, which would round the fraction of a second."""
        template = "CAST(strftime('%%%%s', substr(%(expressions)s, 1, 19)) AS INTEGER)"
        return self.as_sql(compiler, connection, template=template)


def epoch_seconds(at: datetime) -> int:
    """Return the whole seconds from 1970 to an instant; EpochSeconds says the same in SQL."""
    return (at - EPOCH) // timedelta(seconds=1)


def utc(at: datetime | str) -> datetime:
    """Return an instant as a statement that is written out gives it, on SQLite as text."""
    return datetime.fromisoformat(at).replace(tzinfo=UTC) if isinstance(at, str) else at


def floor_minute(at: datetime) -> datetime:
    """Return the beginning of the minute in which an instant lies."""
    return at.replace(second=0, microsecond=0)
