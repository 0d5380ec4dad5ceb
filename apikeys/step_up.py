"""Step-up: whoever does what could do great harm shows again that they are who they are, when that was long ago.

NIST SP 800-63B-4 and ASVS 5 (V7.5.3) call it reauthentication. Signing in is a proof too.
"""

from __future__ import annotations

import time
from typing import Any, Final

from allauth.core import ratelimit
from django import forms
from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest

from apikeys.http import MemberRequest, actor
from apikeys.models import AuditAction, AuditEntry
from apikeys.passkeys import CredentialField, take_answer

PASSWORD: Final = "proof_password"  # noqa: S105 - the field's name
PASSKEY: Final = "proof_passkey"
_PROVEN_AT: Final = "proven_at"


class TooManyProofsError(Exception):
    """A wrong password or passkey was given too often in too short a time."""


class ProofForm(forms.Form):
    """The password of whoever is signed in, or one of their passkeys."""

    proof_password = forms.CharField(
        label="Your password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )
    proof_passkey = CredentialField(required=False)

    def __init__(self, request: MemberRequest) -> None:
        # No error report may hold them.
        request.sensitive_post_parameters = [PASSWORD, PASSKEY]  # type: ignore[attr-defined]
        super().__init__(request.POST if PASSWORD in request.POST or PASSKEY in request.POST else None)
        self.fields[PASSWORD].required = not request.POST.get(PASSKEY)
        self._request = request

    def clean(self) -> dict[str, Any]:
        """Check what was given; raises TooManyProofsError. A wrong one is in the audit log."""
        found: dict[str, Any] = super().clean() or {}
        if self.errors:
            return found
        request = self._request
        if not ratelimit.consume(request, action="reauthenticate", user=request.user):
            raise TooManyProofsError
        # In a form that brings all of another one, a password is no value to be shown again.
        password, passkey = found.pop(PASSWORD, ""), found.pop(PASSKEY, None)
        is_right = self._is_passkey(passkey) if passkey else request.user.check_password(password)
        action = AuditAction.PROOF if is_right else AuditAction.PROOF_FAILED
        AuditEntry.objects.record(
            action,
            by=actor(request),
            organization=request.member.organization,
            target=request.user.email,
            reason="passkey" if passkey else "",
        )
        if not is_right and not passkey:
            self.add_error(PASSWORD, "That is not your password.")
        return found

    def _is_passkey(self, credential: dict[str, Any]) -> bool:
        try:
            take_answer(self._request.user, credential).record_usage()
        except ValidationError as error:
            self.add_error(None, error)
            return False
        return True


def is_proven(request: HttpRequest) -> bool:
    """Say whether whoever is signed in has shown lately that it is them."""
    age: float = time.time() - request.session.get(_PROVEN_AT, 0)
    # A proof of the future is of a clock that was wrong.
    return -60 < age < settings.STEP_UP_MINUTES * 60


def note_proof(request: HttpRequest) -> None:
    """Remember that they have just shown it, in a session under a new key."""
    request.session[_PROVEN_AT] = time.time()
    request.session.cycle_key()


@receiver(user_logged_in)
def _signed_in(request: HttpRequest, **_facts: object) -> None:
    request.session[_PROVEN_AT] = time.time()
