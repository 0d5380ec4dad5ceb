"""The keys of a review as rows, for its exports: what was asked, who answered what and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from apikeys.models import Review, ReviewItem

HEADER: Final = (
    *("id", "fingerprint", "name", "environment", "owner_at_start", "owner", "last_used_at"),
    *("answer", "answered_by", "answered_at", "note", "key_status", "key_ended_at"),
)


def review_rows(review: Review, items: Iterable[ReviewItem]) -> Iterator[list[object]]:
    """Yield a row for each item, each with its key."""
    for item in items:
        item.review = review
        ended = item.ended_at if review.closed_at else item.key.ended_at
        yield [
            *(item.key.public_id, item.fingerprint, item.name, item.environment, item.owner_at_start, item.owner),
            *(_instant(item.last_used_at), item.state.label, item.decided_by_label, _instant(item.decided_at)),
            *(item.note, item.status.value, _instant(ended)),
        ]


def _instant(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
