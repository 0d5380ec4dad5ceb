"""How often something asks: a rhythm over day and week, as the share of a usual day's requests in each hour."""

from __future__ import annotations

import math
import random
from datetime import datetime
from typing import Final


def _week(weekday: list[float], saturday: float, sunday: float) -> list[list[float]]:
    """Return seven days of 24 weights, which sum to seven: one usual day each on average."""
    days = [[weight * part for weight in weekday] for part in (1, 1, 1, 1, 1, saturday, sunday)]
    total = sum(map(sum, days))
    return [[7 * weight / total for weight in day] for day in days]


def _bell(hours: dict[int, float], width: float, floor: float = 0.0) -> list[float]:
    return [
        floor + sum(top * math.exp(-(((hour - peak) / width) ** 2)) for peak, top in hours.items())
        for hour in range(24)
    ]


_SHIFT = [1.0 if 5 <= hour < 21 else 0.0 for hour in range(24)]
RHYTHMS: Final = {
    "steady": _week(_bell({13: 1.0}, 6, 0.5), 0.7, 0.6),
    "shop": _week(_bell({12: 0.7, 20: 1.0}, 2.6, 0.05), 1.15, 0.55),
    "office": _week(_bell({10: 1.0, 15: 0.9}, 2.2), 0, 0),
    "shift": _week(_SHIFT, 0.5, 0),
    "batches": _week([float(hour in {10, 13, 16, 19}) for hour in range(24)], 1.2, 0.3),
    "night": _week([float(hour == 2) for hour in range(24)], 1, 1),
    "hourly": _week([1.0] * 24, 1, 1),
    "morning": _week([float(hour == 6) for hour in range(24)], 0, 0),
}
# These ask at the same minute each time; the others whenever somebody does something.
PUNCTUAL: Final = {"batches": 2, "night": 0, "hourly": 5, "morning": 30}


def expected(rhythm: str, hour: datetime, per_day: float) -> float:
    """Return how many requests the hour that begins then usually has."""
    return per_day * RHYTHMS[rhythm][hour.weekday()][hour.hour]


def poisson(rng: random.Random, mean: float) -> int:
    """Return how many of things that happen ``mean`` times on average happen this time."""
    if mean <= 0:
        return 0
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
