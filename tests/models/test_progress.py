"""How far a rotation is: who has moved, whether the old key can go, who still tries it, and what finishes by itself."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from apikeys.models import (
    ApiKey,
    AuditAction,
    Clock,
    Ending,
    KeyRhythm,
    Move,
    Outcome,
    Place,
    RateLimit,
    Rotation,
    RotationProgress,
    Safety,
    Status,
    UsageDay,
    UsageEvent,
    UsageHour,
    UsageValue,
)
from apikeys.models.progress import LEARNT_WITHIN, SETTLED_AFTER, both_series, finish_due, series_edges
from apikeys.models.usage import DAY, HOUR, MINUTE, SECOND
from apikeys.verification import Presented, verify
from tests.factories import make_actor, make_event, make_key, make_old_key, make_organization, make_rotation
from tests.pages import entries

pytestmark = pytest.mark.django_db
BY = make_actor()
TINY = timedelta(microseconds=1)
NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)


@pytest.fixture
def key(organization):
    return make_key(organization).key


@pytest.fixture
def started(organization, key):
    return make_rotation(organization, key)


@pytest.fixture
def runs(organization, key):
    """A rotation that has been running for three days, so that its new key can have been used in the past."""
    now = timezone.now()
    rotation = make_rotation(organization, key).rotation
    new = make_old_key(organization, 3 * DAY)
    Rotation.objects.filter(pk=rotation.pk).update(started_at=now - 3 * DAY, new_key=new)
    return fetched(rotation)


@pytest.fixture
def at_noon(monkeypatch):
    """Stop the clock, where an instant is compared with now to the microsecond."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def fetched(rotation):
    return Rotation.objects.for_pages().get(pk=rotation.pk)


def progress_of(rotation):
    return RotationProgress.of(fetched(rotation))


def use(key, address, ago=timedelta(), **values):
    return make_event(key, address=address, ago=ago, user_agent="app/1", **values)


def addresses(moves):
    return [move.address for move in moves]


def roll_up():
    return list(UsageHour.objects.roll_up())


def ago_days(days, hour=0, minute=0):
    """Return an instant of a day (UTC) before today."""
    day = timezone.now().replace(hour=hour, minute=minute, second=0, microsecond=0)
    return day - DAY * days


def make_known_rhythm(key, usual_gap, gaps=3, age=100 * DAY):
    now = timezone.now()
    return KeyRhythm.objects.create(
        key=key,
        first_hour=now - age,
        last_hour=now,
        usual_gap=usual_gap // SECOND,
        gaps=gaps,
        computed_at=now,
    )


# Who has moved


def test_each_caller_is_at_one_place(runs):
    old, new = runs.old_key, runs.new_key
    use(old, "192.0.2.1", DAY)
    use(old, "192.0.2.2", DAY)
    use(old, "192.0.2.3", DAY)
    use(new, "192.0.2.2", 2 * HOUR)
    use(new, "192.0.2.3", HOUR)
    use(old, "192.0.2.3", MINUTE)
    use(new, "192.0.2.4")
    progress = progress_of(runs)
    assert addresses(progress.still_old) == ["192.0.2.1"]
    assert addresses(progress.on_both) == ["192.0.2.3"]
    assert addresses(progress.moved) == ["192.0.2.4", "192.0.2.2"], "the last one seen first"
    both = progress.on_both[0]
    assert (both.on_old.accepted, both.on_new.accepted, both.user_agent) == (2, 1, "app/1")


def test_who_left_the_old_key_alone_for_a_while_has_moved(runs):
    old, new = runs.old_key, runs.new_key
    for address, ago in (("192.0.2.1", SETTLED_AFTER + MINUTE), ("192.0.2.2", SETTLED_AFTER - MINUTE)):
        use(new, address, 2 * HOUR)
        use(old, address, ago)
    progress = progress_of(runs)
    assert addresses(progress.moved) == ["192.0.2.1"]
    assert addresses(progress.on_both) == ["192.0.2.2"]


def value(last, first=None, accepted=1, refused=0):
    return UsageValue("192.0.2.1\napp/1", accepted, refused, first or last, last)


@pytest.mark.parametrize(
    ("on_old", "on_new", "place"),
    [
        (value(NOW), None, Place.OLD),
        (None, value(NOW), Place.NEW),
        (value(NOW - MINUTE), value(NOW, accepted=0, refused=9), Place.OLD),
        (None, value(NOW, accepted=0, refused=1), Place.OLD),
        (value(NOW - MINUTE), value(NOW), Place.NEW),
        (value(NOW - MINUTE), value(NOW, first=NOW - MINUTE), Place.NEW),
        (value(NOW - MINUTE + TINY), value(NOW, first=NOW - MINUTE), Place.BOTH),
        (value(NOW - SETTLED_AFTER), value(NOW, first=NOW - HOUR), Place.NEW),
        (value(NOW - SETTLED_AFTER + TINY), value(NOW, first=NOW - HOUR), Place.BOTH),
    ],
)
def test_a_place_is_exact_at_its_borders(at_noon, on_old, on_new, place):
    assert Move.of("192.0.2.1\napp/1", on_old, on_new, None).place is place


def test_who_is_refused_with_the_new_key_has_not_moved(started):
    old, new = started.rotation.old_key, started.issued.key
    use(old, "192.0.2.1", DAY)
    use(new, "192.0.2.1", outcome=Outcome.NETWORK_DENIED)
    use(new, "192.0.2.9", outcome=Outcome.SCOPE_MISSING)
    progress = progress_of(started.rotation)
    assert sorted(addresses(progress.still_old)) == ["192.0.2.1", "192.0.2.9"]
    assert [move.refused_on_new for move in progress.still_old] == [1, 1]
    assert not progress.safety.is_new_used
    [stranger] = [move for move in progress.still_old if move.on_old is None]
    assert not stranger.may_return, "it never used the old key"


def test_who_was_only_ever_refused_with_the_old_key_has_nothing_to_move(started):
    use(started.rotation.old_key, "192.0.2.1", HOUR, outcome=Outcome.UNKNOWN)
    use(started.rotation.old_key, "192.0.2.2", HOUR, outcome=Outcome.PAUSED)
    assert progress_of(started.rotation).moves == []


def test_callers_of_long_ago_are_expected_no_more(started):
    use(started.rotation.old_key, "192.0.2.1", 95 * DAY)
    use(started.rotation.old_key, "192.0.2.2", 85 * DAY)
    assert addresses(progress_of(started.rotation).moves) == ["192.0.2.2"]


def test_without_a_new_key_everybody_is_on_the_old_one(organization):
    started = make_rotation(organization, link_lasts=DAY)
    use(started.rotation.old_key, "192.0.2.1")
    progress = progress_of(started.rotation)
    assert addresses(progress.still_old) == ["192.0.2.1"]
    assert progress.first_use is None


@pytest.mark.parametrize("settle", [roll_up, lambda: None], ids=["rolled up", "raw"])
def test_places_are_the_same_of_roll_ups(started, settle):
    old, new = started.rotation.old_key, started.issued.key
    use(old, "192.0.2.1", 3 * DAY)
    use(old, "192.0.2.2", 2 * DAY)
    use(old, "192.0.2.3", 2 * DAY)
    use(new, "192.0.2.2")
    use(new, "192.0.2.3")
    settle()
    progress = progress_of(started.rotation)
    assert addresses(progress.still_old) == ["192.0.2.1"]
    assert sorted(addresses(progress.moved)) == ["192.0.2.2", "192.0.2.3"]


# For how long a caller is usually silent


def gaps(key, *callers):
    names = [f"{caller}\napp/1" for caller in callers]
    found = UsageDay.objects.longest_caller_gaps(key, timezone.now() - 90 * DAY, names)
    return {name.partition("\n")[0]: gap for name, gap in found.items()}


def used_at(key, address, *instants):
    for at in instants:
        make_event(key, at=at, address=address, user_agent="app/1")


def test_between_two_days_a_gap_is_exact(key):
    used_at(key, "192.0.2.1", ago_days(20, 8), ago_days(13, 9, 30), ago_days(12, 9))
    roll_up()
    assert gaps(key, "192.0.2.1") == {"192.0.2.1": 7 * DAY + 90 * MINUTE}


def test_who_was_seen_on_one_day_is_left_out(key):
    used_at(key, "192.0.2.1", ago_days(5, 1), ago_days(5, 20))
    used_at(key, "192.0.2.2", ago_days(5, 1), ago_days(4, 1))
    roll_up()
    assert gaps(key, "192.0.2.1", "192.0.2.2", "192.0.2.3") == {"192.0.2.2": DAY}


@pytest.mark.parametrize("first", [True, False], ids=["on the first day", "on the second day"])
def test_within_a_day_a_gap_is_ten_times_the_usual_one_and_never_longer_than_the_day_was(key, first):
    silent, other = (6, 5) if first else (5, 6)
    used_at(key, "192.0.2.1", ago_days(silent, 1), ago_days(silent, 21), ago_days(other, 23 if other == 6 else 0))
    # A request every six minutes for two hours: ten times that is an hour.
    used_at(key, "192.0.2.2", *(ago_days(silent, 12) + 6 * MINUTE * number for number in range(21)))
    used_at(key, "192.0.2.2", ago_days(other, 12))
    roll_up()
    found = gaps(key, "192.0.2.1", "192.0.2.2")
    assert found["192.0.2.1"] == 20 * HOUR
    assert found["192.0.2.2"] == (22 * HOUR if first else DAY)


def test_what_is_within_a_day_counts_where_days_follow_closely(key):
    # From shortly before midnight to shortly after it, and then every hour.
    used_at(key, "192.0.2.1", ago_days(6, 23, 59), ago_days(5), *(ago_days(5, hour) for hour in range(1, 23)))
    roll_up()
    assert gaps(key, "192.0.2.1") == {"192.0.2.1": 10 * HOUR}


def test_a_caller_that_was_refused_with_the_new_key_keeps_its_own_rhythm(started):
    old, new = started.rotation.old_key, started.issued.key
    used_at(old, "192.0.2.1", ago_days(17), ago_days(10), ago_days(3))
    roll_up()
    use(new, "192.0.2.1", outcome=Outcome.NETWORK_DENIED)
    [move] = progress_of(started.rotation).still_old
    assert move.usual_gap == 7 * DAY
    assert move.may_return, "it comes once a week"


def test_who_may_return_is_exact_at_the_border(at_noon):
    for gap, border in ((3 * DAY, 3 * DAY), (None, LEARNT_WITHIN)):
        assert Move("a", Place.OLD, value(NOW - border), None, gap).may_return
        assert not Move("a", Place.OLD, value(NOW - border - TINY), None, gap).may_return
        assert not Move("a", Place.NEW, value(NOW), value(NOW), gap).may_return


# Whether the old key can go


def test_an_old_key_that_was_never_used_can_go_when_the_new_one_is_used(started):
    safety = progress_of(started.rotation).safety
    assert (safety.never_used, safety.is_silent, safety.is_new_used, safety.is_safe) == (True, True, False, False)
    assert safety.silent_since == started.rotation.started_at
    assert (safety.share, safety.percent) == (1.0, 100)
    use(started.issued.key, "192.0.2.1")
    assert progress_of(started.rotation).safety.is_safe


def test_a_key_whose_rhythm_is_known_is_silent_for_an_hour_longer_than_usual(started):
    old = started.rotation.old_key
    make_known_rhythm(old, 2 * DAY)
    used = use(old, "192.0.2.1", 2 * DAY)
    safety = progress_of(started.rotation).safety
    assert (safety.needed, safety.usual, safety.is_learnt) == (2 * DAY + HOUR, 2 * DAY, True)
    assert safety.silent_since == used.at
    assert not safety.is_silent
    assert safety.percent == 97


def test_a_key_that_is_used_every_hour_is_silent_for_two_hours(started):
    make_known_rhythm(started.rotation.old_key, timedelta(), gaps=0, age=2 * DAY)
    use(started.rotation.old_key, "192.0.2.1", HOUR)
    safety = progress_of(started.rotation).safety
    assert (safety.needed, safety.is_learnt) == (2 * HOUR, True)


@pytest.mark.parametrize("has_rhythm", [True, False])
def test_of_a_key_that_was_in_use_for_less_than_a_day_nothing_is_known(started, has_rhythm):
    if has_rhythm:
        make_known_rhythm(started.rotation.old_key, timedelta(), gaps=0, age=23 * HOUR)
    use(started.rotation.old_key, "192.0.2.1", 5 * HOUR)
    safety = progress_of(started.rotation).safety
    assert (safety.needed, safety.is_learnt, safety.is_silent) == (DAY, False, False)


def test_the_silence_is_enough_only_after_the_border(at_noon):
    for needed in (2 * HOUR, DAY):
        at, after = (Safety(NOW - needed - late, needed, True, True) for late in (timedelta(), TINY))
        assert (at.is_silent, at.is_safe, at.percent) == (False, False, 100)
        assert (after.is_silent, after.is_safe) == (True, True)
        assert Safety(NOW - needed + TINY, needed, True, True).percent == 99


def test_a_clock_that_is_behind_shows_no_negative_silence(at_noon):
    safety = Safety(NOW + MINUTE, HOUR, True, True)
    assert (safety.silence, safety.share, safety.is_safe) == (timedelta(), 0.0, False)


def test_it_is_not_safe_while_a_caller_may_come_back(started):
    old, new = started.rotation.old_key, started.issued.key
    make_known_rhythm(old, HOUR)
    used_at(old, "192.0.2.1", ago_days(17), ago_days(10), ago_days(3))
    used_at(old, "192.0.2.2", ago_days(17), ago_days(16))
    used_at(old, "192.0.2.3", ago_days(12), ago_days(2))
    roll_up()
    for address in ("192.0.2.2", "192.0.2.3"):
        use(new, address)
    safety = progress_of(started.rotation).safety
    assert safety.is_silent
    assert safety.is_new_used
    assert addresses(safety.waiting) == ["192.0.2.1"]
    assert not safety.is_safe
    use(new, "192.0.2.1")
    assert progress_of(started.rotation).safety.is_safe


def test_a_caller_that_is_gone_for_longer_than_it_ever_was_holds_up_nobody(started):
    old = started.rotation.old_key
    make_known_rhythm(old, HOUR)
    used_at(old, "192.0.2.1", ago_days(30), ago_days(29), ago_days(28))
    roll_up()
    use(started.issued.key, "192.0.2.2")
    progress = progress_of(started.rotation)
    assert addresses(progress.still_old) == ["192.0.2.1"]
    assert progress.safety.is_safe


# The first use


@pytest.mark.parametrize("limit", [None, RateLimit(100, 60, 100)])
def test_the_first_use_is_that_of_its_event(organization, limit):
    started = make_rotation(organization, make_key(organization, rate_limit=limit).key)
    assert progress_of(started.rotation).first_use is None
    for address in ("192.0.2.7", "192.0.2.8"):
        presented = Presented(started.issued.secret.text, organization.slug, address=address, user_agent="app/2")
        assert verify(presented).outcome is Outcome.VALID
    first = progress_of(started.rotation).first_use
    event = UsageEvent.objects.of(started.issued.key).order_by("at").first()
    assert (first.at, first.address, first.user_agent) == (event.at, "192.0.2.7", "app/2")


def test_a_refused_request_is_no_first_use(started):
    use(started.issued.key, "192.0.2.7", outcome=Outcome.SCOPE_MISSING)
    assert progress_of(started.rotation).first_use is None


def test_a_first_use_whose_event_is_gone_is_told_without_its_caller(started):
    used = use(started.issued.key, "192.0.2.7")
    UsageEvent.objects.of(started.issued.key).delete()
    first = progress_of(started.rotation).first_use
    assert (first.at, first.address, first.user_agent) == (used.at, "", "")


# Who still tries the old key


def test_after_its_end_each_attempt_is_told_and_an_unknown_caller_may_be_a_leak(started):
    old, new = started.rotation.old_key, started.issued.key
    use(old, "192.0.2.1", 2 * HOUR)
    use(new, "192.0.2.2")
    # With a guessed secret: nobody who has ever used the key.
    use(old, "192.0.2.4", HOUR, outcome=Outcome.UNKNOWN)
    assert progress_of(started.rotation).attempts == []
    started.rotation.finish(by=BY)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.3", "192.0.2.4"):
        use(old, address, outcome=Outcome.REVOKED)
    progress = progress_of(started.rotation)
    assert {one.value.address: (one.value.refused, one.is_unknown) for one in progress.attempts} == {
        "192.0.2.1": (1, False),
        "192.0.2.2": (1, False),
        "192.0.2.3": (2, True),
        "192.0.2.4": (1, True),
    }
    assert [one.value.address for one in progress.suspicious] == ["192.0.2.4", "192.0.2.3"], "the last one first"


def test_a_caller_of_a_year_ago_is_known_and_one_of_earlier_years_is_not(started):
    old = started.rotation.old_key
    use(old, "192.0.2.1", 390 * DAY)
    use(old, "192.0.2.2", 400 * DAY)
    started.rotation.finish(by=BY)
    for address in ("192.0.2.1", "192.0.2.2"):
        use(old, address, outcome=Outcome.REVOKED)
    found = {one.value.address: one.is_unknown for one in progress_of(started.rotation).attempts}
    assert found == {"192.0.2.1": False, "192.0.2.2": True}


def test_attempts_are_told_from_the_deadline_on_before_anybody_closes_the_rotation(started):
    old = started.rotation.old_key
    ApiKey.objects.filter(pk=old.pk).update(expires_at=timezone.now() - HOUR)
    use(old, "192.0.2.1", 2 * HOUR)
    use(old, "192.0.2.3", MINUTE, outcome=Outcome.EXPIRED)
    progress = progress_of(started.rotation)
    assert [(one.value.address, one.is_unknown) for one in progress.attempts] == [("192.0.2.3", True)]
    before = fetched(started.rotation)
    before.finish(by=BY)
    assert [one.value.address for one in progress_of(started.rotation).attempts] == ["192.0.2.3"]


def test_after_a_cancelled_rotation_nobody_is_suspected(started):
    started.rotation.cancel(by=BY)
    use(started.rotation.old_key, "192.0.2.3", outcome=Outcome.NETWORK_DENIED)
    assert progress_of(started.rotation).attempts == []


# The chart

LENGTHS = [MINUTE, 20 * MINUTE, 3 * HOUR, DAY, 6 * DAY, 20 * DAY, 80 * DAY, 300 * DAY]
ZONES = ["UTC", "Asia/Kolkata", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]
# Before and after both changes of the clock, and on the very days.
INSTANTS = [
    datetime(2026, 3, 8, 23, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 12, tzinfo=UTC),
    datetime(2026, 4, 5, 21, 45, 13, tzinfo=UTC),
    datetime(2026, 6, 10, 12, tzinfo=UTC),
    datetime(2026, 10, 25, 21, 59, tzinfo=UTC),
    datetime(2026, 11, 2, 4, 30, tzinfo=UTC),
]


def rotation_that_ran(length, *, until, closed=None):
    return Rotation(started_at=until - length, closed_at=closed, ending=Ending.FINISHED if closed else "")


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_chart_of_a_running_rotation_holds_all_of_it_and_what_was_before(monkeypatch, name, length):
    zone = ZoneInfo(name)
    for now in INSTANTS:
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        found = series_edges(rotation_that_ran(length, until=now), zone)
        before = max(HOUR, min(max(length, HOUR) / 2, 30 * DAY))
        assert found[0] <= now - length - before
        assert found[-2] < now <= found[-1], "up to now, and no step is all to come"
        assert 1 <= len(found) - 1 <= 74
        steps = {later - earlier for earlier, later in pairwise(found)}
        assert min(steps) > timedelta()
        if max(steps) > 20 * HOUR:
            assert {edge.astimezone(zone).strftime("%H:%M") for edge in found} == {"00:00"}, "whole days of the reader"
        else:
            assert len(steps) == 1


@pytest.mark.parametrize("length", LENGTHS)
def test_the_chart_of_a_closed_rotation_ends_as_long_after_it_as_it_ran(monkeypatch, length):
    closed = datetime(2026, 1, 10, 9, 20, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: closed + 3000 * DAY)
    found = series_edges(rotation_that_ran(length, until=closed, closed=closed), UTC)
    last = closed - length + 2 * max(length, HOUR)
    assert found[-2] < last <= found[-1]
    # The longest steps are of a week.
    assert len(found) - 1 <= max(74, 1 + (found[-1] - found[0]) / (7 * DAY))
    monkeypatch.setattr(timezone, "now", lambda: closed + MINUTE)
    found = series_edges(rotation_that_ran(length, until=closed, closed=closed), UTC)
    assert found[-2] < closed + MINUTE <= found[-1]


@pytest.mark.parametrize("settle", [roll_up, lambda: None], ids=["rolled up", "raw"])
@pytest.mark.parametrize("name", ["UTC", "Asia/Kolkata", "Europe/Berlin"])
@pytest.mark.parametrize("length", [10 * MINUTE, 5 * HOUR, 4 * DAY, 50 * DAY])
def test_the_chart_counts_each_request_once(started, settle, name, length):
    old, new = started.rotation.old_key, started.issued.key
    outcomes = [Outcome.VALID, Outcome.VALID, Outcome.SCOPE_MISSING]
    for number in range(60):
        ago = length * 1.4 * number / 60
        use(old if number % 2 else new, "192.0.2.1", ago, outcome=outcomes[number % 3])
    Rotation.objects.filter(pk=started.rotation.pk).update(started_at=timezone.now() - length)
    settle()
    rotation = fetched(started.rotation)
    edges = series_edges(rotation, ZoneInfo(name))
    counts = both_series(rotation, edges)
    assert {len(row) for row in counts.values()} == {len(edges) - 1}
    raw: Counter[str] = Counter()
    for kind, key in (("old", old), ("new", new)):
        for outcome in UsageEvent.objects.of(key).filter(at__gte=edges[0]).values_list("outcome", flat=True):
            raw[kind if outcome == Outcome.VALID else "refused"] += 1
    assert {kind: sum(row) for kind, row in counts.items()} == dict(raw)
    assert raw.total() == 60


def test_the_chart_without_a_new_key_has_the_old_one_alone(organization):
    started = make_rotation(organization, link_lasts=DAY)
    use(started.rotation.old_key, "192.0.2.1")
    rotation = fetched(started.rotation)
    counts = both_series(rotation, series_edges(rotation, UTC))
    assert {kind: sum(row) for kind, row in counts.items()} == {"old": 1, "new": 0, "refused": 0}


# The steps


def steps(rotation):
    return list(progress_of(rotation).steps.values())


def test_the_steps_go_on_as_the_rotation_does(started):
    old, new = started.rotation.old_key, started.issued.key
    make_known_rhythm(old, HOUR)
    use(old, "192.0.2.1", 3 * DAY)
    use(old, "192.0.2.2", 3 * DAY)
    assert steps(started.rotation) == ["done", "now", "to come", "to come", "to come"]
    use(new, "192.0.2.1")
    # Whoever is silent for longer than usual holds up nobody.
    assert steps(started.rotation) == ["done", "to come", "done", "now", "to come"]
    use(new, "192.0.2.2")
    assert steps(started.rotation) == ["done", "done", "done", "now", "to come"]
    started.rotation.finish(by=BY)
    assert steps(started.rotation) == ["done", "done", "done", "done", "now"]


def test_a_caller_that_may_return_is_to_be_moved_first(started):
    use(started.rotation.old_key, "192.0.2.1", HOUR)
    use(started.issued.key, "192.0.2.2")
    assert steps(started.rotation) == ["done", "now", "done", "to come", "to come"]


def test_the_first_step_waits_for_the_owner(organization):
    handed = make_rotation(organization, link_lasts=DAY)
    assert steps(handed.rotation) == ["now", "to come", "to come", "to come", "to come"]
    handed.rotation.take(handed.token, by=BY)
    assert steps(handed.rotation)[:2] == ["done", "now"]


def test_after_the_deadline_the_old_key_is_watched(started):
    use(started.rotation.old_key, "192.0.2.1", 2 * HOUR)
    ApiKey.objects.filter(pk=started.rotation.old_key_id).update(expires_at=timezone.now() - HOUR)
    assert steps(started.rotation) == ["done", "to come", "to come", "done", "now"]


def test_of_a_cancelled_rotation_no_step_is_to_be_taken(started):
    use(started.issued.key, "192.0.2.1")
    started.rotation.cancel(by=BY)
    assert steps(started.rotation) == ["done", "done", "done", "to come", "to come"]


# What finishes by itself


def make_safe(organization, **terms):
    """Make a rotation whose old key can go."""
    started = make_rotation(organization, finishes_when_safe=True, **terms)
    use(started.issued.key, "192.0.2.1")
    return started.rotation


def make_overdue(organization, ago=HOUR, **terms):
    rotation = make_rotation(organization, **terms).rotation
    ApiKey.objects.filter(pk=rotation.old_key_id).update(expires_at=timezone.now() - ago)
    return rotation


def test_what_is_over_and_what_is_safe_is_finished_and_nothing_else(organization):
    overdue = make_overdue(organization)
    elsewhere = make_overdue(make_organization())
    safe = make_safe(organization)
    not_asked = make_rotation(organization)
    use(not_asked.issued.key, "192.0.2.1")
    not_used = make_rotation(organization, finishes_when_safe=True).rotation
    not_safe = make_safe(organization)
    use(not_safe.old_key, "192.0.2.2")
    not_taken = make_rotation(organization, finishes_when_safe=True, link_lasts=DAY).rotation
    ended = list(finish_due(by=BY))
    assert {rotation.pk: rotation.ending for rotation in ended} == {
        overdue.pk: Ending.DEADLINE,
        elsewhere.pk: Ending.DEADLINE,
        safe.pk: Ending.SAFE,
    }
    assert all(rotation.old_key.status is Status.REVOKED for rotation in ended)
    left = {not_asked.rotation.pk, not_used.pk, not_safe.pk, not_taken.pk}
    assert set(Rotation.objects.open().values_list("pk", flat=True)) == left
    assert len(entries(organization, AuditAction.ROTATION_FINISH)) == 2
    assert list(finish_due(by=BY)) == []


def test_what_is_over_is_revoked_as_of_its_deadline(organization):
    rotation = make_overdue(organization, ago=5 * HOUR)
    at = fetched(rotation).deadline
    list(finish_due(by=BY))
    assert ApiKey.objects.get(pk=rotation.old_key_id).revoked_at == at


def test_what_is_over_and_safe_ended_at_its_deadline(organization):
    rotation = make_safe(organization)
    ApiKey.objects.filter(pk=rotation.old_key_id).update(expires_at=timezone.now() - HOUR)
    assert [one.ending for one in finish_due(by=BY)] == [Ending.DEADLINE]


def test_who_was_quicker_with_one_keeps_the_others_from_nothing(organization):
    rotations = [make_overdue(organization) for _ in range(2)] + [make_safe(organization) for _ in range(3)]
    ending = finish_due(by=BY)
    first = next(ending)
    fetched(next(one for one in rotations[:2] if one.pk != first.pk)).finish(by=BY)
    fetched(rotations[2]).cancel(by=BY)
    ApiKey.objects.get(pk=rotations[3].old_key_id).revoke(reason="other", by=BY)
    assert [one.pk for one in ending] == [rotations[4].pk]
    endings = [fetched(rotation).ending for rotation in rotations]
    assert endings == [Ending.DEADLINE, Ending.DEADLINE, Ending.CANCELLED, Ending.OLD_REVOKED, Ending.SAFE]


def test_a_new_key_that_was_revoked_after_the_deadline_changes_nothing_of_the_end(organization):
    started = make_rotation(organization, clock=Clock.FIRST_USE, overlap=timedelta())
    use(started.issued.key, "192.0.2.1")
    ApiKey.objects.get(pk=started.issued.key.pk).revoke(reason="leaked", by=BY)
    assert [one.ending for one in finish_due(by=BY)] == [Ending.DEADLINE]


def test_what_is_over_is_finished_although_its_owner_never_took_the_new_key(organization):
    rotation = make_overdue(organization, link_lasts=DAY)
    assert [one.pk for one in finish_due(by=BY)] == [rotation.pk]
    assert fetched(rotation).link_is_good
