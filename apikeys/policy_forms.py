"""Forms of policies and of exemptions from them."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone

from apikeys.forms import EXEMPTION_CHOICES, SeenField, add_verb_errors
from apikeys.models import (
    ApiKey,
    Organization,
    Policy,
    PolicyExemption,
    PolicyExemptionTerms,
    PolicyRule,
    PolicyTerms,
    Scope,
)
from apikeys.models.key_terms import MAX_RATE, RATE_PERIODS
from apikeys.models.organization import KEY_AGE_FAULT, MOST_KEY_AGE, UNUSED_FAULT
from apikeys.models.policy import LIFETIME_FAULT, MOST_PURPOSE, PURPOSE_FAULT, RATE_FAULT, digest
from apikeys.models.text import validate_line


def _number(label: str, most: int, fault: str, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(
        required=False,
        min_value=1,
        max_value=most,
        label=label,
        help_text=help_text,
        error_messages=dict.fromkeys(("invalid", "min_value", "max_value"), fault),
    )


class PolicyForm(forms.Form):
    """What an organization asks of its keys."""

    max_lifetime = _number(
        "Longest lifetime",
        MOST_KEY_AGE,
        LIFETIME_FAULT,
        "Days from a key's creation to its expiry, to the end of the last day (UTC). Empty: no limit.",
    )
    expiry_required = forms.BooleanField(required=False, label="Every key must expire")
    max_key_age = _number(
        "Key age until rotation",
        MOST_KEY_AGE,
        KEY_AGE_FAULT,
        "Days after which a key should be rotated: a reminder, no key stops by it. Empty: no limit.",
    )
    unused_after_days = _number("Days until unused", MOST_KEY_AGE, UNUSED_FAULT, "")
    least_purpose = _number(
        "Purpose of at least",
        MOST_PURPOSE,
        PURPOSE_FAULT,
        "Characters. A purpose is always required; empty: of any length.",
    )
    owner_required = forms.BooleanField(
        required=False,
        label="A member must answer for every key",
        help_text="An owner is always required. With this, it is a member whose account is open, no mere address.",
    )
    admin_scopes: forms.ModelMultipleChoiceField[Scope] = forms.ModelMultipleChoiceField(
        None,
        required=False,
        to_field_name="name",
        label="Scopes that need an admin",
        widget=forms.CheckboxSelectMultiple,
        help_text="Operators cannot give these to a key; keys that hold them keep them when they are rotated.",
    )
    networks_required = forms.BooleanField(
        required=False,
        label="Production keys need networks",
        help_text="At least one, and not one that holds all addresses.",
    )
    environments_apart = forms.BooleanField(
        required=False,
        label="Separate keys per environment",
        help_text="A network that may use production keys may use keys of no other environment, and the other way "
        "round: no machine holds keys of both.",
    )
    max_rate = _number(
        "Largest rate limit",
        MAX_RATE,
        RATE_FAULT,
        "Every key then needs a limit, of so many requests at most, and so many at once. Empty: no limit.",
    )
    max_rate_period = forms.TypedChoiceField(
        coerce=int,
        choices=[(seconds, f"per {word}") for seconds, word in RATE_PERIODS.items()],
        required=False,
        label="Rate period",
    )
    seen = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    violations = forms.IntegerField(required=False, min_value=0, max_value=2**31, widget=forms.HiddenInput)

    def __init__(self, data: QueryDict | None, *, organization: Organization, terms: PolicyTerms) -> None:
        super().__init__(data, initial=_initial(terms))
        self.organization = organization
        self.fields["admin_scopes"].queryset = organization.scopes.all()  # type: ignore[attr-defined]
        usual = f"Days of silence. Empty: {organization.usual_unused_after:,}, as this deployment has it."
        self.fields["unused_after_days"].help_text = usual

    def clean(self) -> dict[str, Any]:
        """Check what fields say together."""
        data = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                # Of a copy: nothing is changed by looking.
                Policy(organization=copy(self.organization)).apply(self.terms)
            except ValidationError as error:
                add_verb_errors(self, error)
        return data

    @property
    def terms(self) -> PolicyTerms:
        """What a valid form asks for."""
        data = self.cleaned_data
        return PolicyTerms(
            max_lifetime=data["max_lifetime"],
            expiry_required=data["expiry_required"],
            least_purpose=data["least_purpose"],
            owner_required=data["owner_required"],
            admin_scopes=tuple(data["admin_scopes"]),
            networks_required=data["networks_required"],
            environments_apart=data["environments_apart"],
            max_rate=(data["max_rate"], int(data["max_rate_period"] or 1)) if data["max_rate"] else None,
            max_key_age=data["max_key_age"],
            unused_after_days=data["unused_after_days"],
        )

    def carried(self) -> list[tuple[str, object]]:
        """Return what a form that confirms these values carries, but for what was seen."""
        return [
            (name, value)
            for name in self.fields
            if name not in {"seen", "violations"}
            for value in self._values(name)
            if value not in (None, "", False)
        ]

    def _values(self, name: str) -> list[object]:
        value = self.cleaned_data[name]
        if name == "admin_scopes":
            return [scope.name for scope in value]
        return ["on"] if value is True else [value]


def _initial(terms: PolicyTerms) -> dict[str, Any]:
    requests, period = terms.max_rate or (None, 1)
    return {
        "max_lifetime": terms.max_lifetime,
        "expiry_required": terms.expiry_required,
        "max_key_age": terms.max_key_age,
        "unused_after_days": terms.unused_after_days,
        "least_purpose": terms.least_purpose,
        "owner_required": terms.owner_required,
        "admin_scopes": [scope.name for scope in terms.admin_scopes],
        "networks_required": terms.networks_required,
        "environments_apart": terms.environments_apart,
        "max_rate": requests,
        "max_rate_period": period,
        "seen": digest(terms),
        "violations": 0,
    }


class PolicyExemptionForm(forms.Form):
    """Why a key may violate a rule, and until when."""

    reason = forms.CharField(
        max_length=200, validators=[validate_line], help_text="Why it cannot be as the policy asks. Kept with the key."
    )
    until = forms.ChoiceField(choices=EXEMPTION_CHOICES, widget=forms.RadioSelect, initial="90", label="How long")
    until_on = forms.DateField(
        required=False,
        label="Last day",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="The exemption ends at the end of this day (UTC), within two years.",
    )
    seen = SeenField()

    def __init__(self, data: QueryDict | None, *, key: ApiKey, rule: PolicyRule) -> None:
        known: PolicyExemption | None = key.policy_exemptions.filter(rule=rule).first()
        self.exemption = known if known and known.is_running else None
        initial: dict[str, Any] = {"seen": known.changed_at if known else None}
        if self.exemption:
            day = self.exemption.until.astimezone(UTC).date()
            initial |= {"reason": self.exemption.reason, "until": "date", "until_on": day}
        super().__init__(data, initial=initial)

    def clean(self) -> dict[str, Any]:
        """Check what two fields say together."""
        data = super().clean() or self.cleaned_data
        if data.get("until") == "date" and not data.get("until_on") and "until_on" not in self.errors:
            self.add_error("until_on", "Choose the last day of the exemption.")
        return data

    @property
    def terms(self) -> PolicyExemptionTerms:
        """What a valid form asks for."""
        choice, day = self.cleaned_data["until"], self.cleaned_data["until_on"]
        if choice != "date":
            day = timezone.now().astimezone(UTC).date() + timedelta(days=int(choice))
        elif self.exemption and self.exemption.until.astimezone(UTC).date() == day:
            return PolicyExemptionTerms(self.cleaned_data["reason"], self.exemption.until)
        return PolicyExemptionTerms(self.cleaned_data["reason"], datetime.combine(day, time(23, 59, 59), UTC))
