"""Exempting a key from a rule of the policy, ending that, and the list of those that run."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Final

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_safe

from apikeys.forms import ExemptionEndForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    ApiKey,
    KeyExpiredError,
    KeyRevokedError,
    Policy,
    PolicyExemption,
    PolicyRule,
    Role,
    StaleExemptionError,
)
from apikeys.paging import BadCursorError, Column, Ordered, Page, changed_url, take_page
from apikeys.permissions import role_required
from apikeys.policy_forms import PolicyExemptionForm
from apikeys.policy_words import FACET_OF, asked
from apikeys.views.pages import form_status, get_key, go_to, page, posted
from apikeys.views.proving import proven
from apikeys.views.revocation import GET_OR_POST

ORDER: Final = [Column("until", datetime), Column("id", int)]


@require_safe
@role_required(Role.VIEWER)
def policy_exemptions(request: MemberRequest) -> HttpResponse:
    """Show the exemptions that run, those that end first on top."""
    exemptions = request.member.organization.policy_exemptions.running().for_pages()
    found, bad_cursor = Page[PolicyExemption]([], ""), False
    try:
        found = take_page([Ordered(exemptions, ORDER)], request.GET.get("after", ""))
    except BadCursorError:
        bad_cursor = True
    context = {
        "exemptions": [(one, FACET_OF[PolicyRule(one.rule)]) for one in found.rows],
        "bad_cursor": bad_cursor,
        "clear_url": request.path,
        "next_url": changed_url(request.path, request.GET, after=found.cursor) if found.cursor else "",
        "first_url": request.path if request.GET.get("after") else "",
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if bad_cursor else HTTPStatus.OK
    return page(
        request, "apikeys/policy_exemptions.html", "policies", context, partial="exemption_table", status=status
    )


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
@proven
def policy_exempt(request: MemberRequest, public_id: str, rule: str) -> HttpResponse:
    """Ask why a key may violate a rule, and until when; then let it."""
    key, asked_rule = get_key(request, public_id), _rule(rule)
    if key.is_dead:
        return _dead(request, key)
    form = PolicyExemptionForm(posted(request), key=key, rule=asked_rule)
    if form.is_valid():
        seen = form.cleaned_data["seen"]
        try:
            PolicyExemption.objects.grant(key, asked_rule, form.terms, by=actor(request), seen=seen)
        except (KeyRevokedError, KeyExpiredError):
            return _dead(request, get_key(request, public_id))
        except StaleExemptionError:
            _show_change(form, key, asked_rule)
        except ValidationError as error:
            add_verb_errors(form, error, {"until": "until_on"})
        else:
            told = f"{key.name} is exempt until {form.terms.until:%-d %b %Y}: {FACET_OF[asked_rule].label.lower()}."
            messages.success(request, told)
            return go_to(request, _after(request, key))
    context = {"key": key, "form": form, **_rule_context(request, asked_rule)}
    return page(request, "apikeys/policy_exempt.html", "keys", context, partial="dialog", status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
@proven
def policy_exempt_end(request: MemberRequest, public_id: str, rule: str) -> HttpResponse:
    """Show what an exemption says; when that is confirmed, end it."""
    key, asked_rule = get_key(request, public_id), _rule(rule)
    exemption = get_object_or_404(key.policy_exemptions.for_pages(), rule=asked_rule)
    if not exemption.is_running:
        return _over(request, key)
    form = ExemptionEndForm(posted(request), initial={"seen": exemption.changed_at})
    if form.is_valid():
        try:
            ended = exemption.end(by=actor(request), seen=form.cleaned_data["seen"])
        except StaleExemptionError:
            _show_change(form, key, asked_rule)
            exemption.refresh_from_db()
        else:
            if not ended:
                return _over(request, key)
            messages.success(request, f"The exemption of {key.name} is ended: {FACET_OF[asked_rule].label.lower()}.")
            return go_to(request, _after(request, key))
    context = {"key": key, "form": form, "exemption": exemption, **_rule_context(request, asked_rule)}
    return page(request, "apikeys/policy_exempt_end.html", "keys", context, partial="dialog", status=form_status(form))


def _rule(name: str) -> PolicyRule:
    if name not in PolicyRule.values:
        raise Http404
    return PolicyRule(name)


def _rule_context(request: MemberRequest, rule: PolicyRule) -> dict[str, object]:
    organization, facet = request.member.organization, FACET_OF[rule]
    terms = Policy.objects.of(organization).full_terms()
    is_on = rule in terms.rules
    return {
        "rule": rule,
        "facet": facet,
        "asked": asked(facet, terms, organization) if is_on else "",
        "next": _next(request),
    }


def _next(request: MemberRequest) -> str:
    """Return to where one goes on afterwards, within these pages; empty for the key's page."""
    after = request.POST.get("next") or request.GET.get("next", "")
    mine = f"/{request.member.organization.slug}/"
    return after if after.startswith(mine) and url_has_allowed_host_and_scheme(after, allowed_hosts=None) else ""


def _after(request: MemberRequest, key: ApiKey) -> str:
    return _next(request) or key.get_absolute_url()


def _dead(request: MemberRequest, key: ApiKey) -> HttpResponse:
    messages.error(request, f"{key.name} is {key.status}: a policy asks nothing of it any more.")
    return go_to(request, key.get_absolute_url())


def _over(request: MemberRequest, key: ApiKey) -> HttpResponse:
    messages.warning(request, f"{key.name} has no such exemption that runs; nothing was changed.")
    return go_to(request, key.get_absolute_url())


def _show_change(form: PolicyExemptionForm | ExemptionEndForm, key: ApiKey, rule: PolicyRule) -> None:
    """Say what somebody did to the exemption since a form was opened, and let it be sent again, having seen that."""
    now = key.policy_exemptions.filter(rule=rule).first()
    if now is None:
        told = "The exemption was removed since you opened this form. Look again, then save."
    elif not now.is_running:
        told = f"The exemption ended since you opened this form ({now.changed_by_label}). Look again, then save."
    else:
        said = f"until {now.until:%-d %b %Y}: “{now.reason}”"
        told = f"{now.changed_by_label} changed the exemption since you opened this form, {said}. Compare, then save."
    form.add_error(None, told)
    seen = now.changed_at.isoformat() if now else ""
    form.data = {**dict(form.data.items()), "seen": seen}
