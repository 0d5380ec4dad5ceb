"""Mail: what is sent to people, in words."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from smtplib import SMTPException

from django.conf import settings
from django.core import mail
from django.template.loader import render_to_string
from django.urls import reverse

from apikeys.forms import span_words
from apikeys.models import Rotation

log = logging.getLogger(__name__)


def send_key_links(links: Iterable[tuple[Rotation, str]]) -> list[Rotation]:
    """Mail each owner the link to their new key, by its token; return those whose mail could not be sent.

    A failure of one mail stops no other. The token is in no log.
    """
    failed = []
    for rotation, token in links:
        url = f"{settings.BASE_URL}{reverse('rotation_take', args=[token])}"
        overlap = span_words(rotation.overlap)
        page_url = f"{settings.BASE_URL}{rotation.get_absolute_url()}"
        context = {"rotation": rotation, "key": rotation.old_key, "url": url, "page_url": page_url, "overlap": overlap}
        subject = render_to_string("emails/key_link_subject.txt", context).strip()
        body = render_to_string("emails/key_link.txt", context)
        try:
            mail.EmailMessage(subject, body, to=[rotation.link_sent_to]).send()
        except (SMTPException, OSError) as error:
            log.warning("The mail of rotation %s was not sent: %s", rotation.pk, type(error).__name__)
            failed.append(rotation)
    return failed
