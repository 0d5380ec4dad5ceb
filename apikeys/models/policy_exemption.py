"""Exemptions from a policy: that a key may violate one of its rules until a day, by whom, and why."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, NamedTuple, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, difference
from apikeys.models.exemption import StaleExemptionError, term_errors
from apikeys.models.key import ApiKey, KeyExpiredError
from apikeys.models.key_status import Status
from apikeys.models.organization import Organization
from apikeys.models.policy_rule import PolicyRule, policy_rules
from apikeys.models.text import validate_line


class PolicyExemptionTerms(NamedTuple):
    """Why a key may violate a rule, and until when."""

    reason: str
    until: datetime


class PolicyExemptionQuerySet(models.QuerySet["PolicyExemption"]):
    """Granting of exemptions, and which of them run."""

    def running(self) -> Self:
        """Return those whose end is yet to come, of keys that are not revoked."""
        return self.filter(until__gt=timezone.now(), key__revoked_at__isnull=True)

    def for_pages(self) -> Self:
        """Fetch with each what a page shows of it."""
        return self.select_related("key__organization", "key__environment", "changed_by")

    def grant(
        self,
        key: ApiKey,
        rule: PolicyRule,
        terms: PolicyExemptionTerms,
        *,
        by: Actor,
        seen: datetime | None = None,
    ) -> bool:
        """Let a key violate a rule until an instant, or change the exemption that runs; False when it is so already.

        ``seen`` is ``changed_at`` of the exemption, run out or not, when this was asked; None when there was none.
        Raises ValidationError naming the field, StaleExemptionError, KeyRevokedError, KeyExpiredError.
        """
        with transaction.atomic():
            Organization.objects.lock(key.organization_id)
            if key.lock().status is Status.EXPIRED:
                raise KeyExpiredError
            current = self.filter(key=key, rule=rule).first()
            new = current or self.model(organization=key.organization, key=key, rule=rule)
            before = current.facts() if current and current.is_running else {}
            seen_now = current.changed_at if current else None
            new.reason, new.until = terms.reason.strip(), terms.until
            new.validate()
            changes = difference(before, new.facts())
            if not set(changes) & {"reason", "until"}:
                return False
            if seen_now != seen:
                raise StaleExemptionError
            new.store(AuditAction.POLICY_EXEMPT, changes, by=by)
        return True


class PolicyExemption(models.Model):
    """That a key may violate a rule: until its end it is not listed, and what it violates is no reason to refuse it."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="policy_exemptions")
    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="policy_exemptions")
    rule = models.CharField(max_length=16, choices=policy_rules)
    reason = models.CharField(max_length=200, validators=[validate_line])
    until = models.DateTimeField()
    changed_at = models.DateTimeField()
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    changed_by_label = models.CharField(max_length=254, blank=True)

    objects: ClassVar = PolicyExemptionQuerySet.as_manager()

    class Meta:
        ordering = ["until", "id"]
        constraints = [models.UniqueConstraint(fields=["key", "rule"], name="one_policy_exemption_per_rule")]
        indexes = [models.Index(fields=["organization", "until", "id"], name="policy_exemption_by_end")]

    def __str__(self) -> str:
        return f"{self.key_id} may violate {self.rule} until {self.until.isoformat()}"

    @property
    def is_running(self) -> bool:
        """Whether its end is yet to come."""
        return self.until > timezone.now()

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares."""
        return {"rule": PolicyRule(self.rule).label, "reason": self.reason, "until": self.until}

    def validate(self) -> None:
        """Raise ValidationError naming each field that is wrong."""
        if errors := term_errors(self.until, self.reason, PolicyExemption.reason.field):
            raise ValidationError(errors)

    def store(self, action: AuditAction, changes: Changes, *, by: Actor) -> None:
        """Save what was granted or changed, with its audit entry. Call it in the transaction that found the changes."""
        self.changed_at, self.changed_by, self.changed_by_label = timezone.now(), by.user, by.label
        self.save()
        # Which rule it is about goes without change.
        told: Changes = {"rule": [None, PolicyRule(self.rule).label], **changes}
        AuditEntry.objects.record(action, by=by, organization=self.organization, key=self.key, changes=told)

    def pass_on(self, key: ApiKey, *, by: Actor) -> None:
        """Let the key that replaces this one's violate the rule on the same terms."""
        with transaction.atomic():
            new = PolicyExemption(
                organization=self.organization, key=key, rule=self.rule, reason=self.reason, until=self.until
            )
            new.store(AuditAction.POLICY_EXEMPT, difference({}, new.facts()), by=by)

    def end(self, *, by: Actor, seen: datetime | None = None) -> bool:
        """Let the rule hold for the key again; False when the exemption is over already.

        Raises StaleExemptionError when it was changed since ``seen``.
        """
        with transaction.atomic():
            current = PolicyExemption.objects.select_for_update(of=("self",)).for_pages().get(pk=self.pk)
            if not current.is_running:
                return False
            if seen is not None and seen != current.changed_at:
                raise StaleExemptionError
            changes = difference({"until": current.until}, {"until": None})
            current.until = timezone.now()
            current.store(AuditAction.POLICY_EXEMPT_END, changes, by=by)
        return True
