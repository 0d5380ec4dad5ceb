"""Keyset paging: a page begins after the last row of the one before, so that page 8,000 costs what page 1 does."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.http import QueryDict

PAGE_SIZE = 50
COUNT_LIMIT = 1000


class BadCursorError(ValueError):
    """The address names a place in a list that cannot be one."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column to order by: its field or annotation, which holds no NULL, and its direction."""

    field: str
    kind: type[int | str | datetime]
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page[M: Model]:
    """Some rows of a list, and the cursor of the next page, empty on the last one."""

    rows: list[M]
    cursor: str


def take_page[M: Model](rows: QuerySet[M], order: Sequence[Column], cursor: str, size: int = PAGE_SIZE) -> Page[M]:
    """Return one page of a query in a total order, which ends with a unique column.

    Raises BadCursorError for a cursor that is not one of this order.
    """
    if cursor:
        rows = rows.filter(_after(order, _decode(cursor, order)))
    found = list(rows.order_by(*(f"-{c.field}" if c.descending else c.field for c in order))[: size + 1])
    more = len(found) > size
    found = found[:size]
    return Page(found, _encode([getattr(found[-1], column.field) for column in order]) if more else "")


def count_text(rows: QuerySet[Any], limit: int = COUNT_LIMIT) -> str:
    """Return how many rows there are, exact up to a limit, "1,000+" beyond: a large table is never counted."""
    count = rows.order_by()[: limit + 1].count()
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
    """Return (a, b, c) > (x, y, z) written out, each column in its own direction."""
    condition = Q()
    for column, value in reversed(list(zip(order, values, strict=True))):
        beyond = Q(**{f"{column.field}__{'lt' if column.descending else 'gt'}": value})
        same = Q(**{column.field: value})
        condition = beyond | (same & condition) if condition else beyond
    return condition


def _encode(values: Sequence[object]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(cursor: str, order: Sequence[Column]) -> list[object]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise BadCursorError from None
    if not isinstance(values, list) or len(values) != len(order):
        raise BadCursorError
    return [_typed(value, column.kind) for value, column in zip(values, order, strict=True)]


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
