"""Which keys violate what the policy is to be, before it is switched on."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import PolicyRule
from tests.factories import make_key, make_old_key, make_policy, make_policy_exemption, make_revoked_key
from tests.pages import HOSTILE, make_keys, snapshot, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def visit(organization, admin, client_of):
    client = client_of(admin)
    return lambda **values: client.get(url("policy_preview", organization), values)


def groups(response):
    return {str(group["rule"]): group["count"] for group in response.context["groups"]}


def test_it_lists_the_keys_by_rule_and_changes_nothing(organization, visit):
    long = make_key(organization, "long", expires_at=timezone.now() + 200 * DAY).key
    make_key(organization, "short", expires_at=timezone.now() + 20 * DAY)
    endless = make_key(organization, "endless").key
    make_revoked_key(organization, "revoked")
    before = snapshot()
    response = visit(max_lifetime="90", expiry_required="on", max_rate="100", max_rate_period="60")
    assert response.status_code == 200
    assert groups(response) == {"lifetime": 1, "expiry": 1, "rate": 3}
    named = {str(group["rule"]): {key.name for key in group["keys"]} for group in response.context["groups"]}
    assert named == {"lifetime": {"long"}, "expiry": {"endless"}, "rate": {"long", "short", "endless"}}
    assert "1 existing key violates this" in response.text
    assert "3 existing keys violate this" in response.text
    for key, rule in ((long, "lifetime"), (endless, "expiry")):
        assert url("key_edit", organization, key.public_id) in response.text
        assert url("policy_exempt", organization, key.public_id, rule) in response.text
    assert [(change.facet.label, change.before, change.after) for change in response.context["changes"]] == [
        ("Longest lifetime", "not asked", "at most 90 days"),
        ("Expiry required", "not asked", "every key expires"),
        ("Largest rate limit", "not asked", "at most 100 per minute"),
    ]
    assert snapshot() == before


def test_only_what_changes_is_looked_at_and_exempt_keys_are_left_out(organization, visit):
    make_key(organization)
    exempt = make_key(organization).key
    make_policy(organization, expiry_required=True)
    make_policy_exemption(exempt, PolicyRule.OWNER)
    assert groups(visit(expiry_required="on", owner_required="on")) == {"owner": 1}


def test_of_many_keys_some_are_named_and_all_are_on_pages_of_their_own(organization, visit):
    make_keys(organization, 60)
    first = visit(expiry_required="on")
    [group] = first.context["groups"]
    assert (group["count"], len(group["keys"])) == (61, 5)
    page = visit(expiry_required="on", rule="expiry")
    assert f"{url('policy_preview', organization)}?expiry_required=on&amp;rule=expiry" in first.text
    assert len(page.context["keys"]) == 50
    rest = visit(**dict(pair.split("=") for pair in page.context["next_url"].partition("?")[2].split("&")))
    assert len(rest.context["keys"]) == 11
    assert not {key.pk for key in page.context["keys"]} & {key.pk for key in rest.context["keys"]}
    assert "Switch it on" not in page.text


def test_what_was_chosen_goes_on_with_how_many_keys_were_told(organization, visit):
    make_key(organization)
    scope = organization.scopes.get(name="orders:write")
    response = visit(expiry_required="on", admin_scopes=[scope.name], max_lifetime="", max_rate_period="60")
    for name, value in (("expiry_required", "on"), ("admin_scopes", "orders:write"), ("violations", "1")):
        assert f'name="{name}" value="{value}"' in response.text
    assert 'name="max_lifetime"' not in response.text


def test_keys_that_would_be_too_old_and_unused_are_counted(organization, visit):
    make_old_key(organization, 60 * DAY)
    response = visit(max_key_age="50", unused_after_days="50")
    assert groups(response) == {"age": 1}
    assert response.context["unused"] == {"before": "0", "after": "1"}
    assert "0 keys count as unused now, 1 would" in response.text


def test_nothing_new_is_told_as_that(organization, visit):
    make_policy(organization, expiry_required=True)
    response = visit(expiry_required="on")
    assert "The policy says so already." in response.text
    assert "Switch it on" not in response.text


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"max_lifetime": "0"}, "max_lifetime"),
        ({"max_lifetime": "90"}, "expiry_required"),
        ({"max_rate": "9" * 40}, "max_rate"),
        ({"admin_scopes": ["theirs:read"]}, "admin_scopes"),
        ({"max_rate_period": "7"}, "max_rate_period"),
    ],
)
def test_what_makes_no_sense_is_the_form_again_with_the_fault(visit, values, field):
    response = visit(**values)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert "See what it means" in response.text


def test_a_rule_or_a_place_that_is_none_is_no_error_of_ours(organization, visit):
    make_key(organization)
    assert visit(expiry_required="on", rule="odd").status_code == 200
    assert visit(expiry_required="on", rule="owner").status_code == 200
    assert visit(expiry_required="on", rule="expiry", after="odd").status_code == 422


def test_hostile_names_are_text(organization, visit):
    for name in HOSTILE.values():
        make_key(organization, name)
    text = visit(expiry_required="on").text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
