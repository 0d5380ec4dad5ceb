"""Replacing a key at once, for a suspected leak."""

import uuid

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys import key_secret
from apikeys.models import ApiKey, AuditAction, RevocationReason
from tests.factories import make_expired_key, make_key, make_organization, make_revoked_key, make_rotation
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, soon, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def regenerate(organization, operator, client_of):
    client = client_of(operator)

    def post(key, *, headers=None, **form):
        form = {"token": str(uuid.uuid4())} | form
        return client.post(url("key_regenerate", organization, key.public_id), form, headers=headers)

    return post


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def test_the_confirmation_is_a_page_and_for_htmx_a_dialog(organization, operator, client_of):
    key = make_key(organization).key
    client = client_of(operator)
    before = snapshot()
    assert is_whole_page(client.get(url("key_regenerate", organization, key.public_id)))
    assert is_partial(client.get(url("key_regenerate", organization, key.public_id), headers=HTMX))
    assert snapshot() == before


def test_the_old_key_is_dead_and_the_new_one_works_on_the_same_terms(organization, verifier, regenerate):
    old, secret = make_key(
        organization, "checkout", networks=["127.0.0.0/8"], expires_at=soon(20), rate_limit=(5, 1, 9)
    )
    response = regenerate(old)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    text = response.context["secret"]
    assert verifier.verify(organization, secret.text).json()["outcome"] == "revoked"
    assert verifier.verify(organization, text).json()["outcome"] == "valid"
    new = organization.keys.get(public_id=key_secret.parse(text).public_id)
    assert new.terms == stored(old).terms
    assert new.replaces == old
    assert secret.text not in response.text


def test_it_is_recorded_as_issue_showing_revocation_and_regeneration(organization, operator, regenerate):
    old = make_key(organization).key
    before = len(entries(organization))
    regenerate(old)
    new = organization.keys.get(replaces=old)
    made = [(entry.action, entry.key_id, entry.actor) for entry in entries(organization)[before:]]
    assert made == [
        (AuditAction.KEY_ISSUE, new.pk, operator),
        (AuditAction.KEY_SHOW, new.pk, operator),
        (AuditAction.KEY_REVOKE, old.pk, operator),
        (AuditAction.KEY_REGENERATE, old.pk, operator),
    ]
    assert stored(old).revoked_reason == RevocationReason.REGENERATED


def test_a_double_submit_makes_one_key_and_shows_it_once(organization, regenerate):
    old = make_key(organization).key
    token = str(uuid.uuid4())
    first, second = regenerate(old, token=token), regenerate(old, token=token)
    assert second.status_code == 200
    assert first.context["secret"] not in second.text
    assert second.context["key"].replaces == old
    assert organization.keys.count() == 2


def test_another_form_for_a_replaced_key_is_told_that_it_is_revoked(organization, regenerate):
    old = make_key(organization).key
    regenerate(old)
    response = regenerate(old)
    assert response.status_code == 302
    assert any("revoked already" in message for message in messages_of(response))
    assert organization.keys.count() == 2


def test_a_token_that_is_none_is_a_422_and_the_key_lives(organization, regenerate):
    key = make_key(organization).key
    before = snapshot()
    for token in ("again", "\0", "x" * 500):
        response = regenerate(key, token=token)
        assert response.status_code == 422
        assert "token" in response.context["form"].errors
    assert snapshot() == before


@pytest.mark.parametrize("make", [make_revoked_key, make_expired_key])
def test_a_dead_key_is_not_replaced(organization, regenerate, make):
    key = make(organization).key
    before = snapshot()
    response = regenerate(key)
    assert response["Location"] == key.get_absolute_url()
    assert len(messages_of(response)) == 1
    assert snapshot() == before


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_key_that_is_being_rotated_is_not_replaced_and_it_leads_to_the_rotation(
    organization, operator, client_of, regenerate, which
):
    started = make_rotation(organization, make_key(organization, "checkout").key)
    key = {"old": started.rotation.old_key, "new": started.issued.key}[which]
    client = client_of(operator)
    before = snapshot()
    for response in (regenerate(key), client.get(url("key_regenerate", organization, key.public_id))):
        assert response["Location"] == started.rotation.get_absolute_url()
        told = "checkout is being rotated. Finish the rotation now, or cancel it, and try again."
        assert messages_of(response)[-1] == told
    assert snapshot() == before


def test_a_database_that_fails_on_the_way_leaves_the_old_key_working(organization, operator, verifier):
    key, secret = make_key(organization)
    client = Client(raise_request_exception=False)
    client.force_login(operator)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and AuditAction.KEY_REVOKE in map(str, params):
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = client.post(url("key_regenerate", organization, key.public_id), {"token": str(uuid.uuid4())})
    assert response.status_code == 503
    assert not key_secret.looks_like_key(response.text)
    assert organization.keys.count() == 1
    assert verifier.verify(organization, secret.text).status == 200


def test_another_organizations_key_is_not_there(organization, regenerate):
    theirs = make_key(make_organization()).key
    assert regenerate(theirs).status_code == 404
    assert stored(theirs).status == "active"
