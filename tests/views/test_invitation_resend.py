"""Sending an invitation again: a new link, and the old one dies."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.models import AuditAction, Invitation, Role
from tests.factories import make_actor, make_invitation, make_organization
from tests.pages import entries, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(organization):
    return make_invitation(organization, "new@example.com")


@pytest.fixture
def resend(organization, admin, client_of):
    client = client_of(admin)
    return lambda pk: client.post(url("invitation_resend", organization, pk))


def opened(token):
    return Client().get(reverse("invitation_take", args=[token])).status_code


def test_a_new_link_is_mailed_and_the_old_one_is_good_no_longer(organization, admin, sent, resend, mailoutbox):
    before = sent.invitation.expires_at
    Invitation.objects.update(expires_at=before - timedelta(days=3))
    assert opened(sent.token) == 200
    response = resend(sent.invitation.pk)
    assert response["Location"] == url("member_list", organization)
    assert messages_of(response) == ["An invitation was sent to new@example.com."]
    assert opened(sent.token) == 410
    token = mailoutbox[0].body.partition("/invitation/")[2].split()[0]
    assert opened(token) == 200
    invitation = organization.invitations.get()
    assert invitation.expires_at > before - timedelta(days=3)
    assert invitation.invited_by == admin
    [entry] = entries(organization, AuditAction.INVITATION_RESEND)
    assert entry.target_label == "new@example.com"
    assert list(entry.changes) == ["good_until"]


def test_one_whose_time_is_over_is_good_again(sent, resend, mailoutbox):
    Invitation.objects.update(expires_at=timezone.now())
    resend(sent.invitation.pk)
    assert opened(mailoutbox[0].body.partition("/invitation/")[2].split()[0]) == 200


def test_one_whose_sender_is_no_admin_any_more_is_good_again(organization, operator, resend, mailoutbox):
    sent = make_invitation(organization, by=make_actor(operator))
    assert opened(sent.token) == 410
    resend(sent.invitation.pk)
    assert opened(mailoutbox[0].body.partition("/invitation/")[2].split()[0]) == 200


def test_a_second_mail_waits_a_little(sent, resend, mailoutbox):
    resend(sent.invitation.pk)
    before = snapshot()
    response = resend(sent.invitation.pk)
    assert messages_of(response)[-1] == "new@example.com was mailed less than 2 minutes ago. Wait a little."
    assert (snapshot(), len(mailoutbox)) == (before, 1)
    Invitation.objects.update(mailed_at=timezone.now() - timedelta(minutes=3))
    resend(sent.invitation.pk)
    assert len(mailoutbox) == 2


def test_after_a_mail_that_failed_nobody_waits(sent, resend, mail_server, mailoutbox):
    mail_server("Unreachable")
    assert "could not be sent" in messages_of(resend(sent.invitation.pk))[-1]
    mail_server()
    resend(sent.invitation.pk)
    assert len(mailoutbox) == 1


def test_one_that_is_over_is_told_and_mails_nobody(organization, sent, resend, mailoutbox):
    sent.invitation.withdraw(by=make_actor())
    before = snapshot()
    assert "accepted or withdrawn already" in messages_of(resend(sent.invitation.pk))[-1]
    assert (snapshot(), mailoutbox) == (before, [])


def test_another_organizations_is_not_there(resend, mailoutbox):
    theirs = make_invitation(make_organization(), role=Role.ADMIN)
    for number in (theirs.invitation.pk, 0, 10**30):
        assert resend(number).status_code == 404
    assert mailoutbox == []
