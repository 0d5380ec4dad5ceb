"""Forms of rotations: how a key is rotated, and how a running rotation is changed or ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.http import QueryDict
from django.utils import timezone

from apikeys.forms import EXPIRY_PRESETS, ConfirmForm, SeenField, minutes_chosen, minutes_of, span_choices, span_words
from apikeys.models import ApiKey, Clock, Policy, PolicyTerms, Rotation, RotationReason, RotationTerms
from apikeys.models.rotation import URGENT, USUAL_OVERLAP
from apikeys.models.text import validate_line
from apikeys.models.usage import DAY, HOUR
from apikeys.policy_limits import expiry_choices, expiry_words

OVERLAPS: Final = (timedelta(), HOUR, 4 * HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY)
LINKS: Final = (HOUR, DAY, 3 * DAY, 7 * DAY)
NO_OVERLAP: Final = "None: the old key ends at once"
SAME: Final = "same"


class InstantField(forms.DateTimeField):
    """An instant in the reader's time zone, as browsers let one choose it."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"})
        super().__init__(widget=widget, **kwargs)


class LinkLastsField(forms.TypedChoiceField):
    """How long a link to the new key is good."""

    def __init__(self, **kwargs: Any) -> None:
        choices, initial = span_choices(LINKS), minutes_of(DAY)
        super().__init__(
            label="The link is good for", coerce=minutes_chosen, choices=choices, initial=initial, **kwargs
        )


class RotateForm(forms.Form):
    """How one or several keys are rotated."""

    reason = forms.ChoiceField(choices=RotationReason.choices, widget=forms.HiddenInput)
    overlap = forms.TypedChoiceField(
        label="Both keys work for",
        coerce=minutes_chosen,
        choices=[("0", NO_OVERLAP), *span_choices(OVERLAPS[1:])],
    )
    clock = forms.TypedChoiceField(
        label="Counted from",
        coerce=Clock,
        choices=[(Clock.NOW, "Now"), (Clock.FIRST_USE, "The first use of the new key")],
        widget=forms.RadioSelect,
        initial=Clock.NOW,
    )
    latest = InstantField(
        required=False,
        label="At the latest",
        help_text="The old key ends then, whatever happens. Empty: when the new key is not used for 30 days, both "
        "work for that time from then on.",
    )
    finishes = forms.ChoiceField(
        label="The old key is revoked",
        choices=[
            ("deadline", "At the end of that time"),
            ("safe", "As soon as it is safe, and at the end of that time at the latest"),
        ],
        widget=forms.RadioSelect,
        initial="deadline",
        help_text="Somebody can finish it earlier at any time.",
    )
    expires = forms.ChoiceField(label="The new key expires", widget=forms.RadioSelect, initial=SAME)
    expires_on = forms.DateField(
        required=False,
        label="Expiry date",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        help_text="The new key stops at the end of this day (UTC).",
    )
    handover = forms.ChoiceField(label="Who gets the new key", widget=forms.RadioSelect, initial="show")
    link_lasts = LinkLastsField(required=False)
    note = forms.CharField(
        required=False, max_length=500, validators=[validate_line], help_text="Kept in the audit log."
    )
    confirmation = forms.CharField(required=False, max_length=200)
    token = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: QueryDict | None, *, keys: Sequence[ApiKey], reason: str, expected: str = "") -> None:
        reason = reason if reason in RotationReason.values else RotationReason.REGULAR
        overlap = timedelta() if reason in URGENT else USUAL_OVERLAP
        initial = {"reason": reason, "overlap": minutes_of(overlap), "token": ConfirmForm.base_fields["token"].initial}
        super().__init__(data, initial=initial)
        self.expected = expected
        terms = Policy.objects.of(keys[0].organization).terms
        ends = [*EXPIRY_PRESETS.items(), ("date", "On a date"), ("never", "Never")]
        expires: Any = self.fields["expires"]
        may_be_never = terms.max_lifetime is None and any(key.expires_at is None for key in keys)
        offered = expiry_choices(ends, terms, timezone.now(), may_be_never=may_be_never)
        expires.choices = [(SAME, _same_words(keys, terms)), *offered]
        if told := expiry_words(terms, None):
            expires.help_text = expires.error_messages["invalid_choice"] = told
        self.fields["handover"].choices = _handovers(keys)  # type: ignore[attr-defined]
        if expected:
            self.fields["confirmation"].label = f"Type {expected} to confirm"
            self.fields["confirmation"].help_text = "Only when the old key ends at once: it is in use."
        else:
            del self.fields["confirmation"]

    def clean(self) -> dict[str, Any]:
        """Check what two fields say together."""
        data = super().clean() or self.cleaned_data
        if data.get("expires") == "date" and not data.get("expires_on") and "expires_on" not in self.errors:
            self.add_error("expires_on", "Choose the date on which the new key expires.")
        at_once = data.get("overlap") == timedelta() and data.get("clock") == Clock.NOW
        if self.expected and at_once and data.get("confirmation") != self.expected:
            self.add_error("confirmation", f"Its callers are refused at once. Type {self.expected} to confirm.")
        if data.get("handover") == "link" and not data.get("link_lasts") and "link_lasts" not in self.errors:
            self.add_error("link_lasts", "Choose for how long the link is good.")
        return data

    def terms_for(self, key: ApiKey) -> RotationTerms:
        """Return what a valid form asks for, for one key."""
        data = self.cleaned_data
        return RotationTerms(
            reason=RotationReason(data["reason"]),
            overlap=data["overlap"],
            clock=data["clock"],
            hard_end=data["latest"],
            finishes_when_safe=data["finishes"] == "safe",
            new_expires_at=self._expires_at(key),
            link_lasts=data["link_lasts"] if data["handover"] == "link" else None,
            note=data["note"],
        )

    def _expires_at(self, key: ApiKey) -> datetime | None:
        choice, now = self.cleaned_data["expires"], timezone.now()
        if choice == SAME:
            return key.renewed_expiry
        if choice == "never":
            return None
        if choice == "date":
            return datetime.combine(self.cleaned_data["expires_on"], time(23, 59, 59), UTC)
        return now + timedelta(days=int(choice))


# What a verb's faults are about, by the form's own names.
ROTATE_FIELDS: Final = {"hard_end": "latest", "new_expires_at": "expires"}


def _same_words(keys: Sequence[ApiKey], terms: PolicyTerms) -> str:
    lifetimes = {key.lifetime for key in keys}
    most = timedelta(days=terms.max_lifetime) if terms.max_lifetime else None
    too_long = most is not None and any(length is None or length > most + DAY for length in lifetimes)
    if len(lifetimes) > 1:
        told = "As long after its start as its old key"
        return f"{told}, at most {span_words(most)}" if most and too_long else told
    if most and too_long:
        return f"In {span_words(most)}: as late as it may"
    lifetime = next(iter(lifetimes))
    if lifetime is None:
        return "Never, as the old key" if len(keys) == 1 else "Never, as the old keys"
    return f"In {span_words(lifetime)}, as long as the old key was to live"


def _handovers(keys: Sequence[ApiKey]) -> list[tuple[str, str]]:
    if len(keys) == 1:
        return [
            ("show", "I do: it is shown to me, once"),
            ("link", f"{keys[0].owner_label}, by a link in a mail that is good once: I never see it"),
        ]
    return [
        ("show", "I do: they are shown to me, once"),
        ("link", "Each key's owner, by a link in a mail that is good once: I never see them"),
    ]


class ExtendForm(forms.Form):
    """Until when both keys work."""

    end = InstantField(label="Both keys work until")
    seen = SeenField()

    def __init__(self, data: QueryDict | None, *, rotation: Rotation) -> None:
        super().__init__(data, initial={"end": rotation.deadline, "seen": rotation.deadline})
        zone = timezone.get_current_timezone_name()
        self.fields["end"].help_text = f"In the time zone {zone}."

    def clean_end(self) -> datetime:
        """Return the end; one that was not touched stays as it is, to the second, which the form does not show."""
        end: datetime = self.cleaned_data["end"]
        deadline: datetime | None = self.initial["end"]
        return deadline if deadline and end == deadline.replace(second=0, microsecond=0) else end


class LinkForm(forms.Form):
    """For how long a new link is good."""

    link_lasts = LinkLastsField()
