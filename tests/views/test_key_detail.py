"""One key's page."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apikeys.models import Actor, Outcome, RevocationReason
from apikeys.views.keys import RANGES
from tests.factories import (
    make_event,
    make_events,
    make_expired_key,
    make_key,
    make_member,
    make_organization,
    make_revoked_key,
)
from tests.pages import HOSTILE, HTMX, is_partial, is_whole_page, key_form, soon, url

pytestmark = pytest.mark.django_db
BY = Actor.command()


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(key, *, headers=None, **query):
        return client.get(url("key_detail", organization, key.public_id, **query), headers=headers)

    return get


def test_it_shows_what_was_chosen_for_the_key(organization, operator, visit):
    key = make_key(
        organization,
        "checkout",
        purpose="Takes payments",
        scopes=["orders:read", "orders:write"],
        owner=operator.memberships.get(),
        networks=["10.0.0.0/8"],
        rate_limit=(50, 60, 10),
        expires_at=soon(20),
        by=operator,
    ).key
    response = visit(key)
    assert response.status_code == 200
    assert is_whole_page(response)
    told = ["checkout", "Takes payments", "orders:read", "orders:write", "Operator Person", "10.0.0.0/8"]
    for text in [*told, "50 per minute", key.fingerprint, key.public_id, "production", operator.email]:
        assert text in response.text, text


def test_it_shows_the_keys_history_newest_first_and_no_other_keys(organization, operator, visit):
    key = make_key(organization).key
    make_key(organization)
    key.pause(by=BY)
    assert [entry.action for entry in visit(key).context["history"]] == ["key.pause", "key.show", "key.issue"]


def test_it_counts_requests_by_outcome_and_says_when_it_was_last_used(organization, visit):
    key = make_key(organization).key
    for hours in (0, 2, 30):
        make_event(key, ago=timedelta(hours=hours))
    make_event(key, ago=timedelta(hours=1), outcome=Outcome.SCOPE_MISSING)
    make_event(make_key(organization).key)
    context = visit(key).context
    assert context["requests_total"] == 4
    assert context["series"].by_outcome == {"valid": 3, "scope_missing": 1}
    assert context["refused_share"] == 0.25
    assert (context["evidence"].day, context["evidence"].week) == (2, 3)
    assert len(context["requests"]) == 4


@pytest.mark.parametrize(("name", "total"), [("24h", 1), ("7d", 2), ("30d", 3), ("90d", 4)])
def test_a_range_counts_its_own_time(organization, visit, name, total):
    key = make_key(organization).key
    for days in (0, 3, 20, 80, 200):
        make_event(key, ago=timedelta(days=days))
    context = visit(key, range=name).context
    assert context["requests_total"] == total
    assert [choice["value"] for choice in context["ranges"] if choice["current"]] == [name]


def test_htmx_gets_the_chart_alone(organization, visit):
    key = make_key(organization).key
    for name in RANGES:
        response = visit(key, headers=HTMX, range=name)
        assert is_partial(response)
        assert 'id="key_usage"' in response.text


@pytest.mark.parametrize("text", ["1y", "30D", "\ufffd", "<script>", "x" * 300])
def test_a_range_or_an_outcome_that_does_not_exist_is_a_400_that_names_it(organization, visit, text):
    key = make_key(organization).key
    for name in ("range", "outcome"):
        response = visit(key, **{name: text})
        assert response.status_code == 400
        assert f"{name} must be one of" in response.text


def test_a_range_or_an_outcome_that_is_empty_is_the_usual_one(organization, visit):
    response = visit(make_key(organization).key, range="", outcome="")
    assert response.status_code == 200
    assert [choice["value"] for choice in response.context["ranges"] if choice["current"]] == ["30d"]


def test_a_dead_key_says_since_when_by_whom_and_who_still_tries(organization, visit):
    key = make_key(organization).key
    key.revoke(reason=RevocationReason.LEAKED, note="Found in a public log", by=BY)
    for _ in range(3):
        make_event(key, outcome=Outcome.REVOKED, address="203.0.113.9", user_agent="old-cron/1.0")
    response = visit(key)
    for text in ["Revoked", "command line", "Suspected leak", "Found in a public log", "203.0.113.9", "old-cron/1.0"]:
        assert text in response.text
    assert response.context["retired_attempts"] == 3


def test_a_dead_key_has_no_verb_that_could_bring_it_back(organization, operator, client_of):
    key = make_revoked_key(organization).key
    text = client_of(operator).get(key.get_absolute_url()).text
    for name in ["key_resume", "key_edit", "key_regenerate", "key_revoke", "key_pause"]:
        assert url(name, organization, key.public_id) not in text


def test_a_viewer_sees_no_verbs_and_an_operator_does(organization, viewer, operator, client_of):
    key = make_key(organization).key
    address = url("key_revoke", organization, key.public_id)
    assert address not in client_of(viewer).get(key.get_absolute_url()).text
    assert address in client_of(operator).get(key.get_absolute_url()).text


def test_every_status_has_its_page(organization, visit):
    paused = make_key(organization).key
    paused.pause(by=BY)
    replaced = make_key(organization).key
    successor = replaced.regenerate(by=BY).key
    owned = make_key(organization, owner=make_member(organization)).key
    owned.owner.user.is_active = False
    owned.owner.user.save()
    for key, text in [
        (paused, "Paused"),
        (make_expired_key(organization).key, "Expired"),
        (make_key(organization, expires_at=soon(2)).key, "Expires"),
        (replaced, successor.fingerprint),
        (successor, replaced.fingerprint),
        (owned, "closed account"),
    ]:
        response = visit(key)
        assert response.status_code == 200
        assert text in response.text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_of_people_and_of_callers_are_escaped(organization, operator, client_of, visit, text):
    client_of(operator).post(url("key_create", organization), key_form(name=text, purpose=text))
    key = organization.keys.get()
    make_event(key, user_agent=text, path=f"/{text}")
    key.revoke(reason=RevocationReason.OTHER, note=text, by=BY)
    make_event(key, outcome=Outcome.REVOKED, user_agent=text, path=f"/{text}")
    response = visit(key)
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_another_organizations_key_is_not_there(organization, visit):
    assert visit(make_key(make_organization()).key).status_code == 404


@pytest.mark.parametrize("public_id", ["unknown", "x" * 500, "%00", "%FF", "..", "новый", "<script>", "export.csv.gz"])
def test_an_id_that_is_none_is_not_there(organization, viewer, client_of, public_id):
    assert client_of(viewer).get(f"/acme/keys/{public_id}").status_code in {400, 404}


def test_it_asks_the_database_the_same_number_of_questions_however_much_happened(organization, visit):
    key = make_key(organization).key
    make_event(key)
    visit(key)
    with CaptureQueriesContext(connection) as few:
        visit(key)
    for number in range(30):
        make_event(key, ago=timedelta(hours=number), address=f"192.0.2.{number}")
        key.pause(by=BY)
        key.resume(by=BY)
    make_events([])
    with CaptureQueriesContext(connection) as many:
        visit(key)
    assert len(many) == len(few)
