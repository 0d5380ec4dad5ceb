"""A key's newest requests."""

from datetime import timedelta

import pytest

from apikeys.models import Outcome
from tests.factories import make_event, make_key, make_organization, make_revoked_key
from tests.pages import HOSTILE, HTMX, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(key, *, headers=None, **query):
        return client.get(url("key_requests", organization, key.public_id, **query), headers=headers)

    return get


def test_the_newest_twenty_come_first(organization, visit):
    key = make_key(organization).key
    for minutes in range(25):
        make_event(key, ago=timedelta(minutes=minutes), path=f"/orders/{minutes}")
    shown = [event.path for event in visit(key).context["requests"]]
    assert shown == [f"/orders/{minutes}" for minutes in range(20)]


def test_it_says_what_was_asked_from_where_and_what_became_of_it(organization, visit):
    key = make_key(organization).key
    make_event(key, outcome=Outcome.SCOPE_MISSING, address="2001:db8::7", method="DELETE", path="/v2/orders/7")
    text = visit(key).text
    for told in ["scope missing", "2001:db8::7", "DELETE", "/v2/orders/7", "orders-report/2.1"]:
        assert told in text


def test_an_outcome_narrows_it(organization, visit):
    key = make_key(organization).key
    make_event(key)
    make_event(key, outcome=Outcome.UNKNOWN)
    assert [event.outcome for event in visit(key, outcome="unknown").context["requests"]] == ["unknown"]
    assert list(visit(key, outcome="paused").context["requests"]) == []
    assert len(visit(key, outcome="").context["requests"]) == 2


@pytest.mark.parametrize("outcome", ["refused", "VALID", "x" * 300, "<script>"])
def test_an_outcome_that_does_not_exist_is_a_400_that_names_it(organization, visit, outcome):
    key = make_key(organization).key
    make_event(key)
    response = visit(key, outcome=outcome)
    assert response.status_code == 400
    assert "outcome must be one of" in response.text


def test_htmx_gets_the_table_alone(organization, visit):
    for key in (make_key(organization).key, make_revoked_key(organization).key):
        make_event(key)
        response = visit(key, headers=HTMX)
        assert is_partial(response)
        assert 'id="key_requests"' in response.text
        assert is_whole_page(visit(key))


def test_the_page_of_a_dead_key_is_told_of_each_attempt(organization, visit):
    key = make_revoked_key(organization).key
    assert "Nobody has tried it since then." in visit(key, headers=HTMX).text
    make_event(key, outcome=Outcome.REVOKED, address="203.0.113.99")
    text = visit(key, headers=HTMX).text
    assert "1 request refused since then." in text
    assert text.count("203.0.113.99") == 2
    assert 'hx-swap-oob="true"' not in visit(make_key(organization).key, headers=HTMX).text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_callers_send_is_escaped(organization, visit, text):
    key = make_key(organization).key
    make_event(key, user_agent=text, path=f"/{text}")
    response = visit(key, headers=HTMX)
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_looking_changes_nothing(organization, visit):
    key = make_key(organization).key
    before = snapshot()
    visit(key)
    assert snapshot() == before


def test_another_organizations_key_is_not_there(organization, visit):
    assert visit(make_key(make_organization()).key).status_code == 404
