"""Having something sent again."""

import pytest
from django.utils import timezone

from apikeys.models import AuditAction, Delivery, DeliveryState
from apikeys.sending import send_now
from tests.factories import make_delivery, make_webhook
from tests.pages import entries, messages_of, url
from tests.receiver import receiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_it_is_sent_again_with_the_same_id(organization, client):
    with receiver() as here:
        delivery = make_delivery(organization, make_webhook(organization, url=here.url))
        send_now(delivery)
        response = client.post(url("delivery_resend", organization, delivery.pk))
        assert response["Location"] == url("delivery_detail", organization, delivery.pk)
        send_now(Delivery.objects.get())
    ids = [got.headers["webhook-id"] for got in here.got]
    assert ids == [f"msg_{delivery.pk.hex}"] * 2
    assert len(entries(organization, AuditAction.DELIVERY_RESEND)) == 1


def test_what_was_given_up_is_tried_from_the_beginning(organization, client):
    delivery = make_delivery(organization, attempts=10, failed_at=timezone.now())
    client.post(url("delivery_resend", organization, delivery.pk))
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, 0)


def test_what_waits_is_left_waiting(organization, client):
    delivery = make_delivery(organization, attempts=1)
    response = client.post(url("delivery_resend", organization, delivery.pk))
    assert messages_of(response) == ["It is waiting to be sent already."]
    assert entries(organization, AuditAction.DELIVERY_RESEND) == []
