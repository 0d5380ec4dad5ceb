"""Instants that may be missing, as expressions that an index holds: "never" sorts at an end of time.

The end of time is written into the SQL and is no parameter: SQLite knows an index's expression by its text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Func
from django.db.models.sql.compiler import SQLCompiler

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class _OrExtreme(Func):
    arity = 1
    output_field = models.DateTimeField()
    extreme: datetime

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL."""
        template = f"COALESCE(%(expressions)s, '{self.extreme:%Y-%m-%d 00:00:00}+00'::timestamptz)"
        return self.as_sql(compiler, connection, template=template)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any) -> Any:
        """Return the SQL of SQLite."""
        template = f"COALESCE(%(expressions)s, '{self.extreme:%Y-%m-%d 00:00:00}')"
        return self.as_sql(compiler, connection, template=template)


class OrEarliest(_OrExtreme):
    """An instant; long ago where there is none."""

    extreme = EARLIEST


class OrLatest(_OrExtreme):
    """An instant; after all others where there is none."""

    extreme = LATEST
