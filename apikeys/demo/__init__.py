"""Demo data that a person would believe. The same seed gives the same data, but for secrets and the time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from apikeys import partitions
from apikeys.audit_proof import check_chain
from apikeys.demo import halden, northwind
from apikeys.demo.alerts import seed_alerts
from apikeys.demo.cast import HALDEN, HOUSES, NORTHWIND
from apikeys.demo.history import History, make_people
from apikeys.demo.plans import Plan
from apikeys.demo.reviews import plan_reviews, store_reviews
from apikeys.demo.rotations import ROTATIONS
from apikeys.demo.traffic import Clock, make_traffic, write, write_days
from apikeys.models import (
    ApiKey,
    JobRun,
    KeyActivity,
    Organization,
    Role,
    UsageDay,
    UsageEvent,
    UsageHour,
    UsageWatermark,
)
from apikeys.models.audit_chain import link_now
from apikeys.models.counting import recount_organizations

PLANS = {NORTHWIND.slug: northwind.plans, HALDEN.slug: halden.plans}
SIGN_IN_DAYS = 60
_WRITTEN = (ApiKey, KeyActivity, UsageEvent, UsageHour, UsageDay)

type Work = list[tuple[Plan, ApiKey]]
type Progress = Callable[[Work], Iterable[tuple[Plan, ApiKey]]]


class UsageExistsError(Exception):
    """There are requests of other keys already: their counts and the demo's could not both be right."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """How much was made."""

    keys: int
    requests: int
    audit_entries: int
    alerts: int


def exists() -> bool:
    """Say whether a demo organization is there, so that nothing is to be made."""
    return Organization.objects.filter(slug__in=[house.slug for house in HOUSES]).exists()


def seed(number: int, progress: Progress = iter) -> Seeded:
    """Make everything, or nothing. Raises UsageExistsError."""
    rng = random.Random(number)  # noqa: S311 - it makes demo traffic, no secrets
    now = timezone.now()
    with transaction.atomic():
        if UsageEvent.objects.exists() or UsageHour.objects.exists():
            raise UsageExistsError
        people = make_people()
        histories = [History(house, people, rng, now) for house in HOUSES]
        work: Work = []
        reviews = []
        for history in histories:
            plans = PLANS[history.house.slug](rng)
            made = list(zip(plans, history.make_keys(plans), strict=True))
            if history.house is NORTHWIND:
                history.make_rotations(ROTATIONS, made)
                history.invite("nora@northwind.example", Role.OPERATOR, ("stag", "dev"), 2)
                history.invite("piet@northwind.example", Role.VIEWER, (), 16)
                reviews = plan_reviews(history, [key for _, key in made])
                history.set_policy(northwind.EXEMPT)
            work += made
            history.sign_ins(SIGN_IN_DAYS)
        entries = sum(history.write_audit_log() for history in histories)
        total = _requests(rng, now, progress(work))
        store_reviews(reviews)
        alerts = seed_alerts(now)
        JobRun.objects.bulk_create(_runs(now))
        # PostgreSQL gives them their places when a transaction commits.
        link_now()
        for history in histories:
            check_chain(history.organization.pk)
        return Seeded(len(work), total, entries, alerts)


def _analyze() -> None:
    """Let PostgreSQL see what has been written.

    By itself it does so a minute after a transaction ends; until then it plans as if the tables were as before.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {', '.join(model._meta.db_table for model in _WRITTEN)}")


def _runs(now: datetime) -> Iterator[JobRun]:
    """Yield the newest run of each scheduled command, as if a scheduler had been at work until now."""
    for job, minutes, done in (
        ("prune_usage", 500, "Removed the requests of 1 day."),
        ("flag_keys", 380, "Found keys that are unused, near their end or to be rotated."),
        ("roll_up_usage", 1, "Rolled up usage."),
        ("check_recording", 3, "Recording works."),
        ("evaluate_alerts", 6, "Alerts were looked for."),
        ("send_alerts", 1, "Sent what was due."),
        ("remind_reviews", 21, "No reminder was due."),
        ("verify_audit_log", 4, "The audit log is as it was written."),
        ("checkpoint_audit_log", 420, "Checkpoints: 2 made, 0 mailed, 0 not mailed."),
        ("finish_rotations", 2, "0 ended at their deadline, 0 were safe; 3 run."),
    ):
        at = now - timedelta(minutes=minutes)
        yield JobRun(job=job, started_at=at, finished_at=at + timedelta(seconds=2), done=done)


def _requests(rng: random.Random, now: datetime, work: Iterable[tuple[Plan, ApiKey]]) -> int:
    clock = Clock(now)
    partitions.make(clock.raw_from.date())
    activities: list[KeyActivity] = []
    total = 0
    for plan, key in work:
        traffic = make_traffic(rng, clock, plan, key)
        write(traffic)
        write_days(key, traffic)
        activities += [traffic.activity] if traffic.activity else []
        total += len(traffic.events) + sum(row.requests for row in traffic.hours)
    fields = ["first_used_at", "last_used_at", "last_refused_at", "last_address"]
    KeyActivity.objects.bulk_update(activities, fields, batch_size=500)
    _analyze()
    # The older hours are counted already; the newer ones are counted from their events, as in earnest.
    mark = UsageWatermark.locked()
    mark.recording_since, mark.until, mark.raw_from = clock.recording_since, clock.raw_from, clock.raw_from
    mark.save()
    recount_organizations(clock.recording_since.date(), clock.raw_from.date())
    for _ in UsageHour.objects.roll_up(now):
        pass
    return total
