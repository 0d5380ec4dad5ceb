"""How django-allauth signs people in here: no sign-up, our client addresses, every sign-in in the audit log."""

import logging
from collections.abc import Collection
from dataclasses import replace
from smtplib import SMTPException
from typing import Any, Final
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.http import HttpRequest

from apikeys.http import actor
from apikeys.models import Actor, AuditAction, AuditEntry, Organization, Session, SignOnDomain, User
from apikeys.sign_on_forms import only_sign_on
from apikeys.single_sign_on import SIGN_ON, SIGN_ON_ONLY
from apikeys.step_up import is_proven

_log = logging.getLogger(__name__)
# What django-allauth calls them, and we.
FACTORS: Final = {"totp": "authenticator app", "webauthn": "passkey", "recovery_codes": "recovery code"}
_METHODS: Final = {"socialaccount": SIGN_ON}


class AccountAdapter(DefaultAccountAdapter):
    """The hooks of django-allauth that we use."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002 - the hook's signature
        """Admins invite people; nobody signs up."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address that rate limits count by."""
        return getattr(request, "client_address", None) or "0.0.0.0"  # noqa: S104 - no address known

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Return the link of a mail: at BASE_URL, whatever host was asked for."""
        return f"{settings.BASE_URL}{urlsplit(super().get_reset_password_from_key_url(key)).path}"

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Sign a person in."""
        with transaction.atomic():
            super().login(request, user)
            record_of_person(AuditAction.SIGN_IN, _ours(user), actor(request), reason=how(request, _ours(user)))

    def logout(self, request: HttpRequest) -> None:
        """Sign a person out."""
        by = actor(request)
        with transaction.atomic():
            if by.user:
                record_of_person(AuditAction.SIGN_OUT, by.user, by)
            super().logout(request)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Refuse a password where the address's domain signs in through the provider alone, account or not."""
        super().pre_authenticate(request, **credentials)
        email = str(credentials.get("email", ""))
        if SignOnDomain.objects.requires(email):
            self._record_failure(request, email, SIGN_ON_ONLY)
            raise only_sign_on()

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """Record a failed sign-in in each organization of the person whose address was given, if there is one."""
        self._record_failure(request, str(credentials.get("email", "")))

    def _record_failure(self, request: HttpRequest, email: str, reason: str = "") -> None:
        email = email[:254].strip().lower()
        by = replace(actor(request), label=email, user=None)
        record_of_person(AuditAction.SIGN_IN_FAILED, User.objects.filter(email=email).first(), by, reason=reason)

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Tell a person of a change of their account, which is done also when no mail can be sent."""
        try:
            super().send_notification_mail(*args, **kwargs)
        except (OSError, SMTPException) as error:
            _log.error("The mail that tells of a changed account was not sent: %s", error)

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, str]]:
        """Return the ways to show again who one is, by the names that we give them."""
        words = {"mfa_reauthenticate": "Use a code", "mfa_reauthenticate:webauthn": "Use a passkey"}
        found: list[dict[str, str]] = super().get_reauthentication_methods(user)
        return [way | {"description": words.get(way["id"], "Use your password")} for way in found]

    def is_reauthentication_required(self, *, app: str, **_facts: Any) -> bool:  # noqa: ARG002 - the hook's signature
        """Say whether whoever is signed in has to show again who they are: as for what else could do harm."""
        return not is_proven(self.request)

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """Change a person's password."""
        request = self.request
        with transaction.atomic():
            super().set_password(user, password)
            by, person = actor(request), _ours(user)
            if by.user is None:
                by = replace(by, label=person.email, user=person)
            record_of_person(AuditAction.PASSWORD_CHANGE, person, by)


def how(request: HttpRequest, user: User) -> str:
    """Return in words how somebody has shown who they are, as an entry of the audit log tells it."""
    records = get_authentication_records(request, user)
    words = [FACTORS.get(one.get("type", "")) or _METHODS.get(one["method"], one["method"]) for one in records]
    return " and ".join(dict.fromkeys(words))


def record_of_person(action: AuditAction, user: User | None, by: Actor, *, reason: str = "") -> None:
    """Append an entry in each organization of a person, or in none where they have none or nobody is known."""
    found = Organization.objects.filter(members__user=user) if user else Organization.objects.none()
    organizations: list[Organization | None] = [*found]
    for organization in organizations or [None]:
        target = user.email if user else ""
        AuditEntry.objects.record(action, by=by, organization=organization, target=target, reason=reason)


def end_sessions(user: User, ended: Collection[Session], by: Actor) -> None:
    """End some sessions of a person at once, with an entry for each.

    One transaction for each person: the chains of several organizations are linked in one order then, as at a sign-in.
    """
    with transaction.atomic():
        user.sessions.filter(session_key__in=[one.session_key for one in ended]).delete()
        for one in ended:
            record_of_person(AuditAction.SESSION_END, user, by, reason=one.words)


def _ours(user: AbstractBaseUser) -> User:
    if not isinstance(user, User):
        raise TypeError(f"{user!r} is not a person of keyadmin.")
    return user
