"""Each answer has its usage event, whatever is killed; and what cannot be judged is a 503, for as long as it must.

Every request names a path of its own, so that answers and events are compared one by one, not by their number. A
request whose connection broke, or that got a 503, may or may not have an event: the commit may have been on its way.
"""

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

import psycopg
import pytest

from tests.guarantees.clients import Asked, Target, Wire, load, verify_request
from tests.guarantees.harness import Server, Store

pytestmark = pytest.mark.guarantee

KEYS = 12
SECOND = 1_000_000_000
OUTCOMES_OF_STATUS = {
    200: {"valid"},
    401: {"revoked", "paused"},
    403: {"scope_missing", "network_denied"},
    429: {"rate_limited"},
}


def subjects(server: Server) -> list[Target]:
    """Return keys of which requests come to every outcome."""
    stage = server.stage
    ended = [stage.key(), stage.key()]
    stage.do("revoke", ended[0]["public_id"])
    stage.do("pause", ended[1]["public_id"])
    return [
        *stage.targets(KEYS),
        *stage.targets(2, networks=["198.51.100.0/24"]),
        *stage.targets(2, rate_limit=[5, 1, 5]),
        *(Target(key["id"], key["text"]) for key in ended),
    ]


def compare(store: Store, requests: Sequence[Asked]) -> str:
    """Check that each answer is recorded once and as it was given, and return the figures."""
    rows = store.rows("SELECT path, key_id, outcome, scope, address FROM apikeys_usageevent")
    events = {row[0]: row[1:] for row in rows}
    assert len(events) == len(rows), "a request was recorded twice"
    answered = [request for request in requests if request.status in OUTCOMES_OF_STATUS]
    unsure = {request.path for request in requests if request.status in {0, 503}}
    assert len(answered) + len(unsure) == len(requests), Counter(request.status for request in requests)
    for request in answered:
        assert request.path in events, f"lost: {request}"
        key, outcome, *rest = events[request.path]
        assert [key, *map(str, rest)] == [request.key, request.scope, request.address]
        assert outcome == request.outcome or (not request.outcome and outcome in OUTCOMES_OF_STATUS[request.status])
    extra = events.keys() - {request.path for request in answered}
    assert extra <= unsure
    unavailable = [request for request in requests if request.status == 503]
    assert all(request.retry_after for request in unavailable)
    counted = Counter(event[1] for event in events.values())
    return (
        f"{len(answered):,} answers = {len(events) - len(extra):,} events "
        f"({', '.join(f'{count:,} {outcome}' for outcome, count in sorted(counted.items()))}), none lost, none twice; "
        f"{len(unavailable):,} times 503 with Retry-After and {len(unsure) - len(unavailable):,} broken connections, "
        f"{len(extra)} of which have an event"
    )


def run_under_load(server: Server, seconds: float, disturb: Callable[[], None]) -> list[Asked]:
    """Return what was asked while the server was disturbed, and for some time after."""
    with load(server.port) as clients:
        clients.show(subjects(server))
        clients.go()
        time.sleep(1)
        disturb()
        time.sleep(seconds)
        return clients.collect()


def serves_since(requests: Sequence[Asked], since: int) -> float:
    """Return after how many seconds the first request passed that was sent after an instant."""
    waits = [(r.arrived - since) / SECOND for r in requests if r.status == 200 and r.sent >= since]
    if not waits:
        for tenth, statuses in by_tenths(requests, since).items():
            print(f"{tenth:6.1f} s: {dict(statuses)}")
        pytest.fail("Nobody was served any more; what was sent is above, by when.")
    return min(waits)


def by_tenths(requests: Sequence[Asked], since: int) -> dict[float, Counter[int]]:
    """Return how many requests got which status (0: none) by when they were sent, in seconds from an instant."""
    found: dict[float, Counter[int]] = {}
    for request in sorted(requests, key=lambda request: request.sent):
        found.setdefault((request.sent - since) * 10 // SECOND / 10, Counter())[request.status] += 1
    return found


def test_killed_workers_lose_no_answer(start, note):
    server = start(workers=3)

    def disturb():
        workers = server.workers()
        # Each once: a worker that dies within seconds of its start makes granian give up, as a service manager wants.
        for pid in random.sample(workers, len(workers)):
            server.kill_worker(pid)
            time.sleep(1)
        assert server.is_running()
        assert set(server.workers()).isdisjoint(workers)

    requests = run_under_load(server, 1, disturb)
    assert any(request.status == 0 for request in requests), "no request was under way when a worker was killed"
    note(f"nothing lost, each of 3 workers killed: {compare(server.store, requests)}")


def test_a_killed_server_loses_no_answer(start, note):
    server = start()
    back = []

    def disturb():
        for _ in range(2):
            server.kill()
            server.start()
            back.append(time.time_ns())
            time.sleep(1)

    requests = run_under_load(server, 1, disturb)
    note(f"nothing lost, the whole server killed twice: {compare(server.store, requests)}")


def test_a_locked_file_delays_and_loses_no_answer(start, note, sqlite_only):
    """Another process writes for long, as a backup that is made wrongly might."""
    server = start()
    freed = []

    def disturb():
        with closing(sqlite3.connect(server.store.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(3)
            other.execute("ROLLBACK")
            freed.append(time.time_ns())

    requests = run_under_load(server, 2, disturb)
    wait = serves_since(requests, freed[0])
    note(
        f"nothing lost, the file locked for 3 s: {compare(server.store, requests)}; "
        f"served again {wait * 1000:.0f} ms after it was free"
    )
    assert {request.status for request in requests} <= {200, 401, 403, 429}
    assert wait < 1


@pytest.mark.parametrize("ending", ["fast", "immediate", "kill"])
def test_a_database_that_restarts_loses_no_answer(start, note, ending, postgresql_only):
    server = start()
    database = server.store.postgresql
    back = []

    def disturb():
        for _ in range(2):
            database.end(ending)
            time.sleep(0.5)
            database.start()
            back.append(time.time_ns())
            time.sleep(1.5)

    requests = run_under_load(server, 0.5, disturb)
    assert server.is_running()
    print(f"The database came back at {back}:\n{database.log(without='not yet accepting')}")
    waits = [serves_since(requests, since) for since in back]
    assert max(waits) < 1
    late = [r for r in requests if r.status == 503 and r.sent > back[-1] + SECOND]
    note(
        f"nothing lost, PostgreSQL restarted twice ({ending}): {compare(server.store, requests)}; "
        f"served again {max(waits) * 1000:.0f} ms after the database, {len(late)} 503s later than a second after it"
    )
    assert not late


def test_a_restart_in_a_quiet_hour_is_not_noticed(start, postgresql_only):
    """The connections of all lanes are stale, and no request came for long: the next ones must not pay for it."""
    server = start()
    [target] = server.stage.targets(1)
    wires = [Wire(server.port) for _ in range(16)]

    def ask_all() -> list[int]:
        statuses: list[int] = []

        def ask(wire: Wire) -> None:
            statuses.extend(wire.ask(verify_request(target.text)).status for _ in range(20))

        threads = [threading.Thread(target=ask, args=[wire]) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statuses

    try:
        assert set(ask_all()) == {200}
        server.store.postgresql.restart("fast")
        time.sleep(1)
        assert Counter(ask_all()) == {200: 20 * len(wires)}
    finally:
        for wire in wires:
            wire.close()


def test_a_full_database_loses_no_answer(start, note, postgresql_only):
    """Others take every connection there is, then the server's own are ended, and are taken as well."""
    server = start(max_connections=40)
    database = server.store.postgresql
    freed = []

    def disturb():
        with ExitStack() as held:

            def fill() -> None:
                try:
                    while True:
                        held.callback(database.connect().close)
                except psycopg.OperationalError:
                    pass

            first = database.connect()
            held.callback(first.close)
            fill()
            until = time.monotonic() + 2
            while time.monotonic() < until:
                first.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'keyadmin' LIMIT 4"
                )
                fill()
        freed.append(time.time_ns())

    requests = run_under_load(server, 2, disturb)
    wait = serves_since(requests, freed[0])
    late = [r for r in requests if r.status == 503 and r.sent > freed[0] + SECOND]
    note(
        f"nothing lost, every connection taken by others: {compare(server.store, requests)}; served again "
        f"{wait * 1000:.0f} ms after they were free, {len(late)} 503s later than a second after"
    )
    assert any(request.status == 503 for request in requests)
    assert wait < 1
    assert not late
