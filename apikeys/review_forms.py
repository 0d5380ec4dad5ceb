"""Forms of reviews: how one is started, and what is said of its keys."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.http import QueryDict
from django.utils import timezone

from apikeys.forms import SeenField
from apikeys.models import Answer, Decision, ReviewItem, ReviewTerms
from apikeys.models.review_item import ANSWERS
from apikeys.models.text import validate_line, validate_text
from apikeys.widgets import DAY_OPTIONS, DayInput

USUAL: Final = timedelta(days=14)
CHOICES: Final = [(one.value, one.label.capitalize()) for one in ANSWERS]
FAULT: Final = "Say whether the key is still needed."


class ReviewForm(forms.Form):
    """What a review is called, until when it is to be done, and a word to those who are asked."""

    title = forms.CharField(max_length=100, validators=[validate_line])
    due_on = forms.DateField(
        label="Last day",
        widget=DayInput(format="%Y-%m-%d", attrs={"type": "date"}),
        input_formats=["%Y-%m-%d"],
        error_messages=DAY_OPTIONS["error_messages"],
        help_text="It ends at midnight UTC. Owners are reminded three days before, on that day, and weekly afterwards.",
    )
    note = forms.CharField(
        required=False,
        max_length=500,
        validators=[validate_text],
        widget=forms.Textarea(attrs={"rows": 3}),
        label="A word to the owners",
        help_text="Stands in each mail and on the page of the review.",
    )

    def __init__(self, data: QueryDict | None, *, initial: QueryDict) -> None:
        now = timezone.now().astimezone(UTC)
        usual = {"title": f"Review of keys, {now:%B %Y}", "due_on": (now + USUAL).date().isoformat()}
        super().__init__(data, initial=usual | {name: text for name, text in initial.items() if text})

    def terms(self, keys: str) -> ReviewTerms:
        """Return what a valid form asks for; ``keys`` says which keys, in words."""
        data = self.cleaned_data
        due_at = datetime.combine(data["due_on"], time(23, 59, 59), UTC)
        return ReviewTerms(data["title"], due_at, data["note"], keys)


class AnswerForm(forms.Form):
    """What is said of one key, or of several."""

    decision = forms.ChoiceField(
        label="Is it needed?",
        choices=CHOICES,
        widget=forms.RadioSelect,
        error_messages={"required": FAULT, "invalid_choice": FAULT},
    )
    note = forms.CharField(
        required=False,
        max_length=500,
        validators=[validate_text],
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Why, in a few words: auditors read it. Kept in the audit log.",
    )
    seen = SeenField()

    def __init__(self, data: QueryDict | None, *, initial: dict[str, Any]) -> None:
        super().__init__(data, initial=initial)

    @classmethod
    def of(cls, data: QueryDict | None, item: ReviewItem, decision: str) -> AnswerForm:
        """Return the form of one key, with what was said of it."""
        said = item.decision if item.decision in ANSWERS else ""
        return cls(data, initial={"decision": decision or said, "note": item.note, "seen": item.decided_at})

    @property
    def answer(self) -> Answer:
        """What a valid form says."""
        return Answer(Decision(self.cleaned_data["decision"]), self.cleaned_data["note"])

    def show_change(self, item: ReviewItem, told: str) -> None:
        """Say what somebody answered since the form was opened, and let it be sent again, having seen that."""
        self.add_error(None, told)
        seen = item.decided_at.isoformat() if item.decided_at else ""
        self.data = {**dict(self.data.items()), "seen": seen}
