"""Puts the verifier's questions to the database from an event loop, those of one moment together.

A flush to disk costs more than everything else of a request, and one flush serves a whole group. Nobody waits for a
group to fill: an idle lane takes what there is; what comes meanwhile is the next group. Each is answered when its own
group is committed. The idea is DeWitt et al., "Implementation techniques for main memory database systems" (SIGMOD
1984), section 5.2. A thread for each request would wake up as often as there are requests, which costs several times
what is done in between.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import psycopg
from django.db import connection
from psycopg.pq.abc import PGresult

from apikeys import blocking, pipeline
from apikeys.statements import Call, Row, Statement, Steps

# While one group waits for the disk, the next is read and judged.
LANES: Final = 2
MAX_GROUP: Final = 128
# After this a group is given up on, and nobody knows whether it was committed.
TIMEOUT_SECONDS: Final = 10.0
# Django's own, for its cursors.
_NOT_OF_LIBPQ: Final = frozenset({"context", "cursor_factory", "prepare_threshold"})


class Lane(Protocol):
    """A way to the database that one group takes at a time."""

    async def run[T](self, begin: Callable[[], Steps[T]]) -> T:
        """Return what some steps return. Raises what the database or the way to it does."""


class Groups[R, V]:
    """Hands requests in groups to ``judge``, which returns a verdict for each, all committed or none."""

    def __init__(self, judge: Callable[[Sequence[R]], Steps[Sequence[V]]], lanes: Sequence[Lane] = ()) -> None:
        self._judge = judge
        self._idle = list(lanes)
        self._is_open = bool(lanes)
        self._pending: list[tuple[R, asyncio.Future[V]]] = []
        self._led: set[asyncio.Task[None]] = set()

    async def submit(self, request: R) -> V:
        """Return the request's verdict when it is committed; raises what came of its group."""
        if not self._is_open:
            self._is_open, self._idle = True, make_lanes()
        loop = asyncio.get_running_loop()
        verdict: asyncio.Future[V] = loop.create_future()
        self._pending.append((request, verdict))
        if self._idle and len(self._pending) == 1:
            # Not at once: what else has arrived by now goes along.
            loop.call_soon(self._begin)
        return await verdict

    def _begin(self) -> None:
        while self._pending and self._idle:
            group, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]
            task = asyncio.get_running_loop().create_task(self._lead(self._idle.pop(), group))
            self._led.add(task)
            task.add_done_callback(self._led.discard)

    async def _lead(self, lane: Lane, group: Sequence[tuple[R, asyncio.Future[V]]]) -> None:
        try:
            verdicts = await lane.run(lambda: self._judge([request for request, _ in group]))
        except Exception as error:
            for _, waiting in group:
                # Who asked may be gone.
                if not waiting.done():
                    waiting.set_exception(error)
        else:
            for (_, waiting), verdict in zip(group, verdicts, strict=True):
                if not waiting.done():
                    waiting.set_result(verdict)
        finally:
            self._idle.append(lane)
            self._begin()


def make_lanes() -> list[Lane]:
    """Return the lanes for this process's database."""
    if connection.vendor == "sqlite":
        # It has one writer at a time.
        return [SqliteLane()]
    return [PostgresqlLane() for _ in range(LANES)]


class SqliteLane:
    """A thread of its own, which waits."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    async def run[T](self, begin: Callable[[], Steps[T]]) -> T:
        """Return what some steps return, run in one transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, blocking.run, begin)


class PostgresqlLane:
    """A connection that the event loop watches: opened when it is needed, kept, and closed after any failure."""

    def __init__(self) -> None:
        self._raw: psycopg.AsyncConnection[Any] | None = None
        self._socket = -1
        self._readable = select.poll()
        self._prepared: set[Statement] = set()
        self._results: list[PGresult] = []
        self._arrival: asyncio.Future[None] | None = None
        self._is_writing = False

    async def run[T](self, begin: Callable[[], Steps[T]]) -> T:
        """Return what some steps return, each list of calls being one transaction.

        Raises psycopg.Error, OSError or TimeoutError.
        """
        steps = begin()
        try:
            calls = next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                rows = await self._ask_first(calls)
                while True:
                    try:
                        following = steps.send(rows)
                    except StopIteration as done:
                        return done.value  # type: ignore[no-any-return]
                    rows = await self._ask(following)
        except BaseException:
            self.close()
            raise

    async def _ask_first(self, calls: Sequence[Call]) -> Sequence[Sequence[Row]]:
        # A connection that died since it was last used costs nobody a request. Only what steps begin with, which
        # writes nothing, is repeated: of a write that failed nobody knows whether it was committed.
        if self._raw is not None:
            try:
                return await self._ask(calls)
            except psycopg.OperationalError:
                self.close()
        await self._open()
        return await self._ask(calls)

    async def _ask(self, calls: Sequence[Call]) -> Sequence[Sequence[Row]]:
        raw = self._opened()
        self._results = []
        self._arrival = asyncio.get_running_loop().create_future()
        pipeline.send(raw.pgconn, calls, self._prepared)
        self._flush()
        await self._arrival
        return pipeline.found(self._results, calls)

    async def _open(self) -> None:
        parameters = connection.get_connection_params()
        own = {name: value for name, value in parameters.items() if name not in _NOT_OF_LIBPQ}
        self._raw = await psycopg.AsyncConnection.connect(autocommit=True, **own)
        self._raw.pgconn.nonblocking = 1
        self._raw.pgconn.enter_pipeline_mode()
        # libpq forgets it when the connection breaks.
        self._socket = self._raw.pgconn.socket
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def _opened(self) -> psycopg.AsyncConnection[Any]:
        if self._raw is None:
            raise psycopg.OperationalError("The connection was lost.")
        return self._raw

    def _flush(self) -> None:
        """Send what the socket has not taken yet, now and when it takes more."""
        pgconn = self._opened().pgconn
        loop = asyncio.get_running_loop()
        try:
            if pgconn.flush():
                self._is_writing = True
                loop.add_writer(self._socket, self._flush)
            elif self._is_writing:
                self._is_writing = False
                loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._fail(error)

    def _receive(self) -> None:
        """Take all that has come: of a broken socket uvloop tells once, and libpq reads a last message before the end.

        Whoever left that end for the next call would wait for it until the time is up.
        """
        try:
            while True:
                for result in pipeline.arrived(self._opened().pgconn):
                    if not pipeline.is_sync(result):
                        self._results.append(result)
                    elif self._arrival and not self._arrival.done():
                        self._arrival.set_result(None)
                if not self._readable.poll(0):
                    return
        except psycopg.Error as error:
            self._fail(error)

    def _fail(self, error: psycopg.Error) -> None:
        self.close()
        if self._arrival and not self._arrival.done():
            self._arrival.set_exception(error)

    def close(self) -> None:
        """Close the connection, if there is one; what runs on it fails."""
        if self._raw is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._raw.pgconn.finish()
        self._raw, self._prepared, self._is_writing = None, set(), False
