"""One look at everything that may justify an alert."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from apikeys.evaluation.jobs import evaluate_jobs
from apikeys.evaluation.networks import evaluate_networks
from apikeys.evaluation.reconcile import Tally, end_calm
from apikeys.evaluation.refusals import evaluate_refusals
from apikeys.evaluation.states import evaluate_states
from apikeys.evaluation.unusual import evaluate_unusual
from apikeys.models import JobRun, Organization
from apikeys.models.usage import DAY

COMMAND: Final = "evaluate_alerts"
# After a longer pause, what happened before is not told any more.
_MOST_LOOKED_BACK: Final = 7 * DAY


def evaluate(now: datetime) -> Tally:
    """Make the alerts of all organizations agree with what is seen at an instant. Twice, or twice at once, is once."""
    tally = Tally()
    for organization in Organization.objects.of_people():
        tally += evaluate_states(organization, now)
    since = _looked_until(now)
    tally += evaluate_refusals(since, now)
    tally += evaluate_networks(since, now)
    tally += evaluate_unusual(now)
    tally += evaluate_jobs(now)
    tally += end_calm(now)
    return tally


def _looked_until(now: datetime) -> datetime:
    """Return from when on what happened is looked at: a day at least, and all since the last run that succeeded."""
    worked = JobRun.objects.filter(job=COMMAND, finished_at__isnull=False, error="", started_at__lt=now)
    last = worked.order_by("-started_at").values_list("started_at", flat=True).first()
    # What came late belongs to an hour that was looked at before.
    return max(min(last or now, now) - DAY, now - _MOST_LOOKED_BACK) - timedelta(hours=1)
