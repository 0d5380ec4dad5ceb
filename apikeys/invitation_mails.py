"""The mail that invites somebody: the one place that ever holds the link."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from apikeys.alert_mails import unlinked
from apikeys.models import Invitation, Role, SentInvitation

log = logging.getLogger(__name__)

ROLE_WORDS: Final = {
    Role.VIEWER: "see its API keys, their usage and its audit log",
    Role.OPERATOR: "issue, rotate and revoke its API keys",
    Role.ADMIN: "manage its API keys, its members and its settings",
}


@sensitive_variables("sent", "url", "context", "mail")
def send_invitation(sent: SentInvitation) -> bool:
    """Mail the link to the address that it is bound to; False when that failed. The token is in no log."""
    invitation = sent.invitation
    url = f"{settings.BASE_URL}{reverse('invitation_take', args=[sent.token])}"
    context = {
        "invitation": invitation,
        # What people chose is no link in a mail that asks to press one.
        "organization": unlinked(invitation.organization.name),
        "sender": unlinked(invitation.invited_by_label),
        "may": ROLE_WORDS[Role(invitation.role)],
        "limit": [unlinked(one.name) for one in invitation.environments.all()],
        "url": url,
    }
    subject = f"You are invited to {context['organization']} in keyadmin"
    mail = EmailMultiAlternatives(
        subject,
        render_to_string("emails/invitation.txt", context),
        to=[invitation.email],
        headers={"Auto-Submitted": "auto-generated"},
    )
    mail.attach_alternative(render_to_string("emails/invitation.html", context | {"subject": subject}), "text/html")
    try:
        mail.send()
    except (SMTPException, OSError) as error:
        log.warning("The mail of invitation %s was not sent: %s", invitation.pk, type(error).__name__)
        return False
    invitation.note_mailed()
    return True


def role_words(invitation: Invitation) -> str:
    """Say what somebody may do who accepts."""
    return ROLE_WORDS[Role(invitation.role)]
