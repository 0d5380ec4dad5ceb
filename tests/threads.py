"""Runs calls at the same moment, each in a thread with a database connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection, connections, transaction


def run_together(*calls: Callable[[], Any]) -> list[Any]:
    """Return what each call returned or raised, in order. The test needs committed data: see ``committed``."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            start.wait(10)
            return call()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def run_meanwhile(first: Callable[[], Any], second: Callable[[], Any], *, seconds: float = 0.25) -> list[Any]:
    """Return what two calls returned or raised, the second of them made while the first one's transaction is open.

    It commits when the second has ended or, waiting for it, has had some time.
    """
    called, ended = threading.Event(), threading.Event()

    def hold() -> Any:
        with transaction.atomic(), connection.cursor() as cursor:
            # psycopg begins a transaction with Django's first statement, and the verifier's are not Django's.
            cursor.execute("SELECT 1")
            try:
                result = first()
            finally:
                called.set()
            ended.wait(seconds)
        return result

    def follow() -> Any:
        called.wait(10)
        try:
            return second()
        finally:
            ended.set()

    return run_together(hold, follow)
