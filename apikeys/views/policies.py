"""What the organization asks of its keys, and what a change of that means for the keys that there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import ApiKey, Policy, PolicyRule, PolicyTerms, Role, StalePolicyError
from apikeys.models.policy import digest
from apikeys.paging import BadCursorError, Column, Ordered, Page, changed_url, count_text, take_page
from apikeys.permissions import role_required
from apikeys.policy_forms import PolicyForm
from apikeys.policy_words import FACET_OF, FACETS, asked, facet_changes
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.proving import proven

ORDER: Final = [Column("id", int, descending=True)]
NAMED: Final = 5


@require_safe
@role_required(Role.VIEWER)
def policies(request: MemberRequest) -> HttpResponse:
    """Show what the organization asks of its keys, and how many do not do so."""
    organization = request.member.organization
    policy, now = Policy.objects.of(organization), timezone.now()
    terms = policy.full_terms()
    counts = organization.keys.count_violations(terms, organization, now)
    told: dict[PolicyRule | None, int] = dict(counts.items())
    rows = [
        {"facet": facet, "asked": asked(facet, terms, organization), "count": told.get(facet.rule)} for facet in FACETS
    ]
    context = {
        "policy": policy,
        "rows": rows,
        "any": any(counts.values()),
        "exempt": count_text(organization.policy_exemptions.running()),
    }
    return page(request, "apikeys/policies.html", "policies", context)


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def policy_edit(request: MemberRequest) -> HttpResponse:
    """Ask for what the policy is to be; what was looked at before is switched on."""
    organization = request.member.organization
    policy = Policy.objects.of(organization)
    terms = policy.full_terms()
    form = PolicyForm(posted(request), organization=organization, terms=terms)
    if form.is_valid():
        count = sum(_violations(request, terms, form.terms).values())
        if count > (form.cleaned_data["violations"] or 0):
            told = "More keys violate this than the page said. Look at them, then switch it on."
            return _preview(request, policy, terms, form, told)
        try:
            changed = policy.edit(form.terms, by=actor(request), seen=form.cleaned_data["seen"] or None)
        except StalePolicyError:
            policy = Policy.objects.of(organization)
            return _preview(request, policy, policy.full_terms(), form, _changed(policy))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, "The policy was saved." if changed else "The policy says so already.")
            return go_to(request, reverse("policies", args=[organization.slug]))
    return _form_page(request, policy, form)


def _form_page(request: MemberRequest, policy: Policy, form: PolicyForm) -> HttpResponse:
    context = {"policy": policy, "form": form}
    return page(request, "apikeys/policy_edit.html", "policies", context, status=form_status(form))


def _changed(policy: Policy) -> str:
    who = policy.changed_by_label or "Somebody"
    return f"{who} changed the policy since you opened this form. Compare, then switch it on."


@require_safe
@role_required(Role.ADMIN)
def policy_preview(request: MemberRequest) -> HttpResponse:
    """Show which keys violate what the policy is to be, before it is switched on."""
    organization = request.member.organization
    policy = Policy.objects.of(organization)
    terms = policy.full_terms()
    form = PolicyForm(request.GET, organization=organization, terms=terms)
    return _preview(request, policy, terms, form) if form.is_valid() else _form_page(request, policy, form)


def _changed_rules(old: PolicyTerms, new: PolicyTerms) -> list[PolicyRule]:
    """Return the rules that say something else than before."""
    before, after = old.facts(), new.facts()
    return [rule for rule in new.rules if before[FACET_OF[rule].fact] != after[FACET_OF[rule].fact]]


def _violations(request: MemberRequest, old: PolicyTerms, new: PolicyTerms) -> dict[PolicyRule, int]:
    """Count the keys that violate each rule that says something else than before."""
    organization = request.member.organization
    if not (rules := _changed_rules(old, new)):
        return {}
    counts: dict[PolicyRule, int] = organization.keys.count_violations(new, organization, timezone.now(), *rules)
    return counts


def _preview(
    request: MemberRequest, policy: Policy, terms: PolicyTerms, form: PolicyForm, told: str = ""
) -> HttpResponse:
    organization, new, now = request.member.organization, form.terms, timezone.now()
    counts = _violations(request, terms, new)
    query = request.GET if request.method != "POST" else request.POST
    asked_for = query.get("rule", "")
    rule = PolicyRule(asked_for) if asked_for in counts else None
    found, bad_cursor = Page[ApiKey]([], ""), False
    if rule:
        keys = organization.keys.violating(new, organization, now, rule).select_related("environment", "owner__user")
        try:
            found = take_page([Ordered(keys, ORDER)], query.get("after", ""))
        except BadCursorError:
            bad_cursor = True
    path = reverse("policy_preview", args=[organization.slug])
    context = {
        "policy": policy,
        "form": form,
        "told": told,
        "changes": list(facet_changes(terms, new, organization)),
        "groups": list(_groups(request, new, counts, now)) if rule is None else [],
        "rule": rule,
        "facet": FACET_OF[rule] if rule else None,
        "keys": found.rows,
        "bad_cursor": bad_cursor,
        "total": sum(counts.values()),
        "seen": digest(terms),
        "carried": form.carried(),
        "back_url": changed_url(path, query, rule=None),
        "edit_url": reverse("policy_edit", args=[organization.slug]),
        "next_url": changed_url(path, query, after=found.cursor) if found.cursor else "",
        "first_url": changed_url(path, query) if query.get("after") else "",
        "here": request.get_full_path() if request.method != "POST" else "",
        "unused": _unused(request, terms, new, now),
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if told or bad_cursor else HTTPStatus.OK
    return page(request, "apikeys/policy_preview.html", "policies", context, status=status)


def _groups(
    request: MemberRequest, new: PolicyTerms, counts: dict[PolicyRule, int], now: datetime
) -> Iterator[dict[str, Any]]:
    """Yield each rule that says something else, how many keys violate it, and the newest of them."""
    organization = request.member.organization
    path, query = reverse("policy_preview", args=[organization.slug]), request.GET
    for rule, count in counts.items():
        keys = organization.keys.violating(new, organization, now, rule).select_related("environment", "owner__user")
        named = list(keys.order_by("-id")[:NAMED]) if count else []
        url = changed_url(path, query, rule=rule) if count > NAMED else ""
        yield {"rule": rule, "facet": FACET_OF[rule], "count": count, "keys": named, "url": url}


def _unused(request: MemberRequest, old: PolicyTerms, new: PolicyTerms, now: datetime) -> dict[str, str] | None:
    """Return how many keys count as unused, and how many would; None where nothing changes."""
    if old.unused_after_days == new.unused_after_days:
        return None
    organization = request.member.organization
    usual = organization.usual_unused_after
    days = [terms.unused_after_days or usual for terms in (old, new)]
    before, after = (count_text(organization.keys.unused(now, some)) for some in days)
    return {"before": before, "after": after}
