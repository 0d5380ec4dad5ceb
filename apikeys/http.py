"""What stands between the server and the views: the client's address, text that no database takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django_htmx.http import HttpResponseClientRefresh

from apikeys import proxies
from apikeys.models import Actor, Member, User, Via
from apikeys.time_zones import UTC, find_zone

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails

type Handler = Callable[[HttpRequest], HttpResponse]

# What no page of ours uses; the clipboard and passkeys stay with ours alone, as browsers have it.
_PERMISSIONS: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        *("accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "encrypted-media", "fullscreen"),
        *("geolocation", "gyroscope", "hid", "idle-detection", "magnetometer", "microphone", "midi", "payment"),
        *("picture-in-picture", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking"),
    )
)


class ClientRequest(HttpRequest):
    """A request that has passed our middleware."""

    client_address: str | None
    htmx: HtmxDetails


class PersonRequest(ClientRequest):
    """A request by somebody who is signed in."""

    user: User


class MemberRequest(PersonRequest):
    """A request for a page of an organization, by one of its members."""

    member: Member


class BrowserHeadersMiddleware:
    """Sets what each answer asks of a browser beside the Content-Security-Policy, files and redirects among them.

    What says nothing of being stored is not stored.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        return response


class NoFiles(FileUploadHandler):
    """Answers 400 to a file in a form: no page takes one, and its size would have no limit."""

    def new_file(self, *_arguments: Any, **_names: Any) -> None:
        """Refuse it before anything of it is read."""
        raise BadRequest("A file was sent, and no page takes one.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        """Never called: each file is refused before."""
        raise NotImplementedError

    def file_complete(self, file_size: int) -> None:
        """Never called: each file is refused before."""
        raise NotImplementedError


class ClientAddressMiddleware:
    """Sets ``request.client_address``, and removes forwarded headers that no trusted proxy sent."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        trusted = settings.TRUSTED_PROXIES
        if not proxies.is_trusted(request.META, trusted):
            for name in proxies.FORWARDED:
                request.META.pop(name, None)
        request.client_address = proxies.client_address(request.META, trusted)  # type: ignore[attr-defined]
        return self.get_response(request)


class SignedOutMiddleware:
    """Lets htmx reload the whole page when a session has ended, instead of putting the sign-in form into a table."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        response = self.get_response(request)
        to_sign_in = response.headers.get("Location", "").startswith(reverse(settings.LOGIN_URL))
        if to_sign_in and request.headers.get("HX-Request") == "true":
            return HttpResponseClientRefresh()
        return response


class BadTextMiddleware:
    """Answers 400 to a NUL in the address or the query: no database can hold one, so nothing can match."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: object) -> None:
        """Refuse the request before its view sees it."""
        if "\0" in request.path or any("\0" in text for text in _texts(request)):
            raise BadRequest("The address of this page holds a NUL character.")


def _texts(request: HttpRequest) -> list[str]:
    return [text for name, values in request.GET.lists() for text in (name, *values)]


def actor(request: HttpRequest) -> Actor:
    """Return who acts in a request, for the ``by=`` of a verb."""
    user = request.user if isinstance(request.user, User) else None
    return Actor(
        label=user.email if user else "nobody",
        via=Via.DASHBOARD,
        user=user,
        address=getattr(request, "client_address", None),
        user_agent=request.META.get("HTTP_USER_AGENT", "")[:200],
    )


def browser_zone(request: HttpRequest) -> ZoneInfo:
    """Return the time zone that static/js/zone.js put into a cookie, UTC without one that exists."""
    return find_zone(request.COOKIES.get("zone", "")) or UTC


def zone_of(request: HttpRequest) -> ZoneInfo:
    """Return the time zone in which whoever asks reads days and hours."""
    chosen = find_zone(request.user.time_zone) if isinstance(request.user, User) else None
    return chosen or browser_zone(request)


def download(file_name: str, content_type: str, content: Iterator[str]) -> StreamingHttpResponse:
    """Return a file to be saved, sent as its content comes."""
    return StreamingHttpResponse(
        content,
        content_type=content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{file_name}"',
            "X-Content-Type-Options": "nosniff",
        },
    )
