"""Adding a webhook."""

import pytest

from apikeys.models import AuditAction, Webhook
from apikeys.models.webhook import MOST_WEBHOOKS
from tests.factories import make_webhook
from tests.pages import entries, snapshot, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


@pytest.fixture
def add(organization, client):
    def post(**form):
        sent = {"name": "On call", "url": "https://hooks.example.com/x?token=secret", "format": "standard"} | form
        return client.post(url("webhook_create", organization), sent)

    return post


def test_it_is_added_and_its_secret_is_shown_once(organization, client, add):
    response = add(kinds=["abuse", "expiry"])
    webhook = Webhook.objects.get()
    assert (webhook.organization, webhook.name, sorted(webhook.kinds)) == (organization, "On call", ["abuse", "expiry"])
    assert webhook.secret in response.text
    assert "no-store" in response["Cache-Control"]
    for page in ("webhook_detail", "webhook_edit"):
        assert webhook.secret not in client.get(url(page, organization, webhook.pk)).text
    [entry] = entries(organization, AuditAction.WEBHOOK_CREATE)
    assert entry.changes["host"] == [None, "hooks.example.com"]
    assert "token=secret" not in str(entry.changes)


def test_a_chat_has_no_secret(add):
    response = add(format="slack")
    assert "whsec_" not in response.text
    assert "not signed" in response.text


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "x" * 101}, "at most 100"),
        ({"name": "two\nlines"}, "line"),
        ({"url": ""}, "This field is required"),
        ({"url": "ftp://hooks.example.com/"}, "https"),
        ({"url": "https://hooks.example.com/" + "x" * 500}, "at most 500"),
        ({"url": "https://10.0.0.8/"}, "10.0.0.8"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "169.254.169.254"),
        ({"url": "https://user:password@hooks.example.com/"}, "name"),
        ({"format": "fax"}, "Select a valid choice"),
        ({"kinds": ["gossip"]}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_told_at_its_field_and_nothing_is_added(add, form, told):
    before = snapshot()
    response = add(**form)
    assert response.status_code == 422
    assert told in response.text
    assert snapshot() == before


def test_it_is_reached_by_tls_unless_a_setting_allows_its_network(add, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    for address in ("http://hooks.example.com/", "https://127.0.0.1/"):
        assert add(url=address).status_code == 422
    assert not Webhook.objects.exists()


def test_there_is_a_most(organization, add):
    for _ in range(MOST_WEBHOOKS):
        make_webhook(organization)
    response = add()
    assert response.status_code == 422
    assert f"at most {MOST_WEBHOOKS} webhooks" in response.text
    assert Webhook.objects.count() == MOST_WEBHOOKS
