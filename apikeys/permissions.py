"""Who may see a page: every view carries one of these decorators, and a test walks the URLconf for one without."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.cache import add_never_cache_headers, patch_vary_headers

from apikeys.http import MemberRequest, PersonRequest, zone_of
from apikeys.models import Member, Role, User

type View = Callable[..., HttpResponseBase]


class RoleRequired(PermissionDenied):
    """The member's role does not include the one that the page needs."""

    def __init__(self, role: Role) -> None:
        super().__init__(f"This needs the role {role.label} or more.")
        self.role = role


def role_required[**P, R: HttpResponseBase](
    role: Role,
) -> Callable[[Callable[Concatenate[MemberRequest, P], R]], View]:
    """Let members of the organization in the path pass who have a role; to everybody else it is a 404.

    The view gets ``request.member`` and no ``organization`` argument; while it runs, the current time zone is the
    member's. Its response is never stored.
    """

    def decorate(view: Callable[Concatenate[MemberRequest, P], R]) -> View:
        @wraps(view)
        def wrapped(request: MemberRequest, organization: str, *args: P.args, **kwargs: P.kwargs) -> R:
            member = Member.objects.of(request.user, organization) if isinstance(request.user, User) else None
            if member is None:
                raise Http404
            request.member = member
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


def signed_in[**P, R: HttpResponseBase](
    *, because: str
) -> Callable[[Callable[Concatenate[PersonRequest, P], R]], View]:
    """Let everybody pass who is signed in: the page shows nothing of an organization."""
    return _declare(f"signed in: {because}", lambda view: view)


def public[**P, R: HttpResponseBase](*, because: str) -> Callable[[Callable[Concatenate[HttpRequest, P], R]], View]:
    """Let everybody pass."""
    return _declare(f"public: {because}", login_not_required)


def _declare(access: str, mark: Callable[[Any], Any]) -> Callable[[Any], View]:
    def decorate(view: Any) -> View:
        marked: View = mark(view)
        marked.access = access  # type: ignore[attr-defined]
        return marked

    return decorate
