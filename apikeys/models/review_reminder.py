"""Reminders of a review: when each is due, whom it goes to, and that it goes out once.

They are mails of the outbox, as those of alerts are, written in one transaction with the note that they were sent. What
a mail tells is looked up when it is sent: who has answered by then gets none.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from django.db import models
from django.utils import timezone

from apikeys.models.delivery import Channel, Delivery
from apikeys.models.organization import Member, Role
from apikeys.models.review_item import ReviewItem, ReviewState, nobodys

if TYPE_CHECKING:
    from apikeys.models.review import Review

DAY: Final = timedelta(days=1)
# So long before the end, and again when the last day begins; afterwards every week.
SOON: Final = 3 * DAY
LAST_DAY: Final = DAY
EVERY: Final = 7 * DAY
# An admin can have everybody reminded when the last mail is so old.
ASKED_EVERY: Final = DAY
START: Final = "start"
ASKED: Final = "asked"


def due_stage(started_at: datetime, due_at: datetime, now: datetime) -> str:
    """Return the newest reminder that is due at an instant: "soon", "due", "overdue-1" and so on, else nothing.

    What would come within a day of the start says nothing new and is left out.
    """
    stages = [("soon", due_at - SOON), ("due", due_at - LAST_DAY)]
    weeks = max(0, (now - due_at) // EVERY)
    stages += [(f"overdue-{weeks}", due_at + weeks * EVERY)] if weeks else []
    passed = [name for name, at in stages if started_at + DAY <= at <= now]
    return passed[-1] if passed else ""


class ReviewReminderQuerySet(models.QuerySet["ReviewReminder"]):
    """Writing of reminders."""

    def send(self, review: Review, stage: str, *, by_label: str) -> ReviewReminder:
        """Mail everybody for whom keys wait. Call it with the review locked."""
        addresses = recipients(review)
        now = timezone.now()
        # Who has not got the one before yet needs no second one.
        Delivery.objects.bulk_create(
            [
                Delivery(
                    organization_id=review.organization_id,
                    channel=Channel.MAIL,
                    email=address,
                    review=review,
                    created_at=now,
                    due_at=now,
                )
                for address in addresses
            ],
            ignore_conflicts=True,
            batch_size=500,
        )
        made: ReviewReminder = self.create(review=review, stage=stage, at=now, by_label=by_label, mails=len(addresses))
        return made


def recipients(review: Review) -> list[str]:
    """Return the addresses of members for whom keys wait: owners, and admins where an owner cannot answer."""
    waiting = ReviewItem.objects.filter(review=review).standing(review, ReviewState.OPEN, timezone.now()).order_by()
    owners = waiting.filter(key__owner__user__is_active=True).values_list("key__owner__user__email", flat=True)
    found = set(owners.distinct())
    if waiting.filter(nobodys()).exists():
        admins = Member.objects.filter(
            organization=review.organization_id, role=Role.ADMIN, user__is_active=True
        ).order_by()
        found |= set(admins.values_list("user__email", flat=True))
    return sorted(found)


class ReviewReminder(models.Model):
    """That everybody for whom keys of a review waited was mailed."""

    review = models.ForeignKey("apikeys.Review", models.PROTECT, related_name="reminders")
    stage = models.CharField(max_length=16)
    at = models.DateTimeField()
    by_label = models.CharField(max_length=254)
    mails = models.PositiveIntegerField()

    objects: ClassVar = ReviewReminderQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["review", "stage"], condition=~models.Q(stage=ASKED), name="each_reminder_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.review_id} {self.stage} {self.at.isoformat()}"
