"""Rules of alerts: the usual ones, and what an organization says instead."""

from dataclasses import replace

import pytest
from django.core.exceptions import ValidationError

from apikeys.models import AlertKind, AlertRule, AuditAction, Role
from apikeys.models.alert_rule import AlertRuleTerms
from tests.factories import make_actor, make_member, make_organization
from tests.pages import entries

pytestmark = pytest.mark.django_db
BY = make_actor()


def rule_of(organization, kind=AlertKind.EXPIRY):
    return AlertRule.objects.one(organization, kind)


def change(organization, kind=AlertKind.EXPIRY, **terms):
    rule = rule_of(organization, kind)
    return rule.edit(replace(rule.terms, **terms), by=BY)


def test_without_a_word_the_usual_terms_hold_for_each_kind(organization):
    rules = AlertRule.objects.of(organization)
    assert list(rules) == list(AlertKind)
    assert all(rule.is_usual for rule in rules.values())
    assert {kind for kind, rule in rules.items() if not rule.is_on} == {AlertKind.NEW_NETWORK}
    assert rules[AlertKind.EXPIRY].option("days") == [60, 30, 7, 1]
    assert not AlertRule.objects.exists()


def test_a_change_is_that_organizations_and_is_audited(organization):
    other = make_organization()
    assert change(organization, options={"days": [1, 14, 1]}, role=Role.OPERATOR, is_urgent=True)
    assert rule_of(organization).terms == AlertRuleTerms(True, True, Role.OPERATOR, True, {"days": [14, 1]})
    assert rule_of(other).is_usual
    [entry] = entries(organization, AuditAction.ALERT_RULE_EDIT)
    assert entry.changes["days"] == [[60, 30, 7, 1], [14, 1]]
    assert entry.changes["is_urgent"] == [False, True]
    assert "to_owner" not in entry.changes


def test_what_is_so_already_is_no_change(organization):
    assert not change(organization)
    assert change(organization, is_on=False)
    assert not change(organization, is_on=False)
    assert len(entries(organization, AuditAction.ALERT_RULE_EDIT)) == 1


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (AlertKind.EXPIRY, {"days": []}, "Between 1 and"),
        (AlertKind.EXPIRY, {"days": [0]}, "Whole days between 1 and"),
        (AlertKind.EXPIRY, {"days": [1.5]}, "Whole days between 1 and"),
        (AlertKind.EXPIRY, {"days": list(range(1, 100))}, "Between 1 and"),
        (AlertKind.ABUSE, {"wrong_secrets": 0}, "A whole number between 1 and 1,000,000."),
        (AlertKind.ABUSE, {"wrong_secrets": True}, "A whole number between 1 and 1,000,000."),
        (AlertKind.ABUSE, {"wrong_secrets": "5"}, "A whole number between 1 and 1,000,000."),
        (AlertKind.UNUSUAL_USAGE, {"sensitivity": "extreme"}, "One of "),
    ],
)
def test_an_option_beyond_its_limits_is_named_and_nothing_changes(organization, kind, options, words):
    with pytest.raises(ValidationError) as caught:
        change(organization, kind, options=options)
    [(name, messages)] = caught.value.message_dict.items()
    assert name in options
    assert messages[0].startswith(words)
    assert rule_of(organization, kind).is_usual


def test_options_that_nobody_knows_are_dropped_and_new_ones_have_their_usual_value(organization):
    change(organization, AlertKind.ABUSE, options={"wrong_secrets": 9, "unknown": 1})
    assert rule_of(organization, AlertKind.ABUSE).terms.options == {"wrong_secrets": 9, "refusals": 20, "revoked": 1}
    # As stored by a version that knew fewer.
    AlertRule.objects.update(options={"revoked": 3})
    assert rule_of(organization, AlertKind.ABUSE).terms.options == {"wrong_secrets": 5, "refusals": 20, "revoked": 3}


def test_whom_a_rule_names_by_role(organization):
    admins, operator, viewer = (make_member(organization, role) for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER))
    closed = make_member(organization, Role.ADMIN)
    closed.user.is_active = False
    closed.user.save()
    founder = organization.members.get(user__email="founder@example.com")
    rule = rule_of(organization)
    for role, named in [
        (Role.ADMIN, {founder, admins}),
        (Role.OPERATOR, {founder, admins, operator}),
        (Role.VIEWER, {founder, admins, operator, viewer}),
        ("", set()),
    ]:
        rule.role = role
        assert set(rule.members()) == named
