"""How django-allauth signs people in here: no sign-up, our client addresses, every sign-in in the audit log."""

from dataclasses import replace
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest

from apikeys.http import actor
from apikeys.models import Actor, AuditAction, AuditEntry, Organization, User


class AccountAdapter(DefaultAccountAdapter):
    """The hooks of django-allauth that we use."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002 - the hook's signature
        """Admins add people; nobody signs up."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address that rate limits count by."""
        return getattr(request, "client_address", None) or "0.0.0.0"  # noqa: S104 - no address known

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Sign a person in."""
        with transaction.atomic():
            super().login(request, user)
            record_of_person(AuditAction.SIGN_IN, _ours(user), actor(request))

    def logout(self, request: HttpRequest) -> None:
        """Sign a person out."""
        by = actor(request)
        with transaction.atomic():
            if by.user:
                record_of_person(AuditAction.SIGN_OUT, by.user, by)
            super().logout(request)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """Record a failed sign-in in each organization of the person whose address was given, if there is one."""
        email = str(credentials.get("email", ""))[:254].strip().lower()
        by = replace(actor(request), label=email, user=None)
        record_of_person(AuditAction.SIGN_IN_FAILED, User.objects.filter(email=email).first(), by)

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """Change a person's password."""
        request = self.request
        with transaction.atomic():
            super().set_password(user, password)
            by, person = actor(request), _ours(user)
            if by.user is None:
                by = replace(by, label=person.email, user=person)
            record_of_person(AuditAction.PASSWORD_CHANGE, person, by)


def record_of_person(action: AuditAction, user: User | None, by: Actor, *, reason: str = "") -> None:
    """Append an entry in each organization of a person, or in none where they have none or nobody is known."""
    found = Organization.objects.filter(members__user=user) if user else Organization.objects.none()
    organizations: list[Organization | None] = [*found]
    for organization in organizations or [None]:
        target = user.email if user else ""
        AuditEntry.objects.record(action, by=by, organization=organization, target=target, reason=reason)


def _ours(user: AbstractBaseUser) -> User:
    if not isinstance(user, User):
        raise TypeError(f"{user!r} is not a person of keyadmin.")
    return user
