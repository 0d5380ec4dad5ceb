"""The way in, and what every page needs."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from apikeys.assets import bundle
from apikeys.http import MemberRequest
from apikeys.models import Member, Role
from apikeys.permissions import public, role_required, signed_in

YEAR = 365 * 24 * 3600


@require_safe
@signed_in(because="it leads each person to an organization of theirs")
def home(request: HttpRequest) -> HttpResponse:
    """Lead to the first organization of the person."""
    member = Member.objects.select_related("organization").filter(user__email=request.user.get_username()).first()
    if member is None:
        return render(request, "apikeys/no_organization.html", {"user": request.user})
    return redirect("key_list", member.organization.slug)


@require_safe
@role_required(Role.VIEWER)
def organization_home(request: MemberRequest) -> HttpResponseRedirect:
    """Lead from an organization's bare address to its keys."""
    return redirect("key_list", request.member.organization.slug)


@require_safe
@public(because="the sign-in page needs it")
def stylesheet(request: HttpRequest) -> HttpResponse:
    """Send all style sheets as one."""
    return _asset(request, "css", "text/css; charset=utf-8")


@require_safe
@public(because="the sign-in page needs it")
def script(request: HttpRequest) -> HttpResponse:
    """Send all scripts as one."""
    return _asset(request, "js", "text/javascript; charset=utf-8")


def _asset(request: HttpRequest, kind: str, content_type: str) -> HttpResponse:
    asset = bundle(kind)
    fresh = request.GET.get("v") == asset.version
    headers = {
        "Cache-Control": f"public, max-age={YEAR}, immutable" if fresh else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return HttpResponse(asset.compressed, content_type, headers=headers | {"Content-Encoding": "gzip"})
    return HttpResponse(asset.content, content_type, headers=headers)
