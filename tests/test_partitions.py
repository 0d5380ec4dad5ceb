"""PostgreSQL keeps the events of each day apart, and an event whose day has no place yet is not lost."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apikeys import partitions
from apikeys.models import LateHour, UsageEvent, UsageHour
from apikeys.models.series import floor_day
from apikeys.models.usage import DAY
from tests.factories import make_event, make_key
from tests.threads import run_together

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no partitions"),
]
TODAY = timezone.now().date()


@pytest.fixture
def key(organization):
    return make_key(organization).key


def rows_of(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {table}")
        return cursor.fetchone()[0]


def drop(day):
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE apikeys_usageevent_{day:%Y%m%d}")


def test_migrate_makes_the_days_ahead():
    made = partitions.days()
    assert made == sorted(made)
    assert set(made) >= {TODAY + DAY * number for number in range(1, partitions.DAYS_AHEAD)}


def test_an_event_goes_to_its_day(key):
    tomorrow = floor_day(timezone.now()) + DAY
    make_event(key, at=tomorrow)
    make_event(key, at=tomorrow - timedelta(microseconds=1))
    assert rows_of(f"apikeys_usageevent_{tomorrow:%Y%m%d}") == 1
    assert UsageEvent.objects.of(key).count() == 2


def test_a_missing_partition_loses_nothing_and_is_filled_when_it_is_made(key):
    tomorrow = floor_day(timezone.now()) + DAY
    drop(tomorrow)
    event = make_event(key, at=tomorrow + timedelta(hours=5), path="/kept", address="2001:db8::1")
    far = make_event(key, at=tomorrow + 300 * DAY)
    old = make_event(key, at=tomorrow - 300 * DAY)
    assert rows_of("apikeys_usageevent_default") >= 3
    notes = LateHour.objects.count()
    assert partitions.make(TODAY, since=TODAY - 30 * DAY) >= 1
    assert rows_of(f"apikeys_usageevent_{tomorrow:%Y%m%d}") == 1
    assert rows_of("apikeys_usageevent_default") >= 2
    assert LateHour.objects.count() == notes
    found = UsageEvent.objects.of(key).get(at=event.at)
    assert (found.path, found.address, found.nonce) == ("/kept", "2001:db8::1", event.nonce)
    assert {one.at for one in UsageEvent.objects.of(key)} == {event.at, far.at, old.at}
    assert partitions.make(TODAY, since=TODAY - 30 * DAY) == 0


def test_the_days_of_a_long_silence_are_made_and_today_waits_until_tomorrow(key):
    if TODAY in partitions.days():
        drop(TODAY)
    make_event(key)
    make_event(key, ago=3 * DAY)
    assert partitions.make(TODAY) == 0
    assert partitions.make(TODAY + DAY) >= 2
    assert rows_of(f"apikeys_usageevent_{TODAY:%Y%m%d}") == 1
    assert TODAY - 3 * DAY in partitions.days()
    assert UsageEvent.objects.of(key).count() == 2


def test_a_new_partition_notes_late_events_and_is_counted(key):
    partitions.make(TODAY + 10 * DAY)
    make_event(key, at=floor_day(timezone.now()) + 20 * DAY)
    assert not LateHour.objects.exists()
    make_event(key, ago=2 * DAY)
    partitions.make(TODAY)
    make_event(key, ago=2 * DAY)
    assert rows_of(f"apikeys_usageevent_{timezone.now() - 2 * DAY:%Y%m%d}") == 2
    assert LateHour.objects.filter(key_id=key.pk).exists()
    list(UsageHour.objects.roll_up())
    assert UsageHour.objects.get(key_id=key.pk).count == 2


def test_every_partition_has_the_keys_and_indexes_of_the_table():
    partitions.make(TODAY + DAY)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename, COUNT(*) FROM pg_indexes WHERE tablename LIKE 'apikeys_usageevent_%%' GROUP BY 1"
        )
        counts = dict(cursor.fetchall())
    assert len(counts) > partitions.DAYS_AHEAD
    assert set(counts.values()) == {2}


def test_a_guess_of_the_same_minute_is_still_kept_once(key):
    event = make_event(key)
    again = UsageEvent(key_id=key.pk, at=event.at, nonce=event.nonce, outcome="unknown")
    UsageEvent.objects.bulk_create([again], ignore_conflicts=True)
    assert UsageEvent.objects.of(key).count() == 1


def test_whoever_holds_the_table_is_not_waited_for(committed):
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            UsageEvent.objects.first()
            held.set()
            done.wait(30)

    def change():
        held.wait(30)
        try:
            with partitions.brief_lock() as cursor:
                cursor.execute("LOCK TABLE apikeys_usageevent IN ACCESS EXCLUSIVE MODE")
        finally:
            done.set()

    started = datetime.now(UTC)
    _, error = run_together(hold, change)
    assert isinstance(error, partitions.LockedError)
    assert datetime.now(UTC) - started < timedelta(seconds=10)
