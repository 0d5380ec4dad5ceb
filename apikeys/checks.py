"""Checks of our own settings: `manage.py check` and every start of a command report them."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's name

from apikeys import places
from apikeys.breached_passwords import PasswordListError, check_list

MIN_SECRET_BYTES = 32
MIN_DIFFERENT_BYTES = 12
_UNSHARED_CACHES = ("locmem.LocMemCache", "dummy.DummyCache")


@register()
def check_peppers(**_: Any) -> list[CheckMessage]:
    """Peppers must be long and random: with a guessed one a stolen database tells whether a key is real."""
    found: list[CheckMessage] = []
    for number, pepper in settings.KEY_PEPPERS.items():
        if len(pepper) < MIN_SECRET_BYTES or len(set(pepper)) < MIN_DIFFERENT_BYTES:
            hint = "Make one with: echo 1:$(openssl rand -base64 32)"
            found.append(
                Error(
                    f"KEY_PEPPERS: pepper {number} is weak (under 32 random bytes).",
                    hint=hint,
                    id="apikeys.E001",
                )
            )
        elif settings.PRODUCTION and pepper.startswith(b"development-only"):
            found.append(Error(f"KEY_PEPPERS: pepper {number} is the public one.", id="apikeys.E002"))
    return found


@register()
def check_debug(**_: Any) -> list[CheckMessage]:
    """Debug pages show settings and variables."""
    if settings.PRODUCTION and settings.DEBUG:
        return [Error("DEBUG is on in production.", hint="Leave DEBUG unset.", id="apikeys.E003")]
    return []


@register()
def check_cache(**_: Any) -> list[CheckMessage]:
    """Login limits are counted in the cache: one that is not shared lets every process count on its own."""
    backend = settings.CACHES["default"]["BACKEND"]
    if not backend.endswith(_UNSHARED_CACHES):
        return []
    hint = "Use dbcache://keyadmin_cache (the default) or rediscache://HOST:6379/1 (with the package redis)."
    text = "CACHE_URL names a cache that is not shared between processes; login limits would not hold."
    kind = Error if settings.PRODUCTION else Warning
    return [kind(text, hint=hint, id="apikeys.E004" if settings.PRODUCTION else "apikeys.W004")]


@register()
def check_addresses(**_: Any) -> list[CheckMessage]:
    """In production the links in mails must be https, and the hosts named."""
    if not settings.PRODUCTION:
        return []
    found: list[CheckMessage] = []
    if not settings.BASE_URL.startswith("https://"):
        found.append(Error("BASE_URL must begin with https:// in production.", id="apikeys.E005"))
    if "*" in settings.ALLOWED_HOSTS:
        found.append(Error("ALLOWED_HOSTS must name the hosts, not '*'.", id="apikeys.E006"))
    return found


@register()
def check_places(**_: Any) -> list[CheckMessage]:
    """Without its database keyadmin shows addresses alone: no error, which would stop the jobs that end keys."""
    fault = places.database_fault()
    if not fault:
        return []
    hint = "Name a MaxMind database (.mmdb) of cities or countries that keyadmin's user may read, or leave it unset."
    text = f"GEOIP_DATABASE: {settings.GEOIP_DATABASE} cannot be used: {fault}."
    return [Warning(text, hint=hint, id="apikeys.W007")]


@register()
def check_breached_passwords(**_: Any) -> list[CheckMessage]:
    """A list that cannot be used refuses nobody; it must not stop the jobs either, which an error would."""
    if not settings.BREACHED_PASSWORDS:
        return []
    try:
        check_list(Path(settings.BREACHED_PASSWORDS))
    except PasswordListError as error:
        hint = "docs/install.md says how to get the list. Until then breached passwords are accepted."
        text = f"BREACHED_PASSWORDS: {settings.BREACHED_PASSWORDS} {error}."
        return [Warning(text, hint=hint, id="apikeys.W008")]
    return []
