"""Taking a person out of the organization, and handing their keys over."""

import pytest
from django.test import Client

from apikeys.models import AuditAction, KeyExemption, Member, MemberEnvironment, Role, Session
from tests.factories import (
    make_actor,
    make_exemption,
    make_key,
    make_limited,
    make_member,
    make_organization,
    make_revoked_key,
)
from tests.pages import HTMX, entries, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def remove(organization, client):
    return lambda member, headers=None, **form: client.post(
        url("member_remove", organization, member.pk), form, headers=headers
    )


def test_the_confirmation_shows_the_keys_and_who_could_take_them(organization, operator, viewer, client):
    member = operator.memberships.get()
    make_key(organization, "checkout", owner=member)
    before = snapshot()
    response = client.get(url("member_remove", organization, member.pk))
    assert is_whole_page(response)
    assert [key.name for key in response.context["keys"]] == ["checkout"]
    assert member not in response.context["form"].fields["keys_to"].queryset
    assert is_partial(client.get(url("member_remove", organization, member.pk), headers=HTMX))
    assert snapshot() == before


def test_a_person_without_keys_is_removed_by_one_click(organization, admin, viewer, remove, client_of):
    client = client_of(viewer)
    response = remove(viewer.memberships.get())
    assert response["Location"] == url("member_list", organization)
    assert not viewer.memberships.exists()
    [entry] = entries(organization, AuditAction.MEMBER_REMOVE)
    assert (entry.actor, entry.target_label, entry.changes) == (admin, viewer.email, {"role": ["viewer", None]})
    assert client.get(url("key_list", organization))["Location"].startswith("/accounts/login/")


def test_their_sessions_end_at_once_unless_they_have_another_organization(organization, viewer, operator, remove):
    for user in (viewer, operator):
        Client().force_login(user)
    make_member(make_organization("other"), Role.VIEWER, operator)
    for user in (viewer, operator):
        remove(user.memberships.get(organization=organization))
    assert [Session.objects.filter(user=user).count() for user in (viewer, operator)] == [0, 1]


def test_an_operators_limit_goes_with_them(organization, remove):
    member = make_limited(organization, "stag")
    remove(member)
    assert not MemberEnvironment.objects.exists()


def test_their_keys_even_dead_ones_go_to_somebody_else_each_with_its_entry(organization, operator, viewer, remove):
    leaving, staying = operator.memberships.get(), viewer.memberships.get()
    alive, dead = make_key(organization, owner=leaving).key, make_revoked_key(organization, owner=leaving).key
    response = remove(leaving, HTMX, keys_to=staying.pk)
    assert response["HX-Redirect"] == url("member_list", organization)
    for key in (alive, dead):
        key.refresh_from_db()
        assert key.owner == staying
    assert {entry.key_id for entry in entries(organization, AuditAction.KEY_EDIT)} == {alive.pk, dead.pk}


@pytest.mark.parametrize("keys_to", ["", "0", "nobody", "\0", "9" * 30])
def test_keys_without_a_taker_are_a_422_that_names_the_field(organization, operator, remove, keys_to):
    member = operator.memberships.get()
    make_key(organization, owner=member)
    before = snapshot()
    for headers in (None, HTMX):
        response = remove(member, headers, keys_to=keys_to)
        assert response.status_code == 422
        assert "keys_to" in response.context["form"].errors
        assert is_partial(response) == bool(headers)
    assert snapshot() == before


def test_a_silence_that_they_answer_for_goes_to_somebody_else(organization, operator, viewer, client, remove):
    leaving, staying = operator.memberships.get(), viewer.memberships.get()
    key = make_key(organization).key
    make_exemption(key, leaving)
    assert "They answer for the silence of 1 key." in client.get(url("member_remove", organization, leaving.pk)).text
    before = snapshot()
    assert "keys_to" in remove(leaving).context["form"].errors
    assert snapshot() == before
    assert remove(leaving, keys_to=staying.pk).status_code == 302
    assert KeyExemption.objects.get(pk=key.pk).owner == staying


def test_neither_themselves_nor_another_organizations_member_can_take_them(organization, operator, remove):
    member, theirs = operator.memberships.get(), make_member(make_organization())
    make_key(organization, owner=member)
    before = snapshot()
    for taker in (member, theirs):
        assert remove(member, keys_to=taker.pk).status_code == 422
    assert snapshot() == before


def test_the_last_admin_stays(admin, remove, organization):
    founder = Member.objects.get(user__email="founder@example.com")
    admin.memberships.get().change_role(Role.VIEWER, by=make_actor())
    client = Client()
    client.force_login(founder.user)
    before = snapshot()
    response = client.post(url("member_leave", organization))
    assert response.status_code == 422
    assert "at least one admin" in response.text
    assert snapshot() == before


def test_a_double_submit_finds_nobody(organization, viewer, remove):
    member = viewer.memberships.get()
    remove(member)
    assert remove(member).status_code == 404
    assert len(entries(organization, AuditAction.MEMBER_REMOVE)) == 1


def test_another_organizations_member_is_not_there(remove):
    theirs = make_member(make_organization(), Role.VIEWER)
    assert remove(theirs).status_code == 404
    theirs.refresh_from_db()
