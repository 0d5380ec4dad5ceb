"""Letting a key be silent until a day."""

from datetime import UTC, datetime, time, timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from apikeys.models import AuditAction, KeyExemption, Role
from tests.factories import (
    make_actor,
    make_exemption,
    make_expired_key,
    make_member,
    make_old_key,
    make_organization,
    make_revoked_key,
    make_user,
)
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def key(organization):
    return make_old_key(organization, 200 * DAY, name="standby")


@pytest.fixture
def owner(operator):
    return operator.memberships.get()


@pytest.fixture
def exempt(organization, operator, owner, client_of):
    """Send the form as a browser does, unchanged but for what is given."""
    client = client_of(operator)

    def send(key, headers=None, **changes):
        form = {"owner": owner.pk, "reason": "Stands by", "until": "90", "until_on": "", "seen": ""} | changes
        return client.post(url("key_exempt", organization, key.public_id), form, headers=headers)

    return send


def exemption_of(key):
    return KeyExemption.objects.filter(key=key).first()


def end_of(day):
    return datetime.combine(day, time(23, 59, 59), UTC)


def today():
    return timezone.now().astimezone(UTC).date()


def test_the_form_is_a_page_and_for_htmx_a_dialog_and_says_how_silent_the_key_is(
    organization, operator, key, client_of
):
    client = client_of(operator)
    before = snapshot()
    response = client.get(url("key_exempt", organization, key.public_id))
    assert is_whole_page(response)
    assert "Never used: created 200 days ago" in response.text
    assert response.context["form"].initial["owner"] == operator.memberships.get().pk
    assert is_partial(client.get(url("key_exempt", organization, key.public_id), headers=HTMX))
    assert snapshot() == before


def test_it_lets_the_key_be_silent_to_the_end_of_a_day(organization, key, owner, exempt):
    response = exempt(key)
    assert response.status_code == 302
    assert response["Location"] == key.get_absolute_url()
    found = exemption_of(key)
    assert (found.owner, found.reason, found.until) == (owner, "Stands by", end_of(today() + 90 * DAY))
    assert found.changed_by == owner.user
    assert messages_of(response) == [f"standby may be silent until {found.until:%-d %b %Y}."]
    [entry] = entries(organization, AuditAction.KEY_EXEMPT)
    assert (entry.actor, entry.key_id) == (owner.user, key.pk)
    assert not organization.keys.unused().exists()


def test_a_day_can_be_chosen_today_and_up_to_two_years_ahead(key, exempt):
    seen = ""
    for day in (today(), today() + 730 * DAY):
        assert exempt(key, until="date", until_on=day.isoformat(), seen=seen).status_code == 302
        assert exemption_of(key).until == end_of(day)
        seen = exemption_of(key).changed_at.isoformat()


BAD = {
    "yesterday": ({"until": "date", "until_on": (datetime.now(UTC) - DAY).date()}, "until_on"),
    "a day too far": ({"until": "date", "until_on": (datetime.now(UTC) + 733 * DAY).date()}, "until_on"),
    "the end of time": ({"until": "date", "until_on": "9999-12-31"}, "until_on"),
    "no day": ({"until": "date"}, "until_on"),
    "a day that is none": ({"until": "date", "until_on": "2027-02-30"}, "until_on"),
    "a length that is not offered": ({"until": "9000"}, "until"),
    "no length": ({"until": ""}, "until"),
    "no reason": ({"reason": " "}, "reason"),
    "a reason over its limit": ({"reason": "x" * 201}, "reason"),
    "a reason of two lines": ({"reason": "a\nb"}, "reason"),
    "a NUL": ({"reason": "a\0b"}, "reason"),
    "no owner": ({"owner": ""}, "owner"),
    "an owner who is none": ({"owner": "9" * 30}, "owner"),
    "a damaged form": ({"seen": "yesterday"}, "seen"),
    "a form damaged otherwise": ({"seen": "2026-11-24T00:00:00"}, "seen"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_a_422_that_names_the_field(key, exempt, form, field):
    before = snapshot()
    for headers in (None, HTMX):
        response = exempt(key, headers, **form)
        assert response.status_code == 422
        assert field in response.context["form"].errors
        assert is_partial(response) == bool(headers)
    assert snapshot() == before


def test_nobody_elses_member_and_no_closed_account_can_answer_for_it(organization, key, exempt):
    closed = make_member(organization, user=make_user(is_active=False))
    before = snapshot()
    for nobody in (make_member(make_organization()), closed):
        before = snapshot()
        assert "owner" in exempt(key, owner=nobody.pk).context["form"].errors
        assert snapshot() == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_reasons_are_shown_as_they_are(organization, operator, key, exempt, client_of, text):
    assert exempt(key, reason=text).status_code == 302
    assert exemption_of(key).reason == text
    page = client_of(operator).get(key.get_absolute_url()).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_a_form_sent_twice_does_it_once(organization, key, exempt):
    exempt(key)
    before = snapshot()
    assert exempt(key).status_code == 302
    assert snapshot() == before


def test_an_exemption_that_runs_is_changed_from_what_it_says(organization, operator, key, exempt, client_of):
    exemption = make_exemption(key, reason="Spare")
    form = client_of(operator).get(url("key_exempt", organization, key.public_id)).context["form"]
    assert form.initial["reason"] == "Spare"
    unchanged = {
        "owner": exemption.owner_id,
        "reason": "Spare",
        "until": "date",
        "until_on": exemption.until.date().isoformat(),
        "seen": form["seen"].value(),
    }
    before = snapshot()
    exempt(key, **unchanged)
    assert snapshot() == before
    exempt(key, **unchanged | {"reason": "Spare for the tills"})
    assert exemption_of(key).reason == "Spare for the tills"
    assert exemption_of(key).until == exemption.until
    assert entries(organization, AuditAction.KEY_EXEMPT)[-1].changes == {"reason": ["Spare", "Spare for the tills"]}


def test_a_stale_form_says_what_happened_and_can_be_sent_again(organization, key, exempt):
    make_exemption(key, reason="Theirs")
    before = snapshot()
    for headers in (None, HTMX):
        response = exempt(key, headers, reason="Mine")
        assert response.status_code == 422
        assert "command line changed its exemption since you opened this form" in response.text
        assert "Theirs" in response.text
    assert snapshot() == before
    exempt(key, reason="Mine", seen=response.context["form"]["seen"].value())
    assert exemption_of(key).reason == "Mine"


def test_a_form_sent_again_after_somebody_ended_it_says_so(key, exempt):
    exempt(key)
    exemption_of(key).end(by=make_actor())
    response = exempt(key)
    assert response.status_code == 422
    assert "Its exemption ended since you opened this form" in response.text
    assert not exemption_of(key).is_running


@pytest.mark.parametrize("make", [make_revoked_key, make_expired_key])
def test_a_dead_key_cannot_be_exempted(organization, operator, exempt, client_of, make):
    key = make(organization).key
    client = client_of(operator)
    before = snapshot()
    for response in (exempt(key), client.get(url("key_exempt", organization, key.public_id))):
        assert response["Location"] == key.get_absolute_url()
        assert any("cannot be exempted" in message for message in messages_of(response))
    assert exempt(key, HTMX)["HX-Redirect"] == key.get_absolute_url()
    assert snapshot() == before


def test_a_viewer_may_not_and_sees_no_button(organization, viewer, key, client_of):
    client = client_of(viewer)
    client.get(key.get_absolute_url())  # that it was read is in the audit log, once an hour
    before = snapshot()
    form = {"owner": viewer.memberships.get().pk, "reason": "Stands by", "until": "90"}
    assert client.post(url("key_exempt", organization, key.public_id), form).status_code == 403
    assert client.get(url("key_exempt", organization, key.public_id)).status_code == 403
    assert "/exempt" not in client.get(key.get_absolute_url()).text
    assert snapshot() == before


def test_another_organizations_key_is_not_there(exempt):
    theirs = make_old_key(make_organization(), 200 * DAY)
    assert exempt(theirs).status_code == 404
    assert exemption_of(theirs) is None


def test_a_database_that_fails_at_the_entry_exempts_nothing(organization, operator, key):
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    form = {"owner": operator.memberships.get().pk, "reason": "Stands by", "until": "90"}

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        assert client.post(url("key_exempt", organization, key.public_id), form).status_code == 503
    assert exemption_of(key) is None


def test_an_owner_who_is_removed_while_the_form_is_open_is_named(organization, key, exempt):
    leaving = make_member(organization, Role.OPERATOR)
    leaving.remove(by=make_actor())
    assert "owner" in exempt(key, owner=leaving.pk or 0).context["form"].errors
