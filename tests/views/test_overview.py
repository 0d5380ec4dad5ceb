"""The overview: what needs attention, and the first steps of an organization without keys."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.attention import GROUPS, Risk
from apikeys.models import AlertKind, JobRun, Outcome, Role, UsageWatermark
from apikeys.models.job import CHECK, LATE_AFTER
from tests.factories import (
    make_actor,
    make_alert,
    make_event,
    make_expired_key,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_revoked_key,
    make_user,
)
from tests.pages import HOSTILE, age_limit, day, is_whole_page, make_keys, soon, url

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
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2020)})
    for place in (organization, make_organization("other")):
        make_old_key(place, timedelta(days=200), name="forgotten", expires_at=soon(200))
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
        "unused": ("1", ["forgotten"]),
        "ending_7": ("2", ["used, 3 days left", "idle, 3 days left"]),
        "ending_30": ("4", ["used, 3 days left", "idle, 3 days left", "used, 20 days left"]),
    }


def test_each_line_leads_to_exactly_the_keys_that_it_counts(organization, trouble, visit):
    for matter in visit().context["matters"]:
        listed = visit(f"{url('key_list', organization)}?{matter.query}")
        assert str(len(listed.context["keys"])) == matter.count, matter.group.name
        assert {key["name"] for key in matter.keys} <= {key.name for key in listed.context["keys"]}


def test_an_operator_rotates_what_needs_it_from_its_line(organization, trouble, visit, operator, client_of):
    client = client_of(operator)
    found = {
        matter.group.name: client.get(f"{url('key_bulk_rotate', organization)}?{matter.rotate_query}")
        for matter in client.get(url("overview", organization)).context["matters"]
        if matter.rotate_query
    }
    shown = {name: {row["key"].name for row in response.context["rows"]} for name, response in found.items()}
    assert shown == {
        "ending_in_use_7": {"used, 3 days left"},
        "ending_in_use_30": {"used, 3 days left", "used, 20 days left"},
    }
    assert {response.context["form"]["reason"].value() for response in found.values()} == {"expiry"}
    assert "keys/rotate?" in client.get(url("overview", organization)).text
    assert "keys/rotate?" not in visit().text, "a viewer rotates nothing"


def test_a_wider_group_without_further_keys_is_not_told(organization, visit):
    make_event(make_key(organization, expires_at=soon(3)).key)
    assert told(visit()) == ["ending_in_use_7"]


def test_keys_to_rotate_need_attention_by_the_organizations_maximum_and_lead_to_the_list(organization, visit):
    for name, days in (("ancient", 250), ("old", 181), ("ageing", 170), ("grown", 160)):
        make_event(make_old_key(organization, timedelta(days=days), name=name))
    make_old_key(organization, timedelta(days=300), name="revoked").revoke(reason="unused", by=make_actor())
    assert told(visit()) == []
    age_limit(organization, 180)
    response = visit()
    matters = {matter.group.name: matter for matter in response.context["matters"]}
    due, soon = matters["rotation_due"], matters["rotation_soon"]
    assert (due.count, [key["name"] for key in due.keys], due.group.risk) == ("2", ["ancient", "old"], Risk.MIDDLE)
    assert (soon.count, [key["name"] for key in soon.keys], soon.group.risk) == ("1", ["ageing"], Risk.LOW)
    assert "2 keys are older than 180 days and should be rotated" in response.text
    assert "1 key should be rotated within 14 days" in response.text
    for matter in (due, soon):
        listed = visit(f"{url('key_list', organization)}?{matter.query}").context["keys"]
        assert {key.name for key in listed} == {key["name"] for key in matter.keys}


def test_keys_to_rotate_come_in_the_order_of_risk(organization, trouble, visit):
    age_limit(organization, 100)
    assert told(visit()) == [
        *("expired_tried", "ending_in_use_7", "revoked_tried", "without_owner", "ending_in_use_30", "rotation_due"),
        *("unused", "ending_7", "ending_30"),
    ]


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
        "active": "13",
        "paused": "0",
        "expired": "2",
        "revoked": "2",
    }
    assert [row.cells[0].count for row in response.context["ages"]] == ["10", "1", "1", "1"]
    for one in [row.cells[0] for row in response.context["ages"]]:
        listed = visit(f"{url('key_list', organization)}?{one.query}").context["keys"]
        assert str(len(listed)) == one.count


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


# Usage


def test_requests_of_thirty_days_are_told_by_outcome(organization, visit):
    key = make_key(organization).key
    for outcome in (Outcome.VALID, Outcome.VALID, Outcome.PAUSED):
        make_event(key, outcome=outcome)
    make_event(key, ago=timedelta(days=40))
    make_event(make_key(make_organization()).key)
    response = visit()
    assert response.context["series"].by_outcome == {"valid": 2, "paused": 1}
    assert "1 key, 3 requests in 30 d, 33 % refused" in response.text
    assert f'href="{url("usage", organization)}"' in response.text


def test_the_busiest_and_the_quietest_keys_are_those_of_the_list(organization, visit):
    keys = make_keys(organization, 20, used=lambda place: timezone.now() - timedelta(days=place))
    for number in range(7):
        for _ in range(number + 1):
            make_event(keys[number])
    response = visit()
    busiest, quietest = response.context["busiest"], response.context["quietest"]
    assert [one.key.name for one in busiest.rows] == [keys[number].name for number in (6, 5, 4, 3, 2)]
    everything = visit(f"{url('key_list', organization)}?{response.context['quietest_query']}").context["keys"]
    assert [key.name for key in quietest] == [key.name for key in everything][:5]
    used = visit(f"{url('key_list', organization)}?{busiest.query}").context["keys"]
    assert str(len(used)) == busiest.count == "20"


def test_unused_keys_need_attention_and_lead_to_the_list(organization, visit):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": day(2020)})
    make_old_key(organization, timedelta(days=300), name="forgotten", expires_at=soon(300))
    [matter] = [one for one in visit().context["matters"] if one.group.name == "unused"]
    assert (matter.count, matter.keys[0]["name"]) == ("1", "forgotten")
    listed = visit(f"{url('key_list', organization)}?{matter.query}").context["keys"]
    assert [key.name for key in listed] == ["forgotten"]


def test_what_was_not_measured_is_told(organization, visit):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": timezone.now() - timedelta(days=1)})
    make_event(make_key(organization).key)
    assert "not measured before" in visit().text


# Whether it can be trusted


def test_scheduled_jobs_are_told_with_when_they_succeeded(organization, visit):
    make_key(organization)
    assert visit().text.count("Has never run") == len(LATE_AFTER)
    with JobRun.objects.record("roll_up_usage"):
        pass
    with pytest.raises(ValueError, match="broken"), JobRun.objects.record("prune_usage"):
        raise ValueError("broken")
    response = visit()
    assert {one.job: one.state for one in response.context["jobs"]} == {
        "check_recording": "never",
        "finish_rotations": "never",
        "evaluate_alerts": "never",
        "send_alerts": "never",
        "remind_reviews": "never",
        "verify_audit_log": "never",
        "checkpoint_audit_log": "never",
        "roll_up_usage": "works",
        "flag_keys": "never",
        "prune_usage": "failed",
    }
    # What a job said may be of other organizations.
    assert "broken" not in response.text


def test_it_says_that_recording_has_stopped_before_anything_else(organization, visit):
    make_key(organization)
    with JobRun.objects.record(CHECK):
        pass
    assert "Recording was checked" in visit().text
    with pytest.raises(ValueError, match="recorded none"), JobRun.objects.record(CHECK):
        raise ValueError("The verifier accepted a request and recorded none.")
    text = visit().text
    assert 'role="alert"' in text
    assert "The verifier accepted a request and recorded none." in text
    assert text.index("Requests are not being recorded as they should be") < text.index("Needs attention")


def test_it_says_that_nobody_checked_whether_requests_are_recorded(organization, visit):
    make_key(organization)
    assert "Nobody has checked lately whether requests are recorded" in visit().text


def test_the_most_urgent_open_alerts_are_named_and_lead_to_the_inbox(organization, viewer, client_of):
    make_key(organization)
    client = client_of(viewer)
    assert "Open alerts" not in client.get(url("overview", organization)).text
    calm = [make_alert(organization, AlertKind.UNUSED) for _ in range(3)]
    urgent = make_alert(organization)
    make_alert(organization).acknowledge(until=timezone.now() + timedelta(days=1), by=make_actor())
    response = client.get(url("overview", organization))
    assert [alert.pk for alert in response.context["alerts"]] == [urgent.pk, calm[2].pk, calm[1].pk]
    assert urgent.get_absolute_url() in response.text
    assert "All 4" in response.text
