"""What an organization's keys can be made of: its environments and its named scopes."""

from __future__ import annotations

from typing import ClassVar

from django.db import IntegrityError, models, transaction

from apikeys.models.audit import Actor, AuditAction, AuditEntry, difference
from apikeys.models.organization import Organization
from apikeys.models.text import validate_code, validate_line, validate_scope_name


class InUseError(Exception):
    """What keys still name cannot be deleted."""


class CatalogueQuerySet[T: "CatalogueEntry"](models.QuerySet[T]):
    """Adding to a catalogue."""

    def add(self, entry: T, *, by: Actor) -> T:
        """Save a new entry; raises ValidationError naming the field."""
        with transaction.atomic():
            # The lock makes two who add the same name wait for one another.
            Organization.objects.lock(entry.organization_id)
            entry.full_clean()
            entry.save(force_insert=True)
            AuditEntry.objects.record(
                entry.ACTIONS["create"],
                by=by,
                organization=entry.organization,
                target=entry.name,
                changes=difference({}, entry.values()),
            )
        return entry


class CatalogueEntry(models.Model):
    """What environments and scopes share: named, edited in words only, deleted only while unused."""

    ACTIONS: ClassVar[dict[str, AuditAction]]
    EDITABLE: ClassVar[tuple[str, ...]]

    organization: models.ForeignKey[Organization, Organization]
    organization_id: int
    name: models.CharField[str, str]

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    def values(self) -> dict[str, str]:
        """Return what an audit entry tells of it."""
        return {field: getattr(self, field) for field in self.EDITABLE}

    def edit(self, *, by: Actor, **values: str) -> None:
        """Change the words that describe it; raises ValidationError naming the field."""
        with transaction.atomic():
            current = type(self)._default_manager.select_for_update().get(pk=self.pk)
            before = current.values()
            for field in self.EDITABLE:
                setattr(self, field, values[field])
            self.full_clean()
            changes = difference(before, self.values())
            if not changes:
                return
            self.save(update_fields=list(changes))
            AuditEntry.objects.record(
                self.ACTIONS["edit"], by=by, organization=self.organization, target=self.name, changes=changes
            )

    def remove(self, *, by: Actor) -> None:
        """Delete it; raises InUseError while a key, even a dead one, names it, or takes it at this moment."""
        try:
            self._remove(by)
        except (models.ProtectedError, IntegrityError):
            raise InUseError from None

    def _remove(self, by: Actor) -> None:
        with transaction.atomic():
            # As who issues or edits a key does: otherwise the two could wait for one another in a circle.
            Organization.objects.lock(self.organization_id)
            AuditEntry.objects.record(
                self.ACTIONS["delete"],
                by=by,
                organization=self.organization,
                target=self.name,
                changes={field: [value, None] for field, value in self.values().items()},
            )
            self.delete()


class EnvironmentKind(models.TextChoices):
    """What an environment is like; it chooses the colour that people see."""

    PRODUCTION = "production", "production"
    STAGING = "staging", "staging"
    DEVELOPMENT = "development", "development"
    OTHER = "other", "other"


class Environment(CatalogueEntry):
    """Where keys are used. Its code is part of every key's text, so it never changes."""

    ACTIONS = {
        "create": AuditAction.ENVIRONMENT_CREATE,
        "edit": AuditAction.ENVIRONMENT_EDIT,
        "delete": AuditAction.ENVIRONMENT_DELETE,
    }
    EDITABLE = ("name", "kind")

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="environments")
    code = models.CharField(max_length=10, validators=[validate_code])
    name = models.CharField(max_length=40, validators=[validate_line])
    kind = models.CharField(max_length=16, choices=EnvironmentKind.choices, default=EnvironmentKind.OTHER)

    objects: ClassVar = CatalogueQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "code"],
                name="environment_code",
                violation_error_message="There is an environment with this code already.",
            ),
            models.UniqueConstraint(
                fields=["organization", "name"],
                name="environment_name",
                violation_error_message="There is an environment with this name already.",
            ),
        ]


class Scope(CatalogueEntry):
    """A named permission that keys can hold. Services check its name, so the name never changes."""

    ACTIONS = {
        "create": AuditAction.SCOPE_CREATE,
        "edit": AuditAction.SCOPE_EDIT,
        "delete": AuditAction.SCOPE_DELETE,
    }
    EDITABLE = ("description",)

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="scopes")
    name = models.CharField(max_length=64, validators=[validate_scope_name])
    description = models.CharField(max_length=200, validators=[validate_line])
    # Whether only an admin may give it to a key: the organization's policy says so.
    needs_admin = models.BooleanField(default=False, db_default=False)

    objects: ClassVar = CatalogueQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                name="scope_name",
                violation_error_message="There is a scope with this name already.",
            )
        ]
