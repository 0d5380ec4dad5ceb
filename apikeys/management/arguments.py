"""What the commands are given: strings in, domain values out; a fault names the option that it is about."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.db.models import Q

from apikeys import key_secret
from apikeys.key_secret import CODE_PATTERN, PREFIX_PATTERN, PUBLIC_ID_LENGTH
from apikeys.models import ApiKey, Environment, Member, Organization, Scope, User
from apikeys.models.key_terms import MAX_RATE, RATE_PERIODS

_LIFETIME = re.compile(r"(?P<number>[1-9][0-9]{0,4})(?P<unit>[dh])", re.ASCII)
_RATE = re.compile(rf"(?P<requests>[1-9][0-9]{{0,6}})/(?P<period>{'|'.join(RATE_PERIODS.values())})", re.ASCII)
_LISTED = 20
# A fingerprint, its ellipsis as it is shown or as a keyboard has it.
_FINGERPRINT = re.compile(
    rf"(?P<prefix>{PREFIX_PATTERN})_(?P<code>{CODE_PATTERN})_(?P<start>[0-9A-Za-z]{{4}})(?:…|\.\.\.)(?P<end>[0-9A-Za-z]{{4}})",
    re.ASCII,
)
_PUBLIC_ID = re.compile(rf"[0-9A-Za-z]{{{PUBLIC_ID_LENGTH}}}", re.ASCII)


# Kinds of values, for argparse


def text(value: str) -> str:
    """Return an argument that a database can hold: the shell's bytes were UTF-8, without NUL."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8.") from None
    if "\0" in value:
        raise argparse.ArgumentTypeError("holds a NUL character.")
    return value


def lifetime(value: str) -> timedelta | None:
    """Return how long a key lives, None for ever."""
    if value == "never":
        return None
    if not (match := _LIFETIME.fullmatch(value)):
        raise argparse.ArgumentTypeError(f"must read like 90d, 12h or never, not {value!r}.")
    return _span(match)


def overlap(value: str) -> timedelta:
    """Return how long both keys of a rotation work."""
    if value == "none":
        return timedelta()
    if not (match := _LIFETIME.fullmatch(value)):
        raise argparse.ArgumentTypeError(f"must read like 7d, 12h or none, not {value!r}.")
    return _span(match)


def instant(value: str) -> datetime:
    """Return an instant, in UTC unless it says another offset."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must read like 2026-12-31T18:00, in UTC, not {value!r}.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _span(match: re.Match[str]) -> timedelta:
    return timedelta(**{{"d": "days", "h": "hours"}[match["unit"]]: int(match["number"])})


def rate(value: str) -> tuple[int, int]:
    """Return the requests and the seconds of a rate like 50/second."""
    if not (match := _RATE.fullmatch(value)) or int(match["requests"]) > MAX_RATE:
        periods = ", ".join(RATE_PERIODS.values())
        raise argparse.ArgumentTypeError(
            f"must read like 50/second, from 1 to {MAX_RATE:,} per {periods}, not {value!r}."
        )
    seconds = {word: seconds for seconds, word in RATE_PERIODS.items()}
    return int(match["requests"]), seconds[match["period"]]


def whole_number(least: int, most: int) -> type[int]:
    """Return the kind of whole numbers between two limits, both included."""

    def parse(value: str) -> int:
        if not value.isascii() or not value.isdecimal() or not least <= int(value[:20]) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {value!r}.")
        return int(value)

    return parse  # type: ignore[return-value]


# What they name


def find_organization(slug: str) -> Organization:
    """Return the organization with a slug."""
    found: Organization | None = Organization.objects.of_people().filter(slug=slug).first()
    if found is None:
        known = Organization.objects.of_people().order_by("slug").values_list("slug", flat=True)[: _LISTED + 1]
        raise CommandError(f"--organization: there is no organization {slug!r}. {_choices(list(known))}")
    return found


def find_environment(organization: Organization, name: str) -> Environment:
    """Return an organization's environment by its code or else its name."""
    found = organization.environments.filter(Q(code=name) | Q(name__iexact=name))
    environments = sorted(found, key=lambda environment: environment.code != name)
    if not environments:
        known = organization.environments.values_list("code", flat=True)
        raise CommandError(f"--environment: {organization.slug} has no environment {name!r}. {_choices(list(known))}")
    return environments[0]


def find_scopes(organization: Organization, names: list[str]) -> list[Scope]:
    """Return the scopes with some names."""
    found = {scope.name: scope for scope in organization.scopes.filter(name__in=names)}
    if unknown := [name for name in names if name not in found]:
        known = organization.scopes.values_list("name", flat=True)[: _LISTED + 1]
        missing = ", ".join(repr(name) for name in unknown)
        raise CommandError(f"--scope: {missing} is not in {organization.slug}'s catalogue. {_choices(list(known))}")
    return list(found.values())


def find_person(email: str, argument: str = "") -> User:
    """Return the person whose account has an address; else a fault, which begins with an argument's name."""
    email = email.strip().lower()
    person = User.objects.filter(email=email).first()
    if person is None:
        beginning = f"{argument}: there" if argument else "There"
        raise CommandError(f"{beginning} is no account of {email}.")
    return person


def find_member(organization: Organization, email: str) -> Member | None:
    """Return the member with an address, if there is one."""
    members = organization.members.select_related("user")
    return members.filter(user__email=email.strip().lower()).first()


def find_key(given: str) -> ApiKey:
    """Return the key with a public id, a fingerprint or, in an emergency, a full text, which is never printed."""
    keys = ApiKey.objects.select_related("organization", "environment")
    if secret := key_secret.parse(given):
        found = keys.filter(public_id=secret.public_id)
    elif key_secret.looks_like_key(given):
        # Not repeated: it may be a whole key but for a typing error.
        raise CommandError("ID: this looks like a full key, but it is mistyped. Give the 12 characters of its id.")
    elif match := _FINGERPRINT.fullmatch(given):
        found = keys.filter(
            prefix=match["prefix"],
            environment__code=match["code"],
            public_id__startswith=match["start"],
            public_id__endswith=match["end"],
        )
    elif _PUBLIC_ID.fullmatch(given):
        found = keys.filter(public_id=given)
    else:
        raise CommandError("ID: must be a public id of 12 letters and digits, or a fingerprint like ka_prod_4kT9…Q7bN.")
    return _only(list(found[:2]))


def _only(found: list[ApiKey]) -> ApiKey:
    if not found:
        raise CommandError("ID: there is no such key.")
    if len(found) > 1:
        raise CommandError("ID: several keys have this fingerprint. Give the 12 characters of the id.")
    return found[0]


def find_operator(key: ApiKey, email: str) -> Member:
    """Return the member of a key's organization with an address, who may operate keys."""
    member = find_member(key.organization, email)
    if member is None or not member.user.is_active:
        raise CommandError(f"--by: {email} is not a member of {key.organization.slug}.")
    if not member.can_operate:
        raise CommandError(f"--by: {email} is {member.role} in {key.organization.slug}; this needs operator or more.")
    if not member.operates(key.environment):
        raise CommandError(f"--by: {email} is limited to other environments than {key.environment.code}.")
    return member


def _choices(known: list[str]) -> str:
    if not known:
        return "There is none yet."
    return f"There are: {', '.join(known[:_LISTED])}{' and more' if len(known) > _LISTED else ''}."


def fault(error: ValidationError, options: Mapping[str, str]) -> CommandError:
    """Return a verb's faults as a command's, each with the option that it is about."""
    lines = [
        f"{options.get(field, field)}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    ]
    return CommandError("\n".join(lines))
