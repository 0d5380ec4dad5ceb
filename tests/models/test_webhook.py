"""What can be done with a webhook, by two people at once too, and what its secret is."""

import base64

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.models import AuditAction, Webhook, WebhookFormat
from apikeys.models.webhook import MOST_WEBHOOKS, OVERLAP
from tests.factories import make_actor, make_delivery, make_webhook
from tests.pages import entries
from tests.threads import run_together

BY = make_actor()


@pytest.mark.django_db
def test_a_secret_is_its_own_and_is_stored_nowhere(organization):
    one, other = (make_webhook(organization) for _ in range(2))
    assert len(base64.b64decode(one.secret.removeprefix("whsec_"))) == 32
    assert one.secret != other.secret
    assert Webhook.objects.get(pk=one.pk).secret == one.secret
    assert one.secret.removeprefix("whsec_") not in str(Webhook.objects.filter(pk=one.pk).values().get())


@pytest.mark.django_db
def test_another_pepper_is_for_new_ones_and_leaves_the_secrets_that_receivers_have(organization, settings):
    old = make_webhook(organization)
    before = old.secret
    settings.KEY_PEPPERS = {**settings.KEY_PEPPERS, max(settings.KEY_PEPPERS) + 1: b"n" * 32}
    assert Webhook.objects.get(pk=old.pk).secret == before
    assert make_webhook(organization).pepper_number == max(settings.KEY_PEPPERS)
    old.rotate_secret(by=BY)
    stored = Webhook.objects.get(pk=old.pk)
    assert stored.secrets_at(timezone.now()) == [old.secret, before]
    # A day later the older pepper is needed by none of it.
    settings.KEY_PEPPERS = {max(settings.KEY_PEPPERS): b"n" * 32}
    assert stored.secrets_at(timezone.now() + OVERLAP) == [old.secret]


@pytest.mark.django_db
def test_an_edit_tells_of_the_host_and_that_the_address_changed_but_not_of_the_address(organization):
    webhook = make_webhook(organization, "On call", url="https://hooks.example.com/secret-one")
    changed = {"name": "On call", "format": WebhookFormat.STANDARD, "kinds": ["expiry", "abuse"]}
    assert webhook.edit(url="https://hooks.example.com/secret-two", by=BY, **changed)
    assert not webhook.edit(url="https://hooks.example.com/secret-two", by=BY, **changed)
    [entry] = entries(organization, AuditAction.WEBHOOK_EDIT)
    assert entry.changes == {"kinds": [[], ["abuse", "expiry"]], "address": ["…", "changed"]}


def test_two_who_add_the_last_one_at_once_do_not_pass_the_limit(outbox):
    for _ in range(MOST_WEBHOOKS - 1):
        make_webhook(outbox)
    results = run_together(*[lambda: make_webhook(outbox)] * 3)
    assert sorted(type(result).__name__ for result in results) == ["ValidationError", "ValidationError", "Webhook"]
    assert outbox.webhooks.count() == MOST_WEBHOOKS
    assert any(isinstance(one, ValidationError) and "at most 20 webhooks" in str(one) for one in results)


def test_two_who_switch_it_off_at_once_are_one_entry(outbox):
    webhook = make_webhook(outbox)
    copies = [Webhook.objects.select_related("organization").get(pk=webhook.pk) for _ in range(2)]
    results = run_together(*[lambda one=one: one.switch_off(by=BY) for one in copies])
    assert sorted(results) == [False, True]
    assert len(entries(outbox, AuditAction.WEBHOOK_EDIT)) == 1


@pytest.mark.django_db
def test_whoever_deletes_it_takes_along_what_it_was_to_be_told(organization):
    webhook = make_webhook(organization, "On call")
    make_delivery(organization, webhook)
    webhook.remove(by=BY)
    assert not organization.deliveries.exists()
    [entry] = entries(organization, AuditAction.WEBHOOK_DELETE)
    assert entry.target_label == "On call"
