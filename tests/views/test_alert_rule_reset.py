"""Letting a rule say what is usual again."""

from dataclasses import replace

import pytest

from apikeys.models import AlertKind, AlertRule, AlertSettings, AuditAction
from tests.factories import make_actor
from tests.pages import entries, messages_of, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def reset(organization, admin, client_of):
    client = client_of(admin)
    return lambda kind="expiry": client.post(url("alert_rule_reset", organization, kind))


def test_it_says_the_usual_again_and_that_is_recorded(organization, admin, client_of, reset):
    rule = AlertRule.objects.one(organization, AlertKind.EXPIRY)
    rule.edit(replace(rule.terms, is_on=False, options={"days": [3]}), by=make_actor())
    page = client_of(admin).get(url("alert_rule_edit", organization, "expiry")).text
    assert "/acme/alerts/rules/expiry/usual" in page
    response = reset()
    assert response["Location"] == "/acme/alerts/rules"
    assert messages_of(response) == ["Expires soon: back to the usual."]
    assert AlertRule.objects.one(organization, AlertKind.EXPIRY).is_usual
    assert entries(organization, AuditAction.ALERT_RULE_EDIT)[-1].changes["days"] == [[3], [60, 30, 7, 1]]


def test_again_it_changes_nothing(organization, admin, client_of, reset):
    AlertSettings(organization=organization).save()
    client = client_of(admin)
    before = snapshot()
    assert messages_of(reset()) == ["Expires soon: it says the usual already."]
    assert snapshot() == before
    assert "/usual" not in client.get(url("alert_rule_edit", organization, "expiry")).text


def test_a_kind_that_does_not_exist_is_not_there_and_an_operator_may_not(organization, operator, client_of, reset):
    assert reset("odd").status_code == 404
    assert client_of(operator).post(url("alert_rule_reset", organization, "expiry")).status_code == 403
