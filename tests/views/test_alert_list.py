"""The inbox of alerts."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apikeys.models import Alert, AlertKind, AlertRule, JobRun
from apikeys.paging import PAGE_SIZE
from tests.factories import make_actor, make_alert, make_key, make_member, make_organization
from tests.pages import HOSTILE, HTMX, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()
DAY = timedelta(days=1)


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)

    def get(*, headers=None, **query):
        return client.get(url("alert_list", organization, **query), headers=headers)

    return get


def codes(response):
    return [alert.code for alert in response.context["alerts"]]


def words_of(response, alert):
    """Return what the list says of an alert, as words."""
    rows = re.findall(r"<tr.*?</tr>", response.text, re.DOTALL)
    [row] = [row for row in rows if alert.get_absolute_url() in row]
    return " ".join(re.sub(r"<[^>]+>", " ", row).split())


def make_many(organization, number, **changed):
    """Write alerts of one key that are resolved or not; no verb makes many at once."""
    key, now = make_key(organization).key, timezone.now()
    return Alert.objects.bulk_create(
        Alert(
            **{"organization": organization, "kind": AlertKind.ABUSE, "key": key, "opened_at": now, "seen_at": now}
            | {"resolved_at": now, "cause_ended_at": now, "resolution": "over"}
            | changed
        )
        for _ in range(number)
    )


def test_without_any_it_says_what_to_do_next(visit):
    response = visit()
    assert response.status_code == 200
    assert "No open alerts" in response.text
    assert "/acme/alerts/rules" in response.text
    assert "Nobody has an alert in hand" in visit(status="acknowledged").text
    assert "No alert is resolved yet" in visit(status="resolved").text
    assert "No alerts yet" in visit(status="all").text


def test_a_row_says_what_was_seen_of_which_key_against_what_was_expected(organization, visit):
    key = make_key(organization, "checkout").key
    alert = make_alert(organization, key=key, ago=timedelta(hours=3), count=41)
    before = snapshot()
    response = visit()
    assert is_whole_page(response)
    told = words_of(response, alert)
    assert f"Abuse {alert.code} checkout {key.fingerprint} production" in told
    assert "41 requests with a wrong secret, between" in told
    assert "expected: none that the key does not allow" in told
    assert "opened 3 h ago seen 3 h ago 41 times Open" in told
    assert snapshot() == before


def test_urgent_ones_are_first_and_then_the_newest(organization, visit):
    expiry, abuse = make_alert(organization, AlertKind.EXPIRY), make_alert(organization)
    unused, job = make_alert(organization, AlertKind.UNUSED), make_alert(organization, AlertKind.JOB_LATE)
    assert codes(visit()) == [one.code for one in (job, abuse, unused, expiry)]
    rule = AlertRule.objects.one(organization, AlertKind.EXPIRY)
    rule.edit(replace(rule.terms, is_urgent=True), by=BY)
    assert codes(visit()) == [one.code for one in (job, abuse, expiry, unused)]
    assert codes(visit(status="all")) == [one.code for one in (job, unused, abuse, expiry)]


def test_the_tabs_part_them_and_count_each(organization, operator, visit):
    waiting, held, done, lapsed = (make_alert(organization) for _ in range(4))
    by = make_actor(operator)
    held.acknowledge(until=timezone.now() + DAY, by=by)
    done.resolve(note="It was us", by=by)
    lapsed.acknowledge(until=timezone.now() + DAY, by=by)
    Alert.objects.filter(pk=lapsed.pk).update(acknowledged_until=timezone.now() - DAY)
    assert codes(visit()) == [lapsed.code, waiting.code]
    assert codes(visit(status="acknowledged")) == [held.code]
    assert codes(visit(status="resolved")) == [done.code]
    response = visit(status="all")
    assert codes(response) == [one.code for one in (lapsed, done, held, waiting)]
    assert [(tab["label"], tab["count"]) for tab in response.context["tabs"]] == [
        ("Open", "2"),
        ("Acknowledged", "1"),
        ("Resolved", "1"),
        ("All", "4"),
    ]
    assert "Acknowledged in 23 h , Operator Person" in words_of(response, held)
    assert f"Resolved {operator.email}" in words_of(response, done)


def test_filters_narrow_the_list_and_its_counts_and_are_taken_off_by_chips(organization, operator, visit):
    member = operator.memberships.get()
    mine = make_alert(organization, key=make_key(organization, environment="dev", owner=member).key)
    make_alert(organization, AlertKind.UNUSED)
    for query in ({"kind": "abuse"}, {"urgency": "urgent"}, {"environment": "dev"}, {"owner": operator.email}):
        response = visit(**query)
        assert codes(response) == [mine.code]
        [chip] = response.context["chips"]
        assert chip.remove_url == "/acme/alerts/"
        assert [tab["count"] for tab in response.context["tabs"]] == ["1", "0", "0", "1"]
    assert len(codes(visit(urgency="digest"))) == 1
    assert "No alert matches" in visit(kind="abuse", environment="stag").text


def test_it_is_searched_by_code_name_and_fingerprint(organization, visit):
    key = make_key(organization, "checkout").key
    found = make_alert(organization, key=key)
    make_alert(organization)
    for text in (found.code, found.code.lower().replace("-", ""), "checkout", key.fingerprint, key.public_id):
        assert codes(visit(q=text)) == [found.code]
    assert codes(visit(q="AL-0000000")) == []
    late = make_alert(organization, AlertKind.JOB_LATE)
    assert codes(visit(q="roll_up")) == [late.code]


def test_a_pasted_key_is_led_away(organization, visit):
    key, secret = make_key(organization)
    response = visit(q=secret.text)
    assert response["Location"] == f"/acme/alerts/?q={key.public_id}&lookup=pasted"


def test_who_may_handle_alerts_selects_them(organization, operator, client_of, visit):
    alert = make_alert(organization)
    assert 'name="alert"' not in visit().text
    text = client_of(operator).get(url("alert_list", organization)).text
    assert f'value="{alert.code}"' in text
    assert "/acme/alerts/resolve" in text
    alert.resolve(note="over", by=BY)
    assert 'name="alert"' not in client_of(operator).get(url("alert_list", organization, status="all")).text


def test_htmx_gets_the_table_alone(organization, visit):
    make_alert(organization)
    response = visit(headers=HTMX)
    assert is_partial(response)
    assert 'id="alert_table"' in response.text


def test_pages_end_after_fifty_and_go_from_the_urgent_ones_to_the_others(organization, visit):
    make_many(organization, PAGE_SIZE + 3)
    first = visit(status="resolved")
    cursor = re.search(r"after=([^&]+)", first.context["next_url"])[1]
    second = visit(status="resolved", after=cursor)
    found = [alert.pk for page in (first, second) for alert in page.context["alerts"]]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == PAGE_SIZE + 3
    assert second.context["first_url"] == "/acme/alerts/?status=resolved"
    for kind in (AlertKind.ABUSE, AlertKind.UNUSED):
        for _ in range(PAGE_SIZE - 20):
            make_alert(organization, kind)
    page, seen = visit(), []
    seen += [alert.kind for alert in page.context["alerts"]]
    page = visit(after=re.search(r"after=([^&]+)", page.context["next_url"])[1])
    seen += [alert.kind for alert in page.context["alerts"]]
    assert seen == ["abuse"] * 30 + ["unused"] * 30


@pytest.mark.parametrize(
    "query",
    [
        {"status": "odd"},
        {"kind": "<script>alert(1)</script>"},
        {"environment": "mars"},
        {"owner": "nobody"},
        {"urgency": "x" * 5000},
        {"q": "x" * 201},
        {"after": "nonsense"},
        {"after": "W10="},
        {"after": "é" * 300},
    ],
)
def test_a_damaged_address_is_a_422_that_shows_nothing(organization, visit, query):
    make_alert(organization)
    for headers in (None, HTMX):
        response = visit(headers=headers, **query)
        assert response.status_code == 422
        assert "<script>alert" not in response.text
        assert codes(response) == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_are_escaped(organization, visit, text):
    make_alert(organization, key=make_key(organization, text).key)
    response = visit()
    assert len(codes(response)) == 1
    assert "<script>alert" not in response.text
    assert "<img src=x" not in response.text


def test_it_says_when_alerts_are_not_looked_for(organization, visit):
    assert "has never succeeded" in visit().text
    with JobRun.objects.record("evaluate_alerts"):
        pass
    text = visit().text
    assert "Alerts are not looked for" not in text
    assert "Looked for" in text


def test_another_organizations_alerts_are_not_shown(organization, visit):
    theirs = make_alert(make_organization())
    for query in ({}, {"status": "all"}, {"q": theirs.code}):
        response = visit(**query)
        assert codes(response) == []
        assert theirs.get_absolute_url() not in response.text
        assert {tab["count"] for tab in response.context["tabs"]} == {"0"}


def test_the_navigation_says_how_many_nobody_has_in_hand(organization, viewer, client_of, visit):
    text = client_of(viewer).get(url("key_list", organization)).text
    assert '<span class="count">' not in text
    make_alert(organization)
    make_alert(organization).resolve(note="over", by=BY)
    assert re.search(r'class="count">.*?</span>1<span', client_of(viewer).get(url("key_list", organization)).text)


def test_the_navigation_counts_up_to_99(organization, visit):
    now = timezone.now()
    Alert.objects.bulk_create(
        Alert(
            organization=organization,
            kind=AlertKind.JOB_LATE,
            subject=f"job {number}",
            opened_at=now,
            seen_at=now,
            facts={"job": f"job {number}", "limit_seconds": 60},
        )
        for number in range(120)
    )
    assert "</span>99+<span" in visit().text


def test_many_cost_no_more_queries_than_few_and_the_badge_costs_one(organization, visit):
    owner = make_member(organization)
    make_alert(organization, key=make_key(organization, owner=owner).key)
    make_alert(organization, AlertKind.UNUSED)
    with CaptureQueriesContext(connection) as few:
        visit()
    for kind in (AlertKind.ABUSE, AlertKind.UNUSED, AlertKind.EXPIRY):
        for environment in ("prod", "stag"):
            alert = make_alert(organization, kind, make_key(organization, environment=environment, owner=owner).key)
            alert.acknowledge(until=timezone.now() + DAY, by=BY)
            make_alert(organization, kind)
    with CaptureQueriesContext(connection) as many:
        visit()
    assert len(many) == len(few)
    badges = [query["sql"] for query in many if "COUNT(*)" in query["sql"] and "LIMIT 100)" in query["sql"]]
    counted = [sql for sql in badges if '"apikeys_alert"' in sql]
    assert len(counted) == 1
