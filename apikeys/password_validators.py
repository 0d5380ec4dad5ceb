"""What a password may not be: made of words about this deployment, or known from a breach.

Docs/security/sign-in.md states the rules; they are kept wherever a password is chosen, and not where one signs in.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.password_validation import get_default_password_validators
from django.core.exceptions import ValidationError
from django.db.models import Q

from apikeys.breached_passwords import PasswordListError, is_breached
from apikeys.models import Invitation, Member, Organization

if TYPE_CHECKING:
    from django.contrib.auth.password_validation import PasswordValidator

# Besides such words a password needs so many letters.
LEAST_LETTERS: Final = 8
# A name counts from 3 letters and digits on, a part of it from 4: "com" and "the" tell of nothing.
_LEAST_NAME: Final = 3
_LEAST_PART: Final = 4
# More of a password is not looked at; that many letters are enough anyway.
_MOST_CHARACTERS: Final = 1000
# What people write for a letter. "l" and "1" are both read as "i".
_LOOKALIKES: Final = str.maketrans("013457@$l", "oieastasi")

_log = logging.getLogger(__name__)


class DeploymentWordsValidator:
    """Refuses a password that is made of words about keyadmin, its address and the person's organizations."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        """``words`` are about this person too, whatever the database knows."""
        self._more = tuple(words)

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """Raise ValidationError, naming the words, unless enough letters are left without them."""
        found, left = _without(password, [*_deployment(), *_organizations(user), *self._more])
        if found and left < LEAST_LETTERS:
            raise ValidationError(
                f"This password is made of words about keyadmin or your organization ({', '.join(found)}). "
                f"Besides these it needs at least {LEAST_LETTERS} letters.",
                code="password_of_deployment_words",
            )

    def get_help_text(self) -> str:
        """Return the rule."""
        return (
            "Your password must not be made of words about keyadmin or your organization, such as their names: "
            f"besides these it needs at least {LEAST_LETTERS} letters."
        )


class BreachedPasswordValidator:
    """Refuses a password that is in a list of those known from breaches, the file ``BREACHED_PASSWORDS``."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:  # noqa: ARG002 - Django's signature
        """Raise ValidationError for a password of the list."""
        try:
            breached = is_breached(self._path, password)
        except PasswordListError as error:
            # Whoever chooses a password can do nothing about it, and may have no other way in.
            _log.error("BREACHED_PASSWORDS: the list %s. A password was accepted that was not looked up.", error)
            return
        if breached:
            raise ValidationError(
                "This password is known from a breach of some other site, so that it is among the first to be tried. "
                "Choose another one.",
                code="password_breached",
            )

    def get_help_text(self) -> str:
        """Return the rule."""
        return "Your password must not be one that is known from a breach."


def validators_with(*words: str) -> list[PasswordValidator]:
    """Return what passwords are checked by where the database does not know yet that words are about their person."""
    return [
        DeploymentWordsValidator(words) if isinstance(one, DeploymentWordsValidator) else one
        for one in get_default_password_validators()
    ]


def _deployment() -> list[str]:
    return ["keyadmin", urlsplit(settings.BASE_URL).hostname or "", *settings.PASSWORD_WORDS]


def _organizations(user: AbstractBaseUser | None) -> Iterator[str]:
    """Yield names and slugs of the organizations that somebody belongs to, or is invited to."""
    if email := getattr(user, "email", ""):
        member = Member.objects.filter(user__email=email).values("organization")
        invited = Invitation.objects.open().filter(email=email).values("organization")
        for names in Organization.objects.filter(Q(pk__in=member) | Q(pk__in=invited)).values_list("name", "slug"):
            yield from names


def _without(password: str, names: Iterable[str]) -> tuple[list[str], int]:
    """Return which words a password holds, as they are written, and how many letters it has without them."""
    characters = _characters(password[:_MOST_CHARACTERS])
    text = "".join(characters).translate(_LOOKALIKES)
    is_left = [True] * len(text)
    found: list[str] = []
    # The longest first, so that a name is told of and not its parts.
    for word, written in sorted(_words(names).items(), key=lambda item: -len(item[0])):
        place = text.find(word)
        while place >= 0:
            if any(is_left[place : place + len(word)]) and written not in found:
                found.append(written)
            is_left[place : place + len(word)] = [False] * len(word)
            place = text.find(word, place + 1)
    return found, sum(left and character.isalpha() for left, character in zip(is_left, characters, strict=True))


def _words(names: Iterable[str]) -> dict[str, str]:
    """Return, of each name and its parts, how it is compared and how it is written."""
    words: dict[str, str] = {}
    for name in names:
        parts = "".join(one if one.isalnum() else " " for one in name).split()
        for written, least in [(name, _LEAST_NAME), *((part, _LEAST_PART) for part in parts)]:
            word = "".join(_characters(written)).translate(_LOOKALIKES)
            if len(word) >= least and any(one.isalpha() for one in written):
                words.setdefault(word, written)
    return words


def _characters(text: str) -> list[str]:
    """Return a text's letters and digits, and what may stand for a letter, without case, accents and separators."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return [one for one in plain if one.isalnum() or one in "@$"]
