"""The outbox: who is to be told of what, written with the alert itself."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from apikeys.models import Alert, AlertKind, AlertMail, AlertRule, AuditAction, Channel, Delivery, EventType, Role
from tests.factories import (
    make_actor,
    make_alert,
    make_delivery,
    make_key,
    make_member,
    make_organization,
    make_webhook,
)
from tests.pages import entries
from tests.threads import run_together

BY = make_actor()


def mailed(organization):
    """Return whom mails wait for, and whether they are urgent."""
    mails = Delivery.objects.filter(organization=organization, channel=Channel.MAIL)
    return sorted(mails.values_list("email", "is_urgent"))


@pytest.mark.django_db
def test_a_mail_waits_for_each_recipient_and_tells_of_all_that_happens_until_it_is_sent(organization):
    owner = make_member(organization)
    founder = "founder@example.com"
    first = make_alert(organization, AlertKind.EXPIRY, make_key(organization, owner=owner).key)
    assert mailed(organization) == sorted([(founder, False), (owner.user.email, False)])
    for _ in range(3):
        make_alert(organization, AlertKind.ROTATION_DUE, make_key(organization, owner=owner).key)
    assert len(mailed(organization)) == 2
    assert set(Delivery.objects.values_list("first_event", flat=True)) == {first.events.get().pk}
    make_alert(organization, AlertKind.ABUSE, make_key(organization, owner=owner).key)
    assert (founder, True) in mailed(organization)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("choice", "told"), [(AlertMail.ALL, [False, True]), (AlertMail.URGENT, [True]), (AlertMail.NONE, [])]
)
def test_each_member_gets_what_they_chose(organization, choice, told):
    member = make_member(organization, Role.ADMIN)
    member.alert_mail = choice
    member.save()
    for kind in (AlertKind.ABUSE, AlertKind.EXPIRY):
        make_alert(organization, kind)
    assert [urgent for email, urgent in mailed(organization) if email == member.user.email] == told


@pytest.mark.django_db
def test_what_somebody_does_by_hand_is_told_to_webhooks_and_mailed_to_nobody(organization):
    make_webhook(organization)
    alert = make_alert(organization)
    before = mailed(organization)
    alert.acknowledge(until=timezone.now() + timedelta(days=1), by=BY)
    alert.resolve(note="It was us", by=BY)
    told = Delivery.objects.filter(channel=Channel.WEBHOOK).values_list("event__event", flat=True)
    assert sorted(told) == sorted([EventType.OPENED, EventType.ACKNOWLEDGED, EventType.RESOLVED])
    assert mailed(organization) == before


@pytest.mark.django_db
def test_a_webhook_is_told_of_its_kinds_and_of_its_organization_alone(organization):
    everything, some, off = (make_webhook(organization) for _ in range(3))
    type(some).objects.filter(pk=some.pk).update(kinds=[AlertKind.EXPIRY])
    off.switch_off(by=BY)
    theirs = make_webhook(make_organization())
    for kind in (AlertKind.ABUSE, AlertKind.EXPIRY):
        make_alert(organization, kind)
    counts = [Delivery.objects.filter(webhook=webhook).count() for webhook in (everything, some, off, theirs)]
    assert counts == [2, 1, 0, 0]


@pytest.mark.django_db
def test_a_kind_that_is_mailed_to_nobody_is_still_told_to_webhooks(organization):
    rule = AlertRule.objects.usual(organization, AlertKind.ABUSE)
    rule.role, rule.to_owner = "", False
    rule.save()
    make_webhook(organization)
    make_alert(organization)
    assert mailed(organization) == []
    assert Delivery.objects.count() == 1


@pytest.mark.django_db
def test_an_alert_that_is_not_kept_is_told_to_nobody(organization):
    make_webhook(organization)
    with transaction.atomic():
        make_alert(organization)
        assert Delivery.objects.exists()
        transaction.set_rollback(True)
    assert not Alert.objects.exists()
    assert not Delivery.objects.exists()


def test_alerts_at_the_same_moment_share_one_mail(outbox):
    keys = [make_key(outbox, owner=outbox.members.get()).key for _ in range(4)]
    results = run_together(*[lambda key=key: make_alert(outbox, AlertKind.EXPIRY, key) for key in keys])
    assert [type(result) for result in results] == [Alert] * 4, results
    assert len(mailed(outbox)) == 1
    first = min(alert.events.get().pk for alert in results)
    assert Delivery.objects.get(organization=outbox).first_event == first


@pytest.mark.django_db
def test_to_have_it_sent_again_is_audited_and_begins_anew(organization):
    delivery = make_delivery(organization, attempts=3, sent_at=timezone.now())
    assert delivery.resend(by=BY)
    assert not delivery.resend(by=BY)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("waiting", 0)
    [entry] = entries(organization, AuditAction.DELIVERY_RESEND)
    assert entry.target_label == delivery.email
