"""The members."""

import pytest

from apikeys.models import Role
from tests.factories import make_key, make_member, make_organization, make_user
from tests.pages import HOSTILE, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


def test_it_shows_each_person_with_role_and_keys(organization, viewer, operator, client_of):
    make_key(organization, owner=operator.memberships.get())
    client = client_of(viewer)
    client.get(url("member_list", organization))
    before = snapshot()
    response = client.get(url("member_list", organization))
    assert is_whole_page(response)
    shown = {member.user.email: (member.role, member.key_count) for member in response.context["members"]}
    assert list(shown) == ["founder@example.com", "viewer@example.com", "operator@example.com"]
    assert shown == {
        "founder@example.com": ("admin", 0),
        "viewer@example.com": ("viewer", 0),
        "operator@example.com": ("operator", 1),
    }
    assert "Operator Person" in response.text
    assert snapshot() == before


def test_another_organizations_members_are_not_shown(organization, viewer, outsider, client_of):
    assert outsider.email not in client_of(viewer).get(url("member_list", organization)).text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, viewer, client_of, text):
    make_member(organization, Role.VIEWER, make_user(name=text))
    response = client_of(viewer).get(url("member_list", organization))
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_who_may_not_change_members_sees_no_way_to(organization, operator, admin, client_of):
    member = make_member(make_organization())
    member = make_member(organization)
    address = url("member_remove", organization, member.pk)
    assert address not in client_of(operator).get(url("member_list", organization)).text
    assert address in client_of(admin).get(url("member_list", organization)).text
