"""Passkeys (WebAuthn): what a browser says of one, taken only in a shape that can be read and from our own pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.internal.flows import check_rate_limit
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.internal import auth as webauthn
from django import forms
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from fido2.utils import websafe_decode

# Browsers send one or two thousand characters; a certificate of the device may come with it.
_LONGEST: Final = 20_000
_TELLING: Final = frozenset({"too_many_login_attempts", "unverified_email", "unreadable"})


class CredentialField(forms.JSONField):
    """A PublicKeyCredential as JSON, which a script of ours puts into the form."""

    widget = forms.HiddenInput

    def to_python(self, value: Any) -> Any:
        """Return it as a dict, None of none; raises ValidationError for anything else, or of another page."""
        if value in self.empty_values:
            return None
        try:
            found = json.loads(value) if isinstance(value, str) and len(value) <= _LONGEST else None
            said = json.loads(websafe_decode(found["response"]["clientDataJSON"])) if found else {}
            # One that answered a page of a subdomain would be let through otherwise.
            if found and said["origin"] == settings.BASE_URL:
                return dict(found)
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            pass
        raise get_adapter().validation_error("incorrect_passkey")


def host() -> str:
    """Return whose passkeys they are: the host that people know, whatever host a request names."""
    return urlsplit(settings.BASE_URL).hostname or "localhost"


def challenge(user: AbstractBaseUser) -> dict[str, Any] | None:
    """Return what a browser needs to ask for a passkey of that person, None when they have none.

    What it is asked to sign is kept in the session, and counts once.
    """
    if not Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.WEBAUTHN).exists():
        return None
    asked: dict[str, Any] = webauthn.begin_authentication(user)
    return asked


def take_answer(user: AbstractBaseUser, credential: dict[str, Any]) -> Authenticator:
    """Return the passkey of that person that answered the challenge; raises ValidationError."""

    def check() -> Authenticator:
        start_anew = check_rate_limit(user)
        webauthn.parse_authentication_response(credential)
        found: Authenticator = webauthn.complete_authentication(user, credential)
        start_anew()
        return found

    return checked(check)


def checked[R](check: Callable[[], R]) -> R:
    """Run one of django-allauth's checks; raises ValidationError also for what it trips over.

    Which check it was is in no message: a browser never sends that, and who forged it needs no help.
    """
    try:
        return check()
    except (ValidationError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if getattr(error, "code", None) in _TELLING:
            raise
        raise get_adapter().validation_error("incorrect_passkey") from None
