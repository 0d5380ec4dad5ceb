"""Ending all of one's other sessions."""

import pytest

from apikeys.models import AuditAction, Role
from tests.factories import make_member, make_user
from tests.pages import entries, messages_of, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(organization):
    return make_member(organization, Role.VIEWER, make_user())


def test_all_others_are_over_and_nobody_elses(organization, person, client_of):
    client, *others = (client_of(person) for _ in range(3))
    stranger = client_of(make_member(organization, Role.VIEWER, make_user()))
    response = client.post("/sessions/end")
    assert messages_of(response) == ["2 sessions ended. This one goes on."]
    assert [one.get(url("key_list", organization)).status_code for one in others] == [302, 302]
    for one in (client, stranger):
        assert one.get(url("key_list", organization)).status_code == 200
    assert len(entries(organization, AuditAction.SESSION_END)) == 2


def test_with_none_it_says_so(person, client_of):
    assert messages_of(client_of(person).post("/sessions/end")) == ["0 sessions ended. This one goes on."]


def test_looking_ends_nothing(person, client_of):
    assert client_of(person).get("/sessions/end").status_code == 405
