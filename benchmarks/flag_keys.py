#!/usr/bin/env python
"""Hold flag_keys against the database: how much longer does it take than selecting and sending the flagged rows?

Starts a PostgreSQL of its own from the machine's binaries, makes a million keys, and times, one after the other and
again, the bare SELECTs through psycopg and through psql, and the command in each of its formats, in this process and
as a process of its own. Prints medians with their ratio to psycopg's, and the same as JSON on the last line.

    python benchmarks/flag_keys.py --keys 1000000 --runs 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402
from tqdm import tqdm  # noqa: E402

from tests.postgresql import PostgreSQL  # noqa: E402

ROTATE_SOON = 14
FORMATS = {"table": [], "JSON": ["--json"], "CSV": ["--csv"]}
PEOPLE = """
INSERT INTO apikeys_user (password, email, name, is_active, date_joined, time_zone)
    SELECT '!', 'person' || n || '@example.org', 'Person ' || n, true, now(), '' FROM generate_series(1, 200) n;
INSERT INTO apikeys_organization (name, slug, key_prefix, max_key_age, created_at)
    SELECT 'Organization ' || n, 'organization-' || n, 'ka', %(max_age)s, now() FROM generate_series(1, 20) n;
INSERT INTO apikeys_environment (organization_id, code, name, kind)
    SELECT o.id, e.code, e.name, e.name FROM apikeys_organization o,
    (VALUES ('prod', 'production'), ('stag', 'staging'), ('dev', 'development')) e(code, name);
INSERT INTO apikeys_member (organization_id, user_id, role, alert_mail, joined_at)
    SELECT o.id, u.id, 'operator', 'all', now()
    FROM apikeys_organization o JOIN apikeys_user u ON u.id %% 20 = o.id %% 20;
"""
KEYS = """
INSERT INTO apikeys_apikey (organization_id, environment_id, name, purpose, owner_id, owner_contact, networks,
    rate_period, prefix, public_id, digest, pepper_number, created_at, created_by_label, revoked_by_label,
    revoked_reason, revoked_note, version, expires_at, revoked_at)
SELECT o.id, o.environments[1 + n / 20 %% 3],
    'Service ' || n || CASE n %% 5 WHEN 0 THEN ' käyttöliittymä' ELSE ' v2' END,
    'Reads the orders of shop ' || n || '; kept in the vault under shops/' || n,
    CASE WHEN n %% 4 > 0 THEN o.members[1 + n / 20 %% 10] END,
    CASE WHEN n %% 4 = 0 THEN 'team' || n %% 500 || '@example.org' ELSE '' END,
    '[]', 1, 'ka', substr(md5(n::text), 1, 12), sha256(n::text::bytea), 1,
    now() - (interval '100 days' + interval '900 days' * random()), 'person1@example.org', '', '', '', 1,
    CASE WHEN random() < %(expiring)s THEN now() + interval '59 days' * random()
        WHEN random() < 0.5 THEN now() + interval '61 days' + interval '600 days' * random() END,
    CASE WHEN random() < 0.1 THEN now() - interval '10 days' END
FROM generate_series(1, %(keys)s) n JOIN (
    SELECT id, row_number() OVER (ORDER BY id) - 1 AS place,
        ARRAY(SELECT e.id FROM apikeys_environment e WHERE e.organization_id = o.id) AS environments,
        ARRAY(SELECT m.id FROM apikeys_member m WHERE m.organization_id = o.id) AS members
    FROM apikeys_organization o
) o ON o.place = n %% 20;
"""
ACTIVITY = """
INSERT INTO apikeys_keyactivity (key_id, first_used_at, last_used_at, last_address)
SELECT id, created_at, now() - CASE WHEN random() < %(unused)s THEN interval '91 days' + interval '300 days' * random()
    ELSE interval '80 days' * random() END, '192.0.2.1'
FROM apikeys_apikey WHERE id %% 50 > 0
ON CONFLICT (key_id) DO UPDATE SET first_used_at = excluded.first_used_at, last_used_at = excluded.last_used_at,
    last_address = excluded.last_address
"""
# One silent key in twenty is seasonal, one in a hundred may be silent.
RHYTHMS = """
INSERT INTO apikeys_keyrhythm (key_id, first_hour, last_hour, longest_gap, second_gap, usual_gap, gaps, computed_at)
SELECT key_id, first_used_at, last_used_at, gap, gap, gap, 100, now() FROM (
    SELECT *, 3600 * CASE WHEN key_id %% 20 = 0 THEN 8000 ELSE 1 + floor(64 * random()) END AS gap
    FROM apikeys_keyactivity WHERE first_used_at IS NOT NULL
) used
"""
EXEMPTIONS = """
INSERT INTO apikeys_keyexemption (key_id, owner_id, reason, until, changed_at, changed_by_label)
SELECT k.id, (SELECT id FROM apikeys_member m WHERE m.organization_id = k.organization_id LIMIT 1), 'Stands by',
    now() + interval '1 year', now(), 'person1@example.org'
FROM apikeys_apikey k JOIN apikeys_keyactivity a ON a.key_id = k.id
WHERE k.id %% 100 = 1 AND a.last_used_at < now() - interval '90 days'
"""


def prepare(server: PostgreSQL, options: argparse.Namespace) -> None:
    """Make the tables and the keys."""
    os.environ["DATABASE_URL"] = server.make_database("benchmark")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
    os.environ["DEBUG"] = "false"
    import django  # noqa: PLC0415 - the settings read the environment
    from django.core.management import call_command  # noqa: PLC0415

    django.setup()
    call_command("migrate", verbosity=0)
    share = {"keys": options.keys, "expiring": options.expiring / 100, "unused": options.unused / 100}
    # Keys are 100 to 1,000 days old.
    share["max_age"] = 1000 + ROTATE_SOON - round(9 * options.rotate)
    with server.connect("benchmark") as connection:
        connection.execute("SELECT setseed(0.5)")
        for statement in (PEOPLE, KEYS, ACTIVITY, RHYTHMS, EXEMPTIONS):
            psycopg.ClientCursor(connection).execute(statement, share)
        connection.execute("VACUUM ANALYZE")


def statements() -> list[str]:
    """Return the SELECTs of the flagged rows, written out: what the command asks for, in plain columns."""
    from django.utils import timezone  # noqa: PLC0415

    from apikeys.models import ApiKey  # noqa: PLC0415

    now = timezone.now()
    columns = ["organization__slug", "public_id", "prefix", "environment__code", "name", "owner__user__email"]
    columns += ["owner_contact", "created_at", "activity__last_used_at", "expires_at"]
    columns += ["rhythm__usual_gap", "exemption__until", "organization__max_key_age"]
    found = []
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        for keys, order in (
            (ApiKey.objects.unused(now), "quiet_since"),
            (ApiKey.objects.expiring(now, timedelta(days=60)), "expires_at"),
            (ApiKey.objects.to_rotate(now, timedelta(days=ROTATE_SOON)), "created_at"),
        ):
            rows = keys.order_by("organization_id", order, "pk").values_list(*columns)
            found.append(psycopg.ClientCursor(connection).mogrify(*rows.query.sql_with_params()))
    return found


def bare_psycopg(selects: list[str]) -> int:
    """Stream the rows through psycopg and throw them away; return how many they are."""
    count = 0
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        for select in selects:
            with connection.cursor("benchmark") as cursor:
                cursor.itersize = 5000
                cursor.execute(select)  # type: ignore[arg-type]
                for _ in cursor:
                    count += 1
    return count


def bare_psql(selects: list[str], output: Path) -> None:
    """Write the rows to a file with psql."""
    command = ["psql", os.environ["DATABASE_URL"], "--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]
    with output.open("wb") as file:
        subprocess.run([*command, *(f"--command={select}" for select in selects)], stdout=file, check=True)


def in_process(arguments: list[str], output: Path) -> None:
    """Run the command here, its output to a file."""
    from django.core.management import call_command  # noqa: PLC0415

    with output.open("w") as file, Path(os.devnull).open("w") as nowhere, suppress(SystemExit):
        call_command("flag_keys", *arguments, stdout=file, stderr=nowhere)


def as_process(arguments: list[str], output: Path) -> int:
    """Run the command as a scheduler does and return its peak memory in KiB."""
    command = [sys.executable, str(ROOT / "manage.py"), "flag_keys", *arguments]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 3:
        raise RuntimeError(f"flag_keys exited with {process.returncode}")
    return usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def seconds(work: Callable[[], Any]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(selects: list[str], runs: int) -> tuple[dict[str, list[float]], dict[str, int], int]:
    """Return the times of everything, interleaved, the peak memory of the processes, and the number of rows."""
    times: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    rows = bare_psycopg(selects)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        subjects: dict[str, Callable[[], Any]] = {
            "SELECT, psycopg": lambda: bare_psycopg(selects),
            "SELECT, psql": lambda: bare_psql(selects, output),
        }
        for name, arguments in FORMATS.items():
            subjects[f"flag_keys, {name}"] = lambda arguments=arguments: in_process(arguments, output)
        for _ in tqdm(range(runs), unit=" runs", disable=None):
            for name, work in subjects.items():
                times.setdefault(name, []).append(seconds(work))
            for name, arguments in FORMATS.items():
                label = f"manage.py flag_keys, {name}"
                began = time.perf_counter()
                peak = as_process(arguments, output)
                times.setdefault(label, []).append(time.perf_counter() - began)
                memory[label] = max(memory.get(label, 0), peak)
    return times, memory, rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--unused", type=float, default=20, help="Percent of keys that are unused.")
    parser.add_argument("--expiring", type=float, default=5, help="Percent of keys that are near their end.")
    parser.add_argument("--rotate", type=float, default=5, help="Percent of keys that should be rotated.")
    options = parser.parse_args()
    server = PostgreSQL()
    try:
        print(f"Making {options.keys:,} keys on {server.version} …", file=sys.stderr)
        prepare(server, options)
        times, memory, rows = measure(statements(), options.runs)
    finally:
        server.stop()
    medians = {name: statistics.median(values) for name, values in times.items()}
    # On a machine that does other work as well, the quickest runs compare better than the middle ones.
    least = {name: min(values) for name, values in times.items()}
    base, least_base = medians["SELECT, psycopg"], least["SELECT, psycopg"]
    print(f"{options.keys:,} keys, {rows:,} findings, median of {options.runs} runs")
    print(f"{'':32}{'median s':>10}{'ratio':>8}{'least s':>10}{'ratio':>8}{'peak MiB':>10}")
    for name, median in medians.items():
        peak = f"{memory[name] / 1024:10.0f}" if name in memory else ""
        print(f"{name:32}{median:10.2f}{median / base:8.2f}{least[name]:10.2f}{least[name] / least_base:8.2f}{peak}")
    print(
        json.dumps(
            {
                "keys": options.keys,
                "findings": rows,
                "median_seconds": {name: round(value, 3) for name, value in medians.items()},
                "ratios": {name: round(value / base, 3) for name, value in medians.items()},
                "least_seconds": {name: round(value, 3) for name, value in least.items()},
                "least_ratios": {name: round(value / least_base, 3) for name, value in least.items()},
                "peak_kib": memory,
            }
        )
    )


if __name__ == "__main__":
    main()
