"""Moving the end of the time in which both keys work."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apikeys.models import ApiKey, AuditAction, Clock, Rotation
from tests.factories import (
    make_actor,
    make_event,
    make_key,
    make_organization,
    make_overdue_rotation,
    make_rotation,
)
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, soon, url

pytestmark = pytest.mark.django_db
BY = make_actor()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def rotation(organization):
    return make_rotation(organization, make_key(organization, "checkout").key).rotation


@pytest.fixture
def extend(organization, client):
    def post(rotation, end, *, seen=None, headers=None):
        form = {"end": local(end) if isinstance(end, datetime) else end}
        form["seen"] = rotation.deadline.isoformat() if seen is None else seen
        return client.post(url("rotation_extend", organization, rotation.pk), form, headers=headers)

    return post


def local(moment):
    """Write an instant as a browser does, in UTC, which is the zone of whoever chose none."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M}"


def end_of(rotation):
    return ApiKey.objects.get(pk=rotation.old_key_id).expires_at


def test_the_form_is_a_page_and_for_htmx_a_dialog_with_the_end_that_is_set(organization, client, rotation):
    before = snapshot()
    address = url("rotation_extend", organization, rotation.pk)
    response = client.get(address)
    assert is_whole_page(response)
    assert f'value="{local(rotation.deadline)}"' in response.text
    assert rotation.deadline.isoformat() in response.text
    assert "In the time zone UTC." in response.text
    assert "The old key has no expiry of its own." in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_the_end_moves_and_is_recorded(organization, operator, rotation, extend):
    before, end = rotation.deadline, soon(20).replace(second=0, microsecond=0)
    response = extend(rotation, end)
    assert (response.status_code, response["Location"]) == (302, rotation.get_absolute_url())
    assert messages_of(response) == ["The end was moved."]
    assert end_of(rotation) == end
    [entry] = entries(organization, AuditAction.ROTATION_EXTEND)
    assert (entry.actor, entry.key_id) == (operator, rotation.old_key_id)
    assert entry.changes == {"both_work_until": [before.isoformat(), end.isoformat()]}


def test_it_may_be_earlier_too(rotation, extend):
    end = (timezone.now() + HOUR).replace(second=0, microsecond=0)
    extend(rotation, end)
    assert end_of(rotation) == end


def test_htmx_is_told_to_load_the_rotations_page(rotation, extend):
    assert extend(rotation, soon(20), headers=HTMX)["HX-Redirect"] == rotation.get_absolute_url()


def test_the_end_is_read_in_the_time_zone_of_whoever_writes_it(organization, operator, client, rotation, extend):
    operator.time_zone = "Asia/Tokyo"
    operator.save()
    assert "In the time zone Asia/Tokyo." in client.get(url("rotation_extend", organization, rotation.pk)).text
    end = soon(20).replace(second=0, microsecond=0)
    extend(rotation, local(end + 9 * HOUR))
    assert end_of(rotation) == end


def test_the_verifier_keeps_to_the_new_end(organization, verifier, extend):
    old = make_key(organization)
    rotation = make_rotation(organization, old.key).rotation
    extend(rotation, timezone.now() + timedelta(minutes=2))
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "valid"
    ApiKey.objects.filter(pk=old.key.pk).update(expires_at=timezone.now())
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "expired"


BAD = {
    "none": "",
    "a text": "tomorrow",
    "a day that is none": "2026-02-30T10:00",
    "a date alone with letters": "2026-01-01Tten",
    "the past": "2020-01-01T10:00",
    "the first year": "0001-01-01T00:00",
    "the last year": "9999-12-31T23:59",
    "more than a year": local(timezone.now() + 367 * DAY),
    "a NUL": "2026-01-01T10:00\0",
    "a very long one": "2" * 5000,
}


@pytest.mark.parametrize("end", BAD.values(), ids=BAD)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_bad_end_is_a_422_that_names_it_and_changes_nothing(operator, rotation, extend, end, zone):
    type(operator).objects.filter(pk=operator.pk).update(time_zone=zone)
    before = snapshot()
    for headers in (None, HTMX):
        response = extend(rotation, end, headers=headers)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == ["end"]
    assert snapshot() == before


@pytest.mark.parametrize("ago", [timedelta(), HOUR, 400 * DAY])
def test_an_end_that_is_not_in_the_future_is_refused(rotation, extend, ago):
    response = extend(rotation, timezone.now() - ago)
    assert response.context["form"].errors["end"] == ["The end must be in the future."]


def test_an_end_after_the_old_keys_own_expiry_is_refused_and_the_page_tells_it(organization, client, extend):
    own = soon(10)
    rotation = make_rotation(organization, make_key(organization, expires_at=own).key).rotation
    assert "The old key expires by itself on" in client.get(url("rotation_extend", organization, rotation.pk)).text
    response = extend(rotation, own + timedelta(minutes=2))
    assert response.status_code == 422
    told = f"The old key expires by itself on {own:%-d %B %Y, %H:%M}: the end cannot be later."
    assert response.context["form"].errors["end"] == [told]
    assert end_of(rotation) == rotation.deadline
    assert extend(rotation, own - timedelta(minutes=2)).status_code == 302


def test_an_end_after_that_of_the_new_key_is_refused(organization, extend):
    rotation = make_rotation(organization, new_expires_at=soon(8)).rotation
    response = extend(rotation, soon(9))
    assert response.context["form"].errors["end"] == ["The new key must work for longer than the old one."]


def test_who_is_second_of_two_is_told_and_may_say_it_again(rotation, extend):
    seen, first = rotation.deadline.isoformat(), soon(20).replace(second=0, microsecond=0)
    extend(rotation, first, seen=seen)
    before = snapshot()
    response = extend(rotation, soon(30), seen=seen)
    assert response.status_code == 422
    told = f"Somebody moved the end to {first:%-d %B, %H:%M} since you opened this. Save again?"
    assert response.context["form"].non_field_errors() == [told]
    assert f'value="{local(soon(30))}"' in response.text, "what was typed is kept"
    assert snapshot() == before
    assert extend(rotation, soon(30), seen=response.context["form"]["seen"].value()).status_code == 302
    assert end_of(rotation) > soon(29)


def test_a_first_use_that_started_the_clock_counts_as_somebody_too(organization, extend):
    started = make_rotation(organization, clock=Clock.FIRST_USE)
    seen = started.rotation.deadline.isoformat()
    make_event(started.issued.key)
    assert extend(started.rotation, soon(5), seen=seen).status_code == 422


@pytest.mark.parametrize("seen", ["nonsense", "\0", "2026-01-01", "2026-01-01T10:00", "x" * 500])
def test_a_damaged_form_is_told_and_changes_nothing(rotation, extend, seen):
    before = snapshot()
    response = extend(rotation, soon(20), seen=seen)
    assert response.status_code == 422
    assert "seen" in response.context["form"].errors
    assert "This form is damaged" in response.text or "character" in response.text
    assert snapshot() == before


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_an_end_that_is_not_touched_stays_to_the_second(organization, operator, client, rotation, extend, zone):
    type(operator).objects.filter(pk=operator.pk).update(time_zone=zone)
    before = rotation.deadline
    text = client.get(url("rotation_extend", organization, rotation.pk)).text
    shown = re.search(r'name="end" value="([^"]+)"', text)[1]
    assert extend(rotation, shown).status_code == 302
    assert end_of(rotation) == before
    assert not entries(organization, AuditAction.ROTATION_EXTEND)


def test_the_same_end_again_changes_nothing(organization, rotation, extend):
    end = soon(20).replace(second=0, microsecond=0)
    extend(rotation, end)
    response = extend(rotation, end, seen=end.isoformat())
    assert response.status_code == 302
    assert len(entries(organization, AuditAction.ROTATION_EXTEND)) == 1


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_rotation_that_was_finished_meanwhile_is_not_extended(organization, operator, client, rotation, method):
    rotation.finish(by=make_actor(operator))
    before = snapshot()
    form = {"end": local(soon(20)), "seen": ""}
    response = getattr(client, method)(url("rotation_extend", organization, rotation.pk), form)
    assert response["Location"] == rotation.get_absolute_url()
    [told] = messages_of(response)
    assert "finished" in told
    assert operator.email in told
    assert snapshot() == before


def test_after_its_deadline_it_is_not_extended(organization, extend):
    rotation = make_overdue_rotation(organization).rotation
    before = snapshot()
    response = extend(rotation, soon(20))
    assert messages_of(response) == ["The deadline of this rotation has passed: the old key is refused."]
    assert snapshot() == before


def test_another_organizations_rotation_is_not_there(organization, extend):
    theirs = make_rotation(make_organization()).rotation
    before = snapshot()
    assert extend(theirs, soon(20)).status_code == 404
    assert snapshot() == before


def test_a_viewer_may_not(organization, viewer, client_of, rotation):
    client = client_of(viewer)
    before = snapshot()
    form = {"end": local(soon(20)), "seen": rotation.deadline.isoformat()}
    assert client.post(url("rotation_extend", organization, rotation.pk), form).status_code == 403
    assert snapshot() == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, client, text):
    rotation = make_rotation(organization, make_key(organization, text).key).rotation
    for headers in (None, HTMX):
        response = client.get(url("rotation_extend", organization, rotation.pk), headers=headers)
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text


def test_an_extension_keeps_the_clock_from_the_first_use(organization, extend):
    """The end that was set is the latest; a first use still ends the old key earlier."""
    started = make_rotation(organization, clock=Clock.FIRST_USE, overlap=HOUR)
    extend(started.rotation, soon(40))
    used = make_event(started.issued.key)
    assert end_of(started.rotation) == used.at + HOUR
    assert not Rotation.objects.for_pages().get(pk=started.rotation.pk).clock_waits
