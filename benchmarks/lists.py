#!/usr/bin/env python
"""Hold the key list of a million keys against that of a thousand, a hand-written SELECT, and Django's own admin.

Makes two databases with set-based SQL on a PostgreSQL of its own, kept under var/benchmark, and opens each page on both
in turn, in this machine's processes, without a server or a network between. For each page it prints the median time at
both sizes with their ratio; where a page lists fewer keys among a thousand, also the ratio to a thousand among which
are the very keys that it lists among a million, and those of its later pages, unless they are more; then the ratio to a
keyset SELECT written by hand plus the rendering of the same rows by a plain template, and by keyadmin's own; last,
where the numbers in the tabs come after the page, how long they take. Then the admin's changelist of the same table.
The last line is all of it as JSON.

    ./dev bench lists --runs 9
    ./dev bench lists --keys 100000 --events 1000000 --only status
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from benchmarks.grown import same_page, sqlite  # noqa: E402
from benchmarks.grown.database import prepare, serve  # noqa: E402
from benchmarks.grown.lists import NEWEST, USABLE, Case, cases  # noqa: E402
from benchmarks.grown.worker_process import Worker, collect_static  # noqa: E402
from tests.postgresql import PostgreSQL  # noqa: E402

SMALL: Final = 1000
SQLITE_SIZE: Final = (10_000, 1_000_000)
# Pages so far down in the list; the last one comes after them.
DEEP: Final = {"page in the middle": 0.5, "page at 95 %": 0.95}
LAST: Final = "last page"
GROWTH_GOAL: Final = 1.3
HAND_GOAL: Final = 2.5
LIST: Final = "/grown/keys/"
# The admin's page, the page of the list that shows the same, and how many times as fast that must be.
ADMIN: Final = {
    "first page": ("/admin/apikeys/apikey/", "first page", 5.0),
    "status filter": ("/admin/apikeys/apikey/?status=active", "status=active", 5.0),
    LAST: ("/admin/apikeys/apikey/?p={last}", LAST, 15.0),
    "rare substring": ("/admin/apikeys/apikey/?q=zanzibar", "q=zanzibar", 25.0),
}


def main() -> int:
    """Measure and print."""
    options = parse()
    sizes = {"lists_small": (SMALL, SMALL * 30), "lists_large": (options.keys, options.events)}
    if options.sqlite:
        sizes = {"lists_sqlite": SQLITE_SIZE}
    prepare(sizes, fresh=options.fresh)
    server = serve(durable=False)
    try:
        if options.sqlite:
            report_sqlite(measure_sqlite(server, options))
        else:
            report(measure(server, options), server.version, options)
    finally:
        server.stop()
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys of the large database")
    parser.add_argument("--events", type=int, default=30_000_000, help="events of the large database")
    parser.add_argument("--runs", type=int, default=7, help="how often each page is opened (default: 7)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the pages with this in their name or group")
    parser.add_argument("--sqlite", action="store_true", help="open every page on SQLite, with 10,000 keys, instead")
    parser.add_argument("--fresh", action="store_true", help="make the databases anew")
    options = parser.parse_args()
    if not any(options.only in text for case in cases() for text in (case.name, case.group, "deep", *DEEP, LAST)):
        parser.error(f"--only {options.only}: it is in the name or group of no page")
    return options


def measure(server: PostgreSQL, options: argparse.Namespace) -> dict[str, Any]:
    """Open every page on both sizes in turn; return medians by page."""
    large_url, small_url = (f"{server.url(name)}?sslmode=disable" for name in ("lists_large", "lists_small"))
    collect_static()
    same_page.prepare(server, "lists_small")
    large, small = Worker(large_url), Worker(small_url)
    wanted = [*cases(), *deep_cases(server)]
    chosen = [case for case in wanted if options.only in case.name or options.only in case.group]
    pages: dict[str, Any] = {}
    for case in (progress := tqdm(chosen, unit=" pages", disable=None, leave=False)):
        progress.set_description(case.name)
        pages[case.name] = measure_page(case, large, small, server, options.runs)
    found = {"pages": pages, "admin": {}}
    if not options.only:
        admin = Worker(large_url, DJANGO_SETTINGS_MODULE="benchmarks.grown.admin_settings")
        found["admin"] = measure_admin(admin, pages, large, options)
    large.stop()
    small.stop()
    return found


def deep_cases(server: PostgreSQL) -> list[Case]:
    """Return pages in the middle and at the end of the list, at each size by cursors of rows that are there."""
    large, small = (list(_deep(server, name)) for name in ("lists_large", "lists_small"))
    return [case._replace(small_query=other.query) for case, other in zip(large, small, strict=True)]


def _deep(server: PostgreSQL, database: str) -> Iterator[Case]:
    with server.connect(database) as connection:
        for name, share in DEEP.items():
            at, row = connection.execute(
                f"SELECT created_at, id FROM apikeys_apikey k WHERE {USABLE} ORDER BY {NEWEST} LIMIT 1"  # type: ignore[arg-type]
                f" OFFSET (SELECT (count(*) * {share})::int FROM apikeys_apikey k WHERE {USABLE})"
            ).fetchone()
            after = f"{USABLE} AND (k.created_at, k.id) < ('{at.isoformat()}', {row})"
            yield Case("deep", name, _after(0, at, row), after)
        at, row = connection.execute(
            f"SELECT created_at, id FROM apikeys_apikey k WHERE NOT ({USABLE})"  # type: ignore[arg-type]
            " ORDER BY created_at, id OFFSET 50 LIMIT 1"
        ).fetchone()
        dead = "(k.revoked_at IS NOT NULL OR k.expires_at <= now()) AND (k.created_at, k.id) <"
        yield Case("deep", LAST, _after(1, at, row), f"{dead} ('{at.isoformat()}', {row})")


def _after(part: int, at: datetime, row: int) -> str:
    """Return the query of the page that begins after a row."""
    cursor = json.dumps([part, at.isoformat(), row], separators=(",", ":"))
    return f"after={base64.urlsafe_b64encode(cursor.encode()).decode().rstrip('=')}"


def measure_page(case: Case, large: Worker, small: Worker, server: PostgreSQL, runs: int) -> dict[str, Any]:
    """Return what came of opening one page, the sizes and the floor in turn."""
    path, of_small = f"{LIST}?{case.query}", f"{LIST}?{case.small_query or case.query}"
    counts = [f"{path}&counts=now", "key_counts"]
    first, first_small = large.ask("page", path), small.ask("page", of_small)
    if first["counts_later"]:
        large.ask("page", *counts)
    same = None
    if first_small["rows"] < first["rows"]:
        same_page.make(server, "lists_large", _all_keys(large, first))
        same = Worker(f"{server.url(same_page.NAME)}?sslmode=disable")
        same.ask("page", path)
    names = ("large", "small", "same", "hand", "floor", "counts")
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(runs):
        samples["large"].append(large.ask("page", path))
        if samples["large"][-1]["counts_later"]:
            samples["counts"].append(large.ask("page", *counts))
        samples["small"].append(small.ask("page", of_small))
        samples["same"].append(same.ask("page", path) if same else samples["small"][-1])
        samples["hand"].append(large.ask("floor", path, case.select, "plain"))
        samples["floor"].append(large.ask("floor", path, case.select, "keyadmin"))
    if same:
        same.stop()
    counts_ms = [one["ms"] for one in samples.pop("counts")]
    medians = {name: statistics.median(one["ms"] for one in taken) for name, taken in samples.items()}
    last = {name: taken[-1] for name, taken in samples.items()}
    return {
        "group": case.group,
        "query": case.query,
        "large_ms": round(medians["large"], 1),
        "counts_ms": round(statistics.median(counts_ms), 1) if counts_ms else None,
        "small_ms": round(medians["small"], 1),
        "hand_ms": round(medians["hand"], 1),
        "floor_ms": round(medians["floor"], 1),
        "same_ms": round(medians["same"], 1),
        "growth": round(medians["large"] / medians["small"], 2),
        "growth_same": round(medians["large"] / medians["same"], 2),
        "to_hand": round(medians["large"] / medians["hand"], 2),
        "to_floor": round(medians["large"] / medians["floor"], 2),
        "sql_ms": round(statistics.median(one["sql_ms"] for one in samples["large"]), 1),
        "statements": [last["small"]["statements"], last["large"]["statements"]],
        "rows": [last["small"]["rows"], last["large"]["rows"], last["same"]["rows"], min(50, last["floor"]["rows"])],
    }


def _all_keys(large: Worker, first: dict[str, Any]) -> list[str]:
    """Return the keys of a list, or those of its first page where all would not fit among the few."""
    keys, following = list(first["keys"]), first["next"]
    while following and len(keys) <= SMALL:
        page = large.ask("page", following)
        keys += page["keys"]
        following = page["next"]
    return keys if len(keys) <= SMALL else first["keys"]


def measure_admin(admin: Worker, pages: dict[str, Any], ours: Worker, options: argparse.Namespace) -> dict[str, Any]:
    """Return how long the admin's pages take, in turn with ours and without the settings of keyadmin's connections."""
    admin.ask("forget_settings")
    found = {}
    last = (options.keys + 49) // 50
    after = {case.name: case.query for case in cases()} | {LAST: pages[LAST]["query"]}
    for name, (pattern, page, goal) in ADMIN.items():
        path = pattern.format(last=last)
        admin.ask("page", path)
        theirs, mine = [], []
        for _ in range(options.runs):
            theirs.append(admin.ask("page", path)["ms"])
            mine.append(ours.ask("page", f"{LIST}?{after[page]}")["ms"])
        ratio = statistics.median(theirs) / statistics.median(mine)
        found[name] = {
            "admin_ms": round(statistics.median(theirs), 1),
            "ours_ms": round(statistics.median(mine), 1),
            "times_faster": round(ratio, 1),
            "goal": goal,
        }
    admin.stop()
    return found


def measure_sqlite(server: PostgreSQL, options: argparse.Namespace) -> dict[str, float]:
    """Return how long every page takes on SQLite (ms), the list's and all others."""
    with server.connect("lists_sqlite") as connection:
        keys = connection.execute(
            "SELECT k.public_id FROM apikeys_busiestkey b JOIN apikeys_apikey k ON k.id = b.key_id"
            " WHERE b.kind = 'busiest' AND b.days = 90 AND b.rank IN (1, 100) ORDER BY b.rank"
        ).fetchall()
    collect_static()
    worker = Worker(sqlite.copy(server, "lists_sqlite"))
    paths = {case.name: f"{LIST}?{case.query}" for case in cases()}
    for name, (public_id,) in zip(("busiest key", "100th busiest key"), keys, strict=True):
        spans = ("24h", "7d", "30d", "90d", "13m")
        paths |= {f"{name}, {span}": f"{LIST}{public_id}?range={span}" for span in spans}
        paths |= {f"{name}, {page}": f"{LIST}{public_id}/{page}" for page in ("revoke", "edit", "requests")}
    paths |= {
        page or "overview": f"/grown/{page}" for page in ("", "usage/", "audit/", "members/", "scopes/", "settings/")
    }
    found = {}
    for name, path in tqdm(paths.items(), unit=" pages", disable=None, leave=False):
        if options.only in name:
            samples = [worker.ask("page", path)["ms"] for _ in range(options.runs + 1)]
            found[name] = round(statistics.median(samples[1:]), 1)
    worker.stop()
    return found


def report_sqlite(found: dict[str, float]) -> None:
    """Print the times, and JSON last."""
    keys, events = SQLITE_SIZE
    print(f"SQLite, {keys:,} keys and {events:,} events, medians in milliseconds")
    for name, one in found.items():
        print(f"  {name:32}{one:>8.1f}")
    print(json.dumps({"sqlite": found}))


def report(found: dict[str, Any], version: str, options: argparse.Namespace) -> None:
    """Print tables and, last, JSON."""
    print(f"{version}; {options.keys:,} keys and {options.events:,} events against {SMALL:,} keys and {SMALL * 30:,};")
    print(f"medians of {options.runs} runs in turn, milliseconds; ! marks what misses its goal\n")
    print(f"{'':24}{'large':>8}{'small':>8}{'ratio':>8}{'same keys':>11}{'ratio':>8}{'by hand':>9}{'ratio':>8}", end="")
    print(f"{'own rows':>10}{'ratio':>7}{'SQL':>7}{'statements':>12}{'rows':>8}{'numbers':>9}")
    for name, one in found["pages"].items():
        goals = {"growth": GROWTH_GOAL, "growth_same": GROWTH_GOAL, "to_hand": HAND_GOAL}
        growth, same, hand = (f"{one[ratio]:>7.2f}{' !'[one[ratio] > goal]}" for ratio, goal in goals.items())
        same_keys = f"{one['same_ms']:>11.1f}{same}" if one["rows"][0] < one["rows"][1] else f"{'':19}"
        print(
            f"{name:24}{one['large_ms']:>8.1f}{one['small_ms']:>8.1f}{growth}{same_keys}{one['hand_ms']:>9.1f}{hand}"
            f"{one['floor_ms']:>10.1f}{one['to_floor']:>7.2f}{one['sql_ms']:>7.1f}"
            f"{'/'.join(map(str, one['statements'])):>12}{'/'.join(map(str, one['rows'][:2])):>8}"
            f"{one['counts_ms'] or '':>9}"
        )
    if found["admin"]:
        print(f"\n{'':24}{'admin':>8}{'ours':>8}{'times faster':>14}{'goal':>6}")
        for name, one in found["admin"].items():
            mark = " " if one["times_faster"] >= one["goal"] else "!"
            print(
                f"{name:24}{one['admin_ms']:>8.1f}{one['ours_ms']:>8.1f}{one['times_faster']:>13.1f}{mark}{one['goal']:>6.0f}"
            )
    print(json.dumps({"keys": options.keys, "events": options.events, **found}))


if __name__ == "__main__":
    sys.exit(main())
