"""Single sign-on: to the provider and back."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import get_next_redirect_url, perform_login
from allauth.core import ratelimit
from allauth.socialaccount.internal import statekit
from django.conf import settings
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from apikeys.accounts import record_of_person
from apikeys.http import actor
from apikeys.identity_provider import Provider, ProviderError, is_on
from apikeys.models import (
    Actor,
    Asserted,
    AuditAction,
    AuditEntry,
    Refusal,
    SignOnIdentity,
    SignOnRefusedError,
    User,
)
from apikeys.permissions import public
from apikeys.single_sign_on import SIGN_ON
from apikeys.step_up import note_proof

logger = logging.getLogger(__name__)
_LOGIN: Final = "login"
_PROVE: Final = "prove"
# In another tab than the page whose form waits for the proof.
_PROVE_BESIDE: Final = "prove-beside"
# The provider's clock, and ours, may be off by so much.
_SKEW: Final = timedelta(seconds=60)


@never_cache
@require_POST
@public(because="people sign in by it")
def sign_on(request: HttpRequest) -> HttpResponseBase:
    """Send a person to the provider, by a page that goes on by itself.

    A redirect would be an answer to a form, and the policy of our pages lets forms lead nowhere else. Who signs people
    in may lead on to yet other addresses, which nobody could list.
    """
    if not is_on():
        raise Http404
    if not ratelimit.consume(request, action="login"):
        return ratelimit.respond_429(request)
    process = request.POST.get("process", _LOGIN)
    if process not in {_PROVE, _PROVE_BESIDE} or not isinstance(request.user, User):
        process = _LOGIN
    try:
        address = Provider(request).address_for(
            request, process, next_url=get_next_redirect_url(request) or "", again=process != _LOGIN
        )
    except ProviderError as error:
        return _failed(request, error)
    response = render(request, "account/sign_on.html", {"address": address, "host": urlsplit(address).netloc})
    response["Refresh"] = f"0;url={address}"
    return response


@never_cache
@require_GET
@public(because="people come back to it when they sign in")
def sign_on_return(request: HttpRequest) -> HttpResponseBase:
    """Sign in whom the provider names, or take it as a proof that it is them."""
    if not is_on():
        raise Http404
    state = statekit.unstash_state(request, provider_id=settings.OIDC_ISSUER, state_id=request.GET.get("state", ""))
    if state is None:
        return _page(request, "stale", HTTPStatus.BAD_REQUEST)
    if request.GET.get("error") == "access_denied":
        return _page(request, "cancelled", HTTPStatus.OK)
    try:
        if "code" not in request.GET or request.GET.get("iss", settings.OIDC_ISSUER) != settings.OIDC_ISSUER:
            raise ProviderError("it sent no code")
        person = Provider(request).get_oauth2_adapter(request).redeem(request, state)
    except ProviderError as error:
        return _failed(request, error)
    if state["process"] == _LOGIN:
        return _let_in(request, person, state.get("next") or None)
    return _take_proof(request, person, state)


def _let_in(request: HttpRequest, person: Asserted, after: str | None) -> HttpResponseBase:
    """Sign in whom the provider names, or say uniformly that it opens nothing here."""
    # What is no address may hold what no database takes.
    by = replace(actor(request), label=person.email if person.is_address else "nobody", user=None)
    try:
        user = SignOnIdentity.objects.admit(person, by=by)
    except SignOnRefusedError as refused:
        _record(AuditAction.SIGN_IN_FAILED, refused, by)
        kind = "unverified" if refused.why == Refusal.UNVERIFIED else "refused"
        return _page(request, kind, HTTPStatus.FORBIDDEN)
    if isinstance(request.user, User) and request.user != user:
        get_adapter(request).logout(request)
    record_authentication(request, user, "socialaccount", provider=person.issuer, uid=person.subject)
    response: HttpResponseBase = perform_login(request, user, redirect_url=after)
    # As with a password: the browser keeps it until it is closed.
    request.session.set_expiry(0)
    return response


def _take_proof(request: HttpRequest, person: Asserted, state: dict[str, Any]) -> HttpResponseBase:
    """Take it as a proof when it is whoever is signed in here, and they have signed in there just now."""
    user, began = request.user, datetime.fromtimestamp(state["data"]["began"], UTC)
    if not isinstance(user, User):
        return _page(request, "stale", HTTPStatus.BAD_REQUEST)
    is_them = user.sign_on_identities.filter(issuer=person.issuer, subject=person.subject).exists()
    is_fresh = person.authenticated_at is not None and person.authenticated_at >= began - _SKEW
    action = AuditAction.PROOF if is_them and is_fresh else AuditAction.PROOF_FAILED
    record_of_person(action, user, actor(request), reason=SIGN_ON)
    if not is_them or not is_fresh:
        return _page(request, "somebody-else" if not is_them else "not-fresh", HTTPStatus.FORBIDDEN)
    note_proof(request)
    if state["process"] == _PROVE_BESIDE:
        return render(request, "account/sign_on_proven.html")
    return HttpResponseRedirect(state.get("next") or reverse("home"))


def _record(action: AuditAction, refused: SignOnRefusedError, by: Actor) -> None:
    reason = f"{SIGN_ON}: {refused.why.label}"
    with transaction.atomic():
        if refused.user or not refused.organization:
            record_of_person(action, refused.user, by, reason=reason)
        else:
            AuditEntry.objects.record(action, by=by, organization=refused.organization, reason=reason)


def _failed(request: HttpRequest, error: ProviderError) -> HttpResponse:
    # What was received is in no log: it may hold a code, a token or a name.
    logger.warning("Single sign-on at %s failed: %s", urlsplit(settings.OIDC_ISSUER).hostname, error)
    return _page(request, "failed", HTTPStatus.BAD_GATEWAY)


def _page(request: HttpRequest, kind: str, status: HTTPStatus) -> HttpResponse:
    return render(request, "account/sign_on_failed.html", {"kind": kind}, status=status)
