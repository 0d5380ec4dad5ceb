"""Membership of many whole numbers, sent to the database as one value."""

from __future__ import annotations

import json
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Lookup
from django.db.models.sql.compiler import SQLCompiler


class Among(Lookup):
    """Whether a whole number is one of a sequence of them: ``filter(Among(F("key_id"), ids))``.

    Django's ``in`` binds each number by itself. For the fifty keys of a page that takes longer than the database does
    to find them, and psycopg translates a statement with so many values anew each time.
    """

    lookup_name = "among"
    prepare_rhs = False

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL, to which it is the same as ``in``."""
        number, values = self.process_lhs(compiler, connection)
        return f"{number} = ANY(%s::bigint[])", [*values, list(self.rhs)]

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of SQLite."""
        number, values = self.process_lhs(compiler, connection)
        return f"{number} IN (SELECT value FROM json_each(%s))", [*values, json.dumps(list(self.rhs))]  # noqa: S608 - the column that Django names
