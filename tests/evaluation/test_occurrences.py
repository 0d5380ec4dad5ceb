"""Alerts about what happens: abuse, expired keys in use, rate limits and new networks, and when they are over."""

from dataclasses import replace
from datetime import timedelta

import pytest

from apikeys.models import Alert, AlertKind, AlertRule, ApiKey, Outcome, RevocationReason, UsageEvent, UsageHour
from apikeys.models.usage import DAY, HOUR, MINUTE
from tests.evaluation.clock import raised, told
from tests.factories import ADDRESS, make_actor, make_event, make_events, make_key, make_organization

pytestmark = pytest.mark.django_db
BY = make_actor()
STRANGER = "203.0.113.66"


@pytest.fixture
def key(organization):
    return make_key(organization, "key").key


def refuse(key, count=1, outcome=Outcome.UNKNOWN, *, at, address=STRANGER):
    """Let a key be refused so often, in the minute of an instant."""
    make_events(
        UsageEvent(key_id=key.pk, at=at, outcome=outcome, address=address, user_agent="curl/8.5") for _ in range(count)
    )


def edit_rule(organization, kind, *, is_on=True, **options):
    rule = AlertRule.objects.one(organization, kind)
    rule.edit(replace(rule.terms, is_on=is_on, options={**rule.terms.options, **options}), by=BY)


def only():
    return Alert.objects.get(key__isnull=False)


# Abuse


@pytest.mark.parametrize(
    ("outcome", "enough", "fact"),
    [
        (Outcome.UNKNOWN, 5, "wrong_secrets"),
        (Outcome.SCOPE_MISSING, 20, "scope_missing"),
        (Outcome.NETWORK_DENIED, 20, "network_denied"),
        (Outcome.REVOKED, 1, "revoked"),
    ],
)
def test_abuse_is_enough_requests_in_an_hour_that_the_key_does_not_allow(
    clock, organization, key, outcome, enough, fact
):
    refuse(key, enough - 1, outcome, at=clock.now - HOUR)
    refuse(key, enough - 1, outcome, at=clock.now - MINUTE)
    clock.look()
    assert raised(organization) == []
    refuse(key, 1, outcome, at=clock.now)
    clock.look(minutes=15)
    assert raised(organization) == [("key", "abuse")]
    facts = only().facts
    assert (facts[fact], facts["hour"]) == (enough, "2026-03-02T12:00:00+00:00")


def test_refusals_for_scope_and_network_count_together(clock, organization, key):
    refuse(key, 10, Outcome.SCOPE_MISSING, at=clock.now - MINUTE)
    refuse(key, 10, Outcome.NETWORK_DENIED, at=clock.now - MINUTE)
    clock.look()
    assert raised(organization) == [("key", "abuse")]


def test_it_tells_from_whom_and_whether_they_were_accepted_before(clock, organization, key):
    make_event(key, at=clock.now - 3 * DAY)
    list(UsageHour.objects.roll_up(clock.now))
    clock.move(minutes=90)
    make_event(key, at=clock.now - HOUR, address="192.0.2.9")
    other = make_key(organization, "other").key
    refuse(other, 6, at=clock.now - MINUTE, address="192.0.2.9")
    for number in range(4):
        refuse(key, 1, at=clock.now - MINUTE, address=f"203.0.113.{number}")
    refuse(key, 2, at=clock.now - MINUTE, address=ADDRESS)
    refuse(key, 3, at=clock.now - MINUTE, address="192.0.2.9")
    refuse(key, 7, at=clock.now - MINUTE)
    clock.look()
    callers = Alert.objects.get(key=key).facts["callers"]
    assert [(one["address"], one["count"], one["is_known"]) for one in callers] == [
        (STRANGER, 7, False),
        ("192.0.2.9", 3, True),
        (ADDRESS, 2, True),
        ("203.0.113.0", 1, False),
        ("203.0.113.1", 1, False),
    ]
    assert callers[0]["agent"] == "curl/8.5"
    [caller] = Alert.objects.get(key=other).facts["callers"]
    assert caller["is_known"] is False, "known to one key is not known to another"


def test_a_revoked_key_that_is_tried_is_told_of_again_after_it_was_resolved(clock, organization, key):
    key.revoke(reason=RevocationReason.LEAKED, by=BY)
    refuse(key, 1, Outcome.REVOKED, at=clock.now)
    clock.look(minutes=1)
    only().resolve(note="Asked them to stop", by=BY)
    clock.look(minutes=15)
    clock.look(days=1)
    assert len(raised(organization)) == 1
    refuse(key, 1, Outcome.REVOKED, at=clock.now)
    clock.look(minutes=1)
    assert len(raised(organization, "abuse")) == 2


# One alert, that grows, and ends


def test_what_goes_on_is_one_alert_whose_hours_are_counted_once(clock, organization, key):
    for _ in range(5):
        refuse(key, 5, at=clock.now - MINUTE)
        for _ in range(4):
            clock.look(minutes=15)
    assert raised(organization) == [("key", "abuse")]
    assert only().occurrences == 5
    assert [event for event, _ in told(organization, "abuse")] == ["opened"]


def test_an_hour_that_follows_one_that_was_over_when_it_was_seen_counts(clock, organization, key):
    refuse(key, 5, at=clock.now - 10 * MINUTE)
    clock.look()
    refuse(key, 5, at=clock.now)
    clock.look(minutes=15)
    assert (only().occurrences, only().facts["hour"]) == (2, "2026-03-02T12:00:00+00:00")


def test_the_numbers_of_a_running_hour_grow(clock, organization, key):
    refuse(key, 5, at=clock.now)
    clock.look(minutes=10)
    refuse(key, 400, at=clock.now)
    clock.look(minutes=50)
    alert = only()
    assert (alert.facts["wrong_secrets"], alert.facts["callers"][0]["count"], alert.occurrences) == (405, 405, 1)


@pytest.mark.parametrize(("kind", "outcome", "hours"), [("abuse", "revoked", 24), ("expired_used", "expired", 72)])
def test_it_is_over_when_it_was_not_seen_for_long(clock, organization, kind, outcome, hours):
    key = make_key(organization, expires_at=clock.now + HOUR).key
    clock.move(hours=2)
    refuse(key, 1, outcome, at=clock.now)
    clock.look(minutes=5)
    clock.look(hours=hours)
    assert only().status == "open"
    clock.look(hours=1)
    assert (only().status, only().resolution[:18]) == ("resolved", "Not seen again for")
    clock.look(minutes=15)
    assert len(raised(organization)) == 1
    refuse(key, 1, outcome, at=clock.now)
    clock.look(minutes=5)
    assert [alert_kind for _, alert_kind in raised(organization)] == [kind, kind]


def test_what_comes_after_a_calm_period_is_another_alert_also_when_no_run_came_in_between(clock, organization, key):
    refuse(key, 5, at=clock.now)
    clock.look(minutes=5)
    refuse(key, 5, at=clock.now + 3 * DAY)
    clock.look(days=3, minutes=10)
    assert [alert.status for alert in Alert.objects.filter(key=key).order_by("pk")] == ["resolved", "open"]


def test_after_missed_runs_all_hours_of_a_week_count(clock, organization, key):
    clock.look()
    for hours in range(1, 61):
        refuse(key, 5, at=clock.now + hours * HOUR)
    refuse(make_key(organization).key, 5, at=clock.now - 30 * DAY)
    clock.look(days=3)
    assert raised(organization) == [("key", "abuse")]
    assert only().occurrences == 60


def test_what_comes_late_counts(clock, organization, key):
    list(UsageHour.objects.roll_up(clock.now))
    clock.look()
    clock.move(minutes=60)
    list(UsageHour.objects.roll_up(clock.now))
    clock.look()
    refuse(key, 5, at=clock.now - HOUR - 5 * MINUTE)
    clock.look(minutes=15)
    assert raised(organization) == [("key", "abuse")]
    list(UsageHour.objects.roll_up(clock.now))
    clock.look(minutes=15)
    assert only().occurrences == 1


def test_a_clock_that_was_ahead_tells_of_nothing_twice_and_of_what_comes_after_it(clock, organization, key):
    clock.move(days=300)
    refuse(key, 5, at=clock.now)
    clock.look(minutes=5)
    clock.look(days=-300)
    clock.look(minutes=15)
    assert len(raised(organization, "abuse")) == 1
    refuse(key, 5, at=clock.now)
    clock.look(minutes=5)
    clock.look(minutes=5)
    assert len(raised(organization, "abuse")) == 1
    alert = Alert.objects.get(kind="abuse")
    assert (alert.occurrences, alert.seen_at <= clock.now) == (2, True)


def test_an_organizations_rule_is_its_own(clock, organization, key):
    other = make_key(make_organization(), "other").key
    edit_rule(organization, AlertKind.ABUSE, wrong_secrets=50)
    for one in (key, other):
        refuse(one, 10, at=clock.now)
    clock.look(minutes=5)
    assert (raised(organization), raised(other.organization)) == ([], [("other", "abuse")])
    edit_rule(organization, AlertKind.ABUSE, wrong_secrets=10)
    edit_rule(other.organization, AlertKind.ABUSE, is_on=False)
    clock.look(minutes=5)
    assert raised(organization) == [("key", "abuse")]
    assert Alert.objects.get(key=other).resolution == "The organization does not look for this any more."


# Expired, and a rate limit


def test_an_expired_key_that_is_used_is_told_of_with_a_days_requests(clock, organization):
    key = make_key(organization, "key", expires_at=clock.now + MINUTE).key
    refuse(key, 3, Outcome.EXPIRED, at=clock.now + 4 * DAY)
    refuse(key, 2, Outcome.EXPIRED, at=clock.now + 5 * DAY + HOUR)
    refuse(key, 2, Outcome.EXPIRED, at=clock.now + 5 * DAY + 2 * HOUR)
    clock.look()
    clock.look(days=5, hours=3)
    assert raised(organization, "expired_used") == [("key", "expired_used")]
    facts = Alert.objects.get(kind="expired_used").facts
    assert (facts["requests"], facts["expired_at"]) == (4, key.expires_at.isoformat())


def test_an_expired_key_whose_end_was_moved_needs_nobody(clock, organization):
    seen, unseen = (make_key(organization, expires_at=clock.now + MINUTE).key for _ in range(2))
    clock.move(hours=1)
    refuse(seen, 1, Outcome.EXPIRED, at=clock.now)
    clock.look(minutes=5)
    refuse(unseen, 1, Outcome.EXPIRED, at=clock.now)
    for key in (seen, unseen):
        stored = ApiKey.objects.for_pages().get(pk=key.pk)
        stored.edit(replace(stored.terms, expires_at=clock.now + 90 * DAY), by=BY)
    clock.look(minutes=5)
    assert (only().key_id, only().status, only().resolution) == (seen.pk, "resolved", "The key's end was moved.")


@pytest.mark.parametrize(
    ("hours", "expected"), [([0], 0), ([0, 1], 0), ([0, 1, 2], 1), ([0, 11, 23], 1), ([0, 12, 24], 0)]
)
def test_a_rate_limit_is_told_of_when_it_is_hit_in_three_hours_of_a_day(clock, organization, key, hours, expected):
    clock.move(days=3)
    for hour in hours:
        refuse(key, 10, Outcome.RATE_LIMITED, at=clock.now - hour * HOUR - MINUTE)
        refuse(key, 9, Outcome.RATE_LIMITED, at=clock.now - hour * HOUR - 90 * MINUTE)
    clock.look()
    assert len(raised(organization, "rate_limited")) == expected
    if expected:
        assert (only().facts["refused"], only().facts["hours"]) == (10, 3)


def test_a_rate_limit_of_a_revoked_key_is_over(clock, organization, key):
    for hour in range(3):
        refuse(key, 10, Outcome.RATE_LIMITED, at=clock.now - hour * HOUR)
    clock.look(minutes=1)
    key.revoke(reason=RevocationReason.UNUSED, by=BY)
    clock.look(minutes=15)
    assert only().resolution == "The key was revoked."
    clock.look(hours=1)
    assert len(raised(organization)) == 1


# New networks


def test_new_networks_are_told_of_where_somebody_wants_to_know(clock, organization, key):
    make_event(key, at=clock.now - 20 * DAY)
    make_event(key, at=clock.now)
    clock.look(minutes=1)
    make_event(key, at=clock.now, address=STRANGER)
    clock.look(minutes=1)
    assert raised(organization) == [], "off by default"
    edit_rule(organization, AlertKind.NEW_NETWORK)
    clock.look(minutes=1)
    assert raised(organization) == [("key", "new_network")]
    assert only().facts["network"] == "203.0.113.0/24"
    make_event(key, at=clock.now, address="203.0.113.99")
    clock.look(hours=1)
    assert only().occurrences == 1, "the same network"
    make_event(key, at=clock.now, address="2001:db8::1")
    clock.look(minutes=5)
    assert (only().occurrences, only().facts["network"]) == (2, "2001:db8::/64")
    clock.look_daily(7)
    assert only().status == "open"
    clock.look_daily(1)
    assert only().status == "resolved"


def test_a_first_network_is_not_new_and_the_next_one_is_at_once(clock, organization, key):
    edit_rule(organization, AlertKind.NEW_NETWORK)
    make_event(key, at=clock.now, address=None)
    make_event(key, at=clock.now + MINUTE)
    clock.look(minutes=2)
    assert raised(organization) == []
    make_event(key, at=clock.now, address=STRANGER)
    clock.look(minutes=2)
    assert raised(organization) == [("key", "new_network")]
    for _ in range(30):
        make_event(key, at=clock.now)
        make_event(key, at=clock.now, address=STRANGER)
        clock.look(hours=1)
    assert only().occurrences == 1, "known also when nothing was rolled up"


def test_a_network_of_long_ago_is_new_again(clock, organization, key):
    edit_rule(organization, AlertKind.NEW_NETWORK)
    for days in range(0, 98, 7):
        make_event(key, at=clock.now + timedelta(days=days))
    make_event(key, at=clock.now, address=STRANGER)
    make_event(key, at=clock.now + 95 * DAY, address=STRANGER)
    clock.move(days=94)
    clock.look()
    clock.look(days=2)
    assert raised(organization) == [("key", "new_network")]
