"""Single sign-on through a real provider, by our own pages: who is let in, and every way in which one is not."""

import logging
import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
import pytest
import requests
from django.core.cache import cache
from django.test import Client

from apikeys.models import (
    Actor,
    AuditAction,
    AuditEntry,
    Ending,
    FormerMember,
    Member,
    Role,
    SignOnDomain,
    SignOnIdentity,
    User,
)
from tests.factories import PASSWORD, make_member, make_organization, make_rotation, make_user
from tests.identity_provider import CLIENT, OTHER_KEY, SECRET, identity_provider, sign
from tests.pages import age_proof, entries, key_form, snapshot, url

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]
SIGN_ON, RETURN = "/accounts/oidc/", "/accounts/oidc/callback"
KIM = {"email": "kim@acme.example", "email_verified": True, "name": "Kim Known"}


@pytest.fixture(scope="module")
def running():
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def provider(running, settings, db):
    running.tell_the_truth()
    running.know("kim", **KIM)
    cache.clear()
    settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = running.url, CLIENT, SECRET
    settings.OIDC_NAME = "Acme Login"
    settings.BASE_URL = "http://testserver"
    return running


@pytest.fixture
def mapping(organization, provider):
    return make_mapping(organization)


def make_mapping(organization, domain="acme.example", role=Role.OPERATOR, *, is_required=False):
    return SignOnDomain.objects.map(
        domain, organization=organization, role=role, is_required=is_required, by=Actor.command()
    )


def begin(client, **form):
    """Press the button; return where the page leads to."""
    response = client.post(SIGN_ON, form)
    assert response.status_code == 200, response.text
    return response["Refresh"].removeprefix("0;url=")


def come_back(client, location):
    assert location.startswith(f"http://testserver{RETURN}?")
    return client.get(location.removeprefix("http://testserver"))


def sign_on(provider, subject="kim", client=None, **form):
    """Sign in, from the button to the page that the provider leads back to."""
    client = client or Client()
    return come_back(client, provider.consent(begin(client, **form), subject))


def is_signed_in(response):
    return "_auth_user_id" in response.wsgi_request.session


def refused(provider, subject="kim", **form):
    """Sign on in vain, and return the answer; nothing but the audit log is changed."""
    before = snapshot()
    response = sign_on(provider, subject, **form)
    assert not is_signed_in(response)
    after = snapshot()
    for passing in ("apikeys.AuditEntry", "apikeys.AuditLink", "apikeys.AuditChain", "apikeys.Session"):
        before.pop(passing, None), after.pop(passing, None)
    assert after == before
    return response


def reasons(action=AuditAction.SIGN_IN_FAILED):
    return [entry.reason for entry in AuditEntry.objects.filter(action=action).order_by("id")]


# Being let in


def test_a_first_sign_in_makes_the_account_and_the_membership(provider, mapping, organization):
    client = Client()
    response = sign_on(provider, client=client)
    assert (response.status_code, response["Location"]) == (302, "/")
    kim = User.objects.get(email="kim@acme.example")
    assert kim.name == "Kim Known"
    assert not kim.has_usable_password()
    assert kim.memberships.get().role == Role.OPERATOR
    assert client.get(url("key_list", organization)).status_code == 200
    identity = kim.sign_on_identities.get()
    assert (identity.issuer, identity.subject, identity.email) == (provider.url, "kim", "kim@acme.example")


def test_it_is_in_the_audit_log(provider, mapping, organization):
    sign_on(provider)
    kim = User.objects.get(email="kim@acme.example")
    for action, reason in [
        (AuditAction.SIGN_ON_LINK, "single sign-on"),
        (AuditAction.MEMBER_ADD, "single sign-on by acme.example"),
        (AuditAction.SIGN_IN, "single sign-on"),
    ]:
        entry = entries(organization, action)[-1]
        assert (entry.actor, entry.target_label, entry.reason) == (kim, "kim@acme.example", reason)
        assert entry.address == "127.0.0.1"


def test_a_second_sign_in_makes_nothing_new(provider, mapping):
    sign_on(provider)
    counts = [model.objects.count() for model in (User, Member, SignOnIdentity)]
    assert is_signed_in(sign_on(provider))
    assert [model.objects.count() for model in (User, Member, SignOnIdentity)] == counts


def test_it_leads_on_to_where_one_was_going_and_nowhere_else(provider, mapping, organization):
    page = url("key_list", organization)
    assert sign_on(provider, next=page)["Location"] == page
    for elsewhere in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        assert sign_on(provider, next=elsewhere)["Location"] == "/"


def test_an_account_with_the_address_is_linked_and_keeps_its_password_and_role(provider, mapping, organization):
    kim = make_user("kim@acme.example", password=PASSWORD, name="Kim K.")
    make_member(organization, Role.ADMIN, kim)
    provider.know("kim", **KIM | {"email": "KIM@ACME.example"})
    assert is_signed_in(sign_on(provider))
    kim.refresh_from_db()
    assert (kim.name, kim.check_password(PASSWORD), kim.memberships.get().role) == ("Kim K.", True, Role.ADMIN)
    assert len(entries(organization, AuditAction.SIGN_ON_LINK)) == 1


def test_a_name_that_no_account_can_have_is_left_out(provider, mapping):
    provider.know("kim", **KIM | {"name": "Kim\u202e\0"})
    assert is_signed_in(sign_on(provider))
    assert User.objects.get(email="kim@acme.example").name == ""


def test_the_session_is_a_new_one_and_a_proof(provider, mapping, organization):
    mapping = make_mapping(organization, role=Role.ADMIN)
    client = Client()
    client.get("/accounts/login/")
    address = begin(client)
    before = client.session.session_key
    come_back(client, provider.consent(address, mapping and "kim"))
    assert client.session.session_key != before
    assert client.post(url("key_create", organization), key_form()).status_code != 422


def test_the_browser_keeps_the_session_until_it_is_closed(provider, mapping):
    cookie = sign_on(provider).cookies["sessionid"]
    assert (cookie["max-age"], cookie["expires"]) == ("", "")
    assert cookie["httponly"]


def test_whoever_was_signed_in_in_this_browser_is_signed_out(provider, mapping, organization, client_of, viewer):
    client = client_of(viewer)
    sign_on(provider, client=client)
    assert client.session["_auth_user_id"] == str(User.objects.get(email="kim@acme.example").pk)
    assert len(entries(organization, AuditAction.SIGN_OUT)) == 1


def test_no_token_of_the_provider_is_kept(provider, mapping):
    sign_on(provider)
    rows = str(snapshot())
    assert provider.redeemed[-1]["code"] not in rows
    assert "eyJ" not in rows
    session = Client()
    sign_on(provider, client=session)
    assert "eyJ" not in str(dict(session.session.items()))


# What is sent


def test_the_provider_is_asked_with_state_nonce_and_pkce(provider, mapping):
    sent = dict(parse_qsl(urlsplit(begin(Client())).query))
    assert sent["response_type"] == "code"
    assert sent["redirect_uri"] == f"http://testserver{RETURN}"
    assert set(sent["scope"].split()) == {"openid", "email", "profile"}
    assert (sent["code_challenge_method"], len(sent["code_challenge"])) == ("S256", 43)
    assert len(sent["nonce"]) >= 43
    assert sent["state"]
    assert "max_age" not in sent


def test_what_is_asked_for_cannot_be_changed_by_the_address(provider, mapping):
    client = Client()
    response = client.post(f"{SIGN_ON}?auth_params=redirect_uri%3Dhttps://evil.example&scope=all&process=connect")
    sent = parse_qs(urlsplit(response["Refresh"]).query)
    assert sent["redirect_uri"] == [f"http://testserver{RETURN}"]
    assert "all" not in sent["scope"][0]


def test_the_way_back_is_this_site_whatever_host_was_asked_for(provider, mapping, settings):
    settings.ALLOWED_HOSTS = ["*"]
    response = Client().post(SIGN_ON, headers={"Host": "evil.example"})
    assert "evil.example" not in response["Refresh"]


def test_it_begins_by_a_form_of_ours_alone(provider, mapping):
    assert Client().get(SIGN_ON).status_code == 405
    assert Client(enforce_csrf_checks=True).post(SIGN_ON).status_code == 403


def test_many_beginnings_have_to_wait(provider, mapping):
    answers = [Client().post(SIGN_ON).status_code for _ in range(32)]
    assert answers[0] == 200
    assert answers[-1] == 429


# Not being let in


@pytest.mark.parametrize("verified", [False, None, "false", 0, "yes", [True]])
def test_an_address_that_is_not_verified_opens_nothing(provider, mapping, verified):
    provider.know("kim", **KIM | {"email_verified": verified})
    response = refused(provider)
    assert response.status_code == 403
    assert "Your address is not verified" in response.text
    assert reasons() == ["single sign-on: the provider does not say that the address is verified"]


def test_nor_does_one_of_which_nothing_is_said(provider, mapping):
    provider.know("kim", email="kim@acme.example")
    assert "Your address is not verified" in refused(provider).text


@pytest.mark.parametrize("email", ["", "kim", "a@b@acme.example\0", f"{'x' * 300}@acme.example", None, 7])
def test_nor_does_what_is_no_address(provider, mapping, email):
    provider.know("kim", **KIM | {"email": email})
    assert refused(provider).status_code == 403


def test_nor_does_half_a_character(provider, mapping):
    provider.lie = change(email="kim\ud800@acme.example")
    assert refused(provider).status_code == 403


def test_another_name_for_verified_can_be_set(provider, mapping, settings):
    settings.OIDC_VERIFIED_CLAIM = "xms_edov"
    assert refused(provider).status_code == 403
    provider.know("kim", email="kim@acme.example", xms_edov="1")
    assert is_signed_in(sign_on(provider))


@pytest.mark.parametrize(
    "email", ["kim@other.example", "kim@sub.acme.example", "kim@acme.example.evil.example", "kim@notacme.example"]
)
def test_a_domain_that_is_not_mapped_opens_nothing(provider, mapping, email):
    provider.know("kim", **KIM | {"email": email})
    response = refused(provider)
    assert response.status_code == 403
    assert "This opens nothing here" in response.text


def test_an_account_of_another_domain_is_not_taken_by_its_address(provider, mapping, organization):
    make_member(organization, Role.ADMIN, make_user("boss@other.example", password=PASSWORD))
    provider.know("kim", **KIM | {"email": "boss@other.example"})
    assert refused(provider).status_code == 403


def test_nobody_learns_whether_an_address_has_an_account(provider, mapping, organization):
    make_member(organization, Role.ADMIN, make_user("boss@other.example"))
    make_user("closed@acme.example", is_active=False)
    taken = make_user("taken@acme.example")
    SignOnIdentity.objects.create(issuer=provider.url, subject="before", user=taken, email=taken.email)
    texts = set()
    for email in ("boss@other.example", "nobody@other.example", "closed@acme.example", "taken@acme.example"):
        provider.know("kim", **KIM | {"email": email})
        texts.add(re.sub(r'nonce="\S+"', "", refused(provider).text))
    assert len(texts) == 1
    assert len(set(reasons())) == 3


def test_a_closed_account_is_not_opened(provider, mapping):
    sign_on(provider)
    User.objects.filter(email="kim@acme.example").update(is_active=False)
    assert refused(provider).status_code == 403
    assert reasons() == ["single sign-on: the account is closed"]


def test_somebody_who_gets_an_address_again_does_not_get_its_account(provider, mapping, organization):
    sign_on(provider)
    provider.know("kim-the-second", **KIM)
    assert refused(provider, "kim-the-second").status_code == 403
    [entry] = entries(organization, AuditAction.SIGN_IN_FAILED)
    assert entry.target_label == "kim@acme.example"
    assert entry.reason.endswith("the address is of an account that is linked to somebody else at the provider")


def test_the_same_subject_at_another_issuer_is_somebody_else(provider, mapping):
    sign_on(provider)
    SignOnIdentity.objects.update(issuer="https://old.example", email="x@acme.example")
    User.objects.filter(email="kim@acme.example").update(email="moved@acme.example")
    assert is_signed_in(sign_on(provider))
    assert User.objects.get(email="kim@acme.example").sign_on_identities.get().issuer == provider.url


def test_an_address_that_changes_at_the_provider_keeps_the_account(provider, mapping, organization):
    sign_on(provider)
    provider.know("kim", **KIM | {"email": "kim.new@elsewhere.example"})
    assert is_signed_in(sign_on(provider))
    kim = User.objects.get(email="kim@acme.example")
    assert kim.sign_on_identities.get().email == "kim.new@elsewhere.example"
    [entry] = entries(organization, AuditAction.SIGN_ON_ADDRESS)
    assert entry.changes == {"email": ["kim@acme.example", "kim.new@elsewhere.example"]}
    assert not User.objects.filter(email="kim.new@elsewhere.example").exists()


def test_a_domain_that_is_unmapped_opens_nothing_any_more(provider, mapping):
    sign_on(provider)
    mapping.unmap(by=Actor.command())
    assert refused(provider).status_code == 403


def test_a_member_who_was_removed_stays_out_until_an_admin_adds_them(provider, mapping, organization):
    sign_on(provider)
    kim = User.objects.get(email="kim@acme.example")
    kim.memberships.get().remove(by=Actor.command())
    client = Client()
    sign_on(provider, client=client)
    assert client.get(url("key_list", organization)).status_code == 404
    assert not kim.memberships.exists()
    organization.add_member(kim, Role.VIEWER, by=Actor.command())
    assert not FormerMember.objects.exists()
    sign_on(provider, client=client)
    assert kim.memberships.get().role == Role.VIEWER


def test_who_never_signed_on_before_being_removed_stays_out_too(provider, mapping, organization):
    make_member(organization, Role.VIEWER, make_user("kim@acme.example")).remove(by=Actor.command())
    sign_on(provider)
    assert not Member.objects.filter(user__email="kim@acme.example").exists()


# Answers that do not hold


def change(**claims):
    return lambda token: token.update(claims)


def without(claim):
    return lambda token: token.pop(claim)


LIES = {
    "another nonce": change(nonce="another"),
    "no nonce": without("nonce"),
    "a nonce that is a number": change(nonce=7),
    "another issuer": change(iss="https://evil.example"),
    "the issuer with a slash": lambda token: token.update(iss=token["iss"] + "/"),
    "another audience": change(aud="another-client"),
    "no audience": without("aud"),
    "several audiences": change(aud=[CLIENT, "another"]),
    "another authorized party": change(azp="another"),
    "it is over": change(exp=int(datetime.now(UTC).timestamp()) - 120),
    "it never ends": without("exp"),
    "of the future": change(iat=int(datetime.now(UTC).timestamp()) + 3600),
    "no time": without("iat"),
    "no subject": without("sub"),
    "an empty subject": change(sub=""),
    "a long subject": change(sub="x" * 256),
    "a subject with a NUL": change(sub="ki\0m"),
    "a subject with half a character": change(sub="kim\ud800"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(provider, mapping, lie):
    provider.lie = lie
    response = refused(provider)
    assert response.status_code == 502
    assert "Acme Login cannot be asked now" in response.text


FORGED = {
    "alg none": lambda claims: jwt.encode(claims, "", algorithm="none"),
    "another key": lambda claims: jwt.encode(claims, OTHER_KEY, algorithm="RS256", headers={"kid": "first"}),
    "a key that is not published": lambda claims: jwt.encode(
        claims, OTHER_KEY, algorithm="RS256", headers={"kid": "second"}
    ),
    "the client's secret": lambda claims: jwt.encode(claims, SECRET * 2, algorithm="HS256", headers={"kid": "first"}),
    "changed after signing": lambda claims: ".".join(
        [*sign(claims | {"email": "boss@acme.example"}).split(".")[:2], sign(claims).split(".")[2]]
    ),
    "no token": lambda claims: "",
    "no JWT": lambda claims: "not.a.token",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_an_id_token_that_the_provider_did_not_sign_is_refused(provider, mapping, forge):
    provider.sign = forge
    assert refused(provider).status_code == 502


def test_a_token_without_the_number_of_its_key_is_taken_when_there_is_one_key(provider, mapping):
    provider.sign = lambda claims: sign(claims, kid="")
    assert is_signed_in(sign_on(provider))


def test_an_address_in_a_thin_id_token_is_asked_for(provider, mapping):
    provider.lie = lambda token: [token.pop(name, None) for name in ("email", "email_verified", "name")]
    assert is_signed_in(sign_on(provider))
    assert User.objects.get(email="kim@acme.example").name == "Kim Known"


def test_what_is_told_of_somebody_else_is_not_believed(provider, mapping):
    provider.lie = without("email_verified")
    provider.user_info = lambda told: told | {"sub": "another"}
    assert refused(provider).status_code == 502


def test_the_word_about_one_address_is_not_taken_for_another(provider, mapping):
    provider.lie = lambda token: (token.pop("email_verified"), token.update(email="boss@acme.example"))
    sign_on(provider)
    assert not User.objects.filter(email="boss@acme.example").exists()
    assert User.objects.filter(email="kim@acme.example").exists()


# States and codes


def test_a_state_of_another_browser_is_refused(provider, mapping):
    location = provider.consent(begin(Client()), "kim")
    response = come_back(Client(), location)
    assert (response.status_code, is_signed_in(response)) == (400, False)
    assert "This sign-in is over" in response.text


@pytest.mark.parametrize("state", ["", "forged", None])
def test_a_state_that_was_not_given_is_refused(provider, mapping, state):
    client = Client()
    location = urlsplit(provider.consent(begin(client), "kim"))
    query = dict(parse_qsl(location.query))
    query = {name: value for name, value in (query | {"state": state}).items() if value is not None}
    response = client.get(f"{RETURN}?{urlencode(query)}")
    assert (response.status_code, is_signed_in(response)) == (400, False)


def test_a_way_back_is_good_once(provider, mapping):
    client = Client()
    location = provider.consent(begin(client), "kim")
    assert is_signed_in(come_back(client, location))
    client.post("/accounts/logout/")
    assert come_back(client, location).status_code == 400


def test_a_way_back_is_over_after_ten_minutes(provider, mapping):
    client = Client()
    location = provider.consent(begin(client), "kim")
    session = client.session
    for state in session["socialaccount_states"].values():
        state[1] -= 601
    session.save()
    assert come_back(client, location).status_code == 400


def test_a_code_of_another_sign_in_is_refused(provider, mapping):
    """It was stolen, and is given under the thief's own state: PKCE and the nonce are the victim's."""
    stolen = parse_qs(urlsplit(provider.consent(begin(Client()), "kim")).query)["code"][0]
    thief = Client()
    state = parse_qs(urlsplit(begin(thief)).query)["state"][0]
    response = thief.get(f"{RETURN}?{urlencode({'code': stolen, 'state': state})}")
    assert (response.status_code, is_signed_in(response)) == (502, False)


@pytest.mark.parametrize("code", ["", "used up", "\0"])
def test_a_code_that_the_provider_does_not_know_is_refused(provider, mapping, code):
    client = Client()
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    response = client.get(f"{RETURN}?{urlencode({'code': code, 'state': state})}")
    assert response.status_code in {400, 502}
    assert not is_signed_in(response)


def test_an_answer_of_another_issuer_is_refused(provider, mapping):
    client = Client()
    location = provider.consent(begin(client), "kim") + "&iss=https://evil.example"
    assert come_back(client, location).status_code == 502


def test_whoever_cancels_is_told_so(provider, mapping):
    client = Client()
    response = come_back(client, provider.deny(begin(client)))
    assert (response.status_code, is_signed_in(response)) == (200, False)
    assert "You are not signed in" in response.text


@pytest.mark.parametrize("error", ["server_error", "login_required", "<script>alert(1)</script>"])
def test_another_fault_of_the_provider_is_told(provider, mapping, error):
    client = Client()
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    response = client.get(f"{RETURN}?{urlencode({'error': error, 'state': state})}")
    assert response.status_code == 502
    assert "<script>" not in response.text.replace("<script src", "")


# The provider is away, or strange


def test_a_provider_that_is_away_is_a_page_and_a_line(provider, mapping, settings, caplog):
    settings.OIDC_ISSUER = "http://127.0.0.1:1"
    with caplog.at_level(logging.WARNING):
        response = Client().post(SIGN_ON)
    assert response.status_code == 502
    assert "Acme Login cannot be asked now" in response.text
    assert [record.getMessage() for record in caplog.records if record.name == "apikeys.views.sign_on"] == [
        "Single sign-on at 127.0.0.1 failed: ConnectionError"
    ]


def test_passwords_and_readiness_do_not_need_the_provider(provider, mapping, organization, settings, verifier):
    settings.OIDC_ISSUER = "http://127.0.0.1:1"
    make_member(organization, user=make_user("olga@example.com", password=PASSWORD))
    client = Client()
    assert client.get("/accounts/login/").status_code == 200
    assert client.post("/accounts/login/", {"login": "olga@example.com", "password": PASSWORD}).status_code == 302


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/oauth2/token", "/jwks", "/userinfo"])
def test_no_log_line_holds_what_was_received(provider, mapping, caplog, path):
    client = Client()
    provider.lie = without("email_verified")
    address = begin(client)
    provider.broken = {path}
    with caplog.at_level(logging.DEBUG, logger="apikeys"):
        response = come_back(client, provider.consent(address, "kim"))
    assert (response.status_code, is_signed_in(response)) == (502, False)
    code = provider.redeemed[-1].get("code", "none") if provider.redeemed else "none"
    told = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("apikeys"))
    assert "Single sign-on at 127.0.0.1 failed: " in told
    for secret in (code, SECRET, "a-code-or-a-token", "eyJ"):
        assert secret not in told


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/oauth2/token", "/jwks", "/userinfo"])
def test_no_redirect_is_followed(provider, mapping, path):
    provider.lie = without("email_verified")
    client = Client()
    address = begin(client)
    provider.redirecting = {path}
    response = come_back(client, provider.consent(address, "kim"))
    assert (response.status_code, is_signed_in(response)) == (502, False)


STRANGE = {
    "another issuer": {"issuer": "https://evil.example"},
    "no issuer": {"issuer": None},
    "no address to ask at": {"authorization_endpoint": None},
    "a script": {"authorization_endpoint": "javascript:alert(1)"},
    "a file": {"jwks_uri": "file:///etc/passwd"},
    "a number": {"token_endpoint": 7},
}


@pytest.mark.parametrize("discovery", STRANGE.values(), ids=STRANGE)
def test_a_strange_description_of_itself_is_refused(provider, mapping, discovery):
    provider.discovery = discovery
    response = Client().post(SIGN_ON)
    assert (response.status_code, "Refresh" in response) == (502, False)


def test_a_secure_issuer_is_not_led_to_an_insecure_address(provider, mapping, settings, monkeypatch):
    settings.OIDC_ISSUER = "https://login.example"
    found = {"issuer": settings.OIDC_ISSUER, "jwks_uri": "https://login.example/jwks"}
    found |= {"authorization_endpoint": "https://login.example/a", "token_endpoint": "http://login.example/t"}
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: _answer(found))
    assert Client().post(SIGN_ON).status_code == 502
    found["token_endpoint"] = "https://login.example/t"
    assert Client().post(SIGN_ON).status_code == 200


def _answer(content):
    response = requests.Response()
    response.status_code = 200
    response.json = lambda: content
    return response


# Off


def test_without_a_provider_there_is_nothing(organization, settings):
    make_mapping(organization)
    assert Client().post(SIGN_ON).status_code == 404
    assert Client().get(RETURN, {"code": "x", "state": "y"}).status_code == 404
    assert "oidc" not in Client().get("/accounts/login/").text


def test_the_sign_in_page_offers_it_and_keeps_where_one_was_going(provider):
    page = Client().get("/accounts/login/", {"next": "/acme/keys/"}).text
    [form] = [one for one in page.split("<form") if f'action="{SIGN_ON}"' in one]
    assert "Sign in with Acme Login" in form
    assert 'value="/acme/keys/"' in form


# Single sign-on alone


@pytest.fixture
def required(organization, provider):
    return make_mapping(organization, is_required=True)


def test_a_password_of_such_a_domain_signs_nobody_in(required, organization):
    make_member(organization, user=make_user("kim@acme.example", password=PASSWORD))
    answers = []
    for email, password in [
        ("kim@acme.example", PASSWORD),
        ("KIM@Acme.example ", "wrong"),
        ("nobody@acme.example", PASSWORD),
    ]:
        response = Client().post("/accounts/login/", {"login": email, "password": password})
        assert not is_signed_in(response)
        answers.append(response.context["form"].errors.as_text())
    assert len(set(answers)) == 1
    assert "Addresses of this domain sign in with Acme Login, not with a password." in answers[0]
    assert reasons() == ["a password, where single sign-on is required"] * 3


def test_and_none_is_chosen_by_mail(required, organization, mailoutbox):
    make_member(organization, user=make_user("kim@acme.example", password=PASSWORD))
    for email in ("kim@acme.example", "nobody@acme.example"):
        response = Client().post("/accounts/password/reset/", {"email": email})
        assert "sign in with Acme Login" in response.context["form"].errors.as_text()
    assert mailoutbox == []


def test_other_domains_sign_in_by_password(required, organization):
    make_member(organization, user=make_user("olga@example.com", password=PASSWORD))
    response = Client().post("/accounts/login/", {"login": "olga@example.com", "password": PASSWORD})
    assert is_signed_in(response)


def test_without_a_provider_or_the_mapping_passwords_work_again(required, organization, settings):
    make_member(organization, user=make_user("kim@acme.example", password=PASSWORD))
    form = {"login": "kim@acme.example", "password": PASSWORD}
    settings.OIDC_ISSUER = ""
    assert is_signed_in(Client().post("/accounts/login/", form))
    settings.OIDC_ISSUER = "http://127.0.0.1:1"
    assert not is_signed_in(Client().post("/accounts/login/", form))
    required.unmap(by=Actor.command())
    assert is_signed_in(Client().post("/accounts/login/", form))


# Showing again that it is oneself

STALE = 15 * 60 + 1


@pytest.fixture
def kim(provider, mapping, organization):
    """A client in which somebody without a password signed on some time ago, as an admin."""
    make_mapping(organization, role=Role.ADMIN)
    client = Client()
    sign_on(provider, client=client)
    return age_proof(client, STALE)


def sign_on_again(provider, client, subject="kim", process="prove", **form):
    return come_back(client, provider.consent(begin(client, process=process, **form), subject))


def test_who_has_no_password_is_offered_to_sign_on_again(kim, organization):
    page = kim.post(url("key_create", organization), key_form(name="checkout")).text
    assert 'name="proof_password"' not in page
    [form] = [one.split("</form>")[0] for one in page.split("<form") if f'action="{SIGN_ON}"' in one]
    assert 'target="_blank"' in form
    assert 'value="prove-beside"' in form
    assert "Sign in again with Acme Login" in page
    assert 'value="checkout"' in page


def test_the_form_waits_in_its_page_until_they_have(kim, organization, provider):
    form = key_form(name="checkout")
    address = url("key_create", organization)
    assert kim.post(address, form).status_code == 422
    again = kim.post(address, form | {"proof_sign_on": "1"})
    assert again.status_code == 422
    assert "You have not signed in again yet." in again.text
    proven = sign_on_again(provider, kim, process="prove-beside")
    assert "It is you" in proven.text
    assert kim.post(address, form | {"proof_sign_on": "1"}).status_code in {200, 302}
    assert organization.keys.filter(name="checkout").exists()


def test_an_action_without_a_form_waits_too(kim, organization, provider):
    rotation = make_rotation(organization).rotation
    address = url("rotation_cancel", organization, rotation.pk)
    page = kim.post(address, {}).text
    assert 'value="prove-beside"' in page
    assert "Confirm and go on" in page
    sign_on_again(provider, kim, process="prove-beside")
    assert kim.post(address, {"proof_sign_on": "1"}).status_code == 302
    rotation.refresh_from_db()
    assert rotation.ending == Ending.CANCELLED


def test_the_page_that_waits_stays_good(kim, organization, provider):
    """A sign-in gives a browser another CSRF token; a proof leaves the one that a form has in another tab."""
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = kim.cookies
    page = strict.get(url("organization_edit", organization)).text
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    sign_on_again(provider, kim, process="prove-beside")
    strict.cookies = kim.cookies
    form = {"name": "Renamed", "key_prefix": "ka", "csrfmiddlewaretoken": token}
    assert strict.post(url("organization_edit", organization), form).status_code == 302


def test_the_provider_is_to_ask_who_they_are(kim):
    sent = parse_qs(urlsplit(begin(kim, process="prove")).query)
    assert (sent["prompt"], sent["max_age"]) == (["login"], ["0"])


def test_it_goes_on_to_what_is_read_and_is_recorded(kim, organization, provider):
    before = kim.session.session_key
    address = url("audit_export", organization, "csv")
    asked = kim.get(address)
    page = kim.get(asked["Location"]).text
    [form] = [one.split("</form>")[0] for one in page.split("<form") if f'action="{SIGN_ON}"' in one]
    assert f'value="{address}"' in form
    assert "_blank" not in form
    assert "Confirm and go on" not in page
    done = sign_on_again(provider, kim, next=address)
    assert (done.status_code, done["Location"]) == (302, address)
    assert kim.get(address).status_code == 200
    assert kim.session.session_key != before
    [entry] = entries(organization, AuditAction.PROOF)
    assert (entry.actor.email, entry.reason) == ("kim@acme.example", "single sign-on")


def test_somebody_else_is_no_proof(kim, organization, provider):
    provider.know("eve", **KIM | {"email": "eve@acme.example"})
    response = sign_on_again(provider, kim, "eve")
    assert response.status_code == 403
    assert "That was somebody else" in response.text
    assert kim.session["_auth_user_id"] == str(User.objects.get(email="kim@acme.example").pk)
    assert not User.objects.filter(email="eve@acme.example").exists()
    assert kim.post(url("key_create", organization), key_form()).status_code == 422
    assert len(entries(organization, AuditAction.PROOF_FAILED)) == 1


@pytest.mark.parametrize("seconds", [None, 120, 86400, "now", -(10**30), 10**30])
def test_a_sign_in_of_before_is_no_proof(kim, organization, provider, seconds):
    def lie(token):
        known = {None: None, "now": "now"}
        at = known[seconds] if seconds in known else int(datetime.now(UTC).timestamp()) - seconds
        token.update(auth_time=at) if at is not None else token.pop("auth_time")

    provider.lie = lie
    response = sign_on_again(provider, kim)
    assert (response.status_code, "That was no new sign-in" in response.text) == (403, True)
    assert kim.post(url("key_create", organization), key_form()).status_code == 422


def test_a_way_back_of_a_proof_signs_nobody_in(kim, provider):
    location = provider.consent(begin(kim, process="prove"), "kim")
    kim.post("/accounts/logout/")
    response = come_back(kim, location)
    assert (response.status_code, is_signed_in(response)) == (400, False)


def test_nobody_proves_who_is_not_signed_in(provider, mapping):
    response = sign_on_again(provider, Client())
    assert is_signed_in(response)


def test_who_has_a_password_too_may_choose(organization, provider, mapping, client_of):
    user = make_user("kim@acme.example", password=PASSWORD)
    make_member(organization, Role.ADMIN, user)
    client = Client()
    sign_on(provider, client=client)
    age_proof(client, STALE)
    page = client.post(url("key_create", organization), key_form()).text
    assert 'name="proof_password"' in page
    assert "Sign in again with Acme Login" in page
    done = client.post(url("key_create", organization), key_form() | {"proof_password": PASSWORD, "proof_sign_on": "1"})
    assert done.status_code in {200, 302}


def test_where_it_is_required_a_password_is_no_proof(organization, provider, mapping, client_of):
    user = make_user("kim@acme.example", password=PASSWORD)
    make_member(organization, Role.ADMIN, user)
    make_mapping(organization, is_required=True)
    client = age_proof(client_of(user), STALE)
    refused = client.post(url("key_create", organization), key_form() | {"proof_password": PASSWORD})
    assert refused.status_code == 422
    assert "sign in with Acme Login, not with a password" in refused.text


# Where admins see it


def test_admins_see_the_domains_of_their_organization(organization, mapping, admin, client_of):
    make_mapping(make_organization("elsewhere"), "elsewhere.example")
    page = client_of(admin).get(url("organization_edit", organization)).text
    assert "acme.example" in page
    assert "elsewhere.example" not in page
    assert "work too" in page
    make_mapping(organization, is_required=True)
    assert "refused" in client_of(admin).get(url("organization_edit", organization)).text


def test_without_a_domain_they_read_what_to_do_and_without_a_provider_nothing(
    organization, provider, admin, client_of, settings
):
    address = url("organization_edit", organization)
    assert "No e-mail domain is mapped to this organization" in client_of(admin).get(address).text
    settings.OIDC_ISSUER = ""
    assert "Single sign-on" not in client_of(admin).get(address).text
