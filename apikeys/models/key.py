"""API keys: what they are, and what may be done to them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models.functions import Lower
from django.dispatch import Signal
from django.urls import reverse
from django.utils import timezone

from apikeys import key_secret
from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, difference
from apikeys.models.catalogue import Environment, Scope
from apikeys.models.extremes import MinuteOrEarliest, OrLatest
from apikeys.models.key_age import ROTATE_SOON, rotate_by
from apikeys.models.key_networks import KeyNetwork
from apikeys.models.key_queries import AlreadyIssuedError, ApiKeyQuerySet, IssuedKey
from apikeys.models.key_status import EXPIRING_WITHIN, Status, is_paused_at, status_at
from apikeys.models.key_terms import (
    LATEST_EXPIRY,
    MAX_RATE,
    RATE_PERIODS,
    KeyTerms,
    RateLimit,
    parse_networks,
    require_scopes,
)
from apikeys.models.organization import Member, Organization
from apikeys.models.policy import Policy
from apikeys.models.policy_rule import PolicyRule, Standing
from apikeys.models.reach import require_reach
from apikeys.models.recording import UsageWatermark
from apikeys.models.silence import KeySilence
from apikeys.models.text import validate_line, validate_text

if TYPE_CHECKING:
    from apikeys.models.exemption import KeyExemption
    from apikeys.models.rhythm import KeyRhythm
    from apikeys.models.rotation import Rotation


class KeyRevokedError(Exception):
    """The key is revoked, and stays so."""


class KeyExpiredError(Exception):
    """The key has expired: what was asked needs a key that is still good."""


class KeyPausedError(Exception):
    """The key is paused: what was asked needs a key that works."""


class RotationRunningError(Exception):
    """The key is in a rotation that runs, as the old or as the new one."""

    def __init__(self, rotation: Rotation) -> None:
        super().__init__(f"Rotation {rotation.pk} runs.")
        self.rotation = rotation


class StaleKeyError(Exception):
    """Somebody else changed the key since the form was opened."""


# How long a pause may last that ends by itself: from the first of these to the last.
PAUSES: Final = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 4 * 60, 8 * 60, 24 * 60))
_PAUSE_FIELDS: Final = ["paused_at", "paused_by", "paused_until"]


# Sent with ``key`` when its revocation has been committed.
key_revoked: Final = Signal()


class RevocationReason(models.TextChoices):
    """Why a key was revoked."""

    LEAKED = "leaked", "Suspected leak"
    UNUSED = "unused", "No longer needed"
    REPLACED = "replaced", "Replaced by another key"
    OWNER_LEFT = "owner_left", "Owner left"
    INCIDENT = "incident", "Security incident"
    REGENERATED = "regenerated", "Regenerated"
    CANCELLED = "cancelled", "Its rotation was cancelled"
    OTHER = "other", "Other"


# These are written by what they name, and cannot be chosen.
WRITTEN_REASONS: Final = frozenset({RevocationReason.REGENERATED, RevocationReason.CANCELLED})


def revocation_reasons() -> list[tuple[str, str]]:
    """Return the choices; as a function, so that a new reason needs no migration."""
    return RevocationReason.choices


class ApiKey(models.Model):
    """One key of an organization. The database refuses to delete it, or to bring a revoked one back."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="keys")
    environment = models.ForeignKey(Environment, models.PROTECT, related_name="keys")
    name = models.CharField(max_length=100, validators=[validate_line])
    purpose = models.CharField(max_length=500, validators=[validate_text])
    owner = models.ForeignKey(Member, models.PROTECT, null=True, blank=True, related_name="owned_keys")
    owner_contact = models.EmailField(blank=True)
    scopes = models.ManyToManyField(Scope, through="KeyScope", related_name="keys")
    expires_at = models.DateTimeField(null=True, blank=True)
    networks = models.JSONField(default=list, blank=True)
    rate_limit = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MAX_RATE)]
    )
    rate_period = models.PositiveIntegerField(default=1, choices=list(RATE_PERIODS.items()))
    rate_burst = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MAX_RATE)]
    )

    prefix = models.CharField(max_length=10, editable=False)
    public_id = models.CharField(max_length=key_secret.PUBLIC_ID_LENGTH, unique=True, editable=False)
    digest = models.BinaryField(max_length=32)
    pepper_number = models.PositiveSmallIntegerField(editable=False)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    created_by_label = models.CharField(max_length=254, blank=True, editable=False)
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    paused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    revoked_by_label = models.CharField(max_length=254, blank=True, editable=False)
    revoked_reason = models.CharField(max_length=16, choices=revocation_reasons, blank=True, editable=False)
    revoked_note = models.CharField(max_length=500, blank=True, editable=False)
    replaces = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, editable=False, related_name="replaced_by_keys"
    )
    # The first key of the lineage, None of those that have no predecessor.
    root = models.ForeignKey("self", models.PROTECT, null=True, blank=True, editable=False, related_name="+")
    version = models.PositiveIntegerField(default=1, editable=False)
    form_token = models.UUIDField(null=True, blank=True, editable=False)

    objects: ClassVar = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "form_token"], name="one_key_per_form"),
            models.CheckConstraint(
                condition=models.Q(owner__isnull=True) ^ models.Q(owner_contact=""), name="one_kind_of_owner"
            ),
        ]
        indexes = [
            # It holds the end, by which expired keys are found without the rows of all others.
            models.Index(
                "organization",
                models.F("created_at").desc(),
                models.F("id").desc(),
                OrLatest("expires_at"),
                name="key_newest",
            ),
            models.Index("organization", Lower("name"), "id", name="key_by_lower_name"),
            models.Index("organization", OrLatest("expires_at"), "id", name="key_by_end"),
            models.Index(
                fields=["organization", "-created_at", "-id"],
                condition=models.Q(revoked_at__isnull=False),
                name="key_revoked",
            ),
            # It holds what says whether the pause or the key has ended: they are counted without their rows.
            models.Index(
                fields=["organization", "-created_at", "-id", "expires_at", "paused_until"],
                condition=models.Q(paused_at__isnull=False, revoked_at__isnull=True),
                name="key_paused",
            ),
            models.Index(fields=["organization", "owner_contact"], name="key_of_contact"),
        ]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} {self.fingerprint}"

    def save(self, **options: Any) -> None:
        """Save it, and with its networks their index."""
        is_new, fields = self._state.adding, options.get("update_fields")
        if fields is not None and "networks" not in fields:
            super().save(**options)
            return
        with transaction.atomic(savepoint=False):
            super().save(**options)
            if is_new:
                KeyNetwork.objects.index([self])
            else:
                KeyNetwork.objects.reindex(self)

    def get_absolute_url(self) -> str:
        """Return the address of the key's page."""
        return reverse("key_detail", args=[self.organization.slug, self.public_id])

    # What it is

    @property
    def fingerprint(self) -> str:
        """What people see of the key."""
        return key_secret.fingerprint(self.prefix, self.environment.code, self.public_id)

    @property
    def status(self) -> Status:
        """What the key is now."""
        return status_at(timezone.now(), self.revoked_at, self.expires_at, self.paused_at, self.paused_until)

    @property
    def is_dead(self) -> bool:
        """Whether the key is revoked or expired."""
        return self.status in {Status.REVOKED, Status.EXPIRED}

    @property
    def ended_at(self) -> datetime | None:
        """When a dead key was revoked or expired, None for any other."""
        return (self.revoked_at or self.expires_at) if self.is_dead else None

    @property
    def lifetime(self) -> timedelta | None:
        """From its creation to its expiry, None of a key that never expires."""
        return self.expires_at - self.created_at if self.expires_at else None

    @property
    def is_usable(self) -> bool:
        """Whether the key is active, or paused and could be resumed."""
        return not self.is_dead

    @property
    def is_expiring(self) -> bool:
        """Whether the key is usable and its end is near; ApiKeyQuerySet.expiring says the same in SQL."""
        return self.is_usable and self.expires_at is not None and self.expires_at <= timezone.now() + EXPIRING_WITHIN

    @property
    def rotate_by(self) -> datetime | None:
        """By when the key should be rotated, None where its organization has no maximum age."""
        return rotate_by(self.created_at, self.organization.max_key_age)

    def is_to_rotate(self, within: timedelta = timedelta()) -> bool:
        """Whether the key is usable and should be rotated by now, or within a span; ApiKeyQuerySet.to_rotate in SQL."""
        by = self.rotate_by
        is_old = by is not None and by <= timezone.now() + within and self.is_usable
        return is_old and not self.rotates_away and not self.may_be_old

    @property
    def may_be_old(self) -> bool:
        """Whether it is exempt from its organization's maximum age for the time being."""
        if "exempt_from_age" in self.__dict__:  # for_pages() and for_list() read it with the key
            found: bool = self.__dict__["exempt_from_age"]
            return found
        return bool(self.policy_exemptions.running().filter(rule=PolicyRule.AGE).exists())

    @property
    def is_rotation_due(self) -> bool:
        """Whether the key should have been rotated by now."""
        return self.is_to_rotate()

    @property
    def is_rotation_soon(self) -> bool:
        """Whether the key should be rotated soon, and that is still to come; ApiKeyQuerySet.to_rotate_soon in SQL."""
        return self.is_to_rotate(ROTATE_SOON) and not self.is_rotation_due

    @property
    def is_unused(self) -> bool:
        """Whether nobody uses the key and nobody said that it may be silent; ApiKeyQuerySet.unused says so in SQL."""
        return self.silence is not None and self.silence.is_unused and self.exemption_now is None

    @property
    def silence(self) -> KeySilence | None:
        """What it means that a usable key has been silent for long, None when it has not."""
        if not self.is_usable:
            return None
        last_used = self.last_activity.last_used_at if self.last_activity else None
        return KeySilence.of(
            created_at=self.created_at,
            last_used_at=last_used,
            usual_gap=self.known_rhythm.usual_gap if self.known_rhythm else None,
            recording_since=self._recording_since,
            days=self.organization.unused_after,
        )

    @property
    def _recording_since(self) -> datetime | None:
        if "recording_since" not in self.__dict__:  # for_pages() reads it with the key
            return UsageWatermark.read().recording_since
        found: datetime | None = self.__dict__["recording_since"]
        return found

    @property
    def exemption_now(self) -> KeyExemption | None:
        """The exemption by which the key may be silent for the time being, None without one or after its end."""
        exemption: KeyExemption | None = getattr(self, "exemption", None)
        return exemption if exemption and exemption.is_running else None

    @property
    def exemption_version(self) -> datetime | None:
        """When its exemption, run out or not, was changed last; None when it never had one."""
        exemption: KeyExemption | None = getattr(self, "exemption", None)
        return exemption.changed_at if exemption else None

    @property
    def last_activity(self) -> KeyActivity | None:
        """The key's activity."""
        return getattr(self, "activity", None)

    @property
    def known_rhythm(self) -> KeyRhythm | None:
        """How the key is usually used, None before its first request is rolled up."""
        return getattr(self, "rhythm", None)

    @property
    def scope_names(self) -> list[str]:
        """The names of the scopes it holds, sorted."""
        if "known_scope_names" in self.__dict__:  # fetch_named() reads them with the keys
            found: list[str] = self.__dict__["known_scope_names"]
            return found
        return sorted(scope.name for scope in self.scopes.all())

    @property
    def owner_label(self) -> str:
        """Who answers for the key."""
        return self.owner.user.label if self.owner else self.owner_contact

    @property
    def owner_is_gone(self) -> bool:
        """Whether the owner's account is closed."""
        return self.owner is not None and not self.owner.user.is_active

    @property
    def paused_by_label(self) -> str:
        """Who paused it."""
        return self.paused_by.label if self.paused_by else "command line"

    @property
    def replaced_by(self) -> ApiKey | None:
        """The key that took this one's place, if one did."""
        return next(iter(self.replaced_by_keys.all()), None)

    @property
    def open_rotation(self) -> Rotation | None:
        """The rotation that it is in as the old or as the new key, read anew; None without one."""
        mine = models.Q(old_key=self) | models.Q(new_key=self)
        found: Rotation | None = self.organization.rotations.open().filter(mine).select_related("organization").first()
        return found

    @property
    def successor_expiry(self) -> datetime | None:
        """When a key on the same terms expires that takes its place now: as this one, or as soon as it must."""
        return Policy.objects.of(self.organization).successor_expiry(self.expires_at, self)

    @property
    def renewed_expiry(self) -> datetime | None:
        """When a key expires that takes its place now and lives as long, or as long as it may; None is never."""
        end = timezone.now() + self.lifetime if self.lifetime else None
        return Policy.objects.of(self.organization).successor_expiry(end, self)

    @property
    def rotates_away(self) -> bool:
        """Whether it is the old key of an open rotation, whose deadline is then its expiry."""
        # The list reads the rotations of all its keys at once.
        rotation: Rotation | None = self.__dict__["rotation"] if "rotation" in self.__dict__ else self.open_rotation  # noqa: SIM401
        return rotation is not None and rotation.old_key_id == self.pk

    @property
    def lineage(self) -> models.QuerySet[ApiKey]:
        """The keys that took each other's place, this one among them, the newest first."""
        root = self.root_id or self.pk
        family = models.Q(pk=root) | models.Q(root=root)
        found: models.QuerySet[ApiKey] = ApiKey.objects.filter(family).order_by("-pk")
        return found

    @property
    def limit(self) -> RateLimit | None:
        """The rate limit, if one is set."""
        if self.rate_limit is None:
            return None
        return RateLimit(self.rate_limit, self.rate_period, self.rate_burst or self.rate_limit)

    @property
    def rate_limit_text(self) -> str:
        """The rate limit in words, or nothing."""
        if (limit := self.limit) is None:
            return ""
        return f"{limit.requests:,} per {RATE_PERIODS.get(limit.period, f'{limit.period} s')}, burst {limit.burst:,}"

    def facts(self) -> dict[str, object]:
        """Return what an audit entry compares: every choice, nothing secret."""
        return {
            "name": self.name,
            "purpose": self.purpose,
            "environment": self.environment.name,
            "owner": self.owner.user.email if self.owner else self.owner_contact,
            "scopes": self.scope_names,
            "expires_at": self.expires_at,
            "networks": list(self.networks),
            "rate_limit": self.rate_limit_text or None,
        }

    @property
    def terms(self) -> KeyTerms:
        """What was chosen for the key, as issue() and edit() take it."""
        return KeyTerms(
            name=self.name,
            purpose=self.purpose,
            scopes=list(self.scopes.all()),
            owner=self.owner,
            owner_contact=self.owner_contact,
            expires_at=self.expires_at,
            networks=list(self.networks),
            rate_limit=self.limit,
        )

    @property
    def standing(self) -> Standing:
        """What a policy looks at, with the key's own end: while it is rotated, its row tells the rotation's."""
        rotation = self.open_rotation
        is_old = rotation is not None and rotation.old_key_id == self.pk
        own = rotation.own_expiry if rotation and is_old else self.expires_at
        return Standing.of(self, list(self.scopes.all()), own)

    @property
    def violations(self) -> list[PolicyRule]:
        """The rules of its organization's policy that it violates, without those from which it is exempt."""
        terms = Policy.objects.of(self.organization).full_terms()
        if not terms.rules or self.is_dead:
            return []
        mine = ApiKey.objects.filter(pk=self.pk)
        names = [f"violates_{rule}" for rule in terms.rules]
        found = mine.with_violations(terms, self.organization, timezone.now()).values_list(*names).get()
        return [rule for rule, violates in zip(terms.rules, found, strict=True) if violates]

    # What may be done to it

    def hold(self, scopes: Sequence[Scope], given: Collection[int], *, like: ApiKey | None = None) -> None:
        """Write the scopes of a new key. Those of some ids are given by an admin, and those that one gave another."""
        inherited = set(like.given_by_admin) if like else set()
        KeyScope.objects.bulk_create(
            KeyScope(key=self, scope=scope, by_admin=scope.pk in given or scope.pk in inherited) for scope in scopes
        )

    @property
    def given_by_admin(self) -> list[int]:
        """The ids of its scopes that an admin gave it."""
        return list(KeyScope.objects.filter(key=self, by_admin=True).values_list("scope_id", flat=True))

    def apply(self, terms: KeyTerms) -> None:
        """Take over what was chosen, without saving. Raises ValidationError naming each field that is wrong."""
        expiry_is_new = terms.expires_at != self.expires_at
        self.name, self.purpose = terms.name.strip(), terms.purpose.strip()
        self.owner, self.owner_contact = terms.owner, terms.owner_contact.strip()
        self.expires_at = terms.expires_at
        self.rate_limit, self.rate_period, self.rate_burst = terms.rate_limit or (None, 1, None)
        errors: dict[str, list[str]] = {}
        try:
            self.networks = parse_networks(terms.networks)
        except ValidationError as error:
            errors["networks"] = error.messages
        errors |= self._faults(terms, expiry_is_new=expiry_is_new)
        try:
            self.full_clean(exclude={"digest", *errors}, validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            errors = {**error.message_dict, **errors}
        if errors:
            raise ValidationError(errors)

    def _faults(self, terms: KeyTerms, *, expiry_is_new: bool) -> dict[str, list[str]]:
        faults: dict[str, list[str]] = {}
        ours = self.organization_id
        if not terms.scopes:
            faults["scopes"] = ["Choose at least one scope."]
        elif any(scope.organization_id != ours for scope in terms.scopes):
            faults["scopes"] = ["A scope is not in this organization's catalogue."]
        if self.environment.organization_id != ours:
            faults["environment"] = ["This environment is not one of this organization."]
        if terms.owner is None and not self.owner_contact:
            faults["owner"] = ["Name an owner: a member or a contact address."]
        elif terms.owner is not None and self.owner_contact:
            faults["owner_contact"] = ["Name a member or a contact address, not both."]
        elif terms.owner is not None and terms.owner.organization_id != ours:
            faults["owner"] = ["The owner is not a member of this organization."]
        if expiry_is_new and terms.expires_at is not None:
            if terms.expires_at <= timezone.now():
                faults["expires_at"] = ["The expiry must be in the future."]
            elif terms.expires_at > LATEST_EXPIRY:
                faults["expires_at"] = ["The expiry must be before the end of the year 2100."]
        return faults

    def edit(self, terms: KeyTerms, *, by: Actor, version: int | None = None) -> None:
        """Change what was chosen for the key.

        Raises ValidationError, KeyRevokedError, and StaleKeyError when ``version`` is not the current one.
        """
        require_reach(by, self.environment)
        with transaction.atomic():
            Organization.objects.lock(self.organization_id)
            current = self.lock()
            if version is not None and version != current.version:
                raise StaleKeyError
            require_scopes(terms.scopes)
            before, was = current.facts(), current.standing
            if terms.expires_at != current.expires_at and current.rotates_away:
                raise ValidationError({"expires_at": ["Its rotation says when it ends: extend or cancel that."]})
            current.apply(terms)
            given = Policy.objects.of(self.organization).require(current, terms.scopes, by=by, before=lambda: was)
            current.scopes.set(terms.scopes)
            changes = difference(before, current.facts()) | current.confirm(given)
            if not changes:
                return
            current.version += 1
            current.save(
                update_fields=[
                    *("name", "purpose", "owner", "owner_contact", "expires_at", "networks"),
                    *("rate_limit", "rate_period", "rate_burst", "version"),
                ]
            )
            self._record(AuditAction.KEY_EDIT, by, changes)

    def confirm(self, given: Collection[int]) -> Changes:
        """Note that an admin gives some of its scopes, and return how that changes those that need one."""
        mine = KeyScope.objects.filter(key=self, scope__in=given, by_admin=False)
        names = sorted(mine.filter(scope__needs_admin=True).values_list("scope__name", flat=True))
        mine.update(by_admin=True)
        return {"scopes_given_by_an_admin": [[], names]} if names else {}

    def narrow(self, scopes: Collection[str], *, by: Actor, version: int) -> None:
        """Take some scopes from the key, by name.

        Raises KeyRevokedError, StaleKeyError when ``version`` is not the current one or a scope is not the key's, and
        ValidationError when none is named or none would be left.
        """
        require_reach(by, self.environment)
        with transaction.atomic():
            Organization.objects.lock(self.organization_id)
            current = self.lock()
            before = current.scope_names
            if version != current.version or not set(scopes) <= set(before):
                raise StaleKeyError
            kept = [scope for scope in current.scopes.all() if scope.name not in scopes]
            if len(kept) in {0, len(before)}:
                raise ValidationError({"scopes": ["Choose at least one scope, and leave the key at least one."]})
            current.scopes.set(kept)
            current.version += 1
            current.save(update_fields=["version"])
            after = sorted(scope.name for scope in kept)
            self._record(AuditAction.KEY_NARROW, by, difference({"scopes": before}, {"scopes": after}))

    def hand_over(self, owner: Member, *, by: Actor) -> None:
        """Give the key another owner, whatever its status."""
        with transaction.atomic():
            before = self.owner_label
            self.owner, self.owner_contact = owner, ""
            self.save(update_fields=["owner", "owner_contact"])
            self._record(AuditAction.KEY_EDIT, by, difference({"owner": before}, {"owner": owner.user.label}))

    def pause(self, *, by: Actor, lasting: timedelta | None = None) -> bool:
        """Make the key refuse every request until it is resumed, or for so long; False when it was paused before.

        A pause that lasts a time is a rehearsal of the key's end: the verifier ends it at the very instant.
        Raises ValidationError for a time outside of PAUSES.
        """
        if lasting is not None and not PAUSES[0] <= lasting <= PAUSES[-1]:
            raise ValidationError({"lasting": "A pause that ends by itself lasts 5 minutes to 24 hours."})
        require_reach(by, self.environment)
        with transaction.atomic():
            current, now = self.lock(), timezone.now()
            if is_paused_at(now, current.paused_at, current.paused_until):
                return False
            self.paused_at, self.paused_by = now, by.user
            self.paused_until = now + lasting if lasting else None
            self.save(update_fields=_PAUSE_FIELDS)
            until = difference({"paused_until": None}, {"paused_until": self.paused_until})
            self._record(AuditAction.KEY_PAUSE, by, until)
        return True

    def resume(self, *, by: Actor) -> bool:
        """Let a paused key work again; False when it was not paused, or is no longer."""
        require_reach(by, self.environment)
        with transaction.atomic():
            current = self.lock()
            if not is_paused_at(timezone.now(), current.paused_at, current.paused_until):
                return False
            before = {"paused_at": current.paused_at, "paused_until": current.paused_until}
            self.paused_at = self.paused_by = self.paused_until = None
            self.save(update_fields=_PAUSE_FIELDS)
            self._record(AuditAction.KEY_RESUME, by, difference(before, dict.fromkeys(before)))
        return True

    def revoke(self, *, reason: RevocationReason, by: Actor, note: str = "", at: datetime | None = None) -> None:
        """End the key, for every request that starts after this returns and for good.

        ``at`` is for a key that has been refused since then, at its rotation's deadline. An open rotation of the key
        is closed. Raises KeyRevokedError when it was revoked before, ValidationError for a note over its limit.
        """
        require_reach(by, self.environment)
        self.revoked_at, self.revoked_by, self.revoked_by_label = at or timezone.now(), by.user, by.label
        self.revoked_reason, self.revoked_note = reason, note.strip()
        ApiKey.revoked_note.field.clean(self.revoked_note, self)
        with transaction.atomic():
            if self.open_rotation:
                # Its other key and the rotation are changed as well: who changes those locks this first.
                Organization.objects.lock(self.organization_id)
            changed = ApiKey.objects.filter(pk=self.pk, revoked_at__isnull=True).update(
                revoked_at=self.revoked_at,
                revoked_by=self.revoked_by,
                revoked_by_label=self.revoked_by_label,
                revoked_reason=self.revoked_reason,
                revoked_note=self.revoked_note,
            )
            if not changed:
                self.refresh_from_db()
                raise KeyRevokedError
            told = RevocationReason(reason).label + (f": {self.revoked_note}" if self.revoked_note else "")
            AuditEntry.objects.record(
                AuditAction.KEY_REVOKE, by=by, organization=self.organization, key=self, reason=told[:500]
            )
            if rotation := self.open_rotation:
                rotation.end_with(self, by=by)
            transaction.on_commit(lambda: key_revoked.send(ApiKey, key=self), robust=True)

    def regenerate(self, *, by: Actor, form_token: uuid.UUID | None = None) -> IssuedKey:
        """Revoke the key and issue another on the same terms, at the same instant.

        The new key is a row of its own, so that the old one's fingerprint, usage and attempts stay apart.
        Raises KeyRevokedError, KeyExpiredError, AlreadyIssuedError, and RotationRunningError while it is rotated.
        """
        require_reach(by, self.environment)
        with transaction.atomic():
            Organization.objects.lock(self.organization_id)
            if form_token and (same := self.organization.keys.filter(form_token=form_token).first()):
                raise AlreadyIssuedError(same)
            current = self.lock()
            if rotation := current.open_rotation:
                raise RotationRunningError(rotation)
            if current.status == Status.EXPIRED:
                raise KeyExpiredError
            issued = ApiKey.objects.issue(
                self.organization,
                self.environment,
                current.terms.until(current.successor_expiry),
                by=by,
                form_token=form_token,
                replaces=self,
            )
            current.pass_on(issued.key, by=by)
            self.revoke(reason=RevocationReason.REGENERATED, note=f"Replaced by {issued.key.fingerprint}", by=by)
            self._record(AuditAction.KEY_REGENERATE, by, {"replaced_by": [None, issued.key.fingerprint]})
        return issued

    def pass_on(self, successor: ApiKey, *, by: Actor) -> None:
        """Let the key that takes its place go on with what is known of it, and be silent while it may."""
        if rhythm := self.known_rhythm:
            rhythm.pass_on(successor)
        if exemption := self.exemption_now:
            exemption.pass_on(successor, by=by)
        for one in self.policy_exemptions.running():
            one.pass_on(successor, by=by)

    def stand_alone(self) -> None:
        """Take it out of its lineage: it took nobody's place after all."""
        self.replaces = self.root = None
        self.save(update_fields=["replaces", "root"])

    def lock(self) -> ApiKey:
        """Lock its row and return it as it is now. Raises KeyRevokedError."""
        current: ApiKey = ApiKey.objects.select_for_update().get(pk=self.pk)
        if current.revoked_at is not None:
            raise KeyRevokedError
        return current

    def _record(self, action: AuditAction, by: Actor, changes: dict[str, list[object]]) -> None:
        AuditEntry.objects.record(action, by=by, organization=self.organization, key=self, changes=changes)


class KeyScope(models.Model):
    """That a key holds a scope."""

    key = models.ForeignKey(ApiKey, models.CASCADE)
    scope = models.ForeignKey(Scope, models.PROTECT)
    # Whether an admin gave it, or has saved the key with it since.
    by_admin = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "scope"], name="scope_once_per_key")]

    def __str__(self) -> str:
        return f"{self.key_id} {self.scope_id}"


class KeyActivity(models.Model):
    """What moves at a key's requests, apart from it so that a request never writes the key.

    A trigger makes the row with the key.
    """

    key = models.OneToOneField(
        ApiKey, models.DO_NOTHING, primary_key=True, related_name="activity", db_constraint=False
    )
    # The key's own, put in by a trigger: lists are read by organization and last use. docs/performance.md
    organization_id = models.BigIntegerField(null=True, editable=False)
    first_used_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    # What lists are read by, EARLIEST where a key was never used. An index of the instant itself would cost each
    # request of a key a new entry in every index (PostgreSQL's heap-only tuples): docs/performance.md
    last_used_minute = models.GeneratedField(
        expression=MinuteOrEarliest("last_used_at"), output_field=models.DateTimeField(), db_persist=True
    )
    last_refused_at = models.DateTimeField(null=True)
    last_address = models.GenericIPAddressField(null=True)
    # The theoretical arrival time of GCRA, when the limit's bucket would be empty again: microseconds since 1970.
    limited_until = models.BigIntegerField(null=True)
    # The version of the key whose limit wrote that.
    limited_by_version = models.PositiveIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["organization_id", "last_used_minute", "key"], name="activity_by_last_use"),
            models.Index(
                fields=["organization_id", "last_refused_at"],
                condition=models.Q(last_refused_at__isnull=False),
                name="activity_by_last_refusal",
            ),
        ]
        verbose_name_plural = "key activities"

    def __str__(self) -> str:
        return f"activity of {self.key_id}"
