"""Alerts about requests that were refused: abuse, an expired key that is still used, and a rate limit that is hit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import batched
from typing import Any, Final, NamedTuple

from apikeys.evaluation.hours import Hours, hours_by_key
from apikeys.evaluation.occurrences import Occurrence, raise_new
from apikeys.evaluation.reading import read_first
from apikeys.evaluation.reconcile import BATCH, Tally
from apikeys.models import AlertKind, AlertRule, ApiKey, Outcome, Status
from apikeys.models.alert_rule import AlertRuleTerms
from apikeys.models.key_status import status_at
from apikeys.models.usage import DAY

type Options = Mapping[str, Any]
type Judge = Callable[[Hours, Options], Iterator[Occurrence]]


class RefusalKind(NamedTuple):
    """A kind that is found from refused requests: of which outcomes, and how the hours of a key are judged."""

    outcomes: tuple[Outcome, ...]
    judge: Judge


def judge_abuse(hours: Hours, options: Options) -> Iterator[Occurrence]:
    """Yield the hours with too many requests that the key does not allow."""
    for hour, counts in sorted(hours.items()):
        wrong, revoked = counts.get(Outcome.UNKNOWN, 0), counts.get(Outcome.REVOKED, 0)
        scope, network = counts.get(Outcome.SCOPE_MISSING, 0), counts.get(Outcome.NETWORK_DENIED, 0)
        is_too_much = wrong >= options["wrong_secrets"] or revoked >= options["revoked"]
        if is_too_much or scope + network >= options["refusals"]:
            facts = {"wrong_secrets": wrong, "scope_missing": scope, "network_denied": network, "revoked": revoked}
            yield Occurrence(hour, facts)


def judge_expired(hours: Hours, options: Options) -> Iterator[Occurrence]:  # noqa: ARG001 - nothing tunes it
    """Yield the hours in which the key was tried after its end, with the requests of a day up to each."""
    day: dict[datetime, int] = {}
    for hour, counts in sorted(hours.items()):
        day = {one: count for one, count in day.items() if one > hour - DAY}
        day[hour] = counts.get(Outcome.EXPIRED, 0)
        yield Occurrence(hour, {"requests": sum(day.values())})


def judge_rate_limit(hours: Hours, options: Options) -> Iterator[Occurrence]:
    """Yield the hours with too many requests beyond the limit, when a day up to them has enough of those."""
    hit: list[datetime] = []
    for hour, counts in sorted(hours.items()):
        refused = counts.get(Outcome.RATE_LIMITED, 0)
        if refused < options["refusals"]:
            continue
        hit = [*(one for one in hit if one > hour - DAY), hour]
        if len(hit) >= options["hours"]:
            yield Occurrence(hour, {"refused": refused, "hours": len(hit)})


REFUSALS: Final[Mapping[AlertKind, RefusalKind]] = {
    AlertKind.ABUSE: RefusalKind(
        (Outcome.UNKNOWN, Outcome.SCOPE_MISSING, Outcome.NETWORK_DENIED, Outcome.REVOKED), judge_abuse
    ),
    AlertKind.EXPIRED_USED: RefusalKind((Outcome.EXPIRED,), judge_expired),
    AlertKind.RATE_LIMITED: RefusalKind((Outcome.RATE_LIMITED,), judge_rate_limit),
}


def evaluate_refusals(since: datetime, now: datetime, *, keys: Any = None) -> Tally:
    """Raise the alerts that the refused requests of all keys since an instant justify; the running hour counts."""
    tally = Tally()
    outcomes = [outcome for kind in REFUSALS.values() for outcome in kind.outcomes]
    hours = read_first(hours_by_key(outcomes, since, now, keys=keys))
    for some in batched(hours, BATCH, strict=False):
        tally += _evaluate_batch(dict(some), now)
    return tally


def _evaluate_batch(hours: Mapping[int, Hours], now: datetime) -> Tally:
    tally = Tally()
    found = ApiKey.objects.of_people().select_related("organization").in_bulk(list(hours))
    for organization in {key.organization for key in found.values()}:
        mine = {pk: key for pk, key in found.items() if key.organization_id == organization.pk}
        rules = AlertRule.objects.of(organization)
        for kind, refusals in REFUSALS.items():
            if not rules[kind].is_on:
                continue
            terms = rules[kind].terms
            possible = {pk: key for pk, key in mine.items() if _may_happen(kind, key, now)}
            judged = {pk: _judged(kind, key, hours[pk], terms) for pk, key in possible.items()}
            tally += raise_new(organization, kind, judged, now, outcomes=refusals.outcomes)
    return tally


def _may_happen(kind: AlertKind, key: ApiKey, now: datetime) -> bool:
    """Say whether it may happen again: what cannot needs nobody's attention any more."""
    status = status_at(now, key.revoked_at, key.expires_at, None, None)
    return {
        AlertKind.EXPIRED_USED: status == Status.EXPIRED,
        AlertKind.RATE_LIMITED: status == Status.ACTIVE,
    }.get(kind, True)


def _judged(kind: AlertKind, key: ApiKey, hours: Hours, terms: AlertRuleTerms) -> list[Occurrence]:
    refusals = REFUSALS[kind]
    mine = {hour: _of(counts, refusals.outcomes) for hour, counts in hours.items()}
    found = list(refusals.judge({hour: counts for hour, counts in mine.items() if counts}, terms.options))
    if kind == AlertKind.EXPIRED_USED and key.expires_at:
        return [one.with_facts(expired_at=key.expires_at.isoformat()) for one in found]
    return found


def _of(counts: Mapping[str, int], outcomes: Sequence[Outcome]) -> dict[str, int]:
    return {outcome: counts[outcome] for outcome in outcomes if outcome in counts}
