#!/usr/bin/env python
"""Hold the alerts about unusual usage against published detectors, and against the bare SQL that reads what they judge.

The first part needs the Numenta Anomaly Benchmark's series (github.com/numenta/NAB, MIT licence), either a checkout of
it or a folder with series/*.csv and windows.json: six count series, summed to hours, with labelled incidents. Each is
given to the command backtest_alerts, and what it prints is scored as NAB's standard profile does. The second part makes
a PostgreSQL of its own under var/benchmark and evaluates one hour of all its active keys. The last line is all of it as
JSON.

    ./dev bench alerts --nab ~/NAB
    ./dev bench alerts --only speed --keys 50000 --events 2000000
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SERIES: Final = (*(f"Twitter_volume_{company}" for company in ("AAPL", "CRM", "FB", "IBM", "PFE")), "nyc_taxi")
PLACES: Final = (ROOT / "var" / "nab", ROOT.parent / "shared" / "nab")
# NAB score of the standard profile, windows found of 17, false alerts a week: the published results of these detectors
# (NAB's repository, results/), summed to hours and scored as here.
PUBLISHED: Final = {
    "ARTime": (83.1, 17, 0.50),
    "contextOSE": (70.6, 13, 0.07),
    "Numenta HTM": (68.5, 14, 0.47),
    "relative entropy": (65.6, 13, 0.20),
    "knn-CAD": (63.4, 15, 1.10),
    "earthgecko Skyline": (49.9, 12, 0.95),
    "Twitter ADVec": (46.3, 11, 0.72),
    "random cut forest": (46.2, 13, 1.09),
}
GOAL: Final = (75.0, 0.15)
HOUR: Final = timedelta(hours=1)
# NAB scores nothing in the first 15 %, of 5,000 rows at most; a false alert costs 0.11 of an incident found.
PROBATION: Final = 0.15
FALSE_COST: Final = 0.11
DATABASE: Final = "alerts"
SECONDS_GOAL: Final = 60
MEMORY_GOAL: Final = 300
RATIO_GOAL: Final = 3.0
# So many keys are used in each hour of the weeks that the first look after midnight reads.
BUSY: Final = 2000


def main() -> int:
    """Measure and print."""
    options = parse()
    if options.worker:
        print(json.dumps(look(options)))
        return 0
    found: dict[str, Any] = {}
    if options.only in "detector":
        found["detector"] = detector(options)
    if options.only in "speed":
        found["speed"] = speed(options)
    print(json.dumps(found))
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nab", type=Path, metavar="DIR", help="the series; default: var/nab")
    parser.add_argument("--keys", type=int, default=200_000, help="keys, half of which are active (default: 200,000)")
    parser.add_argument("--events", type=int, default=10_000_000, help="their requests in 90 days")
    parser.add_argument("--runs", type=int, default=5, help="how often an hour is evaluated (default: 5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="detector or speed")
    parser.add_argument("--fresh", action="store_true", help="make the database anew")
    parser.add_argument("--worker", choices=("forecasts", "hour"), help=argparse.SUPPRESS)
    return parser.parse_args()


# The detector


class Score(NamedTuple):
    """What a detector found in a series: windows, hours from a window's beginning, false alerts, weeks, NAB's sum."""

    caught: int
    windows: int
    delays: list[int]
    false: int
    weeks: float
    raw: float


def detector(options: argparse.Namespace) -> dict[str, Any]:
    """Score each series and print the table with the published detectors."""
    folder = next((place for place in [options.nab, *PLACES] if place and place.is_dir()), None)
    if folder is None:
        sys.exit("No series. Clone https://github.com/numenta/NAB and give its folder: --nab DIR")
    windows = read_windows(folder)
    scores: dict[str, Score] = {}
    for name in SERIES:
        [path] = [path for path in folder.rglob(f"{name}.csv") if "results" not in path.parts][:1] or sys.exit(
            f"{folder} has no {name}.csv"
        )
        scores[name] = score(read_hours(path), windows[path.name], backtested(path))
    print(f"{'series':22} {'caught':>7} {'false':>6}  hours from the beginning of a window")
    for name, one in scores.items():
        print(f"{name:22} {one.caught:>3} of {one.windows} {one.false:>5}  {', '.join(map(str, one.delays))}")
    total = round(
        100 * sum(one.raw + one.windows for one in scores.values()) / sum(2 * one.windows for one in scores.values()), 1
    )
    caught = sum(one.caught for one in scores.values())
    weekly = round(sum(one.false for one in scores.values()) / sum(one.weeks for one in scores.values()), 2)
    print(f"\n{'detector':20} {'NAB score':>9} {'of 17':>6} {'false a week':>13}")
    rows = [*PUBLISHED.items(), ("keyadmin", (total, caught, weekly))]
    for name, (nab, windows_found, a_week) in sorted(rows, key=lambda row: -row[1][0]):
        mark = " <" if name == "keyadmin" else ""
        print(f"{name:20} {nab:>9.1f} {windows_found:>6} {a_week:>13.2f}{mark}")
    print(f"Goal: at least {GOAL[0]:.0f} with at most {GOAL[1]} false alerts a week.\n")
    return {"nab": total, "caught": caught, "false_a_week": weekly, "goal": GOAL}


def read_windows(folder: Path) -> dict[str, list[tuple[datetime, datetime]]]:
    """Return the labelled windows by file, in whole hours."""
    places = (folder / "windows.json", folder / "labels" / "combined_windows.json")
    path = next((place for place in places if place.is_file()), None) or sys.exit(f"{folder} has no windows")
    told: Mapping[str, Sequence[Sequence[str]]] = json.loads(path.read_text())
    return {
        name.rpartition("/")[2]: [(_hour(begin[:19]), _hour(end[:19])) for begin, end in some]
        for name, some in told.items()
    }


def read_hours(path: Path) -> list[datetime]:
    """Return every hour from a file's first to its last."""
    with path.open(newline="") as file:
        hours = {_hour(row["timestamp"]) for row in csv.DictReader(file)}
    first, last = min(hours), max(hours)
    return [first + HOUR * number for number in range((last - first) // HOUR + 1)]


def _hour(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(minute=0, second=0, microsecond=0)


def backtested(path: Path) -> list[datetime]:
    """Return the hours of the alerts that the command prints."""
    command = [sys.executable, "manage.py", "backtest_alerts", "--series", str(path), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [datetime.fromisoformat(one) for one in json.loads(done.stdout)["alerts"]]


def score(hours: list[datetime], windows: list[tuple[datetime, datetime]], alerts: list[datetime]) -> Score:
    """Score alerts as NAB does (Lavin and Ahmad, 2015, standard profile), and count them as a person would."""
    index = {hour: number for number, hour in enumerate(hours)}
    skipped = math.floor(min(PROBATION * len(hours), PROBATION * 5000))
    spans = sorted((index[begin], index[end]) for begin, end in windows if index[end] >= skipped)
    hits = sorted({index[alert] for alert in alerts if index[alert] >= skipped})
    delays, raw = [], 0.0
    for begin, end in spans:
        inside = [hit for hit in hits if begin <= hit <= end]
        raw += sigmoid(-(end - inside[0] + 1) / (end - begin + 1)) / sigmoid(-1) if inside else -1
        delays += [inside[0] - begin] if inside else []
    outside = [hit for hit in hits if not any(begin <= hit <= end for begin, end in spans)]
    for hit in outside:
        before = [span for span in spans if span[1] < hit]
        width = max(before[-1][1] - before[-1][0], 1) if before else 1
        raw += FALSE_COST * (sigmoid((hit - before[-1][1]) / width) if before else -1)
    return Score(len(delays), len(spans), delays, len(outside), (len(hours) - skipped) / 168, raw)


def sigmoid(position: float) -> float:
    """Return what an alert counts by its position to a window, which reaches from -1 to 0."""
    return -1.0 if position > 3 else 2 / (1 + math.exp(5 * position)) - 1


# Its speed


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate an hour of all active keys, and the first after midnight, and compare with the bare queries."""
    from benchmarks.grown.database import prepare, serve  # noqa: PLC0415

    prepare({DATABASE: (options.keys, options.events)}, fresh=options.fresh)
    server = serve(durable=False)
    try:
        url = f"{server.url(DATABASE)}?sslmode=disable"
        forecasts = work("forecasts", url, options)
        hour = work("hour", url, options)
        version = server.version
    finally:
        server.stop()
    print(f"{options.keys:,} keys, {options.events:,} requests in 90 days, PostgreSQL {version}")
    told = (
        ("an hour", hour),
        ("the first look after midnight", forecasts),
    )
    for name, one in told:
        print(
            f"{name:30} {one['seconds']:>7.2f} s (bare query {one['bare']:.2f} s, ratio {one['ratio']:.2f}), "
            f"{one['megabytes']} MB; {one['keys']:,} keys, {one['rows']:,} rows"
        )
    print(f"Goal: {SECONDS_GOAL} s, {MEMORY_GOAL} MB, ratio {RATIO_GOAL}.\n")
    return {"hour": hour, "first": forecasts, "goal": (SECONDS_GOAL, MEMORY_GOAL, RATIO_GOAL)}


def work(what: str, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own, so that its memory is the evaluation's."""
    command = [sys.executable, __file__, "--worker", what, "--runs", str(options.runs)]
    environment = os.environ | {"DATABASE_URL": url, "DEBUG": "false", "DJANGO_SETTINGS_MODULE": "keyadmin.settings"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def look(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate and time; the worker's part."""
    import django  # noqa: PLC0415

    django.setup()
    from apikeys.evaluation.unusual import GRACE, evaluate_unusual  # noqa: PLC0415
    from apikeys.models import Alert, AlertEvent, Delivery, UsageForecast, UsageWatermark  # noqa: PLC0415
    from apikeys.models.series import floor_day  # noqa: PLC0415
    from apikeys.unusual_usage import LOOKBACK  # noqa: PLC0415

    mark = UsageWatermark.read().until
    if mark is None:
        sys.exit("Nothing is rolled up.")
    now = mark + GRACE + timedelta(minutes=1)
    midnight = floor_day(now)
    taken: list[float] = []
    if options.worker == "forecasts":
        UsageForecast.objects.all().delete()
        evaluate_unusual(now, most_forecasts=BUSY)
        fill(midnight - LOOKBACK * HOUR, midnight)
        for _ in range(options.runs):
            UsageForecast.objects.all().delete()
            taken.append(timed(lambda: evaluate_unusual(now, most_forecasts=BUSY)))
        memory, made = peak(), UsageForecast.objects.count()
        times = sorted(bare_query(midnight - LOOKBACK * HOUR, midnight) for _ in range(options.runs))
    else:
        more = 0
        while more < (more := UsageForecast.objects.count()):
            evaluate_unusual(now)
        made = more
        fill(midnight, mark)
        # Else nearly all of them would be unusual today, which is another thing to measure.
        busy = UsageForecast.objects.order_by("key").values_list("packed", flat=True)[0]
        UsageForecast.objects.update(packed=busy)
        for model in (Delivery, AlertEvent, Alert):
            model.objects.all().delete()
        evaluate_unusual(now)
        taken += [timed(lambda: evaluate_unusual(now)) for _ in range(options.runs)]
        memory = peak()
        times = sorted(bare_query(midnight, mark) for _ in range(options.runs))
    seconds, (bare, rows) = statistics.median(taken), times[len(times) // 2]
    return {
        "keys": made,
        "rows": rows,
        "seconds": round(seconds, 3),
        "bare": round(bare, 3),
        "ratio": round(seconds / bare, 2),
        "megabytes": memory,
    }


def timed(work: Any) -> float:
    """Return how many seconds some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak() -> int:
    """Return this process's most memory, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fill(since: datetime, until: datetime) -> None:
    """Let each key that has a forecast be used in every hour: the grown data have few that are."""
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO apikeys_usagehour (key_id, hour, outcome, count)"
            " SELECT key_id, hour, 'valid', 20 + (30 * random())::int FROM apikeys_usageforecast,"
            " generate_series(%s::timestamptz, %s::timestamptz - interval '1 hour', interval '1 hour') hour"
            " ON CONFLICT DO NOTHING",
            [since, until],
        )
        cursor.execute("VACUUM (ANALYZE) apikeys_usagehour, apikeys_usageforecast")


def bare_query(since: datetime, until: datetime) -> tuple[float, int]:
    """Return how many seconds it takes to read the roll-ups of the keys that have a forecast, and how many rows."""
    from django.db import connection  # noqa: PLC0415

    statement = (
        "SELECT key_id, hour, count FROM apikeys_usagehour WHERE hour >= %s AND hour < %s AND outcome = 'valid'"
        " AND key_id IN (SELECT key_id FROM apikeys_usageforecast) ORDER BY key_id, hour"
    )
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(statement, [since, until])
        rows = sum(len(some) for some in _chunks(cursor))
    return time.perf_counter() - began, rows


def _chunks(cursor: Any) -> Iterator[list[Any]]:
    while some := cursor.fetchmany(5000):
        yield some


if __name__ == "__main__":
    sys.exit(main())
