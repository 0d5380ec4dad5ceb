"""Forms of alerts: how one is handled, what a rule says, when the digest comes, and what a member is mailed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.http import QueryDict
from django.utils import timezone

from apikeys.forms import SeenField
from apikeys.models import AlertKind, AlertMail, AlertRuleTerms, AlertSettings, Role
from apikeys.models.alert import LONGEST_ACKNOWLEDGEMENT
from apikeys.models.alert_kind import ChoiceOption, DaysOption, NumberOption, Option, OptionValue
from apikeys.models.text import validate_text
from apikeys.rotation_forms import InstantField
from apikeys.widgets import QuickSelect

UNTIL_CHOICES: Final = [("1", "1 day"), ("7", "1 week"), ("30", "30 days"), ("date", "Until a time")]
WHEN_CHOICES: Final = [("urgent", "At once"), ("digest", "In the daily digest")]
MAILED_ROLES: Final = [
    (Role.VIEWER, "every member"),
    (Role.OPERATOR, "operators and admins"),
    (Role.ADMIN, "admins"),
    ("", "no members"),
]


class AcknowledgeForm(forms.Form):
    """Until when somebody has an alert in hand."""

    until = forms.ChoiceField(label="For how long", choices=UNTIL_CHOICES, widget=forms.RadioSelect, initial="1")
    until_on = InstantField(required=False, label="Until")
    seen = SeenField()

    def __init__(self, data: QueryDict | None, *, seen: datetime | None = None) -> None:
        super().__init__(data, initial={"seen": seen})
        zone, days = timezone.get_current_timezone_name(), LONGEST_ACKNOWLEDGEMENT.days
        self.fields["until_on"].help_text = f"In the time zone {zone}, within {days} days."

    def clean(self) -> dict[str, Any]:
        """Check what two fields say together."""
        data = super().clean() or self.cleaned_data
        if data.get("until") == "date" and not data.get("until_on") and "until_on" not in self.errors:
            self.add_error("until_on", "Choose the time until which somebody has it in hand.")
        return data

    @property
    def end(self) -> datetime:
        """When the acknowledgement of a valid form runs out."""
        choice = self.cleaned_data["until"]
        chosen: datetime = self.cleaned_data["until_on"]
        return chosen if choice == "date" else timezone.now() + timedelta(days=int(choice))


class ResolveForm(forms.Form):
    """What was found or done."""

    note = forms.CharField(
        max_length=500,
        validators=[validate_text],
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What was found or done: whoever sees the next one reads it. Kept in the audit log.",
        error_messages={"required": "Say in a few words what was found or done."},
    )


class OptionField(forms.CharField):
    """A value that tunes a kind; what is wrong is said with its limits."""

    def __init__(self, option: Option) -> None:
        self.option = option
        widget: forms.Widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})
        if isinstance(option, NumberOption):
            widget = forms.NumberInput(attrs={"min": option.least, "max": option.most, "step": 1})
        elif isinstance(option, ChoiceOption):
            widget = QuickSelect(choices=option.choices)
        super().__init__(label=option.label, widget=widget, help_text=_hint(option), required=False, max_length=200)

    def prepare_value(self, value: Any) -> Any:
        """Return what the form shows."""
        return ", ".join(str(days) for days in value) if isinstance(value, list) else value

    def clean(self, value: Any) -> OptionValue:
        """Return the value; raises ValidationError with the option's limits."""
        text = super().clean(value)
        if isinstance(self.option, DaysOption):
            return self.option.clean([_number(part) for part in re.split(r"[,;\s]+", text) if part])
        return self.option.clean(_number(text) if isinstance(self.option, NumberOption) else text)


def _number(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _hint(option: Option) -> str:
    if isinstance(option, NumberOption):
        limits = f"Between {option.least:,} and {option.most:,}; usually {option.default:,}."
    elif isinstance(option, DaysOption):
        usual = ", ".join(str(days) for days in option.default)
        limits = f"At most {option.most_values} numbers between 1 and {option.most:,}; usually {usual}."
    else:
        limits = ""
    return f"{option.hint} {limits}".strip()


class RuleForm(forms.Form):
    """What a rule says about a kind of alerts."""

    is_on = forms.BooleanField(required=False, label="Look for these alerts")
    when = forms.ChoiceField(label="Mailed", choices=WHEN_CHOICES, widget=forms.RadioSelect)
    role = forms.ChoiceField(required=False, label="To", choices=MAILED_ROLES)
    to_owner = forms.BooleanField(required=False, label="And to the owner of the key")

    def __init__(self, data: QueryDict | None, *, kind: AlertKind, terms: AlertRuleTerms) -> None:
        super().__init__(data, initial=rule_initial(terms))
        self.kind = kind
        for option in kind.traits.options:
            self.fields[option.name] = OptionField(option)
        if not kind.is_of_key:
            del self.fields["to_owner"]

    @property
    def options(self) -> list[forms.BoundField]:
        """The fields of what tunes the kind."""
        return [self[option.name] for option in self.kind.traits.options]

    @property
    def terms(self) -> AlertRuleTerms:
        """What a valid form asks for."""
        data = self.cleaned_data
        return AlertRuleTerms(
            is_on=data["is_on"],
            is_urgent=data["when"] == "urgent",
            role=Role(data["role"]) if data["role"] else None,
            to_owner=data.get("to_owner", False),
            options={option.name: data[option.name] for option in self.kind.traits.options},
        )


def rule_initial(terms: AlertRuleTerms) -> dict[str, Any]:
    """Return what a form shows of what a rule says."""
    when = "urgent" if terms.is_urgent else "digest"
    told = {"is_on": terms.is_on, "when": when, "role": terms.role or "", "to_owner": terms.to_owner}
    return {**told, **terms.options}


class DigestForm(forms.Form):
    """When the daily digest comes."""

    digest_hour = forms.TypedChoiceField(
        label="Hour", coerce=int, choices=[(hour, f"{hour:02}:00") for hour in range(24)]
    )
    digest_zone = forms.CharField(
        label="Time zone",
        max_length=64,
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
        help_text="A place like Europe/Berlin, or UTC. The hour is the same on the clock in summer and winter.",
    )

    def __init__(self, data: QueryDict | None, *, settings: AlertSettings) -> None:
        super().__init__(data, initial=settings.facts())


class MailForm(forms.Form):
    """Which alerts a member is mailed."""

    alert_mail = forms.ChoiceField(
        label="Mail me", choices=[(one.value, one.label.capitalize()) for one in AlertMail], widget=forms.RadioSelect
    )
