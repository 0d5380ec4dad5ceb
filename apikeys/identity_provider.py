"""The OpenID Connect provider: sending people there, and verifying all that comes back (OpenID Connect Core 1.0).

django-allauth sends and exchanges (state, PKCE, the code). What it leaves open is closed here: a nonce, the signature
of every ID token, the very issuer, and addresses of the provider that are as safe as the issuer's own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import requests
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from apikeys.models import Asserted

# What may sign an ID token: public keys alone. Never "none", and no shared secret.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
# The provider's clock may be off by so many seconds.
_LEEWAY: Final = 60
_NEVER: Final = 2**32
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
# A provider may answer anything: what is no JSON, or other JSON than it should be.
_FAULTS: Final = (
    *(requests.RequestException, OAuth2Error, jwt.PyJWTError),
    *(AttributeError, KeyError, TypeError, ValueError),
)
_TRUE: Final = (True, 1, "true", "True", "1")


class ProviderError(Exception):
    """The provider cannot be reached, or what it says does not hold. Its text holds nothing that was received."""


def requests_session() -> requests.Session:
    """Return what speaks with the provider: it waits a few seconds, and is led nowhere else."""
    session = requests.Session()
    session.max_redirects = 0
    session.request = partial(  # type: ignore[method-assign]
        session.request, timeout=settings.SOCIALACCOUNT_REQUESTS_TIMEOUT
    )
    return session


def is_on() -> bool:
    """Say whether there is a provider."""
    return bool(settings.OIDC_ISSUER)


class Provider(OpenIDConnectProvider):
    """The one provider, from the settings; rows of a database count for nothing."""

    pkce_enabled_default = True

    def __init__(self, request: HttpRequest) -> None:
        app = SocialApp(
            provider="openid_connect",
            provider_id=settings.OIDC_ISSUER,
            name=settings.OIDC_NAME,
            client_id=settings.OIDC_CLIENT_ID,
            secret=settings.OIDC_CLIENT_SECRET,
            settings={"server_url": settings.OIDC_ISSUER.rstrip("/"), "scope": settings.OIDC_SCOPES},
        )
        super().__init__(request, app=app)

    def get_oauth2_adapter(self, request: HttpRequest) -> Adapter:
        """Return what talks to the provider."""
        return Adapter(request, self)

    def address_for(self, request: HttpRequest, process: str, *, next_url: str = "", again: bool = False) -> str:
        """Return where to send a person, and keep in their session what has to come back; raises ProviderError.

        With ``again`` the provider is to ask who they are even when it knows.
        """
        nonce = secrets.token_urlsafe(32)
        parameters = {"nonce": nonce}
        if again:
            parameters |= {"prompt": "login", "max_age": "0"}
        facts = {"nonce": nonce, "began": int(time.time())}
        try:
            answer = self.redirect(request, process, next_url=next_url, auth_params=parameters, data=facts)
        except _FAULTS as error:
            raise ProviderError(_told(error)) from error
        return str(answer["Location"])


class Adapter(OpenIDConnectOAuth2Adapter):
    """Talks to the provider."""

    def __init__(self, request: HttpRequest, provider: Provider) -> None:
        super().__init__(request, provider.sub_id)
        self._provider = provider

    def get_provider(self) -> Provider:
        """Return the one provider."""
        return self._provider

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:  # noqa: ARG002 - the hook's signature
        """Return where the provider sends people back to, whatever host was asked for."""
        return f"{settings.BASE_URL}{reverse('sign_on_return')}"

    @property
    def openid_config(self) -> dict[str, Any]:
        """What the provider says of itself; raises OAuth2Error when it is another one, or unsafe."""
        found: dict[str, Any] = super().openid_config
        if not isinstance(found, dict) or found.get("issuer") != settings.OIDC_ISSUER:
            raise OAuth2Error("its discovery document is not that of OIDC_ISSUER")
        secure = urlsplit(settings.OIDC_ISSUER).scheme == "https"
        for name in _ENDPOINTS:
            parts = urlsplit(str(found.get(name, "")))
            if not parts.hostname or parts.scheme not in ({"https"} if secure else {"https", "http"}):
                raise OAuth2Error(f"its {name} is no https address")
        return found

    def sends_secret_as_header(self) -> bool:
        """Whether the client's secret goes into a header: what a provider wants that says nothing."""
        methods = self.openid_config.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return "client_secret_post" not in methods

    basic_auth = property(sends_secret_as_header)

    def redeem(self, request: HttpRequest, state: Mapping[str, Any]) -> Asserted:
        """Exchange the code of a request for a person, everything verified; raises ProviderError."""
        try:
            client = self.get_client(request, self._provider.app)
            answer = self.get_access_token_data(
                request, self._provider.app, client, pkce_code_verifier=state.get("pkce_code_verifier")
            )
            claims = self._verified(str(answer.get("id_token", "")), state["data"]["nonce"])
            if "email" not in claims or settings.OIDC_VERIFIED_CLAIM not in claims:
                claims = self._with_user_info(claims, str(answer["access_token"]))
        except _FAULTS as error:
            raise ProviderError(_told(error)) from error
        return _asserted(claims)

    def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token (section 3.1.3.7)."""
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise OAuth2Error("its ID token is not signed by a public key")
        claims = jwt.decode(
            token,
            key=self._key(header.get("kid"), algorithm),
            algorithms=[algorithm],
            issuer=settings.OIDC_ISSUER,
            audience=settings.OIDC_CLIENT_ID,
            leeway=_LEEWAY,
            options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"]},
        )
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else settings.OIDC_CLIENT_ID) != settings.OIDC_CLIENT_ID:
            raise OAuth2Error("its ID token was made for another application")
        if not secrets.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise OAuth2Error("its ID token answers another request")
        return dict(claims)

    def _key(self, number: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the provider's public key of a number; one without a number is that of its only key."""
        with requests_session() as session:
            response = session.get(self.openid_config["jwks_uri"])
            response.raise_for_status()
            published = response.json()["keys"]
        signing = [key for key in published if key.get("use", "sig") == "sig"]
        named = [key for key in signing if number is None or key.get("kid") == number]
        if len(named) != 1:
            raise OAuth2Error("its ID token is signed by a key that it does not publish")
        return jwt.PyJWK.from_dict(named[0], algorithm=algorithm)

    def _with_user_info(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """Add what the provider tells at another address (section 5.3), of the same person alone."""
        if not urlsplit(str(self.openid_config.get("userinfo_endpoint", ""))).hostname:
            return claims
        told = self._fetch_user_info(access_token)
        if told["sub"] != claims["sub"]:
            raise OAuth2Error("it tells of another person than its ID token")
        # An address, and whether it is verified, from one place: never the word about one for another.
        return claims | {name: told.get(name) for name in ("email", settings.OIDC_VERIFIED_CLAIM, "name")}


def _asserted(claims: Mapping[str, Any]) -> Asserted:
    subject, at = str(claims["sub"]), claims.get("auth_time")
    if not 1 <= len(subject) <= 255 or not subject.isascii() or not subject.isprintable():
        raise ProviderError("its ID token names nobody")
    return Asserted(
        issuer=str(claims["iss"]),
        subject=subject,
        email=str(claims.get("email") or ""),
        is_verified=claims.get(settings.OIDC_VERIFIED_CLAIM) in _TRUE,
        name=str(claims.get("name") or ""),
        authenticated_at=datetime.fromtimestamp(at, UTC) if isinstance(at, int) and 0 < at < _NEVER else None,
    )


def _told(error: Exception) -> str:
    """Say what failed without a word of what was received: that may hold a code or a token."""
    if isinstance(error, OAuth2Error) and not str(error).startswith("Error retrieving"):
        return str(error)
    if isinstance(error, OAuth2Error):
        return "it refused the code"
    return type(error).__name__
