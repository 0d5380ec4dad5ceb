"""evaluate_alerts: what it answers, and that each run is recorded."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import Alert, AlertKind, JobRun, RevocationReason
from tests.commands.running import run, run_process
from tests.factories import make_actor, make_key, make_old_key

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def of_keys():
    """Return the alerts about keys: those of scheduled jobs depend on what else ran in this database."""
    return Alert.objects.filter(key__isnull=False)


def test_it_says_what_changed_and_what_is_left(organization):
    key = make_old_key(organization, 100 * DAY, expires_at=timezone.now() + 400 * DAY)
    others = Alert.objects.open().count()
    assert run("evaluate_alerts").status == 0
    assert [alert.kind for alert in of_keys()] == [AlertKind.UNUSED]
    key.revoke(reason=RevocationReason.UNUSED, by=make_actor())
    ran = run("evaluate_alerts")
    assert (ran.status, ran.err) == (0, "")
    left = Alert.objects.open().count()
    assert left >= others
    assert ran.out == f"0 opened, 0 got worse or are told again, 1 ended; {left} open.\n"


def test_as_json_it_gives_the_same_numbers(organization):
    make_old_key(organization, 100 * DAY)
    make_key(organization, expires_at=timezone.now() + 5 * DAY)
    ran = run("evaluate_alerts", "--json")
    opened = Alert.objects.count()
    assert ran.json == {"opened": opened, "worse": 0, "ended": 0, "open": opened}
    # The end of the second was set by who knows that it is near.
    assert [alert.kind for alert in of_keys()] == [AlertKind.UNUSED]


def test_each_run_is_recorded(organization):
    run("evaluate_alerts")
    recorded = JobRun.objects.latest_of("evaluate_alerts")
    assert recorded.finished_at
    assert recorded.error == ""


@pytest.mark.parametrize("arguments", [("--days", "3"), ("acme",)])
def test_what_it_does_not_know_is_wrong_usage(arguments):
    ran = run_process("evaluate_alerts", *arguments)
    assert ran.status == 2
    assert arguments[0] in ran.err
