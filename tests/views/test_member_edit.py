"""Changing what a member may do."""

import pytest

from apikeys.models import AuditAction, Member, Role
from tests.factories import make_key, make_member, make_organization
from tests.pages import HTMX, entries, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def edit(organization, client):
    return lambda member, role, headers=None: client.post(
        url("member_edit", organization, member.pk), {"role": role}, headers=headers
    )


def test_the_form_shows_the_role(organization, client, viewer):
    response = client.get(url("member_edit", organization, viewer.memberships.get().pk))
    assert is_whole_page(response)
    assert response.context["form"].initial == {"role": "viewer", "environments": []}


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_a_change_is_saved_and_recorded(organization, admin, viewer, edit, role):
    response = edit(viewer.memberships.get(), role)
    assert response["Location"] == url("member_list", organization)
    assert viewer.memberships.get().role == role
    [entry] = entries(organization, AuditAction.MEMBER_EDIT)
    assert (entry.actor, entry.target_label) == (admin, viewer.email)
    assert entry.changes == {"role": ["viewer", role]}


def test_the_new_role_counts_at_once(organization, viewer, edit, client_of):
    client = client_of(viewer)
    assert client.get(url("key_create", organization)).status_code == 403
    edit(viewer.memberships.get(), "operator", HTMX)
    assert client.get(url("key_create", organization)).status_code == 200


def test_the_same_role_records_nothing(organization, viewer, edit):
    before = snapshot()
    assert edit(viewer.memberships.get(), "viewer").status_code == 302
    assert snapshot() == before


@pytest.mark.parametrize("role", ["", "owner", "Admin", "\0", "x" * 300])
def test_a_role_that_does_not_exist_is_a_422_that_names_the_field(viewer, edit, role):
    before = snapshot()
    response = edit(viewer.memberships.get(), role)
    assert response.status_code == 422
    assert "role" in response.context["form"].errors
    assert snapshot() == before


def test_the_last_admin_stays_one(organization, admin, edit):
    founder = Member.objects.get(user__email="founder@example.com")
    assert edit(founder, "viewer").status_code == 302
    before = snapshot()
    response = edit(admin.memberships.get(), "viewer")
    assert response.status_code == 422
    assert "at least one admin" in response.text
    assert snapshot() == before


def test_who_steps_down_may_not_change_members_any_more(admin, viewer, edit):
    assert edit(admin.memberships.get(), "viewer").status_code == 302
    assert edit(viewer.memberships.get(), "admin").status_code == 403


@pytest.mark.parametrize("pk", [0, 999_999, 10**30])
def test_a_number_that_is_nobodys_is_not_there(organization, client, pk):
    assert client.get(f"/acme/members/{pk}/edit").status_code == 404
    assert client.post(f"/acme/members/{pk}/edit", {"role": "admin"}).status_code == 404


def test_another_organizations_member_is_not_there(organization, outsider, edit):
    theirs = make_member(make_organization(), Role.VIEWER)
    make_key(theirs.organization, owner=theirs)
    assert edit(theirs, "admin").status_code == 404
    theirs.refresh_from_db()
    assert theirs.role == "viewer"
