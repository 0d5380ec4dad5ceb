"""What a policy leaves to choose from in the forms of keys: choices, first values, and the limits beside the fields."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django import forms
from django.utils import timezone

from apikeys.models import ApiKey, PolicyTerms
from apikeys.models.policy_rule import BY_POLICY

_USUAL: Final = "90"


def limit_to(form: forms.Form, terms: PolicyTerms, key: ApiKey | None) -> None:
    """Let the form of a new key, or of one that exists, offer what the policy allows and say what it asks."""
    fields, now = form.fields, timezone.now()
    made, mine = (key.created_at, key.expires_at) if key else (now, now)
    expires: Any = fields["expires"]
    expires.choices = expiry_choices(expires.choices, terms, made, may_be_never=mine is None)
    if told := expiry_words(terms, key.created_at if key else None):
        _tell(expires, told)
        expires.error_messages["invalid_choice"] = told
    if key is None:
        form.initial.update(_first_values(terms, [value for value, _ in expires.choices], now))
    if terms.least_purpose:
        _tell(fields["purpose"], f"At least {terms.least_purpose} characters, {BY_POLICY}.")
    if terms.owner_required:
        _tell(fields["owner"], f"It must be a member, {BY_POLICY}.")
    if terms.admin_scopes:
        names = ", ".join(scope.name for scope in terms.admin_scopes)
        _tell(fields["scopes"], f"Only an admin may give {names}, {BY_POLICY}.")
    if terms.networks_required:
        _tell(fields["networks"], f"A production key needs at least one, {BY_POLICY}.")
    if terms.environments_apart:
        _tell(fields["networks"], f"Production and other environments share none, {BY_POLICY}.")
    if terms.max_rate:
        fields["rate_limit"].help_text = f"At most {terms.rate_text}, {BY_POLICY}."
        _tell(fields["rate_burst"], f"At most {terms.max_rate[0]:,}.")


def _tell(field: forms.Field, told: str) -> None:
    field.help_text = f"{field.help_text} {told}".strip()


def expiry_choices(
    choices: Iterable[tuple[str, str]], terms: PolicyTerms, made: datetime, *, may_be_never: bool
) -> list[tuple[str, str]]:
    """Return the choices of an expiry, days from now among them, that a key may have that was made at an instant."""
    latest, now = terms.latest_expiry(made), timezone.now()
    found = []
    for value, label in choices:
        is_too_late = value.isdecimal() and latest is not None and now + timedelta(days=int(value)) > latest
        is_none = value == "never" and terms.expiry_required and not may_be_never
        if not is_too_late and not is_none:
            found.append((value, label))
    return found


def expiry_words(terms: PolicyTerms, made: datetime | None) -> str:
    """Say what a policy asks of the end of a key: of one that exists, or of a new one. Empty where it asks nothing."""
    if terms.max_lifetime is None:
        return f"Every key must expire, {BY_POLICY}." if terms.expiry_required else ""
    days = f"At most {terms.max_lifetime:,} day{'' if terms.max_lifetime == 1 else 's'}"
    if made is None:
        return f"{days} from now, {BY_POLICY}."
    latest = terms.latest_expiry(made)
    return f"{days} from its creation, until {latest:%-d %B %Y} at the latest, {BY_POLICY}."


def _first_values(terms: PolicyTerms, offered: list[str], now: datetime) -> dict[str, Any]:
    """Return with what the form of a new key begins."""
    found: dict[str, Any] = {}
    if terms.max_rate:
        found |= {"rate_limit": terms.max_rate[0], "rate_period": terms.max_rate[1]}
    if _USUAL in offered:
        return found | {"expires": _USUAL}
    if lengths := [value for value in offered if value.isdecimal()]:
        return found | {"expires": max(lengths, key=int)}
    day = (now + timedelta(days=terms.max_lifetime or int(_USUAL))).astimezone(UTC).date()
    return found | {"expires": "date", "expires_on": day}
