"""The detector of unusual usage: what it tells of, what it does not, and that it knows nothing of the future."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeys.unusual_usage import DAY, LOOKBACK, RUN, Forecast, Sensitivity, Shape, backtest, forecast, judge, look_back

pytestmark = pytest.mark.any_engine

WEEK = 7 * DAY
OFFICE = np.array([2, 1, 1, 1, 1, 3, 8, 20, 45, 60, 64, 60, 50, 58, 62, 60, 48, 30, 18, 12, 9, 6, 4, 3], dtype=float)


def office(days=70, *, scale=1.0, seed=7):
    """Return counts of a key that is busy at day and quieter at weekends, from a Monday's midnight on."""
    week = np.concatenate([OFFICE * (1.0 if day < 5 else 0.2) for day in range(7)])
    means = np.tile(week, -(-days // 7))[: days * DAY] * scale
    return np.random.default_rng(seed).poisson(means).astype(float)[None, :]


def shapes(counts, **options):
    [found] = backtest(counts, **options)
    return [(one.hour, one.shape) for one in found]


@pytest.mark.parametrize("value", [0.0, 1.0, 40.0, 1e9])
def test_what_never_changes_is_never_unusual(value):
    assert shapes(np.full((1, 70 * DAY), value)) == []


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0, 30.0, 1000.0])
def test_a_rhythm_of_days_and_weeks_is_usual_however_busy(scale):
    assert shapes(office(112, scale=scale)) == []


def test_a_spike_is_told_in_its_hour_and_explained():
    counts = office()
    hour = 66 * DAY + 14
    counts[0, hour] = 600
    [one] = backtest(counts)[0]
    assert (one.hour, one.shape, one.count, one.hours) == (hour, Shape.SPIKE, 600, 1)
    assert one.low < 60 < one.high < 200


@pytest.mark.parametrize("count", [120, 741])
def test_a_spike_is_told_of_though_some_quiet_nights_had_requests(count):
    day = np.array([0] * 8 + [15] * 10 + [0] * 6, dtype=float)
    counts = np.random.default_rng(3).poisson(np.tile(day, 70)).astype(float)[None, :]
    for night in (45, 52, 58, 61):
        counts[0, night * DAY + 2] = 5
    hour = 66 * DAY + 14
    counts[0, hour] = count
    assert shapes(counts, since=62 * DAY) == [(hour, Shape.SPIKE)]


def test_some_requests_in_a_quiet_night_are_no_spike():
    counts = np.tile(np.array([0] * 8 + [15] * 10 + [0] * 6, dtype=float), 70)[None, :]
    counts[0, 66 * DAY + 2] = 5
    assert shapes(counts) == []


def test_a_key_that_stops_is_silent_within_hours_and_not_told_of_for_ever():
    counts = office(84)
    stop = 63 * DAY + 10
    counts[0, stop:] = 0
    found = shapes(counts)
    assert found[0] == (stop, Shape.SILENCE)
    assert {shape for _, shape in found} == {Shape.SILENCE}
    # After some days silence is what is usual.
    assert found[-1][0] < stop + 10 * DAY


def test_half_of_the_requests_are_told_of_as_a_drop_of_some_hours_together():
    counts = office()
    counts[0, 66 * DAY + 8 : 67 * DAY] //= 2
    found = backtest(counts)[0]
    assert {one.shape for one in found} == {Shape.DROP}
    first = found[0]
    assert 66 * DAY + 9 <= first.hour <= 66 * DAY + 15
    assert 1 <= first.hours <= RUN
    assert first.count < first.low < first.high


def test_a_night_on_which_a_daily_job_does_not_run_is_silent():
    counts = np.zeros((1, 70 * DAY))
    counts[0, 2::DAY] = 200
    counts[0, 66 * DAY + 2] = 0
    assert shapes(counts) == [(66 * DAY + 2, Shape.SILENCE)]


def test_one_request_a_month_is_never_told_of():
    counts = np.zeros((1, 200 * DAY))
    counts[0, 5 :: 30 * DAY] = 1
    assert shapes(counts) == []


def test_a_key_that_nobody_used_for_weeks_is_told_of_when_somebody_does():
    counts = np.zeros((1, 100 * DAY))
    counts[0, :DAY] = 30
    counts[0, 90 * DAY + 3] = 25
    assert shapes(counts) == [(90 * DAY + 3, Shape.SPIKE)]


def test_a_young_key_has_no_rhythm_yet():
    counts = np.full((1, 30 * DAY), np.nan)
    counts[0, 24 * DAY :] = 0
    counts[0, 26 * DAY] = 5000
    assert shapes(counts) == []


def test_a_key_that_was_first_used_on_a_saturday_is_not_told_of_when_its_second_sunday_is_as_quiet():
    counts = np.full((1, 35 * DAY), np.nan)
    # Monday to Saturday 40 an hour, Sunday none.
    counts[0, 5 * DAY + 20 :] = np.tile(np.repeat([40.0, 40, 40, 40, 40, 40, 0], DAY), 5)[5 * DAY + 20 :]
    assert shapes(counts) == []


def test_a_bursty_key_is_not_told_of_what_it_always_does():
    counts = office(112)
    counts[0, 13 :: 5 * DAY] += 700
    assert [hour for hour, _ in shapes(counts) if hour > 70 * DAY] == []


def test_sensitivity_moves_how_far_is_far():
    counts = office()
    counts[0, 66 * DAY + 12] = 92
    told = {one: len(shapes(counts, sensitivity=one)) for one in Sensitivity}
    assert told[Sensitivity.LOW] <= told[Sensitivity.NORMAL] <= told[Sensitivity.HIGH]


def test_a_running_hour_is_a_spike_when_it_is_one_already_and_never_too_little():
    counts = office(63)
    known = forecast(counts[:, -LOOKBACK:])
    today = office(70)[:, 63 * DAY : 63 * DAY + 11]
    [found] = judge(known, today, is_running=True)
    assert found == []
    today[0, 10] = 0
    assert judge(known, today, is_running=True) == [[]]
    assert [one.shape for one in judge(known, today)[0]] == [Shape.SILENCE]
    today[0, 10] = 900
    assert [(one.hour, one.shape) for one in judge(known, today, is_running=True)[0]] == [(10, Shape.SPIKE)]


def test_nothing_of_today_is_nothing():
    assert judge(forecast(office(63)[:, -LOOKBACK:]), np.zeros((1, 0))) == [[]]


def test_a_forecast_comes_back_from_what_is_stored():
    known = forecast(office(63)[:, -LOOKBACK:])
    again = Forecast.unpack(np.frombuffer(known.packed.tobytes()).reshape(1, -1))
    assert all(np.array_equal(one, other) for one, other in zip(known, again, strict=True))


# Counts as keys have them: quiet, busy, bursty, with gaps.
DAYS = 66
series = st.builds(
    lambda seed, scale, bursts: (
        np.random.default_rng(seed).poisson(office(DAYS, scale=scale, seed=seed))
        + np.random.default_rng(seed + 1).binomial(1, bursts, (1, DAYS * DAY)) * 40 * scale
    ),
    st.integers(0, 10_000),
    st.sampled_from([0.02, 0.3, 1.0, 20.0]),
    st.sampled_from([0.0, 0.004]),
).map(lambda counts: counts.astype(float))


@settings(max_examples=15, deadline=None)
@given(counts=series, cut=st.integers(LOOKBACK, DAYS * DAY - 1), more=st.floats(0, 1e6))
def test_an_hour_is_judged_from_the_hours_before_it_alone(counts, cut, more):
    future = counts.copy()
    future[:, cut:] = more
    before = [one for one in backtest(counts)[0] if one.hour < cut]
    assert [one for one in backtest(future)[0] if one.hour < cut] == before


@settings(max_examples=10, deadline=None)
@given(counts=series)
def test_looking_back_finds_what_each_day_found(counts):
    found = []
    for day in range(LOOKBACK // DAY, DAYS):
        known = forecast(counts[:, day * DAY - LOOKBACK : day * DAY])
        today = counts[:, day * DAY : (day + 1) * DAY]
        found += [(day * DAY + one.hour, one.shape, one.count, one.low, one.high) for one in judge(known, today)[0]]
    looked = backtest(counts, since=LOOKBACK)[0]
    assert [(one.hour, one.shape, one.count, one.low, one.high) for one in looked] == found


@settings(max_examples=10, deadline=None)
@given(some=st.lists(series, min_size=2, max_size=4))
def test_many_keys_are_judged_as_each_alone(some):
    together = np.concatenate(some)
    assert backtest(together) == [backtest(one)[0] for one in some]


@settings(max_examples=25, deadline=None)
@given(counts=series, hours=st.integers(1, DAY), factor=st.sampled_from([0.0, 0.3, 3.0, 40.0]))
def test_what_is_told_lies_outside_of_what_is_said_to_be_usual(counts, hours, factor):
    counts[:, -hours:] = np.floor(counts[:, -hours:] * factor)
    for one in backtest(counts)[0]:
        assert 0 <= one.low <= one.high
        assert one.count > one.high if one.shape == Shape.SPIKE else one.count < one.low


def test_the_next_day_is_known_from_what_was_looked_back_on():
    counts = office(63)
    _, known = look_back(counts, since=62 * DAY)
    other = forecast(counts[:, -LOOKBACK:])
    assert all(np.array_equal(one, another) for one, another in zip(known, other, strict=True))
