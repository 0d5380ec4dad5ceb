"""Taking scopes from a key that it does not use."""

from datetime import timedelta

import pytest

from apikeys.models import ApiKey, AuditAction, Outcome, UsageWatermark
from tests.factories import make_actor, make_event, make_expired_key, make_key, make_revoked_key, make_scope
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
SCOPES = ["orders:delete", "orders:read", "orders:write"]


@pytest.fixture
def key(organization):
    make_scope(organization, "orders:delete")
    key = make_key(organization, "checkout", scopes=SCOPES).key
    for hours in range(3):
        make_event(key, scope="orders:read", ago=timedelta(hours=hours))
    return key


@pytest.fixture
def address(organization, key):
    return url("key_narrow", organization, key.public_id)


@pytest.fixture
def client(operator, client_of):
    return client_of(operator)


def form(*scopes, version=1, refuses=0):
    return {"scopes": scopes, "version": version, "refuses": refuses}


def held(key):
    return ApiKey.objects.get(pk=key.pk).scope_names


def ticked(response):
    return [scope.name for scope, is_ticked in response.context["form"].options if is_ticked]


def test_it_proposes_what_nobody_asked_for_and_says_what_that_would_have_refused(client, address):
    response = client.get(address)
    assert response.status_code == 200
    assert is_whole_page(response)
    assert ticked(response) == ["orders:delete", "orders:write"]
    assert "It would have refused none of 3 requests in 90 days" in response.text
    assert "1 of 3 scopes were asked for" in response.text
    assert is_partial(client.get(address, headers=HTMX))


def test_one_click_takes_them_and_leaves_an_entry(organization, operator, client, key, address):
    response = client.post(address, form("orders:delete", "orders:write"))
    assert response["Location"] == key.get_absolute_url()
    assert messages_of(response) == ["2 scopes taken from checkout."]
    assert held(key) == ["orders:read"]
    [entry] = entries(organization, AuditAction.KEY_NARROW)
    assert entry.actor == operator
    assert entry.changes == {"scopes": [SCOPES, ["orders:read"]]}


def test_a_scope_that_was_used_is_taken_only_after_it_was_said_what_that_refuses(organization, client, key, address):
    make_event(key, scope="orders:write", ago=timedelta(days=2))
    first = client.post(address, form("orders:write"))
    assert first.status_code == 422
    assert "In 90 days this would have refused 1 of 4 accepted requests: orders:write (1)." in first.text
    assert ticked(first) == ["orders:write"]
    assert held(key) == SCOPES
    assert 'name="refuses" value="1"' in first.text
    make_event(key, scope="orders:write")
    assert "refused 2 of 5" in client.post(address, form("orders:write", refuses=1)).text
    assert client.post(address, form("orders:write", refuses=2)).status_code == 302
    assert held(key) == ["orders:delete", "orders:read"]


def test_what_was_asked_for_and_refused_is_not_proposed(client, key, address):
    make_event(key, scope="orders:write", outcome=Outcome.RATE_LIMITED)
    response = client.get(address)
    assert ticked(response) == ["orders:delete"]
    assert "0 accepted, 1 refused" in response.text


def test_a_stale_page_changes_nothing_and_says_so(operator, client, key, address):
    key.narrow(["orders:delete"], by=make_actor(operator), version=1)
    before = snapshot()
    response = client.post(address, form("orders:write"))
    assert response["Location"] == address
    assert messages_of(response) == ["checkout was changed since you opened this. Nothing was taken: look again."]
    gone = client.post(address, form("orders:delete", version=2))
    assert gone.status_code == 422
    assert "orders:delete is not a scope of this key any more." in gone.text
    assert snapshot() == before


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (form(), "Choose at least one scope."),
        (form(*SCOPES, refuses=3), "leave the key at least one"),
        (form("orders:nothing"), "orders:nothing is not a scope of this key any more."),
        ({"scopes": ["orders:write"]}, "This field is required."),
        (form("orders:write", version="x"), "Enter a whole number."),
        (form("orders:write", refuses=-1), "greater than or equal to 0"),
    ],
)
def test_a_form_with_faults_changes_nothing(client, address, sent, told):
    before = snapshot()
    response = client.post(address, sent)
    assert response.status_code == 422
    assert told in response.text
    assert snapshot() == before


def test_a_key_that_nobody_used_has_nothing_to_be_narrowed_to(organization, client):
    key = make_key(organization, scopes=["orders:read", "orders:write"]).key
    response = client.get(url("key_narrow", organization, key.public_id))
    assert "No request asked for a scope in 90 days" in response.text
    assert ticked(response) == []


def test_usage_that_is_recorded_for_a_short_time_is_called_so(client, key, address):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": key.created_at})
    assert "Usage is recorded only since" in client.get(address).text


def test_a_revoked_key_is_not_narrowed_and_an_expired_one_is(organization, client):
    for method in (client.get, client.post):
        revoked = make_revoked_key(organization).key
        response = method(url("key_narrow", organization, revoked.public_id))
        assert response["Location"] == revoked.get_absolute_url()
    expired = make_expired_key(organization, scopes=["orders:read", "orders:write"]).key
    make_event(expired, scope="orders:read")
    response = client.post(url("key_narrow", organization, expired.public_id), form("orders:write"))
    assert response.status_code == 302
    assert held(expired) == ["orders:read"]
