"""Where a person is signed in, and how to end that."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_POST, require_safe

from apikeys.accounts import end_sessions
from apikeys.http import PersonRequest, actor
from apikeys.models import Session
from apikeys.permissions import signed_in
from apikeys.places import credit


@require_safe
@signed_in(because="it shows the person's own sessions alone")
def sessions(request: PersonRequest) -> HttpResponse:
    """Show where the person is signed in, this browser first."""
    key = request.session.session_key
    found = sorted(_sessions(request), key=lambda one: one.session_key != key)
    context = {"sessions": found, "current": key, "others": len(found) - 1, "credit": credit()}
    response = render(request, "apikeys/sessions.html", context)
    add_never_cache_headers(response)
    return response


@require_POST
@signed_in(because="it ends one of the person's own sessions alone")
def session_end(request: PersonRequest, handle: str) -> HttpResponse:
    """End one session at once; whoever uses it has to sign in again."""
    found = next((one for one in _sessions(request) if one.handle == handle), None)
    if found is None:
        raise Http404
    end_sessions(request.user, [found], actor(request))
    messages.success(request, f"The session of {found.device} is over.")
    return redirect("sessions")


@require_POST
@signed_in(because="it ends the person's own sessions alone")
def sessions_end(request: PersonRequest) -> HttpResponse:
    """End every session but this one."""
    others = [one for one in _sessions(request) if one.session_key != request.session.session_key]
    end_sessions(request.user, others, actor(request))
    messages.success(request, f"{len(others)} session{'' if len(others) == 1 else 's'} ended. This one goes on.")
    return redirect("sessions")


def _sessions(request: PersonRequest) -> list[Session]:
    return list(request.user.sessions.filter(expire_date__gt=timezone.now()).order_by("-seen_at"))
