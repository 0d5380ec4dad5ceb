"""A pause that ends by itself: exactly at its time, explained, and with who was refused meanwhile."""

import time
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.models import ApiKey, AuditAction, Outcome, Pause, Status, UsageEvent
from apikeys.models import pause as pauses
from tests.factories import make_actor, make_event, make_expired_key, make_key
from tests.pages import entries

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def by(operator):
    return make_actor(operator)


def stored(key):
    return ApiKey.objects.for_pages().get(pk=key.pk)


def over(key, ago=timedelta(), lasted=15 * MINUTE):
    """Let a key's pause have ended by itself."""
    until = timezone.now() - ago
    ApiKey.objects.filter(pk=key.pk).update(paused_at=until - lasted, paused_until=until)
    return stored(key)


@pytest.mark.parametrize("lasting", [5 * MINUTE, 7 * MINUTE, 24 * HOUR])
def test_it_ends_after_the_time_that_was_said(organization, by, lasting):
    key = make_key(organization).key
    assert key.pause(by=by, lasting=lasting)
    found = stored(key)
    assert found.status is Status.PAUSED
    assert found.paused_until - found.paused_at == lasting
    [entry] = entries(organization, AuditAction.KEY_PAUSE)
    assert entry.changes == {"paused_until": [None, found.paused_until.isoformat()]}


@pytest.mark.parametrize("lasting", [timedelta(), -HOUR, 5 * MINUTE - timedelta(seconds=1), 24 * HOUR + MINUTE])
def test_another_time_is_refused_and_nothing_is_paused(organization, by, lasting):
    key = make_key(organization).key
    with pytest.raises(ValidationError, match="5 minutes to 24 hours"):
        key.pause(by=by, lasting=lasting)
    assert stored(key).status is Status.ACTIVE
    assert not entries(organization, AuditAction.KEY_PAUSE)


def test_what_is_paused_keeps_its_end(organization, by):
    key = make_key(organization).key
    key.pause(by=by)
    assert not stored(key).pause(by=by, lasting=HOUR)
    assert stored(key).paused_until is None


def test_after_its_end_there_is_nothing_to_resume_and_it_can_be_paused_again(organization, by):
    key = over(make_key(organization).key)
    assert key.status is Status.ACTIVE
    assert not key.resume(by=by)
    assert stored(key).paused_until == key.paused_until
    assert stored(key).pause(by=by)
    assert stored(key).paused_until is None
    assert stored(key).status is Status.PAUSED


def test_resumed_before_its_end_nothing_is_left_of_it(organization, by):
    key = make_key(organization).key
    key.pause(by=by, lasting=HOUR)
    assert stored(key).resume(by=by)
    found = stored(key)
    assert (found.paused_at, found.paused_until, found.paused_by) == (None, None, None)
    assert Pause.of(found) is None
    [entry] = entries(organization, AuditAction.KEY_RESUME)
    assert sorted(entry.changes) == ["paused_at", "paused_until"]


def test_the_verifier_ends_it_at_the_very_instant(committed, verifier):
    """No command has to run: each request is judged by its own time."""
    issued = make_key(committed)
    until = timezone.now() + timedelta(seconds=0.6)
    ApiKey.objects.filter(pk=issued.key.pk).update(paused_at=timezone.now(), paused_until=until)
    deadline, outcomes = time.monotonic() + 20, []
    while "valid" not in outcomes and time.monotonic() < deadline:
        outcomes.append(verifier.verify(committed, issued.secret.text).json()["outcome"])
    assert set(outcomes) == {"paused", "valid"}
    events = UsageEvent.objects.of(issued.key)
    assert max(events.filter(outcome=Outcome.PAUSED).values_list("at", flat=True)) < until
    assert min(events.filter(outcome=Outcome.VALID).values_list("at", flat=True)) >= until


def test_who_was_refused_meanwhile_is_told_apart(organization):
    key = over(make_key(organization).key, ago=HOUR, lasted=30 * MINUTE)
    edge = key.paused_until
    for address, at, outcome in [
        ("192.0.2.1", key.paused_at, Outcome.PAUSED),
        ("192.0.2.1", edge - timedelta(microseconds=1), Outcome.PAUSED),
        ("192.0.2.2", edge - MINUTE, Outcome.PAUSED),
        ("192.0.2.3", key.paused_at - MINUTE, Outcome.PAUSED),
        ("192.0.2.3", edge, Outcome.PAUSED),
        ("192.0.2.4", edge - MINUTE, Outcome.UNKNOWN),
        ("192.0.2.1", edge + MINUTE, Outcome.VALID),
    ]:
        make_event(key, at=at, outcome=outcome, address=address)
    pause = Pause.of(key)
    assert (pause.is_running, pause.lasts) == (False, 30 * MINUTE)
    found = pause.refused()
    assert [(one.address, one.refused) for one in found.values] == [("192.0.2.1", 2), ("192.0.2.2", 1)]
    assert (found.total, found.is_bounded) == (3, False)


def test_no_more_requests_are_looked_at_than_is_said(organization, monkeypatch):
    monkeypatch.setattr(pauses, "MOST", 2)
    key = over(make_key(organization).key)
    for _ in range(4):
        make_event(key, at=key.paused_at, outcome=Outcome.PAUSED)
    found = Pause.of(key).refused()
    assert (found.total, found.is_bounded) == (3, True)


def test_a_pause_is_told_of_for_some_days_and_not_of_a_dead_key(organization):
    assert Pause.of(make_key(organization).key) is None
    key = make_key(organization).key
    assert Pause.of(over(key, ago=6 * 24 * HOUR)) is not None
    assert Pause.of(over(key, ago=8 * 24 * HOUR)) is None
    assert Pause.of(over(make_expired_key(organization).key)) is None
    ApiKey.objects.filter(pk=key.pk).update(paused_at=timezone.now() - 400 * 24 * HOUR, paused_until=None)
    assert Pause.of(stored(key)).is_running
