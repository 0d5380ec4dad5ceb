"""Exemptions: that a key may be silent until a day, because somebody answers for that and says why."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar, NamedTuple, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, difference
from apikeys.models.key import ApiKey, KeyExpiredError, KeyRevokedError
from apikeys.models.key_status import Status
from apikeys.models.organization import Member, Organization
from apikeys.models.reach import require_reach
from apikeys.models.text import validate_line

# Two years and the rest of their last day.
LONGEST_EXEMPTION = timedelta(days=731)


class StaleExemptionError(Exception):
    """Somebody else granted, changed or ended the exemption since the form was opened."""


class ExemptionTerms(NamedTuple):
    """Who answers for a key's silence, why it may be silent, and until when."""

    owner: Member
    reason: str
    until: datetime


def term_errors(until: datetime, reason: str, column: models.Field[str, str]) -> dict[str, list[str]]:
    """Return what is wrong with any exemption's end and reason, by field; ``column`` is that of the reason."""
    errors: dict[str, list[str]] = {}
    now = timezone.now()
    if until <= now:
        errors["until"] = ["The end must be in the future."]
    elif until > now + LONGEST_EXEMPTION:
        errors["until"] = ["The end must be within two years."]
    try:
        column.clean(reason, None)
    except ValidationError as error:
        errors["reason"] = error.messages
    return errors


class KeyExemptionQuerySet(models.QuerySet["KeyExemption"]):
    """Granting of exemptions, and which of them run."""

    def running(self) -> Self:
        """Return those whose end is yet to come, of keys that are not revoked."""
        return self.filter(until__gt=timezone.now(), key__revoked_at__isnull=True)

    def grant(self, key: ApiKey, terms: ExemptionTerms, *, by: Actor, seen: datetime | None = None) -> bool:
        """Let a key be silent until an instant, or change the exemption that runs; False when it is so already.

        ``seen`` is ``changed_at`` of the exemption, run out or not, when this was asked; None when there was none.
        Raises ValidationError naming the field, StaleExemptionError, KeyRevokedError, KeyExpiredError.
        """
        require_reach(by, key.environment)
        with transaction.atomic():
            # As who removes a member does: otherwise somebody could become the owner while they leave.
            Organization.objects.lock(key.organization_id)
            _require_usable(key)
            current = self.filter(key=key).select_related("owner__user").first()
            new = self.model(key=key, owner=terms.owner, reason=terms.reason.strip(), until=terms.until)
            new.validate()
            changes = difference(current.facts() if current and current.is_running else {}, new.facts())
            if not changes:
                return False
            if (current.changed_at if current else None) != seen:
                raise StaleExemptionError
            new.store(AuditAction.KEY_EXEMPT, changes, by=by)
        return True


class KeyExemption(models.Model):
    """That a key may be silent: until its end the key does not count as unused. A key has one at most."""

    key = models.OneToOneField(ApiKey, models.CASCADE, primary_key=True, related_name="exemption")
    owner = models.ForeignKey(Member, models.PROTECT, related_name="owned_exemptions")
    reason = models.CharField(max_length=200, validators=[validate_line])
    until = models.DateTimeField()
    changed_at = models.DateTimeField()
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    changed_by_label = models.CharField(max_length=254, blank=True)

    objects: ClassVar = KeyExemptionQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.key_id} may be silent until {self.until.isoformat()}"

    @property
    def is_running(self) -> bool:
        """Whether its end is yet to come."""
        return self.until > timezone.now()

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares."""
        return {"owner": self.owner.user.email, "reason": self.reason, "until": self.until}

    def validate(self) -> None:
        """Raise ValidationError naming each field that is wrong. Call it with the organization locked."""
        errors: dict[str, list[str]] = {}
        if self.owner.organization_id != self.key.organization_id or not Member.objects.filter(pk=self.owner_id):
            errors["owner"] = ["The owner is not a member of this organization."]
        elif not self.owner.user.is_active:
            errors["owner"] = ["The owner's account is closed."]
        if errors := errors | term_errors(self.until, self.reason, KeyExemption.reason.field):
            raise ValidationError(errors)

    def store(self, action: AuditAction, changes: Changes, *, by: Actor) -> None:
        """Save what was granted or changed, with its audit entry. Call it in the transaction that found the changes."""
        self.changed_at, self.changed_by, self.changed_by_label = timezone.now(), by.user, by.label
        self.save()
        AuditEntry.objects.record(action, by=by, organization=self.key.organization, key=self.key, changes=changes)

    def hand_over(self, owner: Member, *, by: Actor) -> None:
        """Let another member answer for the silence."""
        with transaction.atomic():
            changes = difference({"owner": self.owner.user.email}, {"owner": owner.user.email})
            self.owner = owner
            self.store(AuditAction.KEY_EXEMPT, changes, by=by)

    def pass_on(self, key: ApiKey, *, by: Actor) -> None:
        """Let the key that replaces this one's be silent on the same terms."""
        with transaction.atomic():
            new = KeyExemption(key=key, owner=self.owner, reason=self.reason, until=self.until)
            new.store(AuditAction.KEY_EXEMPT, difference({}, new.facts()), by=by)

    def end(self, *, by: Actor, seen: datetime | None = None) -> bool:
        """Let the key count as unused again, if it is; False when the exemption is over already.

        Raises StaleExemptionError when it was changed since ``seen``.
        """
        require_reach(by, self.key.environment)
        with transaction.atomic():
            current = KeyExemption.objects.select_for_update(of=("self",)).select_related("owner__user").get(pk=self.pk)
            if not current.is_running:
                return False
            if seen is not None and seen != current.changed_at:
                raise StaleExemptionError
            changes = difference(current.facts(), dict.fromkeys(current.facts()))
            current.until = timezone.now()
            current.store(AuditAction.KEY_EXEMPT_END, changes, by=by)
        return True


def _require_usable(key: ApiKey) -> None:
    status = ApiKey.objects.select_for_update(of=("self",)).get(pk=key.pk).status
    if status == Status.REVOKED:
        raise KeyRevokedError
    if status == Status.EXPIRED:
        raise KeyExpiredError
