"""What a rule would have raised over the last 90 days of real usage, before it is switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import batched, groupby, pairwise
from operator import itemgetter
from typing import Any, Final

from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Sum, When

from apikeys.callers import network_of
from apikeys.evaluation.hours import hours_by_key
from apikeys.evaluation.networks import as_new_network
from apikeys.evaluation.occurrences import Occurrence
from apikeys.evaluation.reconcile import BATCH
from apikeys.evaluation.refusals import REFUSALS
from apikeys.evaluation.states import ends_moved
from apikeys.evaluation.unusual import as_occurrence, known_counts
from apikeys.models import (
    Alert,
    AlertKind,
    ApiKey,
    Dimension,
    JobRun,
    Organization,
    Outcome,
    Rotation,
    Silence,
    UsageDay,
    UsageHour,
)
from apikeys.models.alert_rule import AlertRuleTerms
from apikeys.models.job import LATE_AFTER
from apikeys.models.key_age import rotation_date
from apikeys.models.rollup import KNOWN_FOR
from apikeys.models.rotation import CALLED_OFF
from apikeys.models.series import floor_day, floor_hour
from apikeys.models.silence import (
    explained_by,
    quiet_since,
    recording_since,
    silence_limit,
    unused_condition,
    unused_kind,
)
from apikeys.models.usage import DAY, HOUR
from apikeys.unusual_usage import LOOKBACK, Sensitivity, Shape, Unusual, backtest

PREVIEWED: Final = 90
MOST_SHOWN: Final = 50
# Looking back on the usage of a key takes some milliseconds.
_MOST_JUDGED: Final = 300
_KEYS_AT_ONCE: Final = 25


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One alert that would have been raised; ``alert`` is not stored, and says in words what it is about."""

    at: datetime
    alert: Alert

    @property
    def key(self) -> ApiKey | None:
        """The key that it is about."""
        return self.alert.key


@dataclass(frozen=True, slots=True)
class Preview:
    """What would have been raised between two instants: how many, of how many keys, on which day, and the newest.

    ``by_day`` has a number a day (UTC), the last is today's. ``note`` says what cannot be seen looking back.
    """

    since: datetime
    until: datetime
    total: int = 0
    keys: int = 0
    foreseen: list[Foreseen] = field(default_factory=list)
    by_day: list[int] = field(default_factory=list)
    note: str = ""


# Of each alert: the key's id, or the subject; when; and its facts.
type Found = tuple[int | str, datetime, dict[str, Any]]
type Look = Callable[[Organization, AlertRuleTerms, datetime, datetime], Iterable[Found]]


def preview(organization: Organization, kind: AlertKind, terms: AlertRuleTerms, *, now: datetime) -> Preview:
    """Return what alerts of a kind some terms would have raised over the last 90 days, in constant memory."""
    since = now - PREVIEWED * DAY
    by_day, whats, total = [0] * PREVIEWED, set(), 0
    newest: list[Found] = []
    for found in _LOOKS[kind](organization, terms, since, now):
        _, at, _ = found
        by_day[min(PREVIEWED - 1, int((at - since) / DAY))] += 1
        whats.add(found[0])
        total += 1
        newest.append(found)
        if len(newest) >= 2 * MOST_SHOWN:
            newest = nsmallest(MOST_SHOWN, newest, key=_newest)
    shown = _with_keys(organization, kind, nsmallest(MOST_SHOWN, newest, key=_newest))
    return Preview(since, now, total, len(whats), shown, by_day, _NOTES.get(kind, ""))


def _newest(found: Found) -> float:
    return -found[1].timestamp()


def _with_keys(organization: Organization, kind: AlertKind, some: list[Found]) -> list[Foreseen]:
    wanted = [what for what, *_ in some if isinstance(what, int)]
    keys = organization.keys.select_related("organization", "environment", "owner__user").in_bulk(wanted)
    found = []
    for what, at, facts in some:
        key = keys.get(what) if isinstance(what, int) else None
        subject = what if isinstance(what, str) else ""
        alert = Alert(organization=organization, kind=kind, key=key, subject=subject, facts=facts)
        alert.opened_at = alert.seen_at = at
        found.append(Foreseen(at, alert))
    return found


def episodes(occurrences: Iterable[Occurrence], calm: timedelta) -> Iterator[Occurrence]:
    """Yield the first of occurrences that would be one alert: those without a pause of ``calm`` in between."""
    last: datetime | None = None
    for one in occurrences:
        if last is None or one.hour - last > calm:
            yield one
        last = one.hour


def _refusals(kind: AlertKind) -> Look:
    def look(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:
        refusals, calm = REFUSALS[kind], timedelta(hours=kind.traits.calm)
        keys = organization.keys.values("pk")
        # What began before is no new alert, and an hour is judged with the day before it.
        for pk, hours in hours_by_key(refusals.outcomes, since - calm - DAY, until, keys=keys):
            for one in episodes(refusals.judge(hours, terms.options), calm):
                if one.hour + HOUR > since:
                    yield pk, max(one.hour, since), {"hour": one.hour.isoformat(), **one.facts}

    return look


def _expiry(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:
    days: Any = terms.options["days"]
    rotations = Rotation.objects.filter(old_key=OuterRef("pk")).exclude(ending__in=CALLED_OFF).order_by("-pk")
    rotated = {name: Subquery(rotations.values(name)[:1]) for name in ("started_at", "own_expiry")}
    # A rotation moves the end of its old key: the deadline is told to nobody, the end before it was.
    own_end = Case(When(started_at__isnull=True, then="expires_at"), default="own_expiry")
    keys = organization.keys.annotate(**rotated).annotate(end=own_end)
    ending = keys.filter(end__gt=since, end__lte=until + max(days) * DAY).order_by("pk")
    rows: Iterator[Any] = ending.values_list("pk", "created_at", "revoked_at", "started_at", "end").iterator(BATCH)
    for some in batched(rows, BATCH, strict=False):
        moved = ends_moved([pk for pk, *_ in some])
        for pk, created_at, revoked_at, started_at, end in some:
            known, over = max(created_at, moved.get(pk, created_at)), _first(revoked_at, started_at)
            for limit in days:
                at = end - limit * DAY
                if since < at <= until and known < at and (over is None or at < over):
                    yield pk, at, {"days": limit, "expires_at": end.isoformat()}


def _first(*instants: datetime | None) -> datetime | None:
    return min((at for at in instants if at), default=None)


def _unused(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:  # noqa: ARG001
    least = organization.unused_after
    # Also those that ended since.
    keys = organization.keys.with_activity().annotate(quiet_since=quiet_since())
    unused = keys.filter(unused_condition(until, least))
    told = ("pk", "quiet_since", unused_kind(), silence_limit(least), F("rhythm__usual_gap"))
    ends = ("revoked_at", "expires_at", "exemption__until", recording_since())
    rows: Iterator[Any] = unused.values_list(*told, *ends).iterator()
    for pk, quiet, kind, days, gap, revoked_at, expires_at, exempt_until, recorded in rows:
        usual = timedelta(seconds=gap or 0)
        at = quiet + max(least * DAY, explained_by(usual))
        if kind == Silence.NEVER_USED:
            at = max(at, recorded + least * DAY)
        at = min(until, max(at, exempt_until or at))
        over = _first(revoked_at, expires_at)
        if at > since and (over is None or at < over):
            hours = usual // HOUR if gap else None
            yield pk, at, {"silence": kind, "since": quiet.isoformat(), "days": days, "usual_gap_hours": hours}


def _rotation(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:  # noqa: ARG001
    most = organization.max_key_age
    if most is None:
        return
    old = organization.keys.filter(created_at__gt=since - most * DAY, created_at__lte=until - most * DAY)
    alive = (Q(revoked_at__isnull=True) | Q(revoked_at__gt=F("date"))) & (
        Q(expires_at__isnull=True) | Q(expires_at__gt=F("date"))
    )
    runs_then = Q(closed_at__isnull=True) | Q(closed_at__gt=OuterRef("date"))
    rotations = Rotation.objects.filter(runs_then, old_key=OuterRef("pk"), started_at__lte=OuterRef("date"))
    due = old.annotate(date=rotation_date()).filter(alive, ~Exists(rotations))
    for pk, date in due.values_list("pk", "date").iterator():
        yield pk, date, {"rotate_by": date.isoformat(), "max_key_age": most}


def _owners(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:  # noqa: ARG001
    for pk, email in organization.keys.without_owner(until).values_list("pk", "owner__user__email").iterator():
        yield pk, until, {"owner": email}


def _networks(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:  # noqa: ARG001
    calm = timedelta(hours=AlertKind.NEW_NETWORK.traits.calm)
    days = UsageDay.objects.filter(dimension=Dimension.CALLER, day__gte=(since - KNOWN_FOR).date(), accepted__gt=0)
    mine = days.filter(key_id__in=organization.keys.values("pk"), first_at__lte=until)
    rows = mine.order_by("key_id", "first_at").values_list("key_id", "value", "first_at", "last_at").iterator()
    for pk, some in groupby(rows, key=itemgetter(0)):
        for one in episodes(_new_networks(some), calm):
            if one.hour + HOUR > since:
                yield pk, max(one.hour, since), one.facts


def _new_networks(rows: Iterable[tuple[int, str, datetime, datetime]]) -> Iterator[Occurrence]:
    """Yield the networks of a key that it was not used from in the 90 days before, though it was used."""
    last: dict[str, datetime] = {}
    for _, value, first_at, last_at in rows:
        address = value.partition("\n")[0]
        network = network_of(address)
        if not network:
            continue
        last = {one: at for one, at in last.items() if first_at - at <= KNOWN_FOR}
        if last and network not in last:
            yield as_new_network(network, address, first_at)
        last[network] = max(last_at, last.get(network, last_at))


def _jobs(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:  # noqa: ARG001
    began = JobRun.objects.order_by("started_at").values_list("started_at", flat=True).first()
    for job, limit in LATE_AFTER.items():
        worked = JobRun.objects.filter(job=job, finished_at__isnull=False, error="").order_by("finished_at")
        ends = [at for at in worked.values_list("finished_at", flat=True) if at]
        # One that never succeeded is late when the others have run for so long.
        for before, after in pairwise([*(ends or ([began] if began else [])), until]):
            if after - before > limit and before + limit > since:
                seconds, worked_at = int(limit.total_seconds()), before.isoformat() if ends else None
                yield job, before + limit, {"job": job, "worked_at": worked_at, "limit_seconds": seconds, "error": ""}


def _unusual(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterator[Found]:
    sensitivity, calm = (
        Sensitivity(str(terms.options["sensitivity"])),
        timedelta(hours=AlertKind.UNUSUAL_USAGE.traits.calm),
    )
    start = floor_day(since) - LOOKBACK * HOUR
    rotations = Rotation.objects.filter(organization=organization).order_by("pk")
    replaced = {
        old: (began, ended) for old, began, ended in rotations.values_list("old_key", "started_at", "closed_at")
    }
    for some in batched(_busiest(organization, since, until), _KEYS_AT_ONCE, strict=False):
        keys = organization.keys.filter(pk__in=some, activity__first_used_at__isnull=False)
        firsts: dict[int, Any] = dict(keys.values_list("pk", "activity__first_used_at"))
        quiet = {pk: min(filter(None, ends), default=None) for pk, *ends in keys.values_list("pk", *_ENDS)}
        counts = known_counts(firsts, start, floor_hour(until))
        for pk, unusual in zip(sorted(firsts), backtest(counts, sensitivity=sensitivity, since=LOOKBACK), strict=True):
            told = [
                as_occurrence(at, one, is_complete=True)
                for one in unusual
                if not _is_explained(at := start + one.hour * HOUR, one, quiet[pk], replaced.get(pk))
            ]
            for one in episodes(told, calm):
                if one.hour >= since:
                    yield pk, one.hour + HOUR, {"hour": one.hour.isoformat(), **one.facts}


_ENDS: Final = ("revoked_at", "expires_at", "paused_at")


def _is_explained(
    at: datetime, one: Unusual, quiet: datetime | None, replaced: tuple[datetime, datetime | None] | None
) -> bool:
    """Say whether an hour lacks requests because the key ended, was paused, or was being replaced."""
    if one.shape == Shape.SPIKE:
        return False
    over = at + HOUR
    if quiet is not None and over > quiet:
        return True
    return replaced is not None and over > replaced[0] and (replaced[1] is None or at < replaced[1])


def _busiest(organization: Organization, since: datetime, until: datetime) -> list[int]:
    """Return the keys with the most requests, as many as a page can wait for."""
    hours = UsageHour.objects.filter(hour__gte=since, hour__lt=until, outcome=Outcome.VALID)
    mine = hours.filter(key_id__in=organization.keys.values("pk")).values("key_id")
    totals = mine.annotate(total=Sum("count")).order_by("-total", "key_id")
    return list(totals.values_list("key_id", flat=True)[:_MOST_JUDGED])


def _nothing(organization: Organization, terms: AlertRuleTerms, since: datetime, until: datetime) -> Iterable[Found]:  # noqa: ARG001
    return ()


_LOOKS: Final[dict[AlertKind, Look]] = {
    **{kind: _refusals(kind) for kind in REFUSALS},
    AlertKind.EXPIRY: _expiry,
    AlertKind.UNUSED: _unused,
    AlertKind.ROTATION_DUE: _rotation,
    AlertKind.OWNER_GONE: _owners,
    AlertKind.NEW_NETWORK: _networks,
    AlertKind.JOB_LATE: _jobs,
    AlertKind.WEBHOOK_OFF: _nothing,
    AlertKind.UNUSUAL_USAGE: _unusual,
}
_NOTES: Final = {
    AlertKind.UNUSUAL_USAGE: f"Looked at are the {_MOST_JUDGED} keys with the most requests, and whole hours.",
    AlertKind.UNUSED: "Keys that were unused for a while and are used again are not counted.",
    AlertKind.OWNER_GONE: "When an account was closed is not kept: these keys are without an owner today.",
    AlertKind.JOB_LATE: "The last 100 runs of each command are kept, so pauses before them are not counted.",
    AlertKind.WEBHOOK_OFF: "A webhook is switched off when it fails for 5 days; looking back says nothing about that.",
    AlertKind.EXPIRY: "Counted by the end that each key has today.",
    AlertKind.ROTATION_DUE: "Counted by the maximum age that holds today, for keys that were not rotated before it.",
}
