"""The audit log as CSV and JSON."""

import csv
import io
import json

import pytest

from apikeys.models import Actor, AuditAction, AuditEntry, Via
from apikeys.views.audit import EXPORT_HEADER
from tests.factories import make_key, make_organization
from tests.pages import entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda kind="csv", **query: client.get(url("audit_export", organization, kind, **query))


def rows(response):
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_entry_is_a_row_with_before_and_after(organization, operator, export):
    key = make_key(organization, "checkout", by=operator).key
    response = export(action="key.issue")
    assert response["Content-Disposition"] == 'attachment; filename="acme-audit.csv"'
    assert "no-store" in response["Cache-Control"]
    [row] = rows(response)
    assert tuple(row) == EXPORT_HEADER
    assert (row["actor"], row["action"], row["target"]) == (operator.email, "key.issue", "checkout")
    assert (row["key_id"], row["fingerprint"]) == (key.public_id, key.fingerprint)
    assert json.loads(row["changes"])["name"] == [None, "checkout"]


def test_json_holds_the_same_as_csv(organization, export):
    make_key(organization, "checkout")
    response = export("json", action="key.issue")
    assert response["Content-Disposition"] == 'attachment; filename="acme-audit.json"'
    found = json.loads(b"".join(response.streaming_content))
    assert [{name: str(value or "") for name, value in row.items()} for row in found] == rows(
        export(action="key.issue")
    )
    assert [entry.target_label for entry in entries(organization, AuditAction.AUDIT_EXPORT)] == ["JSON", "CSV"]


def test_it_holds_exactly_what_the_page_shows(organization, viewer, client_of, export):
    make_key(organization, "checkout")
    make_key(organization, "billing")
    query = {"key": "checkout", "action": "key.issue"}
    shown = client_of(viewer).get(url("audit_list", organization, **query)).context["entries"]
    exported = json.loads(b"".join(export("json", **query).streaming_content))
    assert [row["id"] for row in exported] == [entry.pk for entry in shown]
    assert len(exported) == 1


def test_a_format_that_does_not_exist_is_not_there_and_records_nothing(export):
    before = snapshot()
    assert export("xml").status_code == 404
    assert snapshot() == before


def test_the_filters_hold_and_nothing_of_another_organization_is_in_it(organization, export):
    make_key(organization)
    make_key(make_organization(), "theirs")
    assert {row["action"] for row in rows(export(action="key.issue"))} == {"key.issue"}
    assert "theirs" not in {row["target"] for row in rows(export())}


def test_an_export_is_recorded_with_its_filters_and_is_in_itself(organization, viewer, export):
    exported = rows(export(actor="@"))
    [entry] = entries(organization, AuditAction.AUDIT_EXPORT)
    assert (entry.actor, entry.reason) == (viewer, "Who: @")
    assert str(entry.pk) in {row["id"] for row in exported}


def test_filters_that_are_wrong_lead_to_the_page_that_says_so_and_record_nothing(organization, viewer, client_of):
    client = client_of(viewer)
    before = snapshot()
    response = client.get(url("audit_export", organization, "csv", action="key.eat"))
    assert response.status_code == 302
    assert client.get(response["Location"]).status_code == 422
    assert snapshot() == before


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_is_a_formula(organization, export, text):
    by = Actor(label=text, via=Via.DASHBOARD, user_agent=text)
    AuditEntry.objects.record(AuditAction.SIGN_OUT, by=by, organization=organization, target=text, reason=text)
    [row] = rows(export(action="account.sign_out"))
    assert {row["actor"], row["user_agent"], row["target"], row["reason"]} == {f"'{text}"}


def test_a_pasted_key_is_led_away_and_not_recorded(organization, export):
    key, secret = make_key(organization)
    response = export(key=secret.text)
    assert response["Location"] == f"/acme/audit/export.csv?key={key.public_id}"
    rows(export(actor=secret.text))
    assert secret.secret[:12] not in entries(organization, AuditAction.AUDIT_EXPORT)[-1].reason
