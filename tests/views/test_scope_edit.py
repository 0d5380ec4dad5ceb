"""Changing what a scope says it allows."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_key, make_organization, make_scope
from tests.pages import HTMX, entries, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_form_shows_what_is(organization, client):
    response = client.get(url("scope_edit", organization, "orders:read"))
    assert is_whole_page(response)
    assert "Read orders" in response.text


def test_a_change_is_saved_and_recorded_with_before_and_after(organization, admin, client):
    response = client.post(url("scope_edit", organization, "orders:read"), {"description": "Read every order"})
    assert response["Location"] == url("scope_list", organization)
    assert organization.scopes.get(name="orders:read").description == "Read every order"
    [entry] = entries(organization, AuditAction.SCOPE_EDIT)
    assert (entry.actor, entry.changes) == (admin, {"description": ["Read orders", "Read every order"]})


def test_the_name_stays_whatever_is_sent(organization, client):
    make_key(organization)
    client.post(url("scope_edit", organization, "orders:read"), {"description": "x", "name": "other:read"})
    assert organization.scopes.filter(name="orders:read").exists()


def test_saving_the_same_records_nothing(organization, client):
    before = snapshot()
    form = {"description": "Read orders"}
    assert client.post(url("scope_edit", organization, "orders:read"), form, headers=HTMX)["HX-Redirect"]
    assert snapshot() == before


@pytest.mark.parametrize("form", [{}, {"description": ""}, {"description": "x" * 201}, {"description": "a\0"}])
def test_bad_input_is_a_422_that_names_the_field(organization, client, form):
    before = snapshot()
    response = client.post(url("scope_edit", organization, "orders:read"), form)
    assert response.status_code == 422
    assert "description" in response.context["form"].errors
    assert snapshot() == before


@pytest.mark.parametrize("name", ["unknown", "theirs:read", "%00", "%FF", "x" * 300])
def test_a_scope_that_is_not_the_organizations_is_not_there(organization, client, name):
    make_scope(make_organization(), "theirs:read")
    assert client.get(f"/acme/scopes/{name}/edit").status_code in {400, 404}
    assert client.post(f"/acme/scopes/{name}/edit", {"description": "x"}).status_code in {400, 404}
