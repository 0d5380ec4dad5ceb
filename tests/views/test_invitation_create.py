"""Inviting a person: a mail with a link, and the same answer for every address."""

import re

import pytest
from django.db import OperationalError, connection
from django.test import Client

from apikeys.models import AuditAction, Invitation, User
from apikeys.models import invitation as invitations
from tests.factories import make_actor, make_invitation, make_member, make_user
from tests.pages import HTMX, entries, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()


@pytest.fixture
def invite(organization, admin, client_of):
    client = client_of(admin)

    def post(headers=None, **form):
        form = {"email": "new@example.com", "name": "Nora New", "role": "operator"} | form
        return client.post(url("invitation_create", organization), form, headers=headers)

    return post


def test_an_address_gets_a_mail_with_a_link_and_nobody_is_a_member_yet(organization, admin, invite, mailoutbox):
    response = invite(email="NEW@example.com ", environments=["stag"])
    assert response["Location"] == url("member_list", organization)
    assert messages_of(response) == ["An invitation was sent to new@example.com."]
    invitation = organization.invitations.get()
    assert (invitation.email, invitation.name, invitation.role) == ("new@example.com", "Nora New", "operator")
    assert [one.code for one in invitation.environments.all()] == ["stag"]
    assert invitation.mailed_at
    assert not User.objects.filter(email="new@example.com").exists()
    [entry] = entries(organization, AuditAction.INVITATION_SEND)
    assert (entry.actor, entry.target_label) == (admin, "new@example.com")
    assert entry.changes["role"] == [None, "operator"]
    assert entry.changes["environments"] == [None, "staging"]
    [mail] = mailoutbox
    assert mail.to == ["new@example.com"]
    [html] = [content for content, kind in mail.alternatives if kind == "text/html"]
    for text in (mail.body, html):
        assert re.search(r"http\S+/invitation/[\w-]{43}", text)
        for told in ("admin@example.com", "Acme", "operator", "staging"):
            assert told in text


def test_the_link_is_kept_nowhere_but_in_the_mail(invite, mailoutbox):
    response = invite()
    token = re.search(r"/invitation/([\w-]{43})", mailoutbox[0].body)[1]
    assert token not in str(snapshot())
    assert token not in response.text + str(response.headers)


def test_the_answer_tells_nothing_of_whether_there_is_an_account(organization, invite, mailoutbox):
    make_user("known@example.com")
    known, unknown = invite(email="known@example.com"), invite(email="nobody@example.com")
    assert known["Location"] == unknown["Location"]
    words = [
        message.replace("known@", "X@").replace("nobody@", "X@")
        for one in (known, unknown)
        for message in messages_of(one)[-1:]
    ]
    assert words[0] == words[1]
    bodies = [re.sub(r"invitation/[\w-]+", "", one.body.replace(one.to[0], "X")) for one in mailoutbox]
    assert bodies[0] == bodies[1]


def test_inviting_asks_the_same_of_the_database_for_every_address(organization, invite, mailoutbox):
    make_user("known@example.com")
    seen = []
    for email in ("first@example.com", "known@example.com", "nobody@example.com"):
        statements = []

        def note(execute, sql, params, many, context, statements=statements):
            statements.append(re.sub(r'"s\d+_x\d+"', "", sql))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            invite(email=email)
        seen.append(statements)
    assert seen[1] == seen[2]


def test_htmx_is_told_to_load_the_members(organization, invite):
    assert invite(headers=HTMX)["HX-Redirect"] == url("member_list", organization)


def test_who_is_a_member_already_is_a_422_that_says_so(organization, viewer, invite, mailoutbox):
    before = snapshot()
    response = invite(email="Viewer@example.com")
    assert response.status_code == 422
    assert response.context["form"].errors["email"] == ["This person is a member already."]
    assert (snapshot(), mailoutbox) == (before, [])


def test_an_address_is_invited_once_and_again_after_that_was_withdrawn(organization, invite, mailoutbox):
    invite()
    before = snapshot()
    response = invite()
    assert response.status_code == 422
    assert "invited already" in response.text
    assert snapshot() == before
    organization.invitations.get().withdraw(by=BY)
    assert invite().status_code == 302
    assert len(mailoutbox) == 2


BAD = {
    "no address": ({"email": ""}, "email"),
    "no address at all": ({"email": "nora"}, "email"),
    "an address over its limit": ({"email": f"{'x' * 250}@example.com"}, "email"),
    "an address with a NUL": ({"email": "no\0ra@example.com"}, "email"),
    "two lines": ({"email": "nora@example.com\nbcc: all@example.com"}, "email"),
    "two lines of another kind": ({"email": "nora@example.com\r\nBcc: all@example.com"}, "email"),
    "two addresses": ({"email": "nora@example.com,all@example.com"}, "email"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name with a NUL": ({"name": "a\0"}, "name"),
    "a name of two lines": ({"name": "a\nb"}, "name"),
    "no role": ({"role": ""}, "role"),
    "an unknown role": ({"role": "owner"}, "role"),
    "an unknown environment": ({"environments": ["nowhere"]}, "environments"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_nobody_is_invited(invite, mailoutbox, form, field):
    before = snapshot()
    response = invite(**form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert snapshot() == before
    assert mailoutbox == []


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_only_an_operator_is_limited(organization, invite, role):
    assert invite(role=role, environments=["stag"]).status_code == 302
    assert not organization.invitations.get().environments.exists()


def test_so_many_may_wait_and_no_more(organization, invite, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 2)
    for _ in range(2):
        make_invitation(organization)
    response = invite()
    assert response.status_code == 422
    assert "2 invitations wait already" in response.text
    organization.invitations.first().withdraw(by=BY)
    assert invite().status_code == 302


def test_so_many_may_be_made_in_an_hour_and_no_more(organization, invite, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_AN_HOUR", 2)
    for _ in range(2):
        make_invitation(organization).invitation.withdraw(by=BY)
    assert "At most 2 people can be invited in an hour" in invite().text
    Invitation.objects.update(created_at="2026-01-01T00:00:00Z")
    assert invite().status_code == 302


def test_a_mail_that_cannot_be_sent_is_told_and_the_invitation_waits(organization, invite, mail_server):
    mail_server("Unreachable")
    response = invite()
    assert "could not be sent" in messages_of(response)[0]
    assert organization.invitations.get().mailed_at is None
    mail_server()


def test_a_database_that_fails_at_the_entry_leaves_no_invitation_and_sends_no_mail(organization, admin, mailoutbox):
    client = Client(raise_request_exception=False)
    client.force_login(admin)

    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "apikeys_auditentry" in sql:
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    form = {"email": "new@example.com", "name": "", "role": "viewer"}
    with connection.execute_wrapper(full):
        assert client.post(url("invitation_create", organization), form).status_code == 503
    assert not Invitation.objects.exists()
    assert mailoutbox == []


def test_its_address_alone_leads_to_the_list_with_the_form(organization, admin, client_of):
    response = client_of(admin).get(url("invitation_create", organization))
    assert (response.status_code, response["Location"]) == (302, url("member_list", organization))


def test_a_member_of_another_organization_is_invited_like_anybody(organization, outsider, invite, mailoutbox):
    make_member(organization)
    assert invite(email=outsider.email).status_code == 302
    assert outsider.memberships.count() == 1
