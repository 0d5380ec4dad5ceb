"""Webhooks that are told of the audit log's checkpoints: who is, what they get, and that it is signed twice."""

import json
from datetime import timedelta

import pytest
import standardwebhooks
from django.utils import timezone

from apikeys import checkpoints
from apikeys.audit_signing import check, public_keys
from apikeys.models import AuditChain, AuditCheckpoint, AuditEntry, Delivery
from apikeys.models.audit_chain import link_now
from apikeys.models.webhook import CHECKPOINT
from apikeys.sending import send_now
from tests.factories import make_actor, make_alert, make_organization, make_webhook
from tests.pages import url, without_guards
from tests.receiver import receiver

pytestmark = pytest.mark.django_db


def make(organization, *, later=timedelta()):
    link_now()
    checkpoints.make_checkpoint(AuditChain.objects.get(number=organization.pk), timezone.now() + later)


def test_it_is_posted_once_to_each_webhook_that_wants_it_and_to_no_other(organization):
    wants = make_webhook(organization, kinds=[CHECKPOINT])
    make_webhook(organization)
    make_webhook(organization, kinds=["abuse"])
    make_webhook(organization, kinds=[CHECKPOINT]).switch_off(by=make_actor())
    make_webhook(make_organization("elsewhere"), kinds=[CHECKPOINT])
    make(organization)
    make(organization)
    [delivery] = Delivery.objects.all()
    assert (delivery.webhook, delivery.checkpoint) == (wants, AuditCheckpoint.objects.get())
    assert delivery.organization == organization
    make_webhook(organization)
    make(organization, later=timedelta(days=1))
    assert Delivery.objects.count() == 2


def test_what_arrives_is_signed_by_the_webhook_and_by_the_checkpoint_itself(organization):
    with receiver() as here:
        webhook = make_webhook(organization, kinds=[CHECKPOINT], url=here.url)
        make(organization)
        assert not send_now(Delivery.objects.get()).error
    [got] = here.got
    told = standardwebhooks.Webhook(webhook.secret).verify(got.body, got.headers)
    assert (told["type"], told["data"]["organization"]) == ("audit.checkpoint", "acme")
    made = AuditCheckpoint.objects.get()
    checked = check(told["data"]["checkpoint"], public_keys())
    assert (checked.organization, checked.sequence, checked.hash) == (organization.pk, made.sequence, made.hash)
    assert got.headers["webhook-id"] == f"msg_{Delivery.objects.get().pk.hex}"


def test_a_receiver_that_fails_is_tried_again(organization):
    with receiver() as here:
        here.status = 500
        make_webhook(organization, kinds=[CHECKPOINT], url=here.url)
        make(organization)
        assert send_now(Delivery.objects.get()).status == 500
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.sent_at) == ("retrying", None)
    assert delivery.due_at > timezone.now()


def test_a_chat_gets_the_statement_as_text(organization):
    with receiver() as here:
        make_webhook(organization, kinds=[CHECKPOINT], url=here.url, format="slack")
        make(organization)
        assert not send_now(Delivery.objects.get()).error
    text = json.loads(here.got[0].body)["text"]
    assert text.startswith("Checkpoint of the audit log of Acme, entry ")
    assert check(json.loads(text.partition("`")[2].rstrip("`")), public_keys())


def test_a_webhook_of_checkpoints_alone_is_told_of_no_alert(organization):
    only = make_webhook(organization, kinds=[CHECKPOINT])
    both = make_webhook(organization, kinds=[CHECKPOINT, "abuse"])
    make_alert(organization)
    assert [delivery.webhook for delivery in Delivery.objects.filter(channel="webhook")] == [both]
    assert only.told_of == "checkpoints of the audit log"
    assert both.told_of == "1 kind of alerts and checkpoints of the audit log"


def test_a_log_that_is_not_as_it_was_written_is_told_of_to_nobody(organization):
    make_webhook(organization, kinds=[CHECKPOINT])
    link_now()
    without_guards()
    AuditEntry.objects.filter(organization=organization).update(reason="forged")
    make(organization)
    assert not Delivery.objects.exists()


def test_it_is_chosen_in_the_form_and_seen_on_the_pages(organization, admin, client_of):
    client = client_of(admin)
    form = {"name": "Archive", "url": "https://archive.example.com/x", "format": "standard", "kinds": [CHECKPOINT]}
    assert client.post(url("webhook_create", organization), form).status_code == 200
    [webhook] = organization.webhooks.all()
    assert webhook.wants_checkpoints
    make(organization)
    for address in (url("webhook_list", organization), url("webhook_detail", organization, webhook.pk)):
        assert "checkpoints of the audit log" in client.get(address).text
    for name in ("delivery_list", "webhook_detail"):
        args = [webhook.pk] if name == "webhook_detail" else []
        assert "checkpoint of the audit log" in client.get(url(name, organization, *args)).text
    detail = client.get(url("delivery_detail", organization, Delivery.objects.get().pk))
    assert "checkpoint of the audit log" in detail.text
