"""A run as a whole: nothing twice, nothing half, no more queries for more keys, and only what a person would want."""

import random
import tracemalloc
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.evaluation.run import COMMAND, evaluate
from apikeys.models import (
    Alert,
    AlertEvent,
    AlertKind,
    AlertRule,
    Delivery,
    JobRun,
    KeyActivity,
    Outcome,
    RevocationReason,
    UsageEvent,
    UsageHour,
    UsageWatermark,
)
from apikeys.models.usage import DAY, HOUR, MINUTE, SECOND
from apikeys.retention import make_partitions
from tests.evaluation.clock import START, raised
from tests.factories import make_actor, make_event, make_events, make_key, make_member, make_old_key
from tests.pages import make_keys
from tests.threads import run_together

BY = make_actor()


def everything(organization, now):
    """Make a key for each kind that a run may raise of one."""
    make_old_key(organization, 91 * DAY, name="unused")
    ending = make_old_key(organization, 100 * DAY, name="ending", expires_at=now + 5 * DAY)
    make_event(ending, at=now - HOUR)
    attacked, limited = (make_key(organization, name).key for name in ("attacked", "limited"))
    refused = [(attacked, Outcome.UNKNOWN, 0)] * 6
    refused += [(limited, Outcome.RATE_LIMITED, hour) for hour in range(3)] * 10
    make_events(
        UsageEvent(key_id=key.pk, at=now - hour * HOUR - MINUTE, outcome=outcome, address="203.0.113.9")
        for key, outcome, hour in refused
    )


EXPECTED = [
    ("attacked", "abuse"),
    # With the twin that a key of the past leaves.
    ("ending", "expiry"),
    ("limited", "rate_limited"),
    ("unused", "unused"),
]


def counts():
    return Alert.objects.count(), AlertEvent.objects.count(), Delivery.objects.count()


@pytest.mark.django_db
def test_a_second_run_raises_nothing(organization, clock):
    everything(organization, clock.now)
    clock.look()
    assert sorted(raised(organization)) == EXPECTED
    before = counts(), list(Alert.objects.order_by("pk").values())
    clock.look()
    assert (counts(), list(Alert.objects.order_by("pk").values())) == before
    clock.look(minutes=1)
    assert counts() == before[0]


def test_runs_at_the_same_moment_raise_nothing_twice(committed, watermark):
    everything(committed, timezone.now())
    # A node's clock may be behind another's.
    results = run_together(*[lambda ago=ago: evaluate(timezone.now() - ago * SECOND) for ago in (0, 1, 2)])
    assert [type(result).__name__ for result in results] == ["Tally"] * 3, results
    assert sorted(raised(committed)) == EXPECTED
    mine = Alert.objects.filter(organization=committed, key__isnull=False)
    assert set(mine.exclude(kind="rate_limited").values_list("occurrences", flat=True)) == {1}
    opened = AlertEvent.objects.filter(organization=committed, event="opened", alert__key__isnull=False)
    assert opened.count() == 4
    mails = Delivery.objects.filter(organization=committed).values_list("email", "is_urgent")
    assert len(mails) == len(set(mails))


@pytest.mark.django_db
def test_a_run_that_is_killed_half_way_is_made_up_for(organization, clock, monkeypatch):
    everything(organization, clock.now)
    clock.look(days=-10)
    clock.move(days=10)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("apikeys.evaluation.run.evaluate_refusals", die)
        with pytest.raises(KeyboardInterrupt):
            clock.look()
    assert JobRun.objects.latest_of(COMMAND).error
    assert [kind for _, kind in sorted(raised(organization))] == ["expiry", "unused"]
    clock.look(minutes=15)
    assert sorted(raised(organization)) == EXPECTED


@pytest.mark.django_db
def test_what_happened_since_the_last_run_that_succeeded_is_looked_at(organization, clock):
    key = make_key(organization, "key").key
    clock.look()
    make_events(UsageEvent(key_id=key.pk, at=clock.now + DAY, outcome=Outcome.UNKNOWN) for _ in range(5))
    clock.move(days=5)
    JobRun.objects.create(job=COMMAND, started_at=clock.now, finished_at=clock.now, error="failed")
    JobRun.objects.create(job=COMMAND, started_at=clock.now)
    clock.look(minutes=15)
    assert raised(organization, "abuse") == [("key", "abuse")]


@pytest.mark.django_db
def test_the_queries_do_not_grow_with_the_keys(organization, clock):
    rule = AlertRule.objects.one(organization, AlertKind.NEW_NETWORK)
    rule.is_on = True
    rule.save()
    owner = make_member(organization)

    def look(number):
        keys = make_keys(organization, number, change=lambda key, _: _grow_old(key, clock.now, owner))
        events = [
            UsageEvent(key_id=key.pk, at=clock.now - minutes * MINUTE, outcome=outcome, address=f"192.0.{net}.1")
            for key in keys
            for outcome, net, minutes in [
                (Outcome.VALID, 2, 3000),
                (Outcome.VALID, 3, 4),
                *[(Outcome.UNKNOWN, 4, 3)] * 5,
            ]
        ]
        UsageEvent.objects.bulk_create(events, batch_size=2000)
        KeyActivity.objects.filter(key__in=keys[::2]).update(first_used_at=clock.now, last_used_at=clock.now)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            evaluate(clock.now)
        clock.look(days=10)
        return len(queries)

    few, many = look(3), look(40)
    assert Alert.objects.filter(kind="abuse").count() == Alert.objects.filter(kind="new_network").count() == 43
    assert many <= few + 3, f"{few} queries of 3 keys, {many} of 40"


def _grow_old(key, now, owner):
    key.created_at, key.expires_at = now - 200 * DAY, now + 5 * DAY
    key.owner, key.owner_contact = owner, ""


@pytest.mark.django_db
def test_memory_does_not_grow_with_the_keys(organization, clock):
    def peak(number):
        keys = make_keys(organization, number, change=lambda key, _: setattr(key, "created_at", clock.now - 200 * DAY))
        UsageEvent.objects.bulk_create(
            [UsageEvent(key_id=key.pk, at=clock.now, outcome=Outcome.REVOKED) for key in keys], batch_size=2000
        )
        clock.move(minutes=1)
        tracemalloc.start()
        evaluate(clock.now)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    few, many = peak(1100), peak(2200)
    assert Alert.objects.filter(kind="unused").count() > 3300
    assert many < 1.5 * few


def test_a_run_goes_on_while_others_write(committed, watermark):
    """On SQLite who reads on while it writes could not begin to write once somebody else has."""
    keys = make_keys(
        committed, 2300, change=lambda key, _: setattr(key, "created_at", timezone.now() - timedelta(days=200))
    )
    key = make_key(committed).key

    def write():
        for _ in range(40):
            make_event(key)

    ran, wrote = run_together(lambda: evaluate(timezone.now()), write)
    assert type(ran).__name__ == "Tally", ran
    assert wrote is None
    assert Alert.objects.filter(organization=committed, kind="unused").count() == len(keys)


@pytest.mark.any_engine
@pytest.mark.django_db
def test_over_90_days_each_key_raises_what_a_person_would_want_and_nothing_else(organization, clock):
    """Requests as they come: an hourly, an office, a nightly and a monthly one are healthy."""
    rng = random.Random(7)  # noqa: S311 - it makes requests, no secrets
    owner = make_member(organization)
    history = 35 * DAY
    clock.now = START - history - MINUTE
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": clock.now})
    names = ["hourly", "office", "nightly", "monthly", "silent", "leaked", "revoked", "unused"]
    keys = {name: make_key(organization, name, owner=owner).key for name in names}
    for name, days in (("expiring", 45.4), ("made for a while", 400)):
        keys[name] = make_key(organization, name, owner=owner, expires_at=START + timedelta(days=days)).key
    clock.move(minutes=1)

    for number in range(-35, 90):
        # As roll_up_usage does: without, PostgreSQL searches the events of all days for those of each hour.
        make_partitions(clock.now)
        make_events(_day(keys, clock.now, rng))
        clock.now += DAY
        if number == 49:
            keys["revoked"].revoke(reason=RevocationReason.LEAKED, by=BY)
        for _ in UsageHour.objects.roll_up(clock.now):
            pass
        if number >= -1:
            clock.look()
    told = {}
    for name, kind in raised(organization):
        told.setdefault(name, []).append(kind)
    assert told == {
        "silent": ["unusual_usage"],
        "leaked": ["abuse"],
        "revoked": ["abuse"],
        "unused": ["unused"],
        "expiring": ["expiry", "expired_used"],
    }


def _day(keys, since, rng):
    """Return what everybody sends in a day."""
    for at in (since + hour * HOUR for hour in range(24)):
        day = (at - START) / DAY
        for name, key in keys.items():
            outcome = Outcome.EXPIRED if name == "expiring" and day >= 45.4 else Outcome.VALID
            yield from _sent(key, _requests(name, at, day, rng), outcome, at)
        if 30 <= day < 30.5:
            yield from _sent(keys["leaked"], 30, Outcome.UNKNOWN, at, address="203.0.113.66")
        if 50 <= day < 52:
            yield from _sent(keys["revoked"], 3, Outcome.REVOKED, at)


def _requests(name, hour, day, rng):
    """Return how many requests a key has in an hour, some days after the first look."""
    is_busy = 8 <= hour.hour < 18 and hour.weekday() < 5
    return {
        "hourly": rng.randint(4, 8),
        "office": rng.randint(10, 20) * is_busy,
        "nightly": 12 * (hour.hour == 3),
        "monthly": int(hour.day == 1 and hour.hour == 6),
        "silent": rng.randint(10, 18) * (day < 40),
        "leaked": rng.randint(4, 8),
        "revoked": rng.randint(2, 4) * (day < 50),
        "expiring": rng.randint(4, 8) * (day < 46),
        "made for a while": rng.randint(4, 8),
    }.get(name, 0)


def _sent(key, count, outcome, at, address="198.51.100.7"):
    return [
        UsageEvent(key_id=key.pk, at=at + timedelta(seconds=7 * number), outcome=outcome, address=address)
        for number in range(count)
    ]
