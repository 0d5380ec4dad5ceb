"""The audit log: who did what to which key, from where, when; append-only and chained, by database triggers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from django.conf import settings
from django.db import models
from django.utils import timezone

from apikeys.key_secret import redact
from apikeys.models.audit_chain import ContentHashField

if TYPE_CHECKING:
    from apikeys.models.key import ApiKey
    from apikeys.models.organization import Organization
    from apikeys.models.user import User


class AuditAction(models.TextChoices):
    """Every action that leaves an entry; the value is what filters and exports use."""

    KEY_ISSUE = "key.issue", "issued the key"
    KEY_SHOW = "key.show", "saw the full key"
    KEY_EDIT = "key.edit", "edited the key"
    KEY_NARROW = "key.narrow", "took scopes from the key"
    KEY_PAUSE = "key.pause", "paused the key"
    KEY_RESUME = "key.resume", "resumed the key"
    KEY_REVOKE = "key.revoke", "revoked the key"
    KEY_REGENERATE = "key.regenerate", "regenerated the key"
    ROTATION_START = "rotation.start", "started rotating the key"
    ROTATION_LINK = "rotation.link", "sent a link to the new key of"
    ROTATION_TAKE = "rotation.take", "took the new key of"
    ROTATION_CLOCK = "rotation.clock", "began to count the overlap of"
    ROTATION_EXTEND = "rotation.extend", "moved the end of the rotation of"
    ROTATION_FINISH = "rotation.finish", "finished the rotation of"
    ROTATION_CANCEL = "rotation.cancel", "cancelled the rotation of"
    KEY_EXEMPT = "key.exempt", "exempted the key"
    KEY_EXEMPT_END = "key.exempt_end", "ended the exemption of the key"
    REVIEW_START = "review.start", "started the review"
    REVIEW_CONFIRM = "review.confirm", "answered in a review for the key"
    REVIEW_REMIND = "review.remind", "reminded those who are to answer in the review"
    REVIEW_CLOSE = "review.close", "closed the review"
    REVIEW_EXPORT = "review.export", "exported the review"
    POLICY_EDIT = "policy.edit", "changed the policy of"
    POLICY_EXEMPT = "policy.exempt", "exempted from the policy the key"
    POLICY_EXEMPT_END = "policy.exempt_end", "ended an exemption from the policy of the key"
    KEY_READ = "key.read", "looked at who uses the key"
    KEY_EXPORT = "key.export", "exported the key list"
    ROTATION_EXPORT = "rotation.export", "exported the list of rotations"
    AUDIT_READ = "audit.read", "read the audit log"
    AUDIT_EXPORT = "audit.export", "exported the audit log"
    USAGE_EXPORT = "usage.export", "exported usage"
    SCOPE_CREATE = "scope.create", "added the scope"
    SCOPE_EDIT = "scope.edit", "edited the scope"
    SCOPE_DELETE = "scope.delete", "deleted the scope"
    ENVIRONMENT_CREATE = "environment.create", "added the environment"
    ENVIRONMENT_EDIT = "environment.edit", "edited the environment"
    ENVIRONMENT_DELETE = "environment.delete", "deleted the environment"
    MEMBER_READ = "member.read", "looked at the members"
    MEMBER_ADD = "member.add", "added the member"
    MEMBER_EDIT = "member.edit", "changed the role of"
    MEMBER_REMOVE = "member.remove", "removed the member"
    MEMBER_JOIN = "member.join", "joined by an invitation, as"
    MEMBER_LEAVE = "member.leave", "left the organization, as"
    INVITATION_SEND = "invitation.send", "invited"
    INVITATION_RESEND = "invitation.resend", "sent another invitation to"
    INVITATION_WITHDRAW = "invitation.withdraw", "withdrew the invitation of"
    ORGANIZATION_CREATE = "organization.create", "created the organization"
    ORGANIZATION_EDIT = "organization.edit", "edited the organization"
    ALERT_ACKNOWLEDGE = "alert.acknowledge", "acknowledged an alert of"
    ALERT_RESOLVE = "alert.resolve", "resolved an alert of"
    ALERT_RULE_EDIT = "alert.rule_edit", "edited the alert rule"
    ALERT_SETTINGS_EDIT = "alert.settings_edit", "changed when the digest of alerts is sent"
    ALERT_MAIL_EDIT = "alert.mail_edit", "chose which alerts to be mailed to"
    ALERT_EXPORT = "alert.export", "exported the alerts"
    WEBHOOK_CREATE = "webhook.create", "added the webhook"
    WEBHOOK_EDIT = "webhook.edit", "edited the webhook"
    WEBHOOK_ROTATE = "webhook.rotate", "made a new secret of the webhook"
    WEBHOOK_DELETE = "webhook.delete", "deleted the webhook"
    DELIVERY_RESEND = "delivery.resend", "had an alert told again to"
    SIGN_ON_MAP = "sign_on.map", "mapped for single sign-on the domain"
    SIGN_ON_UNMAP = "sign_on.unmap", "unmapped from single sign-on the domain"
    SIGN_ON_LINK = "sign_on.link", "linked to single sign-on the account of"
    SIGN_ON_UNLINK = "sign_on.unlink", "unlinked from single sign-on the account of"
    SIGN_ON_ADDRESS = "sign_on.address", "signed on with another address than"
    SIGN_IN = "account.sign_in", "signed in"
    SIGN_IN_FAILED = "account.sign_in_failed", "failed to sign in"
    SESSION_END = "account.session_end", "ended a session of"
    SIGN_OUT = "account.sign_out", "signed out"
    PROOF = "account.proof", "confirmed that it is them"
    PROOF_FAILED = "account.proof_failed", "failed to confirm that it is them"
    FACTOR_ADD = "account.factor_add", "added a second factor for"
    FACTOR_REMOVE = "account.factor_remove", "removed a second factor of"
    FACTOR_FAILED = "account.factor_failed", "failed with a second factor of"
    PASSWORD_CHANGE = "account.password_change", "changed their password"


def audit_actions() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new action needs no migration."""
    return AuditAction.choices


class Via(models.TextChoices):
    """The surface that an action came through."""

    DASHBOARD = "dashboard", "dashboard"
    COMMAND = "command", "command line"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where: the ``by=`` of every verb."""

    label: str
    via: Via
    user: User | None = None
    address: str | None = None
    user_agent: str = ""

    @classmethod
    def command(cls, user: User | None = None) -> Actor:
        """Return the actor of a management command, on behalf of a person where one is named."""
        return cls(label=user.email if user else "command line", via=Via.COMMAND, user=user)

    @classmethod
    def scheduled(cls) -> Actor:
        """Return the actor of what happens by itself, when a scheduled command finds it due."""
        return cls(label="scheduled job", via=Via.COMMAND)


type Changes = dict[str, list[Any]]


class Target(NamedTuple):
    """What one of several entries is about, and what was changed of it."""

    label: str
    key: ApiKey | None
    changes: Changes


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Return ``{field: [before, after]}`` of what differs, in values that JSON holds."""
    return {
        name: [_plain(before.get(name)), _plain(value)] for name, value in after.items() if before.get(name) != value
    }


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    # No fractions: JSON's canonical form writes them in a way of its own, and databases give them back in others.
    return value if isinstance(value, str | int | bool | list | type(None)) else str(value)


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    """Recording and reading of entries."""

    def record(
        self,
        action: AuditAction,
        *,
        by: Actor,
        organization: Organization | None,
        target: str = "",
        key: ApiKey | None = None,
        changes: Changes | None = None,
        reason: str = "",
    ) -> AuditEntry:
        """Append one entry. Call it inside the transaction of the change that it describes.

        What came from outside may hold a pasted key; its secret is left out.
        """
        entry = self._entry(action, Target(target, key, changes or {}), by, organization, reason)
        entry.save(force_insert=True)
        return entry

    def record_all(
        self,
        action: AuditAction,
        targets: Iterable[Target],
        *,
        by: Actor,
        organization: Organization | None,
        reason: str = "",
    ) -> None:
        """Append an entry of the same action for each of several things; see record()."""
        entries = [self._entry(action, target, by, organization, reason) for target in targets]
        self.bulk_create(entries, batch_size=500)

    def _entry(
        self, action: AuditAction, target: Target, by: Actor, organization: Organization | None, reason: str
    ) -> AuditEntry:
        key = target.key
        return self.model(
            at=timezone.now(),
            organization=organization,
            actor=by.user,
            actor_label=redact(by.label)[:254],
            via=by.via,
            address=by.address,
            user_agent=redact(by.user_agent)[:200],
            action=action,
            target_label=(key.name if key else target.label)[:200],
            key_id=key.pk if key else None,
            key_public_id=key.public_id if key else "",
            key_fingerprint=key.fingerprint if key else "",
            changes=target.changes,
            reason=redact(reason)[:500],
        )


class AuditEntry(models.Model):
    """One action of one actor. The database refuses to change or delete it, and adds its link to the chain."""

    at = models.DateTimeField()
    organization = models.ForeignKey(
        "apikeys.Organization", models.PROTECT, null=True, related_name="audit_entries", editable=False
    )
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    actor_label = models.CharField(max_length=254)
    via = models.CharField(max_length=16, choices=Via.choices)
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=200, blank=True)
    action = models.CharField(max_length=32, choices=audit_actions)
    target_label = models.CharField(max_length=200, blank=True)
    key_id = models.BigIntegerField(null=True)
    key_public_id = models.CharField(max_length=12, blank=True)
    key_fingerprint = models.CharField(max_length=40, blank=True)
    changes = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True)
    content_hash = ContentHashField(max_length=64, editable=False)

    objects: ClassVar = AuditEntryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["organization", "-id"], name="audit_newest"),
            models.Index(fields=["key_id", "-id"], name="audit_of_key"),
        ]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor_label} {self.get_action_display()} {self.target_label}".rstrip()
