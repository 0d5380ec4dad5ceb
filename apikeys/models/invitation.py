"""Invitations: how somebody becomes a member, by a link that is mailed to an address and is good once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar, Final, NamedTuple, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys.models.audit import Actor, AuditAction, AuditEntry, difference
from apikeys.models.catalogue import Environment
from apikeys.models.organization import Member, Organization, Role, environment_words
from apikeys.models.text import validate_line
from apikeys.models.user import User

# Of one organization: so many may wait to be accepted, and so many may be made in an hour.
MOST_OPEN: Final = 100
MOST_AN_HOUR: Final = 100
# Another mail to the same address waits for so long.
RESEND_AFTER: Final = timedelta(minutes=2)


class InvitationOverError(Exception):
    """The invitation is not good: accepted, withdrawn, run out, sent anew, or its sender is an admin no longer."""


class AccountExistsError(Exception):
    """There is an account with the address by now: its person accepts by signing in."""


class InvitationTerms(NamedTuple):
    """Who is invited, and as what. ``environments`` are those that an operator is limited to; none: all."""

    email: str
    role: Role
    name: str = ""
    environments: Collection[Environment] = ()


class SentInvitation(NamedTuple):
    """An invitation with what exists nowhere else: the token of its link."""

    invitation: Invitation
    token: str

    def __repr__(self) -> str:
        """Leave out what exists nowhere else."""
        return f"<Sent {self.invitation}>"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Inviting of people, and which invitations wait."""

    def open(self) -> Self:
        """Return those that were neither accepted nor withdrawn; the time of some may be over."""
        return self.filter(taken_at__isnull=True, withdrawn_at__isnull=True)

    def for_pages(self) -> Self:
        """Fetch with each what a page shows of it, and whether who sent it may still invite."""
        admins = Member.objects.filter(
            organization=models.OuterRef("organization"),
            user=models.OuterRef("invited_by"),
            user__is_active=True,
            role=Role.ADMIN,
        )
        stands = models.Q(invited_by__isnull=True) | models.Exists(admins)
        return self.annotate(sender_stands=stands).select_related("organization").prefetch_related("environments")

    def with_token(self, token: str) -> Invitation | None:
        """Return the invitation that a link's token belongs to, whether it is still good or not."""
        return self.for_pages().filter(digest=_digest(token)).first()

    def invite(self, organization: Organization, terms: InvitationTerms, *, by: Actor) -> SentInvitation:
        """Invite an address, whether there is an account with it or not: nothing here asks that.

        Raises ValidationError naming the field.
        """
        invitation = self.model(
            organization=organization,
            email=terms.email.strip().lower(),
            name=terms.name.strip(),
            role=terms.role,
        )
        token = invitation._renew(by)
        with transaction.atomic():
            Organization.objects.lock(organization.pk)
            invitation._require_room()
            # What waits for the same address is the constraint's to find.
            invitation.full_clean()
            limit = organization.require_environments(terms.environments if terms.role == Role.OPERATOR else ())
            invitation.save(force_insert=True)
            invitation.environments.set(limit)
            invitation._record(
                AuditAction.INVITATION_SEND,
                by,
                {
                    "role": invitation.role,
                    "environments": environment_words(limit),
                    "good_until": invitation.expires_at,
                },
            )
        return SentInvitation(invitation, token)


def _digest(token: str) -> bytes:
    # 256 random bits need no slow hash; and what is compared is the digest, so that no time tells of the token.
    return hashlib.sha256(token.encode()).digest()


class Invitation(models.Model):
    """That an address may join an organization in a role. An address has one open invitation at most."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invitations")
    email = models.EmailField(max_length=254)
    name = models.CharField(max_length=100, blank=True, validators=[validate_line])
    role = models.CharField(max_length=16, choices=Role.choices)
    environments = models.ManyToManyField(Environment, through="InvitationEnvironment", related_name="+")
    digest = models.BinaryField(max_length=32, editable=False)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    invited_by_label = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    # When its newest mail was handed to the mail server; None: that failed.
    mailed_at = models.DateTimeField(null=True, blank=True)
    taken_at = models.DateTimeField(null=True, blank=True)
    taken_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=models.Q(taken_at__isnull=True, withdrawn_at__isnull=True),
                name="one_open_invitation_of_address",
            ),
            models.CheckConstraint(
                condition=models.Q(taken_at__isnull=True) | models.Q(withdrawn_at__isnull=True),
                name="invitation_ends_once",
            ),
        ]
        indexes = [
            models.Index(fields=["digest"], name="invitation_by_link"),
            models.Index(fields=["organization", "-created_at"], name="invitation_newest"),
        ]

    def __str__(self) -> str:
        return f"invitation {self.pk} of {self.email}"

    # What it is

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at <= timezone.now()

    @property
    def sender_left(self) -> bool:
        """Whether who sent it may invite no longer: then it is not good until another admin sends it again."""
        if "sender_stands" not in self.__dict__:  # for_pages() reads it with the invitation
            return not Invitation.objects.for_pages().get(pk=self.pk).__dict__["sender_stands"]
        return not self.__dict__["sender_stands"]

    @property
    def is_good(self) -> bool:
        """Whether its link can be used now."""
        is_open = self.taken_at is None and self.withdrawn_at is None
        return is_open and not self.is_expired and not self.sender_left

    @property
    def waits_to_resend(self) -> bool:
        """Whether its newest mail is too fresh for another one."""
        return self.mailed_at is not None and timezone.now() < self.mailed_at + RESEND_AFTER

    @property
    def account(self) -> User | None:
        """The account of its address, for whoever holds the link: they read the mail of that address."""
        return User.objects.filter(email=self.email).first()

    # What may be done with it

    def resend(self, *, by: Actor) -> str:
        """Return the token of a new link, good for as long as a new invitation's; the old link is good no longer.

        Raises InvitationOverError when it was accepted or withdrawn, ValidationError when the last mail is too fresh.
        """
        with transaction.atomic():
            current = self._lock()
            if current.waits_to_resend:
                minutes = RESEND_AFTER // timedelta(minutes=1)
                raise ValidationError(f"{self.email} was mailed less than {minutes} minutes ago. Wait a little.")
            before = current.expires_at
            token = self._renew(by)
            self.save(update_fields=["digest", "expires_at", "mailed_at", "invited_by", "invited_by_label"])
            self._record(AuditAction.INVITATION_RESEND, by, {"good_until": self.expires_at}, {"good_until": before})
        return token

    def note_mailed(self) -> None:
        """Remember that its mail is on its way."""
        self.mailed_at = timezone.now()
        self.save(update_fields=["mailed_at"])

    def withdraw(self, *, by: Actor) -> None:
        """Let its link be good no longer. Raises InvitationOverError when it was accepted or withdrawn."""
        with transaction.atomic():
            self._lock()
            self.withdrawn_at = timezone.now()
            self.save(update_fields=["withdrawn_at"])
            self.environments.clear()
            self._record(AuditAction.INVITATION_WITHDRAW, by, {"role": None}, {"role": self.role})

    def accept(self, token: str, *, by: Actor) -> Member:
        """Make the person who acts a member, in the role that the invitation names; it is used up.

        Raises InvitationOverError, also when they are not the person of the address, or a member already.
        """
        with transaction.atomic():
            current = self._lock()
            # Another link may have been sent since the page was opened.
            if not current.is_good or bytes(current.digest) != _digest(token):
                raise InvitationOverError
            if by.user is None or by.user.email != current.email:
                raise InvitationOverError
            try:
                member = current.organization.add_member(
                    by.user,
                    Role(current.role),
                    by=by,
                    environments=list(current.environments.all()),
                    invited_by=current.invited_by_label,
                )
            except ValidationError:
                raise InvitationOverError from None
            self.taken_at, self.taken_by = timezone.now(), by.user
            self.save(update_fields=["taken_at", "taken_by"])
            self.environments.clear()
        return member

    @sensitive_variables("token", "password")
    def accept_as_new(self, token: str, *, name: str, password: str, by: Actor) -> Member:
        """Make the account of the address, with a name and a password, and make it a member.

        Raises AccountExistsError, InvitationOverError.
        """
        user = User(email=self.email, name=name.strip())
        user.set_password(password)
        with transaction.atomic():
            try:
                with transaction.atomic():
                    user.save(force_insert=True)
            except IntegrityError:
                raise AccountExistsError from None
            return self.accept(token, by=replace(by, label=user.email, user=user))

    def _renew(self, by: Actor) -> str:
        token = secrets.token_urlsafe(32)
        self.digest, self.mailed_at = _digest(token), None
        self.expires_at = timezone.now() + timedelta(days=settings.INVITATION_DAYS)
        self.invited_by, self.invited_by_label = by.user, by.label
        return token

    def _require_room(self) -> None:
        """Refuse what would be one too many, and who is a member. Call it with the organization locked."""
        mine: InvitationQuerySet = Invitation.objects.filter(organization=self.organization_id)
        if Member.objects.filter(organization=self.organization_id, user__email=self.email).exists():
            raise ValidationError({"email": ["This person is a member already."]})
        if mine.open().filter(email=self.email).exists():
            raise ValidationError(
                {"email": ["This address is invited already. Send that invitation again, or withdraw it first."]}
            )
        if mine.open().count() >= MOST_OPEN:
            raise ValidationError(
                {"email": [f"{MOST_OPEN} invitations wait already, which is the limit. Withdraw some first."]}
            )
        if mine.filter(created_at__gt=timezone.now() - timedelta(hours=1)).count() >= MOST_AN_HOUR:
            raise ValidationError(
                {"email": [f"At most {MOST_AN_HOUR} people can be invited in an hour. Wait a little."]}
            )

    def _lock(self) -> Invitation:
        """Return it as it is now; whoever changes it, or a member, waits. Raises InvitationOverError."""
        Organization.objects.lock(self.organization_id)
        current: Invitation = Invitation.objects.for_pages().get(pk=self.pk)
        if current.taken_at or current.withdrawn_at:
            raise InvitationOverError
        return current

    def _record(
        self, action: AuditAction, by: Actor, after: dict[str, object], before: dict[str, object] | None = None
    ) -> None:
        changes = difference(before or {}, after)
        AuditEntry.objects.record(action, by=by, organization=self.organization, target=self.email, changes=changes)


class InvitationEnvironment(models.Model):
    """That an invitation is limited to an environment, which cannot be deleted while it waits."""

    invitation = models.ForeignKey(Invitation, models.CASCADE)
    environment = models.ForeignKey(Environment, models.PROTECT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invitation", "environment"], name="environment_once_per_invitation")
        ]

    def __str__(self) -> str:
        return f"{self.invitation_id} {self.environment_id}"
