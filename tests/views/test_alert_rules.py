"""What is looked for, and who is told of it."""

import re
from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apikeys.models import AlertKind, AlertRule, AlertSettings, Role
from tests.factories import make_actor
from tests.pages import is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()


@pytest.fixture
def visit(organization, viewer, client_of):
    client = client_of(viewer)
    return lambda: client.get(url("alert_rules", organization))


def row_of(response, kind):
    rows = re.findall(r"<tr.*?</tr>", response.text, re.DOTALL)
    [row] = [row for row in rows if f"<span>{kind.label}</span>" in row]
    return " ".join(re.sub(r"<[^>]+>", " ", row).split())


def test_each_kind_has_a_line_with_what_its_rule_says(visit):
    before = snapshot()
    response = visit()
    assert is_whole_page(response)
    told = row_of(response, AlertKind.ABUSE)
    assert "On At once to operators and admins, the key&#x27;s owner" in told
    assert "Requests with a wrong secret in an hour: 5" in told
    assert told.endswith("as usual")
    assert "In the digest to admins as usual" in row_of(response, AlertKind.OWNER_GONE)
    assert "Days before the end: 60, 30, 7, 1" in row_of(response, AlertKind.EXPIRY)
    assert "Sensitivity: Normal" in row_of(response, AlertKind.UNUSUAL_USAGE)
    assert "Off not looked for" in row_of(response, AlertKind.NEW_NETWORK)
    assert [rule.kind for rule in response.context["rules"]] == list(AlertKind)
    assert snapshot() == before


def test_what_was_changed_stands_out(organization, visit):
    rule = AlertRule.objects.one(organization, AlertKind.EXPIRY)
    rule.edit(replace(rule.terms, is_urgent=True, role=None, options={"days": [14]}), by=BY)
    told = row_of(visit(), AlertKind.EXPIRY)
    assert "At once to the key&#x27;s owner Days before the end: 14 changed now" in told
    rule.edit(replace(rule.terms, role=Role.VIEWER, to_owner=False), by=BY)
    assert "to every member" in row_of(visit(), AlertKind.EXPIRY)


def test_it_says_when_the_digest_comes(organization, visit):
    assert "At <b>08:00</b>, UTC" in visit().text
    AlertSettings.objects.of(organization).edit(digest_hour=6, digest_zone="Europe/Berlin", by=BY)
    assert "At <b>06:00</b>, Europe/Berlin" in visit().text


def test_only_an_admin_finds_a_way_to_change_them(organization, visit, admin, client_of):
    assert "/acme/alerts/rules/abuse" not in visit().text
    text = client_of(admin).get(url("alert_rules", organization)).text
    assert "/acme/alerts/rules/abuse" in text
    assert "/acme/alerts/digest" in text


def test_changed_rules_cost_no_more_queries(organization, visit):
    with CaptureQueriesContext(connection) as few:
        visit()
    for kind in AlertKind:
        rule = AlertRule.objects.one(organization, kind)
        rule.edit(replace(rule.terms, is_urgent=not rule.is_urgent), by=BY)
    with CaptureQueriesContext(connection) as many:
        visit()
    assert len(many) == len(few)
