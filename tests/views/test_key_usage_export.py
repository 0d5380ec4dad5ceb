"""Each table and chart of a key's page as CSV and JSON."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apikeys.key_tables import TABLES
from apikeys.models import AuditAction, Outcome, UsageWatermark
from tests.factories import make_event, make_key, make_organization
from tests.pages import HOSTILE, day, entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(organization):
    return make_key(organization, "checkout", scopes=["orders:read", "orders:write"]).key


@pytest.fixture
def export(organization, viewer, client_of, key):
    client = client_of(viewer)
    return lambda table, kind="json", **query: client.get(
        url("key_usage_export", organization, key.public_id, table, kind, **query)
    )


def rows(response):
    text = b"".join(response.streaming_content).decode()
    if response["Content-Type"] == "application/json":
        return json.loads(text)
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_requests_by_outcome_are_a_row_a_step(key, export):
    for hours in range(3):
        make_event(key, ago=timedelta(hours=hours))
    make_event(key, outcome=Outcome.RATE_LIMITED)
    response = export("outcomes", range="30d")
    assert response["Content-Disposition"] == f'attachment; filename="acme-{key.public_id}-outcomes-30d.json"'
    assert "no-store" in response["Cache-Control"]
    found = rows(response)
    assert len(found) == 30
    assert sum(row["valid"] for row in found) == 3
    assert sum(row["total"] for row in found) == 4
    assert found[-1]["since"] == found[-2]["until"]


def test_times_are_in_the_zone_of_the_reader(viewer, key, export):
    viewer.choose_time_zone("Asia/Tokyo")
    make_event(key, at=day(2026, 10, 4) + timedelta(hours=16))
    [row] = [row for row in rows(export("outcomes", since="2026-10-05", until="2026-10-16")) if row["valid"]]
    assert row["since"] == "2026-10-05T00:00:00+09:00"
    [event] = rows(export("requests"))
    assert event["at"] == "2026-10-05T01:00:00+09:00"


def test_callers_endpoints_and_scopes_are_a_row_each_and_all_of_them(key, export):
    for number in range(30):
        make_event(key, address=f"203.0.113.{number}", path=f"/orders/{number}", ago=timedelta(minutes=number))
    callers, endpoints = rows(export("callers")), rows(export("endpoints"))
    assert {row["address"] for row in callers} == {f"203.0.113.{number}" for number in range(30)}
    assert callers[0]["user_agent"] == "orders-report/2.1"
    assert {row["path"] for row in endpoints} == {f"/orders/{number}" for number in range(30)}
    [network] = rows(export("callers", callers="network"))
    assert (network["network"], network["addresses"], network["accepted"]) == ("203.0.113.0/24", "30 addresses", 30)
    assert [(row["scope"], row["granted"], row["accepted"]) for row in rows(export("scopes"))] == [
        ("orders:read", True, 30),
        ("orders:write", True, 0),
    ]


def test_the_rhythm_is_a_row_an_hour_of_the_week(key, export):
    make_event(key, ago=timedelta(days=1))
    found = rows(export("rhythm"))
    assert len(found) == 7 * 24
    assert sum(row["accepted"] for row in found) == 1


def test_single_requests_are_all_that_the_filter_leaves(key, export):
    for minutes in range(50):
        make_event(key, ago=timedelta(minutes=minutes), path=f"/orders/{minutes}")
    make_event(key, outcome=Outcome.SCOPE_MISSING, address="2001:db8::7", scope="orders:write")
    assert len(rows(export("requests"))) == 51
    [row] = rows(export("requests", outcome="scope_missing", caller="2001:", range="24h"))
    assert (row["address"], row["outcome"], row["scope"]) == ("2001:db8::7", "scope_missing", "orders:write")


@pytest.mark.parametrize("table", TABLES)
def test_csv_and_json_hold_the_same(key, export, table):
    make_event(key)
    written = rows(export(table, "csv"))
    assert [list(row) for row in written] == [list(row) for row in rows(export(table, "json"))]


@pytest.mark.parametrize("table", TABLES)
def test_a_key_without_usage_has_tables_without_faults(export, table):
    for kind in ("csv", "json"):
        assert rows(export(table, kind)) is not None


@pytest.mark.parametrize(
    ("table", "query", "told"),
    [
        ("outcomes", {}, "outcomes, 30 d, CSV"),
        ("callers", {"range": "7d", "callers": "network"}, "callers, 7 d, by network, CSV"),
        ("endpoints", {"since": "2026-10-04", "until": "2026-10-05"}, "endpoints, 4 Oct to 5 Oct 2026, CSV"),
        ("scopes", {}, "scopes, 90 days, CSV"),
        ("requests", {"outcome": "paused", "caller": "curl"}, "requests, any time, outcome paused, caller curl, CSV"),
    ],
)
def test_an_export_is_recorded_with_what_it_holds(organization, viewer, key, export, table, query, told):
    rows(export(table, "csv", **query))
    [entry] = entries(organization, AuditAction.USAGE_EXPORT)
    assert (entry.actor, entry.key_id, entry.reason) == (viewer, key.pk, told)


@pytest.mark.parametrize(
    ("table", "kind"), [("nothing", "csv"), ("callers", "xlsx"), ("callers", "CSV"), ("..", "csv")]
)
def test_a_table_or_format_that_does_not_exist_is_not_there_and_records_nothing(export, table, kind):
    before = snapshot()
    assert export(table, kind).status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize(("table", "shown_by"), [("outcomes", "key_detail"), ("requests", "key_requests")])
def test_a_range_that_cannot_be_shown_leads_to_the_page_that_says_so(
    organization, viewer, client_of, key, export, table, shown_by
):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2026, 1, 1)})
    client = client_of(viewer)
    before = snapshot()
    response = export(table, since="2026-10-05", until="2026-10-01")
    assert response["Location"].startswith(url(shown_by, organization, key.public_id))
    assert client.get(response["Location"]).status_code == 422
    assert snapshot() == before


def test_a_pasted_key_is_in_no_entry(organization, export):
    secret = make_key(organization).secret
    rows(export("requests", caller=secret.text))
    assert secret.secret[:12] not in entries(organization, AuditAction.USAGE_EXPORT)[-1].reason


@pytest.mark.parametrize("text", [*HOSTILE.values(), "=1+1", "@x"])
def test_what_callers_send_is_no_formula_and_no_fault(key, export, text):
    make_event(key, user_agent=text, path=text[:100], method="GET")
    for table in ("callers", "requests"):
        [row] = rows(export(table, "csv"))
        assert row["user_agent"].removeprefix("'") == text
        assert not row["user_agent"].startswith(("=", "@"))


def test_many_rows_are_not_many_questions(key, export):
    make_event(key)
    with CaptureQueriesContext(connection) as few:
        rows(export("callers"))
    for number in range(40):
        make_event(key, address=f"203.0.113.{number}")
    with CaptureQueriesContext(connection) as many:
        rows(export("callers"))
    assert len(many) == len(few)


def test_another_organizations_key_is_not_there(organization, viewer, client_of):
    theirs = make_key(make_organization()).key
    response = client_of(viewer).get(url("key_usage_export", organization, theirs.public_id, "callers", "csv"))
    assert response.status_code == 404
