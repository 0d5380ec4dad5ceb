"""send_alerts: what it answers, and what else it sees to."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import Alert, AlertKind, Delivery, JobRun
from tests.commands.running import run, run_process
from tests.factories import make_actor, make_alert, make_delivery, make_webhook
from tests.mailbox import mail_server
from tests.receiver import receiver

DAY = timedelta(days=1)


@pytest.fixture
def organization(outbox, settings):
    with mail_server() as mailbox:
        settings.MAILERS = mailbox.mailers
        yield outbox


def test_it_says_what_became_of_everything(organization):
    with receiver() as fine, receiver() as failing:
        failing.status = 500
        for here, is_test in [(fine, False), (failing, False), (failing, True)]:
            make_delivery(organization, make_webhook(organization, url=here.url), is_test=is_test)
        make_delivery(organization, sent_at=timezone.now() - 1000 * DAY)
        ran = run("send_alerts", "--json")
        assert (ran.status, ran.json) == (0, {"sent": 1, "empty": 0, "retried": 1, "failed": 1, "pruned": 1})
        ran = run("send_alerts")
    assert ran.out == "0 sent, 0 had nothing left to tell, 0 are to be retried, 0 were given up.\n"
    assert not JobRun.objects.latest_of("send_alerts").error


def test_it_works_in_a_process_of_its_own(organization):
    with receiver() as here:
        make_delivery(organization, make_webhook(organization, url=here.url))
        ran = run_process("send_alerts", "--json")
        assert (ran.status, ran.json["sent"], len(here.got)) == (0, 1, 1)


def test_it_ends_the_alert_of_a_webhook_that_is_on_again(organization):
    webhook = make_webhook(organization)
    webhook.switch_off(by=make_actor(), by_itself=True)
    alert = make_alert(organization, AlertKind.WEBHOOK_OFF, subject=str(webhook.pk))
    Delivery.objects.all().delete()
    run("send_alerts")
    assert Alert.objects.get(pk=alert.pk).status == "open"
    webhook.switch_on(by=make_actor())
    run("send_alerts")
    assert Alert.objects.get(pk=alert.pk).status == "resolved"


def test_it_tells_of_evaluate_alerts_itself_when_that_does_not_run(organization):
    """Who else would: an evaluation that does not run raises nothing."""
    organization.alert_rules.update(is_on=True)
    JobRun.objects.filter(job="evaluate_alerts").delete()
    JobRun.objects.create(
        job="evaluate_alerts", started_at=timezone.now() - 2 * DAY, finished_at=timezone.now() - 2 * DAY
    )
    run("send_alerts")
    late = Alert.objects.filter(organization=organization, kind=AlertKind.JOB_LATE, cause_ended_at__isnull=True)
    assert "evaluate_alerts" in set(late.values_list("subject", flat=True))


def test_what_it_does_not_know_is_wrong_usage():
    assert run_process("send_alerts", "--now").status == 2
