"""Ending several keys at once: all of them or none."""

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys.models import ApiKey, AuditAction, Ending, Rotation
from apikeys.views.revocation import MAX_BULK
from tests.factories import make_event, make_key, make_organization, make_revoked_key, make_rotation
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


@pytest.fixture
def revoke(organization, client):
    def post(*keys, headers=None, **form):
        ids = [getattr(key, "public_id", key) for key in keys]
        form = {"reason": "unused", "note": "", "key": ids} | form
        return client.post(url("key_bulk_revoke", organization), form, headers=headers)

    return post


def statuses(*keys):
    return [ApiKey.objects.get(pk=key.pk).status for key in keys]


def test_the_confirmation_shows_each_key_and_what_uses_it(organization, client):
    first, second = make_key(organization, "first").key, make_key(organization, "second").key
    make_event(second, user_agent="shop/2")
    before = snapshot()
    address = url("key_bulk_revoke", organization, key=[first.public_id, second.public_id])
    response = client.get(address)
    assert is_whole_page(response)
    shown = {row["key"].name: row["recent"].week for row in response.context["rows"]}
    assert shown == {"first": 0, "second": 1}
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_all_of_them_end_each_with_its_entry(organization, operator, revoke):
    keys = [make_key(organization).key for _ in range(3)]
    other = make_key(organization).key
    response = revoke(*keys, reason="incident", note="Breach of the vault")
    assert response.status_code == 302
    assert response["Location"] == "/acme/keys/?status=revoked"
    assert statuses(*keys, other) == ["revoked"] * 3 + ["active"]
    found = entries(organization, AuditAction.KEY_REVOKE)
    assert {entry.key_id for entry in found} == {key.pk for key in keys}
    assert {(entry.actor, entry.reason) for entry in found} == {(operator, "Security incident: Breach of the vault")}


def test_htmx_is_told_to_load_the_list(organization, revoke):
    response = revoke(make_key(organization).key, headers=HTMX)
    assert response["HX-Redirect"] == "/acme/keys/?status=revoked"


@pytest.mark.parametrize("typed", ["", "revoke 3 keys", "revoke"])
def test_keys_in_use_do_not_end_before_it_is_typed(organization, revoke, typed):
    first, second = make_key(organization).key, make_key(organization).key
    make_event(second)
    before = snapshot()
    response = revoke(first, second, confirmation=typed)
    assert response.status_code == 422
    assert "confirmation" in response.context["form"].errors
    assert snapshot() == before
    assert revoke(first, second, confirmation="revoke 2 keys").status_code == 302
    assert statuses(first, second) == ["revoked"] * 2


def test_one_key_in_use_is_one_key(organization, revoke):
    key = make_key(organization).key
    make_event(key)
    assert revoke(key, confirmation="revoke 1 key").status_code == 302


@pytest.mark.parametrize(
    ("form", "field"),
    [({"reason": ""}, "reason"), ({"reason": "regenerated"}, "reason"), ({"note": "x" * 501}, "note")],
)
def test_bad_input_is_a_422_that_names_the_field_and_nothing_ends(organization, revoke, form, field):
    key = make_key(organization).key
    before = snapshot()
    for headers in (None, HTMX):
        response = revoke(key, headers=headers, **form)
        assert response.status_code == 422
        assert field in response.context["form"].errors
    assert snapshot() == before


def test_with_another_organizations_key_among_them_nothing_ends(organization, revoke):
    ours, theirs = make_key(organization).key, make_key(make_organization()).key
    before = snapshot()
    response = revoke(ours, theirs)
    assert response.status_code == 302
    assert "does not exist" in messages_of(response)[0]
    assert theirs.name not in messages_of(response)[0]
    assert snapshot() == before


@pytest.mark.parametrize("wrong", ["unknown", "", "\0", "a\0b", "x" * 5000, "\ufffd"])
def test_with_an_id_among_them_that_is_none_nothing_ends(organization, revoke, wrong):
    key = make_key(organization).key
    before = snapshot()
    assert revoke(key, wrong).status_code == 302
    assert snapshot() == before


def test_nothing_selected_says_so(organization, client, revoke):
    for response in (revoke(), client.get(url("key_bulk_revoke", organization))):
        assert response.status_code == 302
        assert "No key was selected." in messages_of(response)


def test_more_than_can_be_looked_at_says_so(organization, revoke):
    response = revoke(*(f"{number:012}" for number in range(MAX_BULK + 1)))
    assert response.status_code == 302
    assert "At most" in messages_of(response)[0]


def test_a_key_named_twice_is_one_key(organization, revoke):
    key = make_key(organization).key
    revoke(key, key)
    assert len(entries(organization, AuditAction.KEY_REVOKE)) == 1


def test_keys_that_are_revoked_already_are_left_out_and_named(organization, client, revoke):
    dead, alive = make_revoked_key(organization).key, make_key(organization).key
    response = client.get(url("key_bulk_revoke", organization, key=[dead.public_id, alive.public_id]))
    assert response.context["skipped"] == [dead]
    revoke(dead, alive)
    assert statuses(alive) == ["revoked"]
    assert len(entries(organization, AuditAction.KEY_REVOKE)) == 2


@pytest.mark.parametrize("new_first", [True, False])
def test_both_keys_of_a_rotation_end_and_the_rotation_with_them(organization, revoke, new_first):
    started = make_rotation(organization)
    keys = [started.rotation.old_key, started.issued.key]
    assert revoke(*(reversed(keys) if new_first else keys)).status_code == 302
    assert statuses(*keys) == ["revoked", "revoked"]
    rotation = Rotation.objects.get()
    assert rotation.closed_at
    assert rotation.ending in {Ending.OLD_REVOKED, Ending.NEW_REVOKED}


def test_a_double_submit_revokes_once(organization, revoke):
    key = make_key(organization).key
    revoke(key)
    response = revoke(key)
    assert response.status_code == 302
    assert "already" in messages_of(response)[0]
    assert len(entries(organization, AuditAction.KEY_REVOKE)) == 1


def test_a_database_that_fails_at_the_second_key_leaves_both_alive(organization, operator):
    keys = [make_key(organization).key for _ in range(2)]
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    seen = []

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            seen.append(sql)
            if len(seen) == 2:
                raise OperationalError("disk full")
        return execute(sql, params, many, context)

    form = {"reason": "unused", "key": [key.public_id for key in keys]}
    with connection.execute_wrapper(full):
        assert client.post(url("key_bulk_revoke", organization), form).status_code == 503
    assert len(seen) == 2
    assert statuses(*keys) == ["active"] * 2


def test_two_hundred_keys_are_shown_in_bounded_time(organization, client):
    keys = [make_key(organization).key for _ in range(10)]
    address = url("key_bulk_revoke", organization, key=[key.public_id for key in keys])
    with CaptureQueriesContext(connection) as few:
        client.get(url("key_bulk_revoke", organization, key=[keys[0].public_id]))
    with CaptureQueriesContext(connection) as many:
        client.get(address)
    # Three queries a key: its evidence is exact, not rolled up.
    assert len(many) - len(few) <= 3 * 9
