"""How django-allauth speaks with the provider here, and what the audit log calls it."""

from __future__ import annotations

from typing import Any, Final

import requests
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.http import HttpRequest

from apikeys.identity_provider import requests_session

SIGN_ON: Final = "single sign-on"
SIGN_ON_ONLY: Final = "a password, where single sign-on is required"


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """The hooks of django-allauth that we use."""

    def get_requests_session(self) -> requests.Session:
        """Return what speaks with the provider."""
        return requests_session()

    def list_apps(self, *_arguments: Any, **_options: Any) -> list[Any]:
        """Return none: the one provider is in the settings, and a row in the database adds no other."""
        return []

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:  # noqa: ARG002 - the hook's signature
        """Accounts are made by SignOnIdentity.admit alone."""
        return False
