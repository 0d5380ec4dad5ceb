"""invite_member: send somebody the way into an organization, without a browser."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.core.management.base import CommandParser

from apikeys.invitation_mails import send_invitation
from apikeys.management.arguments import fault, find_environment, find_organization, text
from apikeys.management.base import Command as Base
from apikeys.models import Actor, Invitation, InvitationTerms, Role

OPTIONS = {"email": "--email", "name": "--name", "role": "--role", "environments": "--environment"}


class Command(Base):
    """Invite a person to an organization."""

    help = "Invite a person to an organization by mail. The link is in the mail alone."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        add = parser.add_argument
        add("--organization", required=True, type=text, metavar="SLUG")
        add("--email", required=True, type=text, metavar="E-MAIL", help="Who is invited.")
        add("--role", required=True, choices=Role.values)
        add(
            *("--environment",),
            default=[],
            type=text,
            action="append",
            metavar="CODE",
            help="What an operator is limited to, by code or name; repeat it for each. Without it: all.",
        )
        add("--name", default="", type=text, help="What the form suggests as their name; 100 characters.")
        self.add_json(parser)

    def handle(self, **options: Any) -> None:
        """Invite them."""
        organization = find_organization(options["organization"])
        role = Role(options["role"])
        environments = [find_environment(organization, name) for name in options["environment"]]
        if environments and role != Role.OPERATOR:
            raise CommandError("--environment: only an operator can be limited to environments.")
        terms = InvitationTerms(options["email"], role, options["name"], environments)
        try:
            sent = Invitation.objects.invite(organization, terms, by=Actor.command())
        except ValidationError as error:
            raise fault(error, OPTIONS) from None
        if not send_invitation(sent):
            raise CommandError(
                f"The mail to {sent.invitation.email} could not be sent. The invitation waits on the page Members:"
                " an admin can send it again there."
            )
        self.answer(options, _facts(sent.invitation), _words(sent.invitation))


def _facts(invitation: Invitation) -> dict[str, object]:
    return {
        "organization": invitation.organization.slug,
        "email": invitation.email,
        "role": invitation.role,
        "environments": [environment.code for environment in invitation.environments.all()],
        "expires_at": invitation.expires_at.isoformat(),
    }


def _words(invitation: Invitation) -> str:
    names = ", ".join(environment.name for environment in invitation.environments.all())
    limit = f", limited to {names}," if names else ""
    return (
        f"An invitation of {invitation.email} as {invitation.role} of {invitation.organization}{limit} was sent."
        f" It is good until {invitation.expires_at:%Y-%m-%d %H:%M} UTC."
    )
