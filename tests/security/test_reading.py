"""Who has read what is sensitive is in the audit log: once an hour for each person and page."""

from datetime import datetime, timedelta

import pytest
from django.core.cache import caches
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import AuditAction
from apikeys.views import reading
from tests.factories import make_key
from tests.pages import HTMX, entries, url

pytestmark = pytest.mark.django_db

READS = {
    AuditAction.AUDIT_READ: "audit_list",
    AuditAction.MEMBER_READ: "member_list",
    AuditAction.KEY_READ: "key_detail",
}


@pytest.fixture
def key(organization):
    return make_key(organization).key


def address(organization, key, action):
    return url(READS[action], organization, *([key.public_id] if action == AuditAction.KEY_READ else []))


@pytest.mark.parametrize("action", READS)
def test_a_reading_is_an_entry_once_an_hour_for_each_person(
    organization, key, viewer, admin, client_of, action, monkeypatch
):
    for _ in range(3):
        assert client_of(viewer).get(address(organization, key, action)).status_code == 200
    [entry] = entries(organization, action)
    assert (entry.actor, entry.key_id) == (viewer, key.pk if action == AuditAction.KEY_READ else None)
    assert entry.address == "127.0.0.1"
    client_of(admin).get(address(organization, key, action))
    assert [entry.actor for entry in entries(organization, action)] == [viewer, admin]
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(reading.timezone, "now", lambda: later)
    client_of(viewer).get(address(organization, key, action))
    assert len(entries(organization, action)) == 3


def test_each_key_is_a_page_of_its_own_and_its_requests_are_the_same_page(organization, key, viewer, client_of):
    client, other = client_of(viewer), make_key(organization).key
    client.get(url("key_detail", organization, key.public_id))
    client.get(url("key_requests", organization, key.public_id))
    client.get(url("key_requests", organization, other.public_id))
    assert [entry.key_id for entry in entries(organization, AuditAction.KEY_READ)] == [key.pk, other.pk]
    shown = client.get(url("key_detail", organization, key.public_id))
    assert "looked at who uses the key" not in shown.text.split("<main")[1]


def test_what_a_page_asks_by_itself_and_what_was_refused_is_no_reading(organization, key, viewer, outsider, client_of):
    client = client_of(viewer)
    client.get(url("key_requests", organization, key.public_id), headers=HTMX | {"X-Poll": "1"})
    client.get(url("audit_list", organization), {"after": "odd"})
    client_of(outsider).get(url("audit_list", organization))
    client.get(url("key_detail", organization, "nosuchkey123"))
    assert not [entry for entry in entries(organization) if entry.action.endswith(".read")]


def test_a_page_that_was_read_this_hour_costs_nothing_more_and_the_first_time_an_entry(
    organization, key, viewer, client_of
):
    client = client_of(viewer)
    client.get(url("key_detail", organization, key.public_id))
    with CaptureQueriesContext(connection) as again:
        client.get(url("key_detail", organization, key.public_id))
    caches["process"].clear()  # as another process
    with CaptureQueriesContext(connection) as first:
        client.get(url("key_detail", organization, key.public_id))
    assert not any("INSERT" in query["sql"] for query in again)
    assert len(first) - len(again) <= 3


def test_the_hour_is_that_of_the_clock(organization, viewer, client_of, monkeypatch):
    at = datetime(2026, 5, 5, 10, 59, tzinfo=timezone.get_current_timezone())
    for minutes in (0, 2):
        monkeypatch.setattr(reading.timezone, "now", lambda now=at + timedelta(minutes=minutes): now)
        client_of(viewer).get(url("audit_list", organization))
    assert len(entries(organization, AuditAction.AUDIT_READ)) == 2
