"""The way in, and what every page needs."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apikeys.assets import bundle
from apikeys.forms import PreferencesForm, add_verb_errors
from apikeys.http import PersonRequest, browser_zone, zone_of
from apikeys.models import Member
from apikeys.permissions import public, signed_in
from apikeys.time_zones import zone_names
from apikeys.views.pages import form_status

YEAR = 365 * 24 * 3600


@require_safe
@signed_in(because="it leads each person to an organization of theirs")
def home(request: HttpRequest) -> HttpResponse:
    """Lead to the first organization of the person."""
    member = Member.objects.select_related("organization").filter(user__email=request.user.get_username()).first()
    if member is None:
        return render(request, "apikeys/no_organization.html", {"user": request.user})
    return redirect("overview", member.organization.slug)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@signed_in(because="it is about the person alone, and shows nothing of an organization")
def preferences(request: PersonRequest) -> HttpResponse:
    """Let a person choose the time zone of their pages."""
    initial = {"time_zone": request.user.time_zone}
    form = PreferencesForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_valid():
        try:
            request.user.choose_time_zone(form.cleaned_data["time_zone"])
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, f"Saved. Days and hours are in {zone_of(request).key}.")
            return redirect("preferences")
    context = {
        "form": form,
        "zones": zone_names(),
        "browser_zone": browser_zone(request).key,
        "zone": zone_of(request).key,
        "now": f"{timezone.localtime(timezone=zone_of(request)):%A, %-d %B, %H:%M}",
    }
    return render(request, "apikeys/preferences.html", context, status=form_status(form))


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
