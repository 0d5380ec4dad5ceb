"""Accepting an invitation: with a new account, or signed in as the person of the address."""

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.models import AuditAction, Invitation, Role, Session, User
from tests.factories import PASSWORD, make_actor, make_invitation, make_member, make_organization, make_user
from tests.pages import HOSTILE, entries, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
ACCOUNT = {"name": "Nora New", "password1": "plum orbit canyon", "password2": "plum orbit canyon"}


@pytest.fixture(autouse=True)
def _unlimited():
    cache.clear()  # limits are counted there


@pytest.fixture
def sent(organization):
    return make_invitation(organization, "new@example.com", role=Role.OPERATOR, name="Nora", codes=["stag"])


@pytest.fixture
def known(organization):
    """A person with an account, and another organization."""
    return make_member(make_organization("other"), Role.ADMIN, make_user("new@example.com", password=PASSWORD)).user


def take_url(sent):
    return reverse("invitation_take", args=[sent.token])


def test_opening_the_link_shows_what_it_is_and_changes_nothing(sent):
    before = snapshot()
    for method in ("get", "head", "get"):
        response = getattr(Client(), method)(take_url(sent), headers={"Sec-Purpose": "prefetch"})
        assert response.status_code == 200
        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "strict-origin"
    assert is_whole_page(response)
    for told in ("Acme", "new@example.com", "command line", "operator", "staging", "Make my account", 'value="Nora"'):
        assert told in response.text, told
    assert snapshot() == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_a_405(sent, method):
    assert Client().generic(method, take_url(sent)).status_code == 405


def test_who_has_no_account_makes_one_joins_and_is_signed_in(organization, sent):
    client = Client()
    response = client.post(take_url(sent), ACCOUNT)
    assert response["Location"] == "/acme/"
    user = User.objects.get(email="new@example.com")
    assert (user.name, user.check_password(ACCOUNT["password1"])) == ("Nora New", True)
    member = user.memberships.get()
    assert (member.organization, member.role, [one.code for one in member.limit]) == (
        organization,
        "operator",
        ["stag"],
    )
    assert client.get("/acme/keys/").status_code == 200
    assert Session.objects.get(user=user)
    [entry] = entries(organization, AuditAction.MEMBER_JOIN)
    assert (entry.actor, entry.actor_label, entry.target_label) == (user, "new@example.com", "new@example.com")
    assert entry.changes == {"role": [None, "operator"], "environments": [None, "staging"]}
    assert entry.reason == "Invited by command line"
    assert entries(organization, AuditAction.SIGN_IN)
    invitation = organization.invitations.get()
    assert (invitation.taken_by, bool(invitation.taken_at), invitation.environments.count()) == (user, True, 0)


BAD = {
    "no password": ({"password1": "", "password2": ""}, "password1"),
    "a short one": ({"password1": "short", "password2": "short"}, "password1"),
    "a usual one": ({"password1": "password1234", "password2": "password1234"}, "password1"),
    "the address": ({"password1": "new@example.com", "password2": "new@example.com"}, "password1"),
    "two that differ": ({"password2": "plum orbit canyons"}, "password2"),
    "a name over its limit": ({"name": "x" * 101}, "name"),
    "a name of two lines": ({"name": "a\nb"}, "name"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_422_that_names_the_field_and_uses_nothing_up(sent, form, field):
    before = snapshot()
    response = Client().post(take_url(sent), ACCOUNT | form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert ACCOUNT["password1"] not in response.text
    assert snapshot() == before


def test_who_has_an_account_signs_in_comes_back_and_joins(organization, sent, known):
    client = Client()
    page = client.get(take_url(sent))
    assert "Sign in as new@example.com to accept." in page.text
    assert "password1" not in page.text
    response = client.post(take_url(sent))
    assert response["Location"] == f"/accounts/login/?next={take_url(sent)}"
    form = {"login": "new@example.com", "password": PASSWORD, "next": take_url(sent)}
    page = client.post("/accounts/login/", form, follow=True)
    assert page.redirect_chain[-1][0] == take_url(sent)
    assert "Join" in page.text
    assert not known.memberships.filter(organization=organization).exists()
    response = client.post(take_url(sent))
    assert response["Location"] == "/acme/"
    assert known.memberships.get(organization=organization).role == "operator"
    known.refresh_from_db()
    assert known.check_password(PASSWORD), "an invitation changes no account"


def test_an_account_keeps_its_password_and_name_whatever_the_form_says(organization, sent, known, client_of):
    name = known.name
    assert client_of(known).post(take_url(sent), ACCOUNT).status_code == 302
    known.refresh_from_db()
    assert (known.name, known.check_password(PASSWORD)) == (name, True)


@pytest.mark.parametrize("has_account", [True, False])
def test_somebody_else_is_told_so_and_nothing_of_whose_it_is(sent, viewer, client_of, request, has_account):
    if has_account:
        request.getfixturevalue("known")
    client = client_of(viewer)
    before = snapshot()
    for method in ("get", "post"):
        response = getattr(client, method)(take_url(sent), ACCOUNT if method == "post" else {})
        assert response.status_code == 403
        assert "You are signed in as viewer@example.com." in response.text
        assert "new@example.com" not in response.text
        assert "Acme" not in response.text
    assert snapshot() == before
    response = client.post("/accounts/logout/", {"next": take_url(sent)})
    assert response["Location"] == take_url(sent)
    assert client.get(take_url(sent)).status_code == 200


def test_a_closed_account_cannot_join(sent, known):
    User.objects.filter(pk=known.pk).update(is_active=False)
    before = snapshot()
    for method in ("get", "post"):
        response = getattr(Client(), method)(take_url(sent), ACCOUNT if method == "post" else {})
        assert response.status_code == 403
        assert "Your account is closed" in response.text
    assert snapshot() == before


def over(sent, how):
    if how == "expired":
        Invitation.objects.update(expires_at=timezone.now())
    elif how == "withdrawn":
        sent.invitation.withdraw(by=BY)
    elif how == "used":
        Client().post(take_url(sent), ACCOUNT)
    elif how == "replaced":
        sent.invitation.resend(by=BY)


def plain(response):
    """Return a page without what differs in each."""
    return re.sub(r'nonce="[^"]+"|[A-Za-z0-9]{64}', "", response.text)


def test_every_link_that_is_not_good_gets_the_same_answer(organization, client_of):
    texts = set()
    for how in ("expired", "withdrawn", "used", "replaced"):
        sent = make_invitation(organization)
        over(sent, how)
        before = snapshot()
        for method in ("get", "post"):
            response = getattr(Client(), method)(take_url(sent), ACCOUNT if method == "post" else {})
            assert response.status_code == 410
            texts.add(plain(response))
        assert snapshot() == before
    for made_up in ("made-up", "x" * 43, "0"):
        texts.add(plain(Client().get(f"/invitation/{made_up}")))
    assert len(texts) == 1
    assert "Ask an admin of the organization for another invitation." in texts.pop()


def test_who_sends_the_form_twice_is_led_to_the_organization(organization, sent):
    client = Client()
    client.post(take_url(sent), ACCOUNT)
    before = snapshot()
    for method in ("get", "post"):
        assert getattr(client, method)(take_url(sent), ACCOUNT)["Location"] == "/acme/"
    assert snapshot() == before


def test_who_became_a_member_otherwise_uses_nothing_up(organization, sent, known, client_of):
    make_member(organization, Role.VIEWER, known)
    client = client_of(known)
    before = snapshot()
    assert client.post(take_url(sent)).status_code == 410
    assert snapshot() == before


def test_a_sender_who_is_no_admin_any_more_lets_nobody_in(organization, admin):
    sent = make_invitation(organization, by=make_actor(admin))
    assert Client().get(take_url(sent)).status_code == 200
    admin.memberships.get().change_role(Role.OPERATOR, by=BY)
    assert Client().post(take_url(sent), ACCOUNT).status_code == 410
    admin.memberships.get().change_role(Role.ADMIN, by=BY)
    admin.is_active = False
    admin.save()
    assert Client().post(take_url(sent), ACCOUNT).status_code == 410


def test_tries_are_limited_by_address(sent):
    client = Client()
    for _ in range(20):
        assert client.post(f"/invitation/{'x' * 43}").status_code == 410
    assert client.post(take_url(sent), ACCOUNT).status_code == 429
    assert not User.objects.filter(email="new@example.com").exists()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_text(admin, name):
    organization = make_organization("hostile", name=name, admin=admin)
    response = Client().get(take_url(make_invitation(organization, name=name)))
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_the_list_shows_who_is_invited_to_admins_alone(organization, sent, admin, viewer, client_of):
    assert "new@example.com" in client_of(admin).get(url("member_list", organization)).text
    assert "new@example.com" not in client_of(viewer).get(url("member_list", organization)).text


def test_the_list_says_what_keeps_an_invitation_from_being_good(organization, sent, admin, operator, client_of):
    client = client_of(admin)
    assert "the mail was not sent" in client.get(url("member_list", organization)).text
    sent.invitation.note_mailed()
    make_invitation(organization, by=make_actor(operator))
    Invitation.objects.filter(pk=sent.invitation.pk).update(expires_at=timezone.now() - timedelta(days=2))
    text = client.get(url("member_list", organization)).text
    assert "its sender is no admin any more" in text
    assert "ended <time" in text
    assert messages_of(client.get(url("member_list", organization))) == []
