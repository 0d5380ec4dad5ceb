"""Counts the statements that a thread's connection really sends, below Django: the hot path goes past its cursors."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Collect each statement that is executed, as far as the engine tells; savepoints and transactions included."""
    connection.ensure_connection()
    found: list[str] = []
    if connection.vendor == "sqlite":
        connection.connection.set_trace_callback(found.append)
        try:
            yield found
        finally:
            connection.connection.set_trace_callback(None)
        return
    with tempfile.TemporaryFile("w+b", buffering=0) as trace:
        connection.connection.pgconn.trace(trace.fileno())
        try:
            yield found
        finally:
            connection.connection.pgconn.untrace()
        trace.seek(0)
        # One Execute (prepared) or Query (simple) message from the frontend is one statement.
        lines = trace.read().decode("utf-8", "replace").splitlines()
        found += [line for line in lines if "\tF\t" in line and ("\tExecute\t" in line or "\tQuery\t" in line)]
