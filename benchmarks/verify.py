#!/usr/bin/env python
"""Hold the verifier against its peers, side by side on one machine and one PostgreSQL.

Starts a PostgreSQL of its own (durable: each commit is flushed before it is answered) with 100,000 keys, and each side
in turn, round after round, so that a machine that is busier for a while is so for everybody; loads it with wrk over
keep-alive connections and prints medians and ratios as a table and, as the last line, as JSON.

keyadmin does its full work at every request: it reads the key, decides, and writes the event before it answers. The
peers write nothing; each runs in its best configuration (benchmarks/peers). They are installed, pinned, into
var/benchmark; better-auth is left out where Node is missing. Needs wrk: apt-get install wrk, brew install wrk.

    ./dev bench verify --rounds 5 --seconds 5
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from tests.ports import free_port  # noqa: E402
from tests.postgresql import PostgreSQL  # noqa: E402

WORK = ROOT / "var" / "benchmark"
PEERS = ROOT / "benchmarks" / "peers"
PACKAGES = [
    *("django==6.1.3", "djangorestframework==3.18.3", "djangorestframework-api-key==3.1.0"),
    *("django-rest-knox==5.1.0", "granian==2.8.7", "psycopg[binary]==3.3.9"),
]
NODE_PACKAGES = {
    "better-auth": "1.7.5",
    "@better-auth/core": "1.7.5",
    "@better-auth/api-key": "1.7.5",
    "@better-auth/utils": "0.4.2",
    "better-call": "1.4.0",
    "pg": "8.16.3",
}
OURS = "keyadmin, 1 worker"
FLOOR = "Django doing nothing"
# What is compared with what: side, with, and the goal that was set for the ratio of requests a second.
RATIOS = [
    (OURS, "djangorestframework-api-key", 4.5),
    (OURS, "better-auth, rate limit on", 6.0),
    (OURS, "django-rest-knox", None),
    (OURS, FLOOR, 0.75),
    ("keyadmin, one hot key", OURS, 0.6),
    ("keyadmin, 2 workers", OURS, None),
    ("keyadmin on SQLite", "djangorestframework-api-key", 1.5),
]


@dataclass
class Side:
    """A server to measure: how to start it on a port, and what to ask it."""

    name: str
    command: Callable[[int], list[str]]
    path: str
    header: str = ""
    keys: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    samples: list[dict[str, float]] = field(default_factory=list)


def main() -> int:
    """Measure every side and print what came of it."""
    options = parse()
    if not shutil.which("wrk"):
        sys.exit("verify: wrk is missing. apt-get install wrk (Debian, Ubuntu) or brew install wrk (macOS).")
    WORK.mkdir(parents=True, exist_ok=True)
    postgresql = PostgreSQL(durable=True, max_connections=100)
    try:
        sides = [side for side in make_sides(postgresql, options.keys) if not options.only or options.only in side.name]
        settle(postgresql)
        for _ in range(options.rounds):
            for side in (progress := tqdm(sides, leave=False)):
                progress.set_description(side.name)
                side.samples.append(measure(side, options.seconds, options.connections))
        report(sides, postgresql.version, options)
        if options.growth:
            growth(sides[0], options.growth, options.connections)
    finally:
        postgresql.stop()
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs (default: 3)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each run takes (default: 5)")
    parser.add_argument("--connections", type=int, default=16, help="keep-alive connections (default: 16)")
    parser.add_argument("--keys", type=int, default=100_000, help="keys in each database (default: 100,000)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the sides with this in their name")
    parser.add_argument(
        "--growth", type=int, default=0, metavar="N", help="then send N requests to the first side and show its memory"
    )
    return parser.parse_args()


# The sides


def make_sides(postgresql: PostgreSQL, count: int) -> list[Side]:
    """Prepare databases, keys and packages; return the sides that can run here."""
    told = tqdm(total=4, desc="Preparing", leave=False)
    url = f"postgres://keyadmin@127.0.0.1:{postgresql.port}/keyadmin?sslmode=disable"
    keys = make_keys(url, count, WORK / "keys.txt")
    told.update()
    sqlite = WORK / "verify.sqlite3"
    for old in WORK.glob("verify.sqlite3*"):
        old.unlink()
    sqlite_keys = make_keys(f"sqlite:///{sqlite}", count, WORK / "sqlite-keys.txt")
    told.update()
    hot = WORK / "hot-key.txt"
    hot.write_text(keys.read_text().split("\n", 1)[0] + "\n")
    ours = {"DATABASE_URL": url, "DEBUG": "false", "TRUSTED_PROXIES": "127.0.0.0/8"}
    path = "/v1/benchmark/authorize?scope=orders:read"
    sides = [
        Side(OURS, serve_keyadmin(), path, keys=keys, environment=ours),
        Side(
            "keyadmin, one hot key",
            serve_keyadmin(),
            path,
            keys=hot,
            environment=ours,
        ),
        Side(
            "keyadmin, 2 workers",
            serve_keyadmin(2),
            path,
            keys=keys,
            environment=ours,
        ),
        Side(
            "keyadmin on SQLite",
            serve_keyadmin(),
            path,
            keys=sqlite_keys,
            environment=ours | {"DATABASE_URL": f"sqlite:///{sqlite}"},
        ),
    ]
    sides += django_peers(postgresql, count)
    told.update()
    sides += node_peers(postgresql, count)
    told.close()
    return sides


def serve_wsgi(python: str, application: str) -> Callable[[int], list[str]]:
    """Return how to serve a peer, in the eight threads that were the fastest."""
    return lambda port: [
        *(python, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--blocking-threads", "8", "--log-level", "error", application),
    ]


def serve_keyadmin(workers: int = 1) -> Callable[[int], list[str]]:
    """Return how to serve keyadmin, as deploy/keyadmin.service does."""
    return lambda port: [
        *(sys.executable, "-m", "granian", "--interface", "asginl", "--loop", "uvloop", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", str(workers), "--log-level", "error", "keyadmin.asgi:application"),
    ]


def make_keys(url: str, count: int, file: Path) -> Path:
    """Migrate a database, put keys into it and write their full texts to a file, a line each."""
    environment = os.environ | {"DATABASE_URL": url, "DEBUG": "false"}
    for command in (["migrate", "-v0"], ["createcachetable"]):
        run([sys.executable, "manage.py", *command], environment)
    file.write_text(run([sys.executable, str(PEERS / "make_keys.py"), str(count)], environment))
    return file


def django_peers(postgresql: PostgreSQL, count: int) -> list[Side]:
    """Install and prepare the peers that run on Django, and the two floors."""
    postgresql.make_database("peers")
    python = WORK / "peers" / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(WORK / "peers")])
        run([uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES])
    environment = {"BENCHMARK_PORT": str(postgresql.port)}
    printed = run([str(python), str(PEERS / "django_peers.py"), str(count)], os.environ | environment)
    api_key, token = printed.strip().split("\n")[-2:]
    serve = serve_wsgi(str(python), "django_peers:application")
    return [
        Side("djangorestframework-api-key", serve, "/api-key", api_key, environment=environment, cwd=PEERS),
        Side("django-rest-knox", serve, "/knox", token, environment=environment, cwd=PEERS),
        Side(FLOOR, serve, "/nothing", environment=environment, cwd=PEERS),
        Side("WSGI doing nothing", serve_wsgi(str(python), "bare:application"), "/", cwd=PEERS),
    ]


def settle(postgresql: PostgreSQL) -> None:
    """Do what autovacuum would begin in the middle of the first runs: nobody is measured on a database just filled."""
    with postgresql.connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    for (name,) in names:
        with postgresql.connect(name) as connection:
            connection.execute("VACUUM (ANALYZE)")
    with postgresql.connect() as connection:
        connection.execute("CHECKPOINT")


def node_peers(postgresql: PostgreSQL, count: int) -> list[Side]:
    """Install and prepare better-auth where there is Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        tqdm.write("LEFT OUT better-auth: Node and npm are not installed.")
        return []
    postgresql.make_database("better_auth")
    folder = WORK / "better-auth"
    folder.mkdir(exist_ok=True)
    shutil.copy(PEERS / "better_auth.mjs", folder)
    if not (folder / "node_modules" / "better-auth").exists():
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": NODE_PACKAGES}))
        run([npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=folder)
    environment = {"BENCHMARK_PORT": str(postgresql.port)}
    key = (
        run([node, "better_auth.mjs", "prepare", str(count)], os.environ | environment, folder).strip().split("\n")[-1]
    )
    serve = [node, "better_auth.mjs", "serve"]
    return [
        Side(
            "better-auth, rate limit on",
            lambda port: [*serve, str(port)],
            "/",
            f"Bearer {key}",
            environment=environment,
            cwd=folder,
        )
    ]


def run(command: list[str], environment: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Return what a command prints; stop the benchmark with its own words when it fails."""
    done = subprocess.run(command, env=environment, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"verify: {' '.join(command[:4])} failed:\n{done.stderr or done.stdout}")
    return done.stdout


# Measuring


def measure(side: Side, seconds: int, connections: int) -> dict[str, float]:
    """Start a side, warm it up, load it, stop it; return requests a second, latencies (ms) and memory (MB)."""
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(side.cwd)} | side.environment
    server = subprocess.Popen(
        side.command(port), cwd=side.cwd, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(port)
        load(side, port, 1, connections)
        found = load(side, port, seconds, connections)
        return found | {"memory": memory(server.pid)}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(port: int) -> None:
    """Wait until a port answers anything."""
    for _ in range(150):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit("verify: the server did not start.")


def load(side: Side, port: int, seconds: int, connections: int) -> dict[str, float]:
    """Load a server with wrk; every answer must be a 200."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    if side.header:
        command += ["-H", f"Authorization: {side.header}"]
    if side.keys:
        command += ["-s", str(PEERS / "spread.lua")]
    command.append(f"http://127.0.0.1:{port}{side.path}")
    printed = run([*command, *(["--", str(side.keys)] if side.keys else [])])
    if wrong := re.search(r"(Non-2xx.*|Socket errors.*)", printed):
        sys.exit(f"verify: {side.name} did not answer 200 to everything: {wrong[1]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    return {
        "rate": float(rate[1]) if rate else 0.0,
        **{name: latency(printed, share) for name, share in (("p50", "50%"), ("p99", "99%"))},
    }


def latency(printed: str, share: str) -> float:
    """Return one of wrk's percentiles in milliseconds."""
    found = re.search(rf"^\s+{share}\s+([\d.]+)(us|ms|s)$", printed, re.MULTILINE)
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]] if found else 0.0


def memory(group: int) -> float:
    """Return the resident memory of a process group's largest process, in MB."""
    printed = run(["ps", "-A", "-o", "pgid=,rss="])
    sizes = [int(size) for number, size in (line.split() for line in printed.splitlines()) if int(number) == group]
    return max(sizes, default=0) / 1024


def growth(side: Side, requests: int, connections: int) -> None:
    """Send many requests to one server process and print its memory on the way."""
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(side.cwd)} | side.environment
    server = subprocess.Popen(side.command(port), cwd=side.cwd, env=environment, start_new_session=True)
    try:
        wait_for(port)
        sent, sizes = 0.0, []
        while sent < requests:
            sent += load(side, port, 10, connections)["rate"] * 10
            sizes.append((int(sent), round(memory(server.pid), 1)))
        print(f"Memory of one worker after so many requests (MB): {sizes[:3]} … {sizes[-3:]}")
    finally:
        os.killpg(server.pid, signal.SIGKILL)


# Telling


def report(sides: list[Side], version: str, options: argparse.Namespace) -> None:
    """Print medians and ratios, then all of it as JSON."""
    medians = {
        side.name: {name: statistics.median(sample[name] for sample in side.samples) for name in side.samples[0]}
        for side in sides
    }
    print(f"{version}, synchronous commit on; {options.keys:,} keys; {options.connections} connections;")
    print(f"medians of {options.rounds} runs of {options.seconds} s, in turn\n")
    print(f"{'':30}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'p99/p50':>9}{'MB':>7}")
    for name, found in medians.items():
        spread = found["p99"] / found["p50"] if found["p50"] else 0
        print(
            f"{name:30}{found['rate']:>12,.0f}{found['p50']:>9.2f}{found['p99']:>9.2f}{spread:>9.1f}"
            f"{found['memory']:>7.0f}"
        )
    ratios = [ratio for one, other, goal in RATIOS if (ratio := compare(sides, one, other, goal))]
    print("\nratios, round by round, median (and goal)")
    for ratio in ratios:
        goal = f"  goal {ratio['goal']}" if ratio["goal"] else ""
        print(f"  {ratio['side']} / {ratio['with']}: {ratio['ratio']:.2f}{goal}")
    print(json.dumps({"medians": medians, "ratios": ratios}))


def compare(sides: list[Side], one: str, other: str, goal: float | None) -> dict[str, Any] | None:
    """Return the median of the ratios of two sides in the same round, None when one of them did not run."""
    by_name = {side.name: [sample["rate"] for sample in side.samples] for side in sides}
    if one not in by_name or other not in by_name:
        return None
    pairs = zip(by_name[one], by_name[other], strict=True)
    ratio = statistics.median(first / second for first, second in pairs)
    return {"side": one, "with": other, "ratio": round(ratio, 3), "goal": goal}


if __name__ == "__main__":
    sys.exit(main())
