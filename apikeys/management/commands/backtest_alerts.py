"""backtest_alerts: say what alerts about unusual usage a series of request counts would have raised."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import numpy as np
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.evaluation.occurrences import Occurrence
from apikeys.evaluation.preview import episodes
from apikeys.evaluation.unusual import as_occurrence
from apikeys.management.base import Command as Base
from apikeys.models import AlertKind
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.usage import HOUR
from apikeys.unusual_usage import Array, Sensitivity, backtest

COLUMNS: Final = ("timestamp", "value")
# 25 months: as long as counts are kept.
MOST_HOURS: Final = 25 * 31 * 24
MOST_VALUE: Final = 1e15


class _Row(NamedTuple):
    """A line of the file: its number, when, and how many requests."""

    line: int
    at: datetime
    value: float


class Command(Base):
    """Backtest alerts."""

    help = (
        "Say what alerts about unusual usage a series of request counts would have raised, judged hour by hour as the "
        "requests of a key are: from the hours before alone, with the usual settings. Reads no database."
    )
    exit_statuses = {0: "done, also when nothing was unusual", 1: "the file cannot be read", 2: "wrong usage"}
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--series",
            required=True,
            metavar="FILE.csv",
            help="A file with the columns timestamp (ISO 8601; UTC where it names no zone) and value, of any regular "
            "spacing up to an hour, in any order; counts are summed to whole hours. - reads stdin.",
        )
        parser.add_argument(
            "--sensitivity",
            choices=[one.value for one in Sensitivity],
            default=Sensitivity.NORMAL.value,
            help="As in the rule's settings; default: %(default)s.",
        )
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Print the hour of each alert."""
        name = options["series"]
        try:
            if name == "-":
                rows = list(_read(sys.stdin))
            else:
                with Path(name).open(newline="", encoding="utf-8-sig") as file:
                    rows = list(_read(file))
        except (OSError, UnicodeDecodeError, csv.Error, argparse.ArgumentTypeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CommandError(f"--series {name}: {reason}") from error
        start, counts, is_naive = _hourly(name, rows)
        alerts = list(raised(start, counts, Sensitivity(options["sensitivity"])))
        told = [_iso(one.hour, is_naive=is_naive) for one in alerts]
        facts = {
            "alerts": told,
            "details": [{"hour": hour, **one.facts} for hour, one in zip(told, alerts, strict=True)],
        }
        self.answer(options, facts, "\n".join([*map(_words, told, alerts), _closing(len(told), counts)]))


def raised(start: datetime, counts: Array, sensitivity: Sensitivity) -> Iterator[Occurrence]:
    """Yield the occurrence that each alert of a key would have been opened by; later ones are added to it.

    ``counts``: (1, hours) from a midnight (UTC) on, NaN before the first.
    """
    [unusual] = backtest(counts, sensitivity=sensitivity)
    found = [as_occurrence(start + one.hour * HOUR, one, is_complete=True) for one in unusual]
    yield from episodes(found, timedelta(hours=AlertKind.UNUSUAL_USAGE.traits.calm))


def _read(file: TextIO) -> Iterator[_Row]:
    """Yield the rows; raises ArgumentTypeError naming the line."""
    reader = csv.DictReader(file)
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    if not set(COLUMNS) <= set(names):
        have = ", ".join(names) or "nothing"
        raise argparse.ArgumentTypeError(f"must have the columns timestamp and value; its first line has {have}.")
    for row in reader:
        line = reader.line_num
        yield _Row(line, _instant(row["timestamp"], line), _count(row["value"], line))


def _instant(text: str | None, line: int) -> datetime:
    try:
        return datetime.fromisoformat((text or "").strip())
    except ValueError:
        shown = repr((text or "")[:40])
        raise argparse.ArgumentTypeError(
            f"line {line}: timestamp must read like 2015-03-01T04:00:00, not {shown}."
        ) from None


def _count(text: str | None, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_VALUE:
        shown = repr((text or "")[:40])
        raise argparse.ArgumentTypeError(f"line {line}: value must be a count from 0 to 10^15, not {shown}.")
    return value


def _hourly(name: str, rows: Iterable[_Row]) -> tuple[datetime, Array, bool]:
    """Return counts by hour from the midnight before the first on, and whether timestamps named no zone."""
    sums: dict[datetime, float] = {}
    ats: set[datetime] = set()
    zones: set[bool] = set()
    for row in rows:
        zones.add(row.at.tzinfo is None)
        at = row.at.replace(tzinfo=UTC) if row.at.tzinfo is None else row.at.astimezone(UTC)
        ats.add(at)
        hour = floor_hour(at)
        sums[hour] = sums.get(hour, 0.0) + row.value
        if len(zones) > 1:
            raise CommandError(f"--series {name}: line {row.line}: some timestamps name a time zone and some do not.")
    if not sums:
        raise CommandError(f"--series {name}: has no counts below its first line.")
    first, last = min(sums), max(sums)
    spacing = _spacing(name, ats)
    if (last - first) // HOUR >= MOST_HOURS:
        raise CommandError(f"--series {name}: reaches from {first:%Y-%m-%d} to {last:%Y-%m-%d}; at most 25 months.")
    start = floor_day(first)
    counts = np.full((1, (last - start) // HOUR + 1), np.nan)
    counts[0, (first - start) // HOUR :] = 0
    for hour, value in sums.items():
        counts[0, (hour - start) // HOUR] = value
    # An hour that the file ends in is not over, and nobody can say that it lacks something.
    is_over = max(ats) + spacing >= last + HOUR
    return start, counts if is_over else counts[:, :-1], zones == {True}


def _spacing(name: str, ats: set[datetime]) -> timedelta:
    """Return the time between two counts, the median where it is not regular."""
    gaps = sorted(after - before for before, after in pairwise(sorted(ats)))
    spacing = gaps[len(gaps) // 2] if gaps else HOUR
    if spacing > HOUR:
        raise CommandError(f"--series {name}: most counts are {spacing} apart; at most an hour.")
    return spacing


def _iso(hour: datetime, *, is_naive: bool) -> str:
    return (hour.replace(tzinfo=None) if is_naive else hour).isoformat()


def _words(hour: str, one: Occurrence) -> str:
    facts = one.facts
    span = f"in the {facts['together']} hours up to it" if facts["together"] > 1 else "in it"
    return (
        f"{hour}  {facts['shape']}: {facts['count']:,} requests {span}; usually {facts['low']:,} to {facts['high']:,}"
    )


def _closing(alerts: int, counts: Array) -> str:
    hours = int(np.count_nonzero(~np.isnan(counts)))
    return f"{alerts:,} {'alert' if alerts == 1 else 'alerts'} in {hours:,} hours."
