"""The first page of an organization: what needs attention, how its keys are used, and whether that is measured."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from apikeys import attention
from apikeys.filters import CREATED_CHOICES, in_tab, of_age
from apikeys.http import MemberRequest
from apikeys.models import Organization, Role, Status
from apikeys.paging import count_text
from apikeys.permissions import role_required
from apikeys.views.pages import page

RANGE = "30d"
ROWS = 5


@require_safe
@role_required(Role.VIEWER)
def overview(request: MemberRequest) -> HttpResponse:
    """Show what needs attention today, and how the organization's keys are used."""
    organization = request.member.organization
    if not organization.keys.exists():
        return page(request, "apikeys/overview.html", "overview", {"first_steps": _first_steps(organization)})
    now = timezone.now()
    context = {
        "matters": list(attention.matters(organization.keys.all(), now)),
        "statuses": _statuses(organization, now),
        "ages": _ages(organization, now),
    }
    return page(request, "apikeys/overview.html", "overview", context)


def _first_steps(organization: Organization) -> dict[str, bool]:
    """Say which steps towards the first key are done."""
    return {"scopes": organization.scopes.exists(), "people": organization.members.count() > 1}


def _statuses(organization: Organization, now: datetime) -> list[dict[str, Any]]:
    return [
        {"value": status.value, "count": count_text(in_tab(organization.keys.all(), status.value, now))}
        for status in Status
    ]


def _ages(organization: Organization, now: datetime) -> list[dict[str, Any]]:
    active = organization.keys.with_status(Status.ACTIVE, now)
    return [
        {"value": value, "label": label, "count": count_text(of_age(active, value, now))}
        for value, label in CREATED_CHOICES
    ]
