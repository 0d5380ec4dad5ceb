"""How many keys there are in each tab of the list: exact up to COUNT_LIMIT, in one statement or two."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.core.cache import caches
from django.db.models import Case, Count, F, Q, Value, When
from django.db.models.expressions import OrderBy
from django.db.models.lookups import LessThanOrEqual

from apikeys.filters import TABS, KeyFilter, in_tab
from apikeys.models import Status
from apikeys.models.extremes import OrLatest
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.models.key_status import EXPIRING_WITHIN, status_conditions, usable_condition
from apikeys.models.silence import unused_condition
from apikeys.paging import COUNT_LIMIT, count_each, expected_count, number_text

SOON: Final = timedelta(days=30)
# So many keys are so far beyond what is counted exactly that they will be so in a minute.
_MANY: Final = COUNT_LIMIT + 1000
_MEMORY_SECONDS: Final = 60
# Up to here one look at all keys is faster than one for each tab. An estimate is seldom wrong by half; if so, only the
# time is another.
_WIDE: Final = 2 * COUNT_LIMIT

type Order = tuple[OrderBy, ...]

# Orders that an index has: how keys are found fastest, of which only the first ones are wanted or counted.
NEWEST: Final[Order] = (F("created_at").desc(), F("id").desc())
OLDEST: Final[Order] = (F("created_at").asc(), F("id").asc())
BY_END: Final[Order] = (OrLatest("expires_at").asc(), F("id").asc())
LATEST_END: Final[Order] = (OrLatest("expires_at").desc(), F("id").desc())
# Those that were never used are the first, the oldest of them before the others.
BY_LAST_USE: Final[Order] = (F("activity__last_used_minute").asc(), F("activity__key_id").asc())
BY_LAST_REFUSAL: Final[Order] = (F("activity__last_refused_at").desc(), F("activity__key_id").desc())

_ORDERS: Final[dict[str, Order]] = {
    "expiring": BY_END,
    "soon": BY_END,
    "expired": LATEST_END,
    "unused": BY_LAST_USE,
}


def tab_counts(listing: KeyFilter) -> dict[str, str]:
    """Return how many keys each of TABS has under the other filters, and "soon": how many expire within 30 days.

    A narrow choice is read once for all tabs. Of a wide one each tab is counted by an index of its own, but not of a
    search, which no index orders: it tells how many there are among the first. What PostgreSQL expects to be wide is
    not read to find out.
    """
    if not listing.is_on(besides={"status"}):
        return all_counts(listing)
    keys, empty = listing.without("status"), listing.empty_tabs()
    memory = _Memory(listing)
    searched = bool(listing.form.cleaned_data.get("q"))
    if not memory.known and (searched or expected_count(keys) < _WIDE):
        most = COUNT_LIMIT if searched else _WIDE
        counts = _count_together(keys, listing.now, most)
        if counts[""] <= most:
            return _texts(counts)
        if searched:
            return memory.keep({tab: f"{min(count, COUNT_LIMIT):,}+" for tab, count in counts.items()})
    if "expiring" in empty:
        empty.add("soon")
    # Some days' keys lie together in the order of their making, and nowhere else.
    asked = listing.form.cleaned_data.get
    orders = {} if asked("created") or asked("rotate") else _ORDERS
    return _count_apart(keys, listing.now, memory, empty, orders)


def all_counts(listing: KeyFilter) -> dict[str, str]:
    """Return how many of all keys each of TABS has, and "soon"."""
    return _count_apart(listing.organization.keys.all(), listing.now, _Memory(listing, of_all=True))


class _Memory:
    """What is said of tabs with far more than COUNT_LIMIT keys, and of a search that finds more, kept for a minute.

    Each process keeps its own. Of a tab nobody could tell whether it is a minute old: in so short a time no
    organization gets rid of a thousand keys. Of a search only that it finds more than COUNT_LIMIT is known.
    """

    def __init__(self, listing: KeyFilter, *, of_all: bool = False) -> None:
        names = [] if of_all else sorted(set(listing.filters) - {"status", "sort"})
        asked = json.dumps([[name, *values] for name in names if (values := listing.data.getlist(name))])
        digest = hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()
        self._name = f"tallies-{listing.organization.pk}-{digest}"
        self.known: dict[str, str] = caches["process"].get(self._name) or {}

    def keep(self, texts: dict[str, str]) -> dict[str, str]:
        """Remember what is said of some tabs, and return it."""
        caches["process"].set(self._name, texts, _MEMORY_SECONDS)
        return texts


def _texts(counts: dict[str, int]) -> dict[str, str]:
    return {tab: number_text(count) for tab, count in counts.items()}


def _count_apart(
    keys: ApiKeyQuerySet,
    now: datetime,
    memory: _Memory,
    empty: Collection[str] = (),
    orders: Mapping[str, Order] = _ORDERS,
) -> dict[str, str]:
    tabs = {tab: in_tab(keys, tab, now) for tab in TABS} | {"soon": keys.expiring(now, SOON)}
    known = memory.known.keys() | set(empty)
    wanted = {tab: rows.order_by(*orders.get(tab, NEWEST)) for tab, rows in tabs.items() if tab not in known}
    counts = count_each(wanted, _MANY) if wanted else {}
    texts = _texts(counts | dict.fromkeys(empty, 0))
    if not memory.known and (many := {tab: texts[tab] for tab, count in counts.items() if count > _MANY}):
        memory.keep(many)
    return texts | memory.known


def _count_together(keys: ApiKeyQuerySet, now: datetime, most: int) -> dict[str, int]:
    """Count the first keys by tab, one more than ``most``."""
    statuses = status_conditions(now)
    usable = usable_condition(now)
    conditions = {
        **{status.value: statuses[status] for status in Status},
        "expiring": usable & Q(LessThanOrEqual(OrLatest("expires_at"), now + EXPIRING_WITHIN)),
        "soon": usable & Q(LessThanOrEqual(OrLatest("expires_at"), now + SOON)),
        "unused": usable & unused_condition(now, settings.UNUSED_AFTER_DAYS),
    }
    flags = {f"is_{tab}": Case(When(condition, then=Value(1))) for tab, condition in conditions.items()}
    first = keys.with_activity().order_by(*NEWEST).annotate(**flags).values("pk", *flags)[: most + 1]
    counts = first.aggregate(total=Count("pk"), **{tab: Count(f"is_{tab}") for tab in conditions})
    return {"": counts.pop("total"), **counts}
