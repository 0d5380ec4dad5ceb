from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apikeys.models import JobRun, UsageEvent, UsageHour
from apikeys.retention import events_kept_from
from tests.commands.running import run
from tests.factories import make_event, make_key

pytestmark = pytest.mark.django_db


def test_it_removes_old_requests_and_says_so(organization):
    key = make_key(organization).key
    make_event(key, ago=timedelta(days=50))
    make_event(key, ago=timedelta(days=3))
    list(UsageHour.objects.roll_up())
    ran = run("prune_usage")
    assert ran.status == 0
    removed = "1 request" if connection.vendor == "sqlite" else "1 day of requests"
    border = events_kept_from(timezone.now()).date()
    assert ran.out == f"Removed {removed}; those from {border} (UTC) on are kept.\n"
    assert UsageEvent.objects.count() == 1
    assert JobRun.objects.latest_of("prune_usage").done == ran.out.strip()
    assert run("prune_usage").out == f"No requests are older than {border} (UTC).\n"


def test_before_the_first_roll_up_nothing_is_removed(organization):
    make_event(make_key(organization).key, ago=timedelta(days=50))
    ran = run("prune_usage", "--json")
    assert ran.json == {"events_from": None, "days": 0, "events": 0, "roll_ups": 0}
    assert UsageEvent.objects.exists()
