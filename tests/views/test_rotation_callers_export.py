"""The callers of a rotation as CSV and JSON: where each is, and what it did with either key."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, Outcome, Rotation
from tests.factories import make_event, make_key, make_old_key, make_organization, make_rotation
from tests.pages import HOSTILE, entries, snapshot, url

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def old(organization):
    return make_key(organization, "checkout").key


@pytest.fixture
def new(organization):
    return make_old_key(organization, DAY)


@pytest.fixture
def rotation(organization, old, new):
    """A rotation whose new key is a day old, so that it can have been used before now."""
    started = make_rotation(organization, old).rotation
    Rotation.objects.filter(pk=started.pk).update(new_key=new, started_at=timezone.now() - DAY)
    return Rotation.objects.for_pages().get(pk=started.pk)


@pytest.fixture
def export(organization, viewer, client_of, rotation):
    client = client_of(viewer)
    return lambda kind="json", number=None: client.get(
        url("rotation_callers_export", organization, number or rotation.pk, kind)
    )


def rows(response):
    text = b"".join(response.streaming_content).decode()
    if response["Content-Type"] == "application/json":
        return json.loads(text)
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_caller_is_a_row_with_its_place_and_its_requests_on_each_key(viewer, old, new, rotation, export):
    viewer.choose_time_zone("Asia/Tokyo")
    make_event(old, ago=2 * HOUR, address="192.0.2.1", user_agent="shop/2")
    last = make_event(old, ago=HOUR, address="192.0.2.1", user_agent="shop/2")
    make_event(new, ago=HOUR, address="192.0.2.1", user_agent="shop/2", outcome=Outcome.NETWORK_DENIED)
    make_event(new, ago=2 * HOUR, address="192.0.2.2")
    make_event(old, ago=MINUTE, address="192.0.2.2")
    make_event(new, ago=HOUR, address="192.0.2.3")
    response = export()
    assert response["Content-Disposition"] == f'attachment; filename="acme-rotation-{rotation.pk}-callers.json"'
    assert "no-store" in response["Cache-Control"]
    found = rows(response)
    assert [(row["place"], row["address"]) for row in found] == [
        ("old", "192.0.2.1"),
        ("both", "192.0.2.2"),
        ("new", "192.0.2.3"),
    ]
    stays, both, moved = found
    assert (stays["old_accepted"], stays["new_accepted"], stays["new_refused"]) == (2, 0, 1)
    assert stays["old_last_seen"].endswith("+09:00")
    assert timezone.datetime.fromisoformat(stays["old_last_seen"]) == last.at
    assert stays["old_first_seen"] < stays["old_last_seen"]
    assert (stays["may_return"], both["may_return"], moved["may_return"]) == (True, True, False)
    assert (moved["old_accepted"], moved["old_last_seen"], moved["new_accepted"]) == (0, None, 1)


def test_it_holds_every_caller_that_the_page_counts(viewer, client_of, old, rotation, export):
    for number in range(60):
        make_event(old, address=f"192.0.2.{number}")
    progress = client_of(viewer).get(rotation.get_absolute_url()).context["progress"]
    exported = rows(export())
    assert [row["address"] for row in exported] == [move.address for move in progress.still_old]
    assert len(exported) == 60


def test_csv_and_json_hold_the_same(old, new, export):
    make_event(old, address="192.0.2.1")
    make_event(new, address="192.0.2.2")
    as_json = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows(export())]
    assert rows(export("csv")) == as_json


def test_nobody_is_an_empty_file(export):
    assert rows(export("csv")) == rows(export("json")) == []


def test_one_whose_key_nobody_took_yet_has_its_callers_too(organization, export):
    key = make_key(organization).key
    make_event(key, address="192.0.2.1")
    awaited = make_rotation(organization, key, link_lasts=DAY).rotation
    assert [row["place"] for row in rows(export(number=awaited.pk))] == ["old"]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_page_leads_to_it(organization, viewer, client_of, rotation, kind):
    text = client_of(viewer).get(rotation.get_absolute_url()).text
    assert f'href="{url("rotation_callers_export", organization, rotation.pk, kind)}"' in text


def test_who_tries_the_old_key_afterwards_is_exported_as_on_its_own_page(organization, viewer, client_of, old):
    rotation = make_rotation(organization, old, overlap=timedelta()).rotation
    make_event(old, outcome=Outcome.REVOKED, address="192.0.2.66")
    text = client_of(viewer).get(rotation.get_absolute_url()).text
    assert f'href="{url("key_usage_export", organization, old.public_id, "tries", "csv")}"' in text


def test_an_export_is_recorded_with_what_it_holds(organization, viewer, old, rotation, export):
    rows(export("csv"))
    [entry] = entries(organization, AuditAction.USAGE_EXPORT)
    assert (entry.actor, entry.key_id, entry.reason) == (viewer, old.pk, f"callers of rotation {rotation.pk}, CSV")


def test_a_format_that_does_not_exist_is_not_there_and_records_nothing(export):
    before = snapshot()
    assert export("xlsx").status_code == 404
    assert snapshot() == before


@pytest.mark.parametrize("text", [*HOSTILE.values(), "=1+1", "@x"])
def test_what_callers_send_is_no_formula_and_no_fault(old, export, text):
    make_event(old, user_agent=text)
    [row] = rows(export("csv"))
    assert row["user_agent"].removeprefix("'") == text
    assert not row["user_agent"].startswith(("=", "@"))


def test_another_organizations_rotation_is_not_there(export):
    theirs = make_rotation(make_organization()).rotation
    before = snapshot()
    assert export(number=theirs.pk).status_code == 404
    assert snapshot() == before
