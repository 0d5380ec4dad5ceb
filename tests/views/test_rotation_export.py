"""The list of rotations as CSV and JSON."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apikeys.models import AuditAction, Clock, Rotation
from tests.factories import (
    make_actor,
    make_event,
    make_key,
    make_organization,
    make_overdue_rotation,
    make_rotation,
)
from tests.pages import HOSTILE, entries, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def export(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda kind="csv", **query: client.get(url("rotation_export", organization, kind, **query))


def rows(response):
    text = b"".join(response.streaming_content).decode()
    if response["Content-Type"] == "application/json":
        return json.loads(text)
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_rotation_is_a_row_with_both_keys(organization, export):
    old = make_key(organization, "checkout").key
    used = make_event(old)
    started = make_rotation(organization, old, overlap=2 * DAY, clock=Clock.FIRST_USE, note="yearly")
    response = export("json")
    assert response["Content-Disposition"] == 'attachment; filename="acme-rotations.json"'
    assert "no-store" in response["Cache-Control"]
    [row] = rows(response)
    rotation, new = started.rotation, started.issued.key
    assert (row["rotation"], row["name"], row["environment"], row["note"]) == (
        *(rotation.pk, "checkout", "production", "yearly"),
    )
    assert (row["old_id"], row["old_fingerprint"], row["old_last_used_at"]) == (
        *(old.public_id, old.fingerprint, used.at.isoformat()),
    )
    assert (row["new_id"], row["new_fingerprint"], row["new_last_used_at"]) == (new.public_id, new.fingerprint, None)
    assert (row["state"], row["clock"], row["clock_waits"], row["overlap_seconds"]) == (
        *("running", "first_use", True, 2 * DAY.total_seconds()),
    )
    assert row["ends_at"] == rotation.deadline.isoformat()
    assert (row["started_at"], row["started_by"]) == (rotation.started_at.isoformat(), rotation.started_by_label)
    assert (row["ended_at"], row["ended_by"]) == (None, "")


def test_the_state_says_how_it_ended_and_by_whom(organization, export):
    make_overdue_rotation(organization, make_key(organization, "late").key)
    cancelled = make_rotation(organization, make_key(organization, "off").key).rotation
    cancelled.cancel(by=BY)
    awaited = make_rotation(organization, make_key(organization, "awaited").key, link_lasts=DAY).rotation
    told = {row["name"]: row for row in rows(export("json", show="all"))}
    assert {name: row["state"] for name, row in told.items()} == {
        "late": "overdue",
        "off": "cancelled",
        "awaited": "running",
    }
    assert told["off"]["ended_by"] == BY.label
    assert told["off"]["ends_at"] is None
    assert (told["awaited"]["new_id"], told["awaited"]["link_sent_to"]) == (None, awaited.owner_address)


@pytest.mark.parametrize("query", [{}, {"show": "ended"}, {"show": "all"}])
def test_it_holds_exactly_what_the_list_shows(organization, viewer, client_of, export, query):
    for name in ("a", "b", "c"):
        make_rotation(organization, make_key(organization, name).key)
    Rotation.objects.get(old_key__name="b").finish(by=BY)
    make_rotation(make_organization())
    listed = client_of(viewer).get(url("rotation_list", organization, **query)).context["rotations"]
    exported = rows(export("json", **query))
    assert [row["rotation"] for row in exported] == [rotation.pk for rotation in listed]
    assert exported


def test_json_holds_the_same_as_csv(organization, export):
    make_event(make_rotation(organization).issued.key)
    make_rotation(organization, link_lasts=DAY)
    as_json = rows(export("json"))
    assert len(as_json) == 2
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in as_json]
    assert rows(export("csv")) == as_text


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_list_leads_to_the_export_of_what_it_shows(organization, viewer, client_of, kind):
    make_rotation(organization)
    text = client_of(viewer).get(url("rotation_list", organization, show="all")).text
    assert f'href="{url("rotation_export", organization, kind)}?show=all"' in text


def test_an_export_is_recorded_with_what_it_holds(organization, viewer, export):
    rows(export(show="ended"))
    [entry] = entries(organization, AuditAction.ROTATION_EXPORT)
    assert (entry.actor, entry.target_label, entry.reason) == (viewer, "CSV", "ended rotations")
    rows(export("json"))
    newest = entries(organization, AuditAction.ROTATION_EXPORT)[-1]
    assert (newest.target_label, newest.reason) == ("JSON", "running rotations")


def test_a_tab_that_does_not_exist_leads_to_the_list_that_says_so_and_records_nothing(organization, viewer, client_of):
    client = client_of(viewer)
    before = snapshot()
    response = client.get(url("rotation_export", organization, "csv", show="eaten"))
    assert response.status_code == 302
    assert client.get(response["Location"]).status_code == 422
    assert snapshot() == before


def test_a_format_that_does_not_exist_is_not_there_and_records_nothing(export):
    before = snapshot()
    assert export("xlsx").status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize("name", ["=1+1", "+49", "-x", "@SUM(A1)"])
def test_no_cell_is_a_formula(organization, export, name):
    make_rotation(organization, make_key(organization, name).key, note=name)
    [row] = rows(export())
    assert row["name"] == row["note"] == f"'{name}"


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_any_name_survives_the_way(organization, export, name):
    make_rotation(organization, make_key(organization, name).key)
    assert [row["name"].removeprefix("'") for row in rows(export())] == [name]
    assert [row["name"] for row in rows(export("json"))] == [name]


def test_many_rotations_are_not_many_queries(organization, export):
    make_rotation(organization)
    with CaptureQueriesContext(connection) as few:
        assert len(rows(export())) == 1
    for _ in range(9):
        make_rotation(organization)
    with CaptureQueriesContext(connection) as many:
        assert len(rows(export())) == 10
    assert len(many) == len(few)
