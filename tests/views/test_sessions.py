"""The page of a person's own sessions."""

import pytest
from django.test import Client

from apikeys.models import Role
from tests.factories import make_member, make_user

pytestmark = pytest.mark.django_db
PATH = "/sessions"


@pytest.fixture
def person(organization):
    return make_member(organization, Role.VIEWER, make_user())


@pytest.fixture
def client(person, client_of):
    return client_of(person)


def test_nobody_is_led_to_the_sign_in():
    assert Client().get(PATH)["Location"].startswith("/accounts/login/")


def test_it_lists_this_one_first_and_nobody_elses(organization, person, client, client_of):
    client_of(person)
    client_of(make_member(organization, Role.ADMIN, make_user()))
    response = client.get(PATH)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    shown = response.context["sessions"]
    assert [one.user_id for one in shown] == [person.user.pk] * 2
    assert shown[0].session_key == client.session.session_key
    # A session's key is as good as a password.
    assert not [one for one in shown if one.session_key in response.text]


def test_one_alone_has_nothing_to_end(client):
    text = client.get(PATH).text
    assert "this one" in text
    assert "End all others" not in text


def test_what_a_browser_says_it_is_is_no_markup(client, person, client_of):
    other = client_of(person)
    session = other.session
    session["from"] = ("192.0.2.1", "<script>alert(1)</script>")
    session.save()
    assert "<script>alert" not in client.get(PATH).text
