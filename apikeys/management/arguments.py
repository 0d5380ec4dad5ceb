"""What the commands are given: strings in, domain values out; a fault names the option that it is about."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.db.models import Q

from apikeys.models import Environment, Member, Organization, Scope
from apikeys.models.key import MAX_RATE, RATE_PERIODS

_LIFETIME = re.compile(r"(?P<number>[1-9][0-9]{0,4})(?P<unit>[dh])", re.ASCII)
_RATE = re.compile(rf"(?P<requests>[1-9][0-9]{{0,6}})/(?P<period>{'|'.join(RATE_PERIODS.values())})", re.ASCII)
_LISTED = 20


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


def find_member(organization: Organization, email: str) -> Member | None:
    """Return the member with an address, if there is one."""
    members = organization.members.select_related("user")
    return members.filter(user__email=email.strip().lower()).first()


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
