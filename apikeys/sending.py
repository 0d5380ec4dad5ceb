"""Sending what is due in the outbox: at least once, and so that a recipient who hangs holds up nobody else."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Final

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Max, Q
from django.utils import timezone

from apikeys import alert_mails, outgoing, review_mails
from apikeys.evaluation.reconcile import end
from apikeys.models import (
    Actor,
    Alert,
    AlertEvent,
    AlertKind,
    AlertSettings,
    Channel,
    Delivery,
    Organization,
    Sighting,
    Webhook,
)
from apikeys.models.delivery import BACKOFF, DeliveryAttempt
from apikeys.models.webhook import OFF_AFTER
from apikeys.webhook_messages import request_of

WORKERS: Final = 8
# So many at once to one webhook, and by mail: the other workers are for the others.
MOST_AT_ONCE: Final = 2
MOST_MAILS_AT_ONCE: Final = 4
# After so many failures in one run a recipient is left for the next one.
MOST_FAILURES: Final = 3
LEASE: Final = timedelta(minutes=5)
LONGEST_RUN: Final = timedelta(minutes=10)
_GONE: Final = 410

log = logging.getLogger(__name__)


@dataclass
class Sent:
    """What a run did: deliveries that were sent, that had nothing left to tell, to be retried, and given up."""

    sent: int = 0
    empty: int = 0
    retried: int = 0
    failed: int = 0


class Result:
    """How an attempt ended. Without an error it went well; ``is_final`` is one that no other attempt would mend."""

    def __init__(self, *, error: str = "", status: int | None = None, is_empty: bool = False) -> None:
        self.error, self.status, self.is_empty = error, status, is_empty
        self.retry_after: int | None = None
        self.is_final = False
        self.seconds = 0.0


def send_due() -> Sent:
    """Send everything that is due, and return what became of it. Safe to run twice at once, and to be killed."""
    return _Run().run()


def send_test(organization: Organization, *, webhook: Webhook | None = None, email: str = "") -> Result:
    """Send a test at once, while somebody waits for it, and return how that went."""
    now = timezone.now()
    return send_now(
        Delivery.objects.create(
            organization=organization,
            channel=Channel.WEBHOOK if webhook else Channel.MAIL,
            webhook=webhook,
            email=email,
            is_test=True,
            created_at=now,
            # No run is to send it too.
            claimed_until=now + LEASE,
        )
    )


def send_now(delivery: Delivery) -> Result:
    """Send one thing in this thread, and return how that went."""
    delivery.attempts += 1
    delivery.save(update_fields=["attempts"])
    result = _tried(delivery)
    settle(delivery, result)
    return result


class _Run:
    """One run: what is being sent, and who failed too often to be asked again."""

    def __init__(self) -> None:
        self.sent = Sent()
        self.at_work: dict[Future[Result], Delivery] = {}
        self.failures: Counter[int] = Counter()
        self.until = time.monotonic() + LONGEST_RUN.total_seconds()

    def run(self) -> Sent:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="send") as pool:
            while True:
                self._fill(pool)
                if not self.at_work:
                    return self.sent
                done, _ = wait(self.at_work, return_when=FIRST_COMPLETED)
                for future in done:
                    self._settle(self.at_work.pop(future), future.result())

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        while len(self.at_work) < WORKERS and time.monotonic() < self.until:
            delivery = claim(self._busy(), mails=self._mails() < MOST_MAILS_AT_ONCE)
            if delivery is None:
                return
            self.at_work[pool.submit(_attempt, delivery)] = delivery

    def _mails(self) -> int:
        return sum(one.channel == Channel.MAIL for one in self.at_work.values())

    def _busy(self) -> list[int]:
        """Return the webhooks that have enough to do, or failed too often."""
        counts = Counter(one.webhook_id for one in self.at_work.values() if one.webhook_id)
        busy = {webhook for webhook, count in counts.items() if count >= MOST_AT_ONCE}
        return [*busy, *(webhook for webhook, count in self.failures.items() if count >= MOST_FAILURES)]

    def _settle(self, delivery: Delivery, result: Result) -> None:
        state = settle(delivery, result)
        setattr(self.sent, state, getattr(self.sent, state) + 1)
        if result.error and delivery.webhook_id:
            self.failures[delivery.webhook_id] += 1


def claim(busy: list[int], *, mails: bool = True) -> Delivery | None:
    """Take the delivery that is due longest and that nobody else sends, None without one.

    It is ours for LEASE: when we die, somebody sends it again afterwards. A lease that ends much later than ours would
    was made before the clock was put back; a little later, by another machine's clock.
    """
    with transaction.atomic():
        now = timezone.now()
        free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now) | Q(claimed_until__gt=now + 2 * LEASE)
        due = Delivery.objects.open().filter(free, due_at__lte=now).exclude(webhook__in=busy)
        due = due if mails else due.filter(channel=Channel.WEBHOOK)
        delivery = due.order_by("due_at", "pk").select_for_update(skip_locked=True, of=("self",)).first()
        if delivery is None:
            return None
        delivery.claimed_until = now + LEASE
        delivery.attempts += 1
        delivery.save(update_fields=["claimed_until", "attempts"])
        is_of_alerts = delivery.channel == Channel.MAIL and not delivery.is_test and delivery.review_id is None
        if is_of_alerts and delivery.last_event is None:
            _close(delivery)
    return delivery


def _close(delivery: Delivery) -> None:
    """Have a mail tell of all that happened until now; what happens from now on is another one's."""
    AlertSettings.objects.lock(delivery.organization)
    newest = AlertEvent.objects.filter(organization=delivery.organization_id).aggregate(newest=Max("pk"))["newest"]
    delivery.last_event = newest or delivery.first_event
    delivery.save(update_fields=["last_event"])


def _attempt(delivery: Delivery) -> Result:
    """Try once, in a thread of its own with a connection of its own."""
    try:
        return _tried(delivery)
    finally:
        connections.close_all()


def _tried(delivery: Delivery) -> Result:
    started = time.monotonic()
    try:
        result = _SEND[Channel(delivery.channel)](delivery)
    except Exception as error:  # What nobody foresaw of one delivery must not keep the others from being sent.
        log.exception("Delivery %s to %s", delivery.pk, delivery.channel)
        result = Result(error=f"keyadmin itself failed ({type(error).__name__}); its log tells more.")
    result.seconds = time.monotonic() - started
    return result


def _mail(delivery: Delivery) -> Result:
    message = (review_mails if delivery.review_id else alert_mails).compose(delivery)
    if message is None:
        return Result(is_empty=True)
    try:
        message.send()
    except SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()), (0, b""))
        told = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        result = Result(error=f"The mail server refused the recipient: {code} {told}", status=code)
        result.is_final = 500 <= code < 600
        return result
    except (SMTPException, OSError) as error:
        return Result(error=f"The mail server failed: {str(error) or type(error).__name__}")
    return Result()


def _webhook(delivery: Delivery) -> Result:
    webhook = delivery.webhook
    if webhook is None or not (webhook.is_on or delivery.is_test):
        result = Result(error="The webhook is switched off.")
        result.is_final = True
        return result
    body, headers = request_of(delivery, webhook, timezone.now())
    try:
        return Result(status=outgoing.post(webhook.url, body, headers, allowed=settings.WEBHOOK_ALLOWED_NETWORKS))
    except outgoing.OutgoingError as error:
        result = Result(error=str(error), status=error.status)
        result.retry_after, result.is_final = error.retry_after, error.status == _GONE
        return result


_SEND: Final[dict[Channel, Callable[[Delivery], Result]]] = {Channel.MAIL: _mail, Channel.WEBHOOK: _webhook}


def settle(delivery: Delivery, result: Result) -> str:
    """Keep how an attempt ended, and say so: "sent", "empty", "retried" or "failed"."""
    now = timezone.now()
    delivery.claimed_until = None
    # Of a test somebody sees how it ended.
    given_up = result.is_final or delivery.is_test or delivery.attempts > len(BACKOFF)
    if not result.error:
        delivery.sent_at = now
    elif given_up:
        delivery.failed_at = now
    else:
        delivery.due_at = now + _pause(delivery.attempts, result.retry_after)
    with transaction.atomic():
        if Delivery.objects.select_for_update(of=("self",)).filter(pk=delivery.pk).exists():
            delivery.save(update_fields=["claimed_until", "sent_at", "failed_at", "due_at"])
            _keep_attempt(delivery, result)
        # Else its webhook was deleted while it was being told.
        if delivery.webhook_id and not result.is_empty and not delivery.is_test:
            _judge_webhook(delivery.webhook_id, result, now)
    if not result.error:
        return "empty" if result.is_empty else "sent"
    log.warning("Delivery %s to %s: %s", delivery.pk, delivery.channel, result.error)
    return "failed" if given_up else "retried"


def _keep_attempt(delivery: Delivery, result: Result) -> None:
    DeliveryAttempt.objects.create(
        delivery=delivery, seconds=result.seconds, status=result.status, error=result.error[:300]
    )


def _pause(attempts: int, asked: int | None) -> timedelta:
    """Return for how long to wait after a number of attempts: longer each time, and not all at once."""
    usual = BACKOFF[min(attempts, len(BACKOFF)) - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    return max(usual, min(timedelta(seconds=asked or 0), BACKOFF[-1]))


def _judge_webhook(pk: int, result: Result, now: datetime) -> None:
    """Remember since when a webhook fails, and switch one off that has failed for days or says that it is gone."""
    webhook = Webhook.objects.select_for_update(of=("self",)).select_related("organization").filter(pk=pk).first()
    if webhook is None or not webhook.is_on:
        return
    if not result.error:
        if webhook.failing_since:
            webhook.failing_since = None
            webhook.save(update_fields=["failing_since"])
        return
    if webhook.failing_since is None:
        webhook.failing_since = now
        webhook.save(update_fields=["failing_since"])
    if result.status == _GONE or now - webhook.failing_since >= OFF_AFTER:
        _switch_off(webhook, result, now)


def _switch_off(webhook: Webhook, result: Result, now: datetime) -> None:
    failing_since = webhook.failing_since or now
    webhook.switch_off(by=Actor.scheduled(), by_itself=True)
    facts = {"webhook": webhook.pk, "name": webhook.name, "host": webhook.host, "error": result.error}
    facts["failing_since"] = failing_since.isoformat()
    Alert.objects.raise_all(
        webhook.organization, AlertKind.WEBHOOK_OFF, [Sighting(None, now, facts, subject=str(webhook.pk))], now=now
    )


def end_switched_on(now: datetime) -> int:
    """End the alerts about webhooks that are on again or gone; return how many were open."""
    ended = 0
    off = [str(pk) for pk in Webhook.objects.filter(disabled_at__isnull=False).values_list("pk", flat=True)]
    live = Alert.objects.filter(kind=AlertKind.WEBHOOK_OFF, cause_ended_at__isnull=True).exclude(subject__in=off)
    for pk in list(live.order_by().values_list("organization", flat=True).distinct()):
        ended += end(live.filter(organization=pk), now, "It is switched on again, or was deleted.")
    return ended


def prune(now: datetime, *, batch: int = 1000) -> int:
    """Delete what was sent or given up before the retention; return how many."""
    border = now - timedelta(days=settings.DELIVERY_RETENTION_DAYS)
    old = Delivery.objects.filter(Q(sent_at__lt=border) | Q(failed_at__lt=border))
    count = 0
    while some := list(old.values_list("pk", flat=True)[:batch]):
        Delivery.objects.filter(pk__in=some).delete()
        count += len(some)
    return count
