"""Ending a key through its confirmation."""

import re
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys.models import Actor, ApiKey, AuditAction, Ending, RevocationReason, Rotation
from apikeys.models.key import WRITTEN_REASONS
from tests.factories import make_event, make_expired_key, make_key, make_organization, make_revoked_key, make_rotation
from tests.pages import HOSTILE, HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
BY = Actor.command()


@pytest.fixture
def revoke(organization, operator, client_of):
    client = client_of(operator)

    def post(key, *, headers=None, **form):
        return client.post(
            url("key_revoke", organization, key.public_id), {"reason": "unused", "note": ""} | form, headers=headers
        )

    return post


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def test_the_confirmation_shows_what_used_the_key_in_the_last_hour_day_and_week(organization, operator, client_of):
    key = make_key(organization, "checkout").key
    for hours in (0, 2, 3, 50, 60, 70, 300):
        make_event(key, ago=timedelta(hours=hours), address="203.0.113.9", user_agent="shop/2")
    response = client_of(operator).get(url("key_revoke", organization, key.public_id))
    recent = response.context["evidence"].recent
    assert (recent.hour, recent.day, recent.week) == (1, 3, 6)
    assert is_whole_page(response)
    for text in ["checkout", "203.0.113.9", "shop/2"]:
        assert text in response.text


def test_htmx_gets_the_dialog_alone(organization, operator, client_of):
    key = make_key(organization).key
    response = client_of(operator).get(url("key_revoke", organization, key.public_id), headers=HTMX)
    assert is_partial(response)


def test_looking_at_the_confirmation_changes_nothing(organization, operator, client_of):
    key = make_key(organization).key
    client = client_of(operator)
    before = snapshot()
    client.get(url("key_revoke", organization, key.public_id))
    assert snapshot() == before


def test_a_key_that_is_not_in_use_ends_with_a_reason_alone(organization, operator, verifier, revoke):
    key, secret = make_key(organization, "checkout")
    response = revoke(key, reason="leaked", note="Seen in a public log")
    assert response.status_code == 302
    assert response["Location"] == key.get_absolute_url()
    after = stored(key)
    assert (after.status, after.revoked_by, after.revoked_reason) == ("revoked", operator, "leaked")
    assert after.revoked_note == "Seen in a public log"
    assert verifier.verify(organization, secret.text).json()["outcome"] == "revoked"
    [entry] = entries(organization, AuditAction.KEY_REVOKE)
    assert (entry.actor, entry.reason) == (operator, "Suspected leak: Seen in a public log")
    assert (entry.key_id, entry.address) == (key.pk, "127.0.0.1")


def test_htmx_is_told_to_load_the_keys_page(organization, revoke):
    key = make_key(organization).key
    assert revoke(key, headers=HTMX)["HX-Redirect"] == key.get_absolute_url()


@pytest.mark.parametrize("typed", ["", "check", "CHECKOUT", "checkout2", "\0"])
def test_a_key_in_use_does_not_end_before_its_name_is_typed(organization, revoke, typed):
    key = make_key(organization, "checkout").key
    make_event(key)
    before = snapshot()
    for headers in (None, HTMX):
        response = revoke(key, confirmation=typed, headers=headers)
        assert response.status_code == 422
        assert "confirmation" in response.context["form"].errors
        assert is_partial(response) == bool(headers)
    assert snapshot() == before
    assert revoke(key, confirmation=" checkout ").status_code == 302
    assert stored(key).status == "revoked"


@pytest.mark.parametrize("name", [*HOSTILE.values(), "two  spaces", "a\u200bb"])
def test_any_name_can_be_typed(organization, revoke, name):
    key = make_key(organization, name).key
    make_event(key)
    refused = revoke(key, confirmation="other")
    assert "<script>alert" not in refused.text
    assert revoke(key, confirmation=name).status_code == 302
    assert stored(key).status == "revoked"


BAD = {
    "no reason": ({"reason": ""}, "reason"),
    "an unknown reason": ({"reason": "because"}, "reason"),
    "the reason of regenerating": ({"reason": "regenerated"}, "reason"),
    "the reason of a cancelled rotation": ({"reason": "cancelled"}, "reason"),
    "a note over its limit": ({"note": "x" * 501}, "note"),
    "a note with a NUL": ({"note": "a\0b"}, "note"),
    "a note with a control character": ({"note": "a\x1bb"}, "note"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_the_key_lives(organization, revoke, form, field):
    key = make_key(organization).key
    before = snapshot()
    response = revoke(key, **form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


def test_an_empty_form_is_told_that_a_reason_is_missing(organization, operator, client_of):
    key = make_key(organization).key
    response = client_of(operator).post(url("key_revoke", organization, key.public_id), {})
    assert response.status_code == 422
    assert "reason" in response.context["form"].errors


def test_a_full_key_is_not_kept_as_a_note(organization, revoke):
    key, secret = make_key(organization)
    response = revoke(key, note=f"leaked: {secret.text}")
    assert response.status_code == 422
    assert "fingerprint" in str(response.context["form"].errors["note"])


@pytest.mark.parametrize("reason", [value for value in RevocationReason.values if value not in WRITTEN_REASONS])
def test_every_reason_ends_it(organization, revoke, reason):
    key = make_key(organization).key
    assert revoke(key, reason=reason).status_code == 302
    assert stored(key).revoked_reason == reason


@pytest.mark.parametrize(
    ("which", "ending", "other"), [("old", Ending.OLD_REVOKED, "new"), ("new", Ending.NEW_REVOKED, "old")]
)
def test_either_key_of_a_rotation_can_be_revoked_and_the_other_goes_on(
    organization, verifier, revoke, which, ending, other
):
    old = make_key(organization)
    started = make_rotation(organization, old.key)
    both = {"old": old, "new": started.issued}
    response = revoke(both[which].key, reason="leaked")
    assert (response.status_code, response["Location"]) == (302, both[which].key.get_absolute_url())
    assert Rotation.objects.get().ending == ending
    assert stored(both[which].key).revoked_reason == RevocationReason.LEAKED
    assert verifier.verify(organization, both[which].secret.text).json()["outcome"] == "revoked"
    assert verifier.verify(organization, both[other].secret.text).json()["outcome"] == "valid"
    assert stored(both[other].key).expires_at is None


def test_a_double_submit_revokes_once_and_says_by_whom(organization, operator, revoke):
    key = make_key(organization).key
    revoke(key, note="first")
    response = revoke(key, note="second")
    assert response.status_code == 302
    assert any(operator.email in message for message in messages_of(response))
    assert stored(key).revoked_note == "first"
    assert len(entries(organization, AuditAction.KEY_REVOKE)) == 1


def test_a_revoked_keys_confirmation_leads_to_its_page(organization, operator, client_of):
    key = make_revoked_key(organization).key
    client = client_of(operator)
    assert client.get(url("key_revoke", organization, key.public_id))["Location"] == key.get_absolute_url()
    response = client.get(url("key_revoke", organization, key.public_id), headers=HTMX)
    assert response["HX-Redirect"] == key.get_absolute_url()


def test_paused_and_expired_keys_can_be_revoked(organization, revoke):
    paused, expired = make_key(organization).key, make_expired_key(organization).key
    paused.pause(by=BY)
    for key in (paused, expired):
        assert revoke(key).status_code == 302
        assert stored(key).status == "revoked"


def test_a_database_that_fails_at_the_entry_leaves_the_key_alive(organization, operator):
    key = make_key(organization).key
    client = Client(raise_request_exception=False)
    client.force_login(operator)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = client.post(url("key_revoke", organization, key.public_id), {"reason": "unused"})
    assert response.status_code == 503
    assert stored(key).status == "active"


def test_another_organizations_key_is_not_there(organization, revoke):
    theirs = make_key(make_organization()).key
    assert revoke(theirs).status_code == 404
    assert stored(theirs).status == "active"


def test_of_a_key_that_is_being_rotated_it_counts_who_has_not_moved(organization, operator, client_of, revoke):
    key = make_key(organization, "checkout").key
    for number in range(3):
        make_event(key, ago=timedelta(hours=2), address=f"192.0.2.{number}", user_agent="shop/2")
    rotation = make_rotation(organization, key).rotation
    for number in range(2):
        make_event(rotation.new_key, address=f"192.0.2.{number}", user_agent="shop/2")
    text = client_of(operator).get(url("key_revoke", organization, key.public_id)).text
    assert "This will break 1 caller that has not moved" in " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert f'href="{rotation.get_absolute_url()}"' in text
    assert "Rehearse it" not in text
    assert revoke(key).status_code == 422
    assert revoke(key, confirmation="checkout").status_code == 302
    assert stored(key).revoked_at
    rotation.refresh_from_db()
    assert rotation.closed_at


def test_of_a_key_whose_callers_have_all_moved_it_asks_for_no_name(organization, operator, client_of, revoke):
    key = make_key(organization, "checkout").key
    make_event(key, ago=timedelta(days=3), address="192.0.2.1", user_agent="shop/2")
    make_event(key, ago=timedelta(days=5), address="192.0.2.1", user_agent="shop/2")
    rotation = make_rotation(organization, key).rotation
    make_event(rotation.new_key, address="192.0.2.1", user_agent="shop/2")
    text = client_of(operator).get(url("key_revoke", organization, key.public_id)).text
    assert "This breaks nobody" in text
    assert revoke(key).status_code == 302


def test_of_a_rotations_new_key_it_shows_what_uses_it(organization, operator, client_of):
    rotation = make_rotation(organization, make_key(organization, "checkout").key).rotation
    make_event(rotation.new_key, address="192.0.2.9", user_agent="shop/2")
    response = client_of(operator).get(url("key_revoke", organization, rotation.new_key.public_id))
    assert response.context["progress"] is None
    assert "192.0.2.9" in response.text
