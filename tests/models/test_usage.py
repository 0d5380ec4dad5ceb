"""Counts agree with the raw events to the last request, rolled up or not."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apikeys.models import Outcome, UsageEvent, UsageHour, UsageWatermark
from apikeys.models.usage import DAY, HOUR
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
