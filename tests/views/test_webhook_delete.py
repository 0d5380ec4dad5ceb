"""Deleting a webhook."""

import pytest

from apikeys.models import AuditAction, Delivery, Webhook
from tests.factories import make_delivery, make_webhook
from tests.pages import HTMX, entries, is_partial, is_whole_page, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_question_is_a_page_and_for_htmx_a_dialog(organization, client):
    address = url("webhook_delete", organization, make_webhook(organization).pk)
    assert is_whole_page(client.get(address))
    assert is_partial(client.get(address, headers=HTMX))
    assert Webhook.objects.count() == 1


def test_it_is_gone_with_what_it_was_to_be_told_and_that_is_recorded(organization, client):
    webhook = make_webhook(organization, "On call")
    make_delivery(organization, webhook)
    address = url("webhook_delete", organization, webhook.pk)
    assert client.post(address)["Location"] == url("webhook_list", organization)
    assert not Webhook.objects.exists()
    assert not Delivery.objects.exists()
    assert client.post(address).status_code == 404
    [entry] = entries(organization, AuditAction.WEBHOOK_DELETE)
    assert entry.target_label == "On call"
