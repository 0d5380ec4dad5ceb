"""Second factors and passkeys: setting them up, signing in with them, and what is refused."""

import json
import re
import time
from urllib.parse import quote

import pytest
from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys.models import AuditAction, Role, SignOnDomain
from apikeys.sealing import unseal
from tests.factories import PASSWORD, make_member, make_user
from tests.factors import (
    ADD,
    AGAIN,
    CODE,
    CODES,
    DAY,
    INDEX,
    LOGIN,
    NEW_CODES,
    STEP,
    TOTP_OFF,
    TOTP_ON,
    WITH_PASSKEY,
    add_passkey,
    code_of,
    give_password,
    plain,
    set_up_app,
)
from tests.pages import HTMX, age_proof, entries, snapshot, url
from tests.passkey import PRESENT, Passkey
from tests.place_database import BERLIN, UNKNOWN, record, write_places

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]


@pytest.fixture(autouse=True)
def no_limit_from_before(db):
    cache.clear()


@pytest.fixture
def person(organization):
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD))


@pytest.fixture
def client(person, client_of):
    return client_of(person)


def is_signed_in(client):
    return client.get("/acme/keys/").status_code == 200


# The authenticator app


def test_without_a_factor_the_password_signs_in(person):
    client, response = give_password()
    assert response["Location"] == "/"
    assert is_signed_in(client)


def test_after_the_password_comes_the_code_and_before_it_nothing_is_seen(person, client, clock):
    secret = set_up_app(client, clock)
    clock.on(STEP)
    other, response = give_password()
    assert response["Location"].startswith(CODE)
    assert not is_signed_in(other)
    assert other.post(CODE, {"code": code_of(secret, clock)})["Location"] == "/"
    assert is_signed_in(other)
    entry = entries(person.organization, AuditAction.SIGN_IN)[-1]
    assert (entry.actor_label, entry.reason) == ("olga@example.com", "password and authenticator app")


def test_the_secret_and_the_seed_are_in_no_row_and_no_session(person, client, clock):
    client.get(TOTP_ON)
    secret = client.get(TOTP_ON).context["form"].secret
    assert secret not in json.dumps(dict(client.session.items()))
    assert client.post(TOTP_ON, {"code": "000000"}).context["form"].secret == secret
    set_up_app(client, clock)
    for authenticator in Authenticator.objects.all():
        kept = authenticator.data["secret" if authenticator.type == "totp" else "seed"]
        assert re.fullmatch(r"1:gAAAA[\w-]+={0,2}", kept)
        assert unseal(kept) not in json.dumps(authenticator.data)


def test_a_code_counts_once_also_with_a_clock_that_is_off_and_in_another_browser(person, client, clock):
    secret = set_up_app(client, clock)
    clock.on(STEP * 2)
    code = code_of(secret, clock)
    first, _ = give_password()
    assert first.post(CODE, {"code": code}).status_code == 302
    # Until the code has run out: django-allauth forgets after one step that it was used.
    for _ in range(3):
        again, _ = give_password()
        assert again.post(CODE, {"code": code}).status_code == 200
        assert not is_signed_in(again)
        clock.on(STEP // 2)


def test_the_code_that_set_the_app_up_counts_as_used(person, client, clock):
    secret = set_up_app(client, clock)
    other, _ = give_password()
    assert other.post(CODE, {"code": code_of(secret, clock)}).status_code == 200
    assert not is_signed_in(other)


@pytest.mark.parametrize(("steps", "counts"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_telephone_may_be_half_a_minute_off(person, client, clock, steps, counts):
    secret = set_up_app(client, clock)
    clock.on(STEP * 10)
    other, _ = give_password()
    other.post(CODE, {"code": code_of(secret, clock, steps)})
    assert is_signed_in(other) == counts


def test_an_older_code_does_not_count_after_a_newer_one(person, client, clock):
    secret = set_up_app(client, clock)
    clock.on(STEP * 10)
    newer, _ = give_password()
    newer.post(CODE, {"code": code_of(secret, clock, 1)})
    assert is_signed_in(newer)
    older, _ = give_password()
    older.post(CODE, {"code": code_of(secret, clock, 0)})
    assert not is_signed_in(older)


def test_guessing_codes_ends_after_five_from_whatever_address(person, client, clock):
    secret = set_up_app(client, clock)
    clock.on(STEP * 2)
    for number in range(5):
        other, _ = give_password()
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        response = other.post(CODE, {"code": "00000"}, headers=headers)
        assert "not right" in response.text
    other, _ = give_password()
    response = other.post(CODE, {"code": code_of(secret, clock)}, headers={"X-Forwarded-For": "203.0.113.99"})
    assert "Too many" in response.text
    assert not is_signed_in(other)
    assert len(entries(person.organization, AuditAction.FACTOR_FAILED)) == 5
    assert entries(person.organization, AuditAction.FACTOR_FAILED)[0].actor_label == "olga@example.com"


@pytest.mark.parametrize("code", ["", " ", "abc", "123456", "1" * 5000, "<b>", "٣٣٣٣٣٣"])
def test_a_code_that_is_none_is_refused_with_a_message(person, client, clock, code):
    set_up_app(client, clock)
    other, _ = give_password()
    response = other.post(CODE, {"code": code})
    assert response.status_code == 200
    assert response.context["form"].errors["code"]
    assert not is_signed_in(other)


def test_turning_it_off_leaves_the_password_and_no_recovery_codes(person, client, clock):
    set_up_app(client, clock)
    client.post(TOTP_OFF)
    assert not Authenticator.objects.exists()
    assert is_signed_in(give_password()[0])
    told = [entry.reason for entry in entries(person.organization, AuditAction.FACTOR_REMOVE)]
    assert told == ["authenticator app", "recovery codes"]


@pytest.mark.parametrize("path", [TOTP_ON, TOTP_OFF, ADD, CODES, NEW_CODES])
def test_a_change_of_factors_asks_again_who_it_is_when_that_was_long_ago(person, client, clock, path):
    if path != TOTP_ON:
        set_up_app(client, clock)
    response = age_proof(client, DAY).get(path)
    assert response["Location"] == f"{AGAIN}?next={quote(path, safe='')}"
    assert client.post(response["Location"], {"password": "not mine"}).status_code == 200
    assert client.get(path)["Location"].startswith(AGAIN)
    assert client.post(response["Location"], {"password": PASSWORD})["Location"] == path
    assert client.get(path).status_code == 200
    assert len(entries(person.organization, AuditAction.PROOF)) == 1


def test_a_form_sent_meanwhile_waits_and_is_done_then(person, client, clock):
    set_up_app(client, clock)
    response = age_proof(client, DAY).post(TOTP_OFF)
    assert Authenticator.objects.filter(type="totp").exists()
    client.post(response["Location"], {"password": PASSWORD})
    assert not Authenticator.objects.filter(type="totp").exists()


def test_a_code_or_a_passkey_proves_it_too(person, client, clock):
    secret, passkey = set_up_app(client, clock), Passkey()
    add_passkey(client, passkey)
    clock.on(STEP)
    age_proof(client, DAY)
    way = "/accounts/2fa/reauthenticate/?next=/accounts/2fa/recovery-codes/generate/"
    assert client.post(way, {"code": code_of(secret, clock)})["Location"] == NEW_CODES
    assert client.get(NEW_CODES).status_code == 200
    age_proof(client, DAY)
    way = way.replace("2fa/reauthenticate", "2fa/webauthn/reauthenticate")
    options = client.get(way).context["js_data"]["request_options"]
    assert client.post(way, {"credential": passkey.get(plain(options))})["Location"] == NEW_CODES
    assert client.get(NEW_CODES).status_code == 200


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (BERLIN, f"From: {BERLIN} (Berlin, Germany)"),
        (UNKNOWN, f"From: {UNKNOWN}"),
        ("127.0.0.1", "From: 127.0.0.1 (this machine)"),
        ("10.1.2.3", "From: 10.1.2.3 (private network)"),
    ],
)
def test_the_mail_tells_where_a_change_was_made(person, client, mailoutbox, settings, tmp_path, address, told):
    settings.GEOIP_DATABASE = str(write_places(tmp_path / "places.mmdb"))
    settings.TRUSTED_PROXIES = []
    client.defaults["REMOTE_ADDR"] = address
    add_passkey(client, Passkey())
    assert told in mailoutbox[-1].body.splitlines()


def test_no_place_makes_a_line_of_a_mail(person, client, mailoutbox, settings, tmp_path):
    told = record("Germany\nWith: nothing", "Berlin\r\n\r\nGive your password at <https://evil.example>")
    settings.GEOIP_DATABASE = str(write_places(tmp_path / "places.mmdb", {"203.0.113.0/24": told}))
    client.defaults["REMOTE_ADDR"] = BERLIN
    add_passkey(client, Passkey())
    [line] = [one for one in mailoutbox[-1].body.splitlines() if "evil.example" in one or "nothing" in one]
    assert line.startswith(f"From: {BERLIN} (Berlin Give your password")


def test_a_mail_server_that_is_away_stops_no_change(person, client, clock, mail_server):
    mail_server("Refusing")
    add_passkey(client, Passkey())
    assert Authenticator.objects.filter(type="webauthn").count() == 1


# Recovery codes


def test_recovery_codes_are_shown_once_and_each_signs_in_once(person, client, clock):
    set_up_app(client, clock)
    response = client.get(CODES)
    codes = response.context["unused_codes"]
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"\d{10}", code) for code in codes)
    assert "no-store" in response["Cache-Control"]
    assert codes[0] in response.text
    assert codes[0] not in client.get(CODES).text
    for expected in (True, False):
        other, _ = give_password()
        other.post(CODE, {"code": codes[3]})
        assert is_signed_in(other) == expected
    assert entries(person.organization, AuditAction.SIGN_IN)[-1].reason == "password and recovery code"
    assert "9 left" in client.get(INDEX).text


def test_new_recovery_codes_take_the_place_of_the_old(person, client, clock):
    set_up_app(client, clock)
    old = client.get(CODES).context["unused_codes"]
    client.post(NEW_CODES)
    new = client.get(CODES).context["unused_codes"]
    assert not set(old) & set(new)
    for code, expected in ((old[0], False), (new[0], True)):
        other, _ = give_password()
        other.post(CODE, {"code": code})
        assert is_signed_in(other) == expected


# Passkeys


@pytest.fixture
def passkey(client):
    passkey = Passkey()
    assert add_passkey(client, passkey)["Location"] == CODES
    return passkey


def asked(client):
    return client.get(WITH_PASSKEY, headers={"Accept": "application/json"}).json()["request_options"]


def test_a_passkey_signs_in_alone(person, passkey):
    client = Client()
    assert client.post(WITH_PASSKEY, {"credential": passkey.get(asked(client))})["Location"] == "/"
    assert is_signed_in(client)
    assert entries(person.organization, AuditAction.SIGN_IN)[-1].reason == "passkey"


def test_a_passkey_follows_the_password(person, passkey):
    client, response = give_password()
    assert response["Location"].startswith(CODE)
    options = client.get(CODE).context["js_data"]["request_options"]
    client.post(CODE, {"credential": passkey.get(plain(options))})
    assert is_signed_in(client)
    assert entries(person.organization, AuditAction.SIGN_IN)[-1].reason == "password and passkey"


def test_what_a_browser_said_counts_once(person, passkey):
    client = Client()
    said = passkey.get(asked(client))
    client.post(WITH_PASSKEY, {"credential": said})
    client.post("/accounts/logout/")
    for other in (client, Client()):
        other.post(WITH_PASSKEY, {"credential": said})
        assert not is_signed_in(other)


FORGED = {
    "of another page": {"origin": "https://evil.example"},
    "of a page of a subdomain": {"origin": "http://evil.localhost:8000"},
    "of another port": {"origin": "http://localhost:9000"},
    "signed by another key": {"key": ec.generate_private_key(ec.SECP256R1())},
    "without a finger, face or PIN": {"flags": PRESENT},
    "of nobody": {"user_handle": "bm9ib2R5"},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_answer_signs_nobody_in(person, passkey, name):
    client = Client()
    client.post(WITH_PASSKEY, {"credential": passkey.get(asked(client), **FORGED[name])})
    assert not is_signed_in(client)


def test_a_passkey_of_somebody_else_does_not_follow_ones_password(person, passkey, organization, client_of):
    theirs = Passkey()
    add_passkey(client_of(make_member(organization, Role.ADMIN, make_user())), theirs)
    client, _ = give_password()
    options = client.get(CODE).context["js_data"]["request_options"]
    response = client.post(CODE, {"credential": theirs.get(plain(options))})
    assert response.status_code == 200
    assert not is_signed_in(client)
    assert entries(person.organization, AuditAction.FACTOR_FAILED)[-1].reason == "passkey"


BROKEN = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "empty": "{}",
    "nested deeply": "[" * 10_000,
    "nested deeply and closed": "[" * 9_000 + "]" * 9_000,
    "too long": json.dumps({"id": "x" * 100_000}),
    "a response that is a list": '{"response": []}',
    "a response of numbers": '{"response": {"clientDataJSON": 7}}',
    "no base64": '{"response": {"clientDataJSON": "*"}}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_browser_says_is_refused_everywhere(person, client, passkey, name):
    nobody = Client()
    nobody.get(WITH_PASSKEY, headers={"Accept": "application/json"})
    assert nobody.post(WITH_PASSKEY, {"credential": BROKEN[name]})["Location"].startswith(LOGIN)
    client.get(ADD)
    assert client.post(ADD, {"name": "x", "credential": BROKEN[name]}).status_code == 200
    halfway, _ = give_password()
    assert halfway.post(CODE, {"credential": BROKEN[name]}).status_code == 200
    assert not is_signed_in(halfway)
    assert Authenticator.objects.filter(type="webauthn").count() == 1


def test_parts_of_a_real_answer_changed_at_random_sign_nobody_in(person, passkey):
    real = Client()
    said = json.loads(passkey.get(asked(real)))
    values = [None, 7, [], {}, "", "x", "AAAA", "\0"]
    parts = [*said, *(f"response.{name}" for name in said["response"])]
    # What kind of thing it is, is not signed, and counts for nothing.
    for part in [part for part in parts if part not in {"type", "clientExtensionResults"}]:
        for value in values:
            changed = json.loads(json.dumps(said))
            holder = changed["response"] if part.startswith("response.") else changed
            holder[part.removeprefix("response.")] = value
            cache.clear()
            other = Client()
            other.cookies = real.cookies
            response = other.post(WITH_PASSKEY, {"credential": json.dumps(changed)})
            assert response.status_code == 302, (part, value)
            assert not is_signed_in(other), (part, value)


def test_a_removed_passkey_signs_nobody_in(person, client, passkey):
    number = Authenticator.objects.get(type="webauthn").pk
    client.post(f"/accounts/2fa/webauthn/keys/{number}/edit/", {"name": "Old laptop"})
    assert "Old laptop" in client.get(INDEX).text
    client.post(f"/accounts/2fa/webauthn/keys/{number}/remove/")
    other = Client()
    other.post(WITH_PASSKEY, {"credential": passkey.get(asked(other))})
    assert not is_signed_in(other)
    assert is_signed_in(give_password()[0])


def test_nobody_can_rename_or_remove_a_passkey_of_somebody_else(person, client, passkey, organization, client_of):
    number = Authenticator.objects.get(type="webauthn").pk
    other = client_of(make_member(organization, Role.ADMIN, make_user()))
    before = snapshot()
    for action in ("edit", "remove"):
        path = f"/accounts/2fa/webauthn/keys/{number}/{action}/"
        assert other.get(path).status_code == 404
        assert other.post(path, {"name": "mine"}).status_code == 404
    assert snapshot() == before


def test_a_closed_account_does_not_open_to_a_passkey(person, passkey):
    person.user.is_active = False
    person.user.save()
    client = Client()
    client.post(WITH_PASSKEY, {"credential": passkey.get(asked(client))})
    assert not is_signed_in(client)


# Step-up


@pytest.mark.parametrize("headers", [None, HTMX], ids=["page", "dialog"])
def test_a_passkey_proves_who_somebody_is_and_the_form_goes_on(person, client, passkey, organization, headers):
    address = url("organization_edit", organization)
    form = {"name": "Renamed", "key_prefix": "ka", "max_key_age": ""}
    response = age_proof(client, DAY).post(address, form, headers=headers)
    assert response.status_code == 422
    asked_for = plain(response.context["passkey"])
    credential = passkey.get(asked_for)
    response = client.post(address, form | {"proof_password": "", "proof_passkey": credential}, headers=headers)
    assert response.status_code in {200, 302}
    organization.refresh_from_db()
    assert organization.name == "Renamed"
    proof = entries(organization, AuditAction.PROOF)[-1]
    assert (proof.actor_label, proof.reason) == ("olga@example.com", "passkey")
    # And not again with what was said before.
    again = age_proof(client, DAY).post(address, form | {"name": "Again", "proof_passkey": credential})
    assert again.status_code == 422
    assert "does not belong" in again.text
    assert entries(organization, AuditAction.PROOF_FAILED)


# An organization that requires one


def required(organization):
    organization.requires_second_factor = True
    organization.save()


def test_who_has_none_is_led_to_set_one_up_and_sees_nothing_before(person, client, clock, organization):
    required(organization)
    for path in ("/acme/", "/acme/keys/", "/acme/audit/", "/acme/keys/export.csv"):
        response = client.get(path)
        assert response["Location"] == INDEX
    assert client.get("/acme/keys/", headers=HTMX)["HX-Redirect"] == INDEX
    assert client.post(url("key_create", organization), {"name": "x"})["Location"] == INDEX
    page = client.get(INDEX)
    assert page.text.count("Acme asks its members for a second factor.") == 1
    set_up_app(client, clock)
    assert is_signed_in(client)


def test_requiring_it_needs_one_of_ones_own(person, client, clock, organization):
    address = url("organization_edit", organization)
    form = {"name": "Acme", "key_prefix": "ka", "max_key_age": "", "requires_second_factor": "on"}
    response = client.post(address, form)
    assert response.status_code == 422
    assert "Set up one of your own first" in response.text
    organization.refresh_from_db()
    assert not organization.requires_second_factor
    set_up_app(client, clock)
    assert client.post(address, form).status_code == 302
    organization.refresh_from_db()
    assert organization.requires_second_factor
    changed = entries(organization, AuditAction.ORGANIZATION_EDIT)[-1].changes
    assert changed == {"requires_second_factor": [False, True]}


def test_admins_see_who_has_none_and_others_do_not(person, client, clock, organization, client_of):
    make_member(organization, Role.VIEWER, make_user("vera@example.com"))
    page = client.get(url("member_list", organization))
    assert page.text.count("one factor") == 3
    assert {member.has_second_factor for member in page.context["members"]} == {False}
    set_up_app(client, clock)
    members = client.get(url("member_list", organization)).context["members"]
    assert [member.user.email for member in members if member.has_second_factor] == ["olga@example.com"]
    viewer = client_of(organization.members.get(role=Role.VIEWER))
    assert "factor</small>" not in viewer.get(url("member_list", organization)).text


def test_it_costs_no_query(
    person, client, clock, organization, django_assert_num_queries, django_assert_max_num_queries
):

    set_up_app(client, clock)
    client.get("/acme/keys/")
    with CaptureQueriesContext(
        connection,
    ) as without:
        client.get("/acme/keys/")
    required(organization)
    with django_assert_num_queries(len(without)):
        client.get("/acme/keys/")


def test_who_signed_on_at_the_provider_needs_no_other(person, client, organization):
    required(organization)
    assert not is_signed_in(client)
    session = client.session
    session["account_authentication_methods"] = [{"method": "socialaccount", "at": time.time()}]
    session["account_authentication_methods_user"] = str(person.user.pk)
    session.save()
    assert is_signed_in(client)


def test_a_passkey_signs_nobody_in_whose_domain_signs_on_at_the_provider_alone(person, organization, passkey, settings):
    settings.OIDC_ISSUER = "https://provider.example"
    SignOnDomain.objects.create(domain="example.com", organization=organization, role=Role.VIEWER, is_required=True)
    client = Client()
    client.post(WITH_PASSKEY, {"credential": passkey.get(asked(client))})
    assert not is_signed_in(client)
    failed = entries(organization, AuditAction.SIGN_IN_FAILED)[-1]
    assert failed.reason == "a passkey, where single sign-on is required"


def test_a_password_that_is_chosen_anew_by_mail_still_needs_it(person, client, clock, mailoutbox):
    set_up_app(client, clock)
    other = Client()
    other.post("/accounts/password/reset/", {"email": "olga@example.com"})
    link = re.search(r"https?://[^/]+(/accounts/password/reset/key/\S+)", mailoutbox[-1].body)[1]
    form = other.get(link, follow=True)
    new = "a much better horse"
    other.post(form.request["PATH_INFO"], {"password1": new, "password2": new})
    assert not is_signed_in(other)
    response = other.post(LOGIN, {"login": "olga@example.com", "password": new})
    assert response["Location"].startswith(CODE)
    assert not is_signed_in(other)
