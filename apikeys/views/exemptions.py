"""Letting a key be silent for a time, and ending that: so that it does not count as unused."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods

from apikeys.forms import ExemptionEndForm, ExemptionForm, add_verb_errors, show_change
from apikeys.http import MemberRequest, actor
from apikeys.models import ApiKey, KeyExemption, KeyExpiredError, KeyRevokedError, Role, StaleExemptionError
from apikeys.permissions import in_reach, role_required
from apikeys.views.pages import form_status, get_key, go_to, page, posted

GET_OR_POST = ["GET", "HEAD", "POST"]


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
def key_exempt(request: MemberRequest, public_id: str) -> HttpResponse:
    """Ask who answers for a key's silence, why, and until when; then let it be silent."""
    key = get_key(request, public_id)
    if key.is_dead:
        return _dead(request, key)
    form = ExemptionForm(posted(request), key=key, member=request.member)
    if form.is_valid():
        try:
            KeyExemption.objects.grant(key, form.terms, by=actor(request), seen=form.cleaned_data["seen"])
        except (KeyRevokedError, KeyExpiredError):
            return _dead(request, get_key(request, public_id))
        except StaleExemptionError:
            key = get_key(request, public_id)
            show_change(form, key.exemption_version, _changed(key))
        except ValidationError as error:
            add_verb_errors(form, error, {"until": "until_on"})
        else:
            messages.success(request, f"{key.name} may be silent until {form.terms.until:%-d %b %Y}.")
            return go_to(request, key.get_absolute_url())
    context = {"key": key, "form": form}
    return page(request, "apikeys/key_exempt.html", "keys", context, partial="dialog", status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_key)
def key_exempt_end(request: MemberRequest, public_id: str) -> HttpResponse:
    """Show what a key's exemption says; when that is confirmed, end it."""
    key = get_key(request, public_id)
    exemption = key.exemption_now
    if exemption is None:
        return _over(request, key)
    form = ExemptionEndForm(posted(request), initial={"seen": exemption.changed_at})
    if form.is_valid():
        try:
            ended = exemption.end(by=actor(request), seen=form.cleaned_data["seen"])
        except StaleExemptionError:
            key = get_key(request, public_id)
            show_change(form, key.exemption_version, _changed(key))
        else:
            if not ended:
                return _over(request, key)
            messages.success(request, f"The exemption of {key.name} is ended.")
            return go_to(request, key.get_absolute_url())
    context = {"key": key, "form": form, "exemption": key.exemption_now}
    return page(request, "apikeys/key_exempt_end.html", "keys", context, partial="dialog", status=form_status(form))


def _dead(request: MemberRequest, key: ApiKey) -> HttpResponse:
    messages.error(request, f"{key.name} is {key.status}: nobody expects it to be used, so it cannot be exempted.")
    return go_to(request, key.get_absolute_url())


def _over(request: MemberRequest, key: ApiKey) -> HttpResponse:
    messages.warning(request, f"{key.name} has no exemption that runs; nothing was changed.")
    return go_to(request, key.get_absolute_url())


def _changed(key: ApiKey) -> str:
    """Say what somebody did to a key's exemption since the form was opened."""
    exemption = getattr(key, "exemption", None)
    if exemption is None:
        return "Its exemption was removed since you opened this form. Look again, then save."
    who = exemption.changed_by_label
    if not exemption.is_running:
        return f"Its exemption ended since you opened this form ({who}). Look again, then save."
    told = f"until {exemption.until:%-d %b %Y}, {exemption.owner} answers for it: “{exemption.reason}”"
    return f"{who} changed its exemption since you opened this form: {told}. Compare, then save again."
