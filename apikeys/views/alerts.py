"""The inbox of alerts, and the page of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import Any, Final

from django.http import Http404, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apikeys import alert_code, key_secret
from apikeys.alert_actions import actions_for
from apikeys.alert_filters import TABS, AlertFilter
from apikeys.alert_moment import Moment
from apikeys.alert_words import MEANING, expected, seen
from apikeys.exports import FORMATS, export_response
from apikeys.http import MemberRequest, actor
from apikeys.models import Alert, AlertKind, AlertRule, AuditAction, AuditEntry, JobRun, JobState, Organization, Role
from apikeys.paging import BadCursorError, Page, changed_url, take_page
from apikeys.permissions import role_required
from apikeys.views.pages import go_to, page

EVENTS_SHOWN: Final = 50
EVALUATION: Final = "evaluate_alerts"
EXPORT_HEADER: Final = (
    *("code", "kind", "urgency", "status", "key_id", "fingerprint", "name", "environment", "owner", "subject"),
    *("seen", "expected", "opened_at", "seen_at", "occurrences", "acknowledged_until", "acknowledged_by"),
    *("resolved_at", "resolved_by", "resolution", "facts"),
)


@require_safe
@role_required(Role.VIEWER)
def alert_list(request: MemberRequest) -> HttpResponse:
    """Show the organization's alerts, those to look at first."""
    if key_secret.looks_like_key(request.GET.get("q", "")):
        return redirect(_found_url(request, request.GET))
    listing = AlertFilter(request.GET, queryset=request.member.organization.alerts.for_pages(), request=request)
    found, bad_cursor = Page[Alert]([], ""), False
    if listing.is_valid():
        try:
            found = take_page(listing.parts(), request.GET.get("after", ""))
        except BadCursorError:
            bad_cursor = True
    context = _list_context(request, listing, found) | {"bad_cursor": bad_cursor}
    failed = bad_cursor or not listing.is_valid()
    status = HTTPStatus.UNPROCESSABLE_ENTITY if failed else HTTPStatus.OK
    return page(request, "apikeys/alert_list.html", "alerts", context, partial="alert_table", status=status)


def _list_context(request: MemberRequest, listing: AlertFilter, found: Page[Alert]) -> dict[str, Any]:
    query, path, valid = request.GET, request.path, listing.is_valid()
    tab = listing.tab if valid else ""
    return {
        "job": partial(_evaluation, listing.now),
        "tabs": _tabs(request, listing, tab) if valid else [],
        "tab": tab,
        "form": listing.form,
        "chips": listing.chips(path, query) if valid else [],
        "clear_url": f"{path}?status={tab}" if tab else path,
        "alerts": found.rows,
        "urgent": listing.urgent,
        "next_url": changed_url(path, query, after=found.cursor) if found.cursor else "",
        "first_url": changed_url(path, query) if query.get("after") else "",
        "export_query": query.urlencode(),
        "empty": "" if found.rows else ("filtered" if not valid or listing.is_on() else tab or "open"),
        "lookup": query.get("lookup", ""),
    }


def _tabs(request: MemberRequest, listing: AlertFilter, current: str) -> list[dict[str, Any]]:
    counts = listing.tab_counts()
    return [
        {
            "label": label,
            "count": counts[value],
            "url": changed_url(request.path, request.GET, status=value or None),
            "current": value == current,
        }
        for value, label in TABS.items()
    ]


def _evaluation(now: datetime) -> dict[str, Any]:
    """Return when alerts were looked for last, and whether that is too long ago."""
    report = next(job for job in JobRun.objects.report(now) if job.job == EVALUATION)
    return {"worked_at": report.worked_at, "is_late": report.state != JobState.WORKS}


@require_POST
@role_required(Role.VIEWER)
def alert_find(request: MemberRequest) -> HttpResponse:
    """Take a search by POST, so that a pasted key is in no address: a code leads to its alert, a text to the list."""
    if found := find_alert(request.member.organization, request.POST.get("q", "")):
        return go_to(request, found.get_absolute_url())
    response = redirect(_found_url(request, request.POST))
    response.status_code = HTTPStatus.SEE_OTHER
    return response


def find_alert(organization: Organization, text: str) -> Alert | None:
    """Return the alert whose code a text is; None where the organization has none of it."""
    number = alert_code.decode(text)
    if number is None:
        return None
    found: Alert | None = organization.alerts.filter(pk=number).select_related("organization").first()
    return found


def _found_url(request: MemberRequest, asked: QueryDict) -> str:
    path = reverse("alert_list", args=[request.member.organization.slug])
    text = asked.get("q", "").strip()[:500]
    query = QueryDict(mutable=True)
    for name in AlertFilter.base_filters:
        query.setlist(name, [value for value in asked.getlist(name) if value])
    if not key_secret.looks_like_key(text):
        return changed_url(path, query, q=text or None)
    # Only the public id of a key goes on; a mistyped one takes nothing with it.
    secret = key_secret.parse(text)
    return changed_url(path, query, q=secret.public_id if secret else None, lookup="pasted" if secret else "unknown")


@require_safe
@role_required(Role.VIEWER)
def alert_export(request: MemberRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """Send the filtered alerts as CSV or JSON."""
    organization = request.member.organization
    if kind not in FORMATS:
        raise Http404
    if key_secret.looks_like_key(request.GET.get("q", "")):
        return redirect(_found_url(request, request.GET))
    listing = AlertFilter(request.GET, queryset=organization.alerts.for_pages(), request=request)
    if not listing.is_valid():
        return redirect(reverse("alert_list", args=[organization.slug], query=request.GET))
    told = [f"Status: {TABS[listing.tab]}", *listing.told()]
    AuditEntry.objects.record(
        AuditAction.ALERT_EXPORT,
        by=actor(request),
        organization=organization,
        target=kind.upper(),
        reason=", ".join(told)[:500],
    )
    alerts = chain.from_iterable(part.in_order().iterator(chunk_size=500) for part in listing.parts())
    return export_response(kind, f"{organization.slug}-alerts", EXPORT_HEADER, _export_rows(alerts, listing.urgent))


def _export_rows(alerts: Iterator[Alert], urgent: list[AlertKind]) -> Iterator[list[object]]:
    for alert in alerts:
        key, until = alert.key, alert.acknowledged_until if alert.is_acknowledged else None
        yield [
            *(alert.code, alert.kind, "urgent" if alert.kind in urgent else "digest", alert.status.value),
            *((key.public_id, key.fingerprint, key.name) if key else ("", "", "")),
            *((key.environment.name, key.owner_label) if key else ("", "")),
            *(alert.subject, seen(alert, UTC), expected(alert, UTC)),
            *(alert.opened_at.isoformat(), alert.seen_at.isoformat(), alert.occurrences),
            *(_instant(until), alert.acknowledged_by.email if until and alert.acknowledged_by else ""),
            *(_instant(alert.resolved_at), alert.resolved_by_label, alert.resolution),
            json.dumps(alert.facts, ensure_ascii=False),
        ]


def _instant(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


@require_safe
@role_required(Role.VIEWER)
def alert_detail(request: MemberRequest, number: int) -> HttpResponse:
    """Show what was seen, what it means, what to do, and what happened to the alert since."""
    alert = get_alert(request, number)
    kind = AlertKind(alert.kind)
    events = list(alert.events.order_by("-pk")[: EVENTS_SHOWN + 1])
    context = {
        "alert": alert,
        "rule": AlertRule.objects.one(alert.organization, kind),
        "moment": Moment.of(alert, timezone.now(), timezone.get_current_timezone()),
        "meaning": MEANING[kind],
        "actions": actions_for(alert) if request.member.operates(alert.environment) and not alert.resolved_at else [],
        "events": events[:EVENTS_SHOWN],
        "has_older": len(events) > EVENTS_SHOWN,
        "others": _others(alert),
    }
    return page(request, "apikeys/alert_detail.html", "alerts", context)


def get_alert(request: MemberRequest, number: int) -> Alert:
    """Return an alert of the member's organization; anybody else's is a 404."""
    found: Alert = get_object_or_404(request.member.organization.alerts.for_pages(), pk=number)
    return found


def _others(alert: Alert) -> list[Alert]:
    """Return the newest other alerts of the same key."""
    if alert.key_id is None:
        return []
    others = Alert.objects.filter(key=alert.key_id).exclude(pk=alert.pk).select_related("organization")
    return list(others.order_by("-pk")[:5])
