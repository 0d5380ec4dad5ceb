"""Who belongs to the organization, and what they may do."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from apikeys.forms import MemberRemoveForm, add_verb_errors
from apikeys.http import MemberRequest, actor
from apikeys.member_forms import InvitationForm, RoleForm
from apikeys.models import AuditAction, LastAdminError, Member, OwnsKeysError, Role, has_second_factor
from apikeys.permissions import role_required
from apikeys.views.pages import form_status, go_to, page, posted
from apikeys.views.proving import proven
from apikeys.views.reading import reading

LAST_ADMIN = "An organization keeps at least one admin. Make somebody else an admin first."
OWNS_KEYS = "{} keys by now. Open this page again and choose who takes them."


@require_safe
@role_required(Role.VIEWER)
@reading(AuditAction.MEMBER_READ)
def member_list(request: MemberRequest) -> HttpResponse:
    """Show the members, and to an admin who is invited."""
    return member_page(request, InvitationForm(None, organization=request.member.organization))


def member_page(request: MemberRequest, form: InvitationForm) -> HttpResponse:
    """Return the list with a form that was perhaps refused."""
    organization = request.member.organization
    members = organization.members.select_related("user").prefetch_related("environments")
    members = members.annotate(key_count=Count("owned_keys"), has_second_factor=has_second_factor("user"))
    context = {
        "members": members.order_by("joined_at", "pk"),  # a grouped query does not keep the model's order
        "invitations": organization.invitations.open().for_pages() if request.member.can_administer else [],
        "form": form,
    }
    return page(request, "apikeys/member_list.html", "members", context, status=form_status(form))


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def member_edit(request: MemberRequest, pk: int) -> HttpResponse:
    """Change a member's role, and the environments that an operator is limited to."""
    member = _member(request, pk)
    form = RoleForm(posted(request), member=member)
    listing = reverse("member_list", args=[request.member.organization.slug])
    if form.is_valid():
        role, environments = Role(form.cleaned_data["role"]), list(form.cleaned_data["environments"])
        try:
            member.change_role(role, environments=environments, by=actor(request))
        except LastAdminError:
            form.add_error("role", LAST_ADMIN)
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            messages.success(request, f"{member} is now {member.get_role_display()}{_limit_words(member)}.")
            return go_to(request, listing)
    context = {"member": member, "form": form, "cancel_url": listing}
    return page(request, "apikeys/member_form.html", "members", context, status=form_status(form))


def _limit_words(member: Member) -> str:
    names = [environment.name for environment in member.environments.all()]
    return f", limited to {', '.join(names)}" if names else ""


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def member_remove(request: MemberRequest, pk: int) -> HttpResponse:
    """Take a person out of the organization and hand their keys over."""
    member = _member(request, pk)
    if member == request.member:
        return go_to(request, reverse("member_leave", args=[request.member.organization.slug]))
    form = MemberRemoveForm(posted(request), member=member)
    if form.is_valid() and _removed(request, member, form, OWNS_KEYS.format("They own")):
        messages.success(request, f"{member} was removed.")
        return go_to(request, reverse("member_list", args=[request.member.organization.slug]))
    context = _leaving(member, form)
    return page(request, "apikeys/member_remove.html", "members", context, partial="dialog", status=form_status(form))


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.VIEWER)
@proven
def member_leave(request: MemberRequest) -> HttpResponse:
    """Let a member leave the organization themselves, and hand their keys over."""
    member = _member(request, request.member.pk)
    form = MemberRemoveForm(posted(request), member=member)
    if form.is_valid() and _removed(request, member, form, OWNS_KEYS.format("You own")):
        if not request.user.memberships.exists():
            # Their sessions are over; what is told them is told to whoever is signed out.
            logout(request)
        messages.success(request, f"You have left {member.organization.name}.")
        return go_to(request, reverse("home"))
    context = _leaving(member, form)
    return page(request, "apikeys/member_leave.html", "members", context, partial="dialog", status=form_status(form))


def _member(request: MemberRequest, pk: int) -> Member:
    members = request.member.organization.members.select_related("user", "organization")
    found: Member = get_object_or_404(members, pk=pk)
    return found


def _removed(request: MemberRequest, member: Member, form: MemberRemoveForm, owns_keys: str) -> bool:
    """Remove a member as a form says; False when that is refused, which the form then tells."""
    try:
        member.remove(by=actor(request), keys_to=form.cleaned_data.get("keys_to"))
    except LastAdminError:
        form.add_error(None, LAST_ADMIN)
    except OwnsKeysError:
        form.add_error(None, owns_keys)
    else:
        return True
    return False


def _leaving(member: Member, form: MemberRemoveForm) -> dict[str, Any]:
    return {
        "member": member,
        "form": form,
        "cancel_url": reverse("member_list", args=[member.organization.slug]),
        "keys": member.owned_keys.for_pages()[:50],
    }
