"""A webhook's page."""

import pytest
from django.utils import timezone

from apikeys.models.delivery import DeliveryAttempt
from tests.factories import make_actor, make_delivery, make_webhook
from tests.pages import url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_it_shows_what_it_was_told_last_and_never_the_secret_or_the_whole_address(organization, client):
    webhook = make_webhook(organization, url="https://hooks.example.com/T0/very-secret-part")
    for number in range(12):
        delivery = make_delivery(organization, webhook, attempts=number)
    DeliveryAttempt.objects.create(delivery=delivery, seconds=0.2, status=500, error="It answered 500.")
    response = client.get(url("webhook_detail", organization, webhook.pk))
    assert len(response.context["deliveries"]) == 10
    assert "very-secret-part" not in response.text
    assert webhook.secret not in response.text


def test_it_says_how_it_is_doing(organization, client):
    webhook = make_webhook(organization)
    address = url("webhook_detail", organization, webhook.pk)
    text = client.get(address).text
    assert "Nothing yet" in text
    assert "Switch off" in text
    webhook.failing_since = timezone.now()
    webhook.save()
    assert "failing" in client.get(address).text
    webhook.switch_off(by=make_actor(), by_itself=True)
    text = client.get(address).text
    assert "by itself, it failed for days" in text
    assert "Switch on" in text


def test_operators_see_it_and_have_no_buttons(organization, operator, client_of):
    webhook = make_webhook(organization)
    text = client_of(operator).get(url("webhook_detail", organization, webhook.pk)).text
    assert webhook.name in text
    assert 'method="post"' not in text.partition("<main")[2]


def test_a_number_beyond_every_id_is_not_there(organization, client):
    assert client.get(url("webhook_detail", organization, 2**64)).status_code == 404
