"""Spans of time as people choose them: whole days of their zone, cut into steps on whole hours."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys.models.series import RANGES
from apikeys.ranges import KEPT_MONTHS, RangeError, TimeRange, check_days, months_before
from apikeys.time_zones import find_zone, zone_names

BERLIN, KOLKATA, HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Australia/Lord_Howe")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = date(2026, 11, 24)
NOW = datetime(2026, 11, 24, 14, 20, tzinfo=UTC)


def lengths(chosen):
    return [later - earlier for earlier, later in pairwise(chosen.edges)]


@pytest.mark.parametrize(("days", "steps"), [(1, 24), (2, 48), (3, 12), (10, 40), (11, 11), (100, 100), (101, 15)])
def test_a_longer_span_has_longer_steps(days, steps):
    chosen = TimeRange.between(TODAY - DAY * (days - 1), TODAY)
    assert len(lengths(chosen)) == steps
    assert chosen.until - chosen.since == DAY * days


def test_a_day_is_a_day_of_the_zone():
    chosen = TimeRange.between(date(2026, 11, 1), date(2026, 11, 24), BERLIN)
    assert chosen.since == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert chosen.until == datetime(2026, 11, 24, 23, tzinfo=UTC)


def test_days_on_which_clocks_change_have_an_hour_more_or_less():
    assert len(lengths(TimeRange.between(date(2026, 3, 29), date(2026, 3, 29), BERLIN))) == 23
    assert len(lengths(TimeRange.between(date(2026, 10, 25), date(2026, 10, 25), BERLIN))) == 25
    spring = TimeRange.between(date(2026, 3, 20), date(2026, 4, 5), BERLIN)
    assert sorted(set(lengths(spring))) == [23 * HOUR, DAY]
    assert lengths(TimeRange.between(date(2026, 3, 28), date(2026, 3, 30), BERLIN))[4:8] == [5 * HOUR, *[6 * HOUR] * 3]


def test_midnight_between_two_hours_is_the_next_whole_hour():
    chosen = TimeRange.between(date(2026, 11, 1), date(2026, 11, 24), KOLKATA)
    assert chosen.since.astimezone(KOLKATA).isoformat() == "2026-11-01T00:30:00+05:30"


@given(
    zone=st.sampled_from(zone_names()),
    first=st.dates(date(2024, 10, 24), TODAY),
    days=st.integers(0, 790),
)
def test_steps_follow_one_another_on_whole_hours_in_every_zone(zone, first, days):
    chosen = TimeRange.between(first, min(first + DAY * days, TODAY), find_zone(zone))
    assert all(HOUR <= length <= 8 * DAY for length in lengths(chosen))
    assert all(edge.minute == edge.second == edge.microsecond == 0 for edge in chosen.edges)
    assert len(chosen.edges) <= 115


@given(zone=st.sampled_from(zone_names()), minutes=st.integers(0, 2 * 365 * 24 * 60))
def test_the_usual_ones_end_with_the_step_that_runs_in_every_zone(zone, minutes):
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    for name in RANGES:
        chosen = TimeRange.usual(name, now, find_zone(zone))
        assert chosen.edges[-2] - HOUR <= now < chosen.until
        assert all(length > timedelta() for length in lengths(chosen))
        assert all(edge.minute == edge.second == edge.microsecond == 0 for edge in chosen.edges)


def test_it_says_what_it_is():
    assert TimeRange.usual("30d", datetime(2026, 11, 24, tzinfo=UTC)).words == "30 d"
    assert TimeRange.between(date(2026, 11, 1), date(2026, 11, 24)).words == "1 Nov to 24 Nov 2026"
    assert TimeRange.between(date(2025, 12, 30), date(2026, 1, 2)).words == "30 Dec 2025 to 2 Jan 2026"
    assert TimeRange.between(TODAY, TODAY).words == "24 Nov 2026"


def test_it_has_a_name_for_a_file():
    assert TimeRange.usual("7d", datetime(2026, 11, 24, tzinfo=UTC)).name == "7d"
    assert TimeRange.between(date(2026, 11, 1), TODAY, HOWE).name == "2026-11-01-to-2026-11-24"


def test_the_span_before_it_is_as_long():
    chosen = TimeRange.usual("7d", datetime(2026, 11, 24, 10, tzinfo=UTC))
    assert chosen.since - chosen.before == 7 * DAY


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        (date(2026, 11, 12), date(2026, 11, 1), "It ends before it begins: 1 Nov 2026 is before 12 Nov 2026."),
        (date(2026, 11, 12), date(2026, 11, 25), "the last day is today, 24 Nov 2026"),
        (date(9999, 12, 31), date(9999, 12, 31), "31 Dec 9999 is still to come"),
        (date(2031, 1, 1), TODAY, "1 Jan 2031 is still to come"),
        (date(2024, 10, 23), TODAY, f"Counts are kept for {KEPT_MONTHS} months: the first day is 24 Oct 2024."),
        (date(1, 1, 1), date(1, 1, 1), "the first day is 24 Oct 2024"),
        (date(2026, 8, 1), date(2026, 9, 30), "Nothing was measured before 1 Oct 2026, when recording began."),
    ],
)
def test_days_that_cannot_be_shown_are_refused_with_the_limit(first, last, told):
    with pytest.raises(RangeError, match=told.replace(".", r"\.")):
        check_days(first, last, today=TODAY, recorded_since=date(2026, 10, 1))


def test_days_at_each_limit_can_be_shown():
    check_days(date(2024, 10, 24), TODAY, today=TODAY, recorded_since=TODAY)
    check_days(TODAY, TODAY, today=TODAY, recorded_since=None)


@pytest.mark.parametrize(
    ("day", "months", "before"),
    [
        (date(2026, 11, 24), 25, date(2024, 10, 24)),
        (date(2026, 3, 31), 1, date(2026, 2, 28)),
        (date(2024, 3, 31), 1, date(2024, 2, 29)),
        (date(2026, 1, 31), 13, date(2024, 12, 31)),
    ],
)
def test_a_day_some_months_before(day, months, before):
    assert months_before(day, months) == before


@pytest.mark.parametrize(
    ("span", "recorded", "known"),
    [
        (TimeRange.usual("30d", NOW), None, True),
        (TimeRange.usual("30d", NOW), NOW - timedelta(days=70), True),
        (TimeRange.usual("30d", NOW), NOW - timedelta(days=50), False),
        (TimeRange.usual("13m", NOW), None, False),
        (TimeRange.between(NOW.date() - timedelta(days=330), NOW.date()), None, True),
        (TimeRange.between(NOW.date() - timedelta(days=420), NOW.date()), None, False),
    ],
)
def test_only_a_span_that_was_measured_as_a_whole_is_compared_with(span, recorded, known):
    assert span.knows_before(recorded) == known


@given(
    hours=st.integers(min_value=0, max_value=3 * 366 * 24),
    zone=st.sampled_from(zone_names()).map(ZoneInfo),
    name=st.sampled_from(sorted(RANGES)),
)
def test_what_happens_now_is_within_the_whole_days_of_a_span_that_runs(hours, zone, name):
    now = datetime.now(UTC) + timedelta(hours=hours)
    span = TimeRange.usual(name, now, zone)
    since, until = span.whole_days
    assert since < now < until
    assert timedelta() <= until - span.until < timedelta(days=1)
