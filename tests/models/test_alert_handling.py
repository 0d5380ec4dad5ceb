"""Taking alerts in hand and ending them: one, and several at once."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.models import Alert, AlertEvent, AlertKind, AlertOverError, AuditAction, EventType, StaleAlertError
from apikeys.models.alert import LONGEST_ACKNOWLEDGEMENT
from tests.factories import make_actor, make_alert, make_organization
from tests.pages import entries

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


def tomorrow():
    return timezone.now() + DAY


def events(alert):
    return list(alert.events.values_list("event", flat=True))


def test_an_acknowledgement_holds_until_its_end_and_may_be_replaced_by_who_saw_it(organization):
    alert = make_alert(organization)
    alert.acknowledge(until=tomorrow(), by=BY, seen=alert.version)
    assert alert.status == "acknowledged"
    alert.acknowledge(until=tomorrow() + DAY, by=BY, seen=alert.version)
    assert events(alert) == ["opened", "acknowledged", "acknowledged"]


def test_who_saw_another_state_is_told_so(organization):
    alert = make_alert(organization)
    seen = alert.version
    Alert.objects.get(pk=alert.pk).acknowledge(until=tomorrow(), by=BY)
    with pytest.raises(StaleAlertError):
        alert.acknowledge(until=tomorrow() + DAY, by=BY, seen=seen)
    assert events(alert) == ["opened", "acknowledged"]


def test_what_is_over_stays_as_it_is(organization):
    alert = make_alert(organization)
    stale = Alert.objects.get(pk=alert.pk)
    alert.resolve(note="It was us", by=BY)
    for act in (
        lambda: stale.acknowledge(until=tomorrow(), by=BY),
        lambda: stale.resolve(note="Something else", by=BY),
    ):
        with pytest.raises(AlertOverError):
            act()
    stale.refresh_from_db()
    assert stale.resolution == "It was us"
    assert events(alert) == ["opened", "resolved"]


@pytest.mark.parametrize("until", [-DAY, timedelta(), LONGEST_ACKNOWLEDGEMENT + DAY])
def test_an_acknowledgement_ends_in_the_future_within_a_year(organization, until):
    with pytest.raises(ValidationError) as caught:
        make_alert(organization).acknowledge(until=timezone.now() + until, by=BY)
    assert list(caught.value.message_dict) == ["until"]


@pytest.mark.parametrize("note", ["", "  ", "x" * 501, "a\0b"])
def test_a_resolution_needs_a_proper_note(organization, note):
    with pytest.raises(ValidationError) as caught:
        make_alert(organization).resolve(note=note, by=BY)
    assert list(caught.value.message_dict) == ["note"]


def test_of_several_those_that_are_open_are_changed_and_named(organization):
    waiting, lasting, done = (
        make_alert(organization),
        make_alert(organization, AlertKind.UNUSED),
        make_alert(organization),
    )
    done.resolve(note="Before", by=BY)
    changed = Alert.objects.resolve_all([waiting, lasting, done], note="Together", by=BY)
    assert [alert.pk for alert in changed] == [waiting.pk, lasting.pk]
    told = entries(organization, AuditAction.ALERT_RESOLVE)
    assert [entry.reason for entry in told] == ["Before", "Together", "Together"]
    assert [entry.key_id for entry in told] == [done.key_id, waiting.key_id, lasting.key_id]
    waiting.refresh_from_db()
    lasting.refresh_from_db()
    assert waiting.cause_ended_at is not None
    assert lasting.cause_ended_at is None
    assert AlertEvent.objects.filter(event=EventType.RESOLVED).count() == 3
    assert Alert.objects.resolve_all([waiting], note="Again", by=BY) == []


def test_of_several_none_is_another_organizations(organization):
    mine, theirs = make_alert(organization), make_alert(make_organization())
    assert [alert.pk for alert in Alert.objects.acknowledge_all([mine, theirs], until=tomorrow(), by=BY)] == [mine.pk]
    assert Alert.objects.get(pk=theirs.pk).status == "open"
