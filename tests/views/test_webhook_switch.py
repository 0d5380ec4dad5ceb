"""Switching a webhook off and on."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_webhook
from tests.pages import entries, messages_of, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_it_is_switched_off_and_on_and_twice_is_once(organization, admin, client):
    webhook = make_webhook(organization)
    address = url("webhook_switch", organization, webhook.pk)
    for to, is_on in (("off", False), ("off", False), ("on", True), ("on", True)):
        response = client.post(address, {"to": to})
        assert response["Location"] == webhook.get_absolute_url()
        assert len(messages_of(response)) == 1
        webhook.refresh_from_db()
        assert webhook.is_on == is_on
    assert [entry.changes["is_on"] for entry in entries(organization, AuditAction.WEBHOOK_EDIT)] == [
        [True, False],
        [False, True],
    ]


def test_what_it_is_to_be_switched_to_must_be_said(organization, client):
    webhook = make_webhook(organization)
    assert client.post(url("webhook_switch", organization, webhook.pk), {"to": "standby"}).status_code == 400
    webhook.refresh_from_db()
    assert webhook.is_on
