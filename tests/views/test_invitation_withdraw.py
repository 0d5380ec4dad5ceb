"""Withdrawing an invitation."""

import pytest
from django.test import Client
from django.urls import reverse

from apikeys.models import AuditAction
from tests.factories import make_actor, make_invitation, make_organization
from tests.pages import HTMX, entries, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def withdraw(organization, admin, client_of):
    client = client_of(admin)
    return lambda pk, headers=None: client.post(url("invitation_withdraw", organization, pk), headers=headers)


@pytest.mark.parametrize("headers", [None, HTMX])
def test_its_link_is_good_no_longer(organization, admin, withdraw, headers):
    invitation, token = make_invitation(organization, "new@example.com")
    withdraw(invitation.pk, headers)
    assert Client().get(reverse("invitation_take", args=[token])).status_code == 410
    [entry] = entries(organization, AuditAction.INVITATION_WITHDRAW)
    assert (entry.actor, entry.target_label, entry.changes) == (admin, "new@example.com", {"role": ["viewer", None]})
    assert "new@example.com" not in [one.email for one in organization.invitations.open()]


def test_a_second_click_changes_nothing(organization, withdraw):
    invitation = make_invitation(organization).invitation
    withdraw(invitation.pk)
    before = snapshot()
    assert "accepted or withdrawn already" in messages_of(withdraw(invitation.pk))[-1]
    assert snapshot() == before


def test_another_organizations_is_not_there(withdraw):
    theirs = make_invitation(make_organization()).invitation
    for number in (theirs.pk, 0, 10**30):
        assert withdraw(number).status_code == 404
    theirs.refresh_from_db()
    assert theirs.withdrawn_at is None


def test_its_environments_can_be_deleted_then_and_not_before(organization, admin, client_of, withdraw):
    invitation = make_invitation(organization, role="operator", codes=["dev"]).invitation
    client, address = client_of(admin), url("environment_delete", organization, "dev")
    assert "limited to it" in client.get(address).text
    assert "change that under Members first" in messages_of(client.post(address))[-1]
    assert organization.environments.filter(code="dev").exists()
    invitation.withdraw(by=make_actor())
    assert client.post(address).status_code == 302
    assert not organization.environments.filter(code="dev").exists()
