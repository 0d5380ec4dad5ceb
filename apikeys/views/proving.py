"""What asks for a password again before it does what could do great harm, and then goes on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, cast

from allauth.core import ratelimit
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.http import require_http_methods

from apikeys.http import MemberRequest
from apikeys.models import Role, SignOnDomain
from apikeys.passkeys import challenge
from apikeys.permissions import role_required
from apikeys.sign_on_forms import SIGNED_ON, may_sign_on_again, takes_password, uses_password
from apikeys.step_up import PASSKEY, PASSWORD, ProofForm, TooManyProofsError, is_proven, note_proof
from apikeys.views.pages import page

type _View[**P] = Callable[Concatenate[MemberRequest, P], HttpResponseBase]


def proven[**P](view: _View[P]) -> _View[P]:
    """Ask for the password or a passkey before a form is acted on, when the last proof is too long ago.

    The form waits in the page that asks, and is acted on together with the password: nothing of it is stored. Goes
    below role_required, so that nobody is asked who may not anyway.
    """

    @wraps(view)
    def wrapped(request: MemberRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.method == "POST" and not is_proven(request):
            answer = _asked(request, request.get_full_path())
            if answer:
                return answer
            form = request.POST.copy()
            for name in (PASSWORD, PASSKEY):
                form.pop(name, None)
            request.POST = cast(Any, form)
        return view(request, *args, **kwargs)

    return _marked(wrapped)


def proven_to_read[**P](view: _View[P]) -> _View[P]:
    """Ask for the password before something is shown; see proven()."""

    @wraps(view)
    def wrapped(request: MemberRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if is_proven(request):
            return view(request, *args, **kwargs)
        query = urlencode({"next": request.get_full_path()})
        return HttpResponseRedirect(f"{reverse('prove', args=[request.member.organization.slug])}?{query}")

    return _marked(wrapped)


def _marked[**P](view: Any) -> _View[P]:
    view.proven = True
    marked: _View[P] = view
    return marked


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.VIEWER)
def prove(request: MemberRequest) -> HttpResponseBase:
    """Ask for the password, and go on to where that was needed."""
    after = request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(after, allowed_hosts=None):
        after = reverse("overview", args=[request.member.organization.slug])
    if request.method == "POST":
        answer = _asked(request, request.get_full_path())
        return answer or HttpResponseRedirect(after)
    return _page(request, request.get_full_path(), ProofForm(request), HTTPStatus.OK)


def _asked(request: MemberRequest, action: str) -> HttpResponseBase | None:
    """Return the page that asks, None when the right password has come with the form."""
    form = ProofForm(request)
    try:
        if takes_password(request.user, form) and form.is_valid():
            note_proof(request)
            return None
    except TooManyProofsError:
        return ratelimit.respond_429(request)
    # 422 is what htmx puts into the dialog, whose form waits.
    return _page(request, action, form, HTTPStatus.UNPROCESSABLE_ENTITY)


def _page(request: MemberRequest, action: str, form: ProofForm, status: HTTPStatus) -> HttpResponse:
    waiting = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in {PASSWORD, PASSKEY, SIGNED_ON, "csrfmiddlewaretoken"}
        for value in values
    ]
    context = {
        "action": action,
        "form": form,
        "waiting": waiting,
        "minutes": settings.STEP_UP_MINUTES,
        "passkey": None if SignOnDomain.objects.requires(request.user.email) else challenge(request.user),
        "gives_password": uses_password(request.user),
        "signs_on_again": may_sign_on_again(request.user),
        "has_not_signed_on": SIGNED_ON in request.POST,
        # An action waits even where its form is empty.
        "waits": request.method == "POST" and request.path != reverse("prove", args=[request.member.organization.slug]),
        "after": request.GET.get("next", ""),
    }
    return page(request, "apikeys/prove.html", "", context, partial="dialog", status=status)
