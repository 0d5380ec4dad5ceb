"""What was sent to whom, and how often it was tried."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Final

from django.contrib import messages
from django.db.models import CharField
from django.db.models.functions import Cast
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from apikeys.exports import FORMATS, export_response
from apikeys.http import MemberRequest, actor
from apikeys.models import AuditAction, AuditEntry, Delivery, Role
from apikeys.models.delivery import DeliveryQuerySet
from apikeys.paging import BadCursorError, Column, Ordered, Page, changed_url, take_page
from apikeys.permissions import role_required
from apikeys.views.pages import go_to, page
from apikeys.webhook_forms import DeliveryFilter

ORDER: Final = [Column("created_at", datetime, descending=True), Column("text_id", str, descending=True)]
EXPORT_HEADER: Final = (
    *("id", "channel", "recipient", "state", "urgent", "test", "created_at", "due_at", "attempts", "sent_at"),
    *("failed_at", "error"),
)


def _listing(request: MemberRequest) -> DeliveryFilter:
    deliveries: DeliveryQuerySet = Delivery.objects.filter(organization=request.member.organization)
    # A cursor holds a text; the database compares both in the same way.
    deliveries = deliveries.annotate(text_id=Cast("pk", CharField())).select_related("webhook", "event__alert")
    return DeliveryFilter(request.GET, queryset=deliveries.prefetch_related("log"), request=request)


@require_safe
@role_required(Role.OPERATOR)
def delivery_list(request: MemberRequest) -> HttpResponse:
    """Show what was sent and what is waiting, the newest first."""
    listing = _listing(request)
    found, bad, failed = Page[Delivery]([], ""), False, not listing.is_valid()
    if not failed:
        try:
            found = take_page([Ordered(listing.qs, ORDER)], request.GET.get("after", ""))
        except BadCursorError:
            bad = True
    context = {
        "deliveries": found.rows,
        "form": listing.form,
        "chips": [] if failed else listing.chips(request.path, request.GET),
        "clear_url": request.path,
        "bad_cursor": bad,
        "export_query": request.GET.urlencode(),
        "next_url": changed_url(request.path, request.GET, after=found.cursor) if found.cursor else "",
        "first_url": changed_url(request.path, request.GET) if request.GET.get("after") and not bad else "",
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if bad or failed else HTTPStatus.OK
    return page(request, "apikeys/delivery_list.html", "alerts", context, partial="delivery_table", status=status)


@require_safe
@role_required(Role.OPERATOR)
def delivery_export(request: MemberRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """Send the filtered deliveries as CSV or JSON."""
    organization = request.member.organization
    if kind not in FORMATS:
        raise Http404
    listing = _listing(request)
    if not listing.is_valid():
        return redirect(f"{reverse('delivery_list', args=[organization.slug])}?{request.GET.urlencode()}")
    told = ", ".join(listing.told()) or "all deliveries"
    AuditEntry.objects.record(
        AuditAction.ALERT_EXPORT, by=actor(request), organization=organization, target=kind.upper(), reason=told[:500]
    )
    rows = _export_rows(listing.qs.order_by("-created_at", "-pk").iterator(chunk_size=500))
    return export_response(kind, f"{organization.slug}-deliveries", EXPORT_HEADER, rows)


def _export_rows(deliveries: Iterator[Delivery]) -> Iterator[list[object]]:
    for one in deliveries:
        last = next(iter(one.log.all()), None)
        times = [at.isoformat() if at else "" for at in (one.created_at, one.due_at)]
        ends = [at.isoformat() if at else "" for at in (one.sent_at, one.failed_at)]
        flags = ["yes" if flag else "" for flag in (one.is_urgent, one.is_test)]
        error = last.error if last else ""
        yield [str(one.pk), one.channel, one.recipient, str(one.state), *flags, *times, one.attempts, *ends, error]


@require_safe
@role_required(Role.OPERATOR)
def delivery_detail(request: MemberRequest, pk: uuid.UUID) -> HttpResponse:
    """Show every attempt to send one thing."""
    return page(request, "apikeys/delivery_detail.html", "alerts", {"delivery": get_delivery(request, pk)})


def get_delivery(request: MemberRequest, pk: uuid.UUID) -> Delivery:
    """Return a delivery of the member's organization; anybody else's is a 404."""
    mine = Delivery.objects.filter(organization=request.member.organization)
    found: Delivery = get_object_or_404(mine.select_related("organization", "webhook", "event__alert"), pk=pk)
    return found


@require_POST
@role_required(Role.ADMIN)
def delivery_resend(request: MemberRequest, pk: uuid.UUID) -> HttpResponse:
    """Have something sent again, with the same id."""
    delivery = get_delivery(request, pk)
    if delivery.resend(by=actor(request)):
        messages.success(request, "It is sent again within a minute, with the same id.")
    else:
        messages.warning(request, "It is waiting to be sent already.")
    return go_to(request, reverse("delivery_detail", args=[request.member.organization.slug, delivery.pk]))
