"""What needs attention today: groups of keys that somebody should look at, the riskiest first.

Each group is a filter of the key list, so that its line leads to exactly the keys that it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from django.db.models import F

from apikeys.models import Organization, RotationReason, Status
from apikeys.models.key_age import ROTATE_SOON, rotation_date
from apikeys.models.key_queries import ApiKeyQuerySet
from apikeys.paging import count_each, number_text
from apikeys.tallies import BY_END, BY_LAST_REFUSAL, BY_LAST_USE, OLDEST, Order

IN_USE: Final = timedelta(days=7)
NAMED: Final = 3


class Risk(StrEnum):
    """How bad it is to leave something as it is; the value is the colour that says so."""

    HIGH = "bad"
    MIDDLE = "warn"
    LOW = "mute"


class Group(NamedTuple):
    """Keys to look at: which, in which order, and what to say of one and of several.

    ``moment`` is the time that says how urgent a key is, ``moment_words`` what happened or happens then. A group
    that has no more keys than another one that it holds is not told.
    """

    name: str
    risk: Risk
    icon: str
    filters: Mapping[str, str]
    select: Callable[[ApiKeyQuerySet, datetime], ApiKeyQuerySet]
    moment: str
    moment_words: str
    order: Order
    one: str
    many: str
    why: str
    holds: tuple[str, ...] = ()
    # Why its keys would be rotated, where that is what to do.
    rotated_for: RotationReason | None = None

    def ordered(self, keys: ApiKeyQuerySet, now: datetime) -> ApiKeyQuerySet:
        """Return its keys, the most urgent first."""
        return self.select(keys, now).order_by(*self.order)


@dataclass(frozen=True, slots=True)
class Matter:
    """A group that has keys: how many, and the most urgent ones with ``name``, ``public_id`` and ``moment``."""

    group: Group
    count: str
    keys: list[dict[str, Any]]

    @property
    def has_more(self) -> bool:
        """Whether there are more keys than the named ones."""
        return self.count != str(len(self.keys))

    @property
    def words(self) -> str:
        """What the keys do, after their number."""
        return self.group.one if self.count == "1" else self.group.many

    @property
    def query(self) -> str:
        """The key list's query that shows them."""
        return urlencode(self.group.filters)

    @property
    def rotate_query(self) -> str:
        """The query by which they are rotated, empty where that is not what to do."""
        reason = self.group.rotated_for
        return urlencode({**self.group.filters, "reason": reason}) if reason else ""


def _tried(status: Status) -> Callable[[ApiKeyQuerySet, datetime], ApiKeyQuerySet]:
    return lambda keys, now: keys.with_status(status, now).tried_since_end(now - IN_USE, now)


def _ending(days: int) -> Callable[[ApiKeyQuerySet, datetime], ApiKeyQuerySet]:
    return lambda keys, now: keys.expiring(now, timedelta(days=days))


def _ending_in_use(days: int) -> Callable[[ApiKeyQuerySet, datetime], ApiKeyQuerySet]:
    return lambda keys, now: _ending(days)(keys, now).filter(activity__last_used_at__gte=now - IN_USE)


GROUPS: Final = (
    Group(
        "expired_tried",
        Risk.HIGH,
        "circle-x",
        {"status": "expired", "tried": "7"},
        _tried(Status.EXPIRED),
        *("activity__last_refused_at", "Last tried", BY_LAST_REFUSAL),
        "expired key is still being tried",
        "expired keys are still being tried",
        "Somebody's requests fail since the expiry.",
    ),
    Group(
        "ending_in_use_7",
        Risk.HIGH,
        "clock-alert",
        {"status": "expiring", "expires": "7", "last_used": "7"},
        _ending_in_use(7),
        *("expires_at", "The first", BY_END),
        "key in use expires within 7 days",
        "keys in use expire within 7 days",
        "Their callers are refused from then on.",
        rotated_for=RotationReason.EXPIRY,
    ),
    Group(
        "revoked_tried",
        Risk.HIGH,
        "shield-alert",
        {"status": "revoked", "tried": "7"},
        _tried(Status.REVOKED),
        *("activity__last_refused_at", "Last tried", BY_LAST_REFUSAL),
        "revoked key is still being tried",
        "revoked keys are still being tried",
        "A caller was forgotten, or somebody else has the key.",
    ),
    Group(
        "without_owner",
        Risk.MIDDLE,
        "user-x",
        {"owner": "closed"},
        ApiKeyQuerySet.without_owner,
        *("created_at", "Created", OLDEST),
        "key has an owner whose account is closed",
        "keys have an owner whose account is closed",
        "Nobody answers for them.",
    ),
    Group(
        "ending_in_use_30",
        Risk.MIDDLE,
        "clock-alert",
        {"status": "expiring", "expires": "30", "last_used": "7"},
        _ending_in_use(30),
        *("expires_at", "The first", BY_END),
        "key in use expires within 30 days",
        "keys in use expire within 30 days",
        "There is time to extend or replace them.",
        holds=("ending_in_use_7",),
        rotated_for=RotationReason.EXPIRY,
    ),
    Group(
        "unused",
        Risk.LOW,
        "moon",
        {"status": "unused"},
        ApiKeyQuerySet.unused,
        *("quiet_since", "Quiet since", BY_LAST_USE),
        "key is unused",
        "keys are unused",
        "Nobody would miss them; whoever finds one has a way in.",
    ),
    Group(
        "ending_7",
        Risk.LOW,
        "clock",
        {"status": "expiring", "expires": "7"},
        _ending(7),
        *("expires_at", "The first", BY_END),
        "key expires within 7 days",
        "keys expire within 7 days",
        "Not all of them are in use; letting the others end is right.",
        holds=("ending_in_use_7",),
    ),
    Group(
        "ending_30",
        Risk.LOW,
        "clock",
        {"status": "expiring", "expires": "30"},
        _ending(30),
        *("expires_at", "The first", BY_END),
        "key expires within 30 days",
        "keys expire within 30 days",
        "Not all of them are in use; letting the others end is right.",
        holds=("ending_in_use_30", "ending_7"),
    ),
)


def groups_of(organization: Organization) -> list[Group]:
    """Return what to look for among an organization's keys, the riskiest first."""
    groups = [_with_days(group, organization) for group in GROUPS] + [*_too_old(organization)]
    return sorted(groups, key=lambda group: list(Risk).index(group.risk))


def _with_days(group: Group, organization: Organization) -> Group:
    """Return the group of unused keys by the days that the organization counts, and any other as it is."""
    if group.name != "unused":
        return group
    return group._replace(select=lambda keys, now: keys.unused(now, organization=organization))


def _too_old(organization: Organization) -> Iterator[Group]:
    """Yield the groups of keys to rotate, where the organization says how old they may become."""
    if organization.max_key_age is None:
        return
    most, soon = organization.max_key_age, f"{ROTATE_SOON.days} days"
    limit = f"{most:,} day{'' if most == 1 else 's'}"
    yield Group(
        "rotation_due",
        Risk.MIDDLE,
        "rotate-ccw-key",
        {"rotate": "due"},
        lambda keys, now: _dated(keys.to_rotate(now, organization=organization)),
        *("rotation_at", "Due", OLDEST),
        f"key is older than {limit} and should be rotated",
        f"keys are older than {limit} and should be rotated",
        "The longer a key is in use, the more places have held it.",
        rotated_for=RotationReason.REGULAR,
    )
    yield Group(
        "rotation_soon",
        Risk.LOW,
        "rotate-ccw-key",
        {"rotate": "soon"},
        lambda keys, now: _dated(keys.to_rotate_soon(now, organization=organization)),
        *("rotation_at", "The first", OLDEST),
        f"key should be rotated within {soon}",
        f"keys should be rotated within {soon}",
        f"They will be older than {limit} then.",
        rotated_for=RotationReason.REGULAR,
    )


def _dated(keys: ApiKeyQuerySet) -> ApiKeyQuerySet:
    return keys.annotate(rotation_at=rotation_date())


def matters(organization: Organization, now: datetime) -> Iterator[Matter]:
    """Yield the groups that have keys, the riskiest first; a query a group and one for all."""
    keys, groups = organization.keys.all(), groups_of(organization)
    counted = count_each({group.name: group.ordered(keys, now) for group in groups})
    counts = {name: number_text(count) for name, count in counted.items()}
    for group in groups:
        count = counts[group.name]
        told = not count.endswith("+") and count in {counts[held] for held in group.holds}
        if count != "0" and not told:
            named = group.ordered(keys, now).values("name", "public_id", moment=F(group.moment))
            yield Matter(group, count, [dict(row) for row in named[:NAMED]])
