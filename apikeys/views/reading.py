"""Pages whose reading is an entry of the audit log: once an hour for each person and page, not at each request.

Each process of the server counts for itself: what all of them know would cost a page more than the entry does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, cast

from django.core.cache import caches
from django.http import HttpResponseBase
from django.utils import timezone

from apikeys.http import MemberRequest, actor
from apikeys.models import AuditAction, AuditEntry
from apikeys.sessions import POLL

type _View[**P] = Callable[Concatenate[MemberRequest, P], HttpResponseBase]

HOUR: Final = 3600


def reading[**P](action: AuditAction) -> Callable[[_View[P]], _View[P]]:
    """Record that somebody has read a page, before they get it.

    Goes below role_required. What a page asks by itself, and a page that was refused, is no reading.
    """

    def decorate(view: _View[P]) -> _View[P]:
        @wraps(view)
        def wrapped(request: MemberRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            response = view(request, *args, **kwargs)
            if response.status_code == 200 and POLL not in request.headers:
                _record(request, action, str(kwargs.get("public_id", "")))
            return response

        marked: _View[P] = cast(Any, wrapped)
        return marked

    return decorate


def _record(request: MemberRequest, action: AuditAction, public_id: str) -> None:
    member = request.member
    hour = int(timezone.now().timestamp()) // HOUR
    name = f"read:{member.pk}:{action}:{public_id}:{hour}"
    if caches["process"].add(name, True, HOUR):
        key = member.organization.keys.get(public_id=public_id) if public_id else None
        AuditEntry.objects.record(action, by=actor(request), organization=member.organization, key=key)
