"""What a webhook is told, and how that is signed."""

import base64
import hashlib
import hmac
import json

import pytest
import standardwebhooks
from django.utils import timezone

from apikeys.models import Delivery, Webhook
from apikeys.sending import send_now
from apikeys.webhook_messages import message_id, request_of, sign
from tests.factories import make_actor, make_alert, make_delivery, make_webhook
from tests.receiver import receiver

pytestmark = pytest.mark.django_db


def test_a_signature_is_of_the_id_the_time_and_the_body():
    secret, body = "whsec_" + base64.b64encode(b"k" * 32).decode(), b'{"type":"test"}'
    digest = hmac.new(b"k" * 32, b"msg_1.1731705121." + body, hashlib.sha256).digest()
    assert sign(secret, "msg_1", "1731705121", body) == "v1," + base64.b64encode(digest).decode()


def test_an_alert_is_told_with_its_key_and_never_with_a_secret(organization):
    webhook = make_webhook(organization)
    alert = make_alert(organization)
    delivery = Delivery.objects.get(webhook=webhook)
    body, headers = request_of(delivery, webhook, timezone.now())
    told = json.loads(body)
    assert told["type"] == "alert.opened"
    assert told["data"]["code"] == alert.code
    assert told["data"]["key"]["fingerprint"] == alert.key.fingerprint
    assert webhook.secret.encode() not in body
    assert headers["webhook-id"] == f"msg_{delivery.pk.hex}"


def test_both_secrets_sign_for_a_day_after_a_rotation(organization):
    webhook = make_webhook(organization)
    make_alert(organization)
    delivery = Delivery.objects.get(webhook=webhook)
    old = webhook.secret
    webhook.rotate_secret(by=make_actor())
    body, headers = request_of(delivery, webhook, timezone.now())
    stamp = headers["webhook-timestamp"]
    assert headers["webhook-signature"].split() == [
        sign(secret, headers["webhook-id"], stamp, body) for secret in (webhook.secret, old)
    ]


def test_a_chat_gets_text_in_which_nothing_of_a_name_is_markup(organization):
    webhook = make_webhook(organization, format="slack")
    alert = make_alert(organization)
    type(alert.key).objects.filter(pk=alert.key.pk).update(name="<!channel> & <b>")
    body, headers = request_of(Delivery.objects.get(webhook=webhook), webhook, timezone.now())
    text = json.loads(body)["text"]
    assert "&lt;!channel&gt; &amp; &lt;b&gt;" in text
    assert "webhook-signature" not in headers
    # Who passes it on can leave out what comes twice.
    assert headers["webhook-id"] == message_id(Delivery.objects.get(webhook=webhook))


def test_the_library_of_standard_webhooks_takes_what_is_received(organization):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url)
        make_alert(organization)
        send_now(Delivery.objects.get(webhook=webhook))
    [got] = here.got
    told = standardwebhooks.Webhook(webhook.secret).verify(got.body, got.headers)
    assert told["type"] == "alert.opened"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(webhook.secret).verify(got.body.replace(b"opened", b"closed"), got.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(make_webhook(organization).secret).verify(got.body, got.headers)


def test_the_library_takes_either_secret_after_a_rotation_and_the_new_one_alone_a_day_later(organization):
    with receiver() as here:
        webhook = make_webhook(organization, url=here.url)
        old = webhook.secret
        webhook.rotate_secret(by=make_actor())
        send_now(make_delivery(organization, webhook))
        Webhook.objects.update(previous_until=timezone.now())
        send_now(make_delivery(organization, Webhook.objects.get()))
    first, second = here.got
    for secret in (old, webhook.secret):
        assert standardwebhooks.Webhook(secret).verify(first.body, first.headers)["type"] == "test"
    assert standardwebhooks.Webhook(webhook.secret).verify(second.body, second.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(old).verify(second.body, second.headers)
