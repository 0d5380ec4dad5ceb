"""Statements with named parameters for both engines, and the shape of code that asks without knowing who answers.

A generator of ``Steps`` yields calls and is sent the rows of each: so the verifier's questions are written once, and a
thread that waits (blocking.py) or an event loop that does not (lanes.py) puts them to the database.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

type Row = Sequence[Any]
type Steps[T] = Generator[Sequence[Call], Sequence[Sequence[Row]], T]


class Statement:
    """A statement with named parameters, ``%(name)s``, which PostgreSQL prepares once a connection.

    Parameters and results are PostgreSQL's text format; SQLite's are Python's own values.
    """

    def __init__(self, name: str, sql: str) -> None:
        self.name = name.encode()
        self.parameters = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
        self.sqlite = re.sub(r"%\((\w+)\)s", r":\1", sql)
        for number, parameter in enumerate(self.parameters, 1):
            sql = sql.replace(f"%({parameter})s", f"${number}")
        self.postgresql = sql.encode()

    def texts(self, values: Mapping[str, Any]) -> Any:
        """Return the parameters as libpq wants them."""
        return [None if (value := values[name]) is None else str(value).encode() for name in self.parameters]


class Call(NamedTuple):
    """A statement with its parameters."""

    statement: Statement
    values: Mapping[str, Any]


def array(values: Sequence[Any]) -> str:
    """Return some values as the text of a PostgreSQL array."""
    if not values:
        return "{}"
    # Of the requests of one moment most is the same.
    if values.count(values[0]) == len(values):
        text = "NULL" if values[0] is None else _quoted(str(values[0]))
        return "{" + ",".join([text] * len(values)) + "}"
    if None in values:
        return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"
    body = '","'.join(map(str, values))
    if "\\" in body or body.count('"') != 2 * (len(values) - 1):
        return "{" + ",".join(_quoted(str(value)) for value in values) + "}"
    return f'{{"{body}"}}'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
