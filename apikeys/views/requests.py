"""The single requests of a key, as they come."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from apikeys import key_secret
from apikeys.callers import Callers, callers_of
from apikeys.http import MemberRequest
from apikeys.models import (
    ApiKey,
    AuditAction,
    Dimension,
    Pause,
    Role,
    Status,
    UsageDay,
    UsageEvent,
    UsageHour,
    UsageWatermark,
)
from apikeys.paging import BadCursorError, changed_url
from apikeys.permissions import role_required
from apikeys.request_log import LOOKED_THROUGH, RequestPage, take_requests
from apikeys.usage_forms import RequestFilterForm
from apikeys.views.pages import get_key, page
from apikeys.views.reading import reading

CALLERS_SHOWN = 10
# With it a page that asks again and again says what the key was when it was drawn.
WAS = "X-Key-Was"


@require_safe
@role_required(Role.VIEWER)
@reading(AuditAction.KEY_READ)
def key_requests(request: MemberRequest, public_id: str) -> HttpResponse:
    """Show a key's newest requests; the page asks for them again and again."""
    key = get_key(request, public_id)
    if key_secret.holds_key(request.GET.get("caller", "")):
        return redirect(changed_url(request.path, request.GET, caller=None))
    form = RequestFilterForm(request.GET, UsageWatermark.read())
    if request.htmx and request.headers.get(WAS) == Status.PAUSED and key.status == Status.ACTIVE:
        # The pause is over: what the page says of the key, and what can be done with it, is another.
        return HttpResponseClientRefresh()
    context = {
        "key": key,
        **requests_context(key, form, request.GET),
        **retired_context(key),
        **pause_context(key),
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if context["request_faults"] else HTTPStatus.OK
    return page(request, "apikeys/key_requests.html", "keys", context, partial="key_requests", status=status)


def requests_context(key: ApiKey, form: RequestFilterForm, query: QueryDict) -> dict[str, Any]:
    """Return what the list of requests shows: what the query asked for, and the way to older ones."""
    cursor, found, faults = query.get("before", ""), RequestPage([]), []
    if form.is_valid():
        try:
            found = take_requests(key, form.wanted, cursor)
        except BadCursorError:
            faults = ["The address names a place in the list that cannot be one."]
    url = reverse("key_requests", args=[key.organization.slug, key.public_id])
    return {
        "request_form": form,
        "request_faults": [*form.faults, *faults],
        "requests": found,
        "kept_days": settings.EVENT_RETENTION_DAYS,
        "looked_through": f"{LOOKED_THROUGH:,}",
        "requests_url": changed_url(url, query, before=None),
        "older_url": changed_url(url, query, before=found.cursor) if found.cursor else "",
        "newest_url": changed_url(url, query, before=None) if cursor else "",
        # What ended is not looked at again.
        "is_live": not cursor and not faults and form.is_open_ended,
        "requests_export_query": query.urlencode(),
    }


def retired_context(key: ApiKey) -> dict[str, Any]:
    """Return who still tries a dead key."""
    if key.ended_at is None:
        return {}
    found = UsageDay.objects.usage_of(key, Dimension.CALLER, key.ended_at, most=CALLERS_SHOWN)
    attempts = UsageHour.objects.attempts_since_end([key]).get(key.pk, 0)
    callers: Callers = callers_of(found, "address", CALLERS_SHOWN)
    return {"retired_attempts": attempts, "retired_callers": callers}


def pause_context(key: ApiKey) -> dict[str, Any]:
    """Return who is refused by a pause, or was by one that ended by itself."""
    pause = Pause.of(key)
    if pause is None:
        return {}
    found = pause.refused()
    return {"pause": pause, "pause_total": found.total, "paused_callers": callers_of(found, "address", CALLERS_SHOWN)}


@require_safe
@role_required(Role.VIEWER)
def key_first_request(request: MemberRequest, public_id: str) -> HttpResponse:
    """Show whether a new key has been used yet."""
    key = get_key(request, public_id)
    event = UsageEvent.objects.of(key).order_by("at", "nonce").first()
    context = {"key": key, "event": event}
    return page(request, "apikeys/key_first_request.html", "keys", context, partial="first_request")
