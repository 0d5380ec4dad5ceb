"""Membership of many whole numbers, sent to the database as one value."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Lookup
from django.db.models.sql.compiler import SQLCompiler

AMONG: Final = {"postgresql": "= ANY(%s::bigint[])", "sqlite": "IN (SELECT value FROM json_each(%s))"}


def among(numbers: Iterable[int]) -> object:
    """Return some whole numbers as the one parameter of AMONG, for a statement that is written out."""
    return list(numbers) if connection.vendor == "postgresql" else json.dumps(list(numbers))


class Among(Lookup):
    """Whether a whole number is one of a sequence of them: ``filter(Among(F("key_id"), ids))``.

    Django's ``in`` binds each number by itself. For the fifty keys of a page that takes longer than the database does
    to find them, and psycopg translates a statement with so many values anew each time.
    """

    lookup_name = "among"
    prepare_rhs = False

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL; to PostgreSQL it is the same as ``in``."""
        number, values = self.process_lhs(compiler, connection)
        return f"{number} {AMONG[connection.vendor]}", [*values, among(self.rhs)]
