"""Letting a paused key work again."""

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys.models import Actor, ApiKey, AuditAction
from tests.factories import make_event, make_expired_key, make_key, make_organization, make_revoked_key
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
BY = Actor.command()


def make(organization):
    issued = make_key(organization)
    issued.key.pause(by=BY)
    return issued


@pytest.fixture
def resume(organization, operator, client_of):
    client = client_of(operator)
    return lambda key, headers=None: client.post(url("key_resume", organization, key.public_id), headers=headers)


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def test_the_confirmation_is_a_page_and_for_htmx_a_dialog(organization, operator, client_of):
    key = make(organization).key
    make_event(key)
    client = client_of(operator)
    before = snapshot()
    assert is_whole_page(client.get(url("key_resume", organization, key.public_id)))
    assert is_partial(client.get(url("key_resume", organization, key.public_id), headers=HTMX))
    assert snapshot() == before


def test_a_resumed_key_works_and_the_change_is_recorded(organization, operator, verifier, resume):
    key, secret = make(organization)
    response = resume(key)
    assert response.status_code == 302
    assert response["Location"] == key.get_absolute_url()
    assert (stored(key).status, stored(key).paused_by) == ("active", None)
    assert verifier.verify(organization, secret.text).json()["outcome"] == "valid"
    [entry] = entries(organization, AuditAction.KEY_RESUME)
    assert (entry.actor, entry.key_id) == (operator, key.pk)
    assert list(entry.changes) == ["paused_at"]


def test_htmx_is_told_to_load_the_keys_page(organization, resume):
    key = make(organization).key
    assert resume(key, HTMX)["HX-Redirect"] == key.get_absolute_url()


def test_a_double_submit_does_it_once(organization, resume):
    key = make(organization).key
    resume(key)
    first = stored(key).paused_at
    response = resume(key)
    assert response.status_code == 302
    assert any("already" in message for message in messages_of(response))
    assert stored(key).paused_at == first
    assert len(entries(organization, AuditAction.KEY_RESUME)) == 1


def test_a_revoked_key_stays_revoked(organization, resume, operator, client_of):
    key = make_revoked_key(organization).key
    before = snapshot()
    response = resume(key)
    assert response["Location"] == key.get_absolute_url()
    assert any("revoked already" in message for message in messages_of(response))
    assert snapshot() == before


def test_an_expired_key_stays_expired(organization, resume):
    key = make_expired_key(organization).key
    assert resume(key).status_code == 302
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
        assert client.post(url("key_resume", organization, key.public_id)).status_code == 503
    assert stored(key).status == before


def test_another_organizations_key_is_not_there(organization, resume):
    theirs = make(make_organization()).key
    before = stored(theirs).status
    assert resume(theirs).status_code == 404
    assert stored(theirs).status == before
