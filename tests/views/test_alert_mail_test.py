"""A mail to see what alerts look like, and whether they arrive."""

import pytest
from django.core import mail

from apikeys.models import Delivery, DeliveryState
from tests.pages import messages_of, url

pytestmark = pytest.mark.django_db


def test_everybody_can_have_one_to_their_own_address(organization, viewer, client_of):
    response = client_of(viewer).post(url("alert_mail_test", organization), {"email": "other@example.com"})
    assert response["Location"] == url("alert_mails", organization)
    assert messages_of(response) == [f"A test was sent to {viewer.email}."]
    [sent] = mail.outbox
    assert sent.to == [viewer.email]
    assert "test" in sent.subject.lower()
    assert sent.alternatives[0].mimetype == "text/html"
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.is_test) == (DeliveryState.SENT, True)


def test_it_says_why_it_failed_and_is_not_tried_again(organization, viewer, client_of, settings):
    settings.MAILERS = {"default": {"BACKEND": "tests.broken_mail.Unreachable"}}
    response = client_of(viewer).post(url("alert_mail_test", organization))
    [words] = messages_of(response)
    assert words.startswith("The test failed: ")
    assert Delivery.objects.get().state == DeliveryState.FAILED
