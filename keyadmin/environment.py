"""Typed reading of environment variables: a bad value stops the start with its name and the limit."""

import base64
import binascii
import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

_env = environ.Env()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def text(name: str, default: str = "") -> str:
    """Return a variable as it stands, without surrounding space."""
    return str(_env.str(name, default=default)).strip()


def file(name: str) -> str:
    """Return the absolute path of a file in a folder that exists, or an empty text."""
    value = text(name)
    if value and not (Path(value).is_absolute() and Path(value).parent.is_dir() and not Path(value).is_dir()):
        raise ImproperlyConfigured(f"{name}: {value!r} is no absolute path of a file in a folder that exists.")
    return value


def path(name: str) -> str:
    """Return an absolute path, whether there is something or not, or an empty text."""
    value = text(name)
    if value and not Path(value).is_absolute():
        raise ImproperlyConfigured(f"{name}: {value!r} is no absolute path.")
    return value


def flag(name: str, *, default: bool) -> bool:
    """Return true or false; anything but the usual words is refused."""
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    value = text(name).lower()
    if not value:
        return default
    if value not in words:
        raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")
    return words[value]


def number(name: str, *, default: int, least: int, most: int) -> int:
    """Return a whole number between two limits, both included."""
    value = text(name)
    if not value:
        return default
    if not value.isdecimal() or not least <= int(value) <= most:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least} to {most}, not {value!r}.")
    return int(value)


def choice[T: str](name: str, *, default: T, choices: tuple[T, ...]) -> T:
    """Return one of a few words, whatever its case."""
    value = text(name) or default
    for known in choices:
        if value.lower() == known.lower():
            return known
    raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def words(name: str, default: str = "", *, least: int = 0) -> list[str]:
    """Return a comma-separated list, without empty entries; each has at least so many letters and digits."""
    found = [word.strip() for word in text(name, default).split(",") if word.strip()]
    for word in found:
        if sum(character.isalnum() for character in word) < least:
            raise ImproperlyConfigured(f"{name}: {word!r} has fewer than {least} letters and digits.")
    return found


def networks(name: str, default: str = "") -> list[Network]:
    """Return a comma-separated list of addresses and networks in CIDR notation."""
    found = []
    for word in words(name, default):
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {word!r} is no address or network ({error}).") from None
    return found


def base_url(name: str, default: str) -> str:
    """Return an http or https URL without path."""
    value = text(name, default).rstrip("/")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query:
        raise ImproperlyConfigured(f"{name} must look like https://keys.example.com, not {value!r}.")
    return value


def issuer(name: str, *, insecure: bool) -> str:
    """Return the https URL by which an OpenID Connect provider calls itself, to the letter, or an empty text."""
    value = text(name)
    parts = urlsplit(value)
    schemes = {"https", "http"} if insecure else {"https"}
    strange = parts.query or parts.fragment or "@" in parts.netloc or len(value) > 255
    if value and (parts.scheme not in schemes or not parts.hostname or strange):
        raise ImproperlyConfigured(
            f"{name} must look like https://login.example.com/realm, 255 characters at most, not {value!r}."
        )
    return value


def scopes(name: str, default: str) -> list[str]:
    """Return what to ask an OpenID Connect provider for, with spaces between; openid and email have to be there."""
    found = text(name, default).split()
    if not {"openid", "email"} <= set(found):
        raise ImproperlyConfigured(f"{name} must hold openid and email, like: openid email profile.")
    return found


def all_or_none(*names: str) -> None:
    """Refuse some of several variables without the others."""
    given = [name for name in names if text(name)]
    if given and len(given) < len(names):
        missing = ", ".join(name for name in names if name not in given)
        raise ImproperlyConfigured(f"{', '.join(names)} are set together or not at all; missing: {missing}.")


def secret(name: str, *, development: str | None) -> str:
    """Return a secret; ``development`` stands in for a missing one, None refuses to start without."""
    value = text(name)
    if value:
        return value
    if development is None:
        raise ImproperlyConfigured(
            f"{name} is not set. In production it must be a random secret, as from: openssl rand -base64 48"
        )
    return development


def peppers(name: str, *, development: str | None) -> dict[int, bytes]:
    """Return numbered peppers from ``1:BASE64,2:BASE64``; the highest number signs new keys."""
    found: dict[int, bytes] = {}
    for word in secret(name, development=development).split(","):
        head, separator, encoded = word.strip().partition(":")
        if not separator or not head.isdecimal() or not 1 <= int(head) <= 32767:
            raise ImproperlyConfigured(f"{name} must read 1:BASE64,2:BASE64 with numbers from 1 to 32767.")
        if int(head) in found:
            raise ImproperlyConfigured(f"{name} has pepper {head} twice.")
        try:
            found[int(head)] = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ImproperlyConfigured(f"{name}: pepper {head} is not valid base64.") from None
    return found


def database(name: str, default: str) -> dict[str, Any]:
    """Return Django's settings of one database from its URL (sqlite:///path or postgres://…)."""
    url = text(name, default)
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return _sqlite(name, url)
    if scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"{name} must begin with sqlite:/// or postgres://, not {scheme!r}.")
    config: dict[str, Any] = environ.Env.db_url_config(url)
    if not config.get("NAME"):
        raise ImproperlyConfigured(f"{name} names no database: postgres://USER:PASSWORD@HOST:5432/NAME")
    options = config.setdefault("OPTIONS", {})
    options.setdefault("prepare_threshold", 2)  # Django's default prepares nothing
    options.setdefault("connect_timeout", 5)
    return config | {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}


def _sqlite(name: str, url: str) -> dict[str, Any]:
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path.name:
        raise ImproperlyConfigured(f"{name} must read sqlite:///relative/path or sqlite:////absolute/path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # FULL, so that a revocation that was answered survives a power cut.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;",
        },
    }


def cache(name: str, default: str) -> dict[str, Any]:
    """Return Django's settings of one cache from its URL (dbcache://, rediscache://, locmemcache://)."""
    url = text(name, default)
    try:
        config: dict[str, Any] = environ.Env.cache_url_config(url)
    except (ImproperlyConfigured, KeyError) as error:
        raise ImproperlyConfigured(f"{name} is not understood: {error}") from None
    if config["BACKEND"].endswith(("DatabaseCache", "LocMemCache")):
        # With Django's 300, whoever guesses passwords of 300 addresses has the limits of all others forgotten.
        config.setdefault("OPTIONS", {}).setdefault("MAX_ENTRIES", 100_000)
    return config


def mailer(name: str, default: str) -> dict[str, Any]:
    """Return one entry of Django's MAILERS from a URL (smtp+tls://USER:PASSWORD@HOST:587, console:)."""
    url = text(name, default)
    parts = urlsplit(url)
    backend = {"console": "console", "memory": "locmem"}.get(parts.scheme)
    if backend:
        return {"BACKEND": f"django.core.mail.backends.{backend}.EmailBackend"}
    if parts.scheme not in {"smtp", "smtp+tls", "smtp+ssl"} or not parts.hostname:
        raise ImproperlyConfigured(
            f"{name} must be console: or smtp://, smtp+tls:// (STARTTLS) or smtp+ssl://USER:PASSWORD@HOST:PORT."
        )
    ports = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
    return {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {
            "host": parts.hostname,
            "port": parts.port or ports[parts.scheme],
            "username": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "use_tls": parts.scheme == "smtp+tls",
            "use_ssl": parts.scheme == "smtp+ssl",
            "timeout": 10,
        },
    }
