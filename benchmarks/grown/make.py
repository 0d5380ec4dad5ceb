"""Fill an empty PostgreSQL database with keys and events, and roll the events up, with set-based SQL.

Run as a program with DATABASE_URL set. What it makes is what keyadmin would have after so many days: the roll-ups are
made by keyadmin's own statements, a day at a time.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyadmin.settings")

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from tqdm import tqdm  # noqa: E402

import apikeys.models.counting_sql as sql  # noqa: E402
from apikeys.models import Dimension, UsageWatermark  # noqa: E402
from apikeys.models.counting import RANKED_DAYS, ROLL_UPS_KEPT  # noqa: E402
from benchmarks.grown.source import source  # noqa: E402
from benchmarks.grown.trigrams import index_at_the_end  # noqa: E402

DAY: Final = timedelta(days=1)


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--days", type=int, default=90)
    options = parser.parse_args()
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    now = datetime.now(UTC)
    today = now.date()
    since = datetime(today.year, today.month, today.day, tzinfo=UTC) - DAY * options.days
    days = [today - DAY * number for number in range(options.days, -1, -1)]
    progress = tqdm(total=len(days) + 4, unit=" steps", disable=None)
    progress.set_description("keys")
    with index_at_the_end():
        script("data.sql", keys=options.keys)
    run("ANALYZE")
    progress.update()
    script("events.sql", events=options.events, since=since)
    run("ANALYZE benchmark.used")
    progress.update()
    until = now.replace(minute=0, second=0, microsecond=0)
    for day in days:
        progress.set_description(f"{day}")
        add_day(day, today, until)
        progress.update()
    progress.set_description("rhythms, ranks")
    settle(until, since)
    progress.update()
    check_number(options.events)
    progress.set_description("vacuum")
    run("VACUUM (ANALYZE, FREEZE)")
    run(
        "CREATE TABLE benchmark.made AS SELECT %s::bigint AS keys, %s::bigint AS events, %s::int AS days,"
        " %s AS source, now() AS at",
        options.keys,
        options.events,
        options.days,
        source(),
    )
    progress.update()
    progress.close()


def check_number(wanted: int) -> None:
    """Refuse data that are not what was asked for. Hours of today that are not over are not counted yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT SUM(count) FROM apikeys_usagehour")
        [(made,)] = cursor.fetchall()
    if not 0.9 * wanted < made < 1.1 * wanted:
        sys.exit(f"make: {wanted:,} events were asked for, and {made:,} are there.")


def add_day(day: date, today: date, until: datetime) -> None:
    """Make the events of a day in a partition of its own, in the order of their time, and count them."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    table = f"apikeys_usageevent_{day:%Y%m%d}"
    with transaction.atomic():
        run("SELECT setseed(%s)", (day - today).days / 1000)
        if day < today:
            run(f"CREATE TABLE {table} (LIKE apikeys_usageevent INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        else:
            run("SET LOCAL session_replication_role = replica")
        script("day.sql", table=table, day=midnight)
        if day < today:
            bounds = f"FROM ('{midnight}') TO ('{midnight + DAY}')"
            run(f"ALTER TABLE apikeys_usageevent ATTACH PARTITION {table} FOR VALUES {bounds}")
        run(f"ANALYZE {table}")
        times = {"since": midnight, "until": min(midnight + DAY, until), "day": day}
        count(sql.HOURS, times, events=table)
        for dimension in Dimension:
            count(sql.DAY, times, events=table, dimension=dimension.value, value=sql.value_sql(dimension))
        count(sql.ORGANIZATION_HOURS, times)
        count(sql.ORGANIZATION_DAY, times)


def settle(until: datetime, since: datetime) -> None:
    """Make what keyadmin makes once a day of all hours."""
    run("ANALYZE apikeys_usagehour, apikeys_usageday")
    count(sql.RHYTHM, {"now": until})
    count(sql.MEDIANS["postgresql"], {"since": until - ROLL_UPS_KEPT})
    for days in RANKED_DAYS:
        count(sql.RANK, {"days": days, "since": until - DAY * days, "until": until})
    UsageWatermark.objects.update_or_create(
        pk=1, defaults={"until": until, "settled_until": until, "recording_since": since - DAY * 1000}
    )


def count(statement: str, values: dict[str, Any], **parts: str) -> None:
    """Run one of keyadmin's statements."""
    with connection.cursor() as cursor:
        cursor.execute(sql.rendered(statement, **parts), values)


def script(name: str, table: str = "", **values: object) -> None:
    """Run the statements of a file beside this one."""
    with connection.cursor() as cursor:
        cursor.execute((HERE / name).read_text().replace("{table}", table), values)


def run(statement: str, *values: object) -> None:
    """Run a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)


if __name__ == "__main__":
    main()
