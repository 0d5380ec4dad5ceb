"""The catalogue of scopes."""

import pytest

from tests.factories import make_key, make_organization, make_scope
from tests.pages import HOSTILE, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


def test_it_shows_each_scope_with_what_it_allows_and_how_many_keys_hold_it(organization, viewer, client_of):
    make_key(organization, scopes=["orders:read"])
    make_key(organization, scopes=["orders:read", "orders:write"])
    client = client_of(viewer)
    before = snapshot()
    response = client.get(url("scope_list", organization))
    assert response.status_code == 200
    assert is_whole_page(response)
    assert [(scope.name, scope.key_count) for scope in response.context["scopes"]] == [
        ("orders:read", 2),
        ("orders:write", 1),
    ]
    assert "Create and change orders" in response.text
    assert snapshot() == before


def test_another_organizations_scopes_are_not_shown(organization, viewer, client_of):
    make_scope(make_organization(), "theirs:read")
    assert "theirs:read" not in client_of(viewer).get(url("scope_list", organization)).text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_descriptions_are_escaped(organization, viewer, client_of, text):
    make_scope(organization, "hostile:read", description=text)
    response = client_of(viewer).get(url("scope_list", organization))
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_who_may_not_change_scopes_sees_no_way_to(organization, operator, admin, client_of):
    address = url("scope_delete", organization, "orders:read")
    assert address not in client_of(operator).get(url("scope_list", organization)).text
    assert address in client_of(admin).get(url("scope_list", organization)).text
