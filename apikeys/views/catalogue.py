"""The catalogue of scopes, and the organization's environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from apikeys.forms import (
    ConfirmForm,
    EnvironmentEditForm,
    EnvironmentForm,
    ScopeEditForm,
    ScopeForm,
    add_verb_errors,
)
from apikeys.http import MemberRequest, actor
from apikeys.models import Environment, InUseError, Role, Scope
from apikeys.permissions import role_required
from apikeys.views.pages import form_status, go_to, page, posted

GET_OR_POST = ["GET", "HEAD", "POST"]


@require_safe
@role_required(Role.VIEWER)
def scope_list(request: MemberRequest) -> HttpResponse:
    """Show the scopes that keys can hold."""
    return _scope_list(request, ScopeForm())


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def scope_create(request: MemberRequest) -> HttpResponse:
    """Add a scope; its form is on the list."""
    if request.method != "POST":
        return redirect("scope_list", request.member.organization.slug)
    form = ScopeForm(request.POST)
    organization = request.member.organization
    if form.is_valid() and _saved(
        form,
        lambda: Scope.objects.add(Scope(organization=organization, **form.cleaned_data), by=actor(request)),
    ):
        messages.success(request, f"{form.cleaned_data['name']} was added.")
        return go_to(request, reverse("scope_list", args=[organization.slug]))
    return _scope_list(request, form)


def _scope_list(request: MemberRequest, form: ScopeForm) -> HttpResponse:
    # A grouped query does not keep the model's order.
    scopes = request.member.organization.scopes.annotate(key_count=Count("keys")).order_by("name")
    context = {"scopes": scopes, "form": form}
    return page(request, "apikeys/scope_list.html", "scopes", context, status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def scope_edit(request: MemberRequest, name: str) -> HttpResponse:
    """Change a scope's description."""
    scope = get_object_or_404(request.member.organization.scopes, name=name)
    form = ScopeEditForm(posted(request), initial=scope.values())
    listing = reverse("scope_list", args=[request.member.organization.slug])
    if form.is_valid() and _saved(form, lambda: scope.edit(by=actor(request), **form.cleaned_data)):
        messages.success(request, f"{scope.name} was saved.")
        return go_to(request, listing)
    context = {"form": form, "scope": scope, "cancel_url": listing}
    return page(request, "apikeys/scope_form.html", "scopes", context, status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def scope_delete(request: MemberRequest, name: str) -> HttpResponse:
    """Delete a scope that no key holds."""
    scopes = request.member.organization.scopes.annotate(key_count=Count("keys"))
    scope = get_object_or_404(scopes, name=name)
    listing = reverse("scope_list", args=[request.member.organization.slug])
    if request.method == "POST":
        return _removed(request, scope, listing)
    context = {"scope": scope, "form": ConfirmForm(), "cancel_url": listing}
    return page(request, "apikeys/scope_delete.html", "scopes", context, partial="dialog")


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def environment_create(request: MemberRequest) -> HttpResponse:
    """Add an environment of the organization's own."""
    organization = request.member.organization
    form = EnvironmentForm(posted(request))
    listing = reverse("organization_edit", args=[organization.slug])
    if form.is_valid() and _saved(
        form,
        lambda: Environment.objects.add(Environment(organization=organization, **form.cleaned_data), by=actor(request)),
    ):
        messages.success(request, f"{form.cleaned_data['name']} was added.")
        return go_to(request, listing)
    context = {"form": form, "environment": None, "cancel_url": listing}
    return page(request, "apikeys/environment_form.html", "settings", context, status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def environment_edit(request: MemberRequest, code: str) -> HttpResponse:
    """Change an environment's name and kind."""
    environment = get_object_or_404(request.member.organization.environments, code=code)
    form = EnvironmentEditForm(posted(request), initial=environment.values())
    listing = reverse("organization_edit", args=[request.member.organization.slug])
    if form.is_valid() and _saved(form, lambda: environment.edit(by=actor(request), **form.cleaned_data)):
        messages.success(request, f"{form.cleaned_data['name']} was saved.")
        return go_to(request, listing)
    context = {"form": form, "environment": environment, "cancel_url": listing}
    return page(request, "apikeys/environment_form.html", "settings", context, status=form_status(form))


@require_http_methods(GET_OR_POST)
@role_required(Role.ADMIN)
def environment_delete(request: MemberRequest, code: str) -> HttpResponse:
    """Delete an environment that no key was made for."""
    environments = request.member.organization.environments.annotate(key_count=Count("keys"))
    environment = get_object_or_404(environments, code=code)
    listing = reverse("organization_edit", args=[request.member.organization.slug])
    if request.method == "POST":
        return _removed(request, environment, listing)
    limits = environment.memberenvironment_set.count() + environment.invitationenvironment_set.count()
    context = {"environment": environment, "form": ConfirmForm(), "cancel_url": listing, "limit_count": limits}
    return page(request, "apikeys/environment_delete.html", "settings", context, partial="dialog")


def _saved(form: forms.Form, verb: Callable[[], Any]) -> bool:
    """Call a verb and put its faults on the form; say whether there were none."""
    try:
        verb()
    except ValidationError as error:
        add_verb_errors(form, error)
    return not form.errors


def _removed(request: MemberRequest, entry: Scope | Environment, listing: str) -> HttpResponse:
    try:
        entry.remove(by=actor(request))
    except InUseError:
        if entry.keys.exists():
            told = f"{entry.name} is part of a key, which may be a dead one; it stays."
        else:
            told = f"An operator is limited to {entry.name}, or invited for it: change that under Members first."
        messages.error(request, told)
    else:
        messages.success(request, f"{entry.name} was deleted.")
    return go_to(request, listing)
