"""The keys of a review: whether each is still needed, who said so and when, and how far that has got.

What an item tells of its key (name, owner, last use) is what was so when the review began, when somebody answered, or
when the review was closed, whichever was last: a closed review stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final, Self

from django.conf import settings
from django.db import connection, models
from django.db.models import Case, CharField, Count, F, Q, Value, When
from django.db.models.functions import Coalesce, Concat, Lower, Substr
from django.utils import timezone

from apikeys.key_secret import PUBLIC_ID_LENGTH
from apikeys.models.key import ApiKey
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.models.key_status import Status, dead_condition, status_conditions
from apikeys.models.organization import Member
from apikeys.models.review_progress import OwnerProgress, ReviewProgress
from apikeys.models.text import validate_text

if TYPE_CHECKING:
    from apikeys.models.review import Review

_USABLE: Final = (Status.ACTIVE, Status.PAUSED)


class Decision(models.TextChoices):
    """What was said of a key."""

    OPEN = "open", "not answered"
    NEEDED = "needed", "still needed"
    UNNEEDED = "unneeded", "no longer needed"


ANSWERS: Final = (Decision.NEEDED, Decision.UNNEEDED)


def decisions() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new one needs no migration."""
    return Decision.choices


class ReviewState(models.TextChoices):
    """How a key stands in a review: what was said of it or, of one that ended unanswered, that it ended."""

    OPEN = "open", "not answered"
    UNNEEDED = "unneeded", "no longer needed"
    NEEDED = "needed", "still needed"
    ENDED = "ended", "ended meanwhile"


# What an item keeps of its key, by column: in SQL, so that 100,000 keys are one statement.
_KEPT: Final = ("name", "environment", "fingerprint", "owner", "last_used_at")
_ENDS: Final = ("key_status", "ended_at")


def _facts(keys: ApiKeyQuerySet, now: datetime) -> models.QuerySet[ApiKey, tuple[object, ...]]:
    """Return key id, _KEPT and _ENDS of some keys."""
    ends = PUBLIC_ID_LENGTH - 3
    fingerprint = Concat(
        *("prefix", Value("_"), "environment__code", Value("_"), Substr("public_id", 1, 4), Value("…")),
        Substr("public_id", ends, 4),
        output_field=CharField(),
    )
    status = Case(*(When(one, then=Value(name.value)) for name, one in status_conditions(now).items()))
    ended = Case(When(dead_condition(now), then=Coalesce("revoked_at", "expires_at")))
    told = keys.annotate(
        told_fingerprint=fingerprint,
        told_owner=Coalesce("owner__user__email", "owner_contact"),
        told_status=status,
        told_ended=ended,
    )
    return told.values_list(
        *("pk", "name", "environment__name", "told_fingerprint", "told_owner"),
        *("activity__last_used_at", "told_status", "told_ended"),
    )


class ReviewItemQuerySet(models.QuerySet["ReviewItem"]):
    """Making of items, and how they stand."""

    def begin(self, review: Review, keys: ApiKeyQuerySet, now: datetime) -> int:
        """Make an item for each of some keys, by owner and name, in one statement; return how many."""
        # Filters may have joined what they look at.
        chosen = ApiKey.objects.filter(pk__in=keys.order_by().values("pk"))
        rows = _facts(chosen, now).order_by(F("told_owner"), Lower("name"), "pk")
        text, values = rows.query.sql_with_params()
        columns = ", ".join(("key_id", *_KEPT, *_ENDS))
        # The columns of the table alone, and the ORM's own SQL.
        statement = (
            f"INSERT INTO apikeys_reviewitem (review_id, decision, note, decided_by_label, owner_at_start, {columns}) "  # noqa: S608
            f"WITH found ({columns}) AS ({text}) "
            f"SELECT %s, '{Decision.OPEN.value}', '', '', owner, {columns} FROM found"
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, [*values, review.pk])
            return int(cursor.rowcount)

    def keep_all(self, now: datetime) -> None:
        """Write down how the keys of these items are now, in one statement."""
        self._copy((*_KEPT, *_ENDS), now)

    def keep_status(self, now: datetime) -> None:
        """Write down of the keys of these items only whether they work now."""
        self._copy(_ENDS, now)

    def _copy(self, names: Sequence[str], now: datetime) -> None:
        keys = ApiKey.objects.filter(pk__in=self.order_by().values("key"))
        text, values = _facts(keys, now).order_by().query.sql_with_params()
        mine, mine_values = self.order_by().values("pk").query.sql_with_params()
        columns = ", ".join(("key_id", *_KEPT, *_ENDS))
        changes = ", ".join(f"{name} = found.{name}" for name in names)
        statement = (
            f"WITH found ({columns}) AS ({text}) UPDATE apikeys_reviewitem SET {changes} FROM found "  # noqa: S608
            f"WHERE apikeys_reviewitem.key_id = found.key_id AND apikeys_reviewitem.id IN ({mine})"
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, [*values, *mine_values])

    def standing(self, review: Review, state: ReviewState, now: datetime) -> Self:
        """Return the items of a review that stand so."""
        if state not in {ReviewState.OPEN, ReviewState.ENDED}:
            return self.filter(decision=state.value)
        alive = _alive(review, now)
        return self.filter(alive if state == ReviewState.OPEN else ~alive, decision=Decision.OPEN)

    def usable(self, now: datetime) -> Self:
        """Return those whose key can still be used now, also of a closed review: what might be revoked."""
        return self.filter(_works(now))

    def waiting_for(self, member: Member, now: datetime) -> Self:
        """Return the open items of the organization's open review that wait for a member.

        Those are of the member's own keys and, for an admin, of keys whose owner has no account to answer with.
        """
        mine = Q(key__owner=member)
        if member.can_administer:
            mine |= nobodys()
        running = Q(review__organization=member.organization_id, review__closed_at__isnull=True)
        return self.filter(running, mine, _works(now), decision=Decision.OPEN)

    def owned_by(self, review: Review, address: str) -> Self:
        """Return the items of an owner's keys, by address: the owner of today, of a closed review the one of then."""
        if review.closed_at:
            return self.filter(owner=address)
        return self.filter(
            Q(key__owner__in=Member.objects.filter(organization=review.organization_id, user__email=address))
            | Q(key__owner__isnull=True, key__owner_contact=address)
        )

    def progress(self, review: Review, now: datetime) -> ReviewProgress:
        """Return how many of these items of a review stand how."""
        return ReviewProgress(**self.order_by().aggregate(**_counts(review, now)))

    def by_owner(self, review: Review, now: datetime, most: int) -> list[OwnerProgress]:
        """Return how far each owner of a review is, those with the most left first, and no more than so many."""
        grouped = ("owner",) if review.closed_at else ("key__owner", "key__owner_contact")
        counts = {f"count_{name}": count for name, count in _counts(review, now).items()}
        rows = list(
            self.filter(review=review)
            .order_by()
            .values(*grouped)
            .annotate(**counts, every=Count("pk"))
            .order_by("-count_open", "-every", *grouped)[:most]
        )
        people = {}
        if not review.closed_at:
            members = Member.objects.filter(pk__in=[row["key__owner"] for row in rows]).select_related("user")
            people = {member.pk: member.user for member in members}
        found = []
        for row in rows:
            progress = ReviewProgress(**{name: row[f"count_{name}"] for name in _counts(review, now)})
            user = people.get(row.get("key__owner"))
            address = user.email if user else row.get("owner") or row.get("key__owner_contact") or ""
            answers = bool(review.closed_at) or (user is not None and user.is_active)
            found.append(OwnerProgress(address, user.label if user else address, answers, progress))
        return found

    def for_pages(self) -> Self:
        """Fetch with each item what an answer needs to know of its key."""
        return self.select_related(
            "review__organization", "key__organization", "key__environment", "key__owner__user", "key__activity"
        )


def _works(now: datetime) -> Q:
    return Q(key__revoked_at__isnull=True) & (Q(key__expires_at__isnull=True) | Q(key__expires_at__gt=now))


def _alive(review: Review, now: datetime) -> Q:
    """Return the condition of items whose key works: today or, of a closed review, when it was closed."""
    return Q(key_status__in=_USABLE) if review.closed_at else _works(now)


def nobodys() -> Q:
    """Return the condition of items whose key's owner cannot answer: no member, or one whose account is closed."""
    return Q(key__owner__isnull=True) | Q(key__owner__user__is_active=False)


def _counts(review: Review, now: datetime) -> dict[str, Count]:
    alive = _alive(review, now)
    return {
        "open": Count("pk", filter=Q(alive, decision=Decision.OPEN)),
        "unneeded": Count("pk", filter=Q(decision=Decision.UNNEEDED)),
        "needed": Count("pk", filter=Q(decision=Decision.NEEDED)),
        "ended": Count("pk", filter=Q(~alive, decision=Decision.OPEN)),
    }


class ReviewItem(models.Model):
    """One key of a review."""

    review = models.ForeignKey("apikeys.Review", models.PROTECT, related_name="items")
    key = models.ForeignKey(ApiKey, models.PROTECT, related_name="review_items")
    decision = models.CharField(max_length=16, choices=decisions, default=Decision.OPEN)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    decided_by_label = models.CharField(max_length=254, blank=True)
    note = models.CharField(max_length=500, blank=True, validators=[validate_text])

    owner_at_start = models.CharField(max_length=254)
    name = models.CharField(max_length=100)
    environment = models.CharField(max_length=40)
    fingerprint = models.CharField(max_length=40)
    owner = models.CharField(max_length=254)
    last_used_at = models.DateTimeField(null=True)
    # How the key was at the last of these moments, and since when it was revoked or had expired.
    key_status = models.CharField(max_length=16)
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar = ReviewItemQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["review", "key"], name="key_once_per_review")]
        indexes = [models.Index(fields=["review", "decision", "id"], name="review_by_decision")]

    def __str__(self) -> str:
        return f"{self.fingerprint} in review {self.review_id}: {self.decision}"

    @property
    def state(self) -> ReviewState:
        """How it stands."""
        if self.decision == Decision.OPEN and not self.is_alive:
            return ReviewState.ENDED
        return ReviewState(self.decision)

    @property
    def status(self) -> Status:
        """How the key is, of a closed review how it was then."""
        return Status(self.key_status) if self.review.closed_at else self.key.status

    @property
    def is_alive(self) -> bool:
        """Whether the key works, or worked when its review was closed."""
        return self.status in _USABLE

    @property
    def told_owner(self) -> str:
        """Who answers for the key, of a closed review who did then."""
        return self.owner if self.review.closed_at else self.key.owner_label

    def may_be_answered_by(self, member: Member) -> bool:
        """Say whether a member may answer: the owner of the key, and each admin."""
        if member.organization_id != self.review.organization_id:
            return False
        return member.can_administer or self.key.owner_id == member.pk

    def can_be_answered(self, member: Member) -> bool:
        """Say whether a member may answer, and an answer is needed."""
        return self.review.closed_at is None and self.is_alive and self.may_be_answered_by(member)

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares."""
        return {"decision": Decision(self.decision).label, "note": self.note}


def is_stale(item: ReviewItem, seen: datetime | None) -> bool:
    """Say whether somebody answered since an instant, or at all where nothing was seen."""
    return item.decided_at is not None and (seen is None or item.decided_at > seen)


def count_waiting(member: Member, most: int) -> int:
    """Return how many keys wait for a member's answer, up to so many."""
    # Most of the time no review runs: found in one look, where the items with their keys take several.
    if not member.organization.reviews.open().exists():
        return 0
    waiting = ReviewItem.objects.waiting_for(member, timezone.now())
    return int(waiting.order_by()[:most].count())
