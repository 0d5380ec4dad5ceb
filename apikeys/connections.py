"""What every database connection begins and ends with.

A thread's connection ends with the thread. granian ends threads that had nothing to do for a while. Django's connection
objects refer to themselves, so what such a thread leaves behind would stay connected until Python's cycle collector
comes by, which in a process that makes little garbage may be never: connections would grow past workers times threads.
"""

import threading
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

# Of the planner; PostgreSQL's own is a tenth.
_PARALLEL_SETUP_COST: Final = 10_000


class _Closer:
    """Closes a driver's connection when the last reference to this, the thread's own, goes."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __del__(self) -> None:
        self._raw.close()


_of_this_thread = threading.local()


@receiver(connection_created)
def _end_with_the_thread(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # Django also makes short-lived connections beside a thread's own, to create a test's database.
    if connection.alias in connections and connection is connections[connection.alias]:
        setattr(_of_this_thread, connection.alias, _Closer(connection.connection))


@receiver(connection_created)
def _read_small_things_alone(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "postgresql":
        connection.connection.execute(f"SET parallel_setup_cost = {_PARALLEL_SETUP_COST}")
