"""Reviews: an organization asks, of each of some keys, whether it is still needed; owners and admins answer.

Nothing is revoked by a review. What nobody confirmed is offered for revocation, and a closed review never changes: the
database itself refuses it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Final, NamedTuple

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, Target, difference
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.models.organization import Member, Organization
from apikeys.models.review_item import (
    ANSWERS,
    Decision,
    ReviewItem,
    is_stale,
)
from apikeys.models.review_progress import ReviewProgress
from apikeys.models.review_reminder import ASKED, ASKED_EVERY, START, ReviewReminder, due_stage
from apikeys.models.text import validate_line, validate_text

LONGEST: Final = timedelta(days=366)
MOST_AT_ONCE: Final = 500


class ReviewRunningError(Exception):
    """The organization has an open review already."""

    def __init__(self, review: Review) -> None:
        super().__init__(f"Review {review.pk} runs.")
        self.review = review


class ReviewClosedError(Exception):
    """The review is closed, and stays as it was."""


class NotTheirsError(Exception):
    """A member may answer for their own keys alone, unless they are an admin."""


class RemindedError(Exception):
    """Everybody was reminded a short while ago."""

    def __init__(self, again_at: datetime) -> None:
        super().__init__(f"Again at {again_at.isoformat()}.")
        self.again_at = again_at


class ReviewTerms(NamedTuple):
    """What a review is called, until when it is to be done, and a word to those who are asked; ``keys`` says which."""

    title: str
    due_at: datetime
    note: str = ""
    keys: str = "all usable keys"


class Answer(NamedTuple):
    """What is said of some keys."""

    decision: Decision
    note: str = ""


@dataclass(slots=True)
class Answered:
    """What became of an answer to several items: what was written, and what was left out, with the reason."""

    written: list[ReviewItem] = field(default_factory=list)
    stale: list[ReviewItem] = field(default_factory=list)
    ended: list[ReviewItem] = field(default_factory=list)
    same: list[ReviewItem] = field(default_factory=list)


class ReviewQuerySet(models.QuerySet["Review"]):
    """Starting and finding of reviews."""

    def open(self) -> ReviewQuerySet:
        """Return those that are not closed."""
        return self.filter(closed_at__isnull=True)

    def start(self, organization: Organization, terms: ReviewTerms, keys: ApiKeyQuerySet, *, by: Actor) -> Review:
        """Ask of each of some keys of an organization that can be used, and mail their owners.

        Raises ValidationError naming the field, ReviewRunningError.
        """
        now = timezone.now()
        review: Review = self.model(
            organization=organization,
            title=terms.title.strip(),
            due_at=terms.due_at,
            note=terms.note.strip(),
            keys=terms.keys[:500],
            started_at=now,
            started_by=by.user,
            started_by_label=by.label,
        )
        review.check_terms()
        with transaction.atomic():
            Organization.objects.lock(organization.pk)
            if running := self.open().filter(organization=organization).first():
                raise ReviewRunningError(running)
            review.save(force_insert=True)
            count = ReviewItem.objects.begin(review, keys.filter(organization=organization).usable(now), now)
            if not count:
                raise ValidationError({"keys": ["No key that can be used matches. Choose others."]})
            reminder = ReviewReminder.objects.send(review, START, by_label=by.label)
            told = difference({}, {"keys": count, "which": review.keys, "due": review.due_at, "mailed": reminder.mails})
            review.record(AuditAction.REVIEW_START, by, told, reason=review.note)
        return review


class Review(models.Model):
    """That an organization asks of some keys whether they are still needed. It has one open review at most."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="reviews")
    title = models.CharField(max_length=100, validators=[validate_line])
    note = models.CharField(max_length=500, blank=True, validators=[validate_text])
    # Which keys were chosen, in words.
    keys = models.CharField(max_length=500)
    due_at = models.DateTimeField()
    started_at = models.DateTimeField()
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    started_by_label = models.CharField(max_length=254)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    closed_by_label = models.CharField(max_length=254, blank=True)
    # How its keys stood when it was closed: the fields of ReviewProgress.
    result = models.JSONField(default=dict)

    objects: ClassVar = ReviewQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=models.Q(closed_at__isnull=True),
                name="one_open_review",
            )
        ]
        indexes = [models.Index(fields=["organization", "-id"], name="review_newest")]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """Return the address of the review's page."""
        return reverse("review_detail", args=[self.organization.slug, self.pk])

    def check_terms(self) -> None:
        """Raise ValidationError naming each field that is wrong."""
        faults: dict[str, list[str]] = {}
        if self.due_at <= self.started_at:
            faults["due_at"] = ["The last day must be today or later."]
        elif self.due_at > self.started_at + LONGEST:
            faults["due_at"] = ["The last day must be within a year."]
        for name in ("title", "note"):
            try:
                Review._meta.get_field(name).clean(getattr(self, name), self)  # type: ignore[union-attr]
            except ValidationError as error:
                faults[name] = error.messages
        if faults:
            raise ValidationError(faults)

    @property
    def is_open(self) -> bool:
        """Whether it is not closed."""
        return self.closed_at is None

    @property
    def is_overdue(self) -> bool:
        """Whether it is open, and its last day is over."""
        return self.is_open and self.due_at <= timezone.now()

    @property
    def progress(self) -> ReviewProgress:
        """How far it is, or was when it was closed."""
        if self.closed_at:
            return ReviewProgress(**self.result)
        found: ReviewProgress = self.items.all().progress(self, timezone.now())
        return found

    # What may be done to it

    def answer(
        self, items: Collection[int], answer: Answer, *, by: Actor, member: Member, seen: datetime | None
    ) -> Answered:
        """Say of some of its items, by id, whether their keys are still needed.

        What was answered since ``seen`` is left out, None having seen no answer, and keys that have ended. Raises
        NotTheirsError when an item is not the member's to answer, ValidationError naming ``note`` or ``decision``,
        ReviewClosedError.
        """
        note = _checked(answer)
        with transaction.atomic():
            current = self._lock()
            found = ReviewItem.objects.select_for_update(of=("self",)).filter(review=self.pk, pk__in=items)
            done = Answered()
            for item in found.for_pages().order_by("pk"):
                item.review = current
                if not item.may_be_answered_by(member):
                    raise NotTheirsError
                self._sort(item, Answer(answer.decision, note), done, by=by, seen=seen)
            if done.written:
                self._write(done.written, answer.decision, note, by=by)
        return done

    @staticmethod
    def _sort(item: ReviewItem, answer: Answer, done: Answered, *, by: Actor, seen: datetime | None) -> None:
        is_same = (item.decision, item.note, item.decided_by) == (answer.decision, answer.note, by.user)
        if not item.is_alive:
            done.ended.append(item)
        elif is_same:
            done.same.append(item)
        elif is_stale(item, seen):
            done.stale.append(item)
        else:
            done.written.append(item)

    def _write(self, items: Collection[ReviewItem], decision: Decision, note: str, *, by: Actor) -> None:
        now, targets = timezone.now(), []
        for item in items:
            before = item.facts()
            item.decision, item.note = decision, note
            changes = difference(before, item.facts()) | difference({}, {"review": self.title})
            targets.append(Target("", item.key, changes))
        written = ReviewItem.objects.filter(pk__in=[item.pk for item in items])
        written.update(decision=decision, note=note, decided_at=now, decided_by=by.user, decided_by_label=by.label)
        written.keep_all(now)
        AuditEntry.objects.record_all(
            AuditAction.REVIEW_CONFIRM, targets, by=by, organization=self.organization, reason=note
        )

    def remind(self, *, by: Actor) -> ReviewReminder:
        """Mail everybody for whom keys wait, now. Raises RemindedError, ReviewClosedError."""
        with transaction.atomic():
            current = self._lock()
            last = current.reminders.first()
            if last and timezone.now() < last.at + ASKED_EVERY:
                raise RemindedError(last.at + ASKED_EVERY)
            return current._remind(ASKED, by)

    def remind_if_due(self, now: datetime) -> ReviewReminder | None:
        """Send the reminder that is due, each once, whoever else does so at the same time; None without one."""
        stage = due_stage(self.started_at, self.due_at, now)
        if not stage or self.reminders.filter(stage=stage).exists():
            return None
        with transaction.atomic():
            try:
                current = self._lock()
            except ReviewClosedError:
                return None
            if current.reminders.filter(stage=stage).exists():
                return None
            return current._remind(stage, Actor.scheduled())

    def _remind(self, stage: str, by: Actor) -> ReviewReminder:
        reminder: ReviewReminder = ReviewReminder.objects.send(self, stage, by_label=by.label)
        self.record(AuditAction.REVIEW_REMIND, by, difference({}, {"why": stage, "mailed": reminder.mails}))
        return reminder

    def close(self, *, by: Actor) -> ReviewProgress:
        """End it, with whatever is left open, and keep how it was. Raises ReviewClosedError."""
        with transaction.atomic():
            current, now = self._lock(), timezone.now()
            progress: ReviewProgress = current.items.all().progress(current, now)
            unanswered = models.Q(decision=Decision.OPEN)
            current.items.filter(unanswered).keep_all(now)
            current.items.exclude(unanswered).keep_status(now)
            self.closed_at, self.closed_by, self.closed_by_label = now, by.user, by.label
            self.result = asdict(progress)
            self.save(update_fields=["closed_at", "closed_by", "closed_by_label", "result"])
            told = {
                "still_needed": progress.needed,
                "no_longer_needed": progress.unneeded,
                "not_answered": progress.open,
                "ended_meanwhile": progress.ended,
            }
            self.record(AuditAction.REVIEW_CLOSE, by, difference({}, told))
        return progress

    def _lock(self) -> Review:
        """Lock it and return it as it is now. Raises ReviewClosedError."""
        current: Review = Review.objects.select_for_update(of=("self",)).select_related("organization").get(pk=self.pk)
        if current.closed_at is not None:
            raise ReviewClosedError
        return current

    def record(self, action: AuditAction, by: Actor, changes: Changes, *, reason: str = "") -> None:
        """Write an audit entry about it."""
        AuditEntry.objects.record(
            action, by=by, organization=self.organization, target=self.title, changes=changes, reason=reason
        )


def _checked(answer: Answer) -> str:
    """Return an answer's note. Raises ValidationError."""
    if answer.decision not in ANSWERS:
        raise ValidationError({"decision": ["Say whether the key is still needed."]})
    note = answer.note.strip()
    try:
        ReviewItem.note.field.clean(note, None)
    except ValidationError as error:
        raise ValidationError({"note": error.messages}) from error
    return note


def remind_all(now: datetime) -> list[tuple[Review, ReviewReminder]]:
    """Send the reminders of all open reviews that are due, and return what was sent."""
    reviews = Review.objects.open().select_related("organization").order_by("pk")
    return [(review, made) for review in reviews if (made := review.remind_if_due(now))]
