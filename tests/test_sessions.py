"""How long somebody stays signed in, and what ends that."""

import time

import pytest
from django.test import Client

from apikeys.models import Role, Session
from apikeys.sessions import POLL
from tests.factories import PASSWORD, make_member, make_user
from tests.pages import HTMX, messages_of, url

pytestmark = pytest.mark.django_db
MINUTE, HOUR = 60, 3600


@pytest.fixture
def person(organization):
    return make_member(organization, Role.OPERATOR, make_user("olga@example.com", password=PASSWORD))


@pytest.fixture
def client(person, client_of):
    return client_of(person)


def aged(client, *, seen=0, began=0):
    session = client.session
    session["seen_at"] = time.time() - seen
    session["began_at"] = time.time() - max(began, seen)
    session.save()
    return client


def is_signed_in(client, organization):
    return client.get(url("key_list", organization)).status_code == 200


@pytest.mark.parametrize(
    ("seen", "began", "goes_on"),
    [
        (59 * MINUTE, 0, True),
        (61 * MINUTE, 0, False),
        (0, 23 * HOUR, True),
        (0, 25 * HOUR, False),
    ],
)
def test_a_session_ends_when_it_is_left_alone_or_old(organization, client, seen, began, goes_on):
    aged(client, seen=seen, began=began)
    response = client.get(url("key_list", organization))
    assert (response.status_code == 200) is goes_on
    if not goes_on:
        assert response["Location"].startswith("/accounts/login/?next=")
        assert "You were signed out" in messages_of(response)[0]
        assert not Session.objects.filter(user__isnull=False).exists()
        assert not is_signed_in(client, organization)


def test_the_settings_say_how_long(organization, client, settings):
    settings.SESSION_IDLE_MINUTES, settings.SESSION_HOURS = 120, 1
    assert is_signed_in(aged(client, seen=50 * MINUTE, began=50 * MINUTE), organization)
    assert not is_signed_in(aged(client, began=61 * MINUTE), organization)


def test_htmx_reloads_the_page_of_a_session_that_has_ended(organization, client):
    aged(client, seen=2 * HOUR)
    assert client.get(url("key_list", organization), headers=HTMX)["HX-Refresh"] == "true"


def test_a_form_of_a_session_that_has_ended_changes_nothing(organization, client):
    aged(client, seen=2 * HOUR)
    before = organization.keys.count()
    assert client.post(url("key_create", organization), {"name": "x"})["Location"].startswith("/accounts/login/")
    assert organization.keys.count() == before


def test_a_request_keeps_it_and_what_a_page_asks_by_itself_does_not(organization, client):
    aged(client, seen=30 * MINUTE)
    client.get(url("key_list", organization), headers={POLL: "1"})
    assert time.time() - client.session["seen_at"] > 29 * MINUTE
    client.get(url("key_list", organization))
    assert time.time() - client.session["seen_at"] < MINUTE


def test_not_each_request_writes(organization, client):
    client.get(url("key_list", organization))
    before = client.session["seen_at"]
    client.get(url("key_list", organization))
    assert client.session["seen_at"] == before


def test_a_session_without_a_beginning_has_ended(organization, client):
    session = client.session
    del session["began_at"]
    session.save()
    assert not is_signed_in(client, organization)


def test_a_session_knows_whose_it_is_and_from_where(organization, person):
    client = Client()
    headers = {"X-Forwarded-For": "203.0.113.9", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
    client.post("/accounts/login/", {"login": person.user.email, "password": PASSWORD}, headers=headers)
    [session] = person.user.sessions.all()
    assert session.session_key == client.cookies["sessionid"].value
    assert session.device == "Firefox on Linux"
    assert session.began_at
    assert session.seen_at
    # Nobody signed in, and nobody knows where from.
    assert not Session.objects.exclude(pk=session.pk).filter(user__isnull=False).exists()


def test_a_new_password_ends_every_other_session(organization, person, client_of):
    one, other = client_of(person), client_of(person)
    form = {"oldpassword": PASSWORD, "password1": "a much better horse", "password2": "a much better horse"}
    assert one.post("/accounts/password/change/", form).status_code == 302
    assert is_signed_in(one, organization)
    assert not is_signed_in(other, organization)


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0 Safari/537.36 Edg/131.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.1 Safari/605.1", "Safari on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/131.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("", "Unknown"),
        ("<script>alert(1)</script>", "<script>alert"),
    ],
)
def test_a_device_is_told_in_words(agent, device):
    assert Session(user_agent=agent).device == device
