"""Reviews of the demo: one that was closed in the summer, and one that runs, with some of its answers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from apikeys.demo.cast import MARA
from apikeys.demo.history import History
from apikeys.models import (
    ApiKey,
    AuditAction,
    Decision,
    Review,
    ReviewItem,
    ReviewProgress,
    ReviewReminder,
    ReviewState,
)
from apikeys.models.audit import difference
from apikeys.models.key_status import Status, status_at

DAY: Final = timedelta(days=1)
_KEPT: Final = ("", "", "", "Asked the team: in use.", "Needed until the new tills are there.")
_GONE: Final = (
    "The service was switched off.",
    "Nobody knows what it was for.",
    "Replaced by the key of the price engine.",
)


@dataclass(frozen=True, slots=True)
class ReviewPlan:
    """What a review is called, which environment it is of, when it began and ended (days ago), and how far it got."""

    title: str
    note: str
    environment: str
    began: float
    ends: float
    answered: float
    is_closed: bool


PLANS: Final = (
    ReviewPlan("Summer review of all keys", "Before the audit. A word why helps.", "", 102, 84, 0.97, True),
    ReviewPlan(
        "Production keys, autumn", "Black Friday is over: what was made for it can go.", "prod", 6.2, -7.6, 0.55, False
    ),
)


@dataclass(slots=True)
class PlannedReview:
    """A review and its items, to be stored when it is known when its keys were used."""

    review: Review
    items: list[ReviewItem]
    closed_at: datetime | None


def plan_reviews(history: History, keys: Sequence[ApiKey]) -> list[PlannedReview]:
    """Decide who answered what, and let the audit log tell it."""
    rng = random.Random(11)  # noqa: S311 - no secret, and of its own: the rest of the demo stays as it is
    return [_planned(history, keys, plan, rng) for plan in PLANS]


def _planned(history: History, keys: Sequence[ApiKey], plan: ReviewPlan, rng: random.Random) -> PlannedReview:
    began, ends = (history.now - DAY * days for days in (plan.began, plan.ends))
    due_at = ends.replace(hour=23, minute=59, second=59, microsecond=0)
    closed_at = due_at + timedelta(hours=34) if plan.is_closed else None
    mara = history.people[MARA]
    review = Review(
        organization=history.organization,
        title=plan.title,
        note=plan.note,
        keys="Environment: production" if plan.environment else "all usable keys",
        due_at=due_at,
        started_at=began,
        started_by=mara,
        started_by_label=MARA,
    )
    chosen = [key for key in keys if _works(key, began) and plan.environment in {"", key.environment.code}]
    chosen.sort(key=lambda key: (_owner(key), key.name.lower()))
    told = difference({}, {"keys": len(chosen), "which": review.keys, "due": due_at, "mailed": 4})
    history._enter(AuditAction.REVIEW_START, began, MARA, target=plan.title, changes=told, reason=plan.note)
    items = list(_items(history, review, chosen, plan, min(closed_at or history.now, history.now), rng))
    if closed_at:
        counts = _progress(items)
        names = {
            "still_needed": counts.needed,
            "no_longer_needed": counts.unneeded,
            "not_answered": counts.open,
            "ended_meanwhile": counts.ended,
        }
        history._enter(AuditAction.REVIEW_CLOSE, closed_at, MARA, target=plan.title, changes=difference({}, names))
    return PlannedReview(review, items, closed_at)


def _items(
    history: History,
    review: Review,
    keys: Sequence[ApiKey],
    plan: ReviewPlan,
    until: datetime,
    rng: random.Random,
) -> Iterator[ReviewItem]:
    for key in keys:
        item = ReviewItem(review=review, key=key, owner_at_start=_owner(key))
        at = review.started_at + (until - review.started_at) * rng.uniform(0.01, 0.98)
        if rng.random() < plan.answered and _works(key, at):
            _answer(history, item, at, rng)
        _look(item, until if plan.is_closed else item.decided_at or review.started_at)
        yield item


def _answer(history: History, item: ReviewItem, at: datetime, rng: random.Random) -> None:
    """Let the owner have answered, or Mara where the owner has no account."""
    email = item.key.owner.user.email if item.key.owner else MARA
    is_gone = rng.random() < (0.5 if item.key.revoked_at and item.key.revoked_at - at < 20 * DAY else 0.03)
    item.decision = Decision.UNNEEDED if is_gone else Decision.NEEDED
    item.note = rng.choice(_GONE if is_gone else _KEPT)
    item.decided_at, item.decided_by, item.decided_by_label = at, history.people[email], email
    changes = difference({"decision": Decision.OPEN.label, "note": ""}, item.facts())
    changes |= difference({}, {"review": item.review.title})
    history._enter(AuditAction.REVIEW_CONFIRM, at, email, key=item.key, changes=changes, reason=item.note)


def _look(item: ReviewItem, at: datetime) -> None:
    key = item.key
    item.name, item.environment, item.fingerprint = key.name, key.environment.name, key.fingerprint
    item.owner = _owner(key)
    revoked = key.revoked_at if key.revoked_at and key.revoked_at <= at else None
    item.key_status = status_at(at, revoked, key.expires_at, None, None).value
    item.ended_at = revoked or (key.expires_at if item.key_status == Status.EXPIRED else None)


def _works(key: ApiKey, at: datetime) -> bool:
    ended = min((end for end in (key.revoked_at, key.expires_at) if end), default=None)
    return key.created_at <= at and (ended is None or at < ended)


def _owner(key: ApiKey) -> str:
    return key.owner.user.email if key.owner else key.owner_contact


def _progress(items: Sequence[ReviewItem]) -> ReviewProgress:
    counts = dict.fromkeys((state.value for state in ReviewState), 0)
    for item in items:
        is_over = item.decision == Decision.OPEN and item.key_status in {Status.EXPIRED, Status.REVOKED}
        counts[ReviewState.ENDED if is_over else item.decision] += 1
    return ReviewProgress(**counts)


def store_reviews(planned: Sequence[PlannedReview]) -> None:
    """Store them, the closed ones closed last: nothing can be changed in one afterwards."""
    for one in planned:
        review = one.review
        review.save(force_insert=True)
        used = dict(
            ApiKey.objects.filter(pk__in=[item.key_id for item in one.items]).values_list(
                "pk", "activity__last_used_at"
            )
        )
        for item in one.items:
            last, seen = used[item.key_id], item.decided_at or one.closed_at or review.started_at
            # Of a key that was used since, the last use before the answer is not known: it is told as shortly before.
            item.last_used_at = min(last, seen - timedelta(hours=3)) if last else None
            item.review = review
        ReviewItem.objects.bulk_create(one.items, batch_size=500)
        ReviewReminder.objects.create(review=review, stage="start", at=review.started_at, by_label=MARA, mails=4)
        if one.closed_at:
            review.closed_at, review.closed_by, review.closed_by_label = one.closed_at, review.started_by, MARA
            review.result = asdict(_progress(one.items))
            review.save(update_fields=["closed_at", "closed_by", "closed_by_label", "result"])
