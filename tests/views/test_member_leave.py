"""Leaving an organization oneself."""

import pytest
from django.test import Client

from apikeys.models import AuditAction, Role, Session
from tests.factories import make_key, make_member, make_organization
from tests.pages import HTMX, entries, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("role", Role)
def test_the_confirmation_asks_in_every_role_and_changes_nothing(organization, role, client_of):
    member = make_member(organization, role)
    make_key(organization, "checkout", owner=member)
    client = client_of(member)
    before = snapshot()
    response = client.get(url("member_leave", organization))
    assert is_whole_page(response)
    assert "Leave <bdi>Acme</bdi>?" in response.text
    assert [key.name for key in response.context["keys"]] == ["checkout"]
    assert is_partial(client.get(url("member_leave", organization), headers=HTMX))
    assert snapshot() == before


def test_who_leaves_hands_their_keys_over_in_the_same_step(organization, operator, viewer, client_of):
    key = make_key(organization, owner=operator.memberships.get()).key
    client = client_of(operator)
    before = snapshot()
    assert "keys_to" in client.post(url("member_leave", organization)).context["form"].errors
    assert snapshot() == before
    response = client.post(url("member_leave", organization), {"keys_to": viewer.memberships.get().pk})
    assert response["Location"] == "/"
    key.refresh_from_db()
    assert key.owner.user == viewer
    [entry] = entries(organization, AuditAction.MEMBER_LEAVE)
    assert (entry.actor, entry.target_label, entry.changes) == (operator, operator.email, {"role": ["operator", None]})
    assert entries(organization, AuditAction.MEMBER_REMOVE) == []


def test_without_another_organization_all_their_sessions_are_over(organization, viewer, client_of):
    client, elsewhere = client_of(viewer), client_of(viewer)
    client.post(url("member_leave", organization))
    assert not Session.objects.filter(user=viewer).exists()
    for one in (client, elsewhere):
        assert one.get(url("key_list", organization))["Location"].startswith("/accounts/login/")
    assert "You have left Acme." in client.get("/accounts/login/").text


def test_with_another_organization_they_stay_signed_in(organization, viewer, client_of):
    make_member(make_organization("other"), Role.VIEWER, viewer)
    client = client_of(viewer)
    client.post(url("member_leave", organization))
    assert client.get(url("key_list", organization)).status_code == 404
    assert client.get("/other/keys/").status_code == 200


def test_the_last_admin_stays(organization, client_of):
    founder = organization.members.get(user__email="founder@example.com")
    client = client_of(founder)
    before = snapshot()
    for headers in (None, HTMX):
        response = client.post(url("member_leave", organization), headers=headers)
        assert response.status_code == 422
        assert "at least one admin" in response.text
    assert snapshot() == before
    make_member(organization, Role.ADMIN)
    assert client.post(url("member_leave", organization)).status_code == 302


def test_the_address_of_ones_own_removal_leads_here(organization, admin, client_of):
    client, own = client_of(admin), url("member_remove", organization, admin.memberships.get().pk)
    for method in ("get", "post"):
        assert getattr(client, method)(own)["Location"] == url("member_leave", organization)
    assert admin.memberships.exists()


def test_it_is_ones_own_membership_whatever_the_form_says(organization, operator, viewer, client_of):
    client_of(viewer).post(url("member_leave", organization), {"pk": operator.memberships.get().pk, "member": "1"})
    assert operator.memberships.exists()
    assert not viewer.memberships.exists()


def test_nobody_leaves_by_a_form_from_elsewhere(organization, viewer):
    client = Client(enforce_csrf_checks=True)
    client.force_login(viewer)
    assert client.post(url("member_leave", organization)).status_code == 403
    assert viewer.memberships.exists()
