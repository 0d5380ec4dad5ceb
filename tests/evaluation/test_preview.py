"""Looking back at 90 days tells what looking once a day would have raised."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from apikeys.evaluation.preview import preview
from apikeys.models import (
    AlertEvent,
    AlertKind,
    AlertRule,
    ApiKey,
    EventType,
    JobRun,
    Outcome,
    RevocationReason,
    UsageEvent,
    UsageHour,
)
from apikeys.models.usage import DAY, HOUR, MINUTE
from tests.evaluation.clock import START
from tests.factories import (
    make_actor,
    make_event,
    make_events,
    make_exemption,
    make_key,
    make_member,
    make_organization,
    make_rhythm,
    make_rotation,
)
from tests.pages import age_limit

pytestmark = pytest.mark.django_db
BY = make_actor()
DAYS = 90
# Looks are at noon and five minutes: what happens in the first minute of an hour is told of in the look after its hour.
ALMOST_NOON = START - 4 * MINUTE


@pytest.fixture(autouse=True)
def _all_are_shown(monkeypatch):
    monkeypatch.setattr("apikeys.evaluation.preview.MOST_SHOWN", 10_000)


def foreseen(organization, kind, clock):
    """Return (number of the look, key or job) of what a look back tells, and see that its numbers agree."""
    terms = AlertRule.objects.one(organization, kind).terms
    found = preview(organization, kind, terms, now=clock.now)
    assert found.total == len(found.foreseen) == sum(found.by_day)
    assert found.keys == len({one.alert.what for one in found.foreseen})
    return sorted((look_after(one.at), one.alert.what) for one in found.foreseen)


def raised(organization, kind):
    """Return the same of what was opened, or got worse."""
    events = AlertEvent.objects.filter(organization=organization, alert__kind=kind, at__gt=START)
    events = events.filter(event__in=[EventType.OPENED, EventType.ESCALATED]).select_related("alert")
    return sorted((look_after(event.at), event.alert.what) for event in events)


def look_after(at):
    return -((START - at) // DAY)


def switch_on(organization, kind):
    rule = AlertRule.objects.one(organization, kind)
    rule.edit(replace(rule.terms, is_on=True), by=BY)


def test_near_ends(organization, clock):
    def end(days, **terms):
        return make_key(organization, expires_at=START + timedelta(days=days), **terms).key.pk

    clock.move(days=-70)
    revoked, rotated, moved = end(61.5), end(40.5), end(149.5)
    for days in (0.5, 20.5, 95.5, 200):
        end(days)
    clock.look(days=70)
    for days in (5.5, 33.5):
        end(days)
    clock.look_daily(20)
    keys = ApiKey.objects.for_pages().in_bulk([revoked, rotated, moved])
    keys[revoked].revoke(reason=RevocationReason.UNUSED, by=BY)
    make_rotation(organization, keys[rotated])
    keys[moved].edit(replace(keys[moved].terms, expires_at=START + 50.5 * DAY), by=BY)
    clock.look_daily(DAYS - 20)
    told = raised(organization, AlertKind.EXPIRY)
    assert foreseen(organization, AlertKind.EXPIRY, clock) == told
    # Twice of 20.5; at 60 days alone of what was revoked, at 30 of what was rotated; of what was moved as if made so.
    assert [pk for _, pk in told].count(revoked) == [pk for _, pk in told].count(rotated) == 1
    assert [look for look, pk in told if pk == moved] == [21, 44, 50]
    assert len(told) == 14


@pytest.mark.any_engine
def test_unused_keys(organization, clock):
    def silent(days, *, is_used=True):
        key = make_key(organization).key
        if is_used:
            make_event(key, at=START - days * DAY - 6 * HOUR)
        return key

    clock.move(days=-85, hours=-6)
    never, stopped, slow, exempt = silent(0, is_used=False), silent(60), silent(60), silent(84)
    ended_after, ended_before, used_again, past = silent(80), silent(70), silent(20), silent(84)
    make_exemption(exempt, until=115 * DAY)
    make_exemption(past, until=DAY)
    clock.look(days=85, hours=6)
    list(UsageHour.objects.roll_up(clock.now))
    make_rhythm(slow, usual_gap=92 * DAY)
    clock.look_daily(15)
    for key in (ended_after, ended_before):
        key.revoke(reason=RevocationReason.UNUSED, by=BY)
    make_event(used_again, at=clock.now)
    clock.look_daily(DAYS - 15)
    told = raised(organization, AlertKind.UNUSED)
    assert foreseen(organization, AlertKind.UNUSED, clock) == told
    looks = {never: 5, past: 6, ended_after: 10, stopped: 30, exempt: 30, slow: 78}
    assert {pk: look for look, pk in told} == {key.pk: look for key, look in looks.items()}
    assert len(told) == len(looks)


@pytest.mark.any_engine
def test_keys_that_are_too_old(organization, clock):
    age_limit(organization, 60)
    clock.move(days=-55.5)
    plain, rotated, revoked, ending = (make_key(organization).key for _ in range(4))
    ApiKey.objects.filter(pk=ending.pk).update(expires_at=START + 3 * DAY)
    clock.move(days=55.5)
    young, new = make_key(organization).key, make_key(organization).key
    clock.look()
    clock.look_daily(2)
    revoked.revoke(reason=RevocationReason.UNUSED, by=BY)
    make_rotation(organization, ApiKey.objects.get(pk=rotated.pk), overlap=timedelta(days=20))
    clock.look_daily(DAYS - 2)
    told = raised(organization, AlertKind.ROTATION_DUE)
    assert foreseen(organization, AlertKind.ROTATION_DUE, clock) == told
    assert {pk for _, pk in told} >= {plain.pk, young.pk, new.pk}
    assert not {pk for _, pk in told} & {rotated.pk, revoked.pk, ending.pk}


REFUSED = {
    # kind: (outcome, the most requests of an hour)
    AlertKind.ABUSE: (Outcome.UNKNOWN, 8),
    AlertKind.EXPIRED_USED: (Outcome.EXPIRED, 2),
    AlertKind.RATE_LIMITED: (Outcome.RATE_LIMITED, 14),
}


@pytest.mark.any_engine
@pytest.mark.parametrize("seed", [1])
def test_what_is_refused(organization, clock, seed):
    rng = random.Random(seed)  # noqa: S311 - it makes requests, no secrets
    events = []
    for kind, (outcome, most) in REFUSED.items():
        keys = [make_key(organization).key for _ in range(3)]
        if kind == AlertKind.EXPIRED_USED:
            ApiKey.objects.filter(pk__in=[key.pk for key in keys]).update(expires_at=START - 4 * DAY)
        for place, key in enumerate(keys):
            hours = sorted(rng.choices(range(-4 * 24, DAYS * 24), k=40 + 30 * place))
            if kind == AlertKind.RATE_LIMITED:
                hours = sorted(hour + more for hour in hours[::4] for more in range(6))
            for hour in hours:
                at = ALMOST_NOON + hour * HOUR
                events += [
                    UsageEvent(key_id=key.pk, at=at, outcome=outcome, address="203.0.113.7")
                    for _ in range(rng.randint(1, most))
                ]
    clock.move(days=-4)
    stage(clock, events)
    for kind in REFUSED:
        told = raised(organization, kind)
        assert foreseen(organization, kind, clock) == told
        assert len(told) > 15


def stage(clock, events):
    """Look once a day up to the end of the 90 days, each event being recorded when it happens."""
    events.sort(key=lambda event: event.at)
    while clock.now < START + DAYS * DAY:
        clock.now += DAY
        happened = [event for event in events if event.at <= clock.now]
        del events[: len(happened)]
        make_events(happened)
        list(UsageHour.objects.roll_up(clock.now))
        clock.look()


@pytest.mark.any_engine
@pytest.mark.parametrize("seed", [1])
def test_new_networks(organization, clock, seed):
    switch_on(organization, AlertKind.NEW_NETWORK)
    rng = random.Random(seed)  # noqa: S311 - it makes requests, no secrets
    keys = [make_key(organization).key for _ in range(5)]
    clock.move(days=-40)
    events = []
    for place, key in enumerate(keys):
        # The last is used too seldom for its networks to be known.
        for _ in range(60 if place < 4 else 3):
            network = min(11, int(rng.expovariate(0.35)))
            at = ALMOST_NOON + rng.randrange(-40 * 24, DAYS * 24) * HOUR
            events.append(
                UsageEvent(key_id=key.pk, at=at, outcome=Outcome.VALID, address=f"198.51.{network}.{rng.randint(1, 9)}")
            )
    stage(clock, events)
    told = raised(organization, AlertKind.NEW_NETWORK)
    assert foreseen(organization, AlertKind.NEW_NETWORK, clock) == told
    assert len(told) > 5


def test_jobs_that_stopped(organization, clock):
    rng = random.Random(1)  # noqa: S311 - it lets runs fail
    clock.look()
    for _ in range(DAYS):
        clock.move(hours=18)
        if rng.random() < 0.6:
            with JobRun.objects.record("flag_keys"):
                pass
        clock.look(hours=6)
    for job in ("flag_keys", "prune_usage"):
        told = [one for one in raised(organization, AlertKind.JOB_LATE) if one[1] == job]
        assert [one for one in foreseen(organization, AlertKind.JOB_LATE, clock) if one[1] == job] == told
        assert told


def test_owners_who_left_are_those_of_today(organization, clock):
    owner = make_member(organization)
    key = make_key(organization, owner=owner).key
    make_key(organization, owner=make_member(organization))
    clock.look_daily(5)
    owner.user.is_active = False
    owner.user.save(update_fields=["is_active"])
    clock.look_daily(1)
    assert [pk for _, pk in foreseen(organization, AlertKind.OWNER_GONE, clock)] == [key.pk]
    assert [pk for _, pk in raised(organization, AlertKind.OWNER_GONE)] == [key.pk]


@pytest.mark.any_engine
def test_another_organizations_keys_are_left_out(organization, clock):
    other = make_organization()
    key = make_key(other, expires_at=clock.now + 50 * DAY).key
    make_events(UsageEvent(key_id=key.pk, at=clock.now, outcome=Outcome.UNKNOWN) for _ in range(9))
    clock.look_daily(80)
    for kind in AlertKind:
        if kind.is_of_key:
            assert foreseen(organization, kind, clock) == []
    assert foreseen(other, AlertKind.ABUSE, clock)
    assert foreseen(other, AlertKind.EXPIRY, clock)
