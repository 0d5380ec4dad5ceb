"""Second factors and passkeys: what we settle of django-allauth's, and what it leaves open.

Of an authenticator app (TOTP, RFC 6238) each code counts once, also with several processes and a clock that is half a
minute off. Its secret, and the seed of the recovery codes, are sealed. A passkey (WebAuthn) is of BASE_URL alone.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Final, cast

from allauth.account.signals import authentication_step_completed
from allauth.core import context
from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa import signals
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.adapter import get_adapter as get_mfa_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.base.internal.flows import check_rate_limit
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.http import HttpRequest

from apikeys.accounts import FACTORS, record_of_person
from apikeys.http import actor
from apikeys.models import AuditAction, SignOnDomain, User
from apikeys.passkeys import CredentialField, checked, host
from apikeys.sealing import UnsealError, is_newest, seal, unseal
from apikeys.sign_on_forms import only_sign_on
from apikeys.step_up import note_proof

_log = logging.getLogger(__name__)
# The last step of 30 seconds whose code was used; no earlier one counts again (RFC 6238, 5.2).
_LAST_STEP: Final = "last_step"


class MFAAdapter(DefaultMFAAdapter):
    """The hooks of django-allauth's second factors that we use."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "That code is not right, or was used already. Wait for the next one.",
        "incorrect_passkey": "That passkey does not belong to this account, or took too long. Try again.",
        "unreadable": "The codes of this account can no longer be checked here. Use a passkey, or ask whoever runs "
        "keyadmin to reset the second factor.",
    }

    def encrypt(self, text: str) -> str:
        """Return a secret as it is stored."""
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Return a stored secret; raises ValidationError when it cannot be read any more."""
        try:
            return unseal(encrypted_text)
        except UnsealError as error:
            _log.error("The secret of a second factor cannot be read: %s", error)
            raise self.validation_error("unreadable") from None

    def get_totp_issuer(self) -> str:
        """Return what an authenticator app shows above the code."""
        return f"keyadmin {host()}"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Return whose passkeys they are: of the host that people know, whatever host a request names."""
        return {"id": host(), "name": "keyadmin"}

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:  # noqa: A002 - theirs
        """Return the name of a passkey whose person gives it none."""
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return f"Passkey {count + 1}" if count else "Passkey"


# Codes


class ActivateForm(ActivateTOTPForm):
    """Takes the first code of an authenticator app. Its secret waits in the session, sealed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.user = kwargs.pop("user")
        forms.Form.__init__(self, *args, **kwargs)
        session = context.request.session
        kept = session.get(totp.SECRET_SESSION_KEY) if self.is_bound else None
        self.secret = unseal(kept) if kept else totp.generate_totp_secret()
        session[totp.SECRET_SESSION_KEY] = kept or seal(self.secret)


class _CodeMixin:
    """Checks a code of the app, or a recovery code, each of which counts once."""

    user: User
    authenticator: Authenticator
    cleaned_data: dict[str, Any]

    def clean_code(self) -> str:
        """Return the code; raises ValidationError, also when too many were wrong."""
        start_anew = check_rate_limit(self.user)
        code: str = self.cleaned_data["code"]
        found = Authenticator.objects.filter(user=self.user).exclude(type=Authenticator.Type.WEBAUTHN)
        for authenticator in found.order_by("-type"):
            is_right = take_code if authenticator.type == Authenticator.Type.TOTP else _take_recovery_code
            if is_right(authenticator, code):
                authenticator.user = self.user
                self.authenticator = authenticator
                start_anew()
                return code
        _record(AuditAction.FACTOR_FAILED, context.request, self.user, reason="wrong code")
        raise get_mfa_adapter().validation_error("incorrect_code")


class CodeForm(_CodeMixin, AuthenticateForm):
    """The code that follows the password."""


class CodeAgainForm(_CodeMixin, ReauthenticateForm):
    """The code of somebody who is signed in."""


def take_code(authenticator: Authenticator, code: str) -> bool:
    """Say whether a code of an authenticator app is right and newer than any that was used, and use it up."""
    with transaction.atomic():
        locked = Authenticator.objects.select_for_update().get(pk=authenticator.pk)
        secret = get_mfa_adapter().decrypt(locked.data["secret"])
        used = locked.data.get(_LAST_STEP, 0)
        for step in totp.yield_hotp_counters_from_time():
            is_same = compare_user_code(actual=code, expected=totp.format_hotp_value(totp.hotp_value(secret, step)))
            if is_same and step > used:
                locked.data[_LAST_STEP] = step
                locked.save(update_fields=["data"])
                return True
    return False


def _take_recovery_code(authenticator: Authenticator, code: str) -> bool:
    is_right: bool = authenticator.wrap().validate_code(code)  # type: ignore[no-untyped-call]
    return is_right


# Passkeys


class _PasskeyMixin(forms.Form):
    """Takes what a browser says about a passkey only in a shape that can be read, and from our own pages."""

    credential: forms.JSONField = CredentialField()
    user: User | None

    def clean_credential(self) -> Authenticator:
        """Return the passkey that answered; raises ValidationError."""
        try:
            found: Authenticator = checked(super().clean_credential)  # type: ignore[misc]
        except ValidationError:
            if self.user is not None:
                _record(AuditAction.FACTOR_FAILED, context.request, self.user, reason="passkey")
            raise
        return found


class PasskeyForm(_PasskeyMixin, AuthenticateWebAuthnForm):
    """A passkey after the password."""


class PasskeySignInForm(_PasskeyMixin, LoginWebAuthnForm):
    """A passkey instead of address and password."""

    def clean_credential(self) -> Authenticator:
        """Return the passkey that answered; raises ValidationError, also where only single sign-on signs in."""
        found = super().clean_credential()
        if SignOnDomain.objects.requires(found.user.email):
            _record(
                AuditAction.SIGN_IN_FAILED,
                context.request,
                found.user,
                reason="a passkey, where single sign-on is required",
            )
            raise only_sign_on()
        return found


class PasskeyAgainForm(_PasskeyMixin, ReauthenticateWebAuthnForm):
    """A passkey of somebody who is signed in."""


class AddPasskeyForm(AddWebAuthnForm):
    """A new passkey."""

    name = forms.CharField(
        required=False, max_length=60, label="Name", help_text="To know it by: the device, or where it is kept."
    )
    credential: forms.JSONField = CredentialField()
    passwordless = forms.BooleanField(
        required=False,
        initial=True,
        label="Sign in with it alone, without the password",
        help_text="It then asks for its PIN, finger or face. Off: it follows the password, as old security keys do.",
    )

    def clean(self) -> dict[str, Any]:
        """Check what the browser says; raises ValidationError."""
        found: dict[str, Any] = checked(super().clean)
        return found


# What is kept of it


def reseal() -> tuple[int, int]:
    """Seal under the newest pepper what is under an older one; return how many were, and how many could not be read."""
    done = lost = 0
    for pk in Authenticator.objects.order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            locked = Authenticator.objects.select_for_update().filter(pk=pk).first()
            name = next((name for name in ("secret", "seed") if locked and name in locked.data), "")
            if locked is None or not name or is_newest(locked.data[name]):
                continue
            try:
                locked.data[name] = seal(unseal(locked.data[name]))
            except UnsealError:
                lost += 1
                continue
            locked.save(update_fields=["data"])
            done += 1
    return done, lost


def _record(action: AuditAction, request: HttpRequest, user: AbstractBaseUser, *, reason: str) -> None:
    by, person = actor(request), cast(User, user)
    # Between the password and the code nobody is signed in yet.
    record_of_person(action, person, by if by.user else replace(by, label=person.email), reason=reason)


def told(authenticator: Authenticator) -> str:
    """Return what an entry calls a factor."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        return "recovery codes"
    return f"{FACTORS[authenticator.type]} {authenticator.data.get('name', '')}".strip()


@receiver(pre_save, sender=Authenticator)
def _made(instance: Authenticator, **_facts: object) -> None:
    if instance.type == Authenticator.Type.TOTP and instance._state.adding:
        # The code that showed that the app works counts as used.
        instance.data[_LAST_STEP] = max(totp.yield_hotp_counters_from_time()) - settings.MFA_TOTP_TOLERANCE


@receiver(signals.authenticator_added)
def _added(request: HttpRequest, user: AbstractBaseUser, authenticator: Authenticator, **_facts: object) -> None:
    _record(AuditAction.FACTOR_ADD, request, user, reason=told(authenticator))


@receiver(signals.authenticator_removed)
def _removed(request: HttpRequest, user: AbstractBaseUser, authenticator: Authenticator, **_facts: object) -> None:
    _record(AuditAction.FACTOR_REMOVE, request, user, reason=told(authenticator))


@receiver(signals.authenticator_reset)
def _reset(request: HttpRequest, user: AbstractBaseUser, authenticator: Authenticator, **_facts: object) -> None:
    _record(AuditAction.FACTOR_ADD, request, user, reason=f"new {told(authenticator)}")


@receiver(authentication_step_completed)
def _shown_again(request: HttpRequest, user: AbstractBaseUser, **facts: Any) -> None:
    if facts.get("reauthenticated"):
        note_proof(request)
        record_of_person(AuditAction.PROOF, cast(User, user), actor(request))
