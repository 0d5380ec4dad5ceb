"""Ending an alert by hand."""

import pytest
from django.utils import timezone

from apikeys.models import Alert, AlertKind, AuditAction
from tests.factories import make_alert, make_organization
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def resolve(organization, client):
    return lambda alert, note="It was us", headers=None: client.post(
        url("alert_resolve", organization, alert.pk), {"note": note}, headers=headers
    )


def test_the_form_is_a_page_and_for_htmx_a_dialog_that_says_what_comes_back(organization, client):
    happens, lasts = make_alert(organization), make_alert(organization, AlertKind.UNUSED)
    before = snapshot()
    response = client.get(url("alert_resolve", organization, happens.pk))
    assert is_whole_page(response)
    assert "If it happens again, a new alert is opened." in response.text
    response = client.get(url("alert_resolve", organization, lasts.pk), headers=HTMX)
    assert is_partial(response)
    assert "While its cause lasts it does not come back" in response.text
    assert snapshot() == before


def test_it_is_resolved_with_its_note_and_recorded(organization, operator, resolve):
    alert = make_alert(organization)
    response = resolve(alert, "  It was us ")
    assert (response.status_code, response["Location"]) == (302, alert.get_absolute_url())
    alert.refresh_from_db()
    assert (alert.status, alert.resolution, alert.resolved_by_label) == ("resolved", "It was us", operator.email)
    [entry] = entries(organization, AuditAction.ALERT_RESOLVE)
    assert (entry.actor, entry.reason, entry.key_id) == (operator, "It was us", alert.key_id)
    assert resolve(make_alert(organization), headers=HTMX)["HX-Redirect"].startswith("/acme/alerts/AL-")


@pytest.mark.parametrize("note", ["", "  ", "x" * 501, "a\0b"])
def test_without_a_proper_note_it_is_a_422_that_changes_nothing(organization, resolve, note):
    alert = make_alert(organization)
    before = snapshot()
    response = resolve(alert, note)
    assert response.status_code == 422
    assert "note" in response.context["form"].errors
    assert snapshot() == before


def test_a_form_that_is_sent_again_says_who_was_quicker(organization, operator, resolve):
    alert = make_alert(organization)
    resolve(alert)
    before = snapshot()
    response = resolve(alert, "Something else")
    assert response["Location"] == alert.get_absolute_url()
    assert messages_of(response)[-1] == (
        f"{alert.code} is resolved already; nothing was changed. {operator.email} wrote: “It was us”"
    )
    assert snapshot() == before


def test_one_that_ended_by_itself_meanwhile_says_so(organization, resolve):
    alert = make_alert(organization)
    Alert.objects.end_all([alert], now=timezone.now(), why="Calm.")
    assert "It ended by itself: “Calm.”" in messages_of(resolve(alert))[0]


def test_a_viewer_may_not_and_another_organizations_alert_is_not_there(organization, viewer, client_of, resolve):
    alert, theirs = make_alert(organization), make_alert(make_organization())
    client = client_of(viewer)
    before = snapshot()
    assert client.post(url("alert_resolve", organization, alert.pk), {"note": "x"}).status_code == 403
    assert resolve(theirs).status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_note_is_kept_as_it_was_written(organization, resolve, client, text):
    alert = make_alert(organization)
    assert resolve(alert, text).status_code == 302
    alert.refresh_from_db()
    assert alert.resolution == text
