"""Taking alerts in hand and ending them: one, or several at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from apikeys import alert_code
from apikeys.alert_filters import AlertFilter
from apikeys.alert_forms import AcknowledgeForm, ResolveForm
from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import Actor, Alert, AlertOverError, Role, StaleAlertError
from apikeys.models.alert import MOST_AT_ONCE
from apikeys.permissions import in_reach, role_required
from apikeys.views.alerts import get_alert
from apikeys.views.pages import form_status, go_to, page, parted_by_reach, posted
from apikeys.views.revocation import GET_OR_POST

# What the verb calls it, and the form.
FORM_FIELDS: Final = {"until": "until_on"}


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_alert)
def alert_acknowledge(request: MemberRequest, number: int) -> HttpResponse:
    """Ask until when somebody has an alert in hand, and say so."""
    alert = get_alert(request, number)
    if alert.resolved_at:
        return _over(request, alert)
    form = AcknowledgeForm(posted(request), seen=alert.version)
    if request.method == "POST" and form.is_valid():
        try:
            alert.acknowledge(until=form.end, by=actor(request), seen=form.cleaned_data["seen"])
        except AlertOverError:
            return _over(request, get_alert(request, number))
        except StaleAlertError:
            alert = get_alert(request, number)
            form.add_error(None, _acknowledged_words(alert))
            form.data = {**dict(form.data.items()), "seen": alert.version.isoformat()}
        except ValidationError as error:
            add_verb_errors(form, error, FORM_FIELDS)
        else:
            messages.success(request, f"{alert.code} is acknowledged until {_when(form.end)}.")
            return go_to(request, alert.get_absolute_url())
    context = {"alert": alert, "form": form}
    return page(
        request, "apikeys/alert_acknowledge.html", "alerts", context, partial="dialog", status=form_status(form)
    )


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach(get_alert)
def alert_resolve(request: MemberRequest, number: int) -> HttpResponse:
    """Ask what was found or done, and end an alert."""
    alert = get_alert(request, number)
    if alert.resolved_at:
        return _over(request, alert)
    form = ResolveForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            alert.resolve(note=form.cleaned_data["note"], by=actor(request))
        except AlertOverError:
            return _over(request, get_alert(request, number))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, f"{alert.code} is resolved.")
            return go_to(request, alert.get_absolute_url())
    context = {"alert": alert, "form": form}
    return page(request, "apikeys/alert_resolve.html", "alerts", context, partial="dialog", status=form_status(form))


def _over(request: MemberRequest, alert: Alert) -> HttpResponse:
    """Say on the alert's page that it is resolved already: somebody was quicker, or its cause went away."""
    messages.warning(request, f"{alert.code} is resolved already; nothing was changed. {_over_words(alert)}")
    return go_to(request, alert.get_absolute_url())


def _over_words(alert: Alert) -> str:
    who = f"{alert.resolved_by_label} wrote" if alert.resolved_by_label else "It ended by itself"
    return f"{who}: “{alert.resolution}”"


def _acknowledged_words(alert: Alert) -> str:
    if alert.acknowledged_until and alert.acknowledged_by:
        told = f"{alert.acknowledged_by.email} acknowledged it until {_when(alert.acknowledged_until)}"
        return f"{told} since you opened this. Save again?"
    return "It was opened again since you opened this. Save again?"


def _when(at: datetime) -> str:
    return f"{timezone.localtime(at):%-d %B, %H:%M}"


type Verb = Callable[[list[Alert], Actor], list[Alert]]


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach()
def alert_bulk_acknowledge(request: MemberRequest) -> HttpResponse:
    """Acknowledge several alerts at once, selected or filtered; each that is over is left out with its reason."""
    form = AcknowledgeForm(posted(request), seen=timezone.now())

    def acknowledge(alerts: list[Alert], by: Actor) -> list[Alert]:
        return Alert.objects.acknowledge_all(alerts, until=form.end, by=by)

    return _bulk(request, form, acknowledge, "acknowledged", "apikeys/alert_bulk_acknowledge.html")


@require_http_methods(GET_OR_POST)
@role_required(Role.OPERATOR)
@in_reach()
def alert_bulk_resolve(request: MemberRequest) -> HttpResponse:
    """Resolve several alerts at once, selected or filtered; each that is over is left out with its reason."""
    form = ResolveForm(posted(request))

    def resolve(alerts: list[Alert], by: Actor) -> list[Alert]:
        return Alert.objects.resolve_all(alerts, note=form.cleaned_data["note"], by=by)

    return _bulk(request, form, resolve, "resolved", "apikeys/alert_bulk_resolve.html")


def _bulk(request: MemberRequest, form: forms.Form, verb: Verb, done: str, template: str) -> HttpResponse:
    listing = reverse("alert_list", args=[request.member.organization.slug])
    chosen, fault = _chosen(request)
    seen = form.cleaned_data.get("seen") if form.is_valid() else None
    mine, outside = parted_by_reach(request, chosen)
    left_out = outside + [(alert, told) for alert in mine if (told := _left_out(alert, seen))]
    over = {alert for alert, _ in left_out}
    kept = [alert for alert in chosen if alert not in over]
    if fault or not kept:
        told = " ".join(dict.fromkeys(told for _, told in left_out[:3]))
        messages.warning(request, fault or f"Nothing was changed. {told}")
        return go_to(request, listing)
    if request.method == "POST" and form.is_valid():
        try:
            changed = verb(kept, actor(request))
        except ValidationError as error:
            add_verb_errors(form, error, FORM_FIELDS)
        else:
            _tell(request, changed, len(chosen) - len(changed), done)
            return go_to(request, listing)
    context = {"alerts": kept, "left_out": left_out, "form": form, "cancel_url": listing}
    return page(request, template, "alerts", context, partial="dialog", status=form_status(form))


def _left_out(alert: Alert, seen: datetime | None) -> str:
    """Say why one of several alerts is not changed: it is over, or somebody acknowledged it since the form was made."""
    if alert.resolved_at:
        return _over_words(alert)
    if seen and alert.acknowledged_at and alert.acknowledged_at > seen and alert.acknowledged_until:
        who = alert.acknowledged_by.email if alert.acknowledged_by else "Somebody"
        return f"{who} acknowledged it meanwhile, until {_when(alert.acknowledged_until)}."
    return ""


def _tell(request: MemberRequest, changed: list[Alert], left_out: int, done: str) -> None:
    many = len(changed)
    told = f"{many} alert{' is' if many == 1 else 's are'} {done}."
    rest = f" {left_out} left out." if left_out else ""
    (messages.success if changed else messages.warning)(request, told + rest)


def _chosen(request: MemberRequest) -> tuple[list[Alert], str]:
    """Return the alerts that a request names, or else those that its filters keep, and what is wrong with them."""
    query = request.POST if request.method == "POST" else request.GET
    every = request.member.organization.alerts.for_pages()
    codes = list(dict.fromkeys(query.getlist("alert")))
    if codes:
        if len(codes) > MOST_AT_ONCE:
            return [], f"At most {MOST_AT_ONCE} alerts can be changed at once; {len(codes)} were selected."
        numbers = {alert_code.decode(code) or 0 for code in codes}  # no alert has the number 0
        found = list(every.filter(pk__in=numbers))
        is_whole = len(found) == len(numbers)
        return found, "" if is_whole else "One of the selected alerts does not exist. Nothing was changed."
    if request.method == "POST" or "all" not in query:
        return [], "No alert was selected."
    return _filtered(request)


def _filtered(request: MemberRequest) -> tuple[list[Alert], str]:
    query = QueryDict(mutable=True)
    for name in AlertFilter.base_filters:
        query.setlist(name, request.GET.getlist(name))
    listing = AlertFilter(query, queryset=request.member.organization.alerts.for_pages(), request=request)
    if not listing.is_valid():
        return [], "These filters make no sense."
    found: list[Alert] = []
    for part in listing.parts():
        found += part.in_order().filter(resolved_at__isnull=True)[: MOST_AT_ONCE + 1 - len(found)]
    if len(found) > MOST_AT_ONCE:
        return [], f"More than {MOST_AT_ONCE} alerts match; at most so many can be changed at once. Filter further."
    return found, "" if found else "No open alert matches these filters."
