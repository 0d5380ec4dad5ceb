"""invite_member, as it is typed."""

import pytest

from apikeys.models import AuditAction
from tests.commands.running import run
from tests.factories import make_user
from tests.pages import entries, snapshot

pytestmark = pytest.mark.django_db
USUAL = ("--organization", "acme", "--email", "new@example.com", "--role", "operator")


@pytest.fixture(autouse=True)
def _organization(organization):
    return organization


def test_a_mail_is_sent_and_the_link_is_in_it_alone(organization, mailoutbox):
    ran = run("invite_member", *USUAL, "--environment", "Staging", "--name", "Nora")
    assert ran.status == 0
    invitation = organization.invitations.get()
    told = f"An invitation of new@example.com as operator of Acme, limited to staging, was sent. It is good until {
        invitation.expires_at:%Y-%m-%d %H:%M} UTC."
    assert ran.out.strip() == told
    [mail] = mailoutbox
    assert mail.to == ["new@example.com"]
    assert mail.body.partition("/invitation/")[2].split()[0] not in ran.out + ran.err
    [entry] = entries(organization, AuditAction.INVITATION_SEND)
    assert (entry.actor_label, entry.via) == ("command line", "command")


def test_json_says_what_it_is(organization):
    found = run("invite_member", *USUAL, "--environment", "dev", "--json").json
    expires = organization.invitations.get().expires_at.isoformat()
    assert found == {
        "organization": "acme",
        "email": "new@example.com",
        "role": "operator",
        "environments": ["dev"],
        "expires_at": expires,
    }


BAD = {
    "no such organization": (("--organization", "nowhere"), "--organization"),
    "no address": (("--email", "nora"), "--email"),
    "two lines": (("--email", "nora@example.com\nBcc: all@example.com"), "--email"),
    "a member": (("--email", "founder@example.com"), "--email"),
    "an unknown role": (("--role", "owner"), "--role"),
    "an unknown environment": (("--environment", "mars"), "--environment"),
    "a limit of a viewer": (("--role", "viewer", "--environment", "dev"), "--environment"),
    "a name of two lines": (("--name", "a\nb"), "--name"),
}


@pytest.mark.parametrize(("options", "named"), BAD.values(), ids=BAD)
def test_bad_input_names_the_option_and_invites_nobody(mailoutbox, options, named):
    before = snapshot()
    ran = run("invite_member", *USUAL, *options)
    assert ran.status
    assert named in ran.err
    assert (snapshot(), mailoutbox) == (before, [])


def test_an_account_makes_no_difference(mailoutbox):
    make_user("known@example.com")
    assert run("invite_member", *USUAL, "--email", "known@example.com").status == 0
    assert mailoutbox[0].to == ["known@example.com"]


def test_a_mail_that_cannot_be_sent_fails_and_the_invitation_waits(organization, mail_server):
    mail_server("Unreachable")
    ran = run("invite_member", *USUAL)
    assert ran.status == 1
    assert "can send it again there" in ran.err
    assert organization.invitations.open().count() == 1
