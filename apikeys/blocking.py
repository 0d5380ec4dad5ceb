"""Puts the verifier's questions to the database from a thread that waits, on Django's own connection of the thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError, connection, transaction

from apikeys import pipeline
from apikeys.statements import Call, Row, Steps


def run[T](begin: Callable[[], Steps[T]]) -> T:
    """Return what some steps return; raises a DatabaseError or InterfaceError, and closes the connection then.

    SQLite has one writer at a time, and there all of it is one transaction. On PostgreSQL each list of calls is one.
    """
    steps = begin()
    try:
        calls = next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    try:
        with ExitStack() as whole:
            if connection.vendor == "sqlite":
                _retried(lambda: whole.enter_context(transaction.atomic()))
            rows = _retried(lambda: _ask(calls))
            while True:
                try:
                    following = steps.send(rows)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                rows = _ask(following)
    except (DatabaseError, InterfaceError):
        connection.close()
        raise


def _ask(calls: Sequence[Call]) -> Sequence[Sequence[Row]]:
    connection.ensure_connection()
    with connection.wrap_database_errors:
        if connection.vendor == "sqlite":
            execute = connection.connection.execute
            return [execute(statement.sqlite, values).fetchall() for statement, values in calls]
        return pipeline.run(connection.connection, calls)


def _retried[T](do: Callable[[], T]) -> T:
    """Do what steps begin with, once more when the thread's connection died since it was last used.

    So a restart of PostgreSQL costs nobody a request. Only what writes nothing is repeated: of a write that failed
    nobody knows whether it was committed.
    """
    was_open = connection.connection is not None
    try:
        return do()
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        # An OperationalError of SQLite tells of a lock or a full disk, not of a lost connection.
        is_lost = connection.vendor != "sqlite" or not isinstance(error, OperationalError)
        if not was_open or connection.in_atomic_block or not is_lost:
            raise
        connection.close()
        return do()
