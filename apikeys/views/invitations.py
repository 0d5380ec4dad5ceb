"""Inviting people to an organization, and how they accept."""

from __future__ import annotations

from http import HTTPStatus

from allauth.account.adapter import get_adapter
from allauth.core import ratelimit
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from apikeys.forms import add_verb_errors
from apikeys.http import MemberRequest, actor, zone_of
from apikeys.invitation_mails import role_words, send_invitation
from apikeys.member_forms import InvitationForm, NewAccountForm
from apikeys.models import (
    AccountExistsError,
    Invitation,
    InvitationOverError,
    Member,
    Role,
    SentInvitation,
    User,
)
from apikeys.permissions import public, role_required
from apikeys.views.members import member_page
from apikeys.views.pages import form_status, go_to
from apikeys.views.proving import proven


@require_http_methods(["GET", "HEAD", "POST"])
@role_required(Role.ADMIN)
@proven
def invitation_create(request: MemberRequest) -> HttpResponse:
    """Invite a person by address; a link is mailed to it. The form is on the list."""
    organization = request.member.organization
    if request.method != "POST":
        return redirect("member_list", organization.slug)
    form = InvitationForm(request.POST, organization=organization)
    if form.is_valid():
        try:
            sent = Invitation.objects.invite(organization, form.terms, by=actor(request))
        except ValidationError as error:
            add_verb_errors(form, error)
        else:
            return _mailed(request, sent)
    return member_page(request, form)


@require_POST
@role_required(Role.ADMIN)
@proven
def invitation_resend(request: MemberRequest, number: int) -> HttpResponse:
    """Mail a new link to an address that was invited; the one before is good no longer."""
    invitation = _open_invitation(request, number)
    try:
        token = invitation.resend(by=actor(request))
    except InvitationOverError:
        return _over(request, invitation)
    except ValidationError as error:
        messages.warning(request, error.messages[0])
        return go_to(request, reverse("member_list", args=[request.member.organization.slug]))
    return _mailed(request, SentInvitation(invitation, token))


@require_POST
@role_required(Role.ADMIN)
def invitation_withdraw(request: MemberRequest, number: int) -> HttpResponse:
    """Withdraw an invitation: its link is good no longer."""
    invitation = _open_invitation(request, number)
    try:
        invitation.withdraw(by=actor(request))
    except InvitationOverError:
        return _over(request, invitation)
    messages.success(request, f"The invitation of {invitation.email} is withdrawn. Its link is good no longer.")
    return go_to(request, reverse("member_list", args=[request.member.organization.slug]))


def _open_invitation(request: MemberRequest, number: int) -> Invitation:
    # No database knows greater numbers.
    mine = request.member.organization.invitations
    found: Invitation = get_object_or_404(mine.for_pages(), pk=min(number, 2**63 - 1))
    return found


def _over(request: MemberRequest, invitation: Invitation) -> HttpResponse:
    """Say that somebody else was quicker."""
    messages.warning(request, f"The invitation of {invitation.email} was accepted or withdrawn already.")
    return go_to(request, reverse("member_list", args=[request.member.organization.slug]))


def _mailed(request: MemberRequest, sent: SentInvitation) -> HttpResponse:
    """Mail it, and say the same whether there is an account with the address or not."""
    if send_invitation(sent):
        messages.success(request, f"An invitation was sent to {sent.invitation.email}.")
    else:
        told = f"The mail to {sent.invitation.email} could not be sent. The invitation waits: send it again below."
        messages.error(request, told)
    return go_to(request, reverse("member_list", args=[request.member.organization.slug]))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@public(because="who is invited may have no account yet; the link is the right to make one", asks_who=True)
@sensitive_variables("token")
def invitation_take(request: HttpRequest, token: str) -> HttpResponseBase:
    """Show what an invitation is, and accept it when that is asked. Opening changes nothing: robots open links."""
    if not ratelimit.consume(request, action="invitation"):
        return ratelimit.respond_429(request)
    invitation = Invitation.objects.with_token(token)
    with timezone.override(zone_of(request)):
        is_good = invitation is not None and invitation.is_good
        response = _taken(request, invitation, token) if invitation and is_good else _not_good(request, invitation)
    # Nothing that the page fetches is told its address.
    response["Referrer-Policy"] = "strict-origin"
    return response


@sensitive_variables("token")
def _taken(request: HttpRequest, invitation: Invitation, token: str) -> HttpResponseBase:
    account = invitation.account
    if isinstance(request.user, User) and request.user != account:
        return _page(request, invitation, HTTPStatus.FORBIDDEN, is_other=True)
    if account is None:
        return _with_new_account(request, invitation, token)
    if not account.is_active:
        return _page(request, invitation, HTTPStatus.FORBIDDEN, is_closed=True)
    if not request.user.is_authenticated:
        if request.method == "POST":
            return redirect_to_login(request.get_full_path())
        return _page(request, invitation, needs_sign_in=True)
    if request.method != "POST":
        return _page(request, invitation)
    try:
        member = invitation.accept(token, by=actor(request))
    except InvitationOverError:
        return _not_good(request, invitation)
    return _welcome(request, member)


@sensitive_variables("token")
def _with_new_account(request: HttpRequest, invitation: Invitation, token: str) -> HttpResponseBase:
    form = NewAccountForm(request, invitation=invitation)
    if form.is_valid():
        name, password = form.cleaned_data["name"], form.cleaned_data["password1"]
        try:
            member = invitation.accept_as_new(token, name=name, password=password, by=actor(request))
        except AccountExistsError:
            # Made meanwhile, by another organization's invitation: they sign in, and come back here.
            return redirect_to_login(request.get_full_path())
        except InvitationOverError:
            return _not_good(request, invitation)
        get_adapter(request).login(request, member.user)
        return _welcome(request, member)
    return _page(request, invitation, form_status(form), form=form)


def _welcome(request: HttpRequest, member: Member) -> HttpResponse:
    messages.success(request, f"Welcome to {member.organization.name}. You are {member.get_role_display()} there.")
    return HttpResponseRedirect(reverse("overview", args=[member.organization.slug]))


def _page(
    request: HttpRequest, invitation: Invitation, status: HTTPStatus = HTTPStatus.OK, **state: object
) -> HttpResponse:
    context = {"invitation": invitation, "may": role_words(invitation), "here": request.get_full_path()} | state
    return render(request, "apikeys/invitation_take.html", context, status=status)


def _not_good(request: HttpRequest, invitation: Invitation | None) -> HttpResponse:
    """Say the same of every link that is not good: used, run out, withdrawn, replaced, or made up."""
    if invitation and invitation.taken_by_id and invitation.taken_by_id == request.user.pk:
        # Who sends the form twice has what they wanted.
        return redirect("overview", invitation.organization.slug)
    return render(request, "apikeys/invitation_take.html", {"is_over": True}, status=HTTPStatus.GONE)
