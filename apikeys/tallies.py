"""How many keys there are in each tab of the list, and of each kind of silence: exact up to COUNT_LIMIT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.core.cache import caches
from django.db import connection
from django.db.models import Case, Count, F, Q, Value, When
from django.db.models.expressions import OrderBy
from django.db.models.lookups import LessThanOrEqual
from django.http import QueryDict

from apikeys.filters import EXEMPT, SILENCE_CHOICES, TABS, KeyFilter, in_tab
from apikeys.models import ApiKey, Silence, Status
from apikeys.models.extremes import OrLatest
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.models.key_status import EXPIRING_WITHIN, status_conditions, usable_condition
from apikeys.models.silence import UNUSED, not_exempt_condition, unused_condition
from apikeys.paging import COUNT_LIMIT, changed_url, count_each, number_text

SOON: Final = timedelta(days=30)
# No tab of the list, but counted like one.
SOON_TAB: Final = "soon"
# So many keys, as far as that is known beforehand, and more are counted when the page is there already.
AT_ONCE: Final = 1_000
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
BY_LATEST_USE: Final[Order] = (F("activity__last_used_minute").desc(), F("activity__key_id").desc())
BY_LAST_REFUSAL: Final[Order] = (F("activity__last_refused_at").desc(), F("activity__key_id").desc())

_ORDERS: Final[dict[str, Order]] = {
    "expiring": BY_END,
    SOON_TAB: BY_END,
    "expired": LATEST_END,
    "unused": BY_LAST_USE,
}


def take_long(listing: KeyFilter, *, with_silences: bool) -> bool:
    """Say whether a page should come first and its numbers after it: many keys are to be looked at one by one.

    ``with_silences``: silent keys are told apart by kind, whatever else is asked.
    """
    if with_silences:
        return _are_many(listing, "status", "silence", "q")
    if not listing.is_on(besides={"status"}) or _Memory(listing).known.keys() >= set(TABS):
        return False
    # Of a search no database knows beforehand what it finds.
    return _are_many(listing, "status", "q")


def _are_many(listing: KeyFilter, *names: str) -> bool:
    """Say whether all filters but for some keep many keys."""
    if connection.vendor == "sqlite":  # which does not tell what it expects
        return listing.without(*names).order_by()[:AT_ONCE].count() >= AT_ONCE
    return listing.expected(*names) >= AT_ONCE


def counts_of(keys: Sequence[ApiKey]) -> dict[str, str]:
    """Return how many of some keys each of TABS has: of a list that has no others."""
    counts = dict.fromkeys(TABS, 0) | {"": len(keys)}
    for key in keys:
        counts[key.status] += 1
        counts["expiring"] += key.is_expiring
        counts["unused"] += key.is_unused
    return _texts(counts)


def tab_counts(listing: KeyFilter) -> dict[str, str]:
    """Return how many keys each of TABS has under the other filters; without one also what summary_counts() does.

    A narrow choice is read once for all tabs. Of a wide one each tab is counted by an index of its own, but not of a
    search, which no index orders: it tells how many there are among the first. What PostgreSQL expects to be wide is
    not read to find out.
    """
    if not listing.is_on(besides={"status"}):
        every = listing.organization.keys.all()
        return _count_apart(every, listing, _Memory(listing, "every"), [*TABS, SOON_TAB])
    keys, empty = listing.without("status"), listing.empty_tabs()
    tabs = set(TABS) - empty
    memory = _Memory(listing)
    searched = bool(listing.form.cleaned_data.get("q"))
    if not memory.known and (searched or listing.expected("status") < _WIDE):
        most = COUNT_LIMIT if searched else _WIDE
        counts = _count_together(keys, tabs, listing, most)
        if counts[""] <= most:
            return _texts(counts)
        if searched:
            return memory.keep({tab: f"{min(count, COUNT_LIMIT):,}+" for tab, count in counts.items()})
    # Some days' keys lie together in the order of their making, and nowhere else.
    asked = listing.form.cleaned_data.get
    orders = {} if asked("created") or asked("rotate") else _ORDERS
    return _count_apart(keys, listing, memory, TABS, empty, orders)


def summary_counts(listing: KeyFilter) -> dict[str, str]:
    """Return how many keys there are in all, how many are unused, and "soon": how many expire within 30 days."""
    every = listing.organization.keys.all()
    return _count_apart(every, listing, _Memory(listing, "summary"), ["", "unused", SOON_TAB])


@dataclass(frozen=True, slots=True)
class SilenceLink:
    """Leads to the keys whose silence means the same, with their number, empty where it comes later."""

    label: str
    count: str
    url: str
    current: bool
    is_unused: bool


def silence_links(listing: KeyFilter, path: str, query: QueryDict, *, counted: bool = True) -> list[SilenceLink]:
    """Return a link for each of SILENCE_CHOICES, counted or not, under the filters besides status and silence."""
    texts = _silence_counts(listing) if counted else {}
    return [
        SilenceLink(
            label.capitalize(),
            texts.get(value, ""),
            changed_url(path, query, silence=value, status="unused" if value in UNUSED else None),
            query.get("silence") == value,
            value in UNUSED,
        )
        for value, label in SILENCE_CHOICES
    ]


def _silence_counts(listing: KeyFilter) -> dict[str, str]:
    keys, now = listing.without("status", "silence"), listing.now
    # Those that are silent in season are found by their rhythms, others by their last use: of those that were used long
    # ago most are dead.
    orders = {Silence.NEVER_USED: BY_LAST_USE, Silence.DORMANT: BY_LATEST_USE}
    wanted = {
        kind.value: keys.with_silence(kind, now=now, organization=listing.organization)
        .filter(not_exempt_condition(now))
        .order_by(*orders.get(kind, ()))
        for kind in Silence
    }
    return _texts(count_each(wanted | {EXEMPT: keys.exempted(now).order_by()}))


class _Memory:
    """What is said of tabs with far more than COUNT_LIMIT keys, and of a search that finds more, kept for a minute.

    Each process keeps its own. Of a tab nobody could tell whether it is a minute old: in so short a time no
    organization gets rid of a thousand keys. Of a search only that it finds more than COUNT_LIMIT is known.
    """

    def __init__(self, listing: KeyFilter, name: str = "") -> None:
        names = [] if name else sorted(set(listing.filters) - {"status", "sort"})
        asked = name or json.dumps([[name, *values] for name in names if (values := listing.data.getlist(name))])
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
    listing: KeyFilter,
    memory: _Memory,
    tabs: Iterable[str],
    empty: Collection[str] = (),
    orders: Mapping[str, Order] = _ORDERS,
) -> dict[str, str]:
    now, organization = listing.now, listing.organization
    known = memory.known.keys() | set(empty)
    wanted = {}
    for tab in tabs:
        if tab not in known:
            rows = keys.expiring(now, SOON) if tab == SOON_TAB else in_tab(keys, tab, now, organization)
            wanted[tab] = rows.order_by(*orders.get(tab, NEWEST))
    counts = count_each(wanted, _MANY) if wanted else {}
    texts = _texts(counts | dict.fromkeys(empty, 0))
    if not memory.known and (many := {tab: texts[tab] for tab, count in counts.items() if count > _MANY}):
        memory.keep(many)
    return texts | memory.known


def _count_together(keys: ApiKeyQuerySet, tabs: Collection[str], listing: KeyFilter, most: int) -> dict[str, int]:
    """Count the first keys by tab, one more than ``most``; the tabs that are not asked for are empty."""
    now, statuses = listing.now, status_conditions(listing.now)
    usable = usable_condition(now)
    conditions = {
        **{status.value: statuses[status] for status in Status},
        "expiring": usable & Q(LessThanOrEqual(OrLatest("expires_at"), now + EXPIRING_WITHIN)),
        "unused": usable & unused_condition(now, listing.organization.unused_after),
    }
    flags = {f"is_{tab}": Case(When(conditions[tab], then=Value(1))) for tab in conditions if tab in tabs}
    first = keys.with_activity().order_by(*NEWEST).annotate(**flags).values("pk", *flags)[: most + 1]
    counts = first.aggregate(total=Count("pk"), **{flag.removeprefix("is_"): Count(flag) for flag in flags})
    return dict.fromkeys(TABS, 0) | {"": counts.pop("total"), **counts}
