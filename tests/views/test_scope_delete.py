"""Deleting a scope that no key holds."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_organization, make_revoked_key, make_scope
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_confirmation_is_a_page_and_for_htmx_a_dialog(organization, client):
    before = snapshot()
    address = url("scope_delete", organization, "orders:read")
    assert is_whole_page(client.get(address))
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_an_unused_scope_is_deleted_and_that_recorded(organization, admin, client):
    response = client.post(url("scope_delete", organization, "orders:read"))
    assert response["Location"] == url("scope_list", organization)
    assert not organization.scopes.filter(name="orders:read").exists()
    [entry] = entries(organization, AuditAction.SCOPE_DELETE)
    assert (entry.actor, entry.target_label) == (admin, "orders:read")
    assert entry.changes == {"description": ["Read orders", None]}


def test_a_scope_of_a_key_even_a_dead_one_stays(organization, client):
    make_revoked_key(organization, scopes=["orders:read"])
    before = snapshot()
    response = client.post(url("scope_delete", organization, "orders:read"), headers=HTMX)
    assert response["HX-Redirect"] == url("scope_list", organization)
    assert "stays" in messages_of(response)[0]
    assert snapshot() == before


def test_a_double_submit_finds_nothing(organization, client):
    client.post(url("scope_delete", organization, "orders:read"))
    assert client.post(url("scope_delete", organization, "orders:read")).status_code == 404
    assert len(entries(organization, AuditAction.SCOPE_DELETE)) == 1


@pytest.mark.parametrize("name", ["unknown", "theirs:read", "%00"])
def test_a_scope_that_is_not_the_organizations_is_not_there(organization, client, name):
    theirs = make_scope(make_organization(), "theirs:read")
    assert client.post(f"/acme/scopes/{name}/delete").status_code in {400, 404}
    theirs.refresh_from_db()
