"""The demo is seeded once; each test looks at one of the things that make it believable."""

import random
import re
import shlex
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Count, F, Max, Q, Sum
from django.db.models.functions import ExtractIsoWeekDay
from django.utils import timezone

from apikeys import demo
from apikeys.demo import northwind
from apikeys.demo.cast import PASSWORD
from apikeys.demo.traffic import Clock, make_traffic
from apikeys.evaluation.preview import preview
from apikeys.evaluation.run import evaluate
from apikeys.models import (
    RANGES,
    Alert,
    AlertKind,
    AlertRuleTerms,
    AlertStatus,
    ApiKey,
    AuditAction,
    AuditEntry,
    Delivery,
    Dimension,
    JobRun,
    KeyActivity,
    KeyNetwork,
    Member,
    Organization,
    OrganizationDay,
    OrganizationHour,
    Outcome,
    Policy,
    PolicyRule,
    RecordingState,
    Review,
    ReviewItem,
    RevocationReason,
    Role,
    Silence,
    Status,
    UsageDay,
    UsageEvent,
    UsageHour,
    UsageWatermark,
    User,
)
from apikeys.models.series import floor_day, floor_hour
from apikeys.verification import Presented, verify
from tests.commands.running import run
from tests.factories import make_event, make_key
from tests.held import rolled_back

HOUSES = ["northwind", "halden"]


@pytest.fixture(scope="module")
def _seeded(django_db_setup, django_db_blocker):
    """Seed in a transaction that is rolled back after this module."""
    with django_db_blocker.unblock(), rolled_back():
        UsageEvent.objects.all().delete()
        UsageHour.objects.all().delete()
        demo.seed(1)
        yield


@pytest.fixture
def seeded(_seeded, django_db_blocker):
    with django_db_blocker.unblock():
        yield ApiKey.objects.filter(organization__slug__in=HOUSES)


def test_two_organizations_six_people_three_roles(seeded):
    members = Member.objects.filter(organization__slug__in=HOUSES)
    assert members.values("user").distinct().count() == 6
    assert set(members.values_list("role", flat=True)) == set(Role.values)
    assert members.values("user").annotate(count=Count("*")).filter(count=2).count() == 1
    assert all(user.email.endswith(".example") for user in User.objects.filter(memberships__in=members))
    assert User.objects.get(email="mara@northwind.example").check_password(PASSWORD)


def test_some_400_keys_of_every_status(seeded):
    northwind = seeded.filter(organization__slug="northwind")
    assert 380 <= northwind.count() <= 430
    assert 30 <= seeded.filter(organization__slug="halden").count() <= 50
    assert all(northwind.with_status(status).exists() for status in Status)
    assert {len(key.scope_names) > 0 for key in seeded.prefetch_related("scopes")} == {True}
    assert seeded.filter(owner__isnull=True).exists()
    assert seeded.filter(owner__isnull=False).exists()


def test_keys_end_within_each_threshold(seeded):
    now = timezone.now()
    near = [seeded.expiring(now, timedelta(days=days)).count() for days in (1, 7, 30, 60)]
    assert near == sorted(set(near))
    assert near[0] >= 1


def test_keys_are_overdue_for_rotation_and_soon_will_be(seeded):
    northwind = Organization.objects.get(slug="northwind")
    assert northwind.max_key_age == 730
    assert northwind.keys.to_rotate(organization=northwind).exists()
    assert northwind.keys.to_rotate_soon(organization=northwind).exists()
    assert not seeded.filter(organization__slug="halden").to_rotate().exists()
    [entry] = AuditEntry.objects.filter(organization=northwind, action=AuditAction.ORGANIZATION_EDIT)
    assert entry.changes == {"max_key_age": [None, 730]}


def test_northwind_has_a_closed_review_and_one_that_runs(seeded):
    running, closed = Review.objects.filter(organization__slug="northwind").order_by("-pk")
    assert closed.closed_at < timezone.now() - timedelta(days=60)
    assert running.is_open
    assert not running.is_overdue
    for review in (running, closed):
        progress = review.progress
        assert progress.needed > progress.unneeded > 0
        assert progress.open > 0
    assert closed.items.all().progress(closed, timezone.now()) == closed.progress
    told = AuditEntry.objects.filter(organization=running.organization, action=AuditAction.REVIEW_CONFIRM)
    answered = ReviewItem.objects.exclude(decided_at=None)
    assert told.count() == answered.count()
    assert not answered.filter(decided_at__lt=F("review__started_at")).exists()
    assert not answered.filter(last_used_at__gte=F("decided_at")).exists()


def test_a_policy_is_in_force_that_a_few_keys_violate_and_one_is_exempt_from(seeded):
    northwind = Organization.objects.get(slug="northwind")
    terms = Policy.objects.of(northwind).full_terms()
    assert terms.rules == [PolicyRule.PURPOSE, PolicyRule.SCOPES, PolicyRule.SEPARATION, PolicyRule.AGE]
    counts = northwind.keys.count_violations(terms, northwind, timezone.now())
    assert counts[PolicyRule.PURPOSE] == 0
    for rule in (PolicyRule.SCOPES, PolicyRule.SEPARATION):
        assert 1 <= counts[rule] <= 30
    [exempt] = northwind.policy_exemptions.running()
    assert PolicyRule.SEPARATION not in exempt.key.violations
    [entry] = AuditEntry.objects.filter(organization=northwind, action=AuditAction.POLICY_EDIT)
    assert entry.changes["admin_scopes"] == [[], ["prices:write"]]
    [entry] = AuditEntry.objects.filter(organization=northwind, action=AuditAction.POLICY_EXEMPT)
    assert entry.key_id == exempt.key_id
    assert not Policy.objects.of(Organization.objects.get(slug="halden")).full_terms().rules


def test_the_networks_of_its_keys_are_found_by_address(seeded):
    indexed = {(row.key_id, str(row)) for row in KeyNetwork.objects.all()}
    listed = {(key.pk, network) for key in ApiKey.objects.all() for network in key.networks}
    assert indexed == listed
    assert len(listed) > 100


def test_the_events_of_the_last_days_are_the_counts_of_its_hours(seeded):
    mark = UsageWatermark.current()
    first = UsageWatermark.read().raw_from
    assert first == floor_day(timezone.now()) - timedelta(days=7)
    assert mark > timezone.now() - timedelta(hours=2)
    hours = UsageHour.objects.filter(hour__gte=first, hour__lt=mark).aggregate(total=Sum("count"))["total"]
    assert hours == UsageEvent.objects.filter(at__lt=mark).count()
    assert 60_000 <= UsageEvent.objects.count() <= 150_000
    assert not UsageEvent.objects.filter(at__lt=first).exists()


def test_thirteen_months_are_told_apart_in_every_way(seeded):
    busy = seeded.get(name="Order intake", environment__code="prod", revoked_at=None)
    for span in RANGES.values():
        counted = sum(UsageHour.objects.series_between(busy, span.edges(timezone.now())).by_outcome.values())
        since = floor_day(span.edges(timezone.now())[0])
        for dimension in Dimension:
            assert UsageDay.objects.usage_of(busy, dimension, since).total >= counted > 0
    for organization in Organization.objects.filter(slug__in=HOUSES):
        since = UsageWatermark.read().recording_since
        # Edges are cut to whole minutes, and the demo may have been made in the running one.
        until = timezone.now() + timedelta(minutes=1)
        whole = OrganizationHour.objects.series_between(organization, [since, until]).total
        keys = seeded.filter(organization=organization).values_list("pk", flat=True)
        assert whole == sum(sum(one.values()) for one in UsageHour.objects.totals(list(keys), since).values())
        owners = OrganizationDay.objects.by_owner(organization, since)
        assert sum(one.accepted + one.refused for one in owners) == whole


def test_keys_are_silent_for_every_reason_that_a_recorded_time_allows(seeded):
    counts = {kind: seeded.with_silence(kind).exclude(exemption__isnull=False).count() for kind in Silence}
    assert all(counts[kind] for kind in (Silence.NEVER_USED, Silence.DORMANT, Silence.SEASONAL))
    # With 13 months of recording everything is measurable.
    assert counts[Silence.NOT_MEASURABLE] == 0
    assert set(seeded.with_silence(Silence.SEASONAL).values_list("name", flat=True)) >= {"VAT return"}
    assert seeded.exempted().count() == 2


def test_callers_are_new_and_schedules_were_kept(seeded):
    busy = seeded.get(name="Order intake", environment__code="prod", revoked_at=None)
    callers = UsageDay.objects.usage_of(busy, Dimension.CALLER, timezone.now() - timedelta(days=7))
    assert 0 < sum(one.is_new for one in callers.values) < len(callers.values)
    assert JobRun.objects.late() == []
    assert JobRun.objects.recording().state == RecordingState.WORKS


def test_its_keys_raise_the_alerts_that_somebody_wants_and_no_others(seeded):
    """Over 90 days each of 457 keys is judged every hour: one is asked too often, and one falls silent.

    The traffic is another one at each moment of the day at which it is made. One time in some ten, a busy hour of some
    key is told of as well: of a million hours that were judged.
    """
    now = timezone.now()
    told = {}
    for organization in Organization.objects.filter(slug__in=HOUSES):
        terms = AlertRuleTerms.usual(AlertKind.UNUSUAL_USAGE)
        found = preview(organization, AlertKind.UNUSUAL_USAGE, terms, now=now)
        told |= {one.key.name: one.alert.facts["shape"] for one in found.foreseen}
    wanted = {"Order webhook relay": "spike", "Loyalty points sync": "silence"}
    assert told.items() >= wanted.items()
    assert len(told) <= len(wanted) + 1


@pytest.mark.parametrize("minute", [0, 1, 6, 15, 29, 59])
def test_a_service_falls_silent_between_two_hours_whenever_the_demo_is_made(minute):
    """An hour of which a few requests are left would be told of as a drop."""
    rng = random.Random(1)  # noqa: S311 - it makes demo traffic
    clock = Clock(datetime(2026, 3, 4, 15, minute, tzinfo=UTC))
    [plan] = [one for one in northwind.plans(rng) if one.name == "Loyalty points sync"]
    traffic = make_traffic(rng, clock, plan, ApiKey(pk=1, created_at=clock.ago(plan.age)))
    hours = Counter(floor_hour(event.at) for event in traffic.events)
    last = max(hours)
    assert timedelta(days=plan.quiet_since) <= clock.now - last < timedelta(days=plan.quiet_since, hours=2)
    assert hours[last] >= 12  # 20 are usual


def test_the_inbox_holds_what_its_keys_justify(seeded):
    alerts = Alert.objects.filter(organization__slug="northwind")
    named = {kind: set(alerts.filter(kind=kind).values_list("key__name", flat=True)) for kind in AlertKind}
    assert named[AlertKind.UNUSUAL_USAGE] == {"Order webhook relay", "Loyalty points sync"}
    assert named[AlertKind.EXPIRED_USED] == {"Advent calendar app", "Summer sale microsite", "Voucher campaign"}
    assert named[AlertKind.RATE_LIMITED] == {"Delivery slot lookup"}
    assert "Storefront search" in named[AlertKind.ABUSE]
    assert {"Trade fair tablets", "Black Friday load test"} <= named[AlertKind.EXPIRY]
    unused = alerts.filter(kind=AlertKind.UNUSED).values_list("key", flat=True)
    assert set(unused) == set(seeded.filter(organization__slug="northwind").unused().values_list("pk", flat=True))
    assert not named[AlertKind.NEW_NETWORK]
    statuses = {alert.status for alert in alerts}
    assert statuses == {AlertStatus.OPEN, AlertStatus.ACKNOWLEDGED, AlertStatus.RESOLVED}
    assert not Alert.objects.filter(opened_at__gt=timezone.now()).exists()
    assert {delivery.state for delivery in Delivery.objects.all()} >= {"sent", "retrying", "waiting"}


def test_looking_for_alerts_again_raises_none(seeded):
    before = Alert.objects.count()
    evaluate(timezone.now())
    assert Alert.objects.count() == before


def test_nothing_happens_before_a_key_is_made_or_after_it_has_ended(seeded):
    now = timezone.now()
    keys = {key.pk: key for key in seeded.select_related("activity")}
    last = UsageEvent.objects.filter(outcome=Outcome.VALID).values("key_id").annotate(last=Max("at"))
    for row in last:
        key = keys[row["key_id"]]
        assert key.created_at < row["last"] <= min(filter(None, [now, key.revoked_at, key.expires_at]))
        assert key.activity.last_used_at == row["last"]
    odd = KeyActivity.objects.filter(Q(first_used_at__lt=F("key__created_at")) | Q(first_used_at__gt=F("last_used_at")))
    assert not odd.exists()
    assert not AuditEntry.objects.filter(at__gt=now).exists()


def test_every_outcome_of_a_known_key_happens(seeded):
    assert set(UsageEvent.objects.values_list("outcome", flat=True)) == set(Outcome.values) - {Outcome.MALFORMED}


def test_a_leaked_key_is_still_tried_from_elsewhere_and_has_a_successor(seeded):
    leaked = seeded.get(revoked_reason=RevocationReason.LEAKED)
    tries = UsageEvent.objects.filter(key_id=leaked.pk, outcome=Outcome.REVOKED)
    assert tries.values("address").distinct().count() >= 3
    assert leaked.replaced_by.is_usable


def test_weekends_are_quieter_and_a_retired_service_fades_out(seeded):
    days = dict(
        UsageHour.objects.annotate(day=ExtractIsoWeekDay("hour")).values_list("day").annotate(total=Sum("count"))
    )
    assert days[7] < 0.7 * days[3]
    retired = seeded.get(name="Price feed v1", revoked_at=None)
    assert retired.activity.last_used_at < timezone.now() - timedelta(days=30)
    assert UsageHour.objects.filter(key_id=retired.pk).exists()


def test_the_audit_log_tells_how_each_key_was_made_in_order(seeded):
    assert AuditEntry.objects.filter(action=AuditAction.KEY_ISSUE, key_id__in=seeded.values("pk")).count() == len(
        seeded
    )
    times = list(AuditEntry.objects.filter(organization__slug__in=HOUSES).order_by("id").values_list("at", flat=True))
    northwind = AuditEntry.objects.filter(organization__slug="northwind").order_by("id").values_list("at", flat=True)
    assert list(northwind) == sorted(northwind)
    assert len(times) > 800


def test_seeding_again_keeps_everything(seeded):
    before = seeded.count(), UsageEvent.objects.count(), AuditEntry.objects.count()
    ran = run("seed_demo")
    assert ran.status == 0
    assert ran.out.startswith("The demo data is there already")
    assert "as mara@northwind.example with northwind-demo-1" in ran.out
    assert before == (seeded.count(), UsageEvent.objects.count(), AuditEntry.objects.count())


def test_the_key_that_it_says_how_to_make_can_be_made_and_works(seeded):
    told = run("seed_demo").out.replace("\\\n", "")
    [command] = re.findall(r"issue_key (.+?)\)\n", told, re.DOTALL)
    [path] = re.findall(r"/v1/(\w+)/authorize\?scope=(\S+?)\"", told)
    with rolled_back():
        ran = run("issue_key", *shlex.split(command))
        assert ran.status == 0, ran.err
        assert verify(Presented(ran.out.strip(), *path)).outcome is Outcome.VALID


@pytest.mark.django_db
def test_it_refuses_a_database_with_requests_of_others(organization):
    make_event(make_key(organization).key)
    ran = run("seed_demo")
    assert ran.status == 1
    assert "There are requests in this database already." in ran.err
    assert not Organization.objects.filter(slug__in=HOUSES).exists()
