"""Counts agree with the raw events to the last request, rolled up or not."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apikeys.models import Outcome, UsageEvent, UsageHour, UsageWatermark
from apikeys.models.usage import DAY, HOUR, take_newest
from tests.factories import make_event, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(organization):
    return make_key(organization).key


def events(key, count, ago, outcome=Outcome.VALID, **values):
    for number in range(count):
        make_event(key, at=timezone.now() - ago - timedelta(seconds=number), outcome=outcome, **values)


def counts(key):
    return UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY)


def roll_up():
    return list(UsageHour.objects.roll_up())


def test_counts_are_the_same_before_and_after_rolling_up(key):
    events(key, 7, 3 * HOUR)
    events(key, 2, 5 * HOUR, Outcome.SCOPE_MISSING)
    events(key, 4, timedelta(0))
    before = counts(key)
    assert before == {"valid": 11, "scope_missing": 2}
    roll_up()
    assert UsageHour.objects.filter(key_id=key.pk).exists()
    assert counts(key) == before


def test_rolling_up_again_changes_nothing(key):
    events(key, 5, 26 * HOUR)
    roll_up()
    rows = list(UsageHour.objects.filter(key_id=key.pk).values_list("hour", "outcome", "count"))
    assert roll_up() == []
    assert list(UsageHour.objects.filter(key_id=key.pk).values_list("hour", "outcome", "count")) == rows


def test_rolling_up_catches_up_after_days_of_silence(key):
    events(key, 3, 10 * DAY)
    roll_up()
    events(key, 2, 2 * HOUR)
    UsageWatermark.objects.update(until=timezone.now() - 9 * DAY)
    roll_up()
    assert counts(key) == {"valid": 5}


def test_the_running_hour_is_never_rolled_up(key):
    events(key, 3, timedelta(0))
    roll_up()
    assert not UsageHour.objects.filter(key_id=key.pk, hour__gt=timezone.now() - HOUR).exists()


def test_a_series_has_a_value_for_every_step(key):
    start = datetime(2026, 3, 1, tzinfo=UTC)
    make_event(key, at=start + timedelta(minutes=1))
    make_event(key, at=start + 6 * HOUR, outcome=Outcome.EXPIRED)
    make_event(key, at=start + 24 * HOUR)
    series = UsageHour.objects.series(key, start, 6 * HOUR, 4)
    assert series.starts == [start + 6 * HOUR * n for n in range(4)]
    assert series.counts == {"valid": [1, 0, 0, 0], "expired": [0, 1, 0, 0]}
    assert (series.total, series.refused) == (2, 1)


def test_daily_counts_end_today(key, organization):
    other = make_key(organization).key
    events(key, 3, timedelta(0))
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    make_event(key, at=midnight - timedelta(microseconds=1))
    make_event(key, at=midnight - 40 * DAY)
    daily = UsageHour.objects.daily([key.pk, other.pk], 30)
    assert other.pk not in daily
    assert sum(daily[key.pk]) == 4
    assert len(daily[key.pk]) == 30


def test_two_events_of_one_microsecond_are_both_kept(key):
    now = timezone.now()
    make_event(key, at=now)
    make_event(key, at=now)
    assert UsageEvent.objects.of(key).count() == 2


@pytest.mark.parametrize("hours", [(0, 1, 2, 3), (0, 23, 25, 60), (25, 60, 90, 200), (-30, -1, 25, 60), (-30, 300)])
def test_the_newest_are_those_of_all_days(key, hours):
    for ago in sorted(hours, key=lambda ago: ago % 7):
        make_event(key, ago=timedelta(hours=ago))
    in_order = UsageEvent.objects.of(key).order_by("-at")
    for most in range(1, 6):
        assert take_newest(in_order, most) == list(in_order[:most])
    newest = take_newest(in_order.values_list("at", flat=True), 2)
    assert [round((timezone.now() - at) / timedelta(hours=1)) for at in newest] == list(hours[:2])


@pytest.mark.parametrize(("hours", "questions"), [((0, 1, 2), 1), ((0, 1, 30), 2)])
def test_a_busy_keys_newest_are_asked_for_once(key, hours, questions, django_assert_num_queries):
    for ago in hours:
        make_event(key, ago=timedelta(hours=ago))
    with django_assert_num_queries(questions):
        assert len(take_newest(UsageEvent.objects.of(key).order_by("-at"), 3)) == 3
