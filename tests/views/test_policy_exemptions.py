"""The list of exemptions from the policy."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import PolicyExemption, PolicyRule, RevocationReason
from tests.factories import make_actor, make_key, make_organization, make_policy_exemption
from tests.pages import HTMX, is_partial, is_whole_page, make_keys, snapshot, url

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda headers=None, **query: client.get(url("policy_exemptions", organization), query, headers=headers)


def listed(response):
    return [(exemption.key.name, exemption.rule) for exemption, _ in response.context["exemptions"]]


def test_without_any_it_says_where_they_come_from(visit):
    before = snapshot()
    response = visit()
    assert is_whole_page(response)
    assert "No exemptions" in response.text
    assert snapshot() == before


def test_those_that_run_are_listed_the_nearest_end_first(organization, visit):
    for name, rule, until in (("b", PolicyRule.OWNER, 20), ("a", PolicyRule.RATE, 10), ("c", PolicyRule.AGE, -1)):
        make_policy_exemption(make_key(organization, name).key, rule, until=until * DAY, reason=f"because of {name}")
    revoked = make_key(organization, "d").key
    make_policy_exemption(revoked)
    revoked.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    make_policy_exemption(make_key(make_organization(), "theirs").key)
    response = visit()
    assert listed(response) == [("a", "rate"), ("b", "owner")]
    assert "because of a" in response.text
    assert "Largest rate limit" in response.text


def test_only_an_admin_is_led_to_change_and_end_them(organization, visit, admin, client_of):
    key = make_key(organization).key
    make_policy_exemption(key)
    end = url("policy_exempt_end", organization, key.public_id, "expiry")
    assert end not in visit().text
    assert end in client_of(admin).get(url("policy_exemptions", organization)).text


def test_many_are_read_page_by_page(organization, visit, django_assert_num_queries):
    now = timezone.now()
    PolicyExemption.objects.bulk_create(
        PolicyExemption(
            organization=organization,
            key=key,
            rule="owner",
            reason="Many",
            until=now + place * DAY + DAY,
            changed_at=now,
        )
        for place, key in enumerate(make_keys(organization, 60))
    )
    first = visit()
    assert len(first.context["exemptions"]) == 50
    query = dict(pair.split("=") for pair in first.context["next_url"].partition("?")[2].split("&"))
    response = visit(HTMX, **query)
    assert is_partial(response)
    assert len(response.context["exemptions"]) == 10
    assert not set(listed(first)) & set(listed(response))
    with django_assert_num_queries(6):
        visit()


def test_a_damaged_address_is_told(visit):
    response = visit(after="odd")
    assert response.status_code == 422
    assert "damaged" in response.text
