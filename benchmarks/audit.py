#!/usr/bin/env python
"""Hold the chain of the audit log against what it is added to.

Starts a PostgreSQL of its own from the machine's binaries and times, interleaved, so that ratios hold on a noisy
machine:

- checking a million entries (verify_audit_log) against reading the same columns of the same rows with psycopg and with
  Django, and its peak memory against that for a tenth of them;
- a request of the dashboard that changes a key (pause, resume) with the database's link and without it.

    python benchmarks/audit.py --entries 1000000 --runs 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402
from tqdm import tqdm  # noqa: E402

from tests.postgresql import PostgreSQL  # noqa: E402

BATCH = 5000
REQUESTS = 100


def prepare(server: PostgreSQL) -> None:
    """Make the tables."""
    os.environ["DATABASE_URL"] = server.make_database("benchmark")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")
    os.environ["DEBUG"] = "false"
    import django  # noqa: PLC0415 - the settings read the environment
    from django.core.management import call_command  # noqa: PLC0415

    django.setup()
    call_command("migrate", verbosity=0)


def fill(slug: str, number: int) -> int:
    """Write entries as the product does, and return the id of their organization."""
    from apikeys.models import Actor, AuditAction, AuditEntry, Organization, Via  # noqa: PLC0415
    from apikeys.models.audit import Target  # noqa: PLC0415

    organization = Organization.objects.create(name=slug.capitalize(), slug=slug, key_prefix="ka")
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    by = Actor("mara@northwind.example", Via.DASHBOARD, None, "198.51.100.7", agent)
    for start in tqdm(range(0, number, BATCH), desc=slug, unit_scale=BATCH, unit=" entries", disable=None):
        targets = [
            Target(f"Service {n}", None, {"name": [f"Service {n - 1}", f"Service {n}"], "rate_limit": [None, n]})
            for n in range(start, min(start + BATCH, number))
        ]
        AuditEntry.objects.record_all(AuditAction.KEY_EDIT, targets, by=by, organization=organization, reason="Renamed")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return organization.pk


def rows_of(number: int) -> Any:
    """Return the query that verify_audit_log reads."""
    from apikeys.models import AuditLink  # noqa: PLC0415
    from apikeys.models.audit_chain import COLUMNS  # noqa: PLC0415

    columns = ("entry_id", "sequence", "previous", "hash", "entry__content_hash")
    columns += tuple(f"entry__{column}" for column in COLUMNS.values())
    return AuditLink.objects.filter(chain=number).order_by("sequence").values_list(*columns)


def read_with_django(number: int) -> int:
    """Read them as objects of Python, and throw them away."""
    return sum(1 for _ in rows_of(number).iterator(chunk_size=2000))


def read_with_psycopg(number: int) -> int:
    """Read them without Django."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        select = psycopg.ClientCursor(connection).mogrify(*rows_of(number).query.sql_with_params())
        with connection.cursor("benchmark") as cursor:
            cursor.itersize = 2000
            cursor.execute(select)  # type: ignore[arg-type]
            return sum(1 for _ in cursor)


def check(number: int) -> int:
    """Check them here."""
    from apikeys.audit_proof import verify_chain  # noqa: PLC0415

    verdict = verify_chain(number)
    if verdict.fault:
        raise RuntimeError(str(verdict.fault))
    return verdict.entries


def check_as_process(slug: str) -> int:
    """Run the command as a scheduler does, and return its peak memory in KiB."""
    command = [sys.executable, str(ROOT / "manage.py"), "verify_audit_log", "--organization", slug]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"verify_audit_log exited with {process.returncode}")
    return usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def change_keys(switch: Callable[[bool], None]) -> dict[str, list[float]]:
    """Return the times of requests that pause and resume a key, with links and without, in turns."""
    from django.conf import settings  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.urls import reverse  # noqa: PLC0415

    from tests.factories import make_key, make_organization, make_user  # noqa: PLC0415

    settings.ALLOWED_HOSTS = ["testserver"]
    admin = make_user("admin@example.org")
    organization = make_organization("changed", admin=admin)
    key = make_key(organization).key
    client = Client()
    client.force_login(admin)
    times: dict[str, list[float]] = {"with": [], "without": []}
    for number in tqdm(range(4 * REQUESTS), desc="requests", disable=None):
        name = "with" if number % 4 < 2 else "without"
        if number % 2 == 0:
            switch(name == "with")
        verb = "key_pause" if number % 2 == 0 else "key_resume"
        key.refresh_from_db()
        began = time.perf_counter()
        response = client.post(
            reverse(verb, args=[organization.slug, key.public_id]), {"version": key.version, "until": "", "for": ""}
        )
        times[name].append(time.perf_counter() - began)
        if response.status_code != 302:
            raise RuntimeError(f"{verb} answered {response.status_code}: {response.text[:500]}")
    switch(True)
    return times


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args()
    server = PostgreSQL(durable=True, shared_buffers="512MB")
    try:
        prepare(server)

        def switch(is_on: bool) -> None:
            state = "ENABLE" if is_on else "DISABLE"
            with server.connect("benchmark") as connection:
                connection.execute(f"ALTER TABLE apikeys_auditentry {state} TRIGGER keyadmin_audit_link")  # type: ignore[arg-type]

        requests = change_keys(switch)
        fill("few", options.entries // 10)
        many = fill("many", options.entries)
        times: dict[str, list[float]] = {}
        works = {"read, psycopg": read_with_psycopg, "read, Django": read_with_django, "verify": check}
        for _ in tqdm(range(options.runs), unit=" runs", disable=None):
            for name, work in works.items():
                began = time.perf_counter()
                if work(many) != options.entries:
                    raise RuntimeError(f"{name} did not see every entry")
                times.setdefault(name, []).append(time.perf_counter() - began)
        memory = {slug: check_as_process(slug) for slug in ("few", "many")}
    finally:
        server.stop()
    medians = {name: statistics.median(each) for name, each in times.items()}
    waits = {name: statistics.median(each) for name, each in requests.items()}
    print(f"{options.entries:,} entries, {server.version}, medians of {options.runs}")
    for name, median in medians.items():
        print(f"  {name:<16} {median:7.2f} s   {median / medians['read, Django']:5.2f} x")
    growth = memory["many"] / memory["few"]
    print(f"  peak memory      {memory['many'] / 1024:7.0f} MiB {growth:5.2f} x that of a tenth")
    print("A request that changes a key, with its link and without")
    print(
        f"  {1000 * waits['with']:.2f} and {1000 * waits['without']:.2f} ms, {waits['with'] / waits['without']:.3f} x"
    )
    print(json.dumps({"seconds": medians, "memory_kib": memory, "request_seconds": waits}))


if __name__ == "__main__":
    main()
