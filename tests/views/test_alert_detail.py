"""The page of one alert."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import Alert, AlertKind, AlertRule, Outcome, Sighting
from tests.factories import (
    make_actor,
    make_alert,
    make_event,
    make_exemption,
    make_expired_key,
    make_key,
    make_organization,
    make_revoked_key,
    make_rotation,
    make_webhook,
)
from tests.pages import HOSTILE, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def visit(organization, operator, client_of):
    client = client_of(operator)
    return lambda alert: client.get(url("alert_detail", organization, alert.pk))


def actions(response):
    return [action.label for action in response.context["actions"]]


def words(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.text).split())


@pytest.mark.parametrize("kind", AlertKind)
def test_each_kind_says_what_was_seen_what_it_means_and_what_to_do(organization, visit, kind):
    rule = AlertRule.objects.one(organization, kind)
    rule.edit(replace(rule.terms, is_on=True), by=BY)
    alert = make_alert(organization, kind)
    before = snapshot()
    response = visit(alert)
    assert is_whole_page(response)
    told = words(response)
    for part in (kind.label, alert.code, "What was seen", "Expected", "What this means", "What to do", "Opened"):
        assert part in told
    assert snapshot() == before


def test_its_address_is_its_code_in_any_case(organization, operator, client_of):
    alert = make_alert(organization)
    assert alert.get_absolute_url() == f"/acme/alerts/{alert.code}"
    for code in (alert.code.lower(), alert.code.replace("-", "")):
        assert client_of(operator).get(f"/acme/alerts/{code}").status_code == 200


@pytest.mark.parametrize("code", ["AL-0000000", "AL-UUUUUUU", "AL-123", "7", "AL-7K2M9QX9", "webhook"])
def test_what_is_no_code_of_an_alert_is_not_there(organization, operator, client_of, code):
    assert client_of(operator).get(f"/acme/alerts/{code}").status_code == 404


def test_another_organizations_alert_is_not_there(visit):
    assert visit(make_alert(make_organization())).status_code == 404


def test_the_moment_is_a_chart_with_the_usual_range_and_a_table(organization, visit):
    key = make_key(organization).key
    alert = make_alert(organization, AlertKind.UNUSUAL_USAGE, key, ago=2 * HOUR)
    for hours in (1, 2, 2, 30):
        make_event(key, ago=hours * HOUR)
    make_event(key, ago=60 * HOUR)
    response = visit(alert)
    moment = response.context["moment"]
    assert moment.series.total == 4
    assert moment.usual.words == "usually 300 to 900"
    assert 'class="chart-usual"' in response.text
    assert "Usually 300 to 900" in response.text
    assert "Seen" in response.text
    assert moment.series.starts[0] <= alert.seen_at - 48 * HOUR
    assert moment.series.end <= timezone.now() + HOUR


def test_of_what_lasts_the_chart_has_the_days_before(organization, visit):
    key = make_key(organization).key
    make_event(key, ago=20 * DAY)
    alert = make_alert(organization, AlertKind.EXPIRY, key)
    moment = visit(alert).context["moment"]
    assert (len(moment.series.starts), moment.series.total, moment.usual) == (30, 1, None)
    assert visit(make_alert(organization, AlertKind.JOB_LATE)).context["moment"] is None


def test_callers_are_told_with_whether_they_are_known(organization, visit):
    told = words(visit(make_alert(organization)))
    assert "198.51.100.7 orders-report/2.1 accepted with the key before 3" in told
    assert "203.0.113.66 curl/8.5 unknown never accepted with the key 38" in told


def test_the_fitting_actions_come_first_and_only_those_that_are_possible(organization, visit):
    def offered(kind, key=None, **facts):
        return actions(visit(make_alert(organization, kind, key, facts=facts)))

    assert offered(AlertKind.ABUSE) == ["Rotate…", "Revoke…", "Pause…", "See its requests"]
    assert offered(AlertKind.ABUSE, make_revoked_key(organization).key) == ["See its requests"]
    expired = make_expired_key(organization).key
    assert offered(AlertKind.EXPIRED_USED, expired) == ["Move its end…", "Revoke…", "See its requests"]
    assert offered(AlertKind.UNUSUAL_USAGE)[0] == "Pause…"
    assert offered(AlertKind.UNUSUAL_USAGE, shape="silence") == ["See its requests"]
    assert offered(AlertKind.RATE_LIMITED)[0] == "Change its limit…"
    assert offered(AlertKind.EXPIRY) == ["Rotate…", "Move its end…", "Revoke…"]
    assert offered(AlertKind.OWNER_GONE) == ["Name another owner…", "Revoke…"]
    assert offered(AlertKind.ROTATION_DUE) == ["Rotate…", "Revoke…"]
    assert offered(AlertKind.UNUSED) == ["Revoke…", "It may be silent…"]
    exempt = make_key(organization).key
    make_exemption(exempt)
    assert offered(AlertKind.UNUSED, exempt) == ["Revoke…"]
    rotating = make_rotation(organization).rotation.old_key
    assert offered(AlertKind.ROTATION_DUE, rotating)[0] == "To its rotation"
    assert offered(AlertKind.JOB_LATE) == ["See the scheduled jobs"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(AlertKind.ABUSE, "compromise"), (AlertKind.EXPIRY, "expiry"), (AlertKind.ROTATION_DUE, "regular")],
)
def test_a_rotation_is_suggested_with_its_reason_and_leads_to_its_form(
    organization, operator, client_of, visit, kind, reason
):
    action = visit(make_alert(organization, kind)).context["actions"][0]
    assert action.url.endswith(f"/rotate?reason={reason}")
    assert client_of(operator).get(action.url).status_code == 200


def test_every_action_leads_somewhere(organization, operator, client_of, visit):
    client = client_of(operator)
    subjects = {AlertKind.WEBHOOK_OFF: str(make_webhook(organization).pk)}
    for kind in AlertKind:
        if AlertRule.objects.one(organization, kind).is_on:
            actions = visit(make_alert(organization, kind, subject=subjects.get(kind, ""))).context["actions"]
            assert actions
            for action in actions:
                assert client.get(action.url).status_code == 200


def test_a_webhook_that_was_deleted_is_led_to_by_nothing(organization, visit):
    webhook = make_webhook(organization)
    alert = make_alert(organization, AlertKind.WEBHOOK_OFF, subject=str(webhook.pk))
    webhook.remove(by=make_actor())
    assert visit(alert).context["actions"] == []


def test_a_viewer_sees_everything_and_nothing_to_press(organization, viewer, client_of):
    response = client_of(viewer).get(make_alert(organization).get_absolute_url())
    assert actions(response) == []
    for word in ("Acknowledge…", "Resolve…", "Revoke…"):
        assert word not in response.text


def test_the_timeline_tells_what_happened_the_newest_first(organization, operator, visit):
    key, by = make_key(organization).key, make_actor(operator)
    alert = make_alert(organization, AlertKind.EXPIRY, key, level=30, ago=DAY)
    until = timezone.now() + 3 * DAY
    alert.acknowledge(until=until, by=by)
    worse = Sighting(key.pk, timezone.now(), alert.facts | {"days": 7}, level=7)
    Alert.objects.raise_all(organization, AlertKind.EXPIRY, [worse], now=timezone.now())
    alert.refresh_from_db()
    assert alert.status == "open"
    alert.resolve(note="Its caller has moved", by=by)
    response = visit(alert)
    assert [event.event for event in response.context["events"]] == ["resolved", "escalated", "acknowledged", "opened"]
    told = words(response)
    assert f"Resolved by {operator.email} “ Its caller has moved ”" in told
    assert "Got worse : within 7 days" in told
    assert f"Acknowledged by {operator.email} until {until:%-d %b, %H:%M}" in told
    assert "Its cause is still there" in told
    assert actions(response) == []


def test_one_that_ended_by_itself_says_so(organization, visit):
    alert = make_alert(organization)
    Alert.objects.end_all([alert], now=timezone.now(), why="Calm for 24 hours.")
    told = words(visit(alert))
    assert "by itself: “ Calm for 24 hours. ”" in told
    assert "Its cause is still there" not in told


def test_who_has_it_in_hand_is_told(organization, operator, visit):
    alert = make_alert(organization)
    alert.acknowledge(until=timezone.now() + DAY, by=make_actor(operator))
    assert f"{operator.email} has it in hand until" in words(visit(alert))


def test_an_event_of_a_dead_key_and_facts_that_are_missing_break_nothing(organization, visit):
    key = make_revoked_key(organization).key
    make_event(key, outcome=Outcome.REVOKED)
    alert = make_alert(organization, key=key)
    for facts in ({}, {"hour": "nonsense", "callers": []}, {"hour": None, "callers": [{}]}):
        Alert.objects.filter(pk=alert.pk).update(facts=facts)
        assert visit(alert).status_code == 200


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_everything_is_escaped(organization, visit, text):
    callers = [{"address": text, "agent": text, "count": 1, "is_known": False}]
    alert = make_alert(organization, key=make_key(organization, text).key, facts={"callers": callers})
    alert.resolve(note=text, by=BY)
    late = make_alert(organization, AlertKind.JOB_LATE, facts={"error": text})
    for one in (alert, late):
        response = visit(one)
        assert "<script>alert" not in response.text
        assert "<img src=x" not in response.text


def test_many_events_cost_no_more_queries_than_few_and_fifty_are_shown(organization, operator, visit):
    alert = make_alert(organization)
    with CaptureQueriesContext(connection) as few:
        visit(alert)
    for number in range(60):
        alert.acknowledge(until=timezone.now() + (1 + number) * HOUR, by=make_actor(operator))
    with CaptureQueriesContext(connection) as many:
        response = visit(alert)
    assert len(many) <= len(few)
    assert len(response.context["events"]) == 50
