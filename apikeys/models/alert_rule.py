"""How an organization is told of alerts: a rule a kind, and when the daily digest is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models, transaction
from django.utils import timezone

from apikeys.models.alert_kind import AlertKind, OptionValue, Traits, alert_kinds
from apikeys.models.audit import Actor, AuditAction, AuditEntry, difference
from apikeys.models.organization import Member, Organization, Role
from apikeys.time_zones import UTC, find_zone

DIGEST_HOUR = 8


class AlertSettingsQuerySet(models.QuerySet["AlertSettings"]):
    """Reading and locking of an organization's settings."""

    def of(self, organization: Organization) -> AlertSettings:
        """Return the settings, the usual ones where none were made."""
        return self.filter(organization=organization).first() or self.model(organization=organization)

    def lock(self, organization: Organization) -> AlertSettings:
        """Lock and return the settings: whoever raises, sends or ends alerts of an organization waits for each other.

        Nobody who uses or manages keys waits for that.
        """
        self.bulk_create([self.model(organization=organization)], ignore_conflicts=True)
        return self.select_for_update().get(organization=organization)


class AlertSettings(models.Model):
    """When an organization's digest is sent, and up to when its usage was judged."""

    organization = models.OneToOneField(Organization, models.CASCADE, primary_key=True, related_name="alert_settings")
    digest_hour = models.PositiveSmallIntegerField(default=DIGEST_HOUR, validators=[MaxValueValidator(23)])
    digest_zone = models.CharField(max_length=64, default="UTC")
    # The first hour that is not judged yet, None before the first run.
    judged_until = models.DateTimeField(null=True)

    objects: ClassVar = AlertSettingsQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.organization_id}: digest at {self.digest_hour}:00 {self.digest_zone}"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the digest, UTC where the stored one does not exist any more."""
        return find_zone(self.digest_zone) or UTC

    def next_digest(self, now: datetime) -> datetime:
        """Return when the next digest after an instant is due, at the same hour of the clock on each day.

        An hour that a day lacks, when clocks are put forward, is the one after it.
        """
        local = now.astimezone(self.zone)
        due = local.replace(hour=self.digest_hour, minute=0, second=0, microsecond=0, fold=0)
        if due.astimezone(UTC) <= now:
            due = due + timedelta(days=1)
        return due.astimezone(UTC)

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares."""
        return {"digest_hour": self.digest_hour, "digest_zone": self.digest_zone}

    def edit(self, *, digest_hour: int, digest_zone: str, by: Actor) -> bool:
        """Choose when the digest is sent; False when nothing changes. Raises ValidationError naming the field."""
        zone = find_zone(digest_zone)
        if zone is None:
            raise ValidationError({"digest_zone": [f"There is no time zone {digest_zone[:64]!r}."]})
        with transaction.atomic():
            stored = AlertSettings.objects.lock(self.organization)
            before = stored.facts()
            self.digest_hour, self.digest_zone = digest_hour, zone.key
            self.clean_fields(exclude=["judged_until"])
            changes = difference(before, self.facts())
            if not changes:
                return False
            stored.digest_hour, stored.digest_zone = digest_hour, zone.key
            stored.save(update_fields=["digest_hour", "digest_zone"])
            AuditEntry.objects.record(
                AuditAction.ALERT_SETTINGS_EDIT, by=by, organization=self.organization, target="", changes=changes
            )
        return True


@dataclass(frozen=True, slots=True)
class AlertRuleTerms:
    """What a rule says: whether the kind is looked for, how urgent it is, who is mailed, and what tunes it.

    ``role`` is the least role that is mailed, None for no member; ``to_owner`` mails the key's owner.
    """

    is_on: bool
    is_urgent: bool
    role: Role | None
    to_owner: bool
    options: Mapping[str, OptionValue]

    @classmethod
    def usual(cls, kind: AlertKind) -> AlertRuleTerms:
        """Return what holds where an organization says nothing."""
        traits = kind.traits
        options = {
            one.name: list(one.default) if isinstance(one.default, tuple) else one.default for one in traits.options
        }
        return cls(traits.is_on, traits.is_urgent, traits.role, traits.to_owner, options)

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares."""
        told = {"is_on": self.is_on, "is_urgent": self.is_urgent, "role": self.role or "", "to_owner": self.to_owner}
        return {**told, **self.options}


class AlertRuleQuerySet(models.QuerySet["AlertRule"]):
    """Reading and changing of rules."""

    def of(self, organization: Organization) -> dict[AlertKind, AlertRule]:
        """Return the rule of each kind, in the order of kinds; the usual one where none was made."""
        stored = {rule.kind: rule for rule in self.filter(organization=organization)}
        return {kind: stored.get(kind) or self.usual(organization, kind) for kind in AlertKind}

    def one(self, organization: Organization, kind: AlertKind) -> AlertRule:
        """Return the rule of a kind."""
        return self.filter(organization=organization, kind=kind).first() or self.usual(organization, kind)

    def urgent_kinds(self, organization: Organization) -> list[AlertKind]:
        """Return the kinds that are mailed at once."""
        return [kind for kind, rule in self.of(organization).items() if rule.is_urgent]

    def usual(self, organization: Organization, kind: AlertKind) -> AlertRule:
        """Return the rule that holds where an organization says nothing; it is not stored."""
        rule = self.model(organization=organization, kind=kind)
        rule.apply(AlertRuleTerms.usual(kind))
        return rule


class AlertRule(models.Model):
    """What an organization says about one kind of alerts. Without a row the kind's usual terms hold."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="alert_rules")
    kind = models.CharField(max_length=16, choices=alert_kinds)
    is_on = models.BooleanField()
    is_urgent = models.BooleanField()
    role = models.CharField(max_length=16, choices=Role.choices, blank=True)
    to_owner = models.BooleanField()
    options = models.JSONField(default=dict)
    changed_at = models.DateTimeField(null=True)

    objects: ClassVar = AlertRuleQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "kind"], name="one_rule_a_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {'on' if self.is_on else 'off'}"

    @property
    def terms(self) -> AlertRuleTerms:
        """What the rule says; an option that was added since it was stored has its usual value."""
        usual = AlertRuleTerms.usual(AlertKind(self.kind)).options
        options = {name: self.options.get(name, value) for name, value in usual.items()}
        role = Role(self.role) if self.role else None
        return AlertRuleTerms(self.is_on, self.is_urgent, role, self.to_owner, options)

    @property
    def traits(self) -> Traits:
        """What is said of its kind."""
        return AlertKind(self.kind).traits

    def option(self, name: str) -> Any:
        """Return the value of an option."""
        return self.terms.options[name]

    @property
    def is_usual(self) -> bool:
        """Whether it says what holds anyway."""
        return self.terms == AlertRuleTerms.usual(AlertKind(self.kind))

    def apply(self, terms: AlertRuleTerms) -> None:
        """Take over terms, without saving."""
        self.is_on, self.is_urgent, self.to_owner = terms.is_on, terms.is_urgent, terms.to_owner
        self.role, self.options = terms.role or "", dict(terms.options)

    def edit(self, terms: AlertRuleTerms, *, by: Actor) -> bool:
        """Change the rule; False when it says so already. Raises ValidationError naming the option that is wrong."""
        terms = _checked(AlertKind(self.kind), terms)
        with transaction.atomic():
            AlertSettings.objects.lock(self.organization)
            stored = AlertRule.objects.one(self.organization, AlertKind(self.kind))
            changes = difference(stored.terms.facts(), terms.facts())
            if not changes:
                return False
            stored.apply(terms)
            stored.changed_at = timezone.now()
            stored.save()
            AuditEntry.objects.record(
                AuditAction.ALERT_RULE_EDIT,
                by=by,
                organization=self.organization,
                target=AlertKind(self.kind).label,
                changes=changes,
            )
        self.apply(terms)
        return True

    def members(self) -> Iterable[Member]:
        """Return the members whom the rule names by role and whose account is open, with their users."""
        if not self.role:
            return []
        least = Role(self.role)
        roles = [role for role in Role if role.includes(least)]
        members = Member.objects.filter(organization=self.organization, role__in=roles, user__is_active=True)
        return members.select_related("user")


def _checked(kind: AlertKind, terms: AlertRuleTerms) -> AlertRuleTerms:
    options, errors = {}, {}
    for option in kind.traits.options:
        try:
            options[option.name] = option.clean(terms.options.get(option.name, option.default))
        except ValidationError as error:
            errors[option.name] = error.messages
    if errors:
        raise ValidationError(errors)
    return AlertRuleTerms(terms.is_on, terms.is_urgent, terms.role, terms.to_owner, options)
