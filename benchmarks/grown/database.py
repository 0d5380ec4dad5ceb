"""The PostgreSQL of the benchmarks, kept under var/benchmark, and its databases, made once for each size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.postgresql import PostgreSQL, binaries

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FOLDER: Final = ROOT / "var" / "benchmark" / "postgresql"
# Of what is on disk, and as much again for sorting, by event and by key.
BYTES_AN_EVENT: Final = 700
BYTES_A_KEY: Final = 3000
# Data that are older than this lie too far from now: keys have ended, and days are not rolled up.
FRESH_HOURS: Final = 72
_FAST: Final = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "512MB",
    "work_mem": "32MB",
    "max_wal_size": "8GB",
    "random_page_cost": "1.1",
    "jit": "off",
}
_CARELESS: Final = {"wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}


def serve(*, durable: bool, building: bool = False) -> PostgreSQL:
    """Start the server; ``building`` leaves out whatever only a crash would need."""
    version = binaries().parent.name
    there = FOLDER / "data" / "PG_VERSION"
    if there.exists() and there.read_text().strip() != version.partition(".")[0] and version[0].isdigit():
        shutil.rmtree(FOLDER)
    settings = {**_FAST, **(_CARELESS if building else {}), **({"work_mem": "256MB"} if building else {})}
    return PostgreSQL(durable=durable, kept=FOLDER, max_connections=60, **settings)


def prepare(sizes: dict[str, tuple[int, int]], *, fresh: bool = False) -> None:
    """Make the databases that are not there yet or are others: name to (keys, events)."""
    server = serve(durable=False, building=True)
    try:
        for name, (keys, events) in sizes.items():
            if fresh or not _is_made(server, name, keys, events):
                _make(server, name, keys, events)
            else:
                # It may be from before a change of the tables.
                _run(server, name, "manage.py", "migrate", "--verbosity=0")
    finally:
        server.stop()


def _is_made(server: PostgreSQL, name: str, keys: int, events: int) -> bool:
    from benchmarks.grown.source import source  # noqa: PLC0415

    with server.connect() as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return False
    with server.connect(name) as connection:
        if not connection.execute("SELECT to_regclass('benchmark.made')").fetchone()[0]:
            return False
        wanted = (keys, events, source())
        row = connection.execute(
            "SELECT keys, events, source FROM benchmark.made WHERE at > now() - make_interval(hours => %s)",
            [FRESH_HOURS],
        ).fetchone()
    return row == wanted


def _make(server: PostgreSQL, name: str, keys: int, events: int) -> None:
    needed = BYTES_AN_EVENT * events + BYTES_A_KEY * keys
    free = shutil.disk_usage(FOLDER).free
    print(
        f"Making {keys:,} keys and {events:,} events in {FOLDER.relative_to(ROOT)}: up to {needed / 1e9:.1f} GB"
        f" of the {free / 1e9:.0f} GB that are free.",
        file=sys.stderr,
    )
    if needed > free * 0.9:
        sys.exit(f"There is no room for that. Fewer: --events {int(free * 0.9 / BYTES_AN_EVENT):,}")
    with server.connect() as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        connection.execute(f'CREATE DATABASE "{name}"')
    _run(server, name, str(Path(__file__).with_name("make.py")), f"--keys={keys}", f"--events={events}")


def _run(server: PostgreSQL, name: str, *command: str) -> None:
    environment = os.environ | {"DATABASE_URL": server.url(name) + "?sslmode=disable", "DEBUG": "false"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)
