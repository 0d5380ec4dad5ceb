"""Ending an exemption from the policy."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, PolicyExemption, PolicyExemptionTerms, PolicyRule
from tests.factories import make_actor, make_key, make_policy, make_policy_exemption
from tests.pages import HTMX, entries, is_partial, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(organization):
    key = make_key(organization, "standby").key
    make_policy(organization, expiry_required=True)
    return key


@pytest.fixture
def address(organization, key):
    return url("policy_exempt_end", organization, key.public_id, "expiry")


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_it_shows_what_it_says_and_changes_nothing(client, key, address):
    make_policy_exemption(key, reason="Embedded")
    before = snapshot()
    response = client.get(address)
    assert is_whole_page(response)
    assert "Embedded" in response.text
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_confirmed_it_is_over_and_recorded_and_the_key_is_listed_again(organization, client, key, admin, address):
    exemption = make_policy_exemption(key)
    response = client.post(address, {"seen": exemption.changed_at.isoformat()})
    assert response["Location"] == key.get_absolute_url()
    assert key.violations == [PolicyRule.EXPIRY]
    [entry] = entries(organization, AuditAction.POLICY_EXEMPT_END)
    assert (entry.actor, entry.changes["until"]) == (admin, [exemption.until.isoformat(), None])
    assert entry.changes["rule"] == [None, "never expires"]


def test_what_somebody_changed_meanwhile_is_shown_first(client, key, address):
    exemption = make_policy_exemption(key)
    seen = exemption.changed_at.isoformat()
    exemption.end(by=_by(key))
    make_policy_exemption_again(key)
    before = snapshot()
    response = client.post(address, {"seen": seen})
    assert response.status_code == 422
    assert "Again" in response.text
    assert snapshot() == before
    assert client.post(address, {"seen": response.context["form"].data["seen"]}).status_code == 302


def _by(key):
    return make_actor(key.organization.members.first().user)


def make_policy_exemption_again(key):
    known = PolicyExemption.objects.get(key=key)
    terms = PolicyExemptionTerms("Again", timezone.now() + timedelta(days=9))
    PolicyExemption.objects.grant(key, PolicyRule.EXPIRY, terms, by=_by(key), seen=known.changed_at)


def test_one_that_is_over_or_never_was_is_told(client, key, address):
    assert client.get(address).status_code == 404
    make_policy_exemption(key, until=timedelta(days=-1))
    for method in (client.get, client.post):
        response = method(address)
        assert response["Location"] == key.get_absolute_url()
        assert messages_of(response)[-1] == "standby has no such exemption that runs; nothing was changed."
