"""Mail servers that fail, each in one of the ways in which one does: backends for Django's setting MAILERS."""

import smtplib
from collections.abc import Sequence
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.locmem import EmailBackend


class Unreachable(BaseEmailBackend):
    """Nobody listens."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Fail."""
        raise ConnectionRefusedError(111, "Connection refused")


class Refusing(BaseEmailBackend):
    """The server does not take mail from us."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Fail, with an address and the text of the mail in the message, as servers write back what they got."""
        message = email_messages[0]
        told = {address: (550, f"no: {message.body}".encode()) for address in message.to}
        raise smtplib.SMTPRecipientsRefused(told)


class Choosy(EmailBackend):
    """The server takes mail for everybody but those at nowhere.example."""

    def send_messages(self, messages: Sequence[EmailMessage]) -> Any:
        """Keep the mail, or fail."""
        for message in messages:
            if any(address.endswith("@nowhere.example") for address in message.to):
                raise smtplib.SMTPDataError(554, b"no such host")
        return super().send_messages(messages)
