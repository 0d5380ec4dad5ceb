"""Sealed text: what has to be read again, but by nobody who has the database alone.

Encrypted and authenticated with Fernet (AES-128-CBC and HMAC-SHA256), under a key that HKDF-SHA256 derives from one of
KEY_PEPPERS; the number of that pepper stands before it, so that a newer one can follow.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_PURPOSE: Final = b"keyadmin sealed text"


class UnsealError(Exception):
    """The text was changed, or the pepper that it was sealed under is gone."""


def seal(text: str) -> str:
    """Return the text sealed under the newest pepper."""
    number = max(settings.KEY_PEPPERS)
    return f"{number}:{_fernet(settings.KEY_PEPPERS[number]).encrypt(text.encode()).decode()}"


def unseal(sealed: str) -> str:
    """Return what was sealed; raises UnsealError."""
    number, _, token = sealed.partition(":")
    pepper = settings.KEY_PEPPERS.get(int(number)) if number.isdecimal() else None
    if pepper is None:
        raise UnsealError(f"KEY_PEPPERS has no pepper {number[:8]!r} any more.")
    try:
        return _fernet(pepper).decrypt(token.encode()).decode()
    except InvalidToken:
        raise UnsealError("The sealed text was changed, or the pepper of that number is another one now.") from None


def is_newest(sealed: str) -> bool:
    """Say whether it is sealed under the newest pepper, so that the older ones may go."""
    return sealed.partition(":")[0] == str(max(settings.KEY_PEPPERS))


@cache
def _fernet(pepper: bytes) -> Fernet:
    derived = HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(pepper)
    return Fernet(base64.urlsafe_b64encode(derived))
