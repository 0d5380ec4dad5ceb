"""Sending what is due: nothing lost, nothing twice without need, and nobody held up by another."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from apikeys.models import (
    Alert,
    AlertKind,
    AuditAction,
    Channel,
    Delivery,
    DeliveryState,
    Role,
    Webhook,
)
from apikeys.models.delivery import BACKOFF
from apikeys.sending import LEASE, MOST_FAILURES, Sent, claim, end_switched_on, prune, send_due, send_now, send_test
from tests.commands.running import ROOT, database_url, run_process
from tests.factories import make_actor, make_alert, make_delivery, make_key, make_member, make_webhook
from tests.mailbox import mail_server
from tests.pages import entries
from tests.receiver import hang, receiver
from tests.serving import wait_until
from tests.threads import run_together

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def organization(outbox):
    return outbox


@pytest.fixture
def mailbox(settings):
    with mail_server() as made:
        settings.MAILERS = made.mailers
        yield made


def due(delivery):
    """Have something be due now that is to be tried again later."""
    Delivery.objects.filter(pk=delivery.pk).update(due_at=timezone.now())


def mail_to(organization, **state):
    return make_delivery(organization, **state).email


def test_whatever_is_due_is_sent_and_each_attempt_is_kept(organization, mailbox):
    make_member(organization, Role.OPERATOR)
    with receiver() as one, receiver() as other:
        for here in (one, other):
            make_webhook(organization, url=here.url)
        make_alert(organization)
        later = make_delivery(organization, due_at=timezone.now() + DAY)
        Delivery.objects.filter(email="team@example.com").delete()
        # The founder and the operator; abuse does not wait.
        assert send_due() == Sent(sent=4)
        assert send_due() == Sent()
        assert len(one.got) == len(other.got) == 1
    assert len(mailbox.mails) == 2
    sent = Delivery.objects.exclude(pk=later.pk)
    assert {(delivery.state, delivery.attempts, delivery.log.get().error) for delivery in sent} == {("sent", 1, "")}
    later.refresh_from_db()
    assert (later.state, later.attempts) == ("waiting", 0)


def test_runs_at_the_same_moment_send_nothing_twice(organization, mailbox):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url)
        ids = [f"msg_{make_delivery(organization, webhook).pk.hex}" for _ in range(30)]
        emails = [mail_to(organization) for _ in range(10)]
        results = run_together(send_due, send_due, send_due)
        assert sum(result.sent for result in results) == 40, results
        assert Counter(here.ids) == Counter(ids)
    assert Counter(mail["To"] for mail in mailbox.mails) == Counter(emails)


def test_who_hangs_holds_up_nobody(organization, mailbox):
    """The others have all been told while those who hang still do."""
    with receiver() as slow, receiver() as quick:
        slow.behave = hang
        webhooks = [make_webhook(organization, url=here.url) for here in (slow, quick)]
        mailbox.hanging.add(mail_to(organization))
        for webhook in webhooks * 12:
            make_delivery(organization, webhook)
        emails = {mail_to(organization) for _ in range(6)}
        run = threading.Thread(target=send_due)
        run.start()
        wait_until(lambda: len(quick.got) == 12 and {mail["To"] for mail in mailbox.mails} == emails, 20)
        assert 1 <= len(slow.got) <= 2
        slow.released.set()
        run.join(30)
        assert len(slow.got) == 12


def test_who_fails_is_left_for_the_next_run(organization, mailbox):
    with receiver() as here, receiver() as well:
        here.status = 500
        for one in (here, well):
            webhook = make_webhook(organization, url=one.url)
            for _ in range(10):
                make_delivery(organization, webhook, is_test=False, event=None)
        sent = send_due()
        assert sent.sent == len(well.got) == 10
        # Those that were on their way when it had failed often enough.
        assert MOST_FAILURES <= len(here.got) == sent.retried <= MOST_FAILURES + 1


def test_one_recipient_is_refused_and_the_others_get_their_mail(organization, mailbox):
    never, later, fine = (make_member(organization, Role.OPERATOR).user.email for _ in range(3))
    mailbox.refused = {never: "550 No such person", later: "450 Too many mails"}
    make_alert(organization)
    Delivery.objects.exclude(email__in=[never, later, fine]).delete()
    assert send_due() == Sent(sent=1, retried=1, failed=1)
    assert [mail["To"] for mail in mailbox.mails] == [fine]
    of_never, of_later = (Delivery.objects.get(email=email) for email in (never, later))
    assert (of_never.state, of_later.state) == (DeliveryState.FAILED, DeliveryState.RETRYING)
    assert of_never.log.get().error == "The mail server refused the recipient: 550 No such person"
    mailbox.refused.clear()
    due(of_later)
    assert send_due() == Sent(sent=1)


def test_the_waits_grow_and_then_it_is_given_up(organization):
    with receiver() as here:
        here.status = 503
        webhook = make_webhook(organization, url=here.url)
        delivery = make_delivery(organization, webhook, is_test=False)
        for wait in BACKOFF:
            before = timezone.now()
            assert send_due() == Sent(retried=1)
            assert send_due() == Sent()
            delivery.refresh_from_db()
            assert 0.8 * wait <= delivery.due_at - before <= 1.2 * wait + 5 * SECOND
            due(delivery)
        assert send_due() == Sent(failed=1)
        assert len(here.ids) == len(BACKOFF) + 1
        assert set(here.ids) == {f"msg_{delivery.pk.hex}"}
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED
    assert [attempt.error for attempt in delivery.log.all()] == ["It answered 503."] * (len(BACKOFF) + 1)


def test_waits_differ_so_that_not_all_come_back_at_once(organization):
    with receiver() as here:
        here.status = 503
        for _ in range(3):
            make_delivery(organization, make_webhook(organization, url=here.url), is_test=False)
        send_due()
        Delivery.objects.update(due_at=timezone.now())
        before = timezone.now()
        send_due()
    waits = {round((one - before).total_seconds()) for one in Delivery.objects.values_list("due_at", flat=True)}
    assert len(waits) > 1


@pytest.mark.parametrize(("asked", "least", "most"), [(3600, 3600, 3660), (10**7, 86400, 86460), (-1, 4, 12)])
def test_a_receiver_may_ask_for_a_longer_wait_of_a_day_at_most(organization, asked, least, most):
    with receiver() as here:
        here.status, here.headers = 429, {"Retry-After": str(asked)}
        delivery = make_delivery(organization, make_webhook(organization, url=here.url), is_test=False)
        before = timezone.now()
        send_due()
    delivery.refresh_from_db()
    assert least <= (delivery.due_at - before).total_seconds() <= most


def test_what_nobody_foresaw_of_one_holds_up_nobody(organization, mailbox):
    """A pepper that secrets were derived from, and that is no longer in the settings."""
    with receiver() as here:
        broken, fine = (make_webhook(organization, url=here.url) for _ in range(2))
        Webhook.objects.filter(pk=broken.pk).update(pepper_number=99)
        failed, _ = (make_delivery(organization, webhook, is_test=False) for webhook in (broken, fine))
        email = mail_to(organization)
        assert send_due() == Sent(sent=2, retried=1)
        assert len(here.got) == 1
    assert [mail["To"] for mail in mailbox.mails] == [email]
    assert failed.log.get().error == "keyadmin itself failed (KeyError); its log tells more."


def test_a_webhook_that_is_deleted_while_it_is_told_is_forgotten(organization, mailbox):
    with receiver() as here:
        here.behave = hang
        webhook = make_webhook(organization, url=here.url)
        make_delivery(organization, webhook, is_test=False)
        email = mail_to(organization)
        run = threading.Thread(target=lambda: result.append(send_due()))
        result: list[Sent] = []
        run.start()
        wait_until(lambda: len(here.got) == 1)
        webhook.remove(by=make_actor())
        here.released.set()
        run.join(30)
    assert result == [Sent(sent=2)]
    assert [delivery.email for delivery in Delivery.objects.all()] == [email]


def test_a_killed_run_loses_nothing_and_what_is_sent_again_has_its_id(organization):
    """Killed while a receiver has the request and has not answered: nobody can know whether it took it."""
    with receiver() as slow, receiver() as quick:
        slow.behave = hang
        for here in (slow, quick):
            webhook = make_webhook(organization, url=here.url)
            for _ in range(5):
                make_delivery(organization, webhook, is_test=False)
        process = subprocess.Popen(
            [sys.executable, "manage.py", "send_alerts"],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": database_url()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: len(slow.got) == 2 and Delivery.objects.filter(sent_at__isnull=False).count() == 5, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        slow.behave = None
        slow.released.set()
        # What the dead one had taken is not taken from it before its time is over.
        assert run_process("send_alerts", "--json").json["sent"] == 3
        Delivery.objects.filter(sent_at__isnull=True).update(claimed_until=timezone.now())
        assert run_process("send_alerts", "--json").json["sent"] == 2
        assert run_process("send_alerts", "--json").json["sent"] == 0
    counts = Counter(slow.ids)
    assert sorted(counts.values()) == [1, 1, 1, 2, 2]
    assert sorted(Counter(quick.ids).values()) == [1] * 5
    assert set(counts) | set(quick.ids) == {f"msg_{pk.hex}" for pk in Delivery.objects.values_list("pk", flat=True)}
    assert Delivery.objects.filter(sent_at__isnull=False).count() == 10
    assert sorted(Delivery.objects.values_list("attempts", flat=True)) == [1] * 8 + [2] * 2


def test_what_another_has_taken_is_left_to_it_for_a_while(organization):
    delivery = make_delivery(organization)
    for claimed, is_free in [(LEASE / 2, False), (LEASE + SECOND, False), (-SECOND, True), (2 * DAY, True)]:
        # The second was taken by a clock ahead of ours, the last by one that has been put back since.
        Delivery.objects.update(claimed_until=timezone.now() + claimed)
        assert (claim([]) == delivery) == is_free


def test_who_waits_longest_is_first_and_who_is_busy_is_left_out(organization):
    webhook = make_webhook(organization)
    told, mailed, last = (
        make_delivery(organization, whom, due_at=timezone.now() - minutes * 60 * SECOND)
        for whom, minutes in [(webhook, 3), (None, 2), (None, 1)]
    )
    assert claim([webhook.pk]) == mailed
    assert claim([], mails=False) == told
    assert claim([webhook.pk]) == last
    assert claim([]) is None


def test_what_happens_after_a_mail_was_begun_is_told_in_the_next(organization, mailbox):
    key = make_key(organization, owner=organization.members.get()).key
    first = make_alert(organization, AlertKind.EXPIRY, key, level=60)
    Delivery.objects.update(due_at=timezone.now())
    taken = claim([])
    second = make_alert(organization, AlertKind.ROTATION_DUE, key)
    assert Delivery.objects.filter(channel=Channel.MAIL).count() == 2
    taken.attempts -= 1
    send_now(taken)
    Delivery.objects.update(due_at=timezone.now())
    assert send_due() == Sent(sent=1)
    texts = [mail.get_body(("plain",)).get_content() for mail in mailbox.mails]
    assert [(first.code in text, second.code in text) for text in texts] == [(True, False), (False, True)]


def test_a_webhook_that_is_gone_is_switched_off_and_says_so(organization, mailbox):
    with receiver() as here:
        here.status = 410
        webhook = make_webhook(organization, url=here.url)
        make_delivery(organization, webhook, is_test=False)
        # What it was to be told, and the mail that tells of it.
        assert send_due() == Sent(failed=1, sent=1)
    webhook.refresh_from_db()
    assert not webhook.is_on
    assert webhook.disabled_by_label == ""
    alert = Alert.objects.get(organization=organization, kind=AlertKind.WEBHOOK_OFF)
    assert (alert.subject, alert.facts["error"]) == (str(webhook.pk), "It answered 410.")
    [entry] = entries(organization, AuditAction.WEBHOOK_EDIT)
    assert entry.changes == {"is_on": [True, False]}
    [mail] = mailbox.mails
    assert alert.code in mail.get_body(("plain",)).get_content()


def test_one_that_fails_for_five_days_is_switched_off_unless_it_worked_in_between(organization):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url)
        for days, status, is_on in [
            (0, 500, True),
            (4.9, 500, True),
            (4.9, 200, True),
            (5.1, 500, True),
            (5, 500, False),
        ]:
            Webhook.objects.filter(failing_since__isnull=False).update(
                failing_since=timezone.now() - timedelta(days=days)
            )
            here.status = status
            send_now(make_delivery(organization, webhook, is_test=False))
            webhook.refresh_from_db()
            assert webhook.is_on == is_on, (days, status)
            assert bool(webhook.failing_since) == (status == 500)
    # Nothing waits for it for ever.
    make_delivery(organization, webhook, is_test=False)
    assert send_due().failed == 1


def test_the_alert_ends_when_the_webhook_is_on_again_or_deleted(organization):
    alerts = []
    with receiver() as here:
        here.status = 410
        for _ in range(3):
            webhook = make_webhook(organization, url=here.url)
            send_now(make_delivery(organization, webhook, is_test=False))
            alerts.append(Alert.objects.get(kind=AlertKind.WEBHOOK_OFF, subject=str(webhook.pk)))
    on, deleted, off = organization.webhooks.order_by("pk")
    on.switch_on(by=make_actor())
    deleted.remove(by=make_actor())
    end_switched_on(timezone.now())
    for alert in alerts:
        alert.refresh_from_db()
    assert [alert.status for alert in alerts] == ["resolved", "resolved", "open"]
    assert not off.is_on


def test_a_test_is_sent_by_whoever_asked_for_it_alone(organization):
    with receiver() as here:
        here.behave = hang
        webhook = make_webhook(organization, url=here.url)
        asked = threading.Thread(target=lambda: send_test(organization, webhook=webhook))
        asked.start()
        wait_until(lambda: len(here.got) == 1)
        assert send_due() == Sent()
        here.released.set()
        asked.join(30)
        assert len(here.got) == 1


def test_what_is_older_than_its_retention_is_deleted_in_batches(organization, settings):
    settings.DELIVERY_RETENTION_DAYS = 30
    now = timezone.now()
    for days in (29, 31, 32, 33):
        make_delivery(organization, sent_at=now - days * DAY)
    make_delivery(organization, failed_at=now - 31 * DAY)
    waiting = make_delivery(organization, created_at=now - 31 * DAY, due_at=now + DAY)
    assert prune(now, batch=2) == 4
    assert prune(now, batch=2) == 0
    assert Delivery.objects.count() == 2
    assert Delivery.objects.filter(pk=waiting.pk).exists()
