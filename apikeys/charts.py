"""The geometry of the charts: numbers in, SVG coordinates and words out. No database, no markup.

A chart is drawn in its own units, one unit per bar across and 100 units up, and stretched by the
stylesheet; what is written beside it is placed in percent, so that letters keep their shape on a phone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise

HEIGHT = 100
GAP = 0.14
MOST_LABELS = 8
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

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
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LEVELS = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to what a chart shows, at one instant; ``kind`` names its colour."""

    at: datetime
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class PlacedMark:
    """A mark with its place across, in percent, and its words with the time."""

    x: str
    kind: str
    at: datetime
    words: str
    title: str


@dataclass(frozen=True, slots=True)
class Usual:
    """How many requests the step of time that begins at an instant usually has."""

    at: datetime
    low: int
    high: int

    @property
    def words(self) -> str:
        """What it says, in words."""
        return f"usually {self.low:,} to {self.high:,}"


@dataclass(frozen=True, slots=True)
class PlacedUsual:
    """A usual range with its place: across from ``x`` on, a column wide, and down from ``y``, ``height`` units."""

    x: int
    y: str
    height: str
    words: str


@dataclass(frozen=True, slots=True)
class Label:
    """A word under the axis, ``x`` percent across; minor ones give way where there is little room."""

    x: str
    text: str
    anchor: str
    is_minor: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """One outcome of a stacked chart: its total and one SVG path with all of its bars."""

    outcome: str
    label: str
    total: int
    path: str


@dataclass(frozen=True, slots=True)
class Column:
    """One step of time: where it stands, what it says when it is pointed at, and its row in the table."""

    x: int
    start: datetime
    label: str
    title: str
    counts: list[int]
    total: int
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Chart:
    """A stacked bar chart; ``ticks`` run from 0 up, ``unmeasured`` bars on the left are of before recording began."""

    width: int
    layers: list[Layer]
    columns: list[Column]
    ticks: list[int]
    lines: str
    labels: list[Label]
    marks: list[PlacedMark]
    unmeasured: str
    unit: str
    total: int
    refused: int
    usual: PlacedUsual | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One hour of the week: its place, its level from 0 (nothing) to LEVELS, and what it says."""

    x: int
    y: int
    level: int
    title: str


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
    """Return the path of a row of thin bars, `stride` apart, rounded up: a used day is never lower than one unit."""
    top = max(counts, default=0)
    if not top:
        return ""
    return "".join(
        f"M{index * stride + 1} {height}v-{-(-count * height // top)}" for index, count in enumerate(counts) if count
    )


def stacked_bars(
    edges: Sequence[datetime],
    counts: Mapping[str, Sequence[int]],
    labels: Mapping[str, str],
    *,
    now: datetime,
    zone: tzinfo = UTC,
    marks: Sequence[Mark] = (),
    measured_since: datetime | None = None,
    stack: Sequence[str] = STACK,
    usual: Usual | None = None,
) -> Chart:
    """Lay out one bar between each two edges, its outcomes stacked; those that never happened are left out.

    ``stack`` names them from the bottom to the top; the first is always told. ``usual`` is drawn around one step.
    """
    local = [edge.astimezone(zone) for edge in edges]
    shown = [name for name in stack if name == stack[0] or any(counts.get(name, ()))]
    rows = [[_at(counts.get(name, ()), index) for name in shown] for index in range(len(edges) - 1)]
    ticks = round_ticks(max([*(sum(row) for row in rows), usual.high if usual else 0]))
    layers = [
        Layer(name, labels[name], sum(row[place] for row in rows), _bars(rows, place, ticks[-1]))
        for place, name in enumerate(shown)
    ]
    placed = [_placed(mark, edges, zone) for mark in marks if edges[0] <= mark.at < edges[-1]]
    band = _placed_usual(usual, edges, ticks[-1]) if usual else None
    total = sum(layer.total for layer in layers)
    return Chart(
        width=len(rows),
        layers=layers,
        columns=_columns(local, rows, [labels[name] for name in shown], placed, now, band),
        ticks=ticks,
        lines="".join(f"M0 {_number(HEIGHT - tick * HEIGHT / ticks[-1])}h{len(rows)}" for tick in ticks),
        labels=_axis(local),
        marks=placed,
        unmeasured=_number(_position(measured_since, edges)) if measured_since and measured_since > edges[0] else "",
        unit=unit_words(edges),
        total=total,
        refused=total - layers[0].total,
        usual=band,
    )


def week_cells(week: Sequence[Sequence[int]]) -> list[Cell]:
    """Lay out the hours of a week, days down and hours across; four levels, each the square of a quarter of the top.

    The root lets a quiet hour be seen beside a busy one.
    """
    top = max((count for day in week for count in day), default=0)
    return [
        Cell(hour, day, _level(count, top), f"{WEEKDAYS[day]} {hour:02}:00: {_requests(count)}")
        for day, hours in enumerate(week)
        for hour, count in enumerate(hours)
    ]


def unit_words(edges: Sequence[datetime]) -> str:
    """Say what one bar stands for: "minute", "hour", "6 hours", "day", "week", "month"."""
    step = _usual_step(edges)
    if step < HOUR:
        minutes = round(step / MINUTE)
        return "minute" if minutes == 1 else f"{minutes} minutes"
    if step < DAY - 2 * HOUR:
        hours = round(step / HOUR)
        return "hour" if hours == 1 else f"{hours} hours"
    days = round(step / DAY)
    return "day" if days == 1 else "week" if days == 7 else "month" if days > 27 else f"{days} days"


def _usual_step(edges: Sequence[datetime]) -> timedelta:
    steps = sorted(later - earlier for earlier, later in pairwise(edges))
    return steps[len(steps) // 2]


def _at(values: Sequence[int], index: int) -> int:
    return values[index] if index < len(values) else 0


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _requests(count: int) -> str:
    return f"{count:,} request{'' if count == 1 else 's'}" if count else "no requests"


def _level(count: int, top: int) -> int:
    return -int(-LEVELS * (count / top) ** 0.5 // 1) if count else 0


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


def _position(at: datetime, edges: Sequence[datetime]) -> float:
    """Return where an instant lies across, in bars."""
    for index, (start, end) in enumerate(pairwise(edges)):
        if at < end:
            return index + max(at - start, timedelta()) / (end - start)
    return len(edges) - 1


def _placed(mark: Mark, edges: Sequence[datetime], zone: tzinfo) -> PlacedMark:
    x = _position(mark.at, edges) * 100 / (len(edges) - 1)
    when = mark.at.astimezone(zone).strftime("%-d %b, %H:%M")
    return PlacedMark(f"{_number(x)}%", mark.kind, mark.at, mark.words, f"{mark.words} {when}")


def _placed_usual(usual: Usual, edges: Sequence[datetime], top: int) -> PlacedUsual | None:
    step = next((index for index, (start, end) in enumerate(pairwise(edges)) if start <= usual.at < end), None)
    if step is None:
        return None
    # A range that is one number must still be seen.
    tall = max((usual.high - usual.low) * HEIGHT / top, 1)
    return PlacedUsual(step, _number(HEIGHT - usual.high * HEIGHT / top), _number(tall), usual.words)


def _columns(
    local: Sequence[datetime],
    rows: Sequence[Sequence[int]],
    names: Sequence[str],
    marks: Sequence[PlacedMark],
    now: datetime,
    usual: PlacedUsual | None,
) -> list[Column]:
    columns = []
    for index, (row, (start, end)) in enumerate(zip(rows, pairwise(local), strict=True)):
        notes = [mark.title for mark in marks if start <= mark.at < end]
        if usual and usual.x == index:
            notes.append(usual.words.capitalize())
        label = _moment(start, end, now)
        words = [f"{count:,} {name}" for name, count in zip(names, row, strict=True) if count] or ["no requests"]
        title = ". ".join([f"{label}: {', '.join(words)}", *notes])
        columns.append(Column(index, start, label, title, list(row), sum(row), notes))
    return columns


def _moment(start: datetime, end: datetime, now: datetime) -> str:
    """Name a step of time: an hour, some hours, a day, some days or a month."""
    running = " (so far)" if start <= now < end else ""
    year = "" if start.year == now.astimezone(start.tzinfo).year else " %Y"
    length = end - start
    if length < HOUR:
        told = f"{start.strftime(f'%a %-d %b{year}, %H:%M')} to {end.strftime('%H:%M')}"
    elif length <= HOUR:
        told = start.strftime(f"%a %-d %b{year}, %H:%M")
    elif length < 20 * HOUR:
        told = f"{start.strftime(f'%a %-d %b{year}, %H:%M')} to {end.strftime('%H:%M')}"
    elif length < 30 * HOUR:
        told = start.strftime(f"%a %-d %b{year}" + (", from %H:%M" if start.minute else ""))
    elif length > 27 * DAY and start.day == 1:
        told = start.strftime("%B %Y")
    else:
        told = f"{start.strftime('%-d %b')} to {(end - HOUR).strftime(f'%-d %b{year}')}"
    return told + running


def _axis(local: Sequence[datetime]) -> list[Label]:
    """Return the words under the axis: at round times, as many as fit."""
    step = _usual_step(local)
    told = [_tick_words(start, step, len(local)) for start in local[:-1]]
    if step > 27 * DAY:
        told[0] = local[0].strftime("%b %Y")
    found = [(index, text) for index, text in enumerate(told) if text]
    found = found[:: -(-len(found) // MOST_LABELS) or 1]
    width = len(local) - 1
    labels = []
    for place, (index, text) in enumerate(found):
        x = (index + 0.5) * 100 / width
        anchor = "start" if x < 4 else "end" if x > 96 else "middle"
        labels.append(Label(f"{_number(x)}%", text, anchor, place % 2 == 1))
    return labels


def _tick_words(start: datetime, step: timedelta, count: int) -> str:
    if step < HOUR:
        return start.strftime("%H:%M") if start.minute % (10 if step < 5 * MINUTE else 60) == 0 else ""
    if step <= HOUR:
        return "" if start.hour % 6 else start.strftime("%H:%M" if start.hour else "%-d %b")
    if step < DAY - 2 * HOUR:
        return "" if start.hour >= step / HOUR else start.strftime("%a %-d")
    if step < 2 * DAY:
        return start.strftime("%-d %b") if count < 16 or start.weekday() == 0 else ""
    if step > 27 * DAY:
        return start.strftime("%b" if start.month > 1 else "%b %Y")
    return start.strftime("%-d %b")
