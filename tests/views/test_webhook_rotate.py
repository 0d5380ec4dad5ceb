"""A new signing secret."""

import pytest
from django.utils import timezone

from apikeys.models import AuditAction
from tests.factories import make_webhook
from tests.pages import HTMX, entries, is_partial, is_whole_page, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def test_the_question_is_a_page_and_for_htmx_a_dialog(organization, client):
    address = url("webhook_rotate", organization, make_webhook(organization).pk)
    before = snapshot()
    assert is_whole_page(client.get(address))
    assert is_partial(client.get(address, headers=HTMX))
    assert snapshot() == before


def test_the_new_secret_is_shown_once_and_the_old_one_signs_for_a_day(organization, client):
    webhook = make_webhook(organization)
    old = webhook.secret
    response = client.post(url("webhook_rotate", organization, webhook.pk))
    webhook.refresh_from_db()
    assert webhook.secret != old
    assert webhook.secret in response.text
    assert old not in response.text
    assert webhook.secrets_at(timezone.now()) == [webhook.secret, old]
    assert len(entries(organization, AuditAction.WEBHOOK_ROTATE)) == 1
