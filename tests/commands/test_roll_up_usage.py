from datetime import timedelta

import pytest
from django.db.models import Sum

from apikeys.models import Outcome, UsageHour
from tests.commands.running import run
from tests.factories import make_event, make_key

pytestmark = pytest.mark.django_db


def test_it_counts_complete_hours_and_says_so(organization):
    key = make_key(organization).key
    for hours in (3, 3, 30):
        make_event(key, ago=timedelta(hours=hours))
    make_event(key, ago=timedelta(hours=30), outcome=Outcome.REVOKED)
    ran = run("roll_up_usage")
    assert ran.status == 0
    assert ran.out.startswith("Rolled up 2 hours with requests; complete until ")
    assert UsageHour.objects.filter(key_id=key.pk).aggregate(total=Sum("count"))["total"] == 4


def test_running_it_again_changes_nothing(organization):
    key = make_key(organization).key
    make_event(key, ago=timedelta(hours=3))
    first = run("roll_up_usage", "--json")
    again = run("roll_up_usage", "--json")
    assert first.json["hours"] == 1
    assert again.json == {"hours": 0, "partitions": 0, "rolled_up_until": first.json["rolled_up_until"]}
    assert UsageHour.objects.get(key_id=key.pk).count == 1


def test_nothing_to_count_is_fine():
    ran = run("roll_up_usage")
    assert ran.status == 0
    assert ran.out.startswith("Rolled up 0 hours")


def test_no_progress_bar_where_nobody_looks(organization):
    make_event(make_key(organization).key, ago=timedelta(hours=3))
    assert run("roll_up_usage").err == ""
