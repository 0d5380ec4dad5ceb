"""Webhooks: addresses of an organization that are told of alerts, signed so that a receiver knows who speaks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import ClassVar, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from apikeys.models.alert_kind import AlertKind
from apikeys.models.audit import Actor, AuditAction, AuditEntry, difference
from apikeys.models.organization import Organization
from apikeys.models.text import validate_line

MOST_WEBHOOKS: Final = 20
# A rotated secret signs beside the new one for so long.
OVERLAP: Final = timedelta(hours=24)
# A webhook that fails for so long without one success in between is switched off.
OFF_AFTER: Final = timedelta(days=5)
# What a webhook may be told of beside kinds of alerts, when it is chosen.
CHECKPOINT: Final = "audit.checkpoint"


class WebhookFormat(models.TextChoices):
    """What is posted: our events, signed, or a message as Slack, Mattermost and others take it."""

    STANDARD = "standard", "Standard Webhooks"
    SLACK = "slack", "Slack-compatible"


def make_nonce() -> str:
    """Return what a webhook's secret is derived from."""
    return secrets.token_hex(16)


class WebhookQuerySet(models.QuerySet["Webhook"]):
    """Finding of webhooks."""

    def on(self) -> models.QuerySet[Webhook]:
        """Return those that are not switched off."""
        return self.filter(disabled_at__isnull=True)


class Webhook(models.Model):
    """One address that is told. Its signing secret is derived from a pepper and a nonce, and kept nowhere."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=100, validators=[validate_line])
    url = models.CharField(max_length=500)
    format = models.CharField(max_length=16, choices=WebhookFormat.choices, default=WebhookFormat.STANDARD)
    # Of which kinds it is told; empty is every kind of alert. CHECKPOINT may be among them.
    kinds = models.JSONField(default=list, blank=True)
    nonce = models.CharField(max_length=32, default=make_nonce, editable=False)
    pepper_number = models.PositiveSmallIntegerField(editable=False)
    previous_nonce = models.CharField(max_length=32, blank=True, editable=False)
    previous_pepper_number = models.PositiveSmallIntegerField(null=True, editable=False)
    previous_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    disabled_at = models.DateTimeField(null=True, editable=False)
    # Empty where it was switched off by itself.
    disabled_by_label = models.CharField(max_length=254, blank=True, editable=False)

    objects: ClassVar = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.host})"

    def get_absolute_url(self) -> str:
        """Return the address of the webhook's page."""
        return reverse("webhook_detail", args=[self.organization.slug, self.pk])

    @property
    def host(self) -> str:
        """The host that is told; the rest of the address may be a secret."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_on(self) -> bool:
        """Whether it is told of alerts."""
        return self.disabled_at is None

    @property
    def secret(self) -> str:
        """The signing secret, as Standard Webhooks writes it: "whsec_" and base64 of 32 bytes."""
        return _derived(self.pepper_number, self.nonce)

    def secrets_at(self, now: datetime) -> list[str]:
        """Return the secrets that sign, the newest first: two for a while after a rotation."""
        if not (self.previous_nonce and self.previous_until and self.previous_until > now):
            return [self.secret]
        pepper = self.pepper_number if self.previous_pepper_number is None else self.previous_pepper_number
        return [self.secret, _derived(pepper, self.previous_nonce)]

    def wants(self, kind: AlertKind) -> bool:
        """Say whether it is told of a kind."""
        return not self.kinds or kind in self.kinds

    @property
    def wants_checkpoints(self) -> bool:
        """Whether it is told of the audit log's checkpoints."""
        return CHECKPOINT in self.kinds

    @property
    def told_of(self) -> str:
        """What it is told of, in words."""
        if not self.kinds:
            return "all alerts"
        count = len(set(self.kinds) - {CHECKPOINT})
        told = [f"{count} kind{'' if count == 1 else 's'} of alerts"] if count else []
        return " and ".join([*told, "checkpoints of the audit log"] if self.wants_checkpoints else told)

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares; of the address the host alone, as the rest may be a secret."""
        is_on = self.disabled_at is None
        return {"name": self.name, "host": self.host, "format": self.format, "kinds": list(self.kinds), "is_on": is_on}

    def create(self, *, by: Actor) -> None:
        """Store a new webhook; raises ValidationError naming the field."""
        self.pepper_number = max(settings.KEY_PEPPERS)
        with transaction.atomic():
            Organization.objects.lock(self.organization_id)
            if self.organization.webhooks.count() >= MOST_WEBHOOKS:
                raise ValidationError({NON_FIELD_ERRORS: [f"An organization has at most {MOST_WEBHOOKS} webhooks."]})
            self.full_clean()
            self.save(force_insert=True)
            self._record(AuditAction.WEBHOOK_CREATE, {}, by)

    def edit(self, *, name: str, url: str, format: WebhookFormat, kinds: list[str], by: Actor) -> bool:  # noqa: A002
        """Change it; False when nothing changes. Raises ValidationError naming the field."""
        with transaction.atomic():
            before = Webhook.objects.select_for_update().get(pk=self.pk)
            self.name, self.url, self.format, self.kinds = name.strip(), url.strip(), format, sorted(kinds)
            self.full_clean()
            if before.facts() == self.facts() and before.url == self.url:
                return False
            self.save(update_fields=["name", "url", "format", "kinds"])
            self._record(AuditAction.WEBHOOK_EDIT, before.facts(), by, address_changed=before.url != self.url)
        return True

    def rotate_secret(self, *, by: Actor) -> None:
        """Make a new secret; the old one signs beside it for a day."""
        with transaction.atomic():
            stored = Webhook.objects.select_for_update().get(pk=self.pk)
            self.previous_nonce, self.previous_until = stored.nonce, timezone.now() + OVERLAP
            self.previous_pepper_number = stored.pepper_number
            # With the newest pepper, so that an older one can go a day later.
            self.nonce, self.pepper_number = make_nonce(), max(settings.KEY_PEPPERS)
            self.save(
                update_fields=["nonce", "pepper_number", "previous_nonce", "previous_pepper_number", "previous_until"]
            )
            self._record(AuditAction.WEBHOOK_ROTATE, self.facts(), by)

    def switch_off(self, *, by: Actor, by_itself: bool = False) -> bool:
        """Tell it of nothing any more; False when it is off already."""
        return self._switch(timezone.now(), "" if by_itself else by.label, by)

    def switch_on(self, *, by: Actor) -> bool:
        """Tell it again of what happens from now on; False when it is on already."""
        return self._switch(None, "", by)

    def _switch(self, disabled_at: datetime | None, label: str, by: Actor) -> bool:
        with transaction.atomic():
            before = Webhook.objects.select_for_update().get(pk=self.pk)
            if before.is_on == (disabled_at is None):
                return False
            self.disabled_at, self.disabled_by_label = disabled_at, label
            self.failing_since = None if disabled_at is None else before.failing_since
            self.save(update_fields=["disabled_at", "disabled_by_label", "failing_since"])
            self._record(AuditAction.WEBHOOK_EDIT, before.facts(), by)
        return True

    def remove(self, *, by: Actor) -> None:
        """Delete it, with what it was to be told."""
        with transaction.atomic():
            before = Webhook.objects.select_for_update().get(pk=self.pk).facts()
            changes = difference(before, dict.fromkeys(before))
            AuditEntry.objects.record(
                AuditAction.WEBHOOK_DELETE, by=by, organization=self.organization, target=self.name, changes=changes
            )
            self.delete()

    def _record(
        self, action: AuditAction, before: dict[str, object], by: Actor, *, address_changed: bool = False
    ) -> None:
        changes = difference(before, self.facts())
        if address_changed:
            changes.setdefault("address", ["…", "changed"])
        AuditEntry.objects.record(action, by=by, organization=self.organization, target=self.name, changes=changes)


def _derived(pepper_number: int, nonce: str) -> str:
    """Return the secret that a pepper and a nonce give."""
    pepper = settings.KEY_PEPPERS[pepper_number]
    derived = hmac.new(pepper, f"webhook:{nonce}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(derived).decode()
