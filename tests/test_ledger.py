"""What the ledger does when a key changes between reading and writing."""

import pytest
from django.utils import timezone

from apikeys import blocking, ledger
from apikeys.ledger import Entry, RequestRecord
from apikeys.models import KeyActivity, Outcome, RateLimit, UsageEvent
from tests.factories import make_key, make_organization

FAST, SLOW = RateLimit(1_000_000, 1, 1_000_000), RateLimit(1, 86400, 1)
pytestmark = pytest.mark.django_db


def take(key, limit):
    request = RequestRecord(timezone.now(), "192.0.2.1", "test", "GET", "/", "")
    [taken] = blocking.run(lambda: ledger.write([Entry(key, request, Outcome.VALID, limit)]))
    return taken


def read(key):
    return blocking.run(lambda: ledger.read_keys([key.public_id]))[key.public_id]


@pytest.fixture
def record():
    key, _ = make_key(make_organization())
    return read(key)


def test_who_read_an_older_limit_takes_nothing_after_the_newer_was_used(record):
    newer = record._replace(version=record.version + 1)
    assert take(newer, SLOW).passes
    outdated = take(record, FAST)
    assert outdated.is_outdated
    assert not outdated.passes
    assert UsageEvent.objects.filter(key_id=record.id).count() == 1
    assert not take(newer, SLOW).passes
    assert KeyActivity.objects.get(key_id=record.id).limited_by_version == newer.version


def test_who_read_an_older_limit_takes_by_it_until_the_newer_is_used(record):
    assert take(record, FAST).passes
    newer = record._replace(version=record.version + 1)
    assert take(newer, SLOW).passes
    refused = take(newer, SLOW)
    assert not refused.passes
    assert not refused.is_outdated


def test_a_group_is_written_whole_with_each_key_in_every_role(record):
    other_key, _ = make_key(make_organization())
    other = read(other_key)
    request = RequestRecord(timezone.now(), None, 'a "quoted" \\ agent', "GET", "/{a,b}", "NULL")
    outcomes = [Outcome.VALID, Outcome.VALID, Outcome.PAUSED, Outcome.UNKNOWN, Outcome.UNKNOWN]
    entries = [Entry(key, request, outcome) for outcome in outcomes for key in (other, record)]
    entries.insert(3, Entry(record, request, Outcome.VALID, SLOW))
    taken = blocking.run(lambda: ledger.write(entries))
    assert [bool(found) for found in taken] == [number == 3 for number in range(len(entries))]
    for key, extra in ((record, 1), (other, 0)):
        events = UsageEvent.objects.filter(key_id=key.id)
        assert events.filter(outcome=Outcome.VALID).count() == 2 + extra
        assert events.filter(outcome=Outcome.PAUSED).count() == 1
        assert events.filter(outcome=Outcome.UNKNOWN).count() == 1
        assert {(event.user_agent, event.path, event.scope, event.address) for event in events} == {
            (request.user_agent, request.path, request.scope, None)
        }
        activity = KeyActivity.objects.get(key_id=key.id)
        assert activity.last_used_at == activity.last_refused_at == request.at
