"""Single sign-on: which e-mail domains the provider is trusted for, and who is who there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import models, transaction
from django.utils import timezone

from apikeys.models.audit import Actor, AuditAction, AuditEntry, Changes, difference
from apikeys.models.former_member import FormerMember
from apikeys.models.organization import Organization, Role
from apikeys.models.text import validate_line
from apikeys.models.user import User

MAX_ISSUER = MAX_SUBJECT = 255
REASON: Final = "single sign-on"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{4,253}}\Z)({_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]")
_DOMAIN_FAULT: Final = "{!r} is no domain like acme.example. One with other letters is written in its xn-- form."


class Refusal(models.TextChoices):
    """Why somebody whom the provider named is not let in; for the audit log, never for them."""

    UNVERIFIED = "unverified", "the provider does not say that the address is verified"
    UNMAPPED = "unmapped", "the domain of the address is mapped to no organization"
    OTHER_IDENTITY = "other_identity", "the address is of an account that is linked to somebody else at the provider"
    CLOSED = "closed", "the account is closed"


class SignOnRefusedError(Exception):
    """Somebody whom the provider named is not let in; ``user`` is the account that it is about, if there is one."""

    def __init__(self, why: Refusal, user: User | None = None, organization: Organization | None = None) -> None:
        super().__init__(why.label)
        self.why, self.user, self.organization = why, user, organization


@dataclass(frozen=True, slots=True)
class Asserted:
    """A person as the provider names them, after everything about its answer was verified."""

    issuer: str
    subject: str
    email: str
    is_verified: bool
    name: str = ""
    # When they last showed the provider who they are, where it says so.
    authenticated_at: datetime | None = None

    @property
    def is_address(self) -> bool:
        """Whether the address is one that an account can have."""
        try:
            validate_email(self.email)
            validate_line(self.email)
        except ValidationError:
            return False
        return len(self.email) <= 254


def domain_of(email: str) -> str:
    """Return the domain of an address as it is mapped."""
    return email.strip().rpartition("@")[2].lower()


class SignOnDomainQuerySet(models.QuerySet["SignOnDomain"]):
    """Mapping of domains, which only whoever runs keyadmin does, and finding of what is mapped."""

    def map(self, domain: str, *, organization: Organization, role: Role, is_required: bool, by: Actor) -> SignOnDomain:
        """Map a domain to an organization, or change how it is mapped to it.

        Raises ValidationError for what is no domain, and for one of another organization.
        """
        domain = domain.strip().lower()
        if not _DOMAIN.fullmatch(domain):
            raise ValidationError({"domain": [_DOMAIN_FAULT.format(domain[:80])]})
        with transaction.atomic():
            Organization.objects.lock(organization.pk)
            mapping = self.select_for_update(of=("self",)).filter(domain=domain).first()
            before = mapping.facts() if mapping else {}
            mapping = mapping or SignOnDomain(domain=domain, organization=organization)
            if mapping.organization_id != organization.pk:
                raise ValidationError(
                    {"domain": [f"{domain} is mapped to {mapping.organization.slug}; unmap it first."]}
                )
            mapping.role, mapping.is_required = role, is_required
            if changes := difference(before, mapping.facts()):
                mapping.save()
                AuditEntry.objects.record(
                    AuditAction.SIGN_ON_MAP, by=by, organization=organization, target=domain, changes=changes
                )
        return mapping

    def of(self, email: str) -> SignOnDomain | None:
        """Return the mapping of an address's domain, if there is one."""
        return self.select_related("organization").filter(domain=domain_of(email)).first()

    def requires(self, email: str) -> bool:
        """Say whether people of an address's domain may sign in through the provider alone."""
        return bool(settings.OIDC_ISSUER) and self.filter(domain=domain_of(email), is_required=True).exists()


class SignOnDomain(models.Model):
    """An e-mail domain whose people become members of an organization by single sign-on. It is of one alone."""

    domain = models.CharField(max_length=253, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="sign_on_domains")
    role = models.CharField(max_length=16, choices=Role.choices)
    is_required = models.BooleanField(default=False)
    mapped_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar = SignOnDomainQuerySet.as_manager()

    class Meta:
        ordering = ["domain"]

    def __str__(self) -> str:
        return self.domain

    def facts(self) -> dict[str, object]:
        """Return what map() may change, as an audit entry compares it."""
        return {"role": str(self.role), "is_required": self.is_required}

    def unmap(self, *, by: Actor) -> None:
        """Let nobody in by this domain any more; members stay, and sign in by password."""
        with transaction.atomic():
            changes = difference(self.facts(), {"role": None, "is_required": None})
            AuditEntry.objects.record(
                AuditAction.SIGN_ON_UNMAP, by=by, organization=self.organization, target=self.domain, changes=changes
            )
            self.delete()

    def join(self, user: User, *, by: Actor) -> bool:
        """Make a person a member with the mapping's role; False when they are one, or were removed by an admin."""
        organization = self.organization
        with transaction.atomic():
            Organization.objects.lock(organization.pk)
            if (
                organization.members.filter(user=user).exists()
                or FormerMember.objects.filter(organization=organization, user=user).exists()
            ):
                return False
            organization.add_member(user, Role(self.role), by=by, reason=f"{REASON} by {self.domain}")
        return True


class SignOnIdentityQuerySet(models.QuerySet["SignOnIdentity"]):
    """Letting in whom the provider names."""

    def admit(self, person: Asserted, *, by: Actor) -> User:
        """Return the account of a person whom the provider names, made and made a member where their domain is mapped.

        What counts is who they are at the provider (issuer and subject), from the first time on; the address only finds
        an account that has no such identity yet. Raises SignOnRefusedError.
        """
        if not person.is_verified or not person.is_address:
            raise SignOnRefusedError(Refusal.UNVERIFIED)
        with transaction.atomic():
            # Two first sign-ins of one person wait for one another here.
            mapping = (
                SignOnDomain.objects.select_for_update(of=("self",))
                .select_related("organization")
                .filter(domain=domain_of(person.email))
                .first()
            )
            identity = self._known(person, mapping) or self._bound(person, mapping, by)
            user = identity.user
            if not user.is_active:
                raise SignOnRefusedError(Refusal.CLOSED, user)
            identity.note_address(person.email, by=_as(user, by))
            if mapping:
                mapping.join(user, by=_as(user, by))
        return user

    def _known(self, person: Asserted, mapping: SignOnDomain | None) -> SignOnIdentity | None:
        identity = self.select_related("user").filter(issuer=person.issuer, subject=person.subject).first()
        # Their address may have changed at the provider; the domain of one of the two has to be mapped still.
        if identity and not mapping and not SignOnDomain.objects.of(identity.user.email):
            raise SignOnRefusedError(Refusal.UNMAPPED, identity.user)
        return identity

    def _bound(self, person: Asserted, mapping: SignOnDomain | None, by: Actor) -> SignOnIdentity:
        """Bind an identity that is new here to the account with its address, or to a new one."""
        email = person.email.strip().lower()
        user = User.objects.filter(email=email).first()
        if mapping is None:
            raise SignOnRefusedError(Refusal.UNMAPPED, user)
        organization = mapping.organization
        if user and not user.is_active:
            raise SignOnRefusedError(Refusal.CLOSED, user, organization)
        if user and self.filter(user=user, issuer=person.issuer).exists():
            raise SignOnRefusedError(Refusal.OTHER_IDENTITY, user, organization)
        user = user or User.objects.create_user(email, name=_name(person.name))
        identity = self.create(issuer=person.issuer, subject=person.subject, user=user, email=email)
        AuditEntry.objects.record(
            AuditAction.SIGN_ON_LINK, by=_as(user, by), organization=organization, target=user.email, reason=REASON
        )
        return identity

    def unlink(self, user: User, *, by: Actor) -> int:
        """Forget who a person is at the provider, so that the next with their address is it; return how many went."""
        with transaction.atomic():
            gone, _ = self.filter(user=user).delete()
            if gone:
                _record(AuditAction.SIGN_ON_UNLINK, user, by)
        return gone


class SignOnIdentity(models.Model):
    """Who a person is at the provider. One there is one here: the database holds it."""

    issuer = models.CharField(max_length=MAX_ISSUER)
    subject = models.CharField(max_length=MAX_SUBJECT)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="sign_on_identities")
    # As the provider said it the last time.
    email = models.EmailField(max_length=254)
    linked_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar = SignOnIdentityQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="one_account_of_an_identity"),
            models.UniqueConstraint(fields=["issuer", "user"], name="one_identity_of_an_account"),
        ]
        verbose_name_plural = "sign on identities"

    def __str__(self) -> str:
        return f"{self.user} at {self.issuer}"

    def note_address(self, email: str, *, by: Actor) -> None:
        """Note another address at the provider; the account keeps its own."""
        email = email.strip().lower()
        if changes := difference({"email": self.email}, {"email": email}):
            self.email = email
            self.save(update_fields=["email"])
            _record(AuditAction.SIGN_ON_ADDRESS, self.user, by, changes)


def _record(action: AuditAction, user: User, by: Actor, changes: Changes | None = None) -> None:
    """Append an entry in each organization of a person, or in none where they have none."""
    organizations: list[Organization | None] = [*Organization.objects.filter(members__user=user)]
    for organization in organizations or [None]:
        AuditEntry.objects.record(action, by=by, organization=organization, target=user.email, changes=changes)


def _as(user: User, by: Actor) -> Actor:
    return replace(by, label=user.email, user=user)


def _name(given: str) -> str:
    """Return a name that an account can have, empty for one that it cannot."""
    name = " ".join(given.split())[:100]
    try:
        validate_line(name)
    except ValidationError:
        return ""
    return name
