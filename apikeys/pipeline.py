"""PostgreSQL's statements of the hot path, prepared, and sent together by libpq itself.

psycopg's cursor would do the same with five times the Python; Django's puts the parameters into the text, and such a
text is never prepared. What is sent together is one transaction, and is waited for once.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from apikeys.statements import Call, Row, Statement

# PostgreSQL would make a new plan at each call, which takes longer than all the rest. Instants are read as text.
SETTINGS = (b"SET plan_cache_mode = force_generic_plan", b"SET TIME ZONE 'UTC'")

_prepared: WeakKeyDictionary[psycopg.Connection[Any], set[Statement]] = WeakKeyDictionary()


def run(raw: psycopg.Connection[Any], calls: Sequence[Call]) -> list[list[Row]]:
    """Return the rows of each call; several are one transaction, sent together.

    Raises a psycopg.Error when one fails; then none of them has an effect, and the connection is to be closed.
    """
    prepared = _prepared.setdefault(raw, set())
    raw.pgconn.enter_pipeline_mode()
    send(raw.pgconn, calls, prepared)
    results = list(_awaited(raw.pgconn))
    raw.pgconn.exit_pipeline_mode()
    return found(results, calls)


def send(pgconn: PGconn, calls: Sequence[Call], prepared: set[Statement]) -> None:
    """Hand calls to a connection in pipeline mode, and before them what it has to prepare; libpq sends what it can."""
    if not prepared:
        for setting in SETTINGS:
            pgconn.send_query_params(setting, None)
    for call in calls:
        if call.statement not in prepared:
            pgconn.send_prepare(call.statement.name, call.statement.postgresql)
            prepared.add(call.statement)
    for statement, values in calls:
        pgconn.send_query_prepared(statement.name, statement.texts(values))
    pgconn.pipeline_sync()


def found(results: Sequence[PGresult], calls: Sequence[Call]) -> list[list[Row]]:
    """Return the rows of each call out of all that came for them. Raises a psycopg.Error when one failed."""
    return [_rows(result) for result in results][-len(calls) :]


def arrived(pgconn: PGconn) -> Iterator[PGresult]:
    """Yield the results that have come, the last of a pipeline being that of its sync; never waits."""
    pgconn.consume_input()
    ended = False
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is not None:
            ended = False
            yield result
            if is_sync(result):
                return
        elif pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError(pgconn.get_error_message())
        elif ended:
            # Once for the end of a statement's results, twice for the end of all: what came was a notice.
            return
        else:
            ended = True


def is_sync(result: PGresult) -> bool:
    """Say whether a result is the end of a pipeline."""
    return result.status == ExecStatus.PIPELINE_SYNC


def _rows(result: PGresult) -> list[Row]:
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise psycopg.OperationalError(result.error_message.decode("utf-8", "replace"))
    columns = range(result.nfields)
    return [
        [None if (value := result.get_value(row, column)) is None else value.decode() for column in columns]
        for row in range(result.ntuples)
    ]


def _awaited(pgconn: PGconn) -> Iterator[PGresult]:
    """Yield the result of each call, waiting without Python's lock until the pipeline is done."""
    ready = select.poll()
    ready.register(pgconn.socket, select.POLLIN)
    while True:
        for result in arrived(pgconn):
            if is_sync(result):
                return
            yield result
        ready.poll()
