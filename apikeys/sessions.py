"""How long somebody stays signed in, and what is kept of it: OWASP ASVS 5, V7.3 and V7.5.

A session ends after some time without a request of its person, and some time after it began whatever they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import SESSION_KEY, logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from apikeys.models import Session

_BEGAN: Final = "began_at"
_SEEN: Final = "seen_at"
_FROM: Final = "from"
# What is kept of a session is renewed so often, in seconds: not each request writes.
_RENEWED: Final = 60
# A page that renews itself says so in this header: nobody need be sitting before it.
POLL: Final = "X-Poll"


class SessionStore(DatabaseStore):
    """Django's own store, that also writes whose a session is, since when, and from where."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        """Return the model of its rows."""
        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        """Return the row of a session."""
        row = super().create_model_instance(data)
        if not isinstance(row, Session):
            raise TypeError(f"{row!r} is no session of keyadmin.")
        row.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        row.began_at, row.seen_at = _time(data.get(_BEGAN)), _time(data.get(_SEEN))
        row.address, row.user_agent = data.get(_FROM, (None, ""))
        return row


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


@receiver(user_logged_in)
def _signed_in(request: HttpRequest, **_facts: object) -> None:
    request.session[_BEGAN] = time.time()
    _renew(request)


def _renew(request: HttpRequest) -> None:
    request.session[_SEEN] = time.time()
    agent = request.META.get("HTTP_USER_AGENT", "").replace("\0", "")[:200]
    request.session[_FROM] = (getattr(request, "client_address", None), agent)


class SessionAgeMiddleware:
    """Ends a session that is too old, or was left alone for too long, before a view that needs one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *_arguments: object) -> None:
        """Sign out, or remember that they were here."""
        needs_one = getattr(view, "login_required", True) or getattr(view, "asks_who", False)
        if not needs_one or SESSION_KEY not in request.session:
            return
        now, began, seen = time.time(), request.session.get(_BEGAN, 0), request.session.get(_SEEN, 0)
        if now - began > settings.SESSION_HOURS * 3600 or now - seen > settings.SESSION_IDLE_MINUTES * 60:
            logout(request)
            messages.info(request, "You were signed out, because you were away for long. Sign in to go on.")
        elif now - seen > _RENEWED and POLL not in request.headers:
            _renew(request)
