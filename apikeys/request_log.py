"""The single requests of a key, newest first: narrowed, and page by page at a cost that has a limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import Q

from apikeys.models import ApiKey, UsageEvent
from apikeys.models.usage import UsageEventQuerySet, take_newest
from apikeys.paging import BadCursorError
from apikeys.ranges import TimeRange

SHOWN: Final = 20
# So many requests are looked through for those that match; the reader may go on from there.
LOOKED_THROUGH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests: of an outcome, of callers whose address or user agent holds a text, of a span of time."""

    outcome: str = ""
    caller: str = ""
    span: TimeRange | None = None

    def among(self, events: UsageEventQuerySet) -> UsageEventQuerySet:
        """Return the events of the span of time, whatever their outcome and caller."""
        return events.filter(at__gte=self.span.since, at__lt=self.span.until) if self.span else events

    def matching(self, events: UsageEventQuerySet) -> UsageEventQuerySet:
        """Return the events of the outcome and caller."""
        if self.outcome:
            events = events.filter(outcome=self.outcome)
        if self.caller:
            events = events.filter(Q(address__icontains=self.caller) | Q(user_agent__icontains=self.caller))
        return events


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Some requests; ``cursor`` is where older ones begin, ``looked_to`` how far back was looked if not to the end."""

    events: list[UsageEvent]
    cursor: str = ""
    looked_to: datetime | None = None


def take_requests(key: ApiKey, wanted: Wanted, cursor: str = "", size: int = SHOWN) -> RequestPage:
    """Return a page of a key's requests. Raises BadCursorError for a cursor that is none."""
    events = wanted.among(UsageEvent.objects.of(key)).order_by("-at", "-nonce")
    if cursor:
        at, nonce = _decode(cursor)
        # The first condition is what the index is read by.
        events = events.filter(Q(at__lt=at) | Q(nonce__lt=nonce), at__lte=at)
    matching = wanted.matching(events)
    end = None
    if wanted.outcome or wanted.caller:
        end = events.values_list("at", flat=True)[LOOKED_THROUGH : LOOKED_THROUGH + 1].first()
        matching = matching.filter(at__gt=end) if end else matching
    is_narrowed = cursor or end is not None or wanted.span
    found = list(matching[: size + 1]) if is_narrowed else take_newest(matching, size + 1)
    if len(found) > size:
        return RequestPage(found[:size], _encode(found[size - 1].at, found[size - 1].nonce))
    return RequestPage(found, _encode(end, 2**62) if end else "", end)


def _encode(at: datetime, nonce: int) -> str:
    return f"{at.astimezone(UTC).isoformat()}_{nonce}"


def _decode(cursor: str) -> tuple[datetime, int]:
    at, _, nonce = cursor.rpartition("_")
    try:
        moment, number = datetime.fromisoformat(at).astimezone(UTC), int(nonce)
    except (ValueError, OverflowError):
        raise BadCursorError from None
    if datetime.fromisoformat(at).tzinfo is None or not 0 <= number <= 2**62:
        raise BadCursorError
    return moment, number
