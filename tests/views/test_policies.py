"""What the organization asks of its keys."""

from datetime import timedelta

import pytest

from apikeys.models import PolicyRule
from tests.factories import make_key, make_old_key, make_policy, make_policy_exemption, make_revoked_key
from tests.pages import is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda: client.get(url("policies", organization))


def told(response):
    return {row["facet"].label: (row["asked"], row["count"]) for row in response.context["rows"]}


def test_without_a_policy_it_says_what_holds_anyway(visit, settings):
    settings.UNUSED_AFTER_DAYS = 77
    before = snapshot()
    response = visit()
    assert is_whole_page(response)
    assert told(response) == {
        "Longest lifetime": ("", None),
        "Expiry required": ("", None),
        "Key age until rotation": ("", None),
        "Days until unused": ("77 days of silence, as everywhere here", None),
        "Purpose": ("always required", None),
        "Owner": ("always required: a member or an address", None),
        "Scopes that need an admin": ("", None),
        "Networks for production": ("", None),
        "Separate keys per environment": ("", None),
        "Largest rate limit": ("", None),
    }
    assert "No exemption runs" in response.text
    assert snapshot() == before


def test_it_says_what_is_asked_and_how_many_usable_keys_violate_it(organization, visit):
    old = make_old_key(organization, timedelta(days=100))
    for _ in range(3):
        make_key(organization)
    make_revoked_key(organization)
    make_policy(
        organization,
        expiry_required=True,
        max_lifetime=365,
        max_key_age=90,
        unused_after_days=1,
        least_purpose=1,
        owner_required=True,
        admin_scopes=tuple(organization.scopes.filter(name="orders:write")),
        networks_required=True,
        environments_apart=True,
        max_rate=(5, 60),
    )
    make_policy_exemption(old, PolicyRule.EXPIRY)
    response = visit()
    # The usable keys, among them the one that the old one was copied from.
    assert told(response) == {
        "Longest lifetime": ("at most 365 days", 0),
        "Expiry required": ("every key expires", 4),
        "Key age until rotation": ("rotate after 90 days", 1),
        "Days until unused": ("1 day of silence", None),
        "Purpose": ("at least 1 character", 0),
        "Owner": ("a member whose account is open", 5),
        "Scopes that need an admin": ("orders:write", 0),
        "Networks for production": ("at least one, not all addresses", 5),
        "Separate keys per environment": ("no shared networks", 0),
        "Largest rate limit": ("at most 5 per minute", 5),
    }
    assert f"{url('key_list', organization)}?policy=owner" in response.text
    assert "1 exemption runs" in response.text


def test_only_an_admin_is_led_to_the_form(organization, viewer, admin, client_of):
    for person, led in ((viewer, False), (admin, True)):
        text = client_of(person).get(url("policies", organization)).text
        assert (url("policy_edit", organization) in text) == led


def test_its_statements_do_not_grow_with_the_keys(organization, visit, django_assert_num_queries):
    make_policy(organization, expiry_required=True, owner_required=True)
    visit()
    with django_assert_num_queries(9):
        visit()
