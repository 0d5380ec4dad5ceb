"""Signing in and out, passwords, and what of it the audit log keeps."""

import re
import time

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils.module_loading import import_string

from apikeys.models import AuditAction, AuditEntry, Role, User
from keyadmin import settings as settings_file
from tests.factories import PASSWORD, make_member, make_organization, make_user
from tests.pages import HTMX, entries, snapshot

pytestmark = pytest.mark.django_db
LOGIN, LOGOUT = "/accounts/login/", "/accounts/logout/"
CHANGE, RESET = "/accounts/password/change/", "/accounts/password/reset/"
NEW = "a much better horse"


@pytest.fixture(autouse=True)
def no_limit_from_before(db):
    """Limits are counted in the cache, which other tests fill too."""
    cache.clear()


@pytest.fixture
def person(organization):
    """Somebody with a password, in two organizations."""
    user = make_user("olga@example.com", name="Olga Owner", password=PASSWORD)
    make_member(organization, Role.OPERATOR, user)
    make_member(make_organization("second"), Role.VIEWER, user)
    return user


def sign_in(client, email="olga@example.com", password=PASSWORD, address="203.0.113.9", **more):
    form = {"login": email, "password": password, **more}
    return client.post(LOGIN, form, headers={"X-Forwarded-For": address, "User-Agent": "Firefox"})


def is_signed_in(client):
    return client.get("/acme/keys/").status_code == 200


def recorded(action):
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


# Signing in


@pytest.mark.parametrize("email", ["olga@example.com", "OLGA@Example.COM", " olga@example.com "])
def test_a_person_signs_in_by_address_in_any_case_and_password(person, email):
    client = Client()
    response = sign_in(client, email)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert is_signed_in(client)


def test_a_sign_in_is_recorded_in_each_organization_of_the_person(person):
    sign_in(Client())
    made = recorded(AuditAction.SIGN_IN)
    assert {entry.organization.slug for entry in made} == {"acme", "second"}
    for entry in made:
        assert (entry.actor, entry.actor_label, entry.address) == (person, "olga@example.com", "203.0.113.9")
        assert (entry.user_agent, entry.via) == ("Firefox", "dashboard")


WRONG = {
    "a wrong password": ("olga@example.com", "not my password"),
    "no password": ("olga@example.com", ""),
    "an unknown address": ("nobody@example.com", PASSWORD),
    "no address": ("", PASSWORD),
    "a name": ("olga", PASSWORD),
    "an address over its limit": (f"{'x' * 300}@example.com", PASSWORD),
    "a NUL in the address": ("ol\0ga@example.com", PASSWORD),
    "a NUL in the password": ("olga@example.com", f"{PASSWORD}\0"),
    "a huge password": ("olga@example.com", "x" * 100_000),
    "the case of the password": ("olga@example.com", PASSWORD.upper()),
}


@pytest.mark.parametrize(("email", "password"), WRONG.values(), ids=WRONG)
def test_wrong_credentials_sign_nobody_in(person, email, password):
    client = Client()
    response = sign_in(client, email, password)
    assert response.status_code == 200
    assert response.context["form"].errors
    assert not is_signed_in(client)
    assert recorded(AuditAction.SIGN_IN) == []


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(person):
    answers = [sign_in(Client(), email, "wrong") for email in ("olga@example.com", "nobody@example.com")]
    first, second = (answer.context["form"].errors.as_text() for answer in answers)
    assert first == second


def test_a_failed_sign_in_is_recorded_in_each_organization_of_the_address(person):
    sign_in(Client(), "OLGA@example.com", "wrong")
    made = recorded(AuditAction.SIGN_IN_FAILED)
    assert {entry.organization.slug for entry in made} == {"acme", "second"}
    for entry in made:
        assert (entry.actor, entry.actor_label, entry.target_label) == (None, "olga@example.com", "olga@example.com")
        assert entry.address == "203.0.113.9"
        assert "wrong" not in str(entry.__dict__)


def test_a_failed_sign_in_with_an_unknown_address_belongs_to_no_organization(person):
    sign_in(Client(), "nobody@example.com", "wrong")
    [entry] = recorded(AuditAction.SIGN_IN_FAILED)
    assert (entry.organization, entry.actor_label) == (None, "nobody@example.com")


def test_a_person_with_a_closed_account_or_without_a_password_is_not_signed_in(organization):
    closed = make_user("closed@example.com", password=PASSWORD, is_active=False)
    make_member(organization, user=closed)
    make_member(organization, user=make_user("invited@example.com"))
    for email, password in [
        ("closed@example.com", PASSWORD),
        ("invited@example.com", ""),
        ("invited@example.com", "!"),
    ]:
        client = Client()
        sign_in(client, email, password)
        assert not is_signed_in(client)


def test_after_five_failures_an_address_has_to_wait_even_with_the_right_password(person):
    for _ in range(5):
        sign_in(Client(), password="wrong")
    client = Client()
    response = sign_in(client)
    assert response.status_code in {200, 429}
    assert "Too many" in response.text
    assert not is_signed_in(client)


def test_others_sign_in_from_elsewhere_meanwhile(person, organization):
    make_member(organization, user=make_user("kim@example.com", password=PASSWORD))
    for _ in range(5):
        sign_in(Client(), password="wrong")
    client = Client()
    sign_in(client, "kim@example.com", address="198.51.100.1")
    assert is_signed_in(client)


def test_an_address_of_the_network_that_tries_many_names_has_to_wait(person, organization):
    make_member(organization, user=make_user("kim@example.com", password=PASSWORD))
    answers = [sign_in(Client(), f"person{number}@example.com", "wrong") for number in range(12)]
    assert "Too many" in answers[-1].text or answers[-1].status_code == 429
    client = Client()
    sign_in(client, "kim@example.com")
    assert not is_signed_in(client)
    sign_in(client, "kim@example.com", address="198.51.100.1")
    assert is_signed_in(client)


def test_a_client_cannot_choose_the_address_that_is_counted(person, settings):
    settings.TRUSTED_PROXIES = []
    for number in range(12):
        sign_in(Client(), f"person{number}@example.com", "wrong", address=f"198.51.100.{number}")
    assert {entry.address for entry in recorded(AuditAction.SIGN_IN_FAILED)} == {"127.0.0.1"}
    client = Client()
    sign_in(client)
    assert not is_signed_in(client)


TARGETS = [
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "\0",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_sign_in_leads_nowhere_else(person, target):
    client = Client()
    assert "evil.example" not in client.get(LOGIN, {"next": target}).text.split('name="next"')[0]
    assert sign_in(client, next=target)["Location"] == "/"


@pytest.mark.parametrize("target", TARGETS)
def test_who_is_signed_in_already_is_led_nowhere_else(person, client_of, target):
    response = client_of(person).get(LOGIN, {"next": target})
    assert response.status_code in {302, 400}
    assert "evil" not in response.get("Location", "")


def test_a_sign_in_leads_back_to_the_page_that_was_asked_for(person):
    client = Client()
    asked = client.get("/acme/audit/?action=key.issue")
    assert asked["Location"] == "/accounts/login/?next=/acme/audit/%3Faction%3Dkey.issue"
    assert sign_in(client, next="/acme/audit/?action=key.issue")["Location"] == "/acme/audit/?action=key.issue"


def test_a_sign_in_gets_a_session_of_its_own(person):
    client = Client()
    client.get(LOGIN)
    client.session["x"] = "y"
    before = client.session.session_key
    sign_in(client)
    assert client.session.session_key != before
    assert client.cookies["sessionid"]["httponly"]
    assert client.cookies["sessionid"]["samesite"] == "Lax"


def test_a_sign_in_form_from_elsewhere_is_refused(person):
    client = Client(enforce_csrf_checks=True)
    assert sign_in(client).status_code == 403
    assert not is_signed_in(client)


# Signing out


def test_signing_out_is_by_post_and_recorded(person):
    client = Client()
    sign_in(client)
    assert client.get(LOGOUT).status_code == 200
    assert is_signed_in(client)
    assert client.post(LOGOUT)["Location"] == LOGIN
    assert not is_signed_in(client)
    made = recorded(AuditAction.SIGN_OUT)
    assert {entry.organization.slug for entry in made} == {"acme", "second"}
    assert {entry.actor for entry in made} == {person}


def test_an_ended_session_makes_htmx_load_the_page_anew(person):
    response = Client().get("/acme/keys/", headers=HTMX)
    assert response["HX-Refresh"] == "true"


# Passwords


def test_passwords_are_kept_as_argon2id(person):
    assert User.objects.get(pk=person.pk).password.startswith("argon2$argon2id$")
    # The tests' own hasher does less work; this is that of people.
    [hasher] = map(import_string, settings_file.PASSWORD_HASHERS)
    # What OWASP's Password Storage Cheat Sheet asks for at least.
    assert hasher.algorithm == "argon2"
    assert hasher.memory_cost >= 19 * 1024
    assert hasher.time_cost >= 2


def test_a_password_is_changed_recorded_and_ends_other_sessions(organization, person):
    here, there = Client(), Client()
    sign_in(here)
    sign_in(there)
    response = here.post(CHANGE, {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW})
    assert response.status_code == 302
    [entry] = entries(organization, AuditAction.PASSWORD_CHANGE)
    assert (entry.actor, entry.target_label) == (person, "olga@example.com")
    assert is_signed_in(here)
    assert not is_signed_in(there)
    assert sign_in(Client()).status_code == 200
    assert sign_in(Client(), password=NEW).status_code == 302


@pytest.mark.parametrize(
    "form",
    [
        {"oldpassword": "wrong", "password1": NEW, "password2": NEW},
        {"oldpassword": PASSWORD, "password1": NEW, "password2": "other"},
        {"oldpassword": PASSWORD, "password1": "short", "password2": "short"},
        {"oldpassword": PASSWORD, "password1": "password1234", "password2": "password1234"},
        {"oldpassword": PASSWORD, "password1": "olga@example.com", "password2": "olga@example.com"},
        {},
    ],
    ids=["wrong old", "not repeated", "short", "common", "the address", "empty"],
)
def test_a_bad_password_changes_nothing(person, client_of, form):
    client = client_of(person)
    before = snapshot()
    response = client.post(CHANGE, form)
    assert response.status_code in {200, 422}
    assert response.context["form"].errors
    assert snapshot() == before


# A forgotten password


def link_of(mail):
    [link] = re.findall(r"http://\S+?(/accounts/password/reset/key/\S+)", mail.body)
    return link


def choose(client, link, password=NEW):
    """Follow a mail's link as a browser does, and choose a password."""
    response = client.get(link, follow=True)
    address = response.redirect_chain[-1][0] if response.redirect_chain else link
    return client.post(address, {"password1": password, "password2": password})


def test_a_password_is_reset_by_mail_once(organization, person, mailoutbox):
    assert Client().post(RESET, {"email": "OLGA@example.com"}).status_code == 302
    [mail] = mailoutbox
    assert mail.to == ["olga@example.com"]
    link = link_of(mail)
    assert choose(Client(), link).status_code == 302
    [entry] = entries(organization, AuditAction.PASSWORD_CHANGE)
    assert (entry.actor, entry.target_label) == (person, "olga@example.com")
    assert sign_in(Client(), password=NEW).status_code == 302
    assert sign_in(Client()).status_code == 200
    choose(Client(), link, "yet another horse")
    assert sign_in(Client(), password="yet another horse").status_code == 200


def test_a_link_that_was_changed_or_is_old_does_not_work(person, mailoutbox, settings):
    Client().post(RESET, {"email": "olga@example.com"})
    link = link_of(mailoutbox[0])
    choose(Client(), link[:-2] + "x/")
    choose(Client(), "/accounts/password/reset/key/1-set-password/")
    settings.PASSWORD_RESET_TIMEOUT = 1
    time.sleep(2.1)
    choose(Client(), link)
    assert sign_in(Client(), password=NEW).status_code == 200


def test_a_weak_new_password_is_refused_and_the_link_still_works(person, mailoutbox):
    Client().post(RESET, {"email": "olga@example.com"})
    client, link = Client(), link_of(mailoutbox[0])
    assert choose(client, link, "short").context["form"].errors
    assert choose(client, link).status_code == 302


def test_an_unknown_or_closed_account_gets_the_same_answer_and_no_mail(person, mailoutbox):
    make_user("closed@example.com", password=PASSWORD, is_active=False)
    answers = [
        Client().post(RESET, {"email": email}, follow=True)
        for email in ("olga@example.com", "nobody@example.com", "closed@example.com")
    ]
    assert [mail.to for mail in mailoutbox] == [["olga@example.com"]]
    texts = {re.sub(r'(csrfmiddlewaretoken" value|nonce)="\S+"', "", answer.text) for answer in answers}
    assert len(texts) == 1
    assert {answer.redirect_chain[-1] for answer in answers} == {(f"{RESET}done/", 302)}


def test_the_link_in_the_mail_leads_to_this_site_whatever_host_was_asked_for(person, mailoutbox):
    Client().post(RESET, {"email": "olga@example.com"}, headers={"Host": "evil.example"})
    for mail in mailoutbox:
        assert "evil.example" not in mail.body


@pytest.mark.parametrize("email", ["", "olga", "a\0b@example.com", "olga@example.com\nbcc:all@example.com"])
def test_a_reset_for_what_is_no_address_sends_nothing(person, mailoutbox, email):
    response = Client().post(RESET, {"email": email})
    assert response.context["form"].errors
    assert mailoutbox == []


def test_many_resets_of_one_address_have_to_wait(person, mailoutbox):
    for _ in range(8):
        Client().post(RESET, {"email": "olga@example.com"})
    assert len(mailoutbox) <= 5


# Signing up


def test_nobody_signs_up(db):
    before = snapshot()
    form = {"email": "new@example.com", "password1": NEW, "password2": NEW}
    for response in (Client().get("/accounts/signup/"), Client().post("/accounts/signup/", form)):
        assert response.status_code in {200, 403}
        assert 'name="password1"' not in response.text
    assert snapshot() == before
