"""Changing a webhook."""

import pytest

from apikeys.models import AuditAction
from tests.factories import make_webhook
from tests.pages import entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


FORM = {"name": "On call", "url": "https://hooks.example.com/new-secret-path", "format": "slack", "kinds": ["abuse"]}


def test_it_is_changed_and_the_secret_stays(organization, client):
    webhook = make_webhook(organization)
    address = url("webhook_edit", organization, webhook.pk)
    assert webhook.url in client.get(address).text
    secret = webhook.secret
    response = client.post(address, FORM)
    assert response["Location"] == webhook.get_absolute_url()
    webhook.refresh_from_db()
    assert (webhook.name, webhook.url, webhook.format, webhook.kinds) == tuple(FORM.values())
    assert webhook.secret == secret
    [entry] = entries(organization, AuditAction.WEBHOOK_EDIT)
    assert entry.changes["host"] == ["127.0.0.1", "hooks.example.com"]
    assert "new-secret-path" not in str(entry.changes)


def test_the_same_again_changes_nothing(organization, client):
    webhook = make_webhook(organization)
    address = url("webhook_edit", organization, webhook.pk)
    client.post(address, FORM)
    before = snapshot()
    client.post(address, FORM)
    assert snapshot() == before


def test_what_cannot_be_is_told_and_nothing_is_changed(organization, client):
    webhook = make_webhook(organization)
    before = snapshot()
    response = client.post(url("webhook_edit", organization, webhook.pk), FORM | {"url": "https://192.168.0.1/"})
    assert response.status_code == 422
    assert "192.168.0.1" in response.text
    assert snapshot() == before
