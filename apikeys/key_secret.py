"""Make, split, hash and compare the text of an API key. No database, no settings.

A key reads ``ka_prod_4kT9wX2mQ7bN_<secret><checksum>``: prefix, environment code, public id, then 43
characters of base62 (256 bits) that only its holder knows, then 6 characters of CRC32 over everything before,
so that a typing error costs no database work and a secret scanner sees no false positives. The idea of the
checksum is GitHub's: https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PUBLIC_ID_LENGTH: Final = 12
SECRET_LENGTH: Final = 43
CHECKSUM_LENGTH: Final = 6
SECRET_BITS: Final = 256
MAX_LENGTH: Final = 128

# Two digits of base62 at a time.
_PAIRS: Final = [first + second for first in ALPHABET for second in ALPHABET]

PREFIX_PATTERN: Final = "[a-z][a-z0-9]{1,9}"
CODE_PATTERN: Final = "[a-z][a-z0-9]{1,9}"
_KEY = re.compile(
    rf"(?P<prefix>{PREFIX_PATTERN})_(?P<code>{CODE_PATTERN})_(?P<public_id>[0-9A-Za-z]{{{PUBLIC_ID_LENGTH}}})_"
    rf"(?P<secret>[0-9A-Za-z]{{{SECRET_LENGTH}}})(?P<checksum>[0-9A-Za-z]{{{CHECKSUM_LENGTH}}})",
    re.ASCII,
)
# What may hold a secret, whole or mistyped: anything with the two leading parts and a long run after the id, up to
# a space, a quote or a mark that ends a word: a wrong character in the middle must not leave the other half.
_KEY_LIKE = re.compile(
    rf"(?P<known>{PREFIX_PATTERN}_{CODE_PATTERN}_[0-9A-Za-z]{{6,20}})_[0-9A-Za-z]{{12,}}[^\s\"'<>&,;)\]}}\\]*",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, repr=False)
class KeySecret:
    """The parts of one full key. Its repr shows the fingerprint alone, so that a log line cannot hold it."""

    prefix: str
    code: str
    public_id: str
    secret: str
    # The whole key as its holder sends it.
    text: str = field(init=False)

    def __post_init__(self) -> None:
        """Put the parts together, once."""
        body = f"{self.prefix}_{self.code}_{self.public_id}_{self.secret}"
        object.__setattr__(self, "text", body + checksum(body))

    def __repr__(self) -> str:
        return f"<KeySecret {fingerprint(self.prefix, self.code, self.public_id)}>"


def make(prefix: str, code: str) -> KeySecret:
    """Return a new random key for an organization's prefix and an environment's code."""
    return KeySecret(prefix, code, make_public_id(), _base62(secrets.randbits(SECRET_BITS), SECRET_LENGTH))


def derive(prefix: str, code: str, public_id: str, pepper: bytes) -> KeySecret:
    """Return the key that a pepper alone makes of a public id: for our own self-check, which keeps its text nowhere."""
    number = int.from_bytes(hmac.digest(pepper, f"keyadmin self-check {public_id}".encode(), hashlib.sha256))
    return KeySecret(prefix, code, public_id, _base62(number, SECRET_LENGTH))


def make_public_id() -> str:
    """Return 12 random base62 characters (71 bits): unique without asking anybody."""
    return "".join(secrets.choice(ALPHABET) for _ in range(PUBLIC_ID_LENGTH))


def parse(text: str) -> KeySecret | None:
    """Return the parts of a well-formed key whose checksum holds, else None. Costs no I/O."""
    if len(text) > MAX_LENGTH or not (match := _KEY.fullmatch(text)):
        return None
    key = KeySecret(match["prefix"], match["code"], match["public_id"], match["secret"])
    return key if key.text == text else None


def looks_like_key(text: str) -> bool:
    """Say whether a text may hold a key, right or mistyped, and must not be logged, stored or put in a URL."""
    return _KEY_LIKE.search(text) is not None


def holds_key(text: str) -> bool:
    """Say whether a text holds a whole, well-formed key: what a person may not keep in a name or a note."""
    return any(parse(match[0]) for match in _KEY.finditer(text))


def redact(text: str) -> str:
    """Return a text with the secret of whatever looks like a key replaced; the public part stays."""
    return _KEY_LIKE.sub(r"\g<known>_[redacted]", text) if text.count("_") > 2 else text


def checksum(body: str) -> str:
    """Return the CRC32 of a key's text before its checksum, as 6 base62 characters."""
    rest, last = divmod(zlib.crc32(body.encode()), len(_PAIRS))
    first, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def digest(key: KeySecret, pepper: bytes) -> bytes:
    """Return the 32 bytes kept of a key: HMAC-SHA256 of its full text under a pepper."""
    state = _keyed(pepper).copy()
    state.update(key.text.encode())
    return state.digest()


# A pepper is hashed once: with its key given anew each time, HMAC takes half as long again.
@lru_cache(16)
def _keyed(pepper: bytes) -> hmac.HMAC:
    return hmac.new(pepper, digestmod=hashlib.sha256)


def matches(key: KeySecret, kept: bytes, pepper_number: int, peppers: Mapping[int, bytes]) -> bool:
    """Compare a presented key with a kept digest in constant time; a pepper that is gone never matches."""
    pepper = peppers.get(pepper_number)
    return pepper is not None and hmac.compare_digest(digest(key, pepper), kept)


def fingerprint(prefix: str, code: str, public_id: str) -> str:
    """Return what people see of a key: ``ka_prod_4kT9…Q7bN``."""
    return f"{prefix}_{code}_{public_id[:4]}…{public_id[-4:]}"


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
