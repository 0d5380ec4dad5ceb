"""Ending several alerts at once."""

import pytest

from apikeys.models import Alert, AlertKind, AuditAction
from tests.factories import make_actor, make_alert, make_organization
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def send(organization, client):
    return lambda alerts, note="It was us": client.post(
        url("alert_bulk_resolve", organization), {"alert": [alert.code for alert in alerts], "note": note}
    )


def test_the_form_is_a_page_and_for_htmx_a_dialog(organization, client):
    address = url("alert_bulk_resolve", organization, alert=make_alert(organization).code)
    before = snapshot()
    assert is_whole_page(client.get(address))
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_all_end_with_the_note_and_what_lasts_stays_known(organization, operator, send):
    happens, lasts = make_alert(organization), make_alert(organization, AlertKind.UNUSED)
    assert messages_of(send([happens, lasts])) == ["2 alerts are resolved."]
    for alert in (happens, lasts):
        alert.refresh_from_db()
        assert (alert.status, alert.resolution, alert.resolved_by) == ("resolved", "It was us", operator)
    assert happens.cause_ended_at == happens.resolved_at
    assert lasts.cause_ended_at is None
    assert [entry.reason for entry in entries(organization, AuditAction.ALERT_RESOLVE)] == ["It was us"] * 2


def test_one_that_is_over_is_left_out_and_a_form_sent_again_changes_nothing(organization, operator, send):
    waiting, done = make_alert(organization), make_alert(organization)
    done.resolve(note="Before", by=make_actor())
    assert messages_of(send([waiting, done])) == ["1 alert is resolved. 1 left out."]
    before = snapshot()
    told = messages_of(send([waiting, done]))[-1]
    assert told.startswith("Nothing was changed.")
    assert f"{operator.email} wrote: “It was us”" in told
    assert snapshot() == before


@pytest.mark.parametrize("note", ["", " ", "x" * 501])
def test_without_a_proper_note_nothing_ends(organization, send, note):
    alert = make_alert(organization)
    before = snapshot()
    assert send([alert], note).status_code == 422
    assert snapshot() == before


def test_a_viewer_may_not_and_another_organizations_alert_is_not_there(organization, viewer, client_of, send):
    mine, theirs = make_alert(organization), make_alert(make_organization())
    form = {"alert": mine.code, "note": "x"}
    assert client_of(viewer).post(url("alert_bulk_resolve", organization), form).status_code == 403
    send([mine, theirs])
    assert {alert.status for alert in Alert.objects.all()} == {"open"}
