#!/usr/bin/env python
"""Hold what usage costs at 30,000,000 events against what it costs without, and against bare SQL.

Makes its databases with set-based SQL on a PostgreSQL of its own, kept under var/benchmark, and measures one after the
other: the page of the busiest key against that of an idle one; flag_keys and roll_up_usage as a scheduler runs them,
with their peak memory, against the SQL alone; the removal of a large and of a small day; and, where wrk is there, the
verifier's rate with all events and with none, in turn. The last line is all of it as JSON.

    ./dev bench usage
    ./dev bench usage --keys 100000 --events 1000000 --only prune
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from benchmarks.grown.database import FOLDER, prepare, serve  # noqa: E402
from benchmarks.grown.worker_process import Worker, collect_static  # noqa: E402
from benchmarks.verify import OURS, Side, make_keys, measure, serve_keyadmin  # noqa: E402
from tests.postgresql import PostgreSQL  # noqa: E402

LARGE: Final = "lists_large"
NONE: Final = "usage_none"
VERIFIED_KEYS: Final = 100_000
DAY: Final = timedelta(days=1)


def main() -> int:
    """Measure and print."""
    options = parse()
    prepare({LARGE: (options.keys, options.events)}, fresh=options.fresh)
    found: dict[str, Any] = {}
    for name, measurement in MEASUREMENTS.items():
        if options.only in name:
            print(f"Measuring {name} …", file=sys.stderr)
            server = serve(durable=True)
            try:
                found[name] = measurement(server, options)
                version = server.version
            finally:
                server.stop()
    report(found, version, options)
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys of the large database")
    parser.add_argument("--events", type=int, default=30_000_000, help="events of the large database")
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--seconds", type=int, default=5, help="how long the verifier is loaded at a time (default: 5)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help=f"only what has this in its name: {', '.join(MEASUREMENTS)}"
    )
    parser.add_argument("--fresh", action="store_true", help="make the database anew")
    options = parser.parse_args()
    if not any(options.only in name for name in MEASUREMENTS):
        parser.error(f"--only {options.only}: it is in no name: {', '.join(MEASUREMENTS)}")
    return options


def url_of(server: PostgreSQL, name: str) -> str:
    """Return a DATABASE_URL."""
    return f"{server.url(name)}?sslmode=disable"


# The key's page


def key_page(server: PostgreSQL, options: argparse.Namespace) -> dict[str, Any]:
    """Open the pages of the busiest key and of one that is alive and has no events, in turn."""
    collect_static()
    # Data that are kept may hold keys of an earlier run's verifier, which are another organization's.
    of_grown = "k.organization_id = (SELECT id FROM apikeys_organization WHERE slug = 'grown')"
    with server.connect(LARGE) as connection:
        busiest, events = connection.execute(
            "SELECT k.public_id, b.number FROM apikeys_busiestkey b JOIN apikeys_apikey k ON k.id = b.key_id"
            f" WHERE b.kind = 'busiest' AND b.days = 90 AND {of_grown} ORDER BY b.rank LIMIT 1"
        ).fetchone()
        idle = connection.execute(
            "SELECT k.public_id FROM apikeys_apikey k JOIN apikeys_keyactivity a ON a.key_id = k.id WHERE"
            " a.last_used_at IS NULL AND k.revoked_at IS NULL AND k.expires_at IS NULL"
            f" AND {of_grown} ORDER BY k.id DESC LIMIT 1"
        ).fetchone()[0]
    worker = Worker(url_of(server, LARGE))
    samples: dict[str, list[dict[str, Any]]] = {}
    spans = ("", "?range=24h", "?range=7d", "?range=30d", "?range=90d", "?range=13m")
    for span in spans:
        for public_id in (busiest, idle):
            worker.ask("page", f"/grown/keys/{public_id}{span}")
    for _ in tqdm(range(options.runs), unit=" runs", disable=None, leave=False):
        for span in spans:
            for name, public_id in (("busiest", busiest), ("idle", idle)):
                samples.setdefault(f"{name}{span}", []).append(worker.ask("page", f"/grown/keys/{public_id}{span}"))
    worker.stop()
    medians = {name: statistics.median(one["ms"] for one in taken) for name, taken in samples.items()}
    statements = {name: taken[-1]["statements"] for name, taken in samples.items()}
    return {
        "events_of_the_busiest": events,
        "ms": {name: round(value, 1) for name, value in medians.items()},
        "statements": statements,
        "ratios": {
            span or "as it opens": round(medians[f"busiest{span}"] / medians[f"idle{span}"], 2) for span in spans
        },
        "goal": 1.5,
    }


# Jobs


def run_job(server: PostgreSQL, *arguments: str) -> tuple[float, float, int]:
    """Run a command as a scheduler does; return its seconds, its peak memory in MB and its exit status."""
    environment = os.environ | {"DATABASE_URL": url_of(server, LARGE), "DEBUG": "false"}
    began = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *arguments], env=environment, stdout=nowhere, stderr=nowhere
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return time.perf_counter() - began, kib / 1024, process.returncode


def psql(server: PostgreSQL, sql: str) -> float:
    """Run SQL with psql, its rows to nowhere; return the seconds."""
    began = time.perf_counter()
    command = ["psql", server.url(LARGE), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
    command += ["--set=ON_ERROR_STOP=1", f"--output={os.devnull}", "--file=-"]
    subprocess.run(command, input=sql, text=True, check=True)
    return time.perf_counter() - began


def flag_keys(server: PostgreSQL, options: argparse.Namespace) -> dict[str, Any]:
    """Flag all keys, against the bare SELECTs of the same rows through psycopg, in turn."""
    worker = Worker(url_of(server, LARGE))
    selects = worker.ask("flag_sql")
    bare, whole, memory = [], [], []
    for _ in tqdm(range(options.runs), unit=" runs", disable=None, leave=False):
        bare.append(worker.ask("stream", selects)["seconds"])
        seconds, peak, status = run_job(server, "flag_keys", "--csv")
        if status not in {0, 3}:
            sys.exit(f"usage: flag_keys ended with {status}.")
        whole.append(seconds)
        memory.append(peak)
    worker.stop()
    return job_result(bare, whole, memory)


def roll_up(server: PostgreSQL, options: argparse.Namespace) -> dict[str, Any]:
    """Roll up a day and the hours since, against the same SQL through psql, and against the least that could do it."""
    with server.connect(LARGE) as connection:
        until = connection.execute("SELECT until FROM apikeys_usagewatermark").fetchone()[0].astimezone(UTC)
        since = until.replace(hour=0) - DAY
        events = connection.execute(
            "SELECT count(*) FROM apikeys_usageevent WHERE at >= %s AND at < %s", [since, until]
        ).fetchone()[0]
    run_job(server, "roll_up_usage")
    forget(server, since)
    worker = Worker(url_of(server, LARGE))
    same, least = worker.ask("roll_up_sql"), worker.ask("least_roll_up_sql", since.isoformat(), until.isoformat())
    worker.stop()
    times: dict[str, list[float]] = {"same": [], "least": [], "command": []}
    memory = []
    for _ in tqdm(range(options.runs), unit=" runs", disable=None, leave=False):
        for name, script in (("same", same), ("least", least)):
            forget(server, since)
            times[name].append(psql(server, script))
        forget(server, since)
        seconds, peak, status = run_job(server, "roll_up_usage")
        if status:
            sys.exit(f"usage: roll_up_usage ended with {status}.")
        times["command"].append(seconds)
        memory.append(peak)
    found = job_result(times["same"], times["command"], memory)
    least_ratio = statistics.median(times["command"]) / statistics.median(times["least"])
    return {
        "events": events,
        **found,
        "least_s": round(statistics.median(times["least"]), 2),
        "to_least": round(least_ratio, 2),
    }


def forget(server: PostgreSQL, since: datetime) -> None:
    """Take back what was rolled up from a midnight on."""
    with server.connect(LARGE) as connection:
        for table in ("apikeys_usagehour", "apikeys_organizationhour"):
            connection.execute(f"DELETE FROM {table} WHERE hour >= %s", [since])  # type: ignore[arg-type]
        for table in ("apikeys_usageday", "apikeys_organizationday"):
            connection.execute(f"DELETE FROM {table} WHERE day >= %s", [since.date()])  # type: ignore[arg-type]
        connection.execute("UPDATE apikeys_usagewatermark SET until = %s, settled_until = %s", [since, since])
        connection.execute("DELETE FROM apikeys_latehour")
        connection.execute("VACUUM ANALYZE apikeys_usagehour, apikeys_usageday, apikeys_organizationhour")


def job_result(bare: list[float], whole: list[float], memory: list[float]) -> dict[str, Any]:
    """Return medians and their ratio."""
    return {
        "bare_s": round(statistics.median(bare), 2),
        "command_s": round(statistics.median(whole), 2),
        "ratio": round(statistics.median(whole) / statistics.median(bare), 2),
        "goal": 1.5,
        "peak_mb": round(max(memory)),
        "memory_goal": 150,
    }


# Removal


def prune(server: PostgreSQL, options: argparse.Namespace) -> dict[str, Any]:
    """Remove one old day of a thousand events, and one of a million, in turn, and let somebody wait meanwhile.

    The table is dropped in constant time. Freeing its file, which comes after the locks are released, is the file
    system's and takes as long as the file is large.
    """
    worker = Worker(url_of(server, LARGE), EVENT_RETENTION_DAYS="150")
    sizes = {"small": 1000, "large": min(1_000_000, options.events)}
    times: dict[str, list[float]] = {name: [] for name in sizes}
    waits: dict[str, list[float]] = {name: [] for name in sizes}
    day = datetime.now(UTC).date() - DAY * 200
    for _ in tqdm(range(options.runs), unit=" runs", disable=None, leave=False):
        for name, size in sizes.items():
            make_day(server, day, size)
            with Waiting(server) as waiting:
                times[name].append(worker.ask("prune")["ms"])
            waits[name].append(waiting.longest)
    worker.stop()
    medians = {name: round(statistics.median(taken), 1) for name, taken in times.items()}
    others = {name: round(statistics.median(taken), 1) for name, taken in waits.items()}
    ratio = round(others["large"] / others["small"], 2)
    return {"events": sizes, "ms": medians, "others_wait_ms": others, "ratio": ratio}


def make_day(server: PostgreSQL, day: date, size: int) -> None:
    """Make a day of events long ago, in a partition of its own."""
    table = f"apikeys_usageevent_{day:%Y%m%d}"
    with server.connect(LARGE) as connection:
        connection.execute(f"CREATE TABLE {table} (LIKE apikeys_usageevent INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")  # type: ignore[arg-type]
        connection.execute(
            f"INSERT INTO {table} SELECT 1 + n %% 1000, %s::timestamptz + interval '80 milliseconds' * n, n, 'valid',"  # type: ignore[arg-type]
            " '192.0.2.1', 'python-requests/2.32.5', 'GET', '/v1/orders', 'orders:read' FROM generate_series(1, %s) n",
            [f"{day} 00:00:00+00", size],
        )
        bounds = f"FROM ('{day} 00:00:00+00') TO ('{day + DAY} 00:00:00+00')"
        connection.execute(f"ALTER TABLE apikeys_usageevent ATTACH PARTITION {table} FOR VALUES {bounds}")  # type: ignore[arg-type]
        connection.execute("CHECKPOINT")


class Waiting:
    """Takes the lock of whoever records a request, again and again, and knows the longest that it waited (ms)."""

    def __init__(self, server: PostgreSQL) -> None:
        self.longest = 0.0
        self._stop = threading.Event()
        self._connection = server.connect(LARGE)
        self._thread = threading.Thread(target=self._take)

    def _take(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            with self._connection.transaction():
                self._connection.execute("LOCK TABLE apikeys_usageevent IN ROW EXCLUSIVE MODE")
            self.longest = max(self.longest, (time.perf_counter() - began) * 1000)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()


# The verifier


def recording(server: PostgreSQL, options: argparse.Namespace) -> dict[str, Any]:
    """Load the verifier on the database with all events and on one with none, in turn."""
    if not shutil.which("wrk"):
        print("LEFT OUT recording: wrk is missing. apt-get install wrk or brew install wrk.", file=sys.stderr)
        return {}
    sides = [verifier_side(server, NONE), verifier_side(server, LARGE)]
    for _ in tqdm(range(options.runs), unit=" runs", disable=None, leave=False):
        for side in sides:
            side.samples.append(measure(side, options.seconds, 16))
    none, large = ([one["rate"] for one in side.samples] for side in sides)
    ratio = statistics.median(one / other for one, other in zip(large, none, strict=True))
    return {
        "none_per_s": round(statistics.median(none)),
        "large_per_s": round(statistics.median(large)),
        "p99_ms": [round(statistics.median(one["p99"] for one in side.samples), 2) for side in sides],
        "ratio": round(ratio, 3),
        "goal": 0.95,
    }


def verifier_side(server: PostgreSQL, name: str) -> Side:
    """Return the verifier on one of the databases, with keys of its own."""
    url, keys = url_of(server, name), FOLDER.parent / f"{name}-keys.txt"
    if name == NONE:
        with server.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{NONE}"')  # type: ignore[arg-type]
            connection.execute(f'CREATE DATABASE "{NONE}"')  # type: ignore[arg-type]
        make_keys(url, VERIFIED_KEYS, keys)
    else:
        with server.connect(name) as connection:
            there = connection.execute("SELECT 1 FROM apikeys_organization WHERE slug = 'benchmark'").fetchone()
        if not there:
            make_keys(url, VERIFIED_KEYS, keys)
    path = "/v1/benchmark/authorize?scope=orders:read"
    settings = {"DATABASE_URL": url, "DEBUG": "false", "TRUSTED_PROXIES": "127.0.0.0/8"}
    return Side(OURS, serve_keyadmin(), path, keys=keys, environment=settings)


MEASUREMENTS: Final[dict[str, Callable[[PostgreSQL, argparse.Namespace], dict[str, Any]]]] = {
    "key page": key_page,
    "flag_keys": flag_keys,
    "roll_up_usage": roll_up,
    "prune": prune,
    "recording": recording,
}


def report(found: dict[str, Any], version: str, options: argparse.Namespace) -> None:
    """Print what was found, and JSON last."""
    print(f"{version}; {options.keys:,} keys, {options.events:,} events over 90 days; medians of {options.runs} runs\n")
    if one := found.get("key page"):
        print(f"Page of the busiest key ({one['events_of_the_busiest']:,} requests) and of an idle one, goal 1.5")
        for span, ratio in one["ratios"].items():
            key = "" if span == "as it opens" else span
            busiest, idle = one["ms"][f"busiest{key}"], one["ms"][f"idle{key}"]
            print(f"  {span:14}{busiest:8.1f} ms {idle:8.1f} ms  ratio {ratio:.2f}")
    for name in ("flag_keys", "roll_up_usage"):
        if one := found.get(name):
            print(
                f"{name}: {one['command_s']:.2f} s, bare SQL {one['bare_s']:.2f} s, ratio {one['ratio']:.2f} (goal 1.5)"
            )
            print(f"  {one['peak_mb']} MB at most (goal 150)")
            if "least_s" in one:
                print(
                    f"  {one['events']:,} events; SQL that counts a whole day at once {one['least_s']:.2f} s,"
                    f" ratio {one['to_least']:.2f}"
                )
    if one := found.get("prune"):
        print(
            f"prune of a day of {one['events']['large']:,} events {one['ms']['large']:.1f} ms, of"
            f" {one['events']['small']:,} {one['ms']['small']:.1f} ms; meanwhile others wait"
            f" {one['others_wait_ms']['large']:.1f} and {one['others_wait_ms']['small']:.1f} ms,"
            f" ratio {one['ratio']:.2f}"
        )
    if one := found.get("recording"):
        print(
            f"verifier with all events {one['large_per_s']:,}/s, with none {one['none_per_s']:,}/s,"
            f" ratio {one['ratio']:.3f} (goal 0.95)"
        )
    print(json.dumps({"keys": options.keys, "events": options.events, **found}))


if __name__ == "__main__":
    sys.exit(main())
