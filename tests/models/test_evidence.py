"""What a decision about a key rests on agrees with its requests to the last one, rolled up or not."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import ApiKey, Habit, KeyEvidence, Outcome, Recent, ScopeEvidence, UsageEvent, UsageHour
from apikeys.models.usage import DAY, HOUR
from tests.factories import make_event, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(organization):
    return make_key(organization).key


@pytest.fixture(params=["raw", "rolled up"])
def settle(request):
    """Roll up, or leave everything in raw events: what is told must be the same."""
    return (lambda: list(UsageHour.objects.roll_up())) if request.param == "rolled up" else (lambda: None)


def events(key, count, ago, outcome=Outcome.VALID, **values):
    last = timezone.now() - ago
    for number in range(count):
        make_event(key, at=last - timedelta(seconds=number), outcome=outcome, **values)


def test_evidence_counts_exactly_what_was_accepted(key, settle):
    events(key, 3, timedelta(minutes=1), address="10.0.0.1", user_agent="a")
    events(key, 2, 3 * HOUR, address="10.0.0.2", user_agent="b")
    events(key, 1, 3 * DAY, address="10.0.0.1", user_agent="a")
    events(key, 5, HOUR / 2, Outcome.RATE_LIMITED)
    events(key, 9, 9 * DAY)
    settle()
    evidence = KeyEvidence.of(key)
    assert evidence.recent == Recent(hour=3, day=5, week=6, refused_week=5)
    assert [(one.address, one.user_agent, one.accepted) for one in evidence.callers] == [
        ("10.0.0.1", "a", 4),
        ("10.0.0.2", "b", 2),
    ]
    assert evidence.callers[0].share == pytest.approx(4 / 6)
    assert evidence.in_use


def test_each_window_ends_at_its_instant(key, settle):
    edge = timedelta(seconds=5)
    for span in (HOUR, DAY, 7 * DAY):
        events(key, 1, span - edge)
        events(key, 1, span + edge)
    settle()
    recent = Recent.of([key])[key.pk]
    assert (recent.hour, recent.day, recent.week) == (1, 3, 5)


def test_several_keys_are_counted_at_once(organization, key, settle):
    quiet, other = make_key(organization).key, make_key(organization).key
    events(key, 2, 2 * DAY)
    events(other, 1, HOUR / 2, Outcome.PAUSED)
    settle()
    with CaptureQueriesContext(connection) as asked:
        found = Recent.of([key, quiet, other])
    assert len(asked) <= 4
    assert found == {key.pk: Recent(week=2), quiet.pk: Recent(), other.pk: Recent(refused_week=1)}


def test_callers_that_were_only_refused_break_nothing(key, settle):
    events(key, 3, 2 * HOUR, address="10.0.0.1")
    events(key, 50, 2 * HOUR, Outcome.UNKNOWN, address="203.0.113.66")
    settle()
    evidence = KeyEvidence.of(key)
    assert [one.address for one in evidence.callers] == ["10.0.0.1"]
    assert evidence.other_callers == 0


def test_a_few_callers_are_named_and_the_others_counted(key, settle):
    for number in range(12):
        events(key, 12 - number, 2 * HOUR, address=f"10.0.0.{number}")
    settle()
    evidence = KeyEvidence.of(key)
    assert [one.address for one in evidence.callers] == [f"10.0.0.{number}" for number in range(5)]
    assert evidence.other_callers == 7


def test_evidence_tells_when_the_next_request_is_due(key):
    now = timezone.now()
    for number in range(10):
        make_event(key, at=now - timedelta(minutes=10 * number))
    key = ApiKey.objects.for_pages().get(pk=key.pk)
    habit = KeyEvidence.of(key).habit
    assert habit.every == timedelta(minutes=10)
    assert habit.next_due == now + timedelta(minutes=10)
    assert not habit.is_late


def test_a_key_without_usage_has_no_evidence_against_its_end(key, settle):
    settle()
    evidence = KeyEvidence.of(key)
    assert not evidence.in_use
    assert evidence.habit == Habit()
    assert evidence.callers == []


def test_an_attack_does_not_hide_how_a_key_is_used(key):
    events(key, 3, timedelta(0))
    events(key, 700, timedelta(minutes=5), Outcome.UNKNOWN)
    assert Habit.of(key).every == timedelta(seconds=1)


def test_the_week_of_a_habit_is_that_of_the_zone():
    habit = Habit({datetime(2026, 11, 22, 23, tzinfo=UTC): 5, datetime(2026, 11, 15, 23, tzinfo=UTC): 2})
    assert habit.week(UTC)[6][23] == 7
    tokyo = habit.week(ZoneInfo("Asia/Tokyo"))
    assert tokyo[0][8] == 7
    assert sum(map(sum, tokyo)) == 7


def test_scopes_are_used_when_somebody_asked_for_them_whatever_the_answer(organization, settle):
    key = make_key(organization, scopes=["orders:read", "orders:write"]).key
    events(key, 3, 2 * DAY, scope="orders:read")
    events(key, 1, 3 * HOUR, Outcome.RATE_LIMITED, scope="orders:write")
    events(key, 2, HOUR / 2, scope="")
    events(key, 4, HOUR / 2, Outcome.SCOPE_MISSING, scope="orders:delete")
    settle()
    found = ScopeEvidence.of(key)
    assert [(one.name, one.accepted, one.refused) for one in found.granted] == [
        ("orders:read", 3, 0),
        ("orders:write", 0, 1),
    ]
    assert [(one.name, one.asked) for one in found.missing] == [("orders:delete", 4)]
    assert (found.unscoped, found.accepted) == (2, 5)
    assert not found.can_narrow
    assert [one.name for one in found.refused_without(["orders:read", "orders:write"])] == ["orders:read"]


def test_what_was_asked_for_long_ago_counts_no_more(key):
    events(key, 1, 92 * DAY, scope="orders:read")
    assert [one.name for one in ScopeEvidence.of(key).unused] == ["orders:read"]


def test_evidence_reads_single_requests_of_parts_of_hours_only(key):
    events(key, 30, 20 * HOUR)
    events(key, 30, 3 * DAY)
    before = KeyEvidence.of(key)
    list(UsageHour.objects.roll_up())
    now = timezone.now()
    for ago in (HOUR, DAY, 7 * DAY, timedelta(0)):
        hour = (now - ago).replace(minute=0, second=0, microsecond=0)
        UsageEvent.objects.filter(at__gte=hour, at__lt=hour + HOUR).update(user_agent="kept")
    UsageEvent.objects.exclude(user_agent="kept").delete()
    after = KeyEvidence.of(key)
    assert after.recent == before.recent
    assert after.callers == before.callers
