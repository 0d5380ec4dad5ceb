"""Which alerts a member is mailed, and why."""

from dataclasses import replace

import pytest

from apikeys.models import AlertKind, AlertRule, AuditAction, Role
from tests.factories import make_actor, make_key, make_member
from tests.pages import entries, is_whole_page, messages_of, snapshot, url

pytestmark = pytest.mark.django_db
BY = make_actor()


def lines(response):
    return {line.rule.kind: (line.is_mailed, line.why, line.of_owned) for line in response.context["lines"]}


def test_each_role_sees_what_it_is_mailed_and_why(organization, viewer, operator, admin, client_of):
    clients = {one.email: client_of(one) for one in (viewer, operator, admin)}
    before = snapshot()
    found = {email: client.get(url("alert_mails", organization)) for email, client in clients.items()}
    assert all(is_whole_page(response) for response in found.values())
    told = "Operators and admins are mailed, and each key's owner."
    assert lines(found[viewer.email])["abuse"] == (False, told, False)
    assert lines(found[operator.email])["abuse"] == (True, "Your role is operator.", False)
    assert lines(found[operator.email])["owner_gone"] == (False, "Admins are mailed.", False)
    assert lines(found[admin.email])["owner_gone"] == (True, "Your role is admin.", False)
    assert lines(found[admin.email])["new_network"] == (False, "Nobody looks for these: the rule is off.", False)
    assert snapshot() == before


def test_an_owner_of_keys_is_mailed_of_those_alone(organization, client_of):
    member = make_member(organization, Role.VIEWER)
    make_key(organization, owner=member)
    told = lines(client_of(member).get(url("alert_mails", organization)))
    assert told["abuse"] == (True, "You own 1 key; of others you are not told.", True)
    assert told["job_late"][0] is False


def test_a_rule_that_mails_no_member_says_so(organization, admin, client_of):
    rule = AlertRule.objects.one(organization, AlertKind.JOB_LATE)
    rule.edit(replace(rule.terms, role=None), by=BY)
    assert lines(client_of(admin).get(url("alert_mails", organization)))["job_late"] == (
        False,
        "No member is mailed by role.",
        False,
    )


def test_a_choice_is_saved_recorded_and_told_with_each_kind(organization, admin, client_of):
    client = client_of(admin)
    response = client.post(url("alert_mails", organization), {"alert_mail": "urgent"})
    assert response["Location"] == "/acme/alerts/mails"
    assert messages_of(response) == ["Saved."]
    [entry] = entries(organization, AuditAction.ALERT_MAIL_EDIT)
    assert (entry.actor, entry.changes) == (admin, {"alert_mail": ["all", "urgent"]})
    told = lines(client.get(url("alert_mails", organization)))
    assert told["abuse"][0] is True
    assert told["expiry"] == (False, "You chose urgent ones only.", False)
    client.post(url("alert_mails", organization), {"alert_mail": "none"})
    assert lines(client.get(url("alert_mails", organization)))["abuse"] == (False, "You chose nothing.", False)


def test_the_same_again_and_bad_input_change_nothing(organization, viewer, client_of):
    client = client_of(viewer)
    before = snapshot()
    assert messages_of(client.post(url("alert_mails", organization), {"alert_mail": "all"})) == ["Nothing was changed."]
    for choice in ("", "some", "x" * 5000):
        response = client.post(url("alert_mails", organization), {"alert_mail": choice})
        assert response.status_code == 422
        assert "alert_mail" in response.context["form"].errors
    assert snapshot() == before
