"""The alerts as CSV and JSON."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AlertKind, AuditAction
from apikeys.views.alerts import EXPORT_HEADER
from tests.factories import make_actor, make_alert, make_key, make_organization
from tests.pages import entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda form="csv", **query: client.get(url("alert_export", organization, form, **query))


def rows(response):
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_alert_is_a_row(organization, operator, export):
    key = make_key(organization, "checkout").key
    alert = make_alert(organization, key=key)
    alert.acknowledge(until=timezone.now() + timedelta(days=1), by=make_actor(operator))
    response = export(status="all")
    assert response["Content-Disposition"] == 'attachment; filename="acme-alerts.csv"'
    assert "no-store" in response["Cache-Control"]
    [row] = rows(response)
    assert tuple(row) == EXPORT_HEADER
    assert (row["code"], row["kind"], row["urgency"], row["status"]) == (alert.code, "abuse", "urgent", "acknowledged")
    assert (row["key_id"], row["fingerprint"], row["name"]) == (key.public_id, key.fingerprint, "checkout")
    assert row["acknowledged_by"] == operator.email
    assert row["seen"].startswith("41 requests with a wrong secret")
    assert json.loads(row["facts"])["wrong_secrets"] == 41


def test_json_holds_the_same_as_csv(organization, export):
    make_alert(organization)
    make_alert(organization, AlertKind.JOB_LATE)
    found = json.loads(b"".join(export("json").streaming_content))
    told = [{name: "" if value is None else str(value) for name, value in row.items()} for row in found]
    assert told == rows(export())
    assert [entry.target_label for entry in entries(organization, AuditAction.ALERT_EXPORT)] == ["JSON", "CSV"]


def test_it_holds_exactly_what_the_page_shows_in_its_order(organization, viewer, client_of, export):
    for kind in (AlertKind.EXPIRY, AlertKind.ABUSE, AlertKind.UNUSED):
        make_alert(organization, kind)
    make_alert(organization).resolve(note="over", by=make_actor())
    for query in ({}, {"status": "all"}, {"urgency": "digest"}, {"kind": "abuse", "status": "resolved"}):
        shown = client_of(viewer).get(url("alert_list", organization, **query)).context["alerts"]
        assert [row["code"] for row in rows(export(**query))] == [alert.code for alert in shown]
        assert shown


def test_an_export_is_recorded_with_its_filters(organization, viewer, export):
    make_alert(organization)
    rows(export(kind="abuse"))
    [entry] = entries(organization, AuditAction.ALERT_EXPORT)
    assert (entry.actor, entry.reason) == (viewer, "Status: Open, Kind: Abuse")


def test_what_is_wrong_records_nothing(organization, viewer, client_of, export):
    before = snapshot()
    assert export("xml").status_code == 404
    response = export(status="odd")
    assert response.status_code == 302
    assert client_of(viewer).get(response["Location"]).status_code == 422
    key, secret = make_key(organization)
    before = snapshot()
    assert export(q=secret.text)["Location"] == f"/acme/alerts/?q={key.public_id}&lookup=pasted"
    assert snapshot() == before


def test_nothing_of_another_organization_is_in_it(export):
    make_alert(make_organization())
    assert rows(export(status="all")) == []


def test_no_cell_is_a_formula(organization, export):
    alert = make_alert(organization, key=make_key(organization, "=1+1").key)
    alert.resolve(note="@x", by=make_actor())
    [row] = rows(export(status="all"))
    assert (row["name"], row["resolution"]) == ("'=1+1", "'@x")
