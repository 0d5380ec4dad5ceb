"""One key's page: what it is, whose, whether it is alive, and what its end would break."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from apikeys.callers import GROUPINGS, callers_of
from apikeys.charts import Mark
from apikeys.exports import FORMATS, export_response
from apikeys.http import MemberRequest, actor
from apikeys.key_tables import TABLES, Asked, words_of
from apikeys.models import (
    RANGES,
    Alert,
    ApiKey,
    AuditAction,
    AuditEntry,
    Dimension,
    Outcome,
    Policy,
    PolicyRule,
    PolicyTerms,
    Role,
    Rotation,
    UsageDay,
    UsageHour,
    UsageSeries,
    UsageWatermark,
)
from apikeys.models.evidence import EVERY, Habit, ScopeEvidence
from apikeys.paging import changed_url
from apikeys.permissions import role_required
from apikeys.policy_words import FACET_OF, asked
from apikeys.ranges import DEFAULT_RANGE, TimeRange
from apikeys.request_log import Wanted
from apikeys.usage_forms import RangeForm, RequestFilterForm
from apikeys.views.pages import get_key, page
from apikeys.views.reading import reading
from apikeys.views.requests import pause_context, requests_context, retired_context

ROWS_SHOWN: Final = 8
HISTORY_SHOWN: Final = 20
MARKS_SHOWN: Final = 20
ALERTS_SHOWN: Final = 6
# Whose requests are counted, besides those of the key alone.
LINEAGE: Final = ("lineage",)
MARKED: Final = {
    AuditAction.KEY_ISSUE: ("renewal", "Issued"),
    AuditAction.KEY_REGENERATE: ("renewal", "Regenerated"),
    AuditAction.ROTATION_START: ("renewal", "Rotation started"),
    AuditAction.KEY_REVOKE: ("end", "Revoked"),
    AuditAction.KEY_PAUSE: ("pause", "Paused"),
    AuditAction.KEY_RESUME: ("pause", "Resumed"),
    AuditAction.KEY_NARROW: ("pause", "Scopes narrowed"),
}


@require_safe
@role_required(Role.VIEWER)
@reading(AuditAction.KEY_READ)
def key_detail(request: MemberRequest, public_id: str) -> HttpResponse:
    """Show a key with what uses it; htmx gets what depends on the chosen span of time."""
    key = get_key(request, public_id)
    context = {"key": key, **_usage_context(request, key)}
    if not request.htmx:
        # The filters of the list of requests are its own: it begins with the newest of all.
        every = QueryDict()
        habit = Habit.of(key)
        context |= {
            "habit": habit,
            "week": habit.week(timezone.get_current_timezone()),
            "scopes": ScopeEvidence.of(key),
            "history": AuditEntry.objects.filter(key_id=key.pk).exclude(action=AuditAction.KEY_READ)[:HISTORY_SHOWN],
            **requests_context(key, RequestFilterForm(every), every),
            "rotation": Rotation.objects.newest_of(key),
            "key_alerts": Alert.objects.open_of(key, ALERTS_SHOWN),
            **lineage_context(key),
            **retired_context(key),
            **pause_context(key),
            **policy_context(key),
        }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if context["range_form"].errors else HTTPStatus.OK
    return page(request, "apikeys/key_detail.html", "keys", context, partial="key_usage", status=status)


def policy_context(key: ApiKey) -> dict[str, Any]:
    """Return which rules of its organization's policy a key violates, and from which it is exempt."""
    violated, organization = key.violations, key.organization
    # Asked for only where something is to be told.
    terms = Policy.objects.of(organization).full_terms() if violated else PolicyTerms()
    return {
        "violations": [(rule, FACET_OF[rule], asked(FACET_OF[rule], terms, organization)) for rule in violated],
        "policy_exemptions": [
            (one, FACET_OF[PolicyRule(one.rule)]) for one in key.policy_exemptions.running() if not key.is_dead
        ],
    }


def lineage_context(key: ApiKey) -> dict[str, Any]:
    """Return the keys that took each other's place, this one among them, with the requests of each."""
    keys = list(key.lineage.select_related("organization", "environment"))
    if len(keys) == 1:
        return {}
    since = RANGES["13m"].edges(timezone.now())[0]
    totals = UsageHour.objects.totals([one.pk for one in keys], since)
    rows = [{"key": one, "requests": sum(totals.get(one.pk, {}).values())} for one in keys]
    return {"generations": rows, "lineage_total": sum(row["requests"] for row in rows)}


def _usage_context(request: MemberRequest, key: ApiKey) -> dict[str, Any]:
    known = UsageWatermark.read()
    form = RangeForm(request.GET, known)
    form.is_valid()
    span = form.chosen or form.usual(DEFAULT_RANGE)
    by = _chosen(request, "callers", GROUPINGS) or "address"
    most = ROWS_SHOWN if by == "address" else EVERY
    of = _chosen(request, "of", LINEAGE)
    counted = Asked(key, span, Wanted(), by, of != "").counted
    callers = UsageDay.objects.usage_of(key, Dimension.CALLER, *span.whole_days, most=most)
    return {
        "range_form": form,
        "ranges": form.links(request.path, request.GET),
        "span": span,
        "recorded_since": known.recording_since,
        "callers": callers_of(callers, by, ROWS_SHOWN),
        "groupings": [
            {"label": label, "url": changed_url(request.path, request.GET, callers=name), "current": name == by}
            for name, label in GROUPINGS.items()
        ],
        "endpoints": UsageDay.objects.usage_of(key, Dimension.ENDPOINT, *span.whole_days, most=ROWS_SHOWN),
        "marks": _marks(key, span),
        "grouping": request.GET.get("callers", ""),
        "zone": str(span.zone),
        "export_query": request.GET.urlencode(),
        "of": of,
        "counted_keys": len(counted),
        **series_context(partial(UsageHour.objects.series_of, counted), span, known.recording_since),
    }


def _chosen(request: MemberRequest, name: str, choices: Collection[str]) -> str:
    """Return one of some choices, empty when none is made; the links of the page name no other."""
    value = request.GET.get(name, "")
    if value and value not in choices:
        raise BadRequest(f"{name} must be one of {', '.join(choices)}.")
    return value


def series_context(
    read: Callable[[Sequence[datetime]], UsageSeries], span: TimeRange, recorded_since: datetime | None
) -> dict[str, Any]:
    """Return the counts of a span of time, read between edges, and how they compare with the one before it.

    They compare with nothing when that was not measured, or is no longer kept, from its beginning on.
    """
    series = read([span.before, *span.edges])
    before = sum(counts[0] for counts in series.counts.values())
    counts = {name: values[1:] for name, values in series.counts.items() if any(values[1:])}
    series = UsageSeries(series.starts[1:], series.step, counts, series.end)
    refusals = [(count, Outcome(name).label) for name, count in series.by_outcome.items() if name != Outcome.VALID]
    return {
        "series": series,
        "change": (series.total - before) / before if before and span.knows_before(recorded_since) else None,
        "refused_share": series.refused / series.total if series.total else 0,
        "refusals": sorted(refusals, reverse=True)[:2],
    }


def _marks(key: ApiKey, span: TimeRange) -> list[Mark]:
    """Return what happened to the key in a span of time, oldest first."""
    entries = AuditEntry.objects.filter(key_id=key.pk, action__in=MARKED, at__gte=span.since, at__lt=span.until)
    newest = list(entries.order_by("-id").values_list("at", "action")[:MARKS_SHOWN])
    # Regenerating revokes as well, in the same transaction.
    renewed = AuditAction.KEY_REGENERATE in {action for _, action in newest}
    marks = [
        Mark(at, *MARKED[AuditAction(action)])
        for at, action in newest
        if not (renewed and action == AuditAction.KEY_REVOKE)
    ]
    if key.expires_at and key.expires_at <= timezone.now() and not key.revoked_at:
        marks.append(Mark(key.expires_at, "end", "Expired"))
    return sorted(marks, key=lambda mark: mark.at)


@require_safe
@role_required(Role.VIEWER)
def key_usage_export(request: MemberRequest, public_id: str, table: str, kind: str) -> HttpResponseBase:
    """Send a table or chart of the page as CSV or JSON."""
    key = get_key(request, public_id)
    if table not in TABLES or kind not in FORMATS:
        raise Http404
    form = (RequestFilterForm if table == "requests" else RangeForm)(request.GET, UsageWatermark.read())
    if not form.is_valid():
        shown_by = "key_requests" if table == "requests" else "key_detail"
        return redirect(reverse(shown_by, args=[key.organization.slug, public_id], query=request.GET))
    by = _chosen(request, "callers", GROUPINGS) or "address"
    of_lineage = _chosen(request, "of", LINEAGE) != ""
    asked = Asked(key, form.chosen or form.usual(DEFAULT_RANGE), form.wanted, by, of_lineage)
    told = f"{words_of(table, asked)}, {kind.upper()}"
    AuditEntry.objects.record(
        AuditAction.USAGE_EXPORT, by=actor(request), organization=key.organization, key=key, reason=told
    )
    found = TABLES[table](asked)
    return export_response(kind, f"{key.organization.slug}-{public_id}-{asked.file_part(table)}", *found)
