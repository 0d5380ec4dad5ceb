"""An organization's policy: what it asks of its keys, and what that means for one that is made or changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils import timezone

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, Via, difference
from apikeys.models.catalogue import Scope
from apikeys.models.key_networks import KeyNetwork
from apikeys.models.key_terms import MAX_RATE, RATE_PERIODS
from apikeys.models.organization import MOST_KEY_AGE, Member, Organization, Role
from apikeys.models.policy_rule import BY_POLICY, Fault, PolicyRule, PolicyTerms, Standing, is_no_worse

if TYPE_CHECKING:
    from apikeys.models.key import ApiKey

MOST_PURPOSE: Final = 200
LIFETIME_FAULT: Final = f"Between 1 and {MOST_KEY_AGE:,} days, or empty for no limit."
PURPOSE_FAULT: Final = f"Between 1 and {MOST_PURPOSE} characters, or empty: any purpose will do."
RATE_FAULT: Final = f"Between 1 and {MAX_RATE:,} requests, or empty for no limit."
# They are read with every list, so they lie with the organization.
_OF_ORGANIZATION: Final = ("max_key_age", "unused_after_days")


class StalePolicyError(Exception):
    """Somebody else changed the policy since the form was opened."""


def acts_as_admin(by: Actor, organization_id: int) -> bool:
    """Say whether somebody may do what needs an admin: an admin, or a command that acts on behalf of nobody.

    Whoever runs commands holds the database itself.
    """
    if by.user is None:
        return by.via == Via.COMMAND
    admins = Member.objects.filter(organization=organization_id, user=by.user, role=Role.ADMIN)
    return bool(admins.exists())


class PolicyQuerySet(models.QuerySet["Policy"]):
    """Finding of policies."""

    def of(self, organization: Organization) -> Policy:
        """Return an organization's policy, the one that asks nothing where none was set."""
        found: Policy = self.filter(organization=organization).first() or self.model()
        found.organization = organization
        return found


class Policy(models.Model):
    """What an organization asks of its keys. Which scopes need an admin is said with the scopes."""

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="policy")
    max_lifetime = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1, LIFETIME_FAULT), MaxValueValidator(MOST_KEY_AGE, LIFETIME_FAULT)],
    )
    expiry_required = models.BooleanField(default=False)
    least_purpose = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1, PURPOSE_FAULT), MaxValueValidator(MOST_PURPOSE, PURPOSE_FAULT)],
    )
    owner_required = models.BooleanField(default=False)
    networks_required = models.BooleanField(default=False)
    environments_apart = models.BooleanField(default=False)
    max_rate = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1, RATE_FAULT), MaxValueValidator(MAX_RATE, RATE_FAULT)],
    )
    max_rate_period = models.PositiveIntegerField(default=1, choices=list(RATE_PERIODS.items()))
    changed_at = models.DateTimeField(null=True)
    changed_by_label = models.CharField(max_length=254, blank=True)

    objects: ClassVar = PolicyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return f"policy of {self.organization_id}"

    @property
    def terms(self) -> PolicyTerms:
        """What it asks, without the scopes that need an admin; see full_terms()."""
        return PolicyTerms(
            max_lifetime=self.max_lifetime,
            expiry_required=self.expiry_required,
            least_purpose=self.least_purpose,
            owner_required=self.owner_required,
            networks_required=self.networks_required,
            environments_apart=self.environments_apart,
            max_rate=(self.max_rate, self.max_rate_period) if self.max_rate else None,
            max_key_age=self.organization.max_key_age,
            unused_after_days=self.organization.unused_after_days,
        )

    def full_terms(self) -> PolicyTerms:
        """Return all that it asks."""
        scopes = tuple(self.organization.scopes.filter(needs_admin=True))
        return replace(self.terms, admin_scopes=scopes)

    # What may be done to it

    def edit(self, terms: PolicyTerms, *, by: Actor, seen: str | None = None) -> bool:
        """Ask something else of keys, from now on; False when that is so already.

        ``seen`` is the digest() of the terms that were shown to who asks. Raises ValidationError naming each field
        that is wrong, StalePolicyError.
        """
        with transaction.atomic():
            organization = Organization.objects.lock(self.organization_id)
            current = Policy.objects.of(organization)
            before = current.full_terms()
            if seen is not None and seen != digest(before):
                raise StalePolicyError
            changes = difference(before.facts(), terms.facts())
            current.apply(terms)
            if not changes:
                return False
            current.changed_at, current.changed_by_label = timezone.now(), by.label
            current.save()
            organization.save(update_fields=_OF_ORGANIZATION)
            asked = [scope.pk for scope in terms.admin_scopes]
            organization.scopes.filter(needs_admin=True).exclude(pk__in=asked).update(needs_admin=False)
            organization.scopes.filter(needs_admin=False, pk__in=asked).update(needs_admin=True)
            self._record(organization, changes, by)
        return True

    def _record(self, organization: Organization, changes: Changes, by: Actor) -> None:
        AuditEntry.objects.record(
            AuditAction.POLICY_EDIT, by=by, organization=organization, target=organization.name, changes=changes
        )

    def apply(self, terms: PolicyTerms) -> None:
        """Take over what is asked, without saving. Raises ValidationError naming each field that is wrong."""
        self.max_lifetime, self.expiry_required = terms.max_lifetime, terms.expiry_required
        self.least_purpose, self.owner_required = terms.least_purpose, terms.owner_required
        self.networks_required, self.environments_apart = terms.networks_required, terms.environments_apart
        self.max_rate, self.max_rate_period = terms.max_rate or (None, 1)
        self.organization.max_key_age = terms.max_key_age
        self.organization.unused_after_days = terms.unused_after_days
        errors: dict[str, list[str]] = self._faults(terms)
        for part, names in ((self, None), (self.organization, _OF_ORGANIZATION)):
            left_out = {field.name for field in part._meta.fields if names and field.name not in names}
            try:
                part.clean_fields(exclude={"organization", "changed_at", *left_out, *errors})
            except ValidationError as error:
                errors |= error.message_dict
        if errors:
            raise ValidationError(errors)

    def _faults(self, terms: PolicyTerms) -> dict[str, list[str]]:
        """Return what contradicts itself, or is not the organization's."""
        faults: dict[str, list[str]] = {}
        found = {scope.pk for scope in terms.admin_scopes}
        if self.organization.scopes.filter(pk__in=found).count() < len(found):
            faults["admin_scopes"] = ["A scope is not in this organization's catalogue, or was deleted meanwhile."]
        if terms.max_lifetime is None:
            return faults
        if not terms.expiry_required:
            faults["expiry_required"] = ["With a longest lifetime every key expires: require it, or leave that empty."]
        for name, word in (("max_key_age", "rotated"), ("unused_after_days", "unused")):
            if (getattr(terms, name) or 0) > terms.max_lifetime:
                told = f"At most the longest lifetime, {terms.max_lifetime:,} days: no key lives to be {word}."
                faults[name] = [told]
        return faults

    # What it means for a key

    def require(
        self, key: ApiKey, scopes: Sequence[Scope], *, by: Actor, before: Callable[[], Standing] | None = None
    ) -> frozenset[int]:
        """Refuse a key that would violate it with some scopes, and return the scopes that an admin gives it now.

        ``before`` returns what the key, or the one whose place it takes, was like: a violation that it had already, and
        that becomes no worse, is no reason to refuse. Call it with the organization locked. Raises ValidationError
        naming each field that is wrong.
        """
        after = Standing.of(key, scopes, key.expires_at)
        faults = self.terms.faults(after)
        if self.environments_apart and after.networks:
            faults |= self._separation_fault(key, after)
        exempt = self._exempt_rules(key) if faults else frozenset()
        faults = {rule: fault for rule, fault in faults.items() if rule not in exempt}
        was = before() if before and faults else None
        if was:
            had = self._had(was)
            faults = {rule: one for rule, one in faults.items() if rule not in had or not is_no_worse(rule, was, after)}
        is_admin = acts_as_admin(by, key.organization_id)
        if not is_admin and (fault := self._scope_fault(after, before)):
            faults[PolicyRule.SCOPES] = fault
        if faults:
            errors: dict[str, list[str]] = {}
            for field, told in faults.values():
                errors.setdefault(field, []).append(told)
            raise ValidationError(errors)
        return after.scopes if is_admin else frozenset()

    def _had(self, was: Standing) -> Iterable[PolicyRule]:
        # Whether the networks were shared before is not asked: they are the same, or it is no excuse. To live for long
        # is less than to live for ever.
        had = {*self.terms.faults(was), PolicyRule.SEPARATION}
        return had | {PolicyRule.LIFETIME} if PolicyRule.EXPIRY in had else had

    def _exempt_rules(self, key: ApiKey) -> frozenset[str]:
        keys = [pk for pk in (key.pk, key.replaces_id) if pk]
        running = key.organization.policy_exemptions.filter(key__in=keys, until__gt=timezone.now())
        return frozenset(running.values_list("rule", flat=True))

    def _separation_fault(self, key: ApiKey, after: Standing) -> dict[PolicyRule, Fault]:
        others, now = not after.in_production, timezone.now()
        shared = KeyNetwork.objects.shared(key.organization, after.networks, now, production=others)
        if not shared:
            return {}
        whose = "keys of other environments" if after.in_production else "production keys"
        told = f"{', '.join(shared)}: {whose} may be used from there, and environments are apart, {BY_POLICY}."
        return {PolicyRule.SEPARATION: Fault("networks", told)}

    def _scope_fault(self, after: Standing, before: Callable[[], Standing] | None) -> Fault | None:
        needing = Scope.objects.filter(pk__in=after.scopes, needs_admin=True)
        if not (asked := dict(needing.values_list("pk", "name"))):
            return None
        had = before().scopes if before else frozenset()
        names = sorted(name for pk, name in asked.items() if pk not in had)
        if not names:
            return None
        return Fault("scopes", f"An admin must give {', '.join(names)}, {BY_POLICY}.")

    def successor_expiry(self, expires_at: datetime | None, key: ApiKey) -> datetime | None:
        """Return when a key that takes another's place now expires instead of an end: as late as it may.

        Whoever replaces a key that leaked is not to be held up by how long the old one was to live.
        """
        latest = self.terms.latest_expiry(timezone.now())
        if latest is None or (expires_at is not None and expires_at <= latest):
            return expires_at
        rule = PolicyRule.EXPIRY if expires_at is None else PolicyRule.LIFETIME
        return expires_at if rule in self._exempt_rules(key) else latest

    def expiry_fault(self, key: ApiKey, expires_at: datetime | None, own_expiry: datetime | None) -> str:
        """Say what is wrong with the end of the key that takes another's place now, nothing when it may be."""
        was = Standing.of(key, (), own_expiry)
        after = replace(was, created_at=timezone.now(), expires_at=expires_at)
        faults = self.terms.faults(after)
        had, exempt = self.terms.faults(was), self._exempt_rules(key) if faults else frozenset()
        for rule in (PolicyRule.LIFETIME, PolicyRule.EXPIRY):
            carried = rule is PolicyRule.EXPIRY and rule in had and self.max_lifetime is None
            if rule in faults and rule not in exempt and not carried:
                return faults[rule].told
        return ""


def digest(terms: PolicyTerms) -> str:
    """Return what tells whether a form was made from the same terms."""
    return hashlib.sha256(json.dumps(terms.facts(), sort_keys=True).encode()).hexdigest()[:32]
