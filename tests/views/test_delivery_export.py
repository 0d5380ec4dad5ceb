"""The log of what was sent, as a file."""

import csv
import io
import json

import pytest
from django.utils import timezone

from apikeys.models import AuditAction
from apikeys.models.delivery import DeliveryAttempt
from tests.factories import make_delivery, make_organization, make_webhook
from tests.pages import entries, url

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin, client_of):
    return client_of(admin)


def read(response):
    return b"".join(response.streaming_content).decode()


def test_what_is_filtered_is_sent_and_recorded(organization, client):
    failed = make_delivery(organization, make_webhook(organization, "=cmd"), attempts=3, failed_at=timezone.now())
    DeliveryAttempt.objects.create(delivery=failed, seconds=1, status=500, error="It answered 500.")
    make_delivery(organization)
    make_delivery(make_organization(), failed_at=timezone.now())
    text = read(client.get(url("delivery_export", organization, "csv", state="failed")))
    [row] = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert (row["id"], row["state"], row["attempts"], row["error"]) == (
        str(failed.pk),
        "failed",
        "3",
        "It answered 500.",
    )
    assert row["recipient"] == "'=cmd"
    [entry] = entries(organization, AuditAction.ALERT_EXPORT)
    assert "failed" in entry.reason


def test_json_is_the_same(organization, client):
    delivery = make_delivery(organization)
    rows = json.loads(read(client.get(url("delivery_export", organization, "json"))))
    assert [row["id"] for row in rows] == [str(delivery.pk)]


def test_another_format_is_not_there_and_a_bad_filter_leads_back(organization, client):
    assert client.get(url("delivery_export", organization, "pdf")).status_code == 404
    assert client.get(url("delivery_export", organization, "csv", state="odd")).status_code == 302
    assert entries(organization, AuditAction.ALERT_EXPORT) == []
