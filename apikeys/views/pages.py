"""What the views share: rendering a page or its partial, and going on after a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.forms import Form
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404, render
from django.utils.functional import SimpleLazyObject
from django_htmx.http import HttpResponseClientRedirect

from apikeys.alert_filters import open_count
from apikeys.http import MemberRequest
from apikeys.models import ApiKey, OutOfReachError
from apikeys.permissions import InEnvironment
from apikeys.review_filters import waiting_text


def page(
    request: MemberRequest,
    template: str,
    section: str,
    context: Mapping[str, Any],
    *,
    partial: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> HttpResponse:
    """Return a page of the member's organization, or its one partial when htmx asks for it."""
    name = f"{template}#{partial}" if partial and request.htmx else template
    organization = request.member.organization
    shared = {
        "organization": organization,
        # Each is asked for once, by a page that has the navigation.
        "open_alerts": SimpleLazyObject(lambda: open_count(organization)),
        "waiting_text": SimpleLazyObject(lambda: waiting_text(request.member)),
        "section": section,
        "memberships": request.member.memberships,
    }
    return render(request, name, {**shared, **context}, status=status)


def go_to(request: MemberRequest, url: str) -> HttpResponse:
    """Go on to another page after a change: a redirect, also for htmx, which then loads the whole page."""
    return HttpResponseClientRedirect(url) if request.htmx else HttpResponseRedirect(url)


def posted(request: MemberRequest) -> QueryDict | None:
    """Return the form that was sent, None when none was: an empty one is sent too, and lacks everything."""
    return request.POST if request.method == "POST" else None


def form_status(form: Form) -> HTTPStatus:
    """Return 422 for a form with faults, else 200."""
    return HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound and form.errors else HTTPStatus.OK


def get_key(request: MemberRequest, public_id: str) -> ApiKey:
    """Return a key of the member's organization; anybody else's is a 404."""
    key: ApiKey = get_object_or_404(request.member.organization.keys.for_pages(), public_id=public_id)
    return key


def parted_by_reach[T: InEnvironment](
    request: MemberRequest, things: Sequence[T]
) -> tuple[list[T], list[tuple[T, str]]]:
    """Return what of several things the member may touch, and the others each with why they are left out.

    Raises OutOfReachError where that leaves nothing of them.
    """
    mine = [thing for thing in things if request.member.operates(thing.environment)]
    others = [(thing, thing.environment) for thing in things if thing not in mine and thing.environment]
    if others and not mine:
        raise OutOfReachError(others[0][1])
    told = [(thing, f"It is of {environment.name}, which your role does not include.") for thing, environment in others]
    return mine, told
