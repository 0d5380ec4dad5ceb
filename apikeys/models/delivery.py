"""The outbox: what is to be told to whom, written in the transaction of the alert that it tells of.

A mail is one delivery a recipient, not an alert: it waits, is joined by what happens until it is sent, and tells of
every event from its first to its last. A webhook is told of each event by a delivery of its own. A delivery's id stays
the same in all its attempts, so that a receiver may know what it was told before.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from django.db import models, transaction
from django.utils import timezone

from apikeys.models.alert_kind import AlertKind
from apikeys.models.alert_rule import AlertRule, AlertSettings
from apikeys.models.audit import Actor, AuditAction, AuditEntry
from apikeys.models.audit_chain import AuditCheckpoint
from apikeys.models.organization import AlertMail, Organization
from apikeys.models.webhook import Webhook

if TYPE_CHECKING:
    from apikeys.models.alert import AlertEvent

# The waits between attempts, as Standard Webhooks recommends them; each is drawn out or cut by up to a fifth.
BACKOFF: Final = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
)


class Channel(models.TextChoices):
    """How something is told."""

    MAIL = "mail", "mail"
    WEBHOOK = "webhook", "webhook"


class DeliveryState(models.TextChoices):
    """What became of a delivery."""

    WAITING = "waiting", "waiting"
    RETRYING = "retrying", "being retried"
    SENT = "sent", "sent"
    FAILED = "failed", "failed"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Writing of the outbox."""

    def open(self) -> models.QuerySet[Delivery]:
        """Return what is neither sent nor given up."""
        return self.filter(sent_at__isnull=True, failed_at__isnull=True)

    def enqueue(
        self, events: Sequence[AlertEvent], settings: AlertSettings, rules: Mapping[AlertKind, AlertRule]
    ) -> None:
        """Have everybody told of events of one organization who is to be told of them.

        Call it in the transaction that recorded the events, with the organization's settings locked.
        """
        self._enqueue_mails([event for event in events if event.is_mailed], settings, rules)
        self._enqueue_webhooks(events, settings.organization)

    def enqueue_checkpoint(self, checkpoint: AuditCheckpoint) -> int:
        """Have the webhooks that want it told of a checkpoint; return how many. In the transaction that made it."""
        webhooks = Webhook.objects.on().filter(organization=checkpoint.number)
        made = [
            self.model(organization_id=one.organization_id, channel=Channel.WEBHOOK, webhook=one, checkpoint=checkpoint)
            for one in webhooks
            if one.wants_checkpoints
        ]
        return len(self.bulk_create(made))

    def _enqueue_mails(
        self, events: Iterable[AlertEvent], settings: AlertSettings, rules: Mapping[AlertKind, AlertRule]
    ) -> None:
        first: dict[tuple[str, bool], int] = {}
        by_kind: dict[tuple[AlertKind, bool], list[AlertEvent]] = defaultdict(list)
        for event in events:
            by_kind[AlertKind(event.alert.kind), event.is_urgent].append(event)
        for (kind, is_urgent), some in by_kind.items():
            told = min(event.pk for event in some)
            for member in rules[kind].members():
                if AlertMail(member.alert_mail).wants(urgent=is_urgent):
                    first[member.user.email, is_urgent] = min(told, first.get((member.user.email, is_urgent), told))
            for event in some if rules[kind].to_owner else []:
                if email := event.alert.owner_email(urgent=is_urgent):
                    first[email, is_urgent] = min(event.pk, first.get((email, is_urgent), event.pk))
        now = timezone.now()
        digest = settings.next_digest(now)
        self.bulk_create(
            [
                self.model(
                    organization_id=settings.organization_id,
                    channel=Channel.MAIL,
                    email=email,
                    is_urgent=is_urgent,
                    first_event=event,
                    due_at=now if is_urgent else digest,
                )
                for (email, is_urgent), event in first.items()
            ],
            ignore_conflicts=True,
            batch_size=500,
        )

    def _enqueue_webhooks(self, events: Sequence[AlertEvent], organization: Organization) -> None:
        webhooks: list[Webhook] = list(organization.webhooks.on()) if events else []
        self.bulk_create(
            [
                self.model(organization=organization, channel=Channel.WEBHOOK, webhook=webhook, event=event)
                for webhook in webhooks
                for event in events
                if webhook.wants(AlertKind(event.alert.kind))
            ],
            batch_size=500,
        )


class Delivery(models.Model):
    """Something to be told to one recipient, or told."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="deliveries")
    channel = models.CharField(max_length=16, choices=Channel.choices)
    is_test = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=timezone.now)

    # Of a mail: to whom, and the numbers of the first and last event that it tells of; the last is set as it is sent.
    email = models.EmailField(max_length=254, blank=True)
    is_urgent = models.BooleanField(default=False)
    first_event = models.BigIntegerField(null=True)
    last_event = models.BigIntegerField(null=True)

    # Of a mail that tells which keys of a review wait for an answer: that review.
    review = models.ForeignKey("apikeys.Review", models.PROTECT, null=True, related_name="deliveries")

    # Of a webhook: which, and the event; a test has none.
    webhook = models.ForeignKey(Webhook, models.CASCADE, null=True, related_name="deliveries")
    event = models.ForeignKey("apikeys.AlertEvent", models.CASCADE, null=True, related_name="deliveries")

    # Of a webhook, in place of an event: the checkpoint of the audit log.
    checkpoint = models.ForeignKey(AuditCheckpoint, models.CASCADE, null=True, related_name="deliveries")

    attempts = models.PositiveSmallIntegerField(default=0)
    # Whoever sends it has it until then; afterwards it is taken for dead.
    claimed_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)

    objects: ClassVar = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email", "is_urgent"],
                condition=models.Q(channel="mail", is_test=False, last_event__isnull=True, review__isnull=True),
                name="one_waiting_mail",
            ),
            models.UniqueConstraint(
                fields=["review", "email"],
                condition=models.Q(sent_at__isnull=True, failed_at__isnull=True),
                name="one_waiting_reminder",
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], condition=models.Q(sent_at__isnull=True, failed_at__isnull=True), name="delivery_due"
            ),
            models.Index(fields=["organization", "-created_at"], name="delivery_newest"),
        ]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"{self.pk} by {self.channel} to {self.recipient}"

    @property
    def recipient(self) -> str:
        """Who is told: an address, or a webhook's name."""
        return self.webhook.name if self.webhook else self.email

    @property
    def state(self) -> DeliveryState:
        """What became of it."""
        if self.sent_at:
            return DeliveryState.SENT
        if self.failed_at:
            return DeliveryState.FAILED
        return DeliveryState.RETRYING if self.attempts else DeliveryState.WAITING

    def resend(self, *, by: Actor) -> bool:
        """Have it sent again, with the same id and of the same events; False when it waits to be sent anyway."""
        with transaction.atomic():
            current = Delivery.objects.select_for_update(of=("self",)).get(pk=self.pk)
            waiting = Delivery.objects.open().filter(review=current.review_id, email=current.email)
            if current.state in {DeliveryState.WAITING, DeliveryState.RETRYING} or (
                current.review_id and waiting.exists()
            ):
                return False
            current.due_at, current.attempts = timezone.now(), 0
            current.sent_at = current.failed_at = current.claimed_until = None
            current.save(update_fields=["due_at", "attempts", "sent_at", "failed_at", "claimed_until"])
            AuditEntry.objects.record(
                AuditAction.DELIVERY_RESEND, by=by, organization=self.organization, target=self.recipient
            )
        return True


class DeliveryAttempt(models.Model):
    """One attempt to tell: how long it took, and how it ended. Without an error it went well."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="log")
    at = models.DateTimeField(default=timezone.now)
    seconds = models.FloatField()
    # The receiver's HTTP status, where it gave one.
    status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.at.isoformat()} {self.error or 'sent'}"
