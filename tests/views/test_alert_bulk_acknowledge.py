"""Taking several alerts in hand at once."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import Alert, AlertKind, AuditAction
from apikeys.models.alert import MOST_AT_ONCE
from tests.factories import make_actor, make_alert, make_key, make_organization
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
LIST = "/acme/alerts/"


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def send(organization, client):
    def post(alerts, **form):
        sent = {"alert": [getattr(alert, "code", alert) for alert in alerts]}
        sent |= {"until": "7", "until_on": "", "seen": timezone.now().isoformat()} | form
        return client.post(url("alert_bulk_acknowledge", organization), sent)

    return post


def test_the_form_is_a_page_and_for_htmx_a_dialog_that_names_each(organization, client):
    alerts = [make_alert(organization), make_alert(organization, AlertKind.UNUSED)]
    before = snapshot()
    address = url("alert_bulk_acknowledge", organization, alert=[alert.code for alert in alerts])
    response = client.get(address)
    assert is_whole_page(response)
    for alert in alerts:
        assert alert.code in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_all_are_acknowledged_and_each_is_recorded(organization, operator, send):
    alerts = [make_alert(organization) for _ in range(3)]
    response = send(alerts)
    assert (response.status_code, response["Location"]) == (302, LIST)
    assert messages_of(response) == ["3 alerts are acknowledged."]
    assert {alert.status for alert in Alert.objects.all()} == {"acknowledged"}
    told = entries(organization, AuditAction.ALERT_ACKNOWLEDGE)
    assert [entry.changes["alert"][1] for entry in told] == [alert.code for alert in alerts]


def test_one_that_is_over_is_left_out_with_its_reason(organization, client, send):
    waiting, done = make_alert(organization), make_alert(organization)
    done.resolve(note="It was us", by=make_actor())
    response = client.get(url("alert_bulk_acknowledge", organization, alert=[waiting.code, done.code]))
    assert "command line wrote: “It was us”" in response.text
    assert messages_of(send([waiting, done])) == ["1 alert is acknowledged. 1 left out."]


def test_one_that_somebody_took_meanwhile_is_left_out_so_that_a_form_sent_again_changes_nothing(
    organization, operator, send
):
    alerts = [make_alert(organization) for _ in range(2)]
    seen = timezone.now().isoformat()
    send(alerts, seen=seen)
    before = snapshot()
    told = messages_of(send(alerts, seen=seen))[-1]
    assert told.startswith(f"Nothing was changed. {operator.email} acknowledged it meanwhile, until")
    assert snapshot() == before


@pytest.mark.parametrize("codes", [[], ["AL-0000000"], ["nonsense"], ["\0"], ["AL-0000000"] * 2])
def test_what_is_no_alert_changes_nothing(organization, send, codes):
    alert = make_alert(organization)
    before = snapshot()
    assert send([*codes, *([alert] if codes else [])])["Location"] == LIST
    assert snapshot() == before


def test_another_organizations_alert_is_not_there(organization, send):
    mine, theirs = make_alert(organization), make_alert(make_organization())
    before = snapshot()
    assert messages_of(send([mine, theirs])) == ["One of the selected alerts does not exist. Nothing was changed."]
    assert snapshot() == before


def test_more_than_can_be_changed_at_once_are_refused(send):
    told = messages_of(send([f"AL-{number:07}" for number in range(MOST_AT_ONCE + 1)]))
    assert told == [f"At most {MOST_AT_ONCE} alerts can be changed at once; {MOST_AT_ONCE + 1} were selected."]


def test_all_that_match_filters_are_taken(organization, client):
    abuse = make_alert(organization)
    make_alert(organization, AlertKind.UNUSED)
    make_alert(organization).resolve(note="over", by=make_actor())
    response = client.get(url("alert_bulk_acknowledge", organization, kind="abuse", all="1"))
    assert response.context["alerts"] == [abuse]
    assert messages_of(client.get(url("alert_bulk_acknowledge", organization, kind="expiry", all="1"))) == [
        "No open alert matches these filters."
    ]
    assert client.get(url("alert_bulk_acknowledge", organization, kind="odd", all="1"))["Location"] == LIST
    assert messages_of(client.get(url("alert_bulk_acknowledge", organization))) == ["No alert was selected."]


def test_bad_input_is_a_422_that_changes_nothing(organization, send):
    alert = make_alert(organization)
    before = snapshot()
    for form in ({"until": ""}, {"until": "date"}, {"until": "date", "until_on": "2020-01-01T00:00"}):
        response = send([alert], **form)
        assert response.status_code == 422
        assert alert.code in response.text
    assert snapshot() == before


def test_a_viewer_may_not(organization, viewer, client_of):
    alert = make_alert(organization)
    form = {"alert": alert.code, "until": "1"}
    assert client_of(viewer).post(url("alert_bulk_acknowledge", organization), form).status_code == 403


def test_many_cost_no_more_queries_than_few(organization, send):
    few_ones = [make_alert(organization) for _ in range(2)]
    many_ones = [make_alert(organization, key=make_key(organization).key) for _ in range(30)]
    with CaptureQueriesContext(connection) as few:
        send(few_ones)
    with CaptureQueriesContext(connection) as many:
        send(many_ones)
    assert len(many) == len(few)
