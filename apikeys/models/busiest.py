"""The keys of an organization that stand out: the busiest, dead ones that are tried, refused and guessed ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.utils import timezone

from apikeys.models.key import ApiKey
from apikeys.models.organization import Organization
from apikeys.models.rollup import UsageHour
from apikeys.models.series import floor_hour
from apikeys.models.usage import DAY, Outcome, UsageEvent
from apikeys.models.watermark import Sources


class RankKind(models.TextChoices):
    """What keys are ranked by."""

    BUSIEST = "busiest", "all requests"
    TRIED = "tried", "requests after the key's end"
    GUESSED = "guessed", "wrong secrets"
    REFUSED = "refused", "requests without scope, network, quota or while paused"


def rank_kinds() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new kind needs no migration."""
    return RankKind.choices


_OUTCOMES: dict[RankKind, list[str]] = {
    RankKind.BUSIEST: Outcome.values,
    RankKind.TRIED: [Outcome.REVOKED, Outcome.EXPIRED],
    RankKind.GUESSED: [Outcome.UNKNOWN],
    RankKind.REFUSED: [Outcome.SCOPE_MISSING, Outcome.NETWORK_DENIED, Outcome.RATE_LIMITED, Outcome.PAUSED],
}


@dataclass(frozen=True, slots=True)
class BusyKey:
    """A key that stands out, its requests counted to the last; ``number`` is of what it is ranked by."""

    key: ApiKey
    number: int
    accepted: int
    refused: int


class BusiestKeyQuerySet(models.QuerySet["BusiestKey"]):
    """Reading of the keys that stand out."""

    def of(
        self,
        organization: Organization,
        days: int,
        most: int = 10,
        kind: RankKind = RankKind.BUSIEST,
        since: datetime | None = None,
    ) -> list[BusyKey]:
        """Return the first keys of the last 1, 7, 30, 90 or 395 days.

        Their requests are counted to the last, from ``since`` on where it is given, which lies near that many days
        ago; who they are is known from the last roll-up and what came since.
        """
        since = since or floor_hour(timezone.now() - DAY * days)
        ranked = self.filter(organization_id=organization.pk, kind=kind, days=days).order_by("rank")
        keys = set(ranked.values_list("key_id", flat=True)[: 2 * most])
        raw = UsageEvent.objects.filter(Sources.of(since).raw_condition(), outcome__in=_OUTCOMES[kind])
        newest = raw.filter(key_id__in=organization.keys.values("pk")).values("key_id")
        counted = newest.annotate(count=models.Count("nonce")).order_by("-count", "key_id")
        keys |= set(counted.values_list("key_id", flat=True)[:most])
        found: list[tuple[int, int, int, int]] = []
        for key_id, counts in UsageHour.objects.totals(sorted(keys), since).items():
            number = sum(counts.get(outcome, 0) for outcome in _OUTCOMES[kind])
            accepted = counts.get(Outcome.VALID, 0)
            found.append((-number, key_id, accepted, sum(counts.values()) - accepted))
        chosen = sorted(one for one in found if one[0])[:most]
        keys_of = organization.keys.select_related("organization", "environment", "owner__user", "activity")
        rows = keys_of.in_bulk([key_id for _, key_id, _, _ in chosen])
        return [BusyKey(rows[key_id], -number, accepted, refused) for number, key_id, accepted, refused in chosen]


class BusiestKey(models.Model):
    """One of an organization's keys that stood out in the last days, as of the last roll-up."""

    pk = models.CompositePrimaryKey("organization_id", "kind", "days", "key_id")
    organization_id = models.BigIntegerField()
    kind = models.CharField(max_length=8, choices=rank_kinds)
    days = models.PositiveSmallIntegerField()
    key_id = models.BigIntegerField()
    rank = models.PositiveSmallIntegerField()
    number = models.PositiveBigIntegerField()
    accepted = models.PositiveBigIntegerField()
    refused = models.PositiveBigIntegerField()
    last_hour = models.DateTimeField()

    objects: ClassVar = BusiestKeyQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.organization_id} {self.kind} {self.days} days: {self.rank}. {self.key_id}"
