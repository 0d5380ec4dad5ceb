"""Whether a new key has been used: the page that showed it waits for this."""

from datetime import timedelta

import pytest

from apikeys.models import Outcome
from tests.factories import make_event, make_key, make_organization
from tests.pages import HTMX, is_partial, is_whole_page, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, operator, client_of):
    client = client_of(operator)
    return lambda key, headers=None: client.get(url("key_first_request", organization, key.public_id), headers=headers)


def test_it_waits_until_there_is_a_request(organization, visit):
    key = make_key(organization).key
    assert visit(key).context["event"] is None
    make_event(key, address="203.0.113.9")
    response = visit(key)
    assert response.context["event"].outcome == Outcome.VALID
    assert "203.0.113.9" in response.text


def test_the_first_is_shown_whatever_became_of_it(organization, visit):
    key = make_key(organization).key
    make_event(key)
    make_event(key, ago=timedelta(minutes=5), outcome=Outcome.SCOPE_MISSING)
    assert visit(key).context["event"].outcome == Outcome.SCOPE_MISSING


def test_a_request_at_the_verifier_is_seen_at_once(organization, visit, verifier):
    key, secret = make_key(organization)
    verifier.verify(organization, secret.text)
    assert visit(key).context["event"] is not None


def test_htmx_gets_the_part_alone(organization, visit):
    key = make_key(organization).key
    response = visit(key, HTMX)
    assert is_partial(response)
    assert 'id="first_request"' in response.text
    assert is_whole_page(visit(key))


def test_another_organizations_key_is_not_there(organization, visit):
    assert visit(make_key(make_organization()).key).status_code == 404
