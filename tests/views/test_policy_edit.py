"""Changing the policy."""

import pytest

from apikeys.models import AuditAction, Policy, PolicyTerms
from apikeys.models.policy import digest
from tests.factories import make_key, make_policy
from tests.pages import HTMX, entries, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def send(organization, client):
    return lambda headers=None, **form: client.post(url("policy_edit", organization), form, headers=headers)


def terms_of(organization):
    organization.refresh_from_db()
    return Policy.objects.of(organization).full_terms()


def test_the_form_begins_with_what_is_asked_now(organization, client, settings):
    settings.UNUSED_AFTER_DAYS = 77
    make_policy(organization, expiry_required=True, max_rate=(5, 60), max_key_age=30)
    before = snapshot()
    response = client.get(url("policy_edit", organization))
    assert is_whole_page(response)
    initial = response.context["form"].initial
    assert (initial["expiry_required"], initial["max_rate"], initial["max_rate_period"]) == (True, 5, 60)
    assert initial["max_key_age"] == 30
    assert "Empty: 77, as this deployment has it." in response.text
    assert snapshot() == before


def test_what_was_looked_at_is_switched_on(organization, client, admin, send):
    make_key(organization)
    seen = digest(terms_of(organization))
    response = send(
        expiry_required="on",
        max_lifetime="90",
        admin_scopes=["orders:write"],
        unused_after_days="40",
        seen=seen,
        violations="1",
    )
    assert response["Location"] == url("policies", organization)
    assert messages_of(response) == ["The policy was saved."]
    scopes = tuple(organization.scopes.filter(name="orders:write"))
    assert terms_of(organization) == PolicyTerms(
        expiry_required=True, max_lifetime=90, admin_scopes=scopes, unused_after_days=40
    )
    assert organization.unused_after == 40
    [entry] = entries(organization, AuditAction.POLICY_EDIT)
    assert entry.actor == admin
    assert entry.changes["max_lifetime"] == [None, 90]
    assert entry.changes["admin_scopes"] == [[], ["orders:write"]]
    text = client.get(url("policies", organization)).text
    assert "Changed" in text
    assert admin.email in text


def test_it_is_not_switched_on_before_the_keys_that_violate_it_were_told(organization, send):
    make_key(organization)
    before = snapshot()
    response = send(expiry_required="on")
    assert response.status_code == 422
    assert "More keys violate this than the page said" in response.text
    assert 'name="violations" value="1"' in response.text
    assert snapshot() == before
    assert send(expiry_required="on", violations="1").status_code == 302


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(organization, send):
    seen = digest(terms_of(organization))
    make_policy(organization, owner_required=True)
    before = snapshot()
    response = send(expiry_required="on", seen=seen)
    assert response.status_code == 422
    assert "changed the policy since you opened this form" in response.text
    assert snapshot() == before
    assert ("Owner", "a member whose account is open", "always required: a member or an address") in [
        (change.facet.label, change.before, change.after) for change in response.context["changes"]
    ]
    assert send(expiry_required="on", seen=response.context["seen"]).status_code == 302
    assert terms_of(organization) == PolicyTerms(expiry_required=True)


def test_saving_the_same_records_nothing(organization, send):
    make_policy(organization, expiry_required=True)
    before = snapshot()
    response = send(expiry_required="on")
    assert messages_of(response) == ["The policy says so already."]
    assert snapshot() == before


BAD = {
    "no day": ({"max_lifetime": "0", "expiry_required": "on"}, "max_lifetime"),
    "a negative day": ({"max_key_age": "-3"}, "max_key_age"),
    "a part of a day": ({"unused_after_days": "1.5"}, "unused_after_days"),
    "words": ({"least_purpose": "some"}, "least_purpose"),
    "a number of many digits": ({"max_rate": "9" * 5000}, "max_rate"),
    "a lifetime without an end": ({"max_lifetime": "9"}, "expiry_required"),
    "an age beyond the lifetime": ({"max_lifetime": "9", "expiry_required": "on", "max_key_age": "10"}, "max_key_age"),
    "a scope of nobody": ({"admin_scopes": ["theirs:read"]}, "admin_scopes"),
    "a period that is none": ({"max_rate": "5", "max_rate_period": "61"}, "max_rate_period"),
    "violations that are none": ({"violations": "-1"}, "violations"),
}


@pytest.mark.parametrize(("form", "field"), BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_a_422_that_names_the_field(send, form, field):
    before = snapshot()
    for headers in (None, HTMX):
        response = send(headers, **form)
        assert response.status_code == 422
        assert list(response.context["form"].errors) == [field]
    assert snapshot() == before


def test_limits_are_told_with_the_fault(send):
    text = send(max_lifetime="0", max_rate="0", least_purpose="0").text
    assert "Between 1 and 3,650 days, or empty for no limit." in text
    assert "Between 1 and 1,000,000 requests" in text
    assert "Between 1 and 200 characters" in text
