"""The geometry of the charts."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeys.charts import (
    HEIGHT,
    LEVELS,
    Mark,
    Usual,
    round_ticks,
    sparkline_path,
    stacked_bars,
    unit_words,
    week_cells,
)
from apikeys.models import Outcome
from apikeys.models.series import RANGES
from apikeys.ranges import TimeRange

pytestmark = pytest.mark.any_engine

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LABELS = dict(Outcome.choices)


def edges(count, step=DAY, end=datetime(2026, 11, 25, tzinfo=UTC)):
    return [end - step * left for left in range(count, -1, -1)]


def draw(counts, places=None, **more):
    places = places or edges(len(next(iter(counts.values()))))
    return stacked_bars(places, counts, LABELS, **{"now": NOW} | more)


def boxes(path):
    """Return (left, bottom, height) of each bar of a layer."""
    return [tuple(map(float, found)) for found in re.findall(r"M([\d.]+) ([\d.]+)v-([\d.]+)h", path)]


@given(st.integers(0, 10**12))
def test_ticks_are_round_evenly_spaced_and_just_enough(maximum):
    ticks = round_ticks(maximum)
    assert ticks[0] == 0
    assert ticks[-1] >= maximum
    assert 2 <= len(ticks) <= 4
    step = ticks[1]
    assert {later - earlier for earlier, later in pairwise(ticks)} == {step}
    assert re.fullmatch(r"(1|2|25?|5)0*", str(step))


def test_outcomes_are_stacked_without_overlap_and_in_proportion():
    chart = draw({"valid": [50, 100], "rate_limited": [50, 0], "revoked": [0, 100]})
    assert [layer.outcome for layer in chart.layers] == ["valid", "rate_limited", "revoked"]
    assert chart.ticks == [0, 100, 200]
    assert boxes(chart.layers[0].path) == [(0.14, 100, 25), (1.14, 100, 50)]
    assert boxes(chart.layers[1].path) == [(0.14, 75, 25)]
    assert boxes(chart.layers[2].path) == [(1.14, 50, 50)]
    assert (chart.total, chart.refused) == (300, 150)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.lists(st.integers(0, 10**9), max_size=40))
def test_no_bar_leaves_the_chart(valid, revoked):
    for layer in draw({"valid": valid, "revoked": revoked}).layers:
        for left, bottom, height in boxes(layer.path):
            assert 0 <= left < len(valid)
            assert bottom - height >= -1
            assert bottom <= HEIGHT


def test_one_refusal_among_a_million_is_seen():
    chart = draw({"valid": [1_000_000], "unknown": [1]})
    [(_, _, height)] = boxes(chart.layers[1].path)
    assert height == 0.6


def test_a_chart_of_nothing_has_an_axis_and_no_bar():
    chart = draw({"valid": [0, 0, 0]})
    assert (chart.total, chart.layers[0].path, chart.ticks) == (0, "", [0, 1])
    assert [column.title for column in chart.columns] == [
        "Sun 22 Nov: no requests",
        "Mon 23 Nov: no requests",
        "Tue 24 Nov (so far): no requests",
    ]


def test_a_column_says_its_time_and_its_figures():
    column = draw({"valid": [1204], "rate_limited": [3]}).columns[0]
    assert column.title == "Tue 24 Nov (so far): 1,204 accepted, 3 rate limit hit"
    assert (column.counts, column.total) == ([1204, 3], 1207)


@pytest.mark.parametrize(
    ("places", "told", "unit"),
    [
        (edges(30, MINUTE), "Tue 24 Nov, 23:30 to 23:31", "minute"),
        (edges(30, 5 * MINUTE), "Tue 24 Nov, 21:30 to 21:35", "5 minutes"),
        (edges(30, 15 * MINUTE), "Tue 24 Nov, 16:30 to 16:45", "15 minutes"),
        (edges(24, HOUR), "Tue 24 Nov, 00:00", "hour"),
        (edges(28, 6 * HOUR), "Wed 18 Nov, 00:00 to 06:00", "6 hours"),
        (edges(30), "Mon 26 Oct", "day"),
        (edges(20, 7 * DAY), "8 Jul to 14 Jul", "week"),
        (TimeRange.usual("13m", NOW).edges, "November 2025", "month"),
        (edges(400), "Mon 21 Oct 2025".replace("Mon", "Tue"), "day"),
    ],
)
def test_a_step_is_named_by_its_length(places, told, unit):
    chart = draw({"valid": [1] * (len(places) - 1)}, places)
    assert chart.columns[0].label == told
    assert chart.unit == unit_words(places) == unit


def test_times_are_those_of_the_zone():
    kolkata = ZoneInfo("Asia/Kolkata")
    chosen = TimeRange.usual("30d", NOW, kolkata)
    chart = draw({"valid": [1] * 30}, chosen.edges, zone=kolkata)
    assert chart.columns[-1].label == "Tue 24 Nov, from 00:30 (so far)"
    assert draw({"valid": [1]}, edges(1, HOUR), zone=kolkata).columns[0].label == "Wed 25 Nov, 04:30"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("name", RANGES)
def test_the_axis_has_a_few_words_in_order_within_the_chart(name, zone):
    zone = ZoneInfo(zone)
    places = TimeRange.usual(name, NOW, zone).edges
    labels = draw({"valid": [1] * (len(places) - 1)}, places, zone=zone).labels
    at = [float(label.x.rstrip("%")) for label in labels]
    assert 3 <= len(labels) <= 8
    assert at == sorted(at)
    assert all(0 < x < 100 for x in at)
    assert len({label.text for label in labels}) == len(labels)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Australia/Lord_Howe"])
@pytest.mark.parametrize(("step", "count"), [(MINUTE, 61), (MINUTE, 72), (5 * MINUTE, 72), (15 * MINUTE, 72)])
def test_the_axis_of_steps_below_an_hour_has_times_in_order(zone, step, count):
    places = edges(count, step)
    labels = draw({"valid": [1] * count}, places, zone=ZoneInfo(zone)).labels
    at = [float(label.x.rstrip("%")) for label in labels]
    assert 3 <= len(labels) <= 8
    assert at == sorted(at)
    assert all(0 < x < 100 for x in at)
    assert len({label.text for label in labels}) == len(labels)
    assert all(re.fullmatch(r"\d\d:\d\d", label.text) for label in labels)


def test_other_things_than_outcomes_can_be_stacked_and_the_first_is_always_told():
    labels = {"old": "with the old key", "new": "with the new key", "refused": "refused"}
    counts = {"old": [0, 0], "new": [30, 10], "refused": [0, 0]}
    chart = stacked_bars(edges(2), counts, labels, now=NOW, stack=("old", "new", "refused"))
    assert [(layer.outcome, layer.label, layer.total) for layer in chart.layers] == [
        ("old", "with the old key", 0),
        ("new", "with the new key", 40),
    ]
    assert boxes(chart.layers[1].path) == [(0.14, 100, 100), (1.14, 100, pytest.approx(100 / 3, abs=0.1))]
    assert chart.columns[0].title.endswith("30 with the new key")


def test_the_axis_of_a_single_step_has_its_word():
    assert [label.text for label in draw({"valid": [1]}).labels] == ["24 Nov"]


def test_marks_stand_where_they_happened_and_are_told_with_their_step():
    revoked = Mark(datetime(2026, 11, 23, 12, tzinfo=UTC), "end", "Revoked")
    outside = Mark(NOW - 30 * DAY, "end", "Paused")
    chart = draw({"valid": [5, 0]}, marks=[outside, revoked])
    assert [(mark.x, mark.title) for mark in chart.marks] == [("25%", "Revoked 23 Nov, 12:00")]
    assert chart.columns[0].title == "Mon 23 Nov: 5 accepted. Revoked 23 Nov, 12:00"
    assert [column.notes for column in chart.columns] == [["Revoked 23 Nov, 12:00"], []]


@pytest.mark.parametrize(
    ("since", "drawn"), [(None, ""), (NOW - 9 * DAY, ""), (NOW - 2 * DAY, "0.44"), (NOW, "2.44"), (NOW + 9 * DAY, "3")]
)
def test_what_was_not_measured_is_marked(since, drawn):
    assert draw({"valid": [1, 1, 1]}, measured_since=since).unmeasured == drawn


def test_the_busiest_hour_of_the_week_has_the_highest_level_and_one_request_the_lowest():
    week = [[0] * 24 for _ in range(7)]
    week[2][5], week[6][23] = 10_000, 1
    cells = week_cells(week)
    assert len(cells) == 7 * 24
    found = {(cell.x, cell.y): (cell.level, cell.title) for cell in cells if cell.level}
    assert found == {(5, 2): (LEVELS, "Wed 05:00: 10,000 requests"), (23, 6): (1, "Sun 23:00: 1 request")}
    assert {cell.level for cell in week_cells([[0] * 24] * 7)} == {0}


def test_a_usual_range_is_drawn_around_its_step_and_fits_the_scale():
    places = edges(4)
    usual = Usual(places[2], 300, 900)
    chart = draw({"valid": [1, 2, 3, 4]}, places, usual=usual)
    assert chart.ticks[-1] >= 900
    assert (chart.usual.x, chart.usual.words) == (2, "usually 300 to 900")
    assert float(chart.usual.y) + float(chart.usual.height) == 100 - 300 * 100 / chart.ticks[-1]
    assert chart.columns[2].notes == ["Usually 300 to 900"]
    assert chart.columns[1].notes == []
    outside = draw({"valid": [1]}, places, usual=Usual(places[-1], 1, 2))
    assert outside.usual is None


@pytest.mark.parametrize(
    ("counts", "path"), [([], ""), ([0, 0], ""), ([0, 1, 500, 1000], "M4 20v-1M7 20v-10M10 20v-20")]
)
def test_a_row_of_bars_leaves_out_unused_days_and_draws_no_used_one_lower_than_a_unit(counts, path):
    assert sparkline_path(counts) == path
