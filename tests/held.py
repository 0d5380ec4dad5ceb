"""What many tests look at is made once, in a transaction that is rolled back after them."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo what is written within. The outermost one also closes the connection, and with it what was SET."""
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)
    if not connection.in_atomic_block:
        connection.close()
