"""Alerts about what a key is: near its end, unused, to be rotated, or without an owner."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import Alert, AlertKind, AlertRule, ApiKey, RevocationReason, UsageWatermark
from apikeys.models.usage import DAY
from tests.evaluation.clock import levels, raised, told
from tests.factories import (
    make_actor,
    make_event,
    make_exemption,
    make_key,
    make_member,
    make_old_key,
    make_organization,
    make_rhythm,
    make_rotation,
)
from tests.pages import age_limit

pytestmark = pytest.mark.django_db
BY = make_actor()


def ending(organization, clock, days, **terms):
    return make_key(organization, expires_at=clock.now + days * DAY, **terms).key


def move_end(key, end):
    stored = ApiKey.objects.for_pages().get(pk=key.pk)
    stored.edit(replace(stored.terms, expires_at=end), by=BY)


def edit_rule(organization, kind, *, is_on=True, **options):
    rule = AlertRule.objects.one(organization, kind)
    terms = replace(rule.terms, is_on=is_on, options={**rule.terms.options, **options})
    rule.edit(terms, by=BY)


def alert_of(kind=AlertKind.EXPIRY):
    return Alert.objects.filter(kind=kind).latest("pk")


# Near its end


def test_each_threshold_is_told_once_as_one_alert_that_ends_with_the_key(organization, clock):
    ending(organization, clock, 61.5)
    for _ in range(64):
        clock.look(days=1)
        clock.look(minutes=1)
    assert levels(organization) == [60, 30, 7, 1]
    assert [event for event, _ in told(organization, "expiry")] == ["opened"] + ["escalated"] * 3 + ["resolved"]
    assert Alert.objects.filter(kind=AlertKind.EXPIRY).count() == 1
    assert "expired" in alert_of().resolution


@pytest.mark.parametrize(("days", "expected"), [(40, [30]), (50, [30]), (55, [7]), (61, [1]), (63, [])])
def test_after_missed_runs_only_the_narrowest_is_told(organization, clock, days, expected):
    ending(organization, clock, 61.5)
    clock.look(days=days)
    clock.look(minutes=15)
    assert levels(organization) == expected


def test_a_clock_that_jumps_back_tells_of_no_wider_one(organization, clock):
    ending(organization, clock, 61.5)
    clock.look(days=55)
    clock.look(days=-50)
    clock.look(days=45)
    assert levels(organization) == [7]
    clock.look(days=11)
    assert levels(organization) == [7, 1]


def test_an_end_that_is_set_within_the_days_is_known_to_who_set_it(organization, clock):
    ending(organization, clock, 5)
    old = make_old_key(organization, 400 * DAY)
    move_end(old, clock.now + 5 * DAY)
    clock.look(minutes=15)
    assert levels(organization) == []
    clock.look(days=4.2)
    assert levels(organization) == [1, 1]


def test_an_end_that_is_moved_ends_the_alert_and_the_next_thresholds_are_told(organization, clock):
    key = ending(organization, clock, 61)
    clock.look(days=32)
    assert levels(organization) == [30]
    clock.move(days=20)
    move_end(key, clock.now + 20 * DAY)
    clock.look(minutes=15)
    assert alert_of().resolution == "The key's end was moved."
    assert levels(organization) == [30], "20 days are known to who has just set them"
    clock.look(days=14)
    clock.look(days=5.5)
    assert levels(organization) == [30, 7, 1]
    move_end(key, None)
    clock.look(minutes=15)
    assert not Alert.objects.open().filter(kind=AlertKind.EXPIRY).exists()


def test_a_rotations_deadline_is_nobodys_surprise(organization, clock):
    rotated = ending(organization, clock, 50)
    clock.move(days=21)
    clock.look(minutes=1)
    assert levels(organization) == [30]
    make_rotation(organization, ApiKey.objects.get(pk=rotated.pk))
    clock.look(minutes=15)
    clock.look(days=6.5)
    assert levels(organization) == [30]
    assert alert_of().resolution == "The key's end was moved."


def test_a_known_end_is_told_again_only_when_it_is_nearer(organization, clock):
    ending(organization, clock, 61.5)
    clock.look(days=2)
    alert_of().resolve(note="We know", by=BY)
    for _ in range(28):
        clock.look(days=1)
    assert levels(organization) == [60]
    clock.look(days=3)
    assert levels(organization) == [60, 30]
    alert_of().acknowledge(until=clock.now + 3 * DAY, by=BY)
    clock.look(days=2)
    assert alert_of().status == "acknowledged"
    clock.look(days=2)
    assert told(organization, "expiry")[-1] == ("reopened", 30)
    alert_of().acknowledge(until=clock.now + 90 * DAY, by=BY)
    clock.look(days=20)
    assert (alert_of().status, alert_of().level) == ("open", 7)


def test_an_organizations_days_are_its_own(organization, clock):
    other = make_organization()
    for one in (organization, other):
        ending(one, clock, 70)
    edit_rule(organization, AlertKind.EXPIRY, days=[14])
    clock.look(days=12)
    clock.look(days=45)
    assert (levels(organization), levels(other)) == ([14], [60, 30])
    edit_rule(other, AlertKind.EXPIRY, is_on=False)
    clock.look(minutes=15)
    assert [alert.status for alert in Alert.objects.filter(kind="expiry").order_by("pk")] == ["resolved", "open"]
    assert Alert.objects.get(organization=other, kind="expiry").resolution.startswith("The organization does not look")


# Unused


def test_unused_are_exactly_the_keys_of_the_list(organization, clock):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": clock.now - 300 * DAY})
    make_old_key(organization, 91 * DAY, name="never used")
    make_old_key(organization, 89 * DAY, name="young")
    make_old_key(organization, 91 * DAY, name="paused").pause(by=BY)
    make_old_key(organization, 91 * DAY, name="revoked").revoke(reason=RevocationReason.UNUSED, by=BY)
    for name, gap in (("stopped", None), ("quarterly", 92 * DAY)):
        key = make_old_key(organization, 400 * DAY, name=name)
        make_event(key, ago=100 * DAY)
        if gap:
            make_rhythm(key, usual_gap=gap)
    make_event(make_old_key(organization, 91 * DAY, name="used"), ago=DAY)
    make_exemption(make_old_key(organization, 91 * DAY, name="standby"))
    make_exemption(make_old_key(organization, 91 * DAY, name="no standby any more"), until=-DAY)
    clock.look()
    clock.look(minutes=15)
    names = {name for name, _ in raised(organization, "unused")}
    assert names == {"never used", "paused", "stopped", "no standby any more"}
    assert names == set(organization.keys.unused(clock.now).values_list("name", flat=True))
    assert len(raised(organization, "unused")) == 4
    facts = {alert.key.name: alert.facts for alert in Alert.objects.filter(kind="unused").select_related("key")}
    assert facts["stopped"] == {
        "silence": "dormant",
        "since": (clock.now - timedelta(minutes=15) - 100 * DAY).isoformat(),
        "days": 90,
        "usual_gap_hours": None,
    }


def test_keys_that_nobody_could_measure_are_not_told_of(organization, clock):
    UsageWatermark.objects.update_or_create(pk=1, defaults={"recording_since": clock.now - 80 * DAY})
    make_old_key(organization, 400 * DAY)
    clock.look()
    assert raised(organization) == []
    clock.look(days=11)
    assert len(raised(organization, "unused")) == 1


@pytest.mark.parametrize("how", ["used", "exempt", "revoked"])
def test_it_is_over_when_the_key_is_used_may_be_silent_or_is_revoked(organization, clock, how):
    key = make_old_key(organization, 91 * DAY)
    clock.look()
    if how == "used":
        make_event(key)
    elif how == "exempt":
        make_exemption(key)
    else:
        key.revoke(reason=RevocationReason.UNUSED, by=BY)
    clock.look(minutes=15)
    alert = alert_of(AlertKind.UNUSED)
    assert (alert.status, alert.resolution) == ("resolved", "The key is used again, is exempt, or was revoked.")
    assert alert.cause_ended_at == clock.now


def test_what_somebody_resolved_stays_resolved_until_it_begins_anew(organization, clock):
    key = make_old_key(organization, 91 * DAY)
    clock.look()
    alert_of(AlertKind.UNUSED).resolve(note="Kept for the audit", by=BY)
    for _ in range(5):
        clock.look(days=1)
    assert Alert.objects.filter(key=key).count() == 1
    make_event(key)
    clock.look(minutes=15)
    assert Alert.objects.get(key=key).resolution == "Kept for the audit"
    clock.look(days=91)
    assert Alert.objects.filter(key=key, kind="unused").count() == 2


def test_what_somebody_has_in_hand_is_told_again_when_their_time_is_over(organization, clock):
    make_old_key(organization, 91 * DAY)
    clock.look()
    alert_of(AlertKind.UNUSED).acknowledge(until=clock.now + 2 * DAY, by=BY)
    clock.look(days=1)
    assert [event for event, _ in told(organization, "unused")] == ["opened", "acknowledged"]
    clock.look(days=1, minutes=1)
    clock.look(days=1)
    assert [event for event, _ in told(organization, "unused")] == ["opened", "acknowledged", "reopened"]


# Too old, and without an owner


def test_keys_past_their_date_are_told_of_until_they_are_rotated(organization, clock):
    age_limit(organization, 60)
    old, young = (make_old_key(organization, days * DAY, name=f"{days} days") for days in (61, 59))
    clock.look()
    assert raised(organization, "rotation_due") == [("61 days", "rotation_due")]
    assert alert_of(AlertKind.ROTATION_DUE).facts["max_key_age"] == 60
    make_rotation(organization, old)
    clock.look(minutes=15)
    assert alert_of(AlertKind.ROTATION_DUE).status == "resolved"
    clock.look(days=1)
    assert raised(organization, "rotation_due")[1:] == [("59 days", "rotation_due")]
    age_limit(organization, None)
    clock.look(minutes=15)
    assert not Alert.objects.open().filter(key=young, kind="rotation_due").exists()


def test_a_key_whose_owner_left_is_told_of_until_it_has_another(organization, clock):
    owner, heir = make_member(organization), make_member(organization)
    key = make_key(organization, owner=owner).key
    clock.look()
    assert raised(organization) == []
    owner.user.is_active = False
    owner.user.save(update_fields=["is_active"])
    clock.look(minutes=15)
    clock.look(minutes=15)
    assert [kind for _, kind in raised(organization)] == ["owner_gone"]
    assert alert_of(AlertKind.OWNER_GONE).facts == {"owner": owner.user.email}
    stored = ApiKey.objects.for_pages().get(pk=key.pk)
    stored.edit(replace(stored.terms, owner=heir), by=BY)
    clock.look(minutes=15)
    assert alert_of(AlertKind.OWNER_GONE).resolution == "The key has an owner again, was revoked or has expired."


def test_a_removed_member_leaves_no_key_without_an_owner(organization, clock):
    owner = make_member(organization)
    make_key(organization, owner=owner)
    assert timezone.now() == clock.now
    clock.look()
    assert not Alert.objects.filter(kind="owner_gone").exists()
