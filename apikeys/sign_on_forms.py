"""Who has a password, who signs in through the provider alone, and the form that keeps these from choosing one."""

from __future__ import annotations

from typing import Final

from allauth.account import forms
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.core.exceptions import ValidationError
from django.forms import Form
from django.http import HttpRequest

from apikeys.identity_provider import is_on
from apikeys.models import SignOnDomain, User

# A form that goes on says by it that a sign-in at the provider was asked for in the place of a password.
SIGNED_ON: Final = "proof_sign_on"


def uses_password(user: User) -> bool:
    """Say whether a person shows by a password that it is them."""
    return user.has_usable_password() and not SignOnDomain.objects.requires(user.email)


def takes_password(user: User, form: Form) -> bool:
    """Say whether a person's password counts as a proof; where it does not, a form that holds one says so."""
    if not SignOnDomain.objects.requires(user.email):
        return True
    if form.is_bound:
        form.add_error(None, only_sign_on())
    return False


def may_sign_on_again(user: User) -> bool:
    """Say whether a person can show at the provider that it is them."""
    return is_on() and user.sign_on_identities.filter(issuer=settings.OIDC_ISSUER).exists()


def has_signed_on(request: HttpRequest, user: User) -> bool:
    """Say whether this session began at the provider, where second factors are the provider's business."""
    return any(record["method"] == "socialaccount" for record in get_authentication_records(request, user))


def only_sign_on() -> ValidationError:
    """Return what is told of a domain whose people sign in through the provider alone, account or not."""
    return ValidationError(f"Addresses of this domain sign in with {settings.OIDC_NAME}, not with a password.")


class ResetPasswordForm(forms.ResetPasswordForm):
    """Mails a link to choose a new password."""

    def clean_email(self) -> str:
        """Refuse an address whose domain signs in through the provider alone, whether there is an account or not."""
        if SignOnDomain.objects.requires(self.cleaned_data["email"]):
            raise only_sign_on()
        email: str = super().clean_email()
        return email
