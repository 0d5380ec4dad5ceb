"""Forms: what people typed in, domain values out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, cast

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone

from apikeys.models import (
    ApiKey,
    Environment,
    EnvironmentKind,
    ExemptionTerms,
    KeyExemption,
    KeyTerms,
    Member,
    Organization,
    Policy,
    RateLimit,
    RevocationReason,
    Scope,
)
from apikeys.models.evidence import ScopeEvidence, ScopeUse
from apikeys.models.key import PAUSES, WRITTEN_REASONS
from apikeys.models.key_terms import MAX_RATE, RATE_PERIODS, parse_networks
from apikeys.models.organization import KEY_AGE_FAULT, MOST_KEY_AGE
from apikeys.models.text import validate_line, validate_text
from apikeys.policy_limits import limit_to

EXPIRY_PRESETS: Final = {"30": "30 days", "90": "90 days", "180": "180 days", "365": "1 year"}
EXPIRY_CHOICES: Final = [*EXPIRY_PRESETS.items(), ("date", "On a date"), ("never", "Never")]
EXEMPTION_CHOICES: Final = [*EXPIRY_PRESETS.items(), ("date", "Until a date")]
REASONS: Final = [("", "Choose a reason")] + [
    choice for choice in RevocationReason.choices if choice[0] not in WRITTEN_REASONS
]


def span_words(span: timedelta) -> str:
    """Say some minutes, hours or days in words, whole days from two days on."""
    minutes = round(span / timedelta(minutes=1))
    for unit, length in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if minutes >= 2 * length or minutes == length:
            count = round(minutes / length)
            return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
    return "less than a minute"


def minutes_of(span: timedelta) -> str:
    """Return how a form writes a length of time; minutes_chosen reads it."""
    return str(span // timedelta(minutes=1))


def span_choices(spans: Iterable[timedelta]) -> list[tuple[str, str]]:
    """Return some lengths of time to choose from."""
    return [(minutes_of(span), span_words(span)) for span in spans]


def minutes_chosen(text: str) -> timedelta:
    """Return the length of time that was chosen."""
    return timedelta(minutes=int(text))


PAUSE_CHOICES: Final = [("", "Until somebody resumes it"), *span_choices(PAUSES)]


def add_verb_errors(form: forms.Form, error: ValidationError, names: dict[str, str] | None = None) -> None:
    """Put a verb's faults beside the fields that they are about."""
    for name, messages in error.message_dict.items():
        field = (names or {}).get(name, name)
        for message in messages:
            form.add_error(field if field in form.fields else None, message)


class KeyForm(forms.Form):
    """What is chosen for a key, when it is made and later."""

    name = forms.CharField(
        max_length=100, validators=[validate_line], help_text="What you would call it in a conversation."
    )
    purpose = forms.CharField(
        max_length=500,
        validators=[validate_text],
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="What it is used for, and where it is stored.",
    )
    environment: forms.ModelChoiceField[Environment] = forms.ModelChoiceField(
        None,
        to_field_name="code",
        empty_label=None,
        help_text="Part of the key's text; it cannot be changed later.",
    )
    owner: forms.ModelChoiceField[Member] = forms.ModelChoiceField(
        None,
        required=False,
        empty_label="Somebody else, by address",
        help_text="Who answers for the key. Choose a member, or name an address.",
    )
    owner_contact = forms.EmailField(
        required=False, label="Contact address", help_text="When the owner is not a member: a team's address."
    )
    scopes: forms.ModelMultipleChoiceField[Scope] = forms.ModelMultipleChoiceField(
        None, to_field_name="name", widget=forms.CheckboxSelectMultiple, help_text="As few as it needs."
    )
    expires = forms.ChoiceField(choices=EXPIRY_CHOICES, widget=forms.RadioSelect, initial="90")
    expires_on = forms.DateField(
        required=False,
        label="Expiry date",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="The key stops at the end of this day (UTC).",
    )
    networks = forms.CharField(
        required=False,
        max_length=4000,
        label="Allowed networks",
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="One address or network (CIDR) a line. Empty: from anywhere.",
    )
    rate_limit = forms.IntegerField(required=False, min_value=1, max_value=MAX_RATE, help_text="Empty: no limit.")
    rate_period = forms.TypedChoiceField(
        coerce=int,
        choices=[(seconds, f"per {word}") for seconds, word in RATE_PERIODS.items()],
        required=False,
    )
    rate_burst = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_RATE,
        label="Burst",
        help_text="At once; empty: as many as the limit.",
    )
    token = forms.UUIDField(widget=forms.HiddenInput, required=False)
    version = forms.IntegerField(widget=forms.HiddenInput, required=False, min_value=1)

    def __init__(
        self,
        *args: Any,
        organization: Organization,
        key: ApiKey | None = None,
        owner: Member | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("initial", _initial(key) if key else {"token": uuid.uuid4(), "owner": owner})
        super().__init__(*args, **kwargs)
        self.key = key
        self.fields["environment"].queryset = organization.environments.all()  # type: ignore[attr-defined]
        self.fields["scopes"].queryset = organization.scopes.all()  # type: ignore[attr-defined]
        members = organization.members.select_related("user").order_by("user__name", "user__email")
        self.fields["owner"].queryset = members  # type: ignore[attr-defined]
        if owner and owner.limit:
            # Another one, sent by hand, is for the verb to refuse: it says why.
            self.fields["environment"].choices = [(one.code, one.name) for one in owner.limit]  # type: ignore[attr-defined]
        if key:
            del self.fields["environment"]
        limit_to(self, Policy.objects.of(organization).full_terms(), key)

    def clean_networks(self) -> list[str]:
        """Return the networks."""
        return parse_networks(self.cleaned_data["networks"].splitlines())

    def clean(self) -> dict[str, Any]:
        """Check what two fields say together."""
        data = super().clean() or self.cleaned_data
        if data.get("expires") == "date" and not data.get("expires_on") and "expires_on" not in self.errors:
            self.add_error("expires_on", "Choose the date on which the key expires.")
        if data.get("rate_burst") and not data.get("rate_limit") and "rate_limit" not in self.errors:
            self.add_error("rate_limit", "A burst needs a limit.")
        return data

    @property
    def error_names(self) -> dict[str, str]:
        """What a verb's faults are about, by the form's own names."""
        return {"expires_at": "expires_on" if self.cleaned_data.get("expires") == "date" else "expires"}

    @property
    def terms(self) -> KeyTerms:
        """What a valid form asks for."""
        data = self.cleaned_data
        limit = data["rate_limit"]
        return KeyTerms(
            name=data["name"],
            purpose=data["purpose"],
            scopes=list(data["scopes"]),
            owner=data["owner"],
            owner_contact=data["owner_contact"],
            expires_at=self._expires_at(),
            networks=data["networks"],
            rate_limit=RateLimit(limit, data["rate_period"] or 1, data["rate_burst"] or limit) if limit else None,
        )

    def _expires_at(self) -> datetime | None:
        choice = self.cleaned_data["expires"]
        if choice == "never":
            return None
        if choice != "date":
            return timezone.now() + timedelta(days=int(choice))
        day = self.cleaned_data["expires_on"]
        if self.key and self.key.expires_at and self.key.expires_at.date() == day:
            return self.key.expires_at
        return datetime.combine(day, time(23, 59, 59), UTC)


def _initial(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "purpose": key.purpose,
        "owner": key.owner,
        "owner_contact": key.owner_contact,
        "scopes": key.scope_names,
        "expires": "date" if key.expires_at else "never",
        "expires_on": key.expires_at.date() if key.expires_at else None,
        "networks": "\n".join(key.networks),
        "rate_limit": key.rate_limit,
        "rate_period": key.rate_period,
        "rate_burst": key.rate_burst,
        "version": key.version,
    }


class ConfirmForm(forms.Form):
    """A confirmation of one click; its token makes a repeated click do nothing twice."""

    token = forms.UUIDField(widget=forms.HiddenInput, required=False, initial=uuid.uuid4)


class PauseForm(ConfirmForm):
    """How long a key is paused."""

    lasting = forms.TypedChoiceField(
        label="For how long",
        required=False,
        choices=PAUSE_CHOICES,
        coerce=minutes_chosen,
        empty_value=None,
        help_text="After a set time it works again by itself, to the second: a rehearsal of its end.",
    )


class SeenField(forms.CharField):
    """Which version of something a form was made from: the instant of its last change, None when there was none."""

    widget = forms.HiddenInput

    def __init__(self) -> None:
        super().__init__(required=False, max_length=40)

    def prepare_value(self, value: Any) -> Any:
        """Return what the form carries."""
        return value.isoformat() if isinstance(value, datetime) else value

    def clean(self, value: Any) -> datetime | None:
        """Return the instant that it carried."""
        try:
            seen = datetime.fromisoformat(text) if (text := super().clean(value)) else None
            if seen and seen.tzinfo is None:
                raise ValueError
        except (ValueError, OverflowError):
            raise ValidationError("This form is damaged. Open it again.") from None
        return seen


class ExemptionForm(forms.Form):
    """Who answers for a key's silence, why it may be silent, and until when."""

    owner: forms.ModelChoiceField[Member] = forms.ModelChoiceField(
        None, label="Who answers for it", empty_label=None, help_text="A member, who is asked before it is revoked."
    )
    reason = forms.CharField(
        max_length=200, validators=[validate_line], help_text="Why it is kept although nobody uses it."
    )
    until = forms.ChoiceField(choices=EXEMPTION_CHOICES, widget=forms.RadioSelect, initial="180")
    until_on = forms.DateField(
        required=False,
        label="Last day",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="The exemption ends at the end of this day (UTC), within two years.",
    )
    seen = SeenField()

    def __init__(self, *args: Any, key: ApiKey, member: Member, **kwargs: Any) -> None:
        exemption = key.exemption_now
        kwargs.setdefault("initial", _exemption_initial(key, exemption, member))
        super().__init__(*args, **kwargs)
        self.exemption = exemption
        members = key.organization.members.filter(user__is_active=True).select_related("user")
        self.fields["owner"].queryset = members.order_by("user__name", "user__email")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Check what two fields say together."""
        data = super().clean() or self.cleaned_data
        if data.get("until") == "date" and not data.get("until_on") and "until_on" not in self.errors:
            self.add_error("until_on", "Choose the last day on which the key may be silent.")
        return data

    @property
    def terms(self) -> ExemptionTerms:
        """What a valid form asks for."""
        data = self.cleaned_data
        return ExemptionTerms(data["owner"], data["reason"], self._until())

    def _until(self) -> datetime:
        choice = self.cleaned_data["until"]
        day = self.cleaned_data["until_on"]
        if choice != "date":
            day = timezone.now().astimezone(UTC).date() + timedelta(days=int(choice))
        elif self.exemption and self.exemption.until.astimezone(UTC).date() == day:
            return self.exemption.until
        return datetime.combine(day, time(23, 59, 59), UTC)


def _exemption_initial(key: ApiKey, exemption: KeyExemption | None, member: Member) -> dict[str, Any]:
    if exemption is None:
        return {"owner": member.pk, "seen": key.exemption_version}
    return {
        "owner": exemption.owner_id,
        "reason": exemption.reason,
        "until": "date",
        "until_on": exemption.until.astimezone(UTC).date(),
        "seen": exemption.changed_at,
    }


class ExemptionEndForm(forms.Form):
    """A confirmation of one click, of the exemption that was shown."""

    seen = SeenField()


def show_change(form: ExemptionForm | ExemptionEndForm, seen: datetime | None, told: str) -> None:
    """Say what somebody changed since a form was opened, and let it be sent again, having seen that."""
    form.add_error(None, told)
    form.data = {**dict(form.data.items()), "seen": seen.isoformat() if seen else ""}


class TypedForm(forms.Form):
    """A confirmation for which a text is to be typed, where one is expected."""

    confirmation = forms.CharField(required=True, max_length=200)

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        if not expected:
            del self.fields["confirmation"]
        else:
            self.fields["confirmation"].label = f"Type {expected} to confirm"

    def clean_confirmation(self) -> str:
        """Compare what was typed."""
        typed: str = self.cleaned_data["confirmation"]
        if typed != self.expected:
            raise ValidationError(f"This does not match. Type {self.expected} to confirm.")
        return typed


class RevokeForm(TypedForm):
    """Why a key ends, and, when it is in use, its name typed."""

    reason = forms.ChoiceField(choices=REASONS)
    note = forms.CharField(
        required=False,
        max_length=500,
        validators=[validate_line],
        help_text="Kept in the audit log.",
    )

    field_order = ("reason", "note", "confirmation")


class NarrowForm(forms.Form):
    """The scopes to take from a key; those that were used are taken only when it was said what that refuses."""

    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        label="Scopes to take",
        error_messages={
            "required": "Choose at least one scope.",
            "invalid_choice": "%(value)s is not a scope of this key any more.",
        },
    )
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=1)
    refuses = forms.IntegerField(widget=forms.HiddenInput, min_value=0, initial=0)

    def __init__(self, data: Any, *, key: ApiKey, evidence: ScopeEvidence) -> None:
        unused = [scope.name for scope in evidence.unused] if evidence.can_narrow else []
        super().__init__(data, initial={"version": key.version, "scopes": unused})
        self.evidence = evidence
        self.fields["scopes"].choices = [(one.name, one.name) for one in evidence.granted]  # type: ignore[attr-defined]

    @property
    def options(self) -> list[tuple[ScopeUse, bool]]:
        """Each scope of the key with its use, and whether it is ticked."""
        ticked = set(self["scopes"].value() or ())
        return [(scope, scope.name in ticked) for scope in self.evidence.granted]

    def clean(self) -> dict[str, Any]:
        """Refuse what would have refused more requests than the page said."""
        found = super().clean() or self.cleaned_data
        lost = self.evidence.refused_without(found.get("scopes", ()))
        count = sum(scope.accepted for scope in lost)
        if count > found.get("refuses", 0):
            # Shown again with the new count, which the next press of the button confirms.
            shown = cast(QueryDict, self.data).copy()
            shown["refuses"] = str(count)
            shown.setlist("scopes", found.get("scopes", []))
            self.data = shown
            told = ", ".join(f"{scope.name} ({scope.accepted:,})" for scope in lost)
            raise ValidationError(
                f"In 90 days this would have refused {count:,} of {self.evidence.accepted:,} accepted requests: {told}."
                " To take them all the same, press the button again."
            )
        return found


class ScopeForm(forms.Form):
    """A new scope."""

    name = forms.CharField(max_length=64, help_text="Services check this name; it cannot be changed later.")
    description = forms.CharField(max_length=200, help_text="What it allows, in a sentence.")


class ScopeEditForm(forms.Form):
    """A scope's words."""

    description = forms.CharField(max_length=200, help_text="What it allows, in a sentence.")


class EnvironmentForm(forms.Form):
    """A new environment."""

    name = forms.CharField(max_length=40)
    code = forms.CharField(max_length=10, help_text="Part of every key's text; it cannot be changed later.")
    kind = forms.ChoiceField(choices=EnvironmentKind.choices, initial=EnvironmentKind.OTHER)


class EnvironmentEditForm(forms.Form):
    """An environment's words."""

    name = forms.CharField(max_length=40)
    kind = forms.ChoiceField(choices=EnvironmentKind.choices)


class OrganizationForm(forms.Form):
    """An organization's name, its keys' prefix, how old they may become, and who keeps an eye on its audit log."""

    name = forms.CharField(max_length=100)
    key_prefix = forms.CharField(max_length=10, help_text="New keys begin with it; keys that exist keep theirs.")
    max_key_age = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_KEY_AGE,
        label="Maximum key age",
        help_text="Days after which a key should be rotated. Empty: no limit.",
        error_messages=dict.fromkeys(("invalid", "min_value", "max_value"), KEY_AGE_FAULT),
    )
    checkpoint_mail = forms.EmailField(
        required=False,
        max_length=254,
        label="Mail checkpoints of the audit log to",
        help_text="Once a day, signed: whoever keeps them sees when entries are cut off or rewritten later. Best an "
        "address that nobody who runs this machine can empty. Empty: nobody.",
    )
    requires_second_factor = forms.BooleanField(
        required=False,
        label="Require a second factor of every member",
        help_text="An authenticator app or a passkey. Who has none sets one up before they see anything else here.",
    )


class PreferencesForm(forms.Form):
    """What a person chooses for themselves."""

    time_zone = forms.CharField(
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
        help_text="In which days and hours begin in charts, and times are told. Empty: as the browser says.",
    )


class MemberRemoveForm(forms.Form):
    """Who takes over what a member who leaves answers for: keys, and exemptions of other keys."""

    keys_to: forms.ModelChoiceField[Member] = forms.ModelChoiceField(
        None, label="Who answers for them then", empty_label="Choose a member"
    )

    def __init__(self, *args: Any, member: Member, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = member.organization.members.select_related("user").exclude(pk=member.pk)
        self.fields["keys_to"].queryset = others  # type: ignore[attr-defined]
        self.key_count = member.owned_keys.count()
        self.exemption_count = member.owned_exemptions.running().count()
        if not self.key_count and not self.exemption_count:
            del self.fields["keys_to"]
