"""The first page of an organization: what needs attention, how its keys are used, and whether that is measured."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from apikeys import attention
from apikeys.alert_filters import urgent_first
from apikeys.breakdown import QUIETEST, keys_by_age, keys_by_status, quietest, ranking
from apikeys.http import MemberRequest
from apikeys.models import (
    AlertRule,
    AlertStatus,
    AuditCheck,
    JobRun,
    Organization,
    OrganizationHour,
    Role,
    Status,
    UsageWatermark,
)
from apikeys.paging import count_text, take_page
from apikeys.permissions import role_required
from apikeys.ranges import DEFAULT_RANGE, TimeRange
from apikeys.views.pages import page
from apikeys.views.statistics import series_context

ROWS: Final = 5
ALERTS: Final = 3


@require_safe
@role_required(Role.VIEWER)
def overview(request: MemberRequest) -> HttpResponse:
    """Show what needs attention today, and how the organization's keys are used."""
    organization, now = request.member.organization, timezone.now()
    if not organization.keys.exists():
        context: dict[str, Any] = {"first_steps": _first_steps(organization)}
    else:
        context = {
            **_alerts_context(organization),
            "review": organization.reviews.open().select_related("organization").first(),
            "matters": list(attention.matters(organization, now)),
            "statuses": keys_by_status(organization, now),
            "ages": keys_by_age(organization, now, [Status.ACTIVE]),
            "recording": JobRun.objects.recording(now),
            "check": AuditCheck.objects.filter(number=organization.pk).first(),
            "jobs": JobRun.objects.report(now),
            **_usage_context(organization, now),
            **quietest_context(request, ROWS),
        }
    return page(request, "apikeys/overview.html", "overview", context)


def _first_steps(organization: Organization) -> dict[str, bool]:
    """Say which steps towards the first key are done."""
    return {"scopes": organization.scopes.exists(), "people": organization.members.count() > 1}


def _alerts_context(organization: Organization) -> dict[str, Any]:
    """Return the open alerts to look at first, and which kinds are urgent."""
    urgent = AlertRule.objects.urgent_kinds(organization)
    waiting = organization.alerts.for_pages().with_status(AlertStatus.OPEN)
    return {"urgent": urgent, "alerts": take_page(urgent_first(waiting, urgent), "", size=ALERTS).rows}


def _usage_context(organization: Organization, now: datetime) -> dict[str, Any]:
    span = TimeRange.usual(DEFAULT_RANGE, now, timezone.get_current_timezone())
    recorded = UsageWatermark.read().recording_since
    counted = series_context(partial(OrganizationHour.objects.series_between, organization), span, recorded)
    total = counted["series"].total
    keys = count_text(organization.keys.all())
    return {
        "span": span,
        "recorded_since": recorded,
        "zone": str(span.zone),
        "busiest": ranking("busiest", organization, span, now, most=ROWS, total=total),
        "summary": f"{keys} key{'' if keys == '1' else 's'}",
        **counted,
    }


def quietest_context(request: MemberRequest, most: int) -> dict[str, Any]:
    """Return the active keys that are used least, and the list's query that begins with them."""
    return {"quietest": take_page(quietest(request), "", size=most).rows, "quietest_query": urlencode(QUIETEST)}
