"""Health, readiness, shutdown and the use of connections, where it matters by the real server."""

import gc
import http.client
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
from django.db import connection

from apikeys import readiness
from apikeys.lanes import LANES
from apikeys.models import UsageEvent
from tests.commands.running import ROOT, database_url
from tests.factories import make_key
from tests.serving import Server, served, wait_until
from tests.statements import counted_statements

# What a stop may take without a request to wait for, on a busy machine.
STOP_SECONDS = 10


@pytest.fixture
def unknown_migrations(monkeypatch):
    """A process that has not yet seen the migrations applied."""
    monkeypatch.setattr(readiness._Migrations, "applied", False)


@contextmanager
def blocked_writes() -> Iterator[None]:
    """Hold what a verification needs to record a request: it waits until the block ends."""
    if connection.vendor == "sqlite":
        holder = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
    else:
        holder = psycopg.connect(database_url())
        holder.execute("LOCK TABLE apikeys_usageevent IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        holder.rollback()
        holder.close()


def refuses(server: Server) -> bool:
    """Say whether it takes no new connection; one that is taken and not answered soon is no refusal yet."""
    try:
        server.call("GET", "/healthz", timeout=2)
    except OSError as error:
        return isinstance(error, ConnectionError)
    return False


def refuses_soon(server: Server) -> bool:
    until = time.monotonic() + 2
    while time.monotonic() < until:
        if refuses(server):
            return True
        time.sleep(0.02)
    return False


# Readiness


@pytest.mark.django_db
def test_a_server_with_its_database_is_ready_whatever_host_is_asked_for(verifier, unknown_migrations):
    answer = verifier.call("GET", "/readyz", {"Host": "10.9.8.7"})
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (200, b"ok\n", "no-store")


@pytest.mark.django_db
def test_readiness_costs_one_statement_once_the_migrations_are_known(verifier, unknown_migrations):
    verifier.call("GET", "/readyz")
    with counted_statements() as statements:
        assert verifier.call("GET", "/readyz").status == 200
    assert len(statements) == 1


@pytest.mark.django_db
def test_a_migration_that_is_not_applied_is_named_and_asked_for_again(verifier, unknown_migrations):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_migrations SET name = 'was_' || name WHERE app = 'apikeys'")
    answer = verifier.call("GET", "/readyz")
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (
        503,
        b"not ready: migrations\n",
        "no-store",
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_migrations SET name = substr(name, 5) WHERE app = 'apikeys'")
    assert verifier.call("GET", "/readyz").status == 200


def test_a_connection_that_was_lost_is_made_anew(committed, verifier):
    connection.ensure_connection()
    connection.connection.close()
    assert verifier.call("GET", "/readyz").status == 200
    connection.close()


def test_a_database_that_is_away_is_a_503_that_tells_nothing_of_it(tmp_path):
    url = "postgres://someone:hunter2@127.0.0.1:1/nowhere"
    if connection.vendor == "sqlite":
        url = f"sqlite:///{tmp_path}/folder/nowhere.sqlite3"
    program = """if True:
        import shutil, sys
        from keyadmin.wsgi import application
        from tests.verifier import Verifier
        shutil.rmtree(sys.argv[1])
        answer = Verifier(application).call("GET", "/readyz")
        print(answer.status, answer.body, Verifier(application).call("GET", "/healthz").status)
    """
    (tmp_path / "folder").mkdir(exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "folder")],
        check=True,
        cwd=ROOT,
        env={"DATABASE_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "503 b'not ready: database\\n' 200\n"
    assert "hunter2" not in ran.stderr


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no server that could hang")
def test_a_database_that_hangs_is_given_up_on_in_time(committed, verifier, monkeypatch):
    monkeypatch.setattr(readiness, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_connection(silent.getsockname()) as instead:
        # The connection's socket leads nowhere from now on.
        connection.ensure_connection()
        os.dup2(instead.fileno(), connection.connection.pgconn.socket)
        begin = time.monotonic()
        answer = verifier.call("GET", "/readyz")
        assert time.monotonic() - begin < 3
    # The second attempt, on a new connection, succeeded.
    assert answer.status == 200


# Shutdown


def test_a_request_in_flight_is_answered_and_recorded_before_the_server_stops(committed):
    issued = make_key(committed)
    with served(workers=2) as server, ThreadPoolExecutor() as pool:
        assert server.authorize(committed, issued.secret.text).status == 200
        with blocked_writes():
            answers: list[Future] = [pool.submit(server.authorize, committed, issued.secret.text) for _ in range(3)]
            time.sleep(1)
            assert not any(answer.done() for answer in answers)
            for _ in range(5):  # a worker at times misses a signal: docs/operations.md
                server.terminate()
                if refuses_soon(server):
                    break
            wait_until(lambda: refuses(server))
            assert server.process.poll() is None
            assert not any(answer.done() for answer in answers)
        begin = time.monotonic()
        assert [answer.result().status for answer in answers] == [200] * 3
        assert server.process.wait(STOP_SECONDS) == 0
        assert time.monotonic() - begin < STOP_SECONDS
    assert UsageEvent.objects.filter(key_id=issued.key.pk).count() == 4


UNREAD = 0


def test_a_reload_replaces_the_workers_and_refuses_nobody(committed):
    issued = make_key(committed)
    ended = threading.Event()
    with served(workers=2, flags={"--respawn-interval": "6"}) as server, ThreadPoolExecutor() as pool:
        wait_until(lambda: len(server.workers()) == 2)
        before = set(server.workers())
        answers = [pool.submit(ask_until, ended, server, committed, issued.secret.text) for _ in range(2)]
        server.process.send_signal(signal.SIGHUP)
        try:
            wait_until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), 60)
        finally:
            ended.set()
        statuses = [status for answer in answers for status in answer.result()]
    answered = [status for status in statuses if status != UNREAD]
    assert set(answered) == {200}
    # What a worker has taken and not read when it stops: docs/operations.md.
    assert len(statuses) - len(answered) <= len(before)
    assert UsageEvent.objects.filter(key_id=issued.key.pk).count() == len(answered)


def ask_until(ended: threading.Event, server: Server, organization: object, key: str) -> list[int]:
    """Ask again and again, each time on a new connection; return the statuses, UNREAD where it closed at once."""
    statuses = []
    while not ended.is_set():
        try:
            statuses.append(server.authorize(organization, key).status)
        except http.client.RemoteDisconnected:
            statuses.append(UNREAD)
        time.sleep(0.01)
    return statuses


def test_an_idle_connection_does_not_hold_up_a_stop(committed):
    with served(workers=1) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as idle:
        idle.request("GET", "/healthz")
        assert idle.getresponse().read() == b"ok\n"
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < STOP_SECONDS


def test_a_request_that_does_not_end_holds_up_a_stop_for_so_long_and_no_longer(committed):
    issued = make_key(committed)
    with served(flags={"--workers-kill-timeout": "1"}) as server, ThreadPoolExecutor() as pool, blocked_writes():
        answer = pool.submit(server.authorize, committed, issued.secret.text)
        time.sleep(0.5)
        begin = time.monotonic()
        server.stop()
        assert 0.9 < time.monotonic() - begin < STOP_SECONDS
        # The connection ends without an answer: nobody takes that for a yes.
        assert isinstance(answer.exception(STOP_SECONDS), OSError | http.client.HTTPException)
    # What it had sent to the database may still be committed there when the lock goes: docs/guarantees.md.
    assert UsageEvent.objects.filter(key_id=issued.key.pk).count() <= 1


def test_the_unit_gives_the_server_the_time_to_finish():
    text = (ROOT / "deploy/keyadmin.service").read_text()
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    [kill] = re.findall(r"--workers-kill-timeout (\d+)", text)
    # A verification waits for SQLite's lock for 20 seconds at most.
    assert 20 < int(kill) < int(stop)


# Connections


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no server to connect to")
def test_the_server_uses_no_more_connections_than_workers_times_lanes_and_threads(committed):
    issued = make_key(committed)
    url = database_url() + "?application_name=counted"
    most = 0
    with served(workers=2, threads=4, url=url) as server, ThreadPoolExecutor(24) as pool:
        for _ in range(4):
            answers = [pool.submit(server.authorize, committed, issued.secret.text) for _ in range(48)]
            answers += [
                pool.submit(server.call, "GET", path) for path in ("/readyz", "/accounts/login/") for _ in "12345"
            ]
            while not all(answer.done() for answer in answers):
                most = max(most, connections_named("counted"))
            assert {answer.result().status for answer in answers} == {200}
        most = max(most, connections_named("counted"))
    assert 2 <= most <= 2 * (LANES + 4)


def test_a_connection_ends_with_its_thread(committed):
    """granian ends idle threads; the cycle collector may come much later."""

    def work() -> None:
        connection.ensure_connection()
        left.append(connection.connection)

    left: list = []
    gc.disable()
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        gc.enable()
    [raw] = left
    if connection.vendor == "postgresql":
        assert raw.closed
    else:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            raw.execute("SELECT 1")


def connections_named(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name])
        return cursor.fetchone()[0]
