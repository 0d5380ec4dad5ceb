"""How long a key is usually silent: learnt from its hours, the same as they come and from all that is kept."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import ApiKey, KeyRhythm, Outcome, Silence, UsageHour, UsageWatermark
from apikeys.models import counting_sql as sql
from apikeys.models.series import floor_hour
from tests.factories import make_actor, make_event, make_key

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
DAY = 24 * HOUR
START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday


def usual_gap(hours):
    """Return the longest usual gap as docs/unused.md puts it."""
    hours = sorted(set(hours))
    first, last = hours[0], hours[-1]
    remembered = [later - earlier for earlier, later in pairwise(hours) if last - later < 400 * DAY]
    longest, second = [*sorted(remembered, reverse=True), timedelta(), timedelta()][:2]
    return longest if 2 * longest >= min(last - first, 400 * DAY) else second


def days(*numbers):
    return [START + number * DAY for number in numbers]


def daily(first, last):
    return days(*range(first, last))


def bursts(*starts):
    """Return five days of office hours from each start on."""
    return [START + day * DAY + hour * HOUR for start in starts for day in range(start, start + 5) for hour in range(8)]


CASES = {
    "one request": (days(0), timedelta()),
    "twice in an hour and the next": ([START, START + HOUR], HOUR),
    "every hour": ([START + number * HOUR for number in range(200)], HOUR),
    "every night": (daily(0, 100), DAY),
    "Monday to Friday": (days(*(n for n in range(200) if n % 7 < 5)), 3 * DAY),
    "Monday to Friday, with two weeks off at the end of the year": (
        days(*(n for n in range(390) if n % 7 < 5 and not 350 < n < 365)),
        3 * DAY,
    ),
    "once a month": (days(0, 31, 59, 90, 120, 151), 31 * DAY),
    "once a month, one month left out": (days(0, 31, 59, 120, 151, 181, 212), 31 * DAY),
    "once a quarter, twice so far": (days(0, 91), 91 * DAY),
    "once a quarter": (days(0, 90, 181, 273), 91 * DAY),
    "once a quarter, in bursts of a week": (bursts(0, 91, 182), 86 * DAY + 17 * HOUR),
    "once a year, twice so far": (days(0, 365), 365 * DAY),
    "once a year, late": (days(0, 410), 410 * DAY),
    "daily, with one break of 120 days": (daily(0, 200) + daily(320, 400), DAY),
    "tried out on one day, then daily from 100 days later on, for a month": (days(0) + daily(100, 130), 100 * DAY),
    "tried out on one day, then daily from 100 days later on, for half a year": (days(0) + daily(100, 280), DAY),
    "once a quarter, then daily for 13 months": (days(0, 91, 182, 273) + daily(274, 675), DAY),
    "once a quarter, then daily for a month": (days(0, 91, 182, 273) + daily(274, 304), 91 * DAY),
    "daily, then once a quarter, once so far": (daily(0, 300) + days(391), DAY),
    "daily, then once a quarter, twice so far": (daily(0, 300) + days(391, 482), 91 * DAY),
}


@pytest.mark.parametrize(("hours", "gap"), CASES.values(), ids=CASES)
def test_the_longest_usual_gap_is_learnt_as_hours_come_and_from_all_of_them(organization, hours, gap):
    key = make_key(organization).key
    assert usual_gap(hours) == gap
    assert as_they_come(key, hours) == gap
    assert from_all(key) == gap


def as_they_come(key, hours):
    """Count one hour after the other, and forget after each, as a roll-up does once a day."""
    for hour in sorted(hours):
        UsageHour.objects.create(key_id=key.pk, hour=hour, outcome=Outcome.VALID, count=9)
        run(sql.RHYTHM_GOES_ON, since=hour, now=timezone.now())
        if run(sql.FORGETFUL, since=hour):
            run(sql.RHYTHM, [key.pk], now=timezone.now())
    return learnt(key)


def from_all(key):
    KeyRhythm.objects.all().delete()
    run(sql.RHYTHM, now=timezone.now())
    return learnt(key)


def run(statement, keys=None, **values):
    adapt = connection.ops.adapt_datetimefield_value
    with connection.cursor() as cursor:
        cursor.execute(sql.rendered(statement, keys), {name: adapt(value) for name, value in values.items()})
        return cursor.fetchall() if cursor.description else None


def learnt(key):
    return timedelta(seconds=KeyRhythm.objects.get(pk=key.pk).usual_gap)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(
        st.integers(1, 4) | st.integers(20, 28) | st.sampled_from([64, 720, 2184]) | st.integers(1, 10_000),
        max_size=25,
    )
)
def test_as_they_come_is_from_all_of_them_is_what_the_words_say(organization, gaps):
    key = make_key(organization).key
    hours = [START]
    for gap in gaps:
        hours.append(hours[-1] + gap * HOUR)
    assert as_they_come(key, hours) == usual_gap(hours)
    assert from_all(key) == usual_gap(hours)


def test_refused_requests_are_no_use(organization):
    key = make_key(organization).key
    for hour, outcome in zip(days(0, 50, 90), (Outcome.VALID, Outcome.SCOPE_MISSING, Outcome.VALID), strict=True):
        UsageHour.objects.create(key_id=key.pk, hour=hour, outcome=outcome, count=1)
        run(sql.RHYTHM_GOES_ON, since=hour, now=timezone.now())
    assert learnt(key) == from_all(key) == 90 * DAY


def test_the_first_roll_up_learns_from_what_was_counted_before_and_the_next_ones_go_on(organization):
    key = make_key(organization).key
    hour = floor_hour(timezone.now())
    for ago in (274, 183, 92):
        UsageHour.objects.create(key_id=key.pk, hour=hour - ago * DAY, outcome=Outcome.VALID, count=9)
    UsageWatermark.objects.update_or_create(pk=1, defaults={"until": hour - 3 * HOUR})
    roll_up(hour - 2 * HOUR)
    assert learnt(key) == 91 * DAY
    # In the first minutes of an hour the one before is not rolled up yet.
    used_in = hour - 2 * HOUR
    make_event(key, at=used_in)
    roll_up()
    rhythm = KeyRhythm.objects.get(pk=key.pk)
    assert (rhythm.longest, rhythm.last_hour) == (92 * DAY - 2 * HOUR, used_in)
    assert learnt(key) == 91 * DAY


def roll_up(now=None):
    return list(UsageHour.objects.roll_up(now))


def test_a_key_that_replaces_another_goes_on_with_its_rhythm(organization):
    old = make_key(organization).key
    now = floor_hour(timezone.now())
    as_they_come(old, [now - ago * DAY for ago in (274, 183, 92)])
    new = old.regenerate(by=make_actor()).key
    assert learnt(new) == 91 * DAY
    assert from_all(new) == 91 * DAY
    newest = new.regenerate(by=make_actor()).key
    run_at = now + HOUR
    UsageHour.objects.create(key_id=newest.pk, hour=run_at, outcome=Outcome.VALID, count=1)
    run(sql.RHYTHM_GOES_ON, since=run_at, now=timezone.now())
    assert KeyRhythm.objects.get(pk=newest.pk).longest == 92 * DAY + HOUR
    assert learnt(newest) == from_all(newest) == 91 * DAY
    stored = ApiKey.objects.for_pages().get(pk=newest.pk)
    later = stored.created_at + 100 * DAY
    assert list(organization.keys.with_silence(Silence.SEASONAL, now=later)) == [newest]


def test_a_key_without_requests_passes_nothing_on(organization):
    key = make_key(organization).key.regenerate(by=make_actor()).key
    assert not KeyRhythm.objects.filter(pk=key.pk).exists()
