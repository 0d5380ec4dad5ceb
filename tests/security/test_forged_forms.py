"""Forms and cookies that no browser of ours made: more fields than a page has, replayed, tampered with, planted."""

import re
from datetime import timedelta

import pytest
from django import forms
from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from apikeys.filters import KeyFilter
from apikeys.models import ApiKey, Role, Session
from tests.factories import PASSWORD, make_actor, make_member, make_organization, make_user
from tests.pages import age_proof, entries, key_form, snapshot, url
from tests.test_access import FORMS, POST_ONLY, Things

pytestmark = [pytest.mark.django_db, pytest.mark.any_engine]


@pytest.fixture(autouse=True)
def no_limit_from_before(db):
    cache.clear()


@pytest.fixture
def person(organization):
    return make_member(organization, Role.ADMIN, make_user("olga@example.com", password=PASSWORD)).user


def sign_in(client, password=PASSWORD):
    return client.post("/accounts/login/", {"login": "olga@example.com", "password": password})


# Mass assignment: every column of every table, sent to every form that does not ask for it

MARK, NUMBER, MOMENT = "massassigned", "77777", "2001-02-03T04:05:06+00:00"
FOUND = re.compile(r"massassigned|\b77777\b|date(time)?\(2001, 2, 3|2001-02-03")


def value_for(name, field):
    """Return what is sent for a column: of its kind, so that it could be stored."""
    if "Date" in type(field).__name__:
        return MOMENT
    return NUMBER if "Integer" in type(field).__name__ or name.endswith("_id") else MARK


COLUMNS = {
    name: value_for(name, field)
    for model in apps.get_app_config("apikeys").get_models()
    for field in model._meta.concrete_fields
    for name in {field.name, field.attname}
}


def asked_for(client, things, name):
    """Return the fields that a page's form has, and those of what is chosen on it."""
    if name in POST_ONLY:
        return set()
    context = client.get(things.url(name)).context
    form = context.get("form") if context else None
    return set(form.fields) if isinstance(form, forms.BaseForm) else set()


@pytest.mark.parametrize("name", sorted(FORMS))
def test_no_column_is_set_that_a_form_does_not_ask_for(organization, admin, client_of, name):
    things, client = Things(organization), client_of(admin)
    form = things.form(name)
    fields = asked_for(client, things, name) | set(form)
    extra = {column: value for column, value in COLUMNS.items() if column not in fields}
    if name in {"scope_create", "invitation_create", "webhook_switch", "key_bulk_revoke", "key_bulk_rotate"}:
        # Their form is on another page, or needs a choice first.
        extra = {column: value for column, value in extra.items() if column not in {"name", "note", "description"}}
    if name == "review_start":
        things.review.close(by=make_actor())  # there is one open review at a time
        # It asks which keys are reviewed, as the list of keys does.
        extra = {column: value for column, value in extra.items() if column not in KeyFilter.base_filters}
    assert {"created_at", "revoked_at", "digest", "is_active", "organization_id", "public_id"} <= set(extra)
    before = snapshot()
    assert client.post(things.url(name), form | extra).status_code in {200, 302}
    after = snapshot()
    assert after != before
    for label, rows in after.items():
        assert not FOUND.search("".join(rows)), label


# Replays and forgeries


def browser(person):
    """Return a client that checks for forgeries as the server does, its cookies as of a browser."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    return client


def token_of(page):
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]


def test_the_token_of_another_persons_form_is_refused(organization, person, operator):
    mine, theirs = browser(person), browser(operator)
    token = token_of(theirs.get(url("key_create", organization)))
    mine.get(url("key_create", organization))
    response = mine.post(url("key_create", organization), key_form(csrfmiddlewaretoken=token))
    assert response.status_code == 403
    assert not ApiKey.objects.filter(name="checkout").exists()


def test_a_form_of_before_the_sign_out_is_refused_afterwards(organization, person):
    client = browser(person)
    form = key_form(csrfmiddlewaretoken=token_of(client.get(url("key_create", organization))))
    client.post("/accounts/logout/", {"csrfmiddlewaretoken": form["csrfmiddlewaretoken"]})
    response = client.post(url("key_create", organization), form)
    assert response.status_code in {302, 403}
    assert not ApiKey.objects.filter(name="checkout").exists()


def test_a_form_that_is_sent_twice_makes_one_key_and_shows_it_once(organization, person, client_of):
    client, form = client_of(person), key_form()
    first, second = (client.post(url("key_create", organization), form) for _ in range(2))
    assert "secret" in first.context
    assert "secret" not in second.context
    assert ApiKey.objects.filter(name="checkout").count() == 1


# Sessions and cookies


def test_a_session_that_was_planted_before_the_sign_in_is_nobodys(organization, person):
    """Session fixation: who knows the cookie of before has nothing afterwards."""
    attacker = Client()
    attacker.get("/accounts/login/")
    session = attacker.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    victim = Client()
    victim.cookies[settings.SESSION_COOKIE_NAME] = planted
    sign_in(victim)
    assert victim.cookies[settings.SESSION_COOKIE_NAME].value != planted
    assert victim.get(url("key_list", organization)).status_code == 200
    spy = Client()
    spy.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert spy.get(url("key_list", organization)).status_code == 302
    made_up = Client()
    made_up.cookies[settings.SESSION_COOKIE_NAME] = "a" * 32
    sign_in(made_up)
    assert made_up.cookies[settings.SESSION_COOKIE_NAME].value != "a" * 32


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:-1],
        lambda value: value[::-1],
        lambda value: value.upper(),
        lambda value: value + "x",
        lambda _: "",
        lambda _: "../../etc/passwd",
        lambda _: "'; DROP TABLE apikeys_session; --",
        lambda _: "é" * 40,
    ],
)
def test_a_session_cookie_that_was_changed_is_nobodys(organization, person, client_of, change):
    client = client_of(person)
    value = client.cookies[settings.SESSION_COOKIE_NAME].value
    other = Client()
    other.cookies[settings.SESSION_COOKIE_NAME] = change(value)
    assert other.get(url("key_list", organization)).status_code == 302
    assert Session.objects.filter(session_key=value).exists()
    assert client.get(url("key_list", organization)).status_code == 200


def test_other_cookies_that_were_changed_do_nothing(organization, person, client_of):
    client = client_of(person)
    hostile = '"><script>alert(1)</script>'
    for name in ("messages", "theme", "zone", "csrftoken"):
        for value in (hostile, "x" * 3000, "../../etc/passwd", '[["__json_message",0,25,"forged"]]:1abc:def'):
            client.cookies[name] = value
            response = client.get(url("key_list", organization))
            assert response.status_code == 200, (name, value)
            assert "<script>alert" not in response.text
            assert "forged" not in response.text


def test_what_a_session_holds_is_signed_so_that_whoever_writes_to_the_database_alone_signs_nobody_in(
    organization, person
):
    client = Client()
    client.get("/accounts/login/")
    session = client.session
    session.save()
    row = Session.objects.get(session_key=session.session_key)
    row.session_data = "eyJfYXV0aF91c2VyX2lkIjogIjEifQ:1abc:forged"
    row.expire_date = timezone.now() + timedelta(days=1)
    row.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = row.session_key
    assert client.get(url("key_list", organization)).status_code == 302


def test_a_proof_is_of_its_session_and_its_person_alone(organization, person, client_of):
    """Step-up in one window proves nothing in another one."""
    first, second = age_proof(client_of(person), 24 * 3600), age_proof(client_of(person), 24 * 3600)
    assert first.post(url("key_create", organization), key_form(proof_password=PASSWORD)).status_code == 200
    response = second.post(url("key_create", organization), key_form(name="second"))
    assert response.status_code == 422
    assert not ApiKey.objects.filter(name="second").exists()
    other = make_organization("second", admin=person)
    # In another organization of theirs it is the same person, in the same session.
    assert first.post(url("key_create", other), key_form(scopes=["orders:read"])).status_code == 200
    assert len(entries(organization, "account.proof")) == 1
