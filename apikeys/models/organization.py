"""Organizations, and the roles that people have in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, ClassVar, Final, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.utils import timezone
from django.utils.functional import cached_property

from apikeys.models.audit import Actor, AuditAction, AuditEntry, difference
from apikeys.models.former_member import FormerMember
from apikeys.models.text import validate_line, validate_prefix
from apikeys.models.user import User, has_second_factor

if TYPE_CHECKING:
    from apikeys.models.catalogue import Environment

# The longest maximum age of keys, in days.
MOST_KEY_AGE = 3650
_EDITED: Final = ("name", "key_prefix", "max_key_age", "checkpoint_mail", "requires_second_factor")
UNUSED_FAULT = f"Between 1 and {MOST_KEY_AGE:,} days, or empty for the deployment's setting."
KEY_AGE_FAULT = f"Between 1 and {MOST_KEY_AGE:,} days, or empty for no limit."
# The organization of the self-check's key: it has no members, and people never see it.
SYSTEM_SLUG = "keyadmin-self-check"
# First parts of paths that are ours; tests/test_urls.py holds this against the URLconf.
RESERVED_SLUGS = frozenset(
    [
        SYSTEM_SLUG,
        "about",
        "accounts",
        "admin",
        "api",
        "app",
        "assets",
        "authorize",
        "docs",
        "favicon",
        "handover",
        "healthz",
        "help",
        "invitation",
        "login",
        "logout",
        "media",
        "metrics",
        "new",
        "organizations",
        "readyz",
        "robots",
        "security",
        "sessions",
        "settings",
        "signup",
        "static",
        "status",
        "styles",
        "support",
        "v1",
        "v2",
        "well-known",
        "www",
    ]
)


class LastAdminError(Exception):
    """An organization keeps at least one admin."""


class NoSecondFactorError(Exception):
    """Who requires a second factor of everybody has one."""


class OwnsKeysError(Exception):
    """A member who owns keys or exemptions is removed only with somebody named who takes them over."""


class Role(models.TextChoices):
    """What a member may do; each role includes the ones before it."""

    VIEWER = "viewer", "viewer"
    OPERATOR = "operator", "operator"
    ADMIN = "admin", "admin"

    def includes(self, other: Role) -> bool:
        """Say whether this role may do what another may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


def environment_words(limit: Iterable[Environment]) -> str:
    """Return the environments that an operator is limited to as an audit entry tells them."""
    return ", ".join(sorted(environment.name for environment in limit)) or "all"


class AlertMail(models.TextChoices):
    """Which alerts a member is mailed, of those that the organization's rules would mail to them."""

    ALL = "all", "all: urgent ones at once, the others in the daily digest"
    URGENT = "urgent", "urgent ones only"
    NONE = "none", "none"

    def wants(self, *, urgent: bool) -> bool:
        """Say whether a mail is wanted."""
        return self == AlertMail.ALL or (urgent and self == AlertMail.URGENT)


def validate_slug_is_free(value: str) -> None:
    """Refuse a slug that is a path of ours."""
    if value in RESERVED_SLUGS:
        raise ValidationError(f"{value!r} is a path of keyadmin itself; choose another slug.")


class OrganizationQuerySet(models.QuerySet["Organization"]):
    """Founding and finding of organizations."""

    def of_people(self) -> Self:
        """Leave out our own, which only the self-check uses."""
        return self.exclude(slug=SYSTEM_SLUG)

    def lock(self, pk: int) -> Organization:
        """Lock an organization against whoever locks it too, and return it as it is now.

        Not against rows that refer to it: whoever holds a key alone writes an audit entry, and would wait here for
        somebody who waits for the key.
        """
        return self.select_for_update(no_key=True).get(pk=pk)

    def found(self, *, name: str, slug: str, admin: User, by: Actor, key_prefix: str = "ka") -> Organization:
        """Create an organization with its three usual environments and its first admin.

        Raises ValidationError naming the field that is wrong.
        """
        organization = Organization(name=name.strip(), slug=slug.strip(), key_prefix=key_prefix.strip())
        organization.full_clean()
        with transaction.atomic():
            organization.save(force_insert=True)
            for code, label, kind in (
                ("prod", "production", "production"),
                ("stag", "staging", "staging"),
                ("dev", "development", "development"),
            ):
                organization.environments.create(code=code, name=label, kind=kind)
            AuditEntry.objects.record(
                AuditAction.ORGANIZATION_CREATE, by=by, organization=organization, target=organization.name
            )
            organization.add_member(admin, Role.ADMIN, by=by)
        return organization


class Organization(models.Model):
    """Whose keys they are. Its slug is the first part of its pages' addresses."""

    name = models.CharField(max_length=100, validators=[validate_line])
    slug = models.SlugField(
        max_length=40,
        unique=True,
        validators=[
            RegexValidator(
                r"\A[a-z0-9][a-z0-9-]*[a-z0-9]\Z", "Use lower-case letters, digits and hyphens, at least two."
            ),
            validate_slug_is_free,
        ],
    )
    key_prefix = models.CharField(max_length=10, default="ka", validators=[validate_prefix])
    # Days after which a key should be rotated.
    max_key_age = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1, KEY_AGE_FAULT), MaxValueValidator(MOST_KEY_AGE, KEY_AGE_FAULT)],
    )
    # Days of silence after which a key counts as unused, instead of the deployment's setting.
    unused_after_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1, UNUSED_FAULT), MaxValueValidator(MOST_KEY_AGE, UNUSED_FAULT)],
    )
    # Who is mailed the signed checkpoints of the audit log.
    checkpoint_mail = models.EmailField(max_length=254, blank=True, default="", db_default="")
    # Members without one see nothing of the organization until they have set one up.
    requires_second_factor = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar = OrganizationQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def initial(self) -> str:
        """The letter in the switcher's square."""
        return self.name[:1].upper()

    @property
    def unused_after(self) -> int:
        """Days of silence after which one of its keys counts as unused, if nothing explains that."""
        return self.usual_unused_after if self.unused_after_days is None else self.unused_after_days

    @property
    def usual_unused_after(self) -> int:
        """What that is of an organization that says nothing else."""
        days: int = settings.UNUSED_AFTER_DAYS
        return days

    def facts(self) -> dict[str, object]:
        """Return what edit() may change, as an audit entry compares it."""
        return {name: getattr(self, name) for name in _EDITED}

    def edit(
        self,
        *,
        name: str,
        key_prefix: str,
        max_key_age: int | None,
        checkpoint_mail: str = "",
        requires_second_factor: bool = False,
        by: Actor,
    ) -> None:
        """Change what its settings page shows; see facts().

        Raises NoSecondFactorError when a second factor is to be required by somebody who has none.
        """
        with transaction.atomic():
            before = Organization.objects.lock(self.pk).facts()
            self.name, self.key_prefix, self.max_key_age = name.strip(), key_prefix.strip(), max_key_age
            self.checkpoint_mail = checkpoint_mail.strip()
            turned_on = requires_second_factor and not before["requires_second_factor"]
            if turned_on and by.user and not User.objects.filter(has_second_factor("pk"), pk=by.user.pk).exists():
                raise NoSecondFactorError
            self.requires_second_factor = requires_second_factor
            self.full_clean()
            changes = difference(before, self.facts())
            if not changes:
                return
            self.save(update_fields=_EDITED)
            AuditEntry.objects.record(
                AuditAction.ORGANIZATION_EDIT, by=by, organization=self, target=self.name, changes=changes
            )

    def require_environments(self, asked: Collection[Environment]) -> list[Environment]:
        """Return environments as they are now; raises ValidationError unless all are this organization's.

        Call it with the organization locked, so that none is deleted meanwhile.
        """
        found = list(self.environments.filter(pk__in=[environment.pk for environment in asked])) if asked else []
        if len(found) != len({environment.pk for environment in asked}):
            raise ValidationError({"environments": ["One of these environments does not exist any more."]})
        return found

    def add_member(
        self,
        user: User,
        role: Role,
        *,
        by: Actor,
        environments: Collection[Environment] = (),
        invited_by: str = "",
        reason: str = "",
    ) -> Member:
        """Give a person a role, an operator perhaps in some environments only.

        ``invited_by`` is for who joins by an invitation. Raises ValidationError when they are a member already.
        """
        member = Member(organization=self, user=user, role=role)
        with transaction.atomic():
            Organization.objects.lock(self.pk)
            member.full_clean()
            limit = self.require_environments(environments if role == Role.OPERATOR else ())
            member.save(force_insert=True)
            member.environments.set(limit)
            changes = difference(
                {}, {"role": str(role)} | ({"environments": environment_words(limit)} if limit else {})
            )
            FormerMember.objects.filter(organization=self, user=user).delete()
            AuditEntry.objects.record(
                AuditAction.MEMBER_JOIN if invited_by else AuditAction.MEMBER_ADD,
                by=by,
                organization=self,
                target=user.email,
                changes=changes,
                reason=f"Invited by {invited_by}" if invited_by else reason,
            )
        return member


class MemberQuerySet(models.QuerySet["Member"]):
    """Finding of members."""

    def of(self, user: User, slug: str) -> Member | None:
        """Return a person's membership of the organization with that slug, if there is one.

        It knows whether they have a second factor, and their other memberships, which each page offers to change to.
        """
        found = (
            self.select_related("organization").filter(user=user).annotate(has_second_factor=has_second_factor("user"))
        )
        every = list(found.order_by("organization__name"))
        for one in every:
            one.user, one.memberships = user, every
        return next((one for one in every if one.organization.slug == slug), None)


class Member(models.Model):
    """A person's role in one organization."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    joined_at = models.DateTimeField(default=timezone.now, editable=False)
    alert_mail = models.CharField(max_length=8, choices=AlertMail.choices, default=AlertMail.ALL)
    # Of an operator, those that they may touch; none: all.
    environments = models.ManyToManyField("apikeys.Environment", through="MemberEnvironment", related_name="+")

    objects: ClassVar = MemberQuerySet.as_manager()

    class Meta:
        ordering = ["joined_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "user"],
                name="one_membership",
                violation_error_message="This person is a member already.",
            )
        ]

    def __str__(self) -> str:
        return self.user.label

    @cached_property
    def memberships(self) -> list[Member]:
        """All memberships of the same person, this one among them, by the name of their organizations."""
        return list(self.user.memberships.select_related("organization").order_by("organization__name"))

    @property
    def lacks_second_factor(self) -> bool:
        """Whether the organization requires one that the person does not have; of a member found by of()."""
        return self.organization.requires_second_factor and not getattr(self, "has_second_factor", False)

    @property
    def can_operate(self) -> bool:
        """Whether the member may issue, edit, pause and revoke keys."""
        return Role(self.role).includes(Role.OPERATOR)

    @property
    def can_administer(self) -> bool:
        """Whether the member may change members, scopes and the organization."""
        return Role(self.role).includes(Role.ADMIN)

    @cached_property
    def limit(self) -> list[Environment]:
        """The environments that an operator is limited to, as a page shows them; none: no limit."""
        return list(self.environments.all()) if self.role == Role.OPERATOR else []

    def operates(self, environment: Environment | None) -> bool:
        """Say whether the member may touch what is in an environment, or in none; the verbs ask require_reach()."""
        return self.can_operate and (environment is None or not self.limit or environment in self.limit)

    def change_role(self, role: Role, *, by: Actor, environments: Collection[Environment] | None = None) -> None:
        """Give another role, an operator perhaps in some environments only; None leaves the limit as it is.

        Whoever is no operator has no limit. Raises LastAdminError rather than leave nobody in charge.
        """
        with transaction.atomic():
            self._keep_an_admin(unless=role == Role.ADMIN)
            before = list(self.environments.all())
            asked = before if environments is None else environments
            limit = self.organization.require_environments(asked if role == Role.OPERATOR else ())
            changes = difference(
                {"role": self.role, "environments": environment_words(before)},
                {"role": str(role), "environments": environment_words(limit)},
            )
            if not changes:
                return
            self.role = role
            self.save(update_fields=["role"])
            self.environments.set(limit)
            AuditEntry.objects.record(
                AuditAction.MEMBER_EDIT,
                by=by,
                organization=self.organization,
                target=self.user.email,
                changes=changes,
            )

    def choose_alert_mail(self, choice: AlertMail, *, by: Actor) -> bool:
        """Choose which alerts to be mailed; False when nothing changes."""
        with transaction.atomic():
            Organization.objects.lock(self.organization_id)
            self.refresh_from_db(fields=["alert_mail"])
            changes = difference({"alert_mail": self.alert_mail}, {"alert_mail": str(choice)})
            if not changes:
                return False
            self.alert_mail = choice
            self.save(update_fields=["alert_mail"])
            AuditEntry.objects.record(
                AuditAction.ALERT_MAIL_EDIT,
                by=by,
                organization=self.organization,
                target=self.user.email,
                changes=changes,
            )
        return True

    def remove(self, *, by: Actor, keys_to: Member | None = None) -> None:
        """Take the person out of the organization, and hand over their keys and exemptions that run.

        Where they have no other organization, their sessions end. Raises LastAdminError, and OwnsKeysError when the
        person owns any and nobody takes them.
        """
        with transaction.atomic():
            self._keep_an_admin(unless=False)
            exemptions = self.owned_exemptions.running().select_related("owner__user", "key__organization")
            if self.owned_keys.exists() or exemptions.exists():
                if keys_to is None or keys_to.pk == self.pk or keys_to.organization_id != self.organization_id:
                    raise OwnsKeysError
                for key in self.owned_keys.select_for_update(of=("self",)):
                    key.hand_over(keys_to, by=by)
                for exemption in exemptions.select_for_update(of=("self",)):
                    exemption.hand_over(keys_to, by=by)
            # What is left has run out, or its key is revoked.
            self.owned_exemptions.all().delete()
            AuditEntry.objects.record(
                AuditAction.MEMBER_LEAVE if by.user == self.user else AuditAction.MEMBER_REMOVE,
                by=by,
                organization=self.organization,
                target=self.user.email,
                changes={"role": [self.role, None]},
            )
            FormerMember.objects.get_or_create(organization=self.organization, user=self.user)
            self.delete()
            if not self.user.memberships.exists():
                self.user.sessions.all().delete()

    def _keep_an_admin(self, *, unless: bool) -> None:
        # The lock makes two admins who remove each other wait for one another.
        Organization.objects.lock(self.organization_id)
        others = Member.objects.filter(organization=self.organization_id, role=Role.ADMIN).exclude(pk=self.pk)
        self.refresh_from_db(fields=["role"])
        if self.role == Role.ADMIN and not unless and not others.exists():
            raise LastAdminError
