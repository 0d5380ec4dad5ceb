"""The usage of an organization: its requests by outcome, environment and owner, and the keys that stand out."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any, Final

from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from apikeys.breakdown import RANKED_DAYS, RANKINGS, by_environment, by_owner, keys_by_age, keys_by_status, ranking
from apikeys.exports import FORMATS, export_response
from apikeys.http import MemberRequest, actor
from apikeys.models import AuditAction, AuditEntry, OrganizationHour, Role, Status, UsageWatermark
from apikeys.organization_tables import TABLES, Asked, file_part, is_kept, words_of
from apikeys.permissions import role_required
from apikeys.ranges import DEFAULT_RANGE
from apikeys.usage_forms import RangeForm
from apikeys.views.overview import quietest_context
from apikeys.views.pages import page
from apikeys.views.statistics import series_context

ROWS: Final = 10


@require_safe
@role_required(Role.VIEWER)
def usage(request: MemberRequest) -> HttpResponse:
    """Show how the organization's keys are used; htmx gets what depends on the chosen span of time."""
    organization = request.member.organization
    context: dict[str, Any] = {"has_keys": organization.keys.exists(), **_span_context(request)}
    if not request.htmx:
        now = timezone.now()
        context |= {
            "statuses": keys_by_status(organization, now),
            "ages": keys_by_age(organization, now, list(Status)),
            **quietest_context(request, ROWS),
        }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if context["range_form"].errors else HTTPStatus.OK
    return page(request, "apikeys/usage.html", "usage", context, partial="usage_figures", status=status)


def _span_context(request: MemberRequest) -> dict[str, Any]:
    organization = request.member.organization
    known = UsageWatermark.read()
    form = RangeForm(request.GET, known)
    form.is_valid()
    span = form.chosen or form.usual(DEFAULT_RANGE)
    counted = series_context(
        partial(OrganizationHour.objects.series_between, organization), span, known.recording_since
    )
    total = counted["series"].total
    rankings = RANKINGS if span.name in RANKED_DAYS else {}
    return {
        "range_form": form,
        "ranges": form.links(request.path, request.GET),
        "span": span,
        "zone": str(span.zone),
        "recorded_since": known.recording_since,
        "environments": by_environment(organization, span),
        "owners": by_owner(organization, span, ROWS),
        "rankings": {name: ranking(name, organization, span, form.now, most=ROWS, total=total) for name in rankings},
        "export_query": request.GET.urlencode(),
        **counted,
    }


@require_safe
@role_required(Role.VIEWER)
def usage_export(request: MemberRequest, table: str, kind: str) -> HttpResponseBase:
    """Send a table or chart of the Overview or of Usage as CSV or JSON."""
    organization = request.member.organization
    if table not in TABLES or kind not in FORMATS:
        raise Http404
    form = RangeForm(request.GET, UsageWatermark.read())
    span = form.chosen if form.is_valid() else None
    if span is None or not is_kept(table, span):
        return redirect(reverse("usage", args=[organization.slug], query=request.GET))
    told = f"{words_of(table, span)}, {kind.upper()}"
    AuditEntry.objects.record(AuditAction.USAGE_EXPORT, by=actor(request), organization=organization, reason=told)
    found = TABLES[table](Asked(organization, span, form.now))
    return export_response(kind, f"{organization.slug}-{file_part(table, span)}", *found)
