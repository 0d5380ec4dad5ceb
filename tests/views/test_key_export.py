"""The key list as CSV and JSON."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import ApiKey, AuditAction, Outcome, PolicyRule
from apikeys.views.keys import EXPORT_HEADER
from tests.factories import (
    make_event,
    make_exemption,
    make_key,
    make_old_key,
    make_organization,
    make_policy,
    make_policy_exemption,
    make_revoked_key,
)
from tests.pages import age_limit, entries, make_keys, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def export(organization, viewer, client_of):
    client = client_of(viewer)

    def get(kind="csv", **query):
        return client.get(url("key_export", organization, kind, **query))

    return get


def rows(response):
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_key_is_a_row_with_all_that_the_list_knows(organization, viewer, export):
    key = make_key(
        organization,
        "checkout",
        scopes=["orders:write", "orders:read"],
        networks=["10.0.0.0/8"],
        rate_limit=(50, 1, 100),
        by=viewer,
    ).key
    event = make_event(key)
    response = export()
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="acme-keys.csv"'
    assert "no-store" in response["Cache-Control"]
    [row] = rows(response)
    assert tuple(row) == EXPORT_HEADER
    assert row["id"] == key.public_id
    assert row["fingerprint"] == key.fingerprint
    assert (row["name"], row["status"], row["environment"]) == ("checkout", "active", "production")
    assert (row["scopes"], row["networks"]) == ("orders:read orders:write", "10.0.0.0/8")
    assert row["rate_limit"] == "50 per second, burst 100"
    assert row["last_used_at"] == event.at.isoformat()
    assert row["created_by"] == viewer.email
    assert (row["expires_at"], row["revoked_at"]) == ("", "")


def test_silence_exemption_and_pause_are_told_as_the_list_does(organization, export):
    silent, excused, paused = (make_old_key(organization, timedelta(days=200)) for _ in range(3))
    until = make_exemption(excused).until
    ends = timezone.now() + timedelta(hours=1)
    ApiKey.objects.filter(pk=paused.pk).update(paused_at=timezone.now(), paused_until=ends)
    told = {row["id"]: (row["silence"], row["may_be_silent_until"], row["paused_until"]) for row in rows(export())}
    assert told[silent.public_id] == ("never_used", "", "")
    assert told[excused.public_id] == ("never_used", until.isoformat(), "")
    assert told[paused.public_id] == ("never_used", "", ends.isoformat())


def test_the_rules_that_a_key_violates_are_told_and_can_be_filtered_by(organization, export):
    endless, exempt = (make_key(organization).key for _ in range(2))
    fine = make_key(organization, expires_at=timezone.now() + timedelta(days=5), rate_limit=(5, 1, 5)).key
    dead = make_revoked_key(organization).key
    assert {row["violates"] for row in rows(export())} == {""}
    make_policy(organization, expiry_required=True, max_rate=(10, 1))
    make_policy_exemption(exempt, PolicyRule.EXPIRY)
    told = {row["id"]: row["violates"] for row in rows(export())}
    expected = {endless: "expiry rate", exempt: "rate", fine: "", dead: ""}
    assert told == {key.public_id: rules for key, rules in expected.items()}
    assert [row["id"] for row in rows(export(policy="expiry"))] == [endless.public_id]
    assert {row["id"] for row in rows(export(policy="violating"))} == {endless.public_id, exempt.public_id}


def test_by_when_a_key_should_be_rotated_is_told_of_usable_keys(organization, export):
    old = make_old_key(organization, timedelta(days=200))
    dead = make_revoked_key(organization).key
    assert {row["rotate_by"] for row in rows(export())} == {""}
    age_limit(organization, 90)
    told = {row["id"]: row["rotate_by"] for row in rows(export())}
    assert told[old.public_id] == (old.created_at + timedelta(days=90)).isoformat()
    assert told[dead.public_id] == ""
    assert [row["id"] for row in rows(export(rotate="due"))] == [old.public_id]


def test_the_filters_and_the_order_of_the_list_hold(organization, export):
    make_key(organization, "b")
    make_key(organization, "a")
    make_key(organization, "elsewhere", environment="dev")
    make_revoked_key(organization, "dead")
    make_key(make_organization(), "theirs")
    assert [row["name"] for row in rows(export(environment="prod", sort="name"))] == ["a", "b", "dead"]
    assert [row["name"] for row in rows(export(status="revoked"))] == ["dead"]


def test_json_holds_the_same_as_csv(organization, export):
    make_event(make_key(organization, "a", networks=["10.0.0.0/8"]).key)
    make_revoked_key(organization, "b")
    response = export("json", sort="name")
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"] == 'attachment; filename="acme-keys.json"'
    found = json.loads(b"".join(response.streaming_content))
    assert [row["name"] for row in found] == ["a", "b"]
    assert [{name: value or "" for name, value in row.items()} for row in found] == rows(export(sort="name"))


@pytest.mark.parametrize("query", [{}, {"status": "revoked"}, {"q": "b", "sort": "-name"}, {"tried": "30"}])
def test_it_holds_exactly_what_the_list_shows(organization, viewer, client_of, export, query):
    make_key(organization, "ab")
    make_key(organization, "b")
    make_event(make_revoked_key(organization, "tried").key, outcome=Outcome.REVOKED)
    make_revoked_key(organization, "dead b")
    listed = client_of(viewer).get(url("key_list", organization, **query)).context["keys"]
    exported = json.loads(b"".join(export("json", **query).streaming_content))
    assert [row["id"] for row in exported] == [key.public_id for key in listed]
    assert exported


def test_a_format_that_does_not_exist_is_not_there_and_records_nothing(export):
    before = snapshot()
    assert export("xlsx").status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_list_leads_to_the_export_of_what_it_shows(organization, viewer, client_of, kind):
    make_key(organization)
    text = client_of(viewer).get(url("key_list", organization, status="active")).text
    assert f'href="{url("key_export", organization, kind)}?status=active"' in text


def test_an_export_is_recorded_with_its_filters(organization, viewer, export):
    rows(export(status="active", q="check"))
    [entry] = entries(organization, AuditAction.KEY_EXPORT)
    assert entry.actor == viewer
    assert (entry.target_label, entry.reason) == ("CSV", "Search: check, Status: Active")
    rows(export())
    assert entries(organization, AuditAction.KEY_EXPORT)[-1].reason == "all keys"


def test_filters_that_are_wrong_lead_to_the_list_that_says_so_and_record_nothing(organization, viewer, client_of):
    client = client_of(viewer)
    before = snapshot()
    response = client.get(url("key_export", organization, "csv", status="deleted"))
    assert response.status_code == 302
    assert client.get(response["Location"]).status_code == 422
    assert snapshot() == before


@pytest.mark.parametrize("name", ["=1+1", "+49", "-x", "@SUM(A1)", '=HYPERLINK("http://evil")'])
def test_no_cell_is_a_formula(organization, export, name):
    make_key(organization, name, purpose=name)
    [row] = rows(export())
    assert row["name"] == row["purpose"] == f"'{name}"


@pytest.mark.parametrize("name", ['say "hi", then', "مفتاح 🔑", "a;b,c"])
def test_any_name_survives_the_way_through_csv(organization, export, name):
    make_key(organization, name, purpose="two\nlines")
    [row] = rows(export())
    assert (row["name"], row["purpose"]) == (name, "two\nlines")


def test_all_keys_are_in_it_in_a_fixed_number_of_queries(organization, export):
    make_keys(organization, 20)
    with CaptureQueriesContext(connection) as few:
        assert len(rows(export())) == 21
    make_keys(organization, 200)
    with CaptureQueriesContext(connection) as many:
        assert len(rows(export())) == 222
    assert len(many) == len(few)


def test_a_pasted_key_is_led_away_and_not_recorded(organization, export):
    key, secret = make_key(organization)
    response = export(q=secret.text)
    assert response.status_code == 302
    assert response["Location"] == f"/acme/keys/?q={key.public_id}&lookup=found"
    assert entries(organization, AuditAction.KEY_EXPORT) == []
