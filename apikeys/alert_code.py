"""The short code by which people name an alert: in a mail, on the phone, in the search of the dashboard.

It is the alert's number, scrambled so that neighbours do not look alike, in Crockford's base 32
(https://www.crockford.com/base32.html): no letter is taken for a digit. It is no secret: an organization finds its own
alerts by it and no others.
"""

from __future__ import annotations

import re
from typing import Final

LENGTH: Final = 7
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BITS: Final = 5 * LENGTH
_MASK: Final = (1 << _BITS) - 1
# An odd factor has an inverse modulo a power of two, so that each number has one code.
_FACTOR: Final = 0x4B5F0E2CD
_INVERSE: Final = pow(_FACTOR, -1, 1 << _BITS)
_LOOKALIKES: Final = str.maketrans("OIL", "011")
_PATTERN: Final = re.compile(rf"\A\s*AL-?([0-9A-Z]{{{LENGTH}}})\s*\Z", re.IGNORECASE)


def encode(number: int) -> str:
    """Return the code of an alert's number, "AL-" and seven characters; ValueError beyond 2**35."""
    if not 0 <= number <= _MASK:
        raise ValueError(f"{number} has no code of {LENGTH} characters.")
    scrambled = (number * _FACTOR) & _MASK
    return "AL-" + "".join(_ALPHABET[scrambled >> 5 * place & 31] for place in reversed(range(LENGTH)))


def decode(code: str) -> int | None:
    """Return the number of a code, in any case and with or without the hyphen; None where it is none."""
    match = _PATTERN.match(code)
    if match is None:
        return None
    scrambled = 0
    for character in match[1].upper().translate(_LOOKALIKES):
        if (digit := _ALPHABET.find(character)) < 0:
            return None
        scrambled = scrambled << 5 | digit
    return scrambled * _INVERSE & _MASK


class AlertCode:
    """The part of an address that is an alert's code: the number for the view, and what is no code is no page."""

    regex = rf"[Aa][Ll]-?[0-9A-Za-z]{{{LENGTH}}}"

    def to_python(self, value: str) -> int:
        """Return the number; ValueError where it is none."""
        number = decode(value)
        if number is None:
            raise ValueError(f"{value} is no code of an alert.")
        return number

    def to_url(self, value: int) -> str:
        """Return the code of a number."""
        return encode(value)
