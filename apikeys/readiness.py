"""Whether this process can serve: its database answers, and has every migration. For load balancers."""

from __future__ import annotations

import logging
import time
from select import POLLIN, poll
from typing import Final

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from psycopg import OperationalError
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from apikeys import tombstones

# Below the usual timeout of whoever asks; making a new connection has its own (connect_timeout).
TIMEOUT_SECONDS: Final = 2.0
_FAILURES: Final = (DatabaseError, InterfaceError, OperationalError)

log = logging.getLogger(__name__)


class _Migrations:
    """Whether all are applied. Asked until they are, and then never again: nobody takes one back under a server."""

    applied = False


def missing() -> str | None:
    """Return what is not ready, ``database``, ``migrations`` or ``tombstones``; None when everything is."""
    try:
        _ask_database()
        if not _migrations_are_applied():
            return "migrations"
        return None if tombstones.are_applied() else "tombstones"
    except tombstones.TombstoneError as error:
        log.warning("Not ready: %s", error)
        return "tombstones"
    except _FAILURES as error:
        connection.close()
        log.warning("Not ready, the database failed: %s", error)
        return "database"


def _ask_database() -> None:
    try:
        _select()
    except _FAILURES:
        # A connection from before the database's restart says nothing of the database now.
        connection.close()
        _select()


def _select() -> None:
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        _select_in_time(connection.connection.pgconn)
    else:
        with connection.wrap_database_errors:
            connection.connection.execute("SELECT 1").fetchone()


def _select_in_time(pgconn: PGconn) -> None:
    """Ask as libpq can: a server that hangs, or a network that swallows packets, holds no thread for long."""
    until = time.monotonic() + TIMEOUT_SECONDS
    pgconn.send_query(b"SELECT 1")
    waiting = poll()
    waiting.register(pgconn.socket, POLLIN)
    results: list[PGresult] = []
    while True:
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if [one.status for one in results] != [ExecStatus.TUPLES_OK]:
                    raise OperationalError("The database did not answer SELECT 1.")
                return
            results.append(result)
        if not waiting.poll(max(0, until - time.monotonic()) * 1000):
            raise OperationalError(f"The database did not answer within {TIMEOUT_SECONDS} seconds.")
        pgconn.consume_input()


def _migrations_are_applied() -> bool:
    if not _Migrations.applied:
        executor = MigrationExecutor(connection)
        _Migrations.applied = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _Migrations.applied
