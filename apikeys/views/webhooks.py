"""Webhooks: who is told of alerts by HTTP, and how that is proven."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import BadRequest, ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import Role, Webhook, WebhookFormat
from apikeys.permissions import role_required
from apikeys.sending import send_test
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.proving import proven
from apikeys.views.revocation import GET_OR_POST
from apikeys.webhook_forms import WebhookForm


@require_safe
@role_required(Role.OPERATOR)
def webhook_list(request: MemberRequest) -> HttpResponse:
    """Show the organization's webhooks."""
    context = {"webhooks": list(request.member.organization.webhooks.all())}
    return page(request, "apikeys/webhook_list.html", "alerts", context)


def get_webhook(request: MemberRequest, number: int) -> Webhook:
    """Return a webhook of the member's organization; anybody else's is a 404."""
    if number >= 2**63:
        raise Http404
    mine = Webhook.objects.select_related("organization").filter(organization=request.member.organization)
    found: Webhook = get_object_or_404(mine, pk=number)
    return found


@require_safe
@role_required(Role.OPERATOR)
def webhook_detail(request: MemberRequest, number: int) -> HttpResponse:
    """Show how a webhook is doing, and what it was told last."""
    webhook = get_webhook(request, number)
    recent = webhook.deliveries.select_related("webhook", "event__alert")[:10]
    return page(request, "apikeys/webhook_detail.html", "alerts", {"webhook": webhook, "deliveries": recent})


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
@proven
def webhook_create(request: MemberRequest) -> HttpResponse:
    """Add a webhook; its signing secret is shown once."""
    form = WebhookForm(posted(request), allowed=settings.WEBHOOK_ALLOWED_NETWORKS)
    if request.method == "POST" and form.is_valid():
        webhook = Webhook(organization=request.member.organization, **form.cleaned_data)
        try:
            webhook.create(by=actor(request))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            return page(request, "apikeys/webhook_secret.html", "alerts", {"webhook": webhook, "is_new": True})
    return page(request, "apikeys/webhook_form.html", "alerts", {"form": form}, status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
@proven
def webhook_edit(request: MemberRequest, number: int) -> HttpResponse:
    """Change a webhook."""
    webhook = get_webhook(request, number)
    form = WebhookForm(posted(request), webhook=webhook, allowed=settings.WEBHOOK_ALLOWED_NETWORKS)
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data
        try:
            webhook.edit(**{**chosen, "format": WebhookFormat(chosen["format"])}, by=actor(request))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, f"{webhook.name} was saved.")
            return go_to(request, webhook.get_absolute_url())
    context = {"form": form, "webhook": get_webhook(request, number)}
    return page(request, "apikeys/webhook_form.html", "alerts", context, status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
@proven
def webhook_rotate(request: MemberRequest, number: int) -> HttpResponse:
    """Make a new signing secret, shown once; the old one signs beside it for a day."""
    webhook = get_webhook(request, number)
    if request.method == "POST":
        webhook.rotate_secret(by=actor(request))
        return page(request, "apikeys/webhook_secret.html", "alerts", {"webhook": webhook, "is_new": False})
    context = {"webhook": webhook}
    return page(request, "apikeys/webhook_rotate.html", "alerts", context, partial="dialog")


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
@proven
def webhook_delete(request: MemberRequest, number: int) -> HttpResponse:
    """Delete a webhook, with what it was to be told."""
    webhook = get_webhook(request, number)
    if request.method == "POST":
        webhook.remove(by=actor(request))
        messages.success(request, f"{webhook.name} was deleted.")
        return go_to(request, reverse("webhook_list", args=[request.member.organization.slug]))
    return page(request, "apikeys/webhook_delete.html", "alerts", {"webhook": webhook}, partial="dialog")


@require_POST
@role_required(Role.ADMIN)
@proven
def webhook_switch(request: MemberRequest, number: int) -> HttpResponse:
    """Switch a webhook on or off, as the form says."""
    webhook = get_webhook(request, number)
    if request.POST.get("to") not in {"on", "off"}:
        raise BadRequest
    if request.POST["to"] == "on":
        webhook.switch_on(by=actor(request))
        messages.success(request, f"{webhook.name} is told of what happens from now on.")
    else:
        webhook.switch_off(by=actor(request))
        messages.success(request, f"{webhook.name} is told of nothing any more.")
    return go_to(request, webhook.get_absolute_url())


@require_POST
@role_required(Role.ADMIN)
def webhook_test(request: MemberRequest, number: int) -> HttpResponse:
    """Send a test at once, and say how it went."""
    webhook = get_webhook(request, number)
    result = send_test(webhook.organization, webhook=webhook)
    if result.error:
        messages.error(request, f"The test failed: {result.error}")
    else:
        messages.success(request, f"The test was accepted with {result.status}.")
    return go_to(request, webhook.get_absolute_url())
