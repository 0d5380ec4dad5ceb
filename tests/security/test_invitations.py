"""Attacks on the way into an organization: another person's link, forged and replayed ones, more than was offered."""

import hashlib
import re
import time
from datetime import timedelta

import pytest
from django.core import mail
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apikeys.logs import without_secrets
from apikeys.models import Invitation, InvitationOverError, InvitationTerms, Member, Role, Session, User
from tests.factories import (
    PASSWORD,
    make_actor,
    make_invitation,
    make_key,
    make_member,
    make_organization,
    make_rotation,
    make_user,
)
from tests.pages import HTMX, snapshot, url

pytestmark = pytest.mark.django_db
ACCOUNT = {"name": "Nora New", "password1": "plum orbit canyon", "password2": "plum orbit canyon"}
BY = make_actor()


@pytest.fixture(autouse=True)
def _unlimited():
    cache.clear()  # limits are counted there


@pytest.fixture
def sent(organization):
    return make_invitation(organization, "new@example.com")


def take_url(token):
    return reverse("invitation_take", args=[token])


# Another person's link


@pytest.mark.parametrize("role", Role)
def test_a_member_of_any_role_cannot_use_another_persons_link(organization, sent, client_of, role):
    client = client_of(make_member(organization, role))
    before = snapshot()
    assert client.post(take_url(sent.token), ACCOUNT).status_code == 403
    assert snapshot() == before


def test_somebody_of_another_organization_cannot_use_it_either(sent, outsider, client_of):
    client = client_of(outsider)
    before = snapshot()
    assert client.post(take_url(sent.token), ACCOUNT).status_code == 403
    assert snapshot() == before


def test_the_verb_refuses_another_person_whatever_a_page_would_allow(sent, outsider):
    with pytest.raises(InvitationOverError):
        sent.invitation.accept(sent.token, by=make_actor(outsider))
    with pytest.raises(InvitationOverError):
        sent.invitation.accept(sent.token, by=BY)
    assert not outsider.memberships.filter(organization=sent.invitation.organization).exists()


def test_the_link_alone_takes_over_no_account_that_exists(sent):
    user = make_user("new@example.com", password=PASSWORD)
    client = Client()
    response = client.post(take_url(sent.token), ACCOUNT)
    assert response["Location"].startswith("/accounts/login/")
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert not Session.objects.filter(user=user).exists()
    assert not user.memberships.exists()


@pytest.mark.parametrize("fact", ["began_at", "seen_at"])
def test_a_session_that_is_over_accepts_nothing_and_takes_no_key(organization, sent, client_of, fact):
    user = make_user("new@example.com")
    owner = make_member(organization, user=make_user())
    handed = make_rotation(organization, make_key(organization, owner=owner).key, link_lasts=timedelta(days=1))
    for person, address in ((user, take_url(sent.token)), (owner.user, reverse("rotation_take", args=[handed.token]))):
        client = client_of(person)
        session = client.session
        session[fact] = time.time() - 15 * 24 * 3600
        session.save()
        assert client.post(address)["Location"].startswith("/accounts/login/?next=")
    assert not user.memberships.exists()
    assert organization.rotations.get().new_key is None


# Forged, replayed, old


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", str.swapcase, lambda t: t[::-1], lambda _: "'--"]
)
def test_a_forged_token_is_nothing(sent, change):
    before = snapshot()
    for method in ("get", "post"):
        assert getattr(Client(), method)(take_url(change(sent.token)), ACCOUNT).status_code == 410
    assert snapshot() == before


def test_a_token_opens_its_own_invitation_alone(organization, sent):
    other = make_invitation(make_organization("other"), "new@example.com", role=Role.ADMIN)
    user = make_user("new@example.com")
    with pytest.raises(InvitationOverError):
        other.invitation.accept(sent.token, by=make_actor(user))
    assert not user.memberships.exists()


def test_what_was_sent_once_lets_nobody_in_again(organization, sent):
    Client().post(take_url(sent.token), ACCOUNT)
    member = Member.objects.get(user__email="new@example.com")
    member.remove(by=BY)
    again = Client()
    again.force_login(User.objects.get(email="new@example.com"))
    for client in (Client(), again):
        client.post(take_url(sent.token), ACCOUNT)
    assert not Member.objects.filter(user__email="new@example.com").exists()


def test_a_second_after_its_end_it_is_over(organization, sent):
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert Client().post(take_url(sent.token), ACCOUNT).status_code == 410
    with pytest.raises(InvitationOverError):
        sent.invitation.accept(sent.token, by=make_actor(make_user("new@example.com")))
    assert not User.objects.get(email="new@example.com").memberships.exists()


def test_an_invitation_lasts_as_long_as_the_setting_says(organization, settings):
    settings.INVITATION_DAYS = 2
    lasts = make_invitation(organization).invitation.expires_at - timezone.now()
    assert timedelta(days=1, hours=23) < lasts <= timedelta(days=2)


def test_a_form_from_elsewhere_lets_nobody_in(sent):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(take_url(sent.token), ACCOUNT).status_code == 403
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', strict.get(take_url(sent.token)).text)[1]
    assert strict.post(take_url(sent.token), ACCOUNT | {"csrfmiddlewaretoken": token}).status_code == 302


def test_the_session_of_before_is_not_the_session_of_the_new_person(sent):
    client = Client()
    client.get(take_url(sent.token))
    planted = client.session
    planted["planted"] = "by somebody"
    planted.save()
    before = planted.session_key
    client.cookies["sessionid"] = before
    client.post(take_url(sent.token), ACCOUNT)
    assert client.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()


# More than was offered


def test_nothing_in_the_form_changes_the_role_the_organization_or_the_person(organization, sent):
    other = make_organization("other")
    extra = {
        "role": "admin",
        "organization": str(other.pk),
        "organization_id": str(other.pk),
        "email": "else@example.com",
        "environments": ["prod"],
        "is_active": "0",
        "is_superuser": "1",
        "user": "1",
    }
    Client().post(take_url(sent.token), ACCOUNT | extra)
    member = Member.objects.get(user__email="new@example.com")
    assert (member.organization, member.role) == (organization, "viewer")
    assert not User.objects.filter(email="else@example.com").exists()
    assert member.user.is_active


def test_an_admin_can_invite_to_their_own_organization_alone(organization, admin, outsider, client_of):
    theirs = outsider.memberships.get().organization
    form = {"email": "new@example.com", "role": "admin", "organization": theirs.pk, "organization_id": theirs.pk}
    client_of(admin).post(url("invitation_create", organization), form)
    assert Invitation.objects.get().organization == organization
    assert client_of(admin).post(url("invitation_create", theirs), form).status_code == 404


def test_a_member_whose_role_was_taken_meanwhile_keeps_no_way_in(organization, admin, client_of):
    client = client_of(admin)
    admin.memberships.get().change_role(Role.OPERATOR, by=BY)
    form = {"email": "back@example.com", "role": "admin"}
    assert client.post(url("invitation_create", organization), form).status_code == 403
    assert not Invitation.objects.exists()


# What a mail holds


@pytest.mark.parametrize("line", ["\n", "\r", "\r\n", "\0", "\u2028", "\x0b"])
@pytest.mark.parametrize("field", ["email", "name"])
def test_a_header_cannot_be_put_into_the_mail(organization, admin, client_of, field, line):
    form = {"email": "new@example.com", "name": "Nora", "role": "viewer"}
    form[field] = f"new@example.com{line}Bcc: all@example.com"
    client = client_of(admin)
    before = snapshot()
    response = client.post(url("invitation_create", organization), form)
    if response.status_code == 302:
        # What divides no line of a mail is a character of a name like any other.
        assert (field, line) == ("name", "\u2028")
        assert mail.outbox[0].recipients() == ["new@example.com"]
        assert "Bcc" not in mail.outbox[0].message().as_string().partition("\n\n")[0]
        return
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert mail.outbox == []
    assert snapshot() == before


@pytest.mark.parametrize("email", ["new@example.com\nBcc: all@example.com", "no address", "a@b@c", ""])
def test_the_verb_refuses_what_is_no_address(organization, email):
    with pytest.raises(ValidationError) as refused:
        Invitation.objects.invite(organization, InvitationTerms(email, Role.VIEWER), by=BY)
    assert "email" in refused.value.message_dict


def test_a_name_in_the_mail_is_no_link_and_no_markup(admin, client_of):
    organization = make_organization("bait", name="<b>https://evil.example</b>", admin=admin)
    client_of(admin).post(url("invitation_create", organization), {"email": "new@example.com", "role": "viewer"})
    sent = mail.outbox[-1]
    html = sent.alternatives[0].content
    assert "https://evil" not in sent.body + html + sent.subject
    assert "<b>https" not in html
    assert re.findall(r'href="([^"]+)"', html) == re.findall(r"http://\S+", sent.body)


# What tells of it


def test_the_token_is_in_no_log_no_referer_and_no_row(organization, sent, client_of, admin):
    for path in (take_url(sent.token), f"/accounts/login/?next={take_url(sent.token)}"):
        assert sent.token not in without_secrets(path)
        assert sent.token not in without_secrets(path.replace("/", "%2F"))
    assert sent.token not in repr(sent)
    response = Client().get(take_url(sent.token))
    assert response["Referrer-Policy"] == "strict-origin"
    assert "no-store" in response["Cache-Control"]
    assert sent.token not in response.text
    Client().post(take_url(sent.token), ACCOUNT)
    assert sent.token not in str(snapshot()) + str([one.get_decoded() for one in Session.objects.all()])
    assert sent.token not in client_of(admin).get(url("member_list", organization)).text


def test_what_is_looked_up_is_a_digest_that_tells_not_how_much_of_a_token_is_right(sent):
    near, far = sent.token[:-1] + ("A" if sent.token[-1] != "A" else "B"), "x" * 43
    asked = []
    for token in (near, far):
        with CaptureQueriesContext(connection) as queries:
            assert Invitation.objects.with_token(token) is None
        [query] = queries.captured_queries
        assert token not in query["sql"]
        digests = re.findall(r"[0-9a-f]{64}", query["sql"].lower())
        assert digests == [hashlib.sha256(token.encode()).hexdigest()]
        asked.append(query["sql"].lower().replace(digests[0], ""))
    assert asked[0] == asked[1]


def test_no_page_of_an_admin_tells_who_has_an_account(organization, admin, client_of):
    make_user("known@example.com")
    client = client_of(admin)
    texts = []
    for email in ("known@example.com", "nobody@example.com"):
        response = client.post(url("invitation_create", organization), {"email": email, "role": "viewer"}, follow=True)
        # What differs in each page, and the address itself.
        text = re.sub(r'nonce="[^"]+"|[A-Za-z0-9]{64}|<time.*?</time>|\d+', "", response.text)
        found = re.search(rf"<tr>\s*<td[^>]*>\s*<b[^>]*>{email}.*?</tr>", text, re.DOTALL)[0]
        texts.append(found.replace(email, "X"))
    assert texts[0] == texts[1]


# Things of others


def test_numbers_of_other_organizations_are_not_there(organization, admin, client_of):
    theirs = make_invitation(make_organization("other")).invitation
    client = client_of(admin)
    before = snapshot()
    for name in ("invitation_resend", "invitation_withdraw"):
        for headers in (None, HTMX):
            assert client.post(url(name, organization, theirs.pk), headers=headers).status_code == 404
    assert {**snapshot(), "apikeys.Session": 0, "apikeys.User": 0} == {
        **before,
        "apikeys.Session": 0,
        "apikeys.User": 0,
    }


def test_who_is_limited_cannot_widen_their_own_limit(organization, client_of):
    member = organization.add_member(
        make_user(), Role.OPERATOR, environments=list(organization.environments.filter(code="stag")), by=BY
    )
    client = client_of(member)
    form = {"role": "operator", "environments": []}
    assert client.post(url("member_edit", organization, member.pk), form).status_code == 403
    key = make_key(organization).key
    assert client.post(url("key_revoke", organization, key.public_id), {"reason": "leaked"}).status_code == 403
    assert [one.code for one in member.environments.all()] == ["stag"]
