"""Keyset paging: a page begins after the last row of the one before, so that page 8,000 costs what page 1 does."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Model, Q, QuerySet
from django.http import QueryDict

PAGE_SIZE = 50
COUNT_LIMIT = 10_000


class BadCursorError(ValueError):
    """The address names a place in a list that cannot be one."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column to order by: its field or annotation, which holds no NULL, and its direction."""

    field: str
    kind: type[int | str | datetime]
    descending: bool = False


class Ordered[M: Model](NamedTuple):
    """A query and its total order, whose last column is unique."""

    rows: QuerySet[M]
    order: Sequence[Column]

    def in_order(self, *, after: Sequence[object] = ()) -> QuerySet[M]:
        """Return the rows in their order, those after a place in it."""
        rows = self.rows.filter(_after(self.order, after)) if after else self.rows
        return rows.order_by(*(f"-{column.field}" if column.descending else column.field for column in self.order))


@dataclass(frozen=True, slots=True)
class Page[M: Model]:
    """Some rows of a list, and the cursor of the next page, empty on the last one."""

    rows: list[M]
    cursor: str


def take_page[M: Model](parts: Sequence[Ordered[M]], cursor: str, size: int = PAGE_SIZE) -> Page[M]:
    """Return one page of some queries, one after the other.

    Parts are for what no index orders: each is read in its index's order, and a later one only when a page is not full.
    Raises BadCursorError for a cursor that is not one of these parts.
    """
    first, after = _decode(cursor, parts) if cursor else (0, [])
    found: list[tuple[int, M]] = []
    for number, part in enumerate(parts[first:], first):
        wanted = part.in_order(after=after if number == first else ())[: size + 1 - len(found)]
        found += ((number, row) for row in wanted)
        if len(found) > size:
            break
    rows = [row for _, row in found[:size]]
    if len(found) <= size:
        return Page(rows, "")
    number, last = found[size - 1]
    return Page(rows, _encode([number, *(getattr(last, column.field) for column in parts[number].order)]))


def count_text(rows: QuerySet[Any], limit: int = COUNT_LIMIT) -> str:
    """Return how many rows there are, exact up to a limit, "10,000+" beyond: a large table is never counted."""
    return number_text(rows.order_by()[: limit + 1].count(), limit)


def count_each(queries: Mapping[str, QuerySet[Any]], limit: int = COUNT_LIMIT) -> dict[str, int]:
    """Count the rows of several queries in one statement, each up to one more than a limit.

    A query's own order says by which index it is read: without one, half a table may be read in search of the rows.
    """
    parts: list[str] = []
    values: list[Any] = []
    for rows in queries.values():
        try:
            text, more = rows.values("pk")[: limit + 1].query.sql_with_params()
        except EmptyResultSet:
            text, more = "SELECT 1 WHERE 1 = 0", ()
        parts.append(f"(SELECT COUNT(*) FROM ({text}) counted)")  # noqa: S608 - the ORM's own SQL
        values += more
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", values)
        return dict(zip(queries, cursor.fetchone() or (), strict=True))


def expected_count(rows: QuerySet[Any]) -> int:
    """Return how many rows PostgreSQL expects, without reading any; 0 on SQLite, which does not tell."""
    if connection.vendor == "sqlite":
        return 0
    told = rows.order_by().values("pk").explain(format="json")
    # What can find nothing is not sent to the database, which then has no plan.
    return int(json.loads(told)[0]["Plan"]["Plan Rows"]) if told else 0


def number_text(count: int, limit: int = COUNT_LIMIT) -> str:
    """Write a number that was counted up to one more than a limit."""
    return f"{limit:,}+" if count > limit else f"{count:,}"


def changed_url(path: str, query: QueryDict, **changes: str | None) -> str:
    """Return an address with some parameters set, or taken out (None); the cursor never survives."""
    query = query.copy()
    query.pop("after", None)
    for name, value in changes.items():
        if value is None:
            query.pop(name, None)
        else:
            query[name] = value
    text = query.urlencode()  # empty lists are no text
    return f"{path}?{text}" if text else path


def _after(order: Sequence[Column], values: Sequence[object]) -> Q:
    """Return (a, b, c) > (x, y, z) written out, each column in its own direction.

    a >= x goes without saying, but not for an index, which then begins there.
    """
    condition = Q()
    for column, value in reversed(list(zip(order, values, strict=True))):
        beyond = Q(**{f"{column.field}__{'lt' if column.descending else 'gt'}": value})
        same = Q(**{column.field: value})
        condition = beyond | (same & condition) if condition else beyond
    first = order[0]
    return Q(**{f"{first.field}__{'lte' if first.descending else 'gte'}": values[0]}) & condition


def _encode(values: Sequence[object]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(cursor: str, parts: Sequence[Ordered[Any]]) -> tuple[int, list[object]]:
    """Return the number of the part, and where in it to go on."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise BadCursorError from None
    if not isinstance(values, list) or not values:
        raise BadCursorError
    number, *values = values
    if type(number) is not int or number not in range(len(parts)):
        raise BadCursorError
    order = parts[number].order
    if len(values) != len(order):
        raise BadCursorError
    return number, [_typed(value, column.kind) for value, column in zip(values, order, strict=True)]


def _typed(value: object, kind: type[int | str | datetime]) -> object:
    if kind is datetime and isinstance(value, str):
        return _moment(value)
    limit = 2**63
    if type(value) is not kind or (isinstance(value, int) and abs(value) >= limit) or not _storable(str(value)):
        raise BadCursorError
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise BadCursorError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and last hours of time exist in some zones only
        raise BadCursorError from None


def _storable(text: str) -> bool:
    """Say whether a text can be sent to a database: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
