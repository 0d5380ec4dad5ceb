"""Who belongs to the organization, and what they may do."""

from __future__ import annotations

from allauth.account.forms import ResetPasswordForm
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from apikeys.forms import MemberForm, MemberRemoveForm, RoleForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.models import LastAdminError, OwnsKeysError, Role, User
from apikeys.permissions import role_required
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.proving import proven

LAST_ADMIN = "An organization keeps at least one admin. Make somebody else an admin first."


@require_safe
@role_required(Role.VIEWER)
def member_list(request: MemberRequest) -> HttpResponse:
    """Show the members."""
    return _member_list(request, MemberForm())


def _member_list(request: MemberRequest, form: MemberForm) -> HttpResponse:
    members = request.member.organization.members.select_related("user").annotate(key_count=Count("owned_keys"))
    members = members.order_by("joined_at", "pk")  # a grouped query does not keep the model's order
    context = {"members": members, "form": form}
    return page(request, "apikeys/member_list.html", "members", context, status=form_status(form))


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def member_add(request: MemberRequest) -> HttpResponse:
    """Add a person by address; who has no account yet gets a mail to choose a password. The form is on the list."""
    if request.method != "POST":
        return redirect("member_list", request.member.organization.slug)
    organization = request.member.organization
    form = MemberForm(request.POST)
    if form.is_valid():
        email = form.cleaned_data["email"].lower()
        try:
            with transaction.atomic():
                user = User.objects.filter(email=email).first()
                is_new = user is None
                user = user or User.objects.create_user(email, name=form.cleaned_data["name"])
                organization.add_member(user, Role(form.cleaned_data["role"]), by=actor(request))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            if is_new:
                _invite(request, email)
            messages.success(request, f"{email} was added.")
            return go_to(request, reverse("member_list", args=[organization.slug]))
    return _member_list(request, form)


def _invite(request: MemberRequest, email: str) -> None:
    form = ResetPasswordForm({"email": email})
    if form.is_valid():
        form.save(request)


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def member_edit(request: MemberRequest, pk: int) -> HttpResponse:
    """Change a member's role."""
    member = get_object_or_404(request.member.organization.members.select_related("user", "organization"), pk=pk)
    form = RoleForm(posted(request), initial={"role": member.role})
    listing = reverse("member_list", args=[request.member.organization.slug])
    if form.is_valid():
        try:
            member.change_role(Role(form.cleaned_data["role"]), by=actor(request))
        except LastAdminError:
            form.add_error("role", LAST_ADMIN)
        else:
            messages.success(request, f"{member} is now {member.get_role_display()}.")
            return go_to(request, listing)
    context = {"member": member, "form": form, "cancel_url": listing}
    return page(request, "apikeys/member_form.html", "members", context, status=form_status(form))


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def member_remove(request: MemberRequest, pk: int) -> HttpResponse:
    """Take a person out of the organization and hand their keys over."""
    member = get_object_or_404(request.member.organization.members.select_related("user", "organization"), pk=pk)
    form = MemberRemoveForm(posted(request), member=member)
    listing = reverse("member_list", args=[request.member.organization.slug])
    if form.is_valid():
        try:
            member.remove(by=actor(request), keys_to=form.cleaned_data.get("keys_to"))
        except LastAdminError:
            form.add_error(None, LAST_ADMIN)
        except OwnsKeysError:
            form.add_error(None, "They own keys by now. Open this page again and choose who takes them.")
        else:
            messages.success(request, f"{member} was removed.")
            return go_to(request, listing)
    context = {
        "member": member,
        "form": form,
        "cancel_url": listing,
        "keys": member.owned_keys.for_pages()[:50],
    }
    return page(request, "apikeys/member_remove.html", "members", context, partial="dialog", status=form_status(form))
