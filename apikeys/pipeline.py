"""PostgreSQL's statements of the hot path, prepared, and sent together by libpq itself.

psycopg's cursor would do the same with five times the Python; Django's puts the parameters into the text, and such a
text is never prepared. Parameters and results are PostgreSQL's text format.
"""

from __future__ import annotations

import re
import select
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

type Row = list[str | None]

_prepared: WeakKeyDictionary[psycopg.Connection[Any], set[bytes]] = WeakKeyDictionary()


class Statement:
    """A statement with named parameters, ``%(name)s``, that each connection prepares once."""

    def __init__(self, name: str, sql: str) -> None:
        self.name = name.encode()
        self.parameters = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
        for number, parameter in enumerate(self.parameters, 1):
            sql = sql.replace(f"%({parameter})s", f"${number}")
        self.sql = sql.encode()

    def texts(self, values: Mapping[str, Any]) -> Any:
        """Return the parameters as libpq wants them."""
        return [None if (value := values[name]) is None else str(value).encode() for name in self.parameters]

    def prepare(self, raw: psycopg.Connection[Any]) -> None:
        """Prepare it on a connection that has not seen it."""
        names = _prepared.get(raw)
        if names is None:
            # PostgreSQL would make a new plan at each call, which takes longer than all the rest.
            _rows(raw.pgconn.exec_(b"SET plan_cache_mode = force_generic_plan"))
            names = _prepared[raw] = set()
        if self.name not in names:
            _rows(raw.pgconn.prepare(self.name, self.sql))
            names.add(self.name)


class Call(NamedTuple):
    """A statement with its parameters."""

    statement: Statement
    values: Mapping[str, Any]


def array(values: Iterable[Any]) -> str:
    """Return some values as the text of a PostgreSQL array."""
    texts = [None if value is None else str(value) for value in values]
    if None not in texts:
        body = '","'.join(texts)  # type: ignore[arg-type] # there is no None
        if "\\" not in body and body.count('"') == 2 * (len(texts) - 1):
            return f'{{"{body}"}}' if texts else "{}"
    return "{" + ",".join("NULL" if text is None else _quoted(text) for text in texts) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def run(raw: psycopg.Connection[Any], calls: Sequence[Call]) -> list[list[Row]]:
    """Return the rows of each call; several are one transaction, sent together and waited for once.

    Raises a psycopg.Error when one fails, and then none of them has an effect.
    """
    for call in calls:
        call.statement.prepare(raw)
    if len(calls) == 1:
        statement, values = calls[0]
        # Waits without Python's lock.
        return [_rows(raw.pgconn.exec_prepared(statement.name, statement.texts(values)))]
    raw.pgconn.enter_pipeline_mode()
    for statement, values in calls:
        raw.pgconn.send_query_prepared(statement.name, statement.texts(values))
    raw.pgconn.pipeline_sync()
    results = _pipeline_results(raw.pgconn)
    raw.pgconn.exit_pipeline_mode()
    return [_rows(result) for result in results]


def _pipeline_results(pgconn: PGconn) -> list[PGresult]:
    """Return the result of each statement of a pipeline, waiting without Python's lock until all of it is done."""
    ready = select.poll()
    ready.register(pgconn.socket, select.POLLIN)
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            ready.poll()
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            if pgconn.status != ConnStatus.OK:
                raise psycopg.OperationalError(pgconn.get_error_message())
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _rows(result: PGresult) -> list[Row]:
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise psycopg.OperationalError(result.error_message.decode("utf-8", "replace"))
    columns = range(result.nfields)
    return [
        [None if (value := result.get_value(row, column)) is None else value.decode() for column in columns]
        for row in range(result.ntuples)
    ]
