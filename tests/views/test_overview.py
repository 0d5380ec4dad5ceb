"""The overview: what needs attention, and the first steps of an organization without keys."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apikeys.attention import GROUPS
from apikeys.models import Outcome, Role
from tests.factories import (
    make_event,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_revoked_key,
    make_user,
)
from tests.pages import HOSTILE, is_whole_page, make_keys, soon, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(address=""):
        response = client.get(address or url("overview", organization))
        assert response.status_code == 200
        return response

    return get


def told(response):
    """Return the names of what needs attention, in order."""
    return [matter.group.name for matter in response.context["matters"]]


@pytest.mark.parametrize("path", ["/unknown/", "/elsewhere/", "/ACME/", "/v1/", "/static/", "/accounts/"])
def test_what_is_no_organization_of_the_person_is_not_there(organization, outsider, viewer, client_of, path):
    assert client_of(viewer).get(path).status_code == 404


def test_the_switcher_offers_every_organization_of_the_person_and_no_other(organization, visit, outsider):
    response = visit()
    assert [member.organization for member in response.context["memberships"]] == [organization]
    assert "Elsewhere" not in response.text


def test_nobody_is_led_to_the_sign_in_and_back(db):
    assert Client().get("/acme/")["Location"] == "/accounts/login/?next=/acme/"


def test_it_is_the_first_entry_of_the_navigation(visit, organization):
    make_key(organization)
    text = visit().text
    assert text.index('href="/acme/"') < text.index('href="/acme/keys/"')


# Without keys


def test_an_organization_without_keys_is_shown_the_way_to_the_first(organization, admin, client_of):
    response = client_of(admin).get(url("overview", organization))
    assert response.context["first_steps"] == {"scopes": True, "people": True}
    for name in ("scope_list", "key_create", "member_list"):
        assert f'href="{url(name, organization)}"' in response.text
    assert is_whole_page(response)


def test_a_viewer_of_an_organization_without_keys_is_offered_nothing_that_they_may_not_do(organization, visit):
    response = visit()
    assert f'href="{url("key_create", organization)}"' not in response.text
    assert "issues keys" in response.text


def test_the_first_steps_know_what_is_missing(organization, founder_alone, client_of):
    alone, founder = founder_alone
    response = client_of(founder).get(url("overview", alone))
    assert response.context["first_steps"] == {"scopes": False, "people": False}


@pytest.fixture
def founder_alone(db):
    founder = make_user()
    alone = make_organization("alone", admin=founder)
    alone.scopes.all().delete()
    return alone, founder


# What needs attention


def test_a_quiet_organization_is_told_that_nothing_needs_attention(organization, visit):
    make_event(make_key(organization, expires_at=soon(200)).key)
    response = visit()
    assert told(response) == []
    assert "Nothing needs attention" in response.text


@pytest.fixture
def trouble(organization):
    """At least one key for each group, more of the wider ones, and of another organization one of each."""
    for place in (organization, make_organization("other")):
        closed = make_member(place, Role.OPERATOR, make_user(is_active=False))
        make_key(place, "orphan", owner=closed)
        make_event(make_expired_key(place, "expired but called").key, outcome=Outcome.EXPIRED)
        make_event(make_revoked_key(place, "revoked but called").key, outcome=Outcome.REVOKED)
        make_expired_key(place, "expired")
        make_revoked_key(place, "revoked")
        for days in (3, 20, 40):
            make_event(make_key(place, f"used, {days} days left", expires_at=soon(days)).key)
            make_key(place, f"idle, {days} days left", expires_at=soon(days))


def test_groups_come_in_order_of_risk_with_their_keys(organization, trouble, visit):
    response = visit()
    assert told(response) == [group.name for group in GROUPS]
    named = {
        matter.group.name: (matter.count, [key["name"] for key in matter.keys])
        for matter in response.context["matters"]
    }
    assert named == {
        "expired_tried": ("1", ["expired but called"]),
        "ending_in_use_7": ("1", ["used, 3 days left"]),
        "revoked_tried": ("1", ["revoked but called"]),
        "without_owner": ("1", ["orphan"]),
        "ending_in_use_30": ("2", ["used, 3 days left", "used, 20 days left"]),
        "ending_7": ("2", ["used, 3 days left", "idle, 3 days left"]),
        "ending_30": ("4", ["used, 3 days left", "idle, 3 days left", "used, 20 days left"]),
    }


def test_each_line_leads_to_exactly_the_keys_that_it_counts(organization, trouble, visit):
    for matter in visit().context["matters"]:
        listed = visit(f"{url('key_list', organization)}?{matter.query}")
        assert str(len(listed.context["keys"])) == matter.count, matter.group.name
        assert {key["name"] for key in matter.keys} <= {key.name for key in listed.context["keys"]}


def test_a_wider_group_without_further_keys_is_not_told(organization, visit):
    make_event(make_key(organization, expires_at=soon(3)).key)
    assert told(visit()) == ["ending_in_use_7"]


def test_what_was_tried_long_ago_or_before_its_end_needs_no_attention(organization, visit):
    make_event(make_revoked_key(organization).key, ago=timedelta(days=2), outcome=Outcome.PAUSED)
    old = make_old_key(organization, timedelta(days=100), expires_at=soon(300))
    type(old).objects.filter(pk=old.pk).update(expires_at=old.created_at + timedelta(days=30))
    make_event(old, ago=timedelta(days=8), outcome=Outcome.EXPIRED)
    assert told(visit()) == []


# Status and age


def test_keys_are_counted_by_status_and_age_as_the_list_shows_them(organization, trouble, visit):
    for days in (60, 400):
        make_old_key(organization, timedelta(days=days))  # and a new one beside it
    response = visit()
    assert {row["value"]: row["count"] for row in response.context["statuses"]} == {
        "active": "11",
        "paused": "0",
        "expired": "2",
        "revoked": "2",
    }
    assert [row["count"] for row in response.context["ages"]] == ["9", "1", "0", "1"]


# Everybody and everything


def test_a_viewer_is_offered_no_action_that_they_may_not_do(organization, trouble, visit, operator, client_of):
    assert url("key_create", organization) not in visit().text
    assert url("key_create", organization) in client_of(operator).get(url("overview", organization)).text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_escaped(organization, visit, text):
    make_event(make_key(organization, text, expires_at=soon(3)).key)
    response = visit()
    assert told(response) == ["ending_in_use_7"]
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_it_takes_a_fixed_number_of_queries(organization, trouble, visit):
    with CaptureQueriesContext(connection) as few:
        visit()
    make_keys(organization, 300, change=lambda key, place: setattr(key, "expires_at", soon(place % 60 + 1)))
    with CaptureQueriesContext(connection) as many:
        visit()
    assert len(many) == len(few)
