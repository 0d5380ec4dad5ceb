"""When a key is expected next."""

from datetime import UTC, datetime, timedelta

import pytest

from apikeys.models.forecast import next_use

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 11, 24, 14, 20, tzinfo=UTC)  # a Tuesday
MIDNIGHT = NOW.replace(hour=0, minute=0)


def nights(count, hour=2):
    """Return that hour of each of the last nights."""
    return [MIDNIGHT - DAY * back + HOUR * hour for back in range(count)]


def expect(hours, last_used, now=NOW, every=None, silence=None, longer=()):
    return next_use(hours, last_used, now, every=every, silence=silence, longer=longer)


def test_a_key_at_work_is_due_after_its_usual_gap():
    assert expect([], NOW, every=HOUR / 6) == NOW + HOUR / 6
    assert expect(nights(30), NOW - HOUR / 4, every=HOUR / 6) == NOW - HOUR / 4 + HOUR / 6


def test_a_nightly_key_is_due_at_night_however_quick_it_is_then():
    last = MIDNIGHT + 2.05 * HOUR
    assert expect(nights(56), last, every=timedelta(seconds=3)) == MIDNIGHT + DAY + 2 * HOUR


def test_a_key_of_working_days_is_not_due_at_the_weekend():
    friday = datetime(2026, 11, 20, 19, tzinfo=UTC)
    days = [friday.replace(hour=8) - DAY * back for back in range(56)]
    working = [day + HOUR * hour for day in days for hour in range(10) if day.weekday() < 5]
    assert expect(working, friday - HOUR, now=friday) == datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_an_hour_that_runs_is_due_now():
    now = MIDNIGHT + DAY + 2.5 * HOUR
    assert expect(nights(56), MIDNIGHT + 2 * HOUR, now=now) == now


def test_an_hour_that_was_used_already_is_not_due_again():
    now = MIDNIGHT + 2.9 * HOUR
    assert expect(nights(56), MIDNIGHT + 2.1 * HOUR, now=now) == MIDNIGHT + DAY + 2 * HOUR


def test_days_are_learnt_before_weeks_are():
    assert expect(nights(4), MIDNIGHT + 2 * HOUR) == MIDNIGHT + DAY + 2 * HOUR
    assert expect(nights(1), MIDNIGHT + 2 * HOUR) is None


def test_a_slow_key_is_due_after_its_usual_silence_and_late_after_that():
    last = NOW - 20 * DAY
    assert expect([], last, silence=30 * DAY) == NOW + 10 * DAY
    assert expect([], last, silence=10 * DAY) == NOW - 10 * DAY


@pytest.mark.parametrize(
    ("ago", "due"),
    [(DAY / 2, 1 * DAY), (20 * DAY, 90 * DAY), (100 * DAY, 135 * DAY), (135 * DAY, 135 * DAY), (136 * DAY, DAY)],
)
def test_a_job_that_runs_for_some_days_a_quarter_is_due_after_its_longer_silence(ago, due):
    last = NOW - ago
    assert expect([], last, silence=DAY, longer=(90 * DAY, 135 * DAY)) == last + due


@pytest.mark.parametrize("last_used", [None, NOW - DAY])
def test_nothing_is_said_of_a_key_without_habits(last_used):
    assert expect([], last_used) is None


def test_a_job_that_stopped_is_late_since_it_was_missed_first():
    stopped = [hour for hour in nights(56) if hour < MIDNIGHT - 20 * DAY]
    assert expect(stopped, max(stopped)) == max(stopped) + DAY


def test_an_hour_that_is_missed_now_and_then_is_not_late():
    hours = [hour for place, hour in enumerate(nights(56)) if place % 14]
    assert expect(hours, max(hours)) == MIDNIGHT + DAY + 2 * HOUR
