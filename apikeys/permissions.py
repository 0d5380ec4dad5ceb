"""Who may see a page: every view carries one of these decorators, and a test walks the URLconf for one without."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Protocol, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.messages.storage.base import BaseStorage
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django_htmx.http import HttpResponseClientRedirect

from apikeys.http import MemberRequest, PersonRequest, zone_of
from apikeys.models import Environment, Member, OutOfReachError, Role, User
from apikeys.sign_on_forms import has_signed_on

type View = Callable[..., HttpResponseBase]


class RoleRequired(PermissionDenied):
    """The member's role does not include the one that the page needs."""

    def __init__(self, role: Role) -> None:
        super().__init__(f"This needs the role {role.label} or more.")
        self.role = role


def _to_second_factor(request: MemberRequest) -> HttpResponse:
    """Lead somebody whose organization requires a second factor to where they set one up."""
    wanted = f"{request.member.organization} asks its members for a second factor. Set one up, then go on."
    waiting = messages.get_messages(request)
    if wanted not in {str(message) for message in waiting}:
        messages.warning(request, wanted)
    if isinstance(waiting, BaseStorage):
        # They were looked at, not shown.
        waiting.used = False
    url = reverse("mfa_index")
    return HttpResponseClientRedirect(url) if request.htmx else HttpResponseRedirect(url)


def role_required[**P, R: HttpResponseBase](
    role: Role,
) -> Callable[[Callable[Concatenate[MemberRequest, P], R]], View]:
    """Let members of the organization in the path pass who have a role; to everybody else it is a 404.

    The view gets ``request.member`` and no ``organization`` argument; while it runs, the current time zone is the
    member's. Its response is never stored. Who lacks a second factor that the organization requires sees none of it.
    """

    def decorate(view: Callable[Concatenate[MemberRequest, P], R]) -> View:
        @wraps(view)
        def wrapped(request: MemberRequest, organization: str, *args: P.args, **kwargs: P.kwargs) -> R | HttpResponse:
            member = Member.objects.of(request.user, organization) if isinstance(request.user, User) else None
            if member is None:
                raise Http404
            request.member = member
            if member.lacks_second_factor and not has_signed_on(request, member.user):
                return _to_second_factor(request)
            if not Role(member.role).includes(role):
                raise RoleRequired(role)
            with timezone.override(zone_of(request)):
                response = view(request, *args, **kwargs)
            add_never_cache_headers(response)
            patch_vary_headers(response, ["HX-Request"])
            return response

        wrapped.access = f"role:{role}"  # type: ignore[attr-defined]
        return wrapped

    return decorate


class InEnvironment(Protocol):
    """What belongs to an environment: a key, its rotation, an alert of it."""

    @property
    def environment(self) -> Environment | None:
        """Where it is used."""


def in_reach[**P, R: HttpResponseBase](
    find: Callable[..., InEnvironment] | None = None,
) -> Callable[[Callable[Concatenate[MemberRequest, P], R]], Callable[Concatenate[MemberRequest, P], R]]:
    """Declare a page that changes what belongs to an environment, which an operator may be limited away from.

    ``find`` fetches what the address names; an operator who may not touch it gets a 403 that says so, before
    anything is asked. Without it the page leaves out what they may not touch. The verbs refuse it again. Goes right
    below role_required.
    """

    def decorate(view: Callable[Concatenate[MemberRequest, P], R]) -> Callable[Concatenate[MemberRequest, P], R]:
        @wraps(view)
        def wrapped(request: MemberRequest, *args: P.args, **kwargs: P.kwargs) -> R:
            if find and request.member.limit:
                environment = find(request, *args, **kwargs).environment
                if environment and not request.member.operates(environment):
                    raise OutOfReachError(environment)
            return view(request, *args, **kwargs)

        marked: Any = wrapped
        marked.in_reach = True
        return cast(Callable[Concatenate[MemberRequest, P], R], marked)

    return decorate


def signed_in[**P, R: HttpResponseBase](
    *, because: str
) -> Callable[[Callable[Concatenate[PersonRequest, P], R]], View]:
    """Let everybody pass who is signed in: the page shows nothing of an organization."""
    return _declare(f"signed in: {because}", lambda view: view)


def public[**P, R: HttpResponseBase](
    *, because: str, asks_who: bool = False
) -> Callable[[Callable[Concatenate[HttpRequest, P], R]], View]:
    """Let everybody pass. With ``asks_who`` it matters who is signed in: a session that is over is ended before."""

    def mark(view: Any) -> Any:
        marked = login_not_required(view)
        marked.asks_who = asks_who
        return marked

    return _declare(f"public: {because}", mark)


def _declare(access: str, mark: Callable[[Any], Any]) -> Callable[[Any], View]:
    def decorate(view: Any) -> View:
        marked: View = mark(view)
        marked.access = access  # type: ignore[attr-defined]
        return marked

    return decorate
