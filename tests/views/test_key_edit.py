"""Changing what was chosen for a key."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from apikeys.models import Actor, ApiKey, AuditAction
from tests.factories import (
    make_expired_key,
    make_key,
    make_member,
    make_organization,
    make_revoked_key,
    make_rotation,
    make_scope,
)
from tests.pages import HOSTILE, HTMX, edit_form, entries, is_whole_page, messages_of, snapshot, soon, url

pytestmark = pytest.mark.django_db
BY = Actor.command()


@pytest.fixture
def key(organization):
    return make_key(organization, "checkout", networks=["10.0.0.0/8"], expires_at=soon(20), rate_limit=(5, 1, 9)).key


@pytest.fixture
def edit(organization, operator, client_of):
    client = client_of(operator)

    def post(key, *, headers=None, **changes):
        return client.post(url("key_edit", organization, key.public_id), edit_form(key, **changes), headers=headers)

    return post


def stored(key):
    return ApiKey.objects.get(pk=key.pk)


def test_the_form_shows_what_is(organization, key, operator, client_of):
    response = client_of(operator).get(url("key_edit", organization, key.public_id))
    assert response.status_code == 200
    assert is_whole_page(response)
    initial = response.context["form"].initial
    assert (initial["name"], initial["networks"], initial["version"]) == ("checkout", "10.0.0.0/8", 1)
    assert "environment" not in response.context["form"].fields


def test_a_change_is_saved_and_recorded_with_before_and_after(organization, operator, key, edit):
    response = edit(key, name="checkout 2", scopes=["orders:read", "orders:write"], rate_limit="", rate_burst="")
    assert response.status_code == 302
    assert response["Location"] == key.get_absolute_url()
    after = stored(key)
    assert (after.name, after.scope_names, after.limit) == ("checkout 2", ["orders:read", "orders:write"], None)
    [entry] = entries(organization, AuditAction.KEY_EDIT)
    assert entry.actor == operator
    assert entry.changes == {
        "name": ["checkout", "checkout 2"],
        "scopes": [["orders:read"], ["orders:read", "orders:write"]],
        "rate_limit": ["5 per second, burst 9", None],
    }


def test_saving_without_a_change_records_nothing(organization, key, edit):
    before = snapshot()
    assert edit(key).status_code == 302
    assert snapshot() == before


def test_an_expiry_that_is_not_touched_stays_to_the_second(key, edit):
    edit(key, name="other")
    assert stored(key).expires_at == key.expires_at


def test_an_expired_key_may_be_renamed_or_get_a_later_end(organization, edit):
    key = make_expired_key(organization).key
    assert edit(key, name="still dead").status_code == 302
    assert stored(key).status == "expired"
    later = (timezone.now() + timedelta(days=9)).date().isoformat()
    assert edit(stored(key), expires="date", expires_on=later).status_code == 302
    assert stored(key).status == "active"


def test_the_owner_may_become_a_member(organization, key, edit):
    member = make_member(organization)
    edit(key, owner=member.pk, owner_contact="")
    assert (stored(key).owner, stored(key).owner_contact) == (member, "")


def test_htmx_is_told_to_load_the_keys_page(key, edit):
    response = edit(key, headers=HTMX, name="other")
    assert response["HX-Redirect"] == key.get_absolute_url()


def test_the_environment_and_what_a_key_is_cannot_be_changed(organization, key, edit):
    edit(key, environment="dev", public_id="x", digest="x", revoked_at="", name="other")
    after = stored(key)
    assert (after.environment.code, after.public_id, after.digest) == ("prod", key.public_id, key.digest)


BAD = {
    "no name": ({"name": ""}, "name"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name with a NUL": ({"name": "a\0"}, "name"),
    "no purpose": ({"purpose": " "}, "purpose"),
    "no scope": ({"scopes": []}, "scopes"),
    "an unknown scope": ({"scopes": ["moon:walk"]}, "scopes"),
    "nobody who owns it": ({"owner_contact": ""}, "owner"),
    "an expiry in the past": ({"expires_on": "2020-01-01"}, "expires_on"),
    "an expiry beyond 2100": ({"expires_on": "2101-01-01"}, "expires_on"),
    "a network with host bits": ({"networks": "10.0.0.1/8"}, "networks"),
    "a limit of nothing": ({"rate_limit": "0"}, "rate_limit"),
    "a version that is none": ({"version": "x"}, "version"),
}


@pytest.mark.parametrize(("changes", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_nothing_is_changed(key, edit, changes, field):
    before = snapshot()
    response = edit(key, **changes)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before


def test_an_empty_form_is_told_what_is_missing(organization, key, operator, client_of):
    response = client_of(operator).post(url("key_edit", organization, key.public_id), {})
    assert response.status_code == 422
    assert "name" in response.context["form"].errors


def test_nothing_of_another_organization_can_be_chosen(key, outsider, edit):
    theirs = outsider.memberships.get()
    make_scope(theirs.organization, "theirs:read")
    before = snapshot()
    for field, value in {"scopes": ["theirs:read"], "owner": theirs.pk}.items():
        response = edit(key, **{field: value})
        assert response.status_code == 422
        assert field in response.context["form"].errors
    assert snapshot() == before


def test_a_stale_form_says_who_changed_what_and_can_be_sent_again(key, edit):
    edit(key, name="theirs")
    response = edit(key, name="mine")
    assert response.status_code == 422
    assert stored(key).name == "theirs"
    assert "operator@example.com" in response.text
    assert "theirs" in response.text
    assert response.context["form"].data["version"] == "2"
    assert edit(stored(key), name="mine").status_code == 302
    assert stored(key).name == "mine"


def test_a_form_that_was_opened_while_the_key_was_rotated_does_not_save_the_deadline_as_its_expiry(
    organization, key, edit
):
    own = key.expires_at
    rotation = make_rotation(organization, key).rotation
    opened = stored(key)
    rotation.cancel(by=BY)
    response = edit(opened, purpose="Something else")
    assert response.status_code == 422
    assert "command line cancelled its rotation, and it has its own expiry again" in response.text
    assert stored(key).expires_at == own
    assert edit(stored(key), purpose="Something else").status_code == 302
    assert (stored(key).purpose, stored(key).expires_at) == ("Something else", own)


def test_a_key_that_was_revoked_meanwhile_is_not_changed(organization, key, operator, client_of, edit):
    form = edit_form(key, name="other")
    key.revoke(reason="unused", by=BY)
    client = client_of(operator)
    before = snapshot()
    response = client.post(url("key_edit", organization, key.public_id), form)
    assert response.status_code == 302
    assert any("revoked" in message for message in messages_of(response))
    assert snapshot() == before


def test_while_it_is_rotated_everything_but_the_old_keys_end_can_be_changed(organization, key, edit):
    started = make_rotation(organization, key, new_expires_at=soon(100))
    old, new = stored(key), stored(started.issued.key)
    assert edit(old, name="checkout 2").status_code == 302
    assert (stored(key).name, stored(key).expires_at) == ("checkout 2", old.expires_at)
    old, before = stored(key), snapshot()
    for expires in ({"expires": "never"}, {"expires": "365"}):
        response = edit(old, **expires)
        assert response.status_code == 422
        assert response.context["form"].errors["expires"] == ["Its rotation says when it ends: extend or cancel that."]
    assert snapshot() == before
    assert edit(new, expires="never").status_code == 302
    assert stored(new).expires_at is None


def test_a_revoked_key_has_no_form(organization, operator, client_of):
    key = make_revoked_key(organization).key
    client = client_of(operator)
    assert client.get(url("key_edit", organization, key.public_id)).status_code == 302
    assert client.post(url("key_edit", organization, key.public_id), {}).status_code == 302


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_name_is_kept_and_escaped(organization, key, operator, client_of, edit, text):
    assert edit(key, name=text, purpose=text).status_code == 302
    assert stored(key).name == text
    response = client_of(operator).get(url("key_edit", organization, key.public_id))
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_a_database_that_fails_at_the_entry_leaves_the_key_as_it_was(organization, key, operator):
    client = Client(raise_request_exception=False)
    client.force_login(operator)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = client.post(
            url("key_edit", organization, key.public_id), edit_form(key, name="other", scopes=["orders:write"])
        )
    assert response.status_code == 503
    assert (stored(key).name, stored(key).scope_names) == ("checkout", ["orders:read"])


def test_another_organizations_key_is_not_there(organization, operator, client_of):
    theirs = make_key(make_organization()).key
    client = client_of(operator)
    before = snapshot()
    assert client.get(url("key_edit", organization, theirs.public_id)).status_code == 404
    assert client.post(url("key_edit", organization, theirs.public_id), edit_form(theirs)).status_code == 404
    assert snapshot() == before
