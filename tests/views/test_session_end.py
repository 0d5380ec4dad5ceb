"""Ending one of one's own sessions."""

import pytest

from apikeys.models import AuditAction, Role
from tests.factories import make_member, make_user
from tests.pages import entries, messages_of, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(organization):
    return make_member(organization, Role.VIEWER, make_user())


@pytest.fixture
def client(person, client_of):
    return client_of(person)


def handle_of(client, person):
    return person.user.sessions.get(session_key=client.session.session_key).handle


def test_it_is_over_at_once_and_recorded(organization, person, client, client_of):
    other = client_of(person)
    assert other.get(url("key_list", organization)).status_code == 200
    response = client.post(f"/sessions/{handle_of(other, person)}/end")
    assert (response.status_code, response["Location"]) == (302, "/sessions")
    assert messages_of(response) == ["The session of Unknown is over."]
    assert other.get(url("key_list", organization)).status_code == 302
    assert client.get(url("key_list", organization)).status_code == 200
    [entry] = entries(organization, AuditAction.SESSION_END)
    assert entry.actor_label == person.user.email


def test_somebody_elses_is_none_of_yours(organization, client, client_of):
    other_person = make_member(organization, Role.ADMIN, make_user())
    other = client_of(other_person)
    assert client.post(f"/sessions/{handle_of(other, other_person)}/end").status_code == 404
    assert other.get(url("key_list", organization)).status_code == 200


@pytest.mark.parametrize("handle", ["x", "0" * 20, "a" * 5000])
def test_one_that_is_not_there_is_a_404(client, handle):
    assert client.post(f"/sessions/{handle}/end").status_code == 404


def test_looking_ends_nothing(client, person, client_of):
    other = client_of(person)
    assert client.get(f"/sessions/{handle_of(other, person)}/end").status_code == 405
    assert person.user.sessions.count() == 2
