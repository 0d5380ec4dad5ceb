"""Requests of one moment are judged together on the event loop, and each learns what became of its own."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace

import psycopg
import pytest
import uvloop
from django.db import connection

from apikeys import lanes
from apikeys.lanes import Groups, PostgresqlLane, SqliteLane
from apikeys.models import Outcome, UsageEvent
from apikeys.statements import Call, Statement
from apikeys.verification import Presented, judge
from tests.commands.running import database_url
from tests.factories import make_key, make_revoked_key

NUMBER = Statement("test_number", "SELECT CAST(%(number)s AS integer)")
FAILURE = Statement("test_failure", "SELECT 1 / CAST(%(number)s AS integer)")
on_postgresql = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no server")


class Gate:
    """A lane that lets a group through when it is told to, and remembers the groups."""

    def __init__(self):
        self.open = asyncio.Event()
        self.sizes = []

    async def run(self, begin):
        await self.open.wait()
        verdicts = finished(begin())
        self.sizes.append(len(verdicts))
        return verdicts


def finished(steps):
    try:
        next(steps)
    except StopIteration as done:
        return done.value
    raise AssertionError("These steps ask nothing.")


def doubled(group):
    """Judge without asking anybody: what is asked is doubled, and a zero fails the whole group."""
    if 0 in group:
        raise OSError("disk full")
    return [2 * number for number in group]
    yield


def halved(numbers):
    """Ask the database for each number, in one list of calls."""
    rows = yield [Call(NUMBER, {"number": number}) for number in numbers]
    return [int(row[0][0]) for row in rows]


def test_what_comes_while_a_group_is_under_way_is_the_next_group():
    async def run():
        gate = Gate()
        groups = Groups(doubled, [gate])
        first = asyncio.create_task(groups.submit(1))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(groups.submit(number)) for number in range(2, 9)]
        await asyncio.sleep(0.01)
        gate.open.set()
        assert [await first, *[await other for other in others]] == [2 * number for number in range(1, 9)]
        assert gate.sizes == [1, 7]

    asyncio.run(run())


def test_what_has_arrived_at_the_same_moment_is_one_group():
    async def run():
        gate = Gate()
        gate.open.set()
        groups = Groups(doubled, [gate])
        assert await asyncio.gather(*(groups.submit(number) for number in range(1, 6))) == [2, 4, 6, 8, 10]
        assert gate.sizes == [5]

    asyncio.run(run())


def test_a_group_is_bounded_and_the_rest_follows():
    async def run():
        gate = Gate()
        gate.open.set()
        groups = Groups(doubled, [gate])
        count = 2 * lanes.MAX_GROUP + 3
        assert await asyncio.gather(*(groups.submit(number) for number in range(1, count + 1)))
        assert gate.sizes == [lanes.MAX_GROUP, lanes.MAX_GROUP, 3]

    asyncio.run(run())


def test_a_failure_is_told_to_the_whole_group_and_to_nobody_else():
    async def run():
        gate = Gate()
        gate.open.set()
        groups = Groups(doubled, [gate])
        failed = await asyncio.gather(groups.submit(0), groups.submit(1), return_exceptions=True)
        assert [str(error) for error in failed] == ["disk full", "disk full"]
        assert await groups.submit(2) == 4

    asyncio.run(run())


def test_who_goes_away_harms_nobody_in_its_group():
    async def run():
        gate = Gate()
        groups = Groups(doubled, [gate])
        gone, stays = asyncio.create_task(groups.submit(1)), asyncio.create_task(groups.submit(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        gate.open.set()
        assert await stays == 4
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await groups.submit(3) == 6

    asyncio.run(run())


@contextlib.asynccontextmanager
async def lane() -> AsyncIterator[PostgresqlLane]:
    made = PostgresqlLane()
    try:
        yield made
    finally:
        made.close()


@on_postgresql
def test_a_connection_is_opened_when_needed_and_kept(committed):
    async def run():
        async with lane() as postgresql:
            assert await postgresql.run(lambda: doubled([1])) == [2]
            assert postgresql._raw is None
            assert await postgresql.run(lambda: halved([1, 2, 3])) == [1, 2, 3]
            kept = postgresql._raw
            assert await postgresql.run(lambda: halved([4])) == [4]
            assert postgresql._raw is kept

    asyncio.run(run())


@on_postgresql
def test_a_connection_that_died_unused_costs_nobody_a_request(committed):
    async def run():
        async with lane() as postgresql:
            assert await postgresql.run(lambda: halved([1])) == [1]
            pid = postgresql._raw.pgconn.backend_pid
            with psycopg.connect(database_url(), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [pid])
            # At once, before the loop has heard of it.
            assert await postgresql.run(lambda: halved([2])) == [2]
            assert postgresql._raw.pgconn.backend_pid != pid

    asyncio.run(run())


@on_postgresql
def test_what_the_database_says_to_an_idle_connection_holds_up_nobody(committed):
    def notified():
        return (yield [Call(Statement("test_listen", "LISTEN somebody"), {})])

    async def run():
        async with lane() as postgresql:
            await postgresql.run(notified)
            pid = postgresql._raw.pgconn.backend_pid
            with psycopg.connect(database_url(), autocommit=True) as other:
                other.execute("NOTIFY somebody")
                await asyncio.sleep(0.1)
                assert await postgresql.run(lambda: halved([1])) == [1]
                assert postgresql._raw.pgconn.backend_pid == pid
                other.execute("SELECT pg_terminate_backend(%s)", [pid])
            await asyncio.sleep(0.5)
            # The loop has heard of it, and has closed it.
            assert postgresql._raw is None
            assert await postgresql.run(lambda: halved([2])) == [2]

    asyncio.run(run())


@on_postgresql
def test_a_statement_that_fails_ends_its_connection_and_the_next_group_has_another(committed):
    def fails():
        yield [Call(NUMBER, {"number": 1})]
        yield [Call(NUMBER, {"number": 2}), Call(FAILURE, {"number": 0})]

    async def run():
        async with lane() as postgresql:
            with pytest.raises(psycopg.OperationalError, match="division by zero"):
                await postgresql.run(fails)
            assert postgresql._raw is None
            assert await postgresql.run(lambda: halved([3])) == [3]

    asyncio.run(run())


@on_postgresql
def test_a_database_that_hangs_is_given_up_on_in_time(committed, monkeypatch):
    monkeypatch.setattr(lanes, "TIMEOUT_SECONDS", 0.3)

    def waits():
        yield [Call(Statement("test_sleep", "SELECT pg_sleep(5)"), {})]

    async def run():
        async with lane() as postgresql:
            began = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                await postgresql.run(waits)
            assert asyncio.get_running_loop().time() - began < 3
            assert await postgresql.run(lambda: halved([1])) == [1]

    asyncio.run(run())


class DyingServer:
    """Speaks PostgreSQL's protocol as far as to a first query, which it answers with its last words and a reset."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_asked = threading.Event()
        self.dies = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        stream, _ = self._listener.accept()
        stream.recv(4096)  # whether there is TLS
        stream.sendall(b"N")
        stream.recv(4096)  # who wants in
        stream.sendall(self._message(b"R", bytes(4)) + self._message(b"Z", b"I"))
        stream.recv(4096)
        self.is_asked.set()
        self.dies.wait()
        stream.sendall(self._message(b"E", b"SFATAL\0C57P01\0Mlast words\0\0"))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()
        self._listener.close()

    @staticmethod
    def _message(kind, body):
        return kind + struct.pack("!i", len(body) + 4) + body

    def die(self):
        """End before the caller goes on."""
        self.dies.set()
        self._thread.join()


@pytest.mark.parametrize("loop", [asyncio, uvloop])
def test_last_words_of_a_killed_server_end_the_wait_at_once(monkeypatch, loop):
    """What it said and the reset come at the same moment, and uvloop tells of a broken socket only once."""
    server = DyingServer()
    found = {"host": "127.0.0.1", "port": server.port, "dbname": "any", "user": "any", "sslmode": "prefer"}
    monkeypatch.setattr(lanes, "connection", SimpleNamespace(get_connection_params=lambda: found))

    async def run():
        async with lane() as postgresql:
            asked = asyncio.create_task(postgresql.run(lambda: halved([1])))
            assert await asyncio.to_thread(server.is_asked.wait, 5)
            server.die()
            with pytest.raises(psycopg.OperationalError):
                await asyncio.wait_for(asked, lanes.TIMEOUT_SECONDS / 2)
            assert postgresql._raw is None

    loop.run(run())


@on_postgresql
def test_more_than_the_socket_takes_at_once_arrives_whole(committed):
    text = Statement("test_text", "SELECT length(CAST(%(text)s AS text))")

    def long():
        rows = yield [Call(text, {"text": "x" * 1_000_000}) for _ in range(30)]
        return [int(row[0][0]) for row in rows]

    async def run():
        async with lane() as postgresql:
            assert await postgresql.run(long) == [1_000_000] * 30

    asyncio.run(run())


def test_requests_of_one_moment_are_judged_and_recorded_on_the_real_database(committed):
    good, ended = make_key(committed), make_revoked_key(committed)
    texts = [good.secret.text, ended.secret.text, "nonsense", good.secret.text]
    group = [Presented(credential=text, organization=committed.slug, path=f"/{n}") for n, text in enumerate(texts)]
    made = lanes.make_lanes()

    async def run():
        groups = Groups(judge, made)
        try:
            return await asyncio.gather(*(groups.submit(presented) for presented in group))
        finally:
            for one in made:
                close(one)

    outcomes = [verdict.outcome for verdict in asyncio.run(run())]
    assert outcomes == [Outcome.VALID, Outcome.REVOKED, Outcome.MALFORMED, Outcome.VALID]
    events = UsageEvent.objects.filter(key_id__in=[good.key.pk, ended.key.pk])
    assert sorted(events.values_list("path", "outcome")) == [("/0", "valid"), ("/1", "revoked"), ("/3", "valid")]


def close(one):
    if isinstance(one, SqliteLane):
        one._thread.submit(lambda: connection.close()).result()  # noqa: PLW0108 - of that thread
        one._thread.shutdown()
    else:
        one.close()
