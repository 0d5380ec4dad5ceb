"""Roll-ups say what the raw events say: always, whatever comes late, and whenever they are made."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import (
    BusiestKey,
    KeyRhythm,
    LateHour,
    OrganizationDay,
    OrganizationHour,
    Outcome,
    RankKind,
    UsageDay,
    UsageEvent,
    UsageHour,
    UsageWatermark,
    counting_sql,
)
from apikeys.models.counting_sql import MOST_KEPT
from apikeys.models.series import RANGES, edges, floor_day, floor_hour
from apikeys.models.usage import DAY, HOUR
from apikeys.models.watermark import Sources
from apikeys.retention import prune
from tests.factories import make_actor, make_environment, make_event, make_key, make_member

pytestmark = pytest.mark.django_db


def roll_up(now=None):
    return list(UsageHour.objects.roll_up(now))


@pytest.fixture
def key(organization):
    return make_key(organization).key


def at_hour(hours_ago, minutes=30):
    return floor_hour(timezone.now()) - hours_ago * HOUR + timedelta(minutes=minutes)


# What is counted


def test_a_day_is_told_apart_by_caller_scope_and_endpoint(key):
    day = floor_day(timezone.now()) - 2 * DAY
    for number, (address, scope, path) in enumerate(
        [("10.0.0.1", "orders:read", "/a"), ("10.0.0.1", "", "/a"), (None, "orders:read", "/b")]
    ):
        make_event(key, at=day + number * HOUR, address=address, scope=scope, path=path, user_agent="agent/1")
    make_event(key, at=day + 3 * HOUR, outcome=Outcome.SCOPE_MISSING, scope="x:y", path="/b", user_agent="agent/1")
    roll_up()
    rows = UsageDay.objects.filter(key_id=key.pk, day=day.date())
    assert {row.value: (row.accepted, row.refused) for row in rows.filter(dimension="caller")} == {
        "10.0.0.1\nagent/1": (2, 0),
        "198.51.100.7\nagent/1": (0, 1),
        "\nagent/1": (1, 0),
    }
    assert {row.value: (row.accepted, row.refused) for row in rows.filter(dimension="scope")} == {
        "orders:read": (2, 0),
        "": (1, 0),
        "x:y": (0, 1),
    }
    assert {row.value: (row.accepted, row.refused) for row in rows.filter(dimension="endpoint")} == {
        "GET /a": (2, 0),
        "GET /b": (1, 1),
    }
    row = rows.get(dimension="endpoint", value="GET /b")
    assert (row.first_at, row.last_at) == (day + 2 * HOUR, day + 3 * HOUR)


@pytest.mark.parametrize("address", ["2001:db8::1", "::ffff:192.0.2.1", "192.0.2.1", None])
def test_a_caller_reads_the_same_rolled_up_or_not(key, address):
    make_event(key, at=at_hour(3), address=address, user_agent="\N{RIGHT-TO-LEFT OVERRIDE}<b>é")
    since = timezone.now() - DAY
    [before] = UsageDay.objects.usage_of(key, "caller", since).values
    roll_up()
    [after] = UsageDay.objects.usage_of(key, "caller", since).values
    assert before == after
    assert after.user_agent == "\N{RIGHT-TO-LEFT OVERRIDE}<b>é"


def test_a_million_callers_are_bounded_and_the_sum_is_right(key):
    start = floor_day(timezone.now()) - 2 * DAY
    events = [
        UsageEvent(
            key_id=key.pk, at=start + hour * HOUR, outcome=Outcome.VALID, address=f"10.{hour}.{n // 250}.{n % 250}"
        )
        for hour in range(3)
        for n in range(MOST_KEPT + 50)
    ]
    busy = [
        UsageEvent(key_id=key.pk, at=start + hour * HOUR, outcome=Outcome.VALID, address="192.0.2.1")
        for hour in range(3)
        for _ in range(2)
    ]
    UsageEvent.objects.bulk_create(events + busy)
    before = UsageDay.objects.usage_of(key, "caller", start.date(), most=1)
    assert (before.values[0].address, before.values[0].count, before.total) == ("192.0.2.1", 6, len(events) + 6)
    assert before.others == len(events)
    roll_up()
    rows = UsageDay.objects.filter(key_id=key.pk, dimension="caller")
    assert rows.count() == MOST_KEPT + 1
    after = UsageDay.objects.usage_of(key, "caller", start.date(), most=1)
    assert (after.values[0].address, after.values[0].count, after.total) == ("192.0.2.1", 6, len(events) + 6)
    assert after.others_count == before.others_count == len(events)
    assert after.is_bounded
    assert UsageDay.objects.caller_counts([key.pk], start.date()) == {key.pk: MOST_KEPT}


def test_more_callers_than_are_shown_before_they_are_rolled_up(key):
    for number in range(9):
        make_event(key, address=f"10.0.0.{number}", outcome=Outcome.VALID if number % 2 else Outcome.PAUSED)
    make_event(key, address="10.0.0.8")
    found = UsageDay.objects.usage_of(key, "caller", timezone.now() - HOUR, most=3)
    assert found.total == 10
    # The busiest first, then by address.
    assert [(value.address, value.accepted, value.refused) for value in found.values] == [
        ("10.0.0.8", 1, 1),
        ("10.0.0.0", 0, 1),
        ("10.0.0.1", 1, 0),
    ]
    assert (found.others, found.others_count, found.is_bounded) == (6, 6, False)


def test_callers_of_a_day_that_runs_are_those_of_its_roll_up_and_of_the_hour_that_runs(key):
    for ago, address in [(30 * HOUR, "10.0.0.1"), (2 * HOUR, "10.0.0.1"), (2 * HOUR, "10.0.0.2")]:
        make_event(key, ago=ago, address=address)
    make_event(key, ago=timedelta(seconds=1), address="10.0.0.3")
    since, until = timezone.now() - DAY, timezone.now() + HOUR

    def callers():
        found = UsageDay.objects.usage_of(key, "caller", since, until)
        return [(value.address, value.count, value.first_at, value.last_at) for value in found.values], found.total

    before = callers()
    assert [address for address, *_ in before[0]] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    roll_up()
    assert callers() == before


def test_of_a_day_that_runs_only_what_is_not_rolled_up_is_read_from_events():
    since, until, mark = (datetime(2026, 11, day, hour, tzinfo=UTC) for day, hour in [(19, 16), (20, 16), (20, 15)])
    UsageWatermark.objects.update_or_create(pk=1, defaults={"until": mark})
    midnight = floor_day(until)
    found = Sources.of(since, until, unit=DAY)
    assert found.recounted == [(floor_day(since), midnight)]
    assert found.raw == [(since, midnight), (mark, until)]
    # An end in what is rolled up cuts its day.
    earlier = Sources.of(since, mark - HOUR, unit=DAY)
    assert earlier.recounted == [(floor_day(since), midnight + DAY)]
    assert earlier.raw == [(since, mark - HOUR)]


def test_a_new_caller_is_one_that_nobody_saw_before_the_last_day(key):
    make_event(key, ago=40 * DAY, address="10.0.0.1")
    make_event(key, ago=timedelta(minutes=1), address="10.0.0.1")
    make_event(key, ago=timedelta(minutes=1), address="10.0.0.2")
    for _ in range(2):
        found = UsageDay.objects.usage_of(key, "caller", timezone.now() - 7 * DAY)
        assert {value.address: value.is_new for value in found.values} == {"10.0.0.1": False, "10.0.0.2": True}
        roll_up()


def test_owners_and_environments_of_an_organization(organization):
    member = make_member(organization)
    staging = organization.environments.get(code="stag")
    ours = make_key(organization, owner=member).key
    theirs = make_key(organization, environment="stag", owner_contact="team@example.com").key
    other = make_event(ours, at=at_hour(30))
    make_event(ours, at=at_hour(3), outcome=Outcome.RATE_LIMITED)
    make_event(theirs, at=at_hour(3))
    make_event(theirs, ago=timedelta(0))
    for since in (other.at, floor_day(other.at), other.at + timedelta(microseconds=1)):
        for _ in range(2):
            owners = OrganizationDay.objects.by_owner(organization, since)
            told = {(one.member, one.contact): (one.accepted, one.refused) for one in owners}
            assert told[member, ""] == (int(since <= other.at), 1)
            assert told[None, "team@example.com"] == (2, 0)
            environments = OrganizationHour.objects.by_environment(organization, since)
            counts = {one.environment_id: (one.accepted, one.refused) for one in environments}
            assert counts[staging.pk] == (2, 0)
            roll_up()


def test_owners_beyond_the_most_are_summed(organization):
    for number in range(4):
        key = make_key(organization, owner_contact=f"team{number}@example.com").key
        for _ in range(number + 1):
            make_event(key, at=at_hour(3))
    roll_up()
    first, rest = OrganizationDay.objects.by_owner(organization, timezone.now() - DAY, most=1)
    assert (first.contact, first.accepted, rest.is_others, rest.accepted) == ("team3@example.com", 4, True, 6)


def test_an_owner_is_told_apart_by_what_the_key_list_filters_by(organization):
    member = make_member(organization)
    for terms in ({"owner": member}, {"owner_contact": member.user.email}, {"owner_contact": "team@example.com"}):
        make_event(make_key(organization, **terms).key, ago=3 * HOUR)
    since = timezone.now() - 2 * DAY
    for _ in range(2):
        found = OrganizationDay.objects.by_owner(organization, since)
        assert [(one.address, one.accepted) for one in found] == [("team@example.com", 1), (member.user.email, 2)][::-1]
        roll_up()


def test_requests_of_keys_of_a_member_who_left_are_not_those_of_others(organization, admin):
    member = make_member(organization)
    make_event(make_key(organization, owner=member).key, ago=3 * HOUR)
    roll_up()
    member.remove(by=make_actor(admin), keys_to=admin.memberships.get())
    [left] = OrganizationDay.objects.by_owner(organization, floor_day(timezone.now() - 2 * DAY))
    assert (left.member, left.address, left.accepted, left.is_others) == (None, "", 1, False)


def test_figures_of_keys_that_stand_out_are_counted_since_an_instant(key, organization):
    for hours in (1, 30, 50):
        make_event(key, at=at_hour(hours))
    for _ in range(2):
        [one] = BusiestKey.objects.of(organization, 7, since=floor_hour(timezone.now()) - 40 * HOUR)
        assert (one.key, one.number) == (key, 2)
        roll_up()


def test_keys_that_stand_out(organization):
    busy, dead, guessed, idle = (make_key(organization).key for _ in range(4))
    for _ in range(3):
        make_event(busy, at=at_hour(3))
    make_event(dead, at=at_hour(40), outcome=Outcome.REVOKED)
    make_event(guessed, at=at_hour(3), outcome=Outcome.UNKNOWN)
    make_event(idle, at=at_hour(3), outcome=Outcome.SCOPE_MISSING)
    roll_up()
    make_event(idle)
    of = BusiestKey.objects.of
    assert [(one.key, one.number) for one in of(organization, 1)] == [(busy, 3), (idle, 2), (guessed, 1)]
    assert [one.key for one in of(organization, 7, kind=RankKind.TRIED)] == [dead]
    assert of(organization, 1, kind=RankKind.TRIED) == []
    assert [one.key for one in of(organization, 30, kind=RankKind.GUESSED)] == [guessed]
    assert [(one.key, one.accepted, one.refused) for one in of(organization, 90, kind=RankKind.REFUSED)] == [
        (idle, 1, 1)
    ]
    assert [one.key for one in of(organization, 395, most=1)] == [busy]


# Late events


def test_a_key_stands_out_by_what_came_late_or_was_counted_again(key, organization):
    make_event(make_key(organization).key, at=at_hour(5))
    roll_up()
    make_event(key, at=at_hour(5))
    roll_up()
    assert key in {one.key for one in BusiestKey.objects.of(organization, 1)}
    BusiestKey.objects.all().delete()
    UsageWatermark.read().move(floor_hour(timezone.now()) - 6 * HOUR)
    roll_up()
    assert key in {one.key for one in BusiestKey.objects.of(organization, 1)}


def test_a_key_stands_out_in_a_long_span_as_soon_as_it_is_used(key, organization):
    """Long spans are ranked once a day: what is rolled up later that day must not be missing until the next."""
    noon = floor_day(timezone.now()) - DAY + 12 * HOUR
    make_event(make_key(organization).key, at=noon - 8 * HOUR)
    roll_up(noon)
    make_event(key, at=noon + 30 * timedelta(minutes=1))
    roll_up(noon + 2 * HOUR)
    assert key.pk in {one.key.pk for one in BusiestKey.objects.of(organization, 30)}


def test_an_event_that_comes_late_is_counted_at_once_and_for_good(key, organization):
    make_event(key, at=at_hour(30))
    roll_up()
    make_event(key, at=at_hour(30), address="10.0.0.9")
    make_event(key, at=at_hour(50), outcome=Outcome.EXPIRED)
    assert LateHour.objects.count() == 2
    for _ in range(2):
        assert UsageHour.objects.by_outcome(key, timezone.now() - 3 * DAY) == {"valid": 2, "expired": 1}
        series = OrganizationHour.objects.series(organization, at_hour(60, 0), HOUR, 61)
        assert series.by_outcome == {"valid": 2, "expired": 1}
        callers = UsageDay.objects.usage_of(key, "caller", timezone.now() - 3 * DAY)
        assert callers.total == 3
        owners = OrganizationDay.objects.by_owner(organization, timezone.now() - 3 * DAY)
        assert [(one.accepted, one.refused) for one in owners] == [(2, 1)]
        roll_up()
    assert not LateHour.objects.exists()
    assert UsageHour.objects.filter(key_id=key.pk).count() == 2


def test_events_of_the_running_hour_are_not_late(key):
    make_event(key)
    make_event(key, at=timezone.now() + timedelta(days=400))
    assert not LateHour.objects.exists()


def test_an_event_from_a_clock_that_is_ahead_is_counted_in_its_hour(key):
    ahead = floor_hour(timezone.now()) + 5 * HOUR
    make_event(key, at=ahead)
    roll_up()
    assert not UsageHour.objects.exists()
    assert UsageHour.objects.series_between(key, [ahead, ahead + HOUR]).total == 1


def test_the_gap_before_a_late_event_is_learnt(key):
    make_event(key, at=at_hour(3))
    roll_up()
    make_event(key, at=at_hour(100))
    roll_up()
    rhythm = KeyRhythm.objects.get(key=key)
    assert rhythm.first_hour == at_hour(100, 0)
    assert rhythm.longest_gap == 97 * 3600


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite plans by its indexes alone")
def test_many_late_events_are_noted_and_forgotten_by_place_and_index_whatever_the_planner_believes(db):
    LateHour.objects.bulk_create(LateHour(key_id=number, hour=at_hour(9, 0)) for number in range(20_000))
    forget = counting_sql.rendered(counting_sql.FORGET_NOTES)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {forget}", {"since": at_hour(9, 0), "until": at_hour(8, 0)})
        plan = [row[0] for row in cursor.fetchall()]
        cursor.execute("SELECT proconfig FROM pg_proc WHERE proname = 'keyadmin_note_late'")
        [(own_settings,)] = cursor.fetchall()
    assert any("Tid Scan" in line for line in plan), "\n".join(plan)
    assert own_settings == ["enable_seqscan=off"]


def test_an_event_later_than_raw_events_are_kept_is_counted_and_removed(key, organization):
    make_event(key, at=at_hour(60 * 24))
    roll_up()
    prune()
    assert not UsageEvent.objects.exists()
    for address in ("10.0.0.1", "10.0.0.2"):
        make_event(key, at=at_hour(60 * 24), address=address)
        assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 2 if address[-1] == "1" else 3}
        roll_up()
        assert not UsageEvent.objects.exists()
    assert UsageHour.objects.get().count == 3
    assert UsageDay.objects.usage_of(key, "caller", timezone.now() - 90 * DAY).total == 3
    assert OrganizationHour.objects.get(organization_id=organization.pk).count == 3


def test_a_watermark_moved_back_counts_again_and_loses_nothing(key):
    for hours in (3, 4, 30, 31):
        make_event(key, at=at_hour(hours))
    roll_up()
    UsageWatermark.objects.update(until=floor_hour(timezone.now()) - 40 * HOUR)
    roll_up()
    assert sorted(UsageHour.objects.values_list("count", flat=True)) == [1, 1, 1, 1]
    assert UsageDay.objects.usage_of(key, "scope", timezone.now() - 2 * DAY).total == 4
    assert OrganizationHour.objects.count() == 4


def test_a_watermark_moved_back_behind_raw_events_leaves_what_was_counted(key):
    make_event(key, at=at_hour(60 * 24))
    make_event(key, at=at_hour(3))
    roll_up()
    prune()
    UsageWatermark.objects.update(until=timezone.now() - 70 * DAY)
    roll_up()
    assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 2}


# Steps of time


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"])
def test_days_are_those_of_the_zone(key, zone):
    tz = ZoneInfo(zone)
    borders = RANGES["30d"].edges(timezone.now(), tz)
    assert len(borders) == 31
    assert all(border.astimezone(tz).time().isoformat() == "00:00:00" for border in borders)
    for border in borders[10:13]:
        make_event(key, at=border)
        make_event(key, at=border - timedelta(microseconds=1))
    for _ in range(2):
        series = UsageHour.objects.series_between(key, borders)
        assert series.counts["valid"][9:13] == [1, 2, 2, 1]
        assert series.total == 6
        roll_up()


def test_a_day_of_clock_change_is_23_or_25_hours_long():
    tz = ZoneInfo("Europe/Berlin")
    steps = edges(datetime(2026, 10, 24, tzinfo=tz), DAY, 3, tz)
    assert [(later - earlier) // HOUR for earlier, later in pairwise(steps)] == [24, 25, 24]
    steps = edges(datetime(2026, 3, 28, tzinfo=tz), DAY, 3, tz)
    assert [(later - earlier) // HOUR for earlier, later in pairwise(steps)] == [24, 23, 24]


def test_thirteen_months_end_with_the_running_one():
    steps = RANGES["13m"].edges(datetime(2026, 12, 31, 23, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert steps[0] == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert steps[-1] == datetime(2027, 1, 31, 23, tzinfo=UTC)
    assert len(steps) == 14


# Whatever happens

ACTION = st.one_of(
    st.tuples(
        st.just("event"),
        st.integers(0, 2),
        # Minutes ago, gladly at a border of hours and days, up to beyond the time that events are kept.
        st.one_of(st.integers(0, 13 * 24 * 60), st.integers(0, 13 * 24).map(lambda hours: hours * 60)),
        st.sampled_from([Outcome.VALID, Outcome.EXPIRED, Outcome.SCOPE_MISSING]),
        st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    ),
    st.tuples(st.just("roll up"), st.integers(0, 14 * 24)),
    st.tuples(st.just("prune")),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    actions=st.lists(ACTION, min_size=1, max_size=14),
    since=st.integers(0, 14 * 24),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"]),
)
def test_every_figure_is_the_count_of_the_events(organization, settings, actions, since, zone):
    settings.EVENT_RETENTION_DAYS = 7
    with transaction.atomic():
        keys = [
            make_key(organization).key,
            make_key(organization, environment="stag", owner_contact="a@example.com").key,
            make_key(organization, owner_contact="b@example.com").key,
        ]
        events = _act(actions, keys)
        first = floor_hour(timezone.now()) - since * HOUR
        for number, key in enumerate(keys):
            mine = [event for event in events if event[0] == number]
            _check_key(key, mine, first, ZoneInfo(zone))
        _check_organization(organization, keys, events, first)
        transaction.set_rollback(True)


def _act(actions, keys):
    events = []
    now = timezone.now().replace(second=0, microsecond=0)
    for action, *arguments in actions:
        if action == "event":
            number, minutes, outcome, address = arguments
            at = now - timedelta(minutes=minutes)
            make_event(keys[number], at=at, outcome=outcome, address=address)
            events.append((number, at, outcome, address))
        elif action == "roll up":
            roll_up(now - arguments[0] * HOUR)
        else:
            prune()
    return events


def _check_key(key, mine, first, tz):
    counted = Counter(outcome for _, at, outcome, _ in mine if at >= first)
    assert UsageHour.objects.by_outcome(key, first) == counted
    borders = RANGES["30d"].edges(timezone.now(), tz)
    series = UsageHour.objects.series_between(key, borders)
    for position, (begin, end) in enumerate(pairwise(borders)):
        expected = Counter(outcome for _, at, outcome, _ in mine if begin <= at < end)
        assert {name: values[position] for name, values in series.counts.items() if values[position]} == expected
    midnight = floor_day(first)
    callers = UsageDay.objects.usage_of(key, "caller", midnight.date())
    expected = Counter(address for _, at, _, address in mine if at >= midnight)
    assert {value.address: value.count for value in callers.values} == expected
    for value in callers.values:
        times = [at for _, at, _, address in mine if at >= midnight and address == value.address]
        assert (value.first_at, value.last_at) == (min(times), max(times))


def _check_organization(organization, keys, events, first):
    accepted = Counter(number for number, at, outcome, _ in events if at >= first and outcome == Outcome.VALID)
    refused = Counter(number for number, at, outcome, _ in events if at >= first and outcome != Outcome.VALID)
    owners = {one.contact: one for one in OrganizationDay.objects.by_owner(organization, first)}
    environments = {one.environment_id: one for one in OrganizationHour.objects.by_environment(organization, first)}
    for number, key in enumerate(keys[1:], start=1):
        told = owners.get(key.owner_contact)
        assert (told.accepted if told else 0, told.refused if told else 0) == (accepted[number], refused[number])
    staging = environments.get(keys[1].environment_id)
    assert (staging.accepted if staging else 0) == accepted[1]
    series = OrganizationHour.objects.series_between(organization, [first, timezone.now() + 2 * HOUR])
    assert series.total == sum(accepted.values()) + sum(refused.values())


def test_an_hour_is_counted_without_reading_every_event(key):
    make_event(key, at=at_hour(3))
    since, until = (connection.ops.adapt_datetimefield_value(at_hour(hours, 0)) for hours in (3, 2))
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(
            f"{explain} SELECT key_id, outcome, COUNT(*) FROM apikeys_usageevent "
            "WHERE at >= %s AND at < %s GROUP BY 1, 2",
            [since, until],
        )
        plan = "\n".join(str(row) for row in cursor.fetchall())
    if connection.vendor == "sqlite":
        assert "event_by_time" in plan
    else:
        # Of all partitions, the one of its day. Which index of it is best depends on how much it holds.
        assert len(set(re.findall(r"apikeys_usageevent_(\d{8}|default)", plan))) == 1


def test_an_environment_of_ones_own_is_counted(organization):
    environment = make_environment(organization, "edge")
    make_event(make_key(organization, environment="edge").key, at=at_hour(2))
    roll_up()
    [found] = OrganizationHour.objects.by_environment(organization, timezone.now() - DAY)
    assert (found.environment_id, found.by_outcome) == (environment.pk, {"valid": 1})
