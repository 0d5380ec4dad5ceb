"""What no password may be made of, and the lists of breached ones, wherever a password is chosen."""

import logging
import re
import time

import pytest
from django.contrib.auth.password_validation import (
    get_default_password_validators,
    password_validators_help_texts,
    validate_password,
)
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from apikeys.demo.cast import PASSWORD as DEMO
from apikeys.models import Organization, Role, User
from tests.breached import digest_of, write_folder, write_list
from tests.commands.running import run
from tests.factories import PASSWORD, make_actor, make_invitation, make_member, make_organization, make_user
from tests.pages import snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]
CHANGE, SET, RESET, LOGIN = (
    "/accounts/password/change/",
    "/accounts/password/set/",
    "/accounts/password/reset/",
    "/accounts/login/",
)
GOOD = "plum orbit canyon"
KNOWN = "seven silent sailors"
WORDS = "This password is made of words about keyadmin or your organization ({})"
BREACHED = "This password is known from a breach"


@pytest.fixture(autouse=True)
def _unlimited(db):
    cache.clear()  # limits are counted there


@pytest.fixture
def person():
    """A member of two organizations, invited to a third."""
    user = make_user("olga@elsewhere.example", name="Olga Owner", password=PASSWORD)
    make_member(make_organization("nw-trading", name="Northwind Trading"), user=user)
    make_member(make_organization("lamp", name="Lumière Öl"), user=user)
    make_invitation(make_organization("zephyr", name="Zephyr"), user.email)
    return user


@pytest.fixture
def deployment(settings):
    settings.BASE_URL = "https://www.vault.corvid-labs.example.com:8443"
    settings.PASSWORD_WORDS = ["Rosinante", "Elm Street 5", "ZAP"]
    return settings


@pytest.fixture
def breached(settings, tmp_path):
    """Use a list of 2,001 breached passwords."""
    path = write_list(tmp_path / "pwnedpasswords.txt", [KNOWN, *(f"breached {number}" for number in range(2_000))])
    return _use(settings, path)


def _use(settings, path):
    name = "apikeys.password_validators.BreachedPasswordValidator"
    settings.BREACHED_PASSWORDS = str(path)
    settings.AUTH_PASSWORD_VALIDATORS = [
        *settings.AUTH_PASSWORD_VALIDATORS,
        {"NAME": name, "OPTIONS": {"path": str(path)}},
    ]
    return path


def faults(password, user=None):
    try:
        validate_password(password, user)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


# Words

MADE_OF_WORDS = {
    "keyadmin2026!": "keyadmin",
    "KEYADMIN-keyadmin": "keyadmin",
    "k e y a d m i n 1 2 3 4": "keyadmin",
    "K3y@dm1n-2026": "keyadmin",
    "keyadmin and me": "keyadmin",
    "keyadminsecret1": "keyadmin",
    "Northwind-Northwind1": "Northwind",
    "northwindtrading": "Northwind Trading",
    "N0rthw1nd-2026-2026": "Northwind",
    "trading northwind 11": "Northwind, Trading",
    "nw-trading nw-trading": "nw-trading",
    "lumiere-LUMIERE-1": "Lumière",
    "Zephyr!Zephyr!1": "Zephyr",
    "corvid-vault-2026": "corvid, vault",
    "corvidlabs112233": "corvid, labs",
    "example.com example.com": "example",
    "rosinante 12345": "Rosinante",
    "elmstreet5-elmstreet5": "Elm Street 5",
    "ZAP123456789zap": "ZAP",
    "".join(chr(ord(one) + 0xFEE0) for one in "keyadmin123456"): "keyadmin",  # of full width
    "keyadmin" * 200: "keyadmin",
}
WITH_MORE = [
    "keyadmin opens my lovely morning",
    "the northwind blows over hills",
    "keyadmin-" + "horse" * 2,
    "zap the grumpy mosquitoes",
    GOOD,
    PASSWORD,
    "482915-770214-663908",
    "www.com www.com 12",
    "пароль из многих слов",
    "😀" * 12,
    "x" * 100_000,
]


@pytest.mark.parametrize(("password", "words"), MADE_OF_WORDS.items(), ids=range(len(MADE_OF_WORDS)))
def test_a_password_made_of_words_about_us_is_refused_and_the_words_are_named(deployment, person, password, words):
    assert WORDS.format(words) in faults(password, person)


@pytest.mark.parametrize("password", WITH_MORE, ids=range(len(WITH_MORE)))
def test_a_password_with_eight_letters_besides_is_taken(deployment, person, password):
    assert faults(password, person) == ""


def test_words_about_others_are_none_about_us(person):
    stranger = make_user("kim@elsewhere.example")
    for password in ("Northwind-Northwind1", "Zephyr!Zephyr!1", "rosinante 12345"):
        assert faults(password, stranger) == ""
    assert faults("Northwind-Northwind1", person)


def test_without_a_person_the_words_of_the_deployment_count():
    assert WORDS.format("keyadmin") in faults("keyadmin2026!")
    assert faults("Northwind-Northwind1") == ""


def test_an_invitation_that_was_withdrawn_says_nothing_of_a_person(person):
    invitation = Organization.objects.get(slug="zephyr").invitations.get()
    assert faults("Zephyr!Zephyr!1", person)
    invitation.withdraw(by=make_actor())
    assert faults("Zephyr!Zephyr!1", person) == ""


@pytest.mark.parametrize("host", ["http://localhost:8000", "https://192.168.100.200", "https://[2001:db8::1]"])
def test_any_address_will_do(settings, host):
    settings.BASE_URL = host
    assert faults("192.168.100.200") == ""
    assert faults(GOOD) == ""


def test_a_long_password_and_many_words_take_no_time(settings):
    settings.PASSWORD_WORDS = [f"{'a' * 30}{number}" for number in range(300)]
    started = time.process_time()
    for password in ("a" * 200_000, "ﷺ" * 80_000, "keyadmin" * 20_000):
        faults(password)
    assert time.process_time() - started < 5


def test_the_rules_are_told_beside_the_field(breached, client_of, organization):
    told = [
        "Your password must not be made of words about keyadmin or your organization",
        "it needs at least 8 letters",
        "Your password must not be one that is known from a breach",
    ]
    sent = make_invitation(organization, "new@example.com")
    person = make_user(password=PASSWORD)
    pages = [client_of(person).get(CHANGE), Client().get(reverse("invitation_take", args=[sent.token]))]
    for page in pages:
        for text in told:
            assert text in page.text


def test_without_a_list_nobody_is_told_of_one():
    assert not [text for text in password_validators_help_texts() if "breach" in text]
    assert faults(KNOWN) == ""


# Breached passwords


def test_a_breached_password_is_refused_and_not_how_often_it_was_seen(breached):
    [line] = [one for one in breached.read_text().splitlines() if one.startswith(digest_of(KNOWN))]
    said = faults(KNOWN)
    assert BREACHED in said
    assert line.partition(":")[2] not in said
    assert faults(GOOD) == ""


def test_a_folder_will_do(settings, tmp_path):
    _use(settings, write_folder(tmp_path / "pwnedpasswords", [KNOWN]))
    assert BREACHED in faults(KNOWN)


def removed(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


def a_folder(path):
    path.unlink()
    path.mkdir()


def junk(path):
    path.write_bytes(b"\xff\0" * 50_000)


@pytest.mark.parametrize("spoil", [removed, a_folder, junk])
def test_a_list_that_cannot_be_used_keeps_nobody_out_and_is_logged_without_the_password(
    breached, caplog, client_of, spoil
):
    person = make_user(password=PASSWORD)
    client = client_of(person)
    spoil(breached)
    with caplog.at_level(logging.DEBUG):
        response = client.post(CHANGE, {"oldpassword": PASSWORD, "password1": KNOWN, "password2": KNOWN})
    assert response.status_code == 302
    assert User.objects.get(pk=person.pk).check_password(KNOWN)
    [record] = [one for one in caplog.records if "BREACHED_PASSWORDS" in one.getMessage()]
    assert record.levelname == "ERROR"
    for secret in (KNOWN, *(digest_of(KNOWN)[:length] for length in (40, 35, 5))):
        assert secret.lower() not in caplog.text.lower()


def test_a_list_that_cannot_be_used_does_not_let_common_passwords_pass(breached):
    breached.unlink()
    assert "too common" in faults("password1234")
    assert "keyadmin" in faults("keyadmin2026!")


def test_a_new_list_is_used_without_a_restart(breached):
    assert faults("sixteen green umbrellas") == ""
    newer = write_list(breached.with_name("newer.txt"), ["sixteen green umbrellas"])
    newer.rename(breached)
    assert BREACHED in faults("sixteen green umbrellas")
    assert faults(KNOWN) == ""


def test_an_empty_list_holds_nothing(breached):
    emptied(breached)
    assert faults(KNOWN) == ""


# Wherever a password is chosen


def change(person, password, client_of, _mailoutbox):
    return client_of(person).post(CHANGE, {"oldpassword": PASSWORD, "password1": password, "password2": password})


def set_first(person, password, client_of, _mailoutbox):
    """Who signed on through a provider has none yet."""
    person.set_unusable_password()
    person.save()
    return client_of(person).post(SET, {"password1": password, "password2": password})


def reset(person, password, _client_of, mailoutbox):
    Client().post(RESET, {"email": person.email})
    [link] = re.findall(r"http://\S+?(/accounts/password/reset/key/\S+)", mailoutbox[0].body)
    client = Client()
    form = client.get(link, follow=True).redirect_chain[-1][0]
    return client.post(form, {"password1": password, "password2": password})


def refused(response, said):
    """Say whether the page tells it at the field itself."""
    field = re.search(r'<ul class="errorlist"[^>]*id="id_password1_error"[^>]*>(.*?)</ul>', response.text, re.DOTALL)
    return response.status_code in {200, 422} and field is not None and said in field[1]


@pytest.mark.parametrize("way", [change, set_first, reset])
@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("keyadmin2026!", WORDS.format("keyadmin")),
        ("Northwind-Northwind1", WORDS.format("Northwind")),
        ("Zephyr!Zephyr!1", WORDS.format("Zephyr")),
        (KNOWN, BREACHED),
    ],
)
def test_a_person_is_told_at_the_field_and_keeps_the_password(
    breached, person, client_of, mailoutbox, way, password, said
):
    assert refused(way(person, password, client_of, mailoutbox), said)
    assert not User.objects.get(pk=person.pk).check_password(password)


@pytest.mark.parametrize("way", [change, set_first, reset])
def test_a_person_chooses_another_one(breached, person, client_of, mailoutbox, way):
    assert way(person, GOOD, client_of, mailoutbox).status_code == 302
    assert User.objects.get(pk=person.pk).check_password(GOOD)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("keyadmin2026!", WORDS.format("keyadmin")),
        ("Acme-Acme-2026", WORDS.format("Acme")),
        ("Zephyr!Zephyr!1", WORDS.format("Zephyr")),
        (KNOWN, BREACHED),
    ],
)
def test_who_is_invited_is_told_at_the_field_and_the_link_stays_good(breached, organization, password, said):
    sent = make_invitation(organization, "new@example.com", role=Role.OPERATOR)
    make_invitation(make_organization("zephyr", name="Zephyr"), "new@example.com")
    link, before = reverse("invitation_take", args=[sent.token]), snapshot()
    form = {"name": "Nora New", "password1": password, "password2": password}
    response = Client().post(link, form)
    assert response.status_code == 422
    assert refused(response, said)
    assert snapshot() == before
    assert Client().post(link, form | {"password1": GOOD, "password2": GOOD}).status_code == 302


def test_the_name_of_an_organization_is_no_markup_in_the_message():
    organization = make_organization("hostile", name="<b>Hostile</b>")
    sent = make_invitation(organization, "new@example.com")
    form = {"password1": "<b>hostile</b>", "password2": "<b>hostile</b>"}
    response = Client().post(reverse("invitation_take", args=[sent.token]), form)
    assert refused(response, WORDS.format("&lt;b&gt;Hostile&lt;/b&gt;"))


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("keyadmin2026!", WORDS.format("keyadmin")),
        ("Globex-Globex-1", WORDS.format("Globex")),
        ("gbx-works-gbx-1", WORDS.format("gbx-works")),
        (KNOWN, BREACHED),
    ],
)
def test_create_organization_refuses_them_too(breached, password, said):
    new = ("create_organization", "--name", "Globex Corporation", "--slug", "gbx-works", "--email", "ada@example.com")
    ran = run(*new, "--password-stdin", stdin=f"{password}\n")
    assert ran.status == 1
    assert "--password-stdin: " in ran.err
    assert said in ran.err
    assert not User.objects.exists()
    assert not Organization.objects.exists()
    assert run(*new, "--password-stdin", stdin=f"{GOOD}\n").status == 0


def test_who_has_such_a_password_already_goes_on_signing_in(breached, organization):
    for number, password in enumerate((KNOWN, "keyadmin2026!", DEMO)):
        user = make_user(f"person{number}@example.com", password=password)
        make_member(organization, user=user)
        client = Client()
        assert client.post(LOGIN, {"login": user.email, "password": password}).status_code == 302
        assert client.get("/acme/keys/").status_code == 200


def test_the_rules_are_those_of_the_settings():
    names = [type(one).__name__ for one in get_default_password_validators()]
    assert names[-1] == "DeploymentWordsValidator"
