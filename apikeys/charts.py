"""The geometry of the charts: numbers in, SVG coordinates and words out. No database, no markup.

A chart is drawn in its own units, one unit per bar across and 100 units up, and stretched by the
stylesheet; the labels beside it are text of the page, so that they stay readable on a phone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HEIGHT = 100
GAP = 0.14

# Bottom to top: what passed, then what was refused, the mildest reason first.
STACK = (
    "valid",
    "rate_limited",
    "scope_missing",
    "network_denied",
    "paused",
    "expired",
    "revoked",
    "unknown",
    "malformed",
)


@dataclass(frozen=True)
class Layer:
    """One outcome of a stacked chart: its total and one SVG path with all of its bars."""

    outcome: str
    label: str
    total: int
    path: str


@dataclass(frozen=True)
class Column:
    """One step of time: where it stands, what it says when it is pointed at, and its row in the table."""

    x: int
    start: datetime
    label: str
    title: str
    counts: list[int]
    total: int


@dataclass(frozen=True)
class Chart:
    """A stacked bar chart; `ticks` run from 0 up, `labels` from the earliest step to the latest."""

    width: int
    layers: list[Layer]
    columns: list[Column]
    ticks: list[int]
    lines: str
    labels: list[str]
    step: str


def round_ticks(maximum: int, wanted: int = 3) -> list[int]:
    """Return evenly spaced round numbers from 0 to at least `maximum`, `wanted` steps or fewer."""
    target = max(maximum, 1) / wanted
    scale = 1
    while scale * 10 <= target:
        scale *= 10
    step = next(
        scale * factor // 10
        for factor in (10, 20, 25, 50, 100)
        if scale * factor / 10 >= target and scale * factor % 10 == 0
    )
    count = -(-max(maximum, 1) // step)
    return [step * number for number in range(count + 1)]


def sparkline_path(counts: Sequence[int], height: int = 20, stride: int = 3) -> str:
    """Return the path of a row of thin bars, `stride` apart; a used day is never lower than one unit."""
    top = max(counts, default=0)
    if not top:
        return ""
    return "".join(
        f"M{index * stride + 1} {height}v-{max(1, round(count * height / top))}"
        for index, count in enumerate(counts)
        if count
    )


def stacked_bars(
    starts: Sequence[datetime],
    counts: Mapping[str, Sequence[int]],
    step: timedelta,
    labels: Mapping[str, str],
) -> Chart:
    """Lay out one bar per start, its outcomes stacked; outcomes that never happened are left out."""
    shown = [name for name in STACK if name == "valid" or any(counts.get(name, ()))]
    rows = [[_at(counts.get(name, ()), index) for name in shown] for index in range(len(starts))]
    ticks = round_ticks(max((sum(row) for row in rows), default=0))
    width = max(len(starts), 1)
    layers = [
        Layer(name, labels[name], sum(row[place] for row in rows), _bars(rows, place, ticks[-1]))
        for place, name in enumerate(shown)
    ]
    columns = [
        Column(
            index,
            start,
            moment,
            _title(moment, [labels[name] for name in shown], rows[index]),
            rows[index],
            sum(rows[index]),
        )
        for index, (start, moment) in enumerate(zip(starts, _moments(starts, step), strict=True))
    ]
    lines = "".join(f"M0 {_number(HEIGHT - tick * HEIGHT / ticks[-1])}h{width}" for tick in ticks)
    return Chart(width, layers, columns, ticks, lines, _axis(columns), _step_words(step))


def _at(values: Sequence[int], index: int) -> int:
    return values[index] if index < len(values) else 0


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _bars(rows: Sequence[Sequence[int]], place: int, top: int) -> str:
    bar = _number(1 - 2 * GAP)
    parts = []
    for index, row in enumerate(rows):
        if row[place]:
            base = HEIGHT - sum(row[:place]) * HEIGHT / top
            # A handful of refusals among thousands must still be seen: half a unit at least.
            tall = max(row[place] * HEIGHT / top, 0.6)
            parts.append(f"M{_number(index + GAP)} {_number(base)}v-{_number(tall)}h{bar}v{_number(tall)}z")
    return "".join(parts)


def _moments(starts: Sequence[datetime], step: timedelta) -> list[str]:
    pattern = "%-d %b" if step >= timedelta(days=1) else "%-d %b %H:%M"
    return [start.strftime(pattern) for start in starts]


def _title(moment: str, names: Sequence[str], row: Sequence[int]) -> str:
    words = [f"{count:,} {name}" for name, count in zip(names, row, strict=True) if count] or ["no requests"]
    return f"{moment}: {', '.join(words)}"


def _axis(columns: Sequence[Column], wanted: int = 5) -> list[str]:
    if not columns:
        return []
    last = len(columns) - 1
    places = sorted({round(last * number / (wanted - 1)) for number in range(wanted)})
    return [columns[place].label for place in places]


def _step_words(step: timedelta) -> str:
    minutes = round(step.total_seconds() / 60)
    if minutes % 1440 == 0:
        return "day" if minutes == 1440 else f"{minutes // 1440} days"
    if minutes % 60 == 0:
        return "hour" if minutes == 60 else f"{minutes // 60} hours"
    return f"{minutes} minutes"
