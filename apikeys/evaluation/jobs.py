"""Alerts about the scheduled commands that do not run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apikeys.evaluation.reconcile import Tally, end, raise_some
from apikeys.models import Alert, AlertKind, AlertRule, JobReport, JobRun, JobState, Organization, Sighting
from apikeys.models.job import LATE_AFTER


def job_sightings(now: datetime) -> list[Sighting]:
    """Return the scheduled commands that have not succeeded for longer than they may.

    One that never ran is late only when others began to run so long ago: everything was set up just now otherwise.
    One that is at work now is not, unless it has been for as long.
    """
    first = JobRun.objects.order_by("started_at").values_list("started_at", flat=True).first()
    running = {run.job: run.started_at for run in JobRun.objects.newest().values() if run.finished_at is None}
    found = []
    for report in JobRun.objects.report(now):
        border = now - LATE_AFTER[report.job]
        is_running = running.get(report.job, border) > border
        if not is_running and (report.worked_at or first or now) < border:
            found.append(Sighting(None, now, _facts(report), subject=report.job))
    return found


def _facts(report: JobReport) -> dict[str, Any]:
    newest = JobRun.objects.latest_of(report.job) if report.state == JobState.FAILED else None
    worked_at = report.worked_at.isoformat() if report.worked_at else None
    return {
        "job": report.job,
        "worked_at": worked_at,
        "limit_seconds": int(LATE_AFTER[report.job].total_seconds()),
        "error": newest.error if newest else "",
    }


def evaluate_jobs(now: datetime) -> Tally:
    """Make every organization's alerts about scheduled commands agree with how they run."""
    tally = Tally()
    sightings = job_sightings(now)
    late = [one.subject for one in sightings]
    for organization in Organization.objects.of_people():
        live = Alert.objects.filter(organization=organization, kind=AlertKind.JOB_LATE, cause_ended_at__isnull=True)
        if AlertRule.objects.one(organization, AlertKind.JOB_LATE).is_on:
            tally += raise_some(organization, AlertKind.JOB_LATE, sightings, now)
        tally.ended += end(live.exclude(subject__in=late), now, "It runs again.")
    return tally
