"""Calling a rotation off: the new key is revoked, the old one keeps its own expiry."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys.models import AuditAction, Ending, RevocationReason
from tests.factories import make_actor, make_event, make_key, make_organization, make_overdue_rotation, make_rotation
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, soon, url

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def old(organization):
    return make_key(organization, "checkout")


@pytest.fixture
def cancel(organization, client):
    def post(rotation, *, headers=None, **form):
        return client.post(url("rotation_cancel", organization, rotation.pk), form, headers=headers)

    return post


def stored(thing):
    return type(thing)._default_manager.get(pk=thing.pk)


def test_the_confirmation_says_what_happens_to_each_key(organization, client):
    end = soon(30)
    started = make_rotation(organization, make_key(organization, expires_at=end).key)
    address = url("rotation_cancel", organization, started.rotation.pk)
    before = snapshot()
    response = client.get(address)
    assert is_whole_page(response)
    assert started.issued.key.fingerprint in response.text
    assert "is revoked at once and never comes back" in response.text
    assert "The old key goes on and expires" in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_without_a_new_key_yet_the_confirmation_speaks_of_the_link(organization, client, old):
    rotation = make_rotation(organization, old.key, link_lasts=DAY).rotation
    text = client.get(url("rotation_cancel", organization, rotation.pk)).text
    assert "The link to the new key is good no longer." in text
    assert "and never expires, as before" in text


@pytest.mark.parametrize("expires_at", [None, soon(30)])
def test_the_new_key_is_dead_and_the_old_one_goes_on_until_its_own_end(
    organization, operator, verifier, cancel, expires_at
):
    old = make_key(organization, "checkout", expires_at=expires_at)
    started = make_rotation(organization, old.key)
    response = cancel(started.rotation)
    assert (response.status_code, response["Location"]) == (302, started.rotation.get_absolute_url())
    assert messages_of(response) == ["The rotation is cancelled. checkout goes on as before."]
    assert verifier.verify(organization, started.issued.secret.text).json()["outcome"] == "revoked"
    assert verifier.verify(organization, old.secret.text).json()["outcome"] == "valid"
    assert stored(old.key).expires_at == expires_at
    assert stored(started.issued.key).revoked_reason == RevocationReason.CANCELLED
    found = stored(started.rotation)
    assert (found.ending, found.closed_by_label) == (Ending.CANCELLED, operator.email)
    [entry] = entries(organization, AuditAction.ROTATION_CANCEL)
    assert (entry.actor, entry.key_id) == (operator, old.key.pk)
    [entry] = entries(organization, AuditAction.KEY_REVOKE)
    assert (entry.actor, entry.key_id) == (operator, started.issued.key.pk)


def test_htmx_is_told_to_load_the_rotations_page(organization, old, cancel):
    rotation = make_rotation(organization, old.key).rotation
    assert cancel(rotation, headers=HTMX)["HX-Redirect"] == rotation.get_absolute_url()


@pytest.mark.parametrize("typed", [None, "", "CHECKOUT", "\0", "x" * 300])
def test_while_the_new_key_is_in_use_its_name_has_to_be_typed(organization, client, old, cancel, typed):
    started = make_rotation(organization, old.key)
    make_event(started.issued.key, address="192.0.2.1")
    text = client.get(url("rotation_cancel", organization, started.rotation.pk)).text
    for told in ("this will break 1 caller", "192.0.2.1", "Type checkout to confirm"):
        assert told in text, told
    before = snapshot()
    response = cancel(started.rotation, **({} if typed is None else {"confirmation": typed}))
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["confirmation"]
    assert snapshot() == before
    assert cancel(started.rotation, confirmation="checkout").status_code == 302


def test_use_of_the_old_key_asks_for_nothing(organization, client, old, cancel):
    make_event(old.key)
    rotation = make_rotation(organization, old.key).rotation
    assert "to confirm" not in client.get(url("rotation_cancel", organization, rotation.pk)).text
    assert cancel(rotation).status_code == 302


def test_cancelling_twice_cancels_once_and_says_by_whom(organization, operator, old, cancel):
    rotation = make_rotation(organization, old.key).rotation
    cancel(rotation)
    before = snapshot()
    for headers in (None, HTMX):
        response = cancel(rotation, headers=headers)
        assert response.headers.get("Location", response.headers.get("HX-Redirect")) == rotation.get_absolute_url()
        assert messages_of(response)[-1] == f"This rotation is over: cancelled, by {operator.email}."
    assert snapshot() == before


def test_what_was_finished_is_not_cancelled(organization, old, client, cancel):
    rotation = make_rotation(organization, old.key).rotation
    rotation.finish(by=BY)
    before = snapshot()
    assert "finished" in messages_of(cancel(rotation))[0]
    assert client.get(url("rotation_cancel", organization, rotation.pk)).status_code == 302
    assert snapshot() == before


def test_after_its_deadline_nothing_brings_the_old_key_back(organization, cancel):
    rotation = make_overdue_rotation(organization).rotation
    before = snapshot()
    response = cancel(rotation)
    assert messages_of(response) == ["The deadline of this rotation has passed: the old key is refused."]
    assert snapshot() == before


def test_the_link_is_good_no_longer(organization, old, cancel, client):
    started = make_rotation(organization, old.key, link_lasts=DAY)
    cancel(started.rotation)
    assert client.get(f"/handover/{started.token}").status_code == 410
    assert organization.keys.count() == 1


def test_the_old_key_can_be_rotated_again(organization, old, cancel):
    cancel(make_rotation(organization, old.key).rotation)
    assert make_rotation(organization, stored(old.key)).rotation.is_open


def test_a_database_that_fails_on_the_way_leaves_the_rotation_running(organization, operator, verifier, old):
    started = make_rotation(organization, old.key)
    client = Client(raise_request_exception=False)
    client.force_login(operator)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and AuditAction.KEY_REVOKE in map(str, params):
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        assert client.post(url("rotation_cancel", organization, started.rotation.pk)).status_code == 503
    assert stored(started.rotation).is_open
    assert verifier.verify(organization, started.issued.secret.text).json()["outcome"] == "valid"


def test_another_organizations_rotation_is_not_there(cancel):
    theirs = make_rotation(make_organization()).rotation
    before = snapshot()
    assert cancel(theirs).status_code == 404
    assert snapshot() == before


def test_a_viewer_may_not(organization, viewer, client_of, old):
    rotation = make_rotation(organization, old.key).rotation
    client = client_of(viewer)
    before = snapshot()
    assert client.post(url("rotation_cancel", organization, rotation.pk)).status_code == 403
    assert snapshot() == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, client, text):
    started = make_rotation(organization, make_key(organization, text).key)
    make_event(started.issued.key, user_agent=text)
    for headers in (None, HTMX):
        response = client.get(url("rotation_cancel", organization, started.rotation.pk), headers=headers)
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text
