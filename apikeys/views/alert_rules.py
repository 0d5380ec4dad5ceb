"""How an organization is told of alerts: the rules, when the digest comes, and what each member is mailed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apikeys.alert_forms import DigestForm, MailForm, RuleForm
from apikeys.alert_words import MEANING
from apikeys.evaluation.preview import Preview, preview
from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import (
    AlertKind,
    AlertMail,
    AlertRule,
    AlertRuleTerms,
    AlertSettings,
    Member,
    Role,
)
from apikeys.permissions import role_required
from apikeys.sending import send_test
from apikeys.time_zones import zone_names
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.revocation import GET_OR_POST


@require_safe
@role_required(Role.VIEWER)
def alert_rules(request: MemberRequest) -> HttpResponse:
    """Show what is looked for and who is told of it, a line a kind."""
    organization = request.member.organization
    settings = AlertSettings.objects.of(organization)
    context = {
        "rules": list(AlertRule.objects.of(organization).values()),
        "settings": settings,
        "next_digest": settings.next_digest(timezone.now()),
    }
    return page(request, "apikeys/alert_rules.html", "alerts", context)


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def alert_rule_edit(request: MemberRequest, rule: str) -> HttpResponse:
    """Change what a rule says, and show before that what it would have raised."""
    stored = _get_rule(request, rule)
    kind, asks = AlertKind(stored.kind), "preview" in request.GET
    form = RuleForm(request.GET if asks else posted(request), kind=kind, terms=stored.terms)
    if request.method == "POST" and form.is_valid():
        try:
            changed = stored.edit(form.terms, by=actor(request))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, f"{kind.label}: {'saved' if changed else 'nothing was changed'}.")
            return go_to(request, reverse("alert_rules", args=[request.member.organization.slug]))
    context = {
        "kind": kind,
        "rule": stored,
        "form": form,
        "meaning": MEANING[kind],
        "preview": _preview(request, form) if asks and form.is_valid() else None,
    }
    return page(
        request, "apikeys/alert_rule_edit.html", "alerts", context, partial="rule_preview", status=form_status(form)
    )


def _get_rule(request: MemberRequest, name: str) -> AlertRule:
    if name not in AlertKind.values:
        raise Http404
    return AlertRule.objects.one(request.member.organization, AlertKind(name))


def _preview(request: MemberRequest, form: RuleForm) -> Preview:
    return preview(request.member.organization, form.kind, form.terms, now=timezone.now())


@require_POST
@role_required(Role.ADMIN)
def alert_rule_reset(request: MemberRequest, rule: str) -> HttpResponse:
    """Let a rule say what is usual again."""
    stored = _get_rule(request, rule)
    kind = AlertKind(stored.kind)
    changed = stored.edit(AlertRuleTerms.usual(kind), by=actor(request))
    messages.success(request, f"{kind.label}: {'back to the usual' if changed else 'it says the usual already'}.")
    return go_to(request, reverse("alert_rules", args=[request.member.organization.slug]))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def alert_settings_edit(request: MemberRequest) -> HttpResponse:
    """Choose when the daily digest comes."""
    settings = AlertSettings.objects.of(request.member.organization)
    form = DigestForm(posted(request), settings=settings)
    if request.method == "POST" and form.is_valid():
        try:
            changed = settings.edit(**form.cleaned_data, by=actor(request))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            told = f"The digest comes at {settings.digest_hour:02}:00, {settings.digest_zone}."
            messages.success(request, told if changed else "Nothing was changed.")
            return go_to(request, reverse("alert_rules", args=[request.member.organization.slug]))
    context = {"form": form, "zones": zone_names()}
    status: HTTPStatus = form_status(form)
    return page(request, "apikeys/alert_settings_edit.html", "alerts", context, partial="dialog", status=status)


@require_http_methods(GET_OR_POST)
@role_required(Role.VIEWER)
def alert_mails(request: MemberRequest) -> HttpResponse:
    """Let a member choose which alerts to be mailed, and say of each kind whether they are and why."""
    member = request.member
    form = MailForm(posted(request), initial={"alert_mail": member.alert_mail})
    if request.method == "POST" and form.is_valid():
        changed = member.choose_alert_mail(AlertMail(form.cleaned_data["alert_mail"]), by=actor(request))
        messages.success(request, "Saved." if changed else "Nothing was changed.")
        return go_to(request, reverse("alert_mails", args=[member.organization.slug]))
    owned = member.owned_keys.filter(revoked_at__isnull=True).count()
    rules = AlertRule.objects.of(member.organization)
    context: dict[str, Any] = {
        "form": form,
        "member": member,
        "owned": owned,
        "lines": list(_mail_lines(member, owned, rules.values())),
        "settings": AlertSettings.objects.of(member.organization),
    }
    return page(request, "apikeys/alert_mails.html", "alerts", context, status=form_status(form))


@dataclass(frozen=True, slots=True)
class MailLine:
    """Whether a member is mailed the alerts of a kind, and why; ``of_owned`` of the keys that they own alone."""

    rule: AlertRule
    is_mailed: bool
    why: str
    of_owned: bool = False


def _mail_lines(member: Member, owned: int, rules: Any) -> Iterator[MailLine]:
    role, choice = Role(member.role), AlertMail(member.alert_mail)
    for rule in rules:
        by_role = bool(rule.role) and role.includes(Role(rule.role))
        as_owner = rule.to_owner and owned > 0
        if not rule.is_on:
            yield MailLine(rule, is_mailed=False, why="Nobody looks for these: the rule is off.")
        elif not by_role and not as_owner:
            yield MailLine(rule, is_mailed=False, why=_nobody_words(rule))
        elif not choice.wants(urgent=rule.is_urgent):
            told = "nothing" if choice == AlertMail.NONE else "urgent ones only"
            yield MailLine(rule, is_mailed=False, why=f"You chose {told}.")
        elif by_role:
            yield MailLine(rule, is_mailed=True, why=f"Your role is {role.label}.")
        else:
            keys = f"{owned:,} key{'' if owned == 1 else 's'}"
            yield MailLine(rule, is_mailed=True, why=f"You own {keys}; of others you are not told.", of_owned=True)


def _nobody_words(rule: AlertRule) -> str:
    told = {Role.ADMIN: "Admins", Role.OPERATOR: "Operators and admins"}.get(Role(rule.role)) if rule.role else None
    whom = f"{told} are mailed" if told else "No member is mailed by role"
    return f"{whom}, and each key's owner." if rule.to_owner else f"{whom}."


@require_POST
@role_required(Role.VIEWER)
def alert_mail_test(request: MemberRequest) -> HttpResponse:
    """Send the member a mail as alerts are sent, and say how that went."""
    email = request.user.email
    result = send_test(request.member.organization, email=email)
    if result.error:
        messages.error(request, f"The test failed: {result.error}")
    else:
        messages.success(request, f"A test was sent to {email}.")
    return go_to(request, reverse("alert_mails", args=[request.member.organization.slug]))
