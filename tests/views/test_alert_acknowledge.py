"""Taking an alert in hand."""

from datetime import UTC, timedelta

import pytest
from django.utils import timezone

from apikeys.models import Alert, AuditAction
from tests.factories import make_actor, make_alert, make_organization
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def acknowledge(organization, client):
    def post(alert, headers=None, **form):
        sent = {"until": "1", "until_on": "", "seen": alert.version.isoformat()} | form
        return client.post(url("alert_acknowledge", organization, alert.pk), sent, headers=headers)

    return post


def test_the_form_is_a_page_and_for_htmx_a_dialog(organization, client):
    alert = make_alert(organization)
    before = snapshot()
    address = url("alert_acknowledge", organization, alert.pk)
    response = client.get(address)
    assert is_whole_page(response)
    assert alert.version.isoformat() in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


@pytest.mark.parametrize(("choice", "days"), [("1", 1), ("7", 7), ("30", 30)])
def test_it_is_acknowledged_for_so_long_and_recorded(organization, operator, acknowledge, choice, days):
    alert = make_alert(organization)
    response = acknowledge(alert, until=choice)
    assert (response.status_code, response["Location"]) == (302, alert.get_absolute_url())
    alert.refresh_from_db()
    assert alert.acknowledged_by == operator
    assert abs(alert.acknowledged_until - timezone.now() - days * DAY) < timedelta(minutes=1)
    [entry] = entries(organization, AuditAction.ALERT_ACKNOWLEDGE)
    assert (entry.actor, entry.key_id) == (operator, alert.key_id)
    assert entry.changes == {"alert": [None, alert.code]}


def test_it_may_be_until_a_time_and_htmx_is_led_on(organization, acknowledge):
    alert = make_alert(organization)
    until = (timezone.now() + 3 * DAY).replace(second=0, microsecond=0)
    response = acknowledge(alert, HTMX, until="date", until_on=f"{until.astimezone(UTC):%Y-%m-%dT%H:%M}")
    assert response["HX-Redirect"] == alert.get_absolute_url()
    alert.refresh_from_db()
    assert alert.acknowledged_until == until


def moment(days):
    return f"{timezone.now() + days * DAY:%Y-%m-%dT%H:%M}"


BAD = {
    "no choice": ({"until": ""}, "until"),
    "another choice": ({"until": "365"}, "until"),
    "no time": ({"until": "date"}, "until_on"),
    "a time that is none": ({"until": "date", "until_on": "soon"}, "until_on"),
    "the past": ({"until": "date", "until_on": "2020-01-01T00:00"}, "until_on"),
    "beyond a year": ({"until": "date", "until_on": "2999-01-01T00:00"}, "until_on"),
    "beyond time": ({"until": "date", "until_on": "99999-01-01T00:00"}, "until_on"),
    "a damaged version": ({"seen": "x"}, "seen"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_changes_nothing(organization, acknowledge, form, field):
    alert = make_alert(organization)
    before = snapshot()
    for headers in (None, HTMX):
        response = acknowledge(alert, headers, **form)
        assert response.status_code == 422
        assert field in response.context["form"].errors
    assert snapshot() == before


def test_a_form_that_is_sent_again_says_what_happened_and_changes_nothing(organization, operator, acknowledge):
    alert = make_alert(organization)
    seen = alert.version.isoformat()
    acknowledge(alert, seen=seen)
    before = snapshot()
    response = acknowledge(alert, seen=seen)
    assert response.status_code == 422
    [told] = response.context["form"].non_field_errors()
    assert told.startswith(f"{operator.email} acknowledged it until")
    assert snapshot() == before
    alert = Alert.objects.get(pk=alert.pk)
    assert f'value="{alert.version.isoformat()}"' in response.text
    assert acknowledge(alert, until="7").status_code == 302


@pytest.mark.parametrize("method", ["get", "post"])
def test_one_that_is_over_says_who_resolved_it_with_which_words(organization, client, method):
    alert = make_alert(organization)
    alert.resolve(note="It was us", by=make_actor())
    before = snapshot()
    response = getattr(client, method)(url("alert_acknowledge", organization, alert.pk), {"until": "1"})
    assert response["Location"] == alert.get_absolute_url()
    assert messages_of(response) == [
        f"{alert.code} is resolved already; nothing was changed. command line wrote: “It was us”"
    ]
    assert snapshot() == before


def test_a_viewer_may_not_and_another_organizations_alert_is_not_there(organization, viewer, client_of, acknowledge):
    alert, theirs = make_alert(organization), make_alert(make_organization())
    client = client_of(viewer)
    before = snapshot()
    address = url("alert_acknowledge", organization, alert.pk)
    assert client.post(address, {"until": "1"}).status_code == 403
    assert acknowledge(theirs).status_code == 404
    assert snapshot() == before
