"""Stopping a key until it is resumed, or for a time."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from apikeys.models import ApiKey, AuditAction, Outcome
from tests.factories import make_event, make_expired_key, make_key, make_organization, make_revoked_key
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


make = make_key


@pytest.fixture
def pause(organization, operator, client_of):
    client = client_of(operator)
    return lambda key, headers=None: client.post(url("key_pause", organization, key.public_id), headers=headers)


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def test_the_confirmation_is_a_page_and_for_htmx_a_dialog(organization, operator, client_of):
    key = make(organization).key
    make_event(key)
    client = client_of(operator)
    before = snapshot()
    assert is_whole_page(client.get(url("key_pause", organization, key.public_id)))
    assert is_partial(client.get(url("key_pause", organization, key.public_id), headers=HTMX))
    assert snapshot() == before


def test_a_paused_key_is_refused_and_the_change_recorded(organization, operator, verifier, pause):
    key, secret = make(organization)
    response = pause(key)
    assert response.status_code == 302
    assert response["Location"] == key.get_absolute_url()
    assert (stored(key).status, stored(key).paused_by) == ("paused", operator)
    assert verifier.verify(organization, secret.text).json()["outcome"] == "paused"
    [entry] = entries(organization, AuditAction.KEY_PAUSE)
    assert (entry.actor, entry.key_id) == (operator, key.pk)


def test_htmx_is_told_to_load_the_keys_page(organization, pause):
    key = make(organization).key
    assert pause(key, HTMX)["HX-Redirect"] == key.get_absolute_url()


def test_a_double_submit_does_it_once(organization, pause):
    key = make(organization).key
    pause(key)
    first = stored(key).paused_at
    response = pause(key)
    assert response.status_code == 302
    assert any("already" in message for message in messages_of(response))
    assert stored(key).paused_at == first
    assert len(entries(organization, AuditAction.KEY_PAUSE)) == 1


def test_a_revoked_key_stays_revoked(organization, pause, operator, client_of):
    key = make_revoked_key(organization).key
    before = snapshot()
    response = pause(key)
    assert response["Location"] == key.get_absolute_url()
    assert any("revoked already" in message for message in messages_of(response))
    assert snapshot() == before


def test_an_expired_key_stays_expired(organization, pause):
    key = make_expired_key(organization).key
    assert pause(key).status_code == 302
    assert stored(key).status == "expired"


def test_a_database_that_fails_at_the_entry_leaves_the_key_as_it_was(organization, operator):
    key = make(organization).key
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    before = stored(key).status

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        assert client.post(url("key_pause", organization, key.public_id)).status_code == 503
    assert stored(key).status == before


def test_another_organizations_key_is_not_there(organization, pause):
    theirs = make(make_organization()).key
    before = stored(theirs).status
    assert pause(theirs).status_code == 404
    assert stored(theirs).status == before


# For a time: a rehearsal of its end


def test_it_may_last_a_time_and_then_says_when_it_ends(organization, operator, client_of):
    key = make(organization).key
    client = client_of(operator)
    response = client.post(url("key_pause", organization, key.public_id), {"lasting": "15"})
    assert any("refused for 15 minutes" in message for message in messages_of(response))
    found = stored(key)
    assert found.paused_until - found.paused_at == timedelta(minutes=15)
    text = client.get(key.get_absolute_url()).text
    assert "until the pause ends by itself" in text
    assert "Nobody has been refused yet." in text
    assert "Paused, 14 min" in client.get(url("key_list", organization)).text


@pytest.mark.parametrize("lasting", ["7", "-5", "abc", "99999999999", "0", "15.0", "Infinity", "x" * 5000])
def test_a_time_that_is_no_choice_is_refused(organization, operator, client_of, lasting):
    key = make(organization).key
    client = client_of(operator)
    before = snapshot()
    response = client.post(url("key_pause", organization, key.public_id), {"lasting": lasting})
    assert response.status_code == 422
    assert "For how long" in response.text
    assert snapshot() == before


def test_the_way_from_revoking_chooses_some_minutes(organization, operator, client_of):
    key = make(organization).key
    client = client_of(operator)
    asked = url("key_pause", organization, key.public_id) + "?lasting=15"
    assert asked in client.get(url("key_revoke", organization, key.public_id)).text
    assert '<option value="15" selected>15 minutes</option>' in client.get(asked).text
    assert " selected>" not in client.get(asked.replace("15", "16")).text


def test_the_page_shows_who_is_refused_and_the_poll_brings_it(organization, viewer, client_of):
    key = make(organization).key
    now = timezone.now()
    ApiKey.objects.filter(pk=key.pk).update(paused_at=now - timedelta(minutes=5), paused_until=now + timedelta(hours=1))
    make_event(key, outcome=Outcome.PAUSED, address="192.0.2.77")
    client = client_of(viewer)
    page = client.get(key.get_absolute_url()).text
    assert page.index("Who is refused") < page.index("192.0.2.77")
    polled = client.get(url("key_requests", organization, key.public_id), headers=HTMX | {"X-Key-Was": "paused"})
    assert 'id="paused_callers" hx-swap-oob="true"' in polled.text
    assert "HX-Refresh" not in polled


def test_when_it_is_over_an_open_page_loads_itself_anew_and_says_who_was_refused(organization, viewer, client_of):
    key = make(organization).key
    now = timezone.now()
    until = now - timedelta(minutes=1)
    ApiKey.objects.filter(pk=key.pk).update(paused_at=now - timedelta(minutes=16), paused_until=until)
    client = client_of(viewer)
    asked = url("key_requests", organization, key.public_id)
    assert client.get(asked, headers=HTMX | {"X-Key-Was": "paused"})["HX-Refresh"] == "true"
    assert "HX-Refresh" not in client.get(asked, headers=HTMX | {"X-Key-Was": "active"})
    page = client.get(key.get_absolute_url()).text
    assert "Its pause ended by itself" in page
    assert "after 15 min" in page
    assert "Nobody was refused meanwhile." in page
    make_event(key, at=until - timedelta(minutes=2), outcome=Outcome.PAUSED)
    assert "Who was refused meanwhile is below." in client.get(key.get_absolute_url()).text
