"""One delivery with all its attempts."""

import uuid

import pytest
from django.utils import timezone

from apikeys.models.delivery import DeliveryAttempt
from tests.factories import make_delivery, make_webhook
from tests.pages import url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_every_attempt_is_shown(organization, client):
    delivery = make_delivery(organization, make_webhook(organization, "On call"), attempts=2, sent_at=timezone.now())
    DeliveryAttempt.objects.create(delivery=delivery, seconds=10.0, error="<b>It did not answer</b>")
    DeliveryAttempt.objects.create(delivery=delivery, seconds=0.25, status=200)
    text = client.get(url("delivery_detail", organization, delivery.pk)).text
    for words in (
        "On call",
        "&lt;b&gt;It did not answer",
        "10.00",
        "went well: 200",
        "0.25",
        "Send again",
        str(delivery.pk),
    ):
        assert words in text


def test_one_that_waits_says_when_it_is_due_and_cannot_be_sent_again(organization, client):
    text = client.get(url("delivery_detail", organization, make_delivery(organization).pk)).text
    assert "Not tried yet" in text
    assert "Send again" not in text


def test_operators_cannot_send_again(organization, operator, client_of):
    delivery = make_delivery(organization, sent_at=timezone.now())
    assert "Send again" not in client_of(operator).get(url("delivery_detail", organization, delivery.pk)).text


def test_an_id_that_nothing_has_is_not_there(organization, client):
    assert client.get(url("delivery_detail", organization, uuid.uuid4())).status_code == 404
