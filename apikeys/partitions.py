"""PostgreSQL's partitions of raw events, one a day (UTC), and the default one for events whose day has none.

Whoever changes partitions must lock the table for a moment. It gives up when it does not get the lock at once: while it
waits, so do all verifications behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

DAYS_AHEAD: Final = 14
# Of waiting for a lock, and so of the longest that a verification waits for it.
LOCK_MILLISECONDS: Final = 250
_DAY: Final = timedelta(days=1)
_DEFAULT: Final = "apikeys_usageevent_default"
_LOCK_NOT_AVAILABLE: Final = "55P03"

_PARTITIONS: Final = r"""
SELECT substring(c.relname from '\d{8}$') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'apikeys_usageevent'::regclass AND c.relname ~ '^apikeys_usageevent_\d{8}$'
"""
_DAYS_IN_DEFAULT: Final = f"SELECT DISTINCT CAST(at AT TIME ZONE 'UTC' AS date) FROM {_DEFAULT}"  # noqa: S608 - constant
_MAKE: Final = """
CREATE TABLE {name} (LIKE apikeys_usageevent INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
WITH moved AS (DELETE FROM {default} WHERE at >= '{since}' AND at < '{until}' RETURNING *)
INSERT INTO {name} SELECT * FROM moved;
ALTER TABLE apikeys_usageevent ATTACH PARTITION {name} FOR VALUES FROM ('{since}') TO ('{until}')
"""


class LockedError(Exception):
    """Somebody held the table for too long; nothing was changed, and another time may do."""


def exist() -> bool:
    """Say whether this engine has partitions."""
    return connection.vendor == "postgresql"


def days() -> list[date]:
    """Return the days that have a partition, in order."""
    return sorted(datetime.strptime(name, "%Y%m%d").replace(tzinfo=UTC).date() for (name,) in _rows(_PARTITIONS))


def days_in_default() -> list[date]:
    """Return the days of events in the default partition, in order."""
    return sorted(day for (day,) in _rows(_DAYS_IN_DEFAULT))


def make(today: date, since: date | None = None) -> int:
    """Make the partitions of today and the days ahead, and of earlier days with events that have none.

    Events of these days are moved out of the default partition, one day a transaction; of days before ``since`` they
    stay. Today's wait until tomorrow: they are still being written. Returns how many were made; raises LockedError.
    """
    if not exist():
        return 0
    there, strays = set(days()), set(days_in_default())
    ahead = {today + _DAY * number for number in range(DAYS_AHEAD + 1)}
    past = {day for day in strays if day < today and (since is None or day >= since)}
    if today in strays:
        ahead -= {today}
        past = set()
    missing = sorted((ahead | past) - there)
    for day in missing:
        _make(day)
    return len(missing)


def drop(cursor: CursorWrapper, day: date) -> bool:
    """Remove a day's events, in the caller's transaction; return whether there was anything."""
    if day in days():
        cursor.execute(f"DROP TABLE {_name(day)}")
        return True
    since, until = _bounds(day)
    cursor.execute(f"DELETE FROM {_DEFAULT} WHERE at >= %s AND at < %s", [since, until])  # noqa: S608 - constant
    return bool(cursor.rowcount)


@contextmanager
def brief_lock() -> Iterator[CursorWrapper]:
    """Open a transaction that waits for no lock longer than LOCK_MILLISECONDS. Raises LockedError."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            if exist():
                cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            yield cursor
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") == _LOCK_NOT_AVAILABLE:
            raise LockedError from error
        raise


def _make(day: date) -> None:
    since, until = _bounds(day)
    with brief_lock() as cursor:
        cursor.execute(f"LOCK TABLE {_DEFAULT} IN ACCESS EXCLUSIVE MODE")
        statements = _MAKE.format(name=_name(day), default=_DEFAULT, since=since, until=until)
        for statement in statements.strip().split(";\n"):
            cursor.execute(statement)


def _bounds(day: date) -> tuple[str, str]:
    return f"{day} 00:00:00+00", f"{day + _DAY} 00:00:00+00"


def _name(day: date) -> str:
    return f"apikeys_usageevent_{day:%Y%m%d}"


def _rows(statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
