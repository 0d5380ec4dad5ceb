"""Sending a test to a webhook, and seeing how it went."""

import json

import pytest

from apikeys.models import Delivery, DeliveryState
from tests.factories import make_actor, make_webhook
from tests.pages import messages_of, url
from tests.receiver import receiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_a_test_is_sent_at_once_and_logged(organization, client):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url)
        response = client.post(url("webhook_test", organization, webhook.pk))
    assert messages_of(response) == ["The test was accepted with 204."]
    [got] = here.got
    assert json.loads(got.body)["type"] == "test"
    delivery = Delivery.objects.get()
    assert got.headers["webhook-id"] == f"msg_{delivery.pk.hex}"
    assert (delivery.state, delivery.is_test, delivery.attempts) == (DeliveryState.SENT, True, 1)
    assert delivery.log.get().status == 204


def test_a_chat_gets_a_message(organization, client):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url, format="slack")
        client.post(url("webhook_test", organization, webhook.pk))
    [got] = here.got
    assert "test" in json.loads(got.body)["text"].lower()
    assert "webhook-signature" not in got.headers


def test_it_says_why_a_test_failed_and_does_not_try_again(organization, client):
    with receiver() as here:
        here.status = 500
        webhook = make_webhook(organization, url=here.url)
        response = client.post(url("webhook_test", organization, webhook.pk))
    [words] = messages_of(response)
    assert words.startswith("The test failed: ")
    assert "500" in words
    assert Delivery.objects.get().state == DeliveryState.FAILED
    webhook.refresh_from_db()
    assert webhook.failing_since is None


def test_one_that_is_switched_off_may_be_tested(organization, client):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url)
        webhook.switch_off(by=make_actor())
        client.post(url("webhook_test", organization, webhook.pk))
    assert len(here.got) == 1


def test_nobody_there_is_told(organization, client):
    webhook = make_webhook(organization)
    [words] = messages_of(client.post(url("webhook_test", organization, webhook.pk)))
    assert words.startswith("The test failed: ")
