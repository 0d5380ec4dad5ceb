"""By when a key should be rotated: its creation and its organization's maximum age, in SQL and in Python."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, IntegerField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast

from apikeys.models.extremes import EARLIEST, EpochSeconds, epoch_seconds

if TYPE_CHECKING:
    from apikeys.models.organization import Organization

# A key whose date is no further away should be rotated soon.
ROTATE_SOON: Final = timedelta(days=14)

_DAY: Final = timedelta(days=1)


def rotate_by(created_at: datetime, max_key_age: int | None) -> datetime | None:
    """Return by when a key should be rotated, None without a maximum age; rotation_date says the same in SQL."""
    return None if max_key_age is None else created_at + max_key_age * _DAY


def rotation_date() -> Combinable:
    """Return by when a key should be rotated, as an expression on keys."""
    return ExpressionWrapper(F("created_at") + _max_age(), output_field=DateTimeField())


def days_to_rotation(now: datetime) -> Combinable:
    """Return the whole days until a key should be rotated, negative when that is past, as an expression on keys."""
    day = _DAY // timedelta(seconds=1)
    seconds = EpochSeconds("created_at") + F("organization__max_key_age") * Value(day) - Value(epoch_seconds(now))
    return seconds / Value(day)


def made_for(date: datetime, organization: Organization | None) -> datetime | Combinable:
    """Return when a key was made that should be rotated by a date: of one organization an instant, else an expression.

    Without a maximum age it is EARLIEST, before all keys, or NULL.
    """
    if organization is None:
        return ExpressionWrapper(Value(date) - _max_age(), output_field=DateTimeField())
    return EARLIEST if organization.max_key_age is None else date - organization.max_key_age * _DAY


def _max_age() -> Combinable:
    # On SQLite Django multiplies a length of time by an IntegerField alone.
    days = Cast("organization__max_key_age", IntegerField())
    return ExpressionWrapper(days * Value(_DAY), output_field=DurationField())
