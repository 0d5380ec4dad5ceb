"""Which characters a person may put into a name, and which names and codes are free."""

import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from apikeys.key_secret import CODE_PATTERN, PREFIX_PATTERN, holds_key

# Invisible characters that turn the direction of what follows: they can make a log line say something else.
BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

validate_code = RegexValidator(
    rf"\A{CODE_PATTERN}\Z", "Use 2 to 10 lower-case letters and digits, beginning with a letter."
)
validate_prefix = RegexValidator(
    rf"\A{PREFIX_PATTERN}\Z", "Use 2 to 10 lower-case letters and digits, beginning with a letter."
)
validate_scope_name = RegexValidator(
    r"\A[a-z0-9][a-z0-9._:-]{0,62}[a-z0-9]\Z",
    "Use 2 to 64 lower-case letters, digits and . _ : - between them, like orders:read.",
)


def validate_line(value: str) -> None:
    """Refuse control characters, direction overrides and full keys; any script, and emoji, are welcome."""
    if holds_key(value):
        raise ValidationError("This holds a full API key, which is kept nowhere. Name it by its fingerprint.")
    for character in value:
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in BIDI_CONTROLS:
            raise ValidationError(f"Control characters are not allowed (U+{ord(character):04X}).")


def validate_text(value: str) -> None:
    """Refuse what validate_line refuses, but allow line breaks and tabs."""
    validate_line(value.translate({10: " ", 13: " ", 9: " "}))
