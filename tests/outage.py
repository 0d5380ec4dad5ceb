"""Takes the database away from the thread that runs a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def away() -> Iterator[None]:
    """Let no connection to the database be had."""
    connection.close()
    right = dict(connection.settings_dict)
    connection.settings_dict |= {"NAME": "/nowhere/at/all", "PORT": 1}
    try:
        yield
    finally:
        connection.settings_dict |= right


def lose_the_connection() -> None:
    """Close the connection below Django, which does not know."""
    connection.ensure_connection()
    connection.connection.close()
