"""Whether a key's requests in an hour are unusual: a spike, a drop or silence. Pure functions of hourly counts.

An hour is compared with what the same hour of the day had in the last seven days, and the same hour of the week, with
its neighbours, in the last four weeks: their median is what is expected, so that one odd day moves nothing. The
difference is a logarithm of the ratio, so that a busy key and a quiet one are judged alike, with an offset below which
counts are noise, and divided by the noise that counts of that size have anyway (Poisson). An hour is unusual when its
difference is beyond every one that the key had in the last four weeks, and beyond some robust deviations (MAD) of them;
so is a run of hours whose mean is. A key that is bursty by itself has seen such hours, and is not told of again. What
is left must not be chance: independent requests would differ so much from the mean of the like hours, some percent of
it aside, once in millions of hours (the deviance of Poisson counts). Of a quiet key only that tells.

The parts are standard: seasonal medians (Cleveland et al., STL, 1990), robust deviations (Hampel 1974; Hochenbaum,
Vallis, Kejariwal, "Automatic Anomaly Detection in the Cloud Via Statistical Learning", 2017), an accumulated mean of
residuals against a slow change (Page, CUSUM, 1954), and thresholds from past extremes instead of a distribution
(Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory", 2017), and the deviance of counts (McCullagh
and Nelder, Generalized Linear Models, 1989, section 2.3).

Everything that a day is judged by is known at its midnight (UTC), from eight weeks and two days before it: nothing is
trained, and nothing else is kept. Clocks that are put forward shift a key's rhythm by an hour; the neighbours of an
hour bear that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

type Array = npt.NDArray[np.float64]

DAY: Final = 24
# Four weeks are looked back from each hour, and from each of the hours of the four weeks before; a day more because of
# the neighbours of an hour, and one because of the hours before it.
WEEKS: Final = 28 * DAY
LOOKBACK: Final = 2 * WEEKS + 2 * DAY
# A younger key has no rhythm yet: after seven days, what is usual on a Sunday would be what its first six days had.
LEAST_HISTORY: Final = 8 * DAY
# So many hours together may be unusual where none of them is.
RUN: Final = 6

_LAGS: Final = np.array(
    [*(DAY * day for day in range(1, 8)), *(168 * week + near for week in range(1, 5) for near in (-1, 0, 0, 1))]
)
_OFFSET: Final = 0.12
_LEAST_SPREAD: Final = 0.08
_POISSON: Final = 1.5
_MAD: Final = 1.4826
_SPIKE: Final = (2.25, 1.03)
_DROP: Final = (6.0, 1.2)
_MEAN: Final = (3.75, 1.2)
# Fewer requests more or less than usual are nothing to be told of, nor what is less unlikely than so many standard
# deviations, when the mean is as far off as it may be: by its error, and so many percent.
LEAST_CHANGE: Final = 10.0
_DEVIANCE: Final = 5.25**2
_MARGIN: Final = 1.15
_SAME_HOURS: Final = len(set(_LAGS[_LAGS % DAY == 0].tolist()))


class Shape(StrEnum):
    """In which way an hour is unusual."""

    SPIKE = "spike"
    DROP = "drop"
    SILENCE = "silence"


class Sensitivity(StrEnum):
    """How far beyond the extremes of the last four weeks an hour has to be."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


_SCALES: Final = {Sensitivity.LOW: 1.15, Sensitivity.NORMAL: 1.0, Sensitivity.HIGH: 0.9}


class Forecast(NamedTuple):
    """What some keys' day is judged by, a row a key: all that is known at its midnight.

    ``expected`` and ``mean``: (n, 24) median and mean requests of the like hours before; ``offset``: (n, 1);
    ``before``: (n, RUN - 1) differences of the hours before it; ``bounds``: (n, 4) differences beyond which an hour is
    a spike and a drop, and a run of hours too many and too few. A row of a key that is too young has bounds that
    nothing is beyond.
    """

    expected: Array
    mean: Array
    offset: Array
    before: Array
    bounds: Array

    @property
    def packed(self) -> Array:
        """All of it as one array, a row a key: to be stored."""
        return np.concatenate(self, axis=1)

    @classmethod
    def unpack(cls, packed: Array) -> Forecast:
        """Return what was packed."""
        return cls(*np.split(packed, np.cumsum([DAY, DAY, 1, RUN - 1]), axis=1))


@dataclass(frozen=True, slots=True)
class Unusual:
    """An unusual hour: its number, in which way, the requests, and how many are usual.

    ``count``, ``low`` and ``high`` are those of the hour, or of so many ``hours`` up to it that are unusual together.
    """

    hour: int
    shape: Shape
    count: int
    low: int
    high: int
    hours: int = 1


def forecast(counts: Array) -> Forecast:
    """Return what the day after some counts is judged by.

    ``counts``: (n, LOOKBACK) requests an hour up to a midnight, NaN before a key's first hour.
    """
    return look_back(counts, since=counts.shape[1])[1]


def _forecasts(counts: Array, first: int) -> list[Forecast]:
    """Return the forecast of each day from one on, of counts (n, days * 24) that begin at a midnight."""
    # What is before that is needed for what is expected alone.
    begin = max(0, first - WEEKS // DAY - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected, mean = _like_hours(counts, begin * DAY)
        offset = _offsets(counts, begin)
        differences = _differences(counts[:, begin * DAY :], expected, np.repeat(offset, DAY, axis=1))
        means = _running_means(differences)
        found = []
        for day in range(first - begin, counts.shape[1] // DAY - begin):
            start = day * DAY
            past = slice(max(0, start - WEEKS), start)
            bounds = _bounds(counts[:, : (begin + day) * DAY], differences[:, past], means[:, past])
            before = np.nan_to_num(differences[:, start - RUN + 1 : start])
            today = slice(start, start + DAY)
            likely = np.nan_to_num(expected[:, today]), np.nan_to_num(mean[:, today])
            found.append(Forecast(*likely, offset[:, day : day + 1], before, bounds))
    return found


def _like_hours(counts: Array, begin: int) -> tuple[Array, Array]:
    """Return the median and the mean of the like hours before each hour from one on, NaN where there are none.

    The mean is of the same hour on other days: of a job that runs once a day the neighbours have nothing.
    """
    longest = int(_LAGS.max())
    padded = np.concatenate([np.full((len(counts), longest), np.nan), counts], axis=1)
    hours = np.arange(begin, counts.shape[1]) + longest
    like = padded[:, hours[:, None] - _LAGS[None, :]]
    same = like[..., _LAGS % DAY == 0]
    return _median(like), np.nansum(same, axis=-1) / np.count_nonzero(~np.isnan(same), axis=-1)


def _offsets(counts: Array, begin: int) -> Array:
    """Return below how many requests differences are noise, a day from one on: a part of the median of four weeks."""
    days = range(begin, counts.shape[1] // DAY)
    found = np.ones((len(counts), len(days)))
    for column, day in enumerate(days):
        if day:
            found[:, column] += _OFFSET * np.nan_to_num(_median(counts[:, max(0, day * DAY - WEEKS) : day * DAY]))
    return found


def _differences(counts: Array, expected: Array, offset: Array) -> Array:
    """Return how far counts are from what was expected, in units of the noise that such counts have."""
    usual = np.maximum(expected, 0)
    return np.log((counts + offset) / (usual + offset)) / _spread(usual, offset)


def _spread(usual: Array, offset: Array) -> Array:
    """Return the noise of counts around what is usual, as a logarithm: of no request it is that of one.

    Otherwise the few requests of a quiet night would be beyond any spike by day, and hide it.
    """
    noisy = np.maximum(usual, 1)
    return np.sqrt(_LEAST_SPREAD**2 + _POISSON * noisy / (noisy + offset) ** 2)


def _running_means(values: Array) -> Array:
    """Return the mean of each value and the RUN - 1 before it, NaN where one of them is."""
    padded = np.concatenate([np.full((len(values), RUN - 1), np.nan), values], axis=1)
    return np.lib.stride_tricks.sliding_window_view(padded, RUN, axis=1).mean(axis=-1)


def _bounds(counts: Array, differences: Array, means: Array) -> Array:
    """Return beyond what a difference, and a mean of some, is unusual: infinity for a key that is too young."""
    unit, run = _deviation(differences), _deviation(means)
    found = np.stack(
        [
            np.maximum(_SPIKE[0] * unit, _SPIKE[1] * _greatest(differences)),
            np.minimum(-_DROP[0] * unit, _DROP[1] * -_greatest(-differences)),
            np.maximum(_MEAN[0] * run, _MEAN[1] * _greatest(means)),
            np.minimum(-_MEAN[0] * run, _MEAN[1] * -_greatest(-means)),
        ],
        axis=1,
    )
    young = np.count_nonzero(~np.isnan(counts), axis=1) < LEAST_HISTORY
    found[young] = (np.inf, -np.inf, np.inf, -np.inf)
    return found


def _deviation(values: Array) -> Array:
    """Return the robust standard deviation of each row: the median of distances from the median, scaled."""
    centre = _median(values)[:, None]
    return _MAD * np.nan_to_num(_median(np.abs(values - centre))) + 0.03


def _greatest(values: Array) -> Array:
    """Return the greatest of each row, 0 of one without any."""
    return np.nan_to_num(np.fmax.reduce(values, axis=1), nan=0.0)


def _median(values: Array) -> Array:
    """Return the median along the last axis without NaN; NaN where all are. Several times faster than nanmedian."""
    ordered = np.sort(values, axis=-1)
    known = np.count_nonzero(~np.isnan(ordered), axis=-1)
    low = np.maximum((known - 1) // 2, 0)[..., None]
    high = np.minimum(known // 2, ordered.shape[-1] - 1)[..., None]
    middle = (np.take_along_axis(ordered, low, -1) + np.take_along_axis(ordered, high, -1)) / 2
    return np.where(known > 0, middle[..., 0], np.nan)


def judge(
    known: Forecast, today: Array, *, sensitivity: Sensitivity = Sensitivity.NORMAL, is_running: bool = False
) -> list[list[Unusual]]:
    """Return the unusual hours of each key's day so far, in their order.

    ``today``: (n, hours) counts from midnight on. With ``is_running`` the last hour is not over: it is a spike when it
    is beyond the bound already, and never too little.
    """
    hours = today.shape[1]
    if not hours:
        return [[] for _ in today]
    expected, mean = known.expected[:, :hours], known.mean[:, :hours]
    differences = _differences(today, expected, known.offset)
    means = _running_means(np.concatenate([known.before, differences], axis=1))[:, RUN - 1 :]
    spike, drop, many, few = (known.bounds.T * _SCALES[sensitivity])[..., None]
    most, least = _likely_range(expected, mean)
    above, below = (differences > spike) & _is_more(today, most), (differences < drop) & _is_less(today, least)
    run, most, least = _running_sum(today), _running_sum(most), _running_sum(least)
    many, few = (means > many) & _is_more(run, most), (means < few) & _is_less(run, least)
    if is_running:
        below[:, -1] = many[:, -1] = few[:, -1] = False
    found: list[list[Unusual]] = [[] for _ in today]
    # An hour that is unusual by itself makes those after it unusual together with it; that is told once.
    many &= ~_lately(above)
    few &= ~_lately(below)
    for row, hour in np.argwhere(above | below | many | few):
        is_more = bool(above[row, hour] or many[row, hour])
        together = 1 if above[row, hour] or below[row, hour] else min(RUN, int(hour) + 1)
        hours_of = slice(int(hour) + 1 - together, int(hour) + 1)
        found[row].append(_unusual(known, row, today[row, hours_of], hours_of, _SCALES[sensitivity], is_more=is_more))
    return found


def _likely_range(expected: Array, mean: Array) -> tuple[Array, Array]:
    """Return how many requests an hour may have on average at the most and the least, given what is known of it."""
    upper, lower = np.maximum(expected, mean), np.minimum(expected, mean)
    # By the standard error of a mean of so many hours, and some percent.
    upper = (upper + np.sqrt(upper / _SAME_HOURS)) * _MARGIN
    return upper, np.maximum(lower - np.sqrt(lower / _SAME_HOURS), 0) / _MARGIN


def _lately(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Say of each hour whether one of the RUN - 1 before it is flagged."""
    return _running_sum(flags.astype(np.float64)) - flags > 0


def _is_more(counts: Array, usual: Array) -> npt.NDArray[np.bool_]:
    return (counts - usual >= LEAST_CHANGE) & (_deviance(counts, usual) >= _DEVIANCE)


def _is_less(counts: Array, usual: Array) -> npt.NDArray[np.bool_]:
    return (usual - counts >= LEAST_CHANGE) & (_deviance(counts, usual) >= _DEVIANCE)


def _deviance(counts: Array, mean: Array) -> Array:
    """Return how unlikely counts are given their means: about the square of standard deviations."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithms = np.where(counts > 0, counts * np.log(counts / mean), 0.0)
    return 2 * (logarithms - (counts - mean))


def _running_sum(values: Array) -> Array:
    """Return the sum of each value and the RUN - 1 before it, of those there are; NaN counts nothing."""
    padded = np.concatenate([np.zeros((len(values), RUN - 1)), np.nan_to_num(values)], axis=1)
    return np.lib.stride_tricks.sliding_window_view(padded, RUN, axis=1).sum(axis=-1)


def _unusual(known: Forecast, row: int, counts: Array, hours: slice, scale: float, *, is_more: bool) -> Unusual:
    """Return what is told of an hour, or of some together: between which counts they are usual.

    That is where their difference is half of the way to the bounds of an hour, or of a run of hours.
    """
    expected, offset, total = known.expected[row, hours], known.offset[row, 0], int(counts.sum())
    many, few = known.bounds[row, :2] if len(counts) == 1 else known.bounds[row, 2:]
    spread = _spread(expected, offset)
    edges = [
        np.maximum((expected + offset) * np.exp(np.clip(bound * scale * spread / 2, -50, 50)) - offset, 0).sum()
        for bound in (few, many)
    ]
    # The counts of a run may be far from usual in its middle and not in all.
    low, high = int(min(edges[0], np.ceil(expected.sum()))), int(np.ceil(edges[1]))
    if is_more:
        high = max(min(high, total - 1), int(np.ceil(expected.sum())))
    else:
        low = min(max(low, total + 1), int(np.ceil(expected.sum())))
    shape = Shape.SPIKE if is_more else Shape.SILENCE if total == 0 else Shape.DROP
    return Unusual(hours.stop - 1, shape, total, low, high, len(counts))


def backtest(counts: Array, *, sensitivity: Sensitivity = Sensitivity.NORMAL, since: int = 0) -> list[list[Unusual]]:
    """Return the unusual hours of some keys' whole history, as the hours' numbers from its beginning.

    ``counts``: (n, hours) from a midnight on, NaN before a key's first hour. Each day is judged exactly as it was, or
    would have been, on that day. Days before ``since``, a number of hours, are not.
    """
    return look_back(counts, sensitivity=sensitivity, since=since)[0]


def look_back(
    counts: Array, *, sensitivity: Sensitivity = Sensitivity.NORMAL, since: int = 0
) -> tuple[list[list[Unusual]], Forecast]:
    """Return the same, and what the first day that is not complete is judged by."""
    days = counts.shape[1] // DAY + 1
    padded = np.full((len(counts), days * DAY), np.nan)
    padded[:, : counts.shape[1]] = counts
    # No day looks back on more than that.
    first = max(1, since // DAY)
    start = max(0, first - LOOKBACK // DAY)
    found: list[list[Unusual]] = [[] for _ in counts]
    forecasts = _forecasts(padded[:, start * DAY :], first=first - start)
    for day, known in enumerate(forecasts, first):
        today = counts[:, day * DAY : (day + 1) * DAY]
        for row, some in enumerate(judge(known, today, sensitivity=sensitivity)):
            found[row] += [replace(one, hour=day * DAY + one.hour) for one in some]
    return found, forecasts[-1]
