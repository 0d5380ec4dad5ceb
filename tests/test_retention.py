"""Old events end, counts stay, and nothing ends that is not counted."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apikeys import partitions, retention
from apikeys.models import JobRun, LateHour, OrganizationHour, UsageDay, UsageEvent, UsageHour, UsageWatermark
from apikeys.models.counting import ROLL_UPS_KEPT
from apikeys.models.series import floor_day
from apikeys.models.usage import DAY, HOUR
from apikeys.retention import events_kept_from, prune
from tests.commands.running import run
from tests.factories import make_event, make_events, make_key
from tests.threads import run_together


@pytest.fixture
def key(organization):
    return make_key(organization).key


def roll_up():
    return list(UsageHour.objects.roll_up())


def test_events_end_after_so_many_days_and_their_counts_stay(key, settings):
    settings.EVENT_RETENTION_DAYS = 10
    border = events_kept_from(timezone.now())
    assert border == floor_day(timezone.now()) - 10 * DAY
    kept = make_event(key, at=border)
    for ago in (timedelta(microseconds=1), 3 * DAY, 50 * DAY):
        make_event(key, at=border - ago)
    roll_up()
    pruned = prune()
    assert pruned.events_from == border.date()
    assert (pruned.days, pruned.events) == ((0, 3) if connection.vendor == "sqlite" else (3, 0))
    assert [event.at for event in UsageEvent.objects.of(key)] == [kept.at]
    assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 4}
    assert UsageDay.objects.usage_of(key, "caller", timezone.now() - 90 * DAY).total == 4
    again = prune()
    assert (again.days, again.events, again.roll_ups) == (0, 0, 0)


def test_what_is_not_rolled_up_stays(key):
    make_event(key, ago=100 * DAY)
    make_event(key, ago=60 * DAY)
    assert prune().events_from is None
    UsageWatermark.objects.update_or_create(pk=1, defaults={"until": timezone.now() - 80 * DAY})
    prune()
    assert [event.at.date() for event in UsageEvent.objects.of(key)] == [(timezone.now() - 60 * DAY).date()]
    roll_up()
    prune()
    assert not UsageEvent.objects.exists()


def test_late_events_of_a_day_that_ends_are_counted_first(key):
    make_event(key, ago=60 * DAY)
    roll_up()
    make_event(key, ago=60 * DAY)
    make_event(key, ago=70 * DAY)
    prune()
    assert not UsageEvent.objects.exists()
    assert not LateHour.objects.exists()
    assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 3}


def test_events_are_removed_in_batches(key, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 3)
    at = timezone.now() - 60 * DAY
    make_events([UsageEvent(key_id=key.pk, at=at + timedelta(seconds=n), outcome="valid") for n in range(10)])
    roll_up()
    prune()
    assert not UsageEvent.objects.exists()
    assert UsageWatermark.read().removing_up_to is None


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL drops a day at once")
def test_a_late_event_of_a_day_that_is_being_removed_is_counted(key, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 3)
    at = timezone.now() - 60 * DAY
    make_events([UsageEvent(key_id=key.pk, at=at + timedelta(seconds=n), outcome="valid") for n in range(10)])
    roll_up()
    batches = retention._batches

    def interrupted(*arguments):
        yield next(batches(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prune()
    monkeypatch.undo()
    assert UsageEvent.objects.count() == 7
    make_event(key, at=at)
    roll_up()
    assert UsageEvent.objects.count() == 7
    assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 11}
    make_event(key, at=at)
    prune()
    assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 12}
    assert not UsageEvent.objects.exists()


def test_counts_end_after_25_months(key, organization):
    old = floor_day(timezone.now()) - ROLL_UPS_KEPT - HOUR
    for hour in (old, old + HOUR):
        UsageHour.objects.create(key_id=key.pk, hour=hour, outcome="valid", count=1)
        OrganizationHour.objects.create(
            organization_id=organization.pk, hour=hour, environment_id=1, outcome="valid", count=1
        )
        UsageDay.objects.create(
            key_id=key.pk,
            dimension="scope",
            day=hour.date(),
            value="x",
            accepted=1,
            refused=0,
            first_at=hour,
            last_at=hour,
        )
    assert prune().roll_ups == 3
    assert [row.hour for row in UsageHour.objects.all()] == [old + HOUR]
    assert UsageDay.objects.count() == OrganizationHour.objects.count() == 1
    assert timedelta(days=25 * 365.2425 / 12) <= ROLL_UPS_KEPT


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no partitions")
def test_a_partition_is_dropped_whole(key):
    partitions.make((timezone.now() - 60 * DAY).date())
    day = (timezone.now() - 60 * DAY).date()
    make_event(key, ago=60 * DAY)
    make_event(key, ago=30 * DAY)
    roll_up()
    assert day in partitions.days()
    prune()
    assert day not in partitions.days()
    assert UsageEvent.objects.of(key).count() == 1


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no partitions")
def test_a_drop_waits_for_a_reader_and_lets_verifications_pass_meanwhile(committed, watermark, monkeypatch):
    monkeypatch.setattr(retention, "ATTEMPTS", 3)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.1)
    day = (timezone.now() - 60 * DAY).date()
    key = make_key(committed).key
    partitions.make(day)
    make_event(key, ago=60 * DAY)
    roll_up()
    held, tried = threading.Event(), threading.Event()

    def read():
        with transaction.atomic():
            UsageEvent.objects.of(key).first()
            held.set()
            tried.wait(30)

    def remove():
        held.wait(30)
        try:
            prune()
        finally:
            tried.set()

    def write():
        held.wait(30)
        slowest = timedelta()
        while not tried.is_set():
            started = timezone.now()
            UsageEvent.objects.create(key_id=key.pk, at=started, outcome="valid")
            slowest = max(slowest, timezone.now() - started)
        return slowest

    _, error, slowest = run_together(read, remove, write)
    assert isinstance(error, partitions.LockedError)
    assert slowest < timedelta(milliseconds=partitions.LOCK_MILLISECONDS) + timedelta(seconds=2)
    assert day in partitions.days()
    prune()
    assert day not in partitions.days()


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no partitions")
def test_the_command_says_that_the_table_is_held(committed, watermark, monkeypatch):
    monkeypatch.setattr(retention, "ATTEMPTS", 2)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.1)
    key = make_key(committed).key
    partitions.make((timezone.now() - 61 * DAY).date())
    make_event(key, ago=61 * DAY)
    roll_up()
    holding, pruned = threading.Event(), threading.Event()

    def read():
        with transaction.atomic():
            UsageEvent.objects.of(key).first()
            holding.set()
            pruned.wait(30)

    def remove():
        holding.wait(30)
        try:
            return run("prune_usage")
        finally:
            pruned.set()

    _, ran = run_together(read, remove)
    assert ran.status == 1
    assert "is held by somebody else" in ran.err
    assert JobRun.objects.latest_of("prune_usage").error.startswith("The table of events is held")
    assert run("prune_usage").status == 0


def test_pruning_twice_at_once_removes_each_event_once(committed, watermark):
    key = make_key(committed).key
    for days in (50, 51, 52):
        make_event(key, ago=days * DAY)
    roll_up()
    results = run_together(prune, prune)
    assert [type(result).__name__ for result in results] == ["Pruned", "Pruned"]
    assert not UsageEvent.objects.of(key).exists()
    assert UsageHour.objects.by_outcome(key, timezone.now() - 90 * DAY) == {"valid": 3}
